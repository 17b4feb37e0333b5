"""The studies with a command of their own: who is merged, what is compared with what, and what is written down."""

import json
import math
from dataclasses import replace
from statistics import stdev
from types import SimpleNamespace

import pytest
import torch
from matplotlib import pyplot as plt
from typer.testing import CliRunner

from samerge_edu import cli, names, studies
from samerge_edu.evaluate import choose_lam, scores
from samerge_edu.lora import LoRA
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.params import add, task_vectors
from samerge_edu.studies import more_experts, osrm, scale, soup, sparse, storage
from samerge_edu.suites import load_suite
from samerge_edu.sweep import journal, sweep
from samerge_edu.sweep.journal import kept

TASKS = tuple("abcdefgh")


@pytest.fixture(scope="module")
def suite():
    return load_suite("pocket")


# ---------------------------------------------------------------------------- scale


def test_at_each_number_every_task_is_merged_equally_often():
    parts = scale.subsets(TASKS)
    assert sorted(parts[-1]) == list(TASKS)
    for N in range(1, 8):
        some = [part for part in parts if len(part) == N]
        assert len({frozenset(part) for part in some}) == 8, "no subset twice"
        counts = [sum(task in part for part in some) for task in TASKS]
        assert counts == [N] * 8
    assert scale.subsets(TASKS) == parts != scale.subsets(TASKS, seed=1)


def record(methods=("TA", "TSV-M")):
    """Accuracies that can be summed in one's head: N experts reach 60 - N + the method's bonus, the base 20."""
    own = {task: 100.0 for task in TASKS}
    rows = [
        {"method": "base", "merged": [], "per_task": dict.fromkeys(TASKS, 20.0) | {"far": 90.0}},
        {"method": "experts", "merged": [], "per_task": own},
    ]
    for part in scale.subsets(TASKS):
        for bonus, name in enumerate(methods):
            got = {task: 60.0 - len(part) + bonus if task in part else 20.0 for task in TASKS}
            rows.append({"method": name, "merged": part, "lam": 1.0, "per_task": got | {"far": 90.0 - len(part)}})
    about = {"suite": "pocket", "test_images": 3, "val_images": 1, "seed": 0, "every": 1, "versions": {}}
    return about | {"rows": rows}


def test_averages_are_of_the_merged_tasks_and_of_all():
    lines = scale.by_size(record(), "TSV-M")
    assert list(lines) == list(range(1, 9))
    assert [len(part) for part in lines.values()] == [8] * 7 + [1]
    assert lines[2][0]["id"] == lines[2][0]["worst"] == lines[2][0]["kept"] == 59.0
    assert lines[2][0]["all"] == (2 * 59 + 6 * 20) / 8
    assert lines[2][0]["ood"] == 88.0
    assert "| TSV-M | 60.0 (0.0) | 59.0 (0.0) |" in scale.report(record())


def test_one_subset_is_measured_as_by_hand(suite):
    tasks = ["signs", "digits"]
    rows = scale.measure(suite, tasks, ("Average", "Task Arithmetic"), n=10, n_val=5)
    assert [row["merged"] for row in rows] == [tasks] * 2
    taus = task_vectors(suite.theta_0, [dict(suite.experts[task]) for task in tasks])
    tau_m = task_arithmetic(taus)
    assert rows[0]["lam"] == 1.0
    assert rows[0]["per_task"] == scores(suite, add(suite.theta_0, tau_m, 0.5), n=10)
    two = replace(suite, experts={task: suite.experts[task] for task in tasks})
    assert rows[1]["lam"] == choose_lam(two, tau_m, scale.GRID, n=5)[0]
    assert rows[1]["per_task"] == scores(suite, add(suite.theta_0, tau_m, rows[1]["lam"]), n=10)


def test_the_record_has_the_base_the_experts_and_every_subset(monkeypatch):
    def job(suite, tasks, methods, n, n_val):
        seen.append((n, n_val))
        merged = [] if tasks == "experts" else list(tasks)
        return [{"method": m, "merged": merged, "per_task": {}} for m in methods]

    seen = []
    monkeypatch.setattr(scale, "job", job)
    *_, last = scale.run(n=7, methods=("TA",), every=1)
    assert set(seen) == {(7, 3)}
    assert len(last["rows"]) == 2 + 57
    assert len([*scale.run(n=7, methods=("TA",))][-1]["rows"]) == 2 + 29
    assert [len(row["merged"]) for row in last["rows"]] == sorted(len(row["merged"]) for row in last["rows"])


# ---------------------------------------------------------------------------- more experts


def test_steps_lead_from_the_base_to_all_experts():
    steps = more_experts.steps(record(), "TA")
    assert [len(part) for part in steps] == [8] * 8
    for order in range(8):
        assert 20.0 + sum(part[order] for part in steps) == pytest.approx(52.0)
    assert steps[0] == pytest.approx([(59 - 20) / 8] * 8)
    assert steps[1] == pytest.approx([(2 * 58 - 59 - 20) / 8] * 8)


def test_effective_rank_between_one_and_all():
    g = torch.Generator().manual_seed(0)
    W = torch.randn(6, 9, generator=g)
    s = torch.linalg.svdvals(W).square()
    share = (s / s.sum()).tolist()
    assert more_experts.effective_rank(W) == pytest.approx(math.exp(-sum(p * math.log(p) for p in share)), rel=1e-5)
    assert more_experts.effective_rank(torch.outer(W[0], W[1])) == pytest.approx(1.0)


def test_gaussian_width_of_orthogonal_and_of_equal_vectors():
    e = torch.eye(8, 20)
    assert more_experts.width(e[:1]) == pytest.approx(0.0, abs=0.06)
    assert more_experts.width(e[:2]) == pytest.approx(1 / math.sqrt(math.pi), abs=0.05)  # E max of two normals
    assert more_experts.width(e) == pytest.approx(1.4236, abs=0.05)  # ... of eight
    assert more_experts.width([e[0], 3 * e[0]]) == pytest.approx(0.0, abs=0.06), "only directions count"


def test_geometry_of_orthogonal_experts(monkeypatch):
    key = "transformer.resblocks.2.mlp.c_fc.weight"
    parts = [torch.zeros(4, 8) for _ in range(3)]
    for n, part in enumerate(parts):
        part[n, n] = 1.0
    theta_0 = {key: torch.zeros(4, 8)}
    three = SimpleNamespace(
        id_tasks=list("abc"), theta_0=theta_0, experts={task: {key: p} for task, p in zip("abc", parts, strict=True)}
    )
    rows = more_experts.geometry(three)
    assert len(rows) == 9
    for row in rows:
        assert row["length"] == pytest.approx(math.sqrt(row["N"]))
        assert row["heard"] == pytest.approx(1 / math.sqrt(row["N"]), abs=1e-6)
        assert row["rank"] == row["beside"] == pytest.approx(row["N"] / 4)


# ---------------------------------------------------------------------------- sparse, soups, OSRM


def test_each_two_experts_are_left_out_once():
    all_of_them, *parts = sparse.left_out(TASKS)
    assert all_of_them == list(TASKS)
    gone = [tuple(task for task in TASKS if task not in part) for part in parts]
    assert gone == [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")]


def test_the_masks_have_one_density(suite):
    variants = sparse.sparse_variants(suite)
    (tau,) = task_vectors(suite.theta_0, [dict(suite.experts["signs"])])
    assert set(sparse.MASKS) <= set(variants)
    densities = []
    for name in ("SA (literal score)", "largest entries", "random entries"):
        tau_m = variants[name]([tau])
        key = "transformer.resblocks.1.mlp.c_fc.weight"
        densities.append((tau_m[key] != 0).double().mean().item())
    assert densities == pytest.approx([sparse.FINAL] * 3, abs=1e-3)


def test_one_expert_alone(suite, monkeypatch):
    monkeypatch.setattr(sparse, "loaded", lambda name: suite)
    (row,) = sparse.alone("pocket", ["signs"], n=20)
    assert row["home"] == scores(suite, suite.experts["signs"], tasks=["signs"], n=20)["signs"]
    assert row["moved"] > 99
    assert 0 < row["size"] < 20
    assert row["kept"]["0.2"] > row["kept"]["0.05"]


def sparse_record():
    def merge(suite, variant, left_out, id_avg):
        about = {"variant": variant, "left_out": left_out, "lam": 1.0, "lam_from": "validation", "part": "subsets"}
        return {"suite": suite} | about | {"id_avg": id_avg, "ood_avg": 80.0, "h": 1.0}

    variants = ("TA", *sparse.MASKS)
    merges = [
        merge(s, v, out, 50.0 + 3 * i * k)
        for s in sparse.SUITES
        for i, v in enumerate(variants)
        for k, out in enumerate(("", "a"))
    ]
    kept = {"0.2": 99.0, "0.1": 80.0, "0.05": 40.0}
    experts = [
        {"suite": s, "task": t, "home": 90.0, "ood": 80.0, "moved": 20.0, "size": 3.0, "kept": kept}
        for s in sparse.SUITES
        for t in "ab"
    ]
    return {"experts": experts, "merges": merges}


def test_masks_are_compared_with_the_plain_sum_within_a_subset():
    table = sparse.gains(sparse_record(), "pocket-sparse").set_index("variant")
    assert table.id_gain["TA"] == 0
    assert table.id_gain[sparse.MASKS[0]] == 1.5
    assert table.id_spread[sparse.MASKS[0]] == pytest.approx(stdev([0, 3]))
    assert "| pocket-sparse | 90.0 (0.0) | 80.0 (0.0) |" in sparse.report(sparse_record())


def test_answers_of_an_expert_that_does_not_hear_the_others():
    """With A orthogonal to the other task's inputs the answer is 0, with equal inputs it is 1."""
    A = torch.tensor([[1.0, 0.0]])
    deaf = {task: {"w": LoRA(A if task == "a" else A.flip(1), torch.ones(3, 1), 1.0)} for task in "ab"}
    grams = {
        "a": {"w": torch.diag(torch.tensor([1.0, 0.0])).double()},
        "b": {"w": torch.diag(torch.tensor([0.0, 1.0])).double()},
    }
    assert osrm.answers(SimpleNamespace(adapters=deaf), grams) == [0.0, 0.0]
    same = {task: {"w": torch.eye(2).double()} for task in "ab"}
    assert osrm.answers(SimpleNamespace(adapters=deaf), same) == [1.0, 1.0]


def osrm_record():
    kinds = ("LoRA", "OSRM")
    experts = [
        {"kind": k, "task": t, "home": 90.0, "ood": 80.0, "answer": 0.5 * i + 0.2}
        for i, k in enumerate(kinds)
        for t in "ab"
    ]
    about = {"variant": "TA", "lam": 1.0, "lam_from": "validation", "part": "subsets", "ood_avg": 80.0, "h": 1.0}
    merges = [
        {"kind": k, "left_out": out, "id_avg": 70.0 + 2 * i * j} | about
        for i, k in enumerate(kinds)
        for j, out in enumerate(("", "a"))
    ]
    return {"experts": experts, "merges": merges}


def test_kinds_of_lora_are_compared_with_plain_ones():
    table = osrm.gains(osrm_record(), "TA")
    assert table.id_gain["OSRM"] == 1.0
    assert table.id_gain["LoRA"] == 0.0
    assert "71.0, +1.0 (1.4) | 80.0" in osrm.report(osrm_record())


def test_soups_look_at_validation_images_for_every_choice(monkeypatch):
    runs = load_suite("pocket-soup")
    seen = []
    real = runs.images
    monkeypatch.setattr(
        runs, "images", lambda task, split, n=None: seen.append((split, n)) or real(task, split, min(n or 30, 30))
    )
    monkeypatch.setattr(soup, "sewa", lambda taus, loss, **knobs: taus[0])
    rows = {row["what"]: row["test"] for row in soup.rows(runs, n=6)}
    assert seen == [("val", 30), ("test", None), ("train", 1000)]
    alone = [rows[f"alone: {task}"][0] for task in runs.id_tasks]
    assert rows["last"] == alone[-1:]
    assert len(rows["best on validation"]) == len(rows["greedy soup"]) == soup.DRAWS
    assert set(rows["best on validation"]) <= set(alone)
    assert rows["SeWA, 3 of 5"] == alone[:1] * soup.DRAWS


def soup_record():
    return {
        "rows": [
            {"suite": s, "what": w, "test": t}
            for s in "xy"
            for w, t in (("alone: a", [80.0]), ("greedy soup", [90.0, 92.0]))
        ]
    }


# ---------------------------------------------------------------------------- records and the command


def more_record():
    shape = [{"N": N, "rank": 0.5, "beside": 0.2 * N, "length": 1.0, "heard": 1.0, "width": 0.0} for N in range(1, 9)]
    return {"steps": {"TA": more_experts.steps(record(), "TA")}, "geometry": shape}


RECORDS = {
    "scale": record,
    "more-experts": more_record,
    "sparse": sparse_record,
    "soup": soup_record,
    "osrm": osrm_record,
}


@pytest.mark.parametrize("name", RECORDS)
def test_every_question_is_written_down_with_tables_and_a_picture(name, tmp_path):
    studies.write_json(RECORDS[name](), tmp_path, name)
    studies.write_tables(RECORDS[name](), tmp_path, name)
    assert json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")).keys() == RECORDS[name]().keys()
    assert (tmp_path / f"{name}.md").read_text(encoding="utf-8").startswith("| ")
    assert (tmp_path / f"{name}.png").stat().st_size > 5000
    figure, sentence = studies.QUESTIONS[name].figure(RECORDS[name]())
    plt.close(figure)
    assert sentence.endswith(".")


@pytest.mark.parametrize("name", RECORDS)
def test_the_record_that_comes_with_the_package(name):
    found = scale.recorded(name)
    assert found["versions"]["precision"] == "float32"
    assert f"study {name}" in found["versions"]["command"]
    studies.QUESTIONS[name].report(found)
    figure, sentence = studies.QUESTIONS[name].figure(found)
    plt.close(figure)
    assert sentence


SWEPT = {"scale": scale, "sparse": sparse, "soup": soup, "osrm": osrm, "storage": storage}


@pytest.mark.parametrize("name", SWEPT)
def test_a_study_goes_on_where_it_was_killed_and_not_with_what_has_changed(monkeypatch, name):
    def job(**knobs):
        asked.append(knobs)
        if len(asked) == stop:
            raise KeyboardInterrupt
        row = {"merged": [], "suite": "", "left_out": "", "number": len(asked)}
        return [("merges", row), ("experts", row)] if name in ("sparse", "osrm") else [row]

    def run(**knobs):
        asked.clear()
        *_, last = SWEPT[name].run(n=4, journal=kept("study", {"name": name}, **knobs))
        return last.get("rows") or [*last["experts"], *last["merges"]]

    asked, stop = [], 0
    monkeypatch.setattr(SWEPT[name], "job", job)
    whole, count = run(), len(asked)
    assert all(json.loads(json.dumps(knobs)) is not None for knobs in asked)
    assert (run(), len(asked)) == (whole, 0)
    assert (run(fresh=True), len(asked)) == (whole, count)
    monkeypatch.setattr(journal, "digest", lambda: "a line of a method was changed")
    stop = count
    with pytest.raises(KeyboardInterrupt):
        run()
    stop = 0
    run()
    assert len(asked) == 1, "only the one that was being done is done again"


def test_a_study_is_the_same_to_the_last_bit_in_one_process_and_in_two():
    jobs = [{"what": "experts", "suite": "pocket", "tasks": [task], "n": 20} for task in ("digits", "signs")]
    one, two = (list(scale.in_order(sweep(sparse.job, jobs, n_jobs)))[-1] for n_jobs in (1, 2))
    assert [(what, row["task"]) for what, row in one] == [("experts", "digits"), ("experts", "signs")]
    assert list(map(list, one)) == list(map(list, two))


def test_the_command_writes_what_the_study_gives(monkeypatch, tmp_path):
    def run(n=5, n_jobs=1, engine="", journal=None):
        asked.append((n, n_jobs, engine, journal.path.name.partition("-soup-")[0]))
        yield soup_record()

    asked = []
    monkeypatch.setattr(soup, "run", run)
    words = ["--images", "9", "--jobs", "1", "--engine", "dask:local", "--out", str(tmp_path)]
    done = CliRunner().invoke(cli.app, ["study", "soup", *words])
    assert done.exit_code == 0
    assert asked == [(9, 1, "dask:local", "study")]
    assert "| greedy soup | 91.0 (1.4) |" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soup.json", "soup.md", "soup.png"]


def test_a_study_that_is_stopped_says_that_what_had_finished_is_kept(monkeypatch, tmp_path):
    def run(**knobs):
        yield soup_record()
        raise KeyboardInterrupt

    monkeypatch.setattr(soup, "run", run)
    done = CliRunner().invoke(cli.app, ["study", "soup", "--out", str(tmp_path)])
    assert (done.exit_code, done.stderr) == (130, "\nstopped; what had finished is kept\n")
    assert [path.name for path in tmp_path.iterdir()] == ["soup.json"]


def test_a_question_that_nobody_asks():
    assert names.questions() == list(studies.QUESTIONS)
    done = CliRunner().invoke(cli.app, ["study", "scales"])
    assert done.exit_code == 2
    assert "study: got 'scales', did you mean scale?" in done.stderr


def test_numbers_are_rounded_and_nothing_else():
    assert studies.rounded({"a": [1.23456, (2, "x")], "b": None}) == {"a": [1.2346, [2, "x"]], "b": None}
