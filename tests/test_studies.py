"""The ablations: every variant runs, differences are taken within a subset, the scale never sees the test split."""

import json
import math
from dataclasses import dataclass, field

import pandas as pd
import pytest
import torch
from tiny_suite import TinySuite

from samerge_edu import studies
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.params import flatten
from samerge_edu.studies import ablation
from samerge_edu.suites import load_suite
from samerge_edu.sweep import journal
from samerge_edu.sweep.journal import kept


@pytest.fixture(scope="module")
def suite():
    return TinySuite()


@pytest.mark.parametrize("method", [m for m in studies.VARIANTS if m != "sa-lora"])  # that one: test_studies_sa_lora.py
def test_every_variant_gives_an_update_with_the_names_of_the_base_and_the_same_one_again(suite, method):
    """A second merge, in another process or after another variant, begins with the same lots."""
    taus = [{k: theta[k] - suite.theta_0[k] for k in suite.theta_0} for theta in suite.experts.values()]
    knobs = {"sa-merging": {"random_masks": 1}, "lwptv": {"shuffles": 1}}
    for name, recipe in studies.VARIANTS[method](suite, **knobs.get(method, {})).items():
        tau_m, again = recipe(taus), recipe(taus)
        assert set(tau_m) == set(suite.theta_0), name
        assert torch.equal(flatten(tau_m), flatten(again)), name


def test_in_front_every_merge_is_tried_alone_and_behind_each_rate(suite):
    from samerge_edu.studies.in_front import MERGES, RATES

    assert len(studies.VARIANTS["in-front"](suite)) == len(MERGES) * (1 + len(RATES))


def test_in_front_reports_changes_of_the_own_tasks_within_a_subset():
    from samerge_edu.studies.in_front import MERGES, RATES, report

    def row(variant, left_out, a, b, abroad):
        per_task = {"a": a, "b": b, "abroad": abroad}
        about = {"variant": variant, "left_out": left_out, "lam_from": "validation", "tasks": 2}
        return about | {"id_avg": (a + b) / 2, "ood_avg": abroad, "per_task": per_task}

    variants = [*MERGES, *(f"SA, p = {p} + {name}" for p in RATES for name in MERGES)]
    rows = [row(v, out, 50 + k, 70, 10) for v in variants for k, out in enumerate(("", "c"))]
    changed = row(f"SA, p = {RATES[0]} + TSV-M", "", 46, 70, 10)
    rows = [changed if (r["variant"], r["left_out"]) == (changed["variant"], "") else r for r in rows]
    lines = report(pd.DataFrame(rows)).splitlines()
    tsv_m = [line for line in lines if line.startswith("| TSV-M")]
    assert tsv_m[0] == "| TSV-M | 60.2 | -1.0 (1.4) | +0.0 (0.0) | +0.0 (0.0) |"
    assert tsv_m[1] == "| TSV-M | 50.5 | -2.0 (2.8) | +0.0 (0.0) | +0.0 (0.0) |"
    assert tsv_m[2] == "| TSV-M | 10.0 | +0.0 (0.0) | +0.0 (0.0) | +0.0 (0.0) |"


def test_in_front_prunes_other_experts_anew_and_the_same_ones_once(suite):
    from samerge_edu.studies.in_front import remembered

    seen = []
    once = remembered(lambda taus: seen.append(taus) or [*taus, "pruned"])
    a, b = ["a"], ["b"]
    assert [once(a), once(a), once(b), once(a)] == [["a", "pruned"], ["a", "pruned"], ["b", "pruned"], ["a", "pruned"]]
    assert [taus is a for taus in seen] == [True, False, True]


def rows(*values: tuple[str, str, float, float], part="subsets", lam_from="validation") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"variant": v, "part": part, "left_out": out, "lam": 0.3, "lam_from": lam_from}
            | {"id_avg": i, "ood_avg": o, "h": i - o}
            for v, out, i, o in values
        ]
    )


MEASURED = rows(("ref", "", 50, 90), ("x", "", 53, 88), ("ref", "a", 70, 80), ("x", "a", 71, 82))


def test_gains_are_differences_within_a_subset():
    gains = ablation.table(MEASURED, "ref").set_index("variant")
    assert gains.id_gain["x"] == pytest.approx(2.0)  # (3 + 1) / 2
    assert gains.id_spread["x"] == pytest.approx(math.sqrt(2))  # of 3 and 1
    assert gains.ood_gain["x"] == pytest.approx(0.0)
    assert gains.h_gain["x"] == pytest.approx(2.0)  # h is 5 and -1 higher
    assert gains.id_gain["ref"] == 0


def test_a_table_is_of_one_part_and_one_kind_of_scale():
    other = rows(("ref", "", 0, 0), ("x", "", 10, 20), part="pairs", lam_from="fixed")
    fixed = rows(("ref", "", 1, 1), ("x", "", 4, 2), lam_from="fixed")
    both = pd.concat([MEASURED, other, fixed])
    pd.testing.assert_frame_equal(ablation.table(both, "ref"), ablation.table(MEASURED, "ref"))
    gains = ablation.table(both, "ref", "fixed", "pairs").set_index("variant")
    assert (gains.id_gain["x"], gains.ood_gain["x"]) == (10, 20)
    assert math.isnan(gains.id_spread["x"])


def test_run_scores_a_subset_on_its_own_tasks_and_at_the_fixed_scale_too():
    suite = load_suite("pocket")
    tasks = suite.id_tasks[:-2]
    measured = ablation.run(
        suite, {"TA": task_arithmetic, "half": lambda taus: {k: v / 2 for k, v in task_arithmetic(taus).items()}},
        which=[suite.id_tasks, tasks], n=4, fixed={"TA": 1.8}, part="here",
    )  # fmt: skip
    assert measured.left_out.tolist() == ["", "", ""] + ["vehicles, scenes"] * 3
    assert measured.tasks.tolist() == [len(tasks) + 2] * 3 + [len(tasks)] * 3
    assert measured.lam_from.tolist() == ["validation", "fixed", "validation"] * 2
    assert measured.lam[1] == 1.8
    assert set(measured.part) == {"here"}
    for row in measured.itertuples():
        assert list(row.per_task) == [*suite.id_tasks[: row.tasks], *suite.ood_tasks]
        at_home = [row.per_task[t] for t in suite.id_tasks[: row.tasks]]
        assert row.id_avg == pytest.approx(sum(at_home) / row.tasks)


def test_the_mean_cosine_against_a_loop(suite):
    taus = [{k: theta[k] - suite.theta_0[k] for k in suite.theta_0} for theta in suite.experts.values()]
    a, b, c = (flatten(tau).double() for tau in taus)
    expected = sum((x @ y / (x.norm() * y.norm())).item() for x, y in ((a, b), (a, c), (b, c))) / 3
    assert ablation.mean_cosine(taus) == pytest.approx(expected, abs=1e-5)
    assert ablation.mean_cosine(taus[:1]) == 1.0


def test_the_lwptv_study_looks_at_pairs_and_others_only_at_their_table(monkeypatch):
    @dataclass
    class Tiny(TinySuite):
        experts: dict = field(default_factory=lambda: TinySuite().experts)

        def __post_init__(self):
            experts = self.experts
            TinySuite.__init__(self)
            self.experts, self.id_tasks = experts, tuple(experts)

    monkeypatch.setattr(ablation, "subsets", lambda tasks: [list(tasks)])
    monkeypatch.setitem(studies.VARIANTS, "lwptv", lambda suite: {"TA": task_arithmetic})
    monkeypatch.setitem(studies.VARIANTS, "other", lambda suite: {"TA": task_arithmetic})
    monkeypatch.setattr(studies, "loaded", lambda name: Tiny())
    for once in (studies.recipes, studies.loaded_subset):
        monkeypatch.setattr(studies, once.__name__, once.__wrapped__)
    measured = studies.study("tiny", "lwptv", n=5)
    assert measured.groupby("part", sort=False).size().to_dict() == {"subsets": 2, "pairs": 3 * 3 * 2}
    assert set(measured[measured.part == "pairs"].left_out) == {"ink", "noise", "land"}
    assert set(measured.lam[measured.lam_from == "fixed"]) == {0.3, 1.0}
    assert studies.study("tiny", "other", n=5).part.tolist() == ["subsets"]


def test_the_jobs_of_an_ablation_are_names_and_numbers():
    jobs = studies.merges_of("pocket", "lwptv", n=5)
    assert json.loads(json.dumps(jobs)) == jobs
    parts = pd.DataFrame(jobs).groupby("part", sort=False).size().to_dict()
    variants = len(studies.VARIANTS["lwptv"](load_suite("pocket")))
    assert parts == {"subsets": 3 * variants, "pairs": 28 * 3, "similar": 3 * 3, "weak": 3}
    assert {job["fixed"] for job in jobs if job["part"] != "subsets"} == {1.0}
    assert {job["fixed"] for job in studies.merges_of("pocket", "sa-merging", n=5)} == {None}


FEW = {"sa-merging": ["Task Arithmetic", "TIES", "SA (literal score)", "random mask 0"], "in-front": ["TA", "TSV-M"]}


def few_merges(monkeypatch):
    """Of an ablation these variants, of two experts, and two subsets."""
    whole = studies.merges_of

    def few(suite, method, n):
        jobs = [job for job in whole(suite, method, n) if job["variant"] in FEW[method]]
        return [job | {"tasks": job["tasks"][:2]} for job in jobs[: 2 * len(FEW[method])]]

    monkeypatch.setattr(studies, "merges_of", few)


def test_an_ablation_goes_on_where_it_was_killed_and_not_with_what_has_changed(monkeypatch):
    few_merges(monkeypatch)
    real, asked = studies.merge, []

    def merge(**job):
        asked.append(job["variant"])
        if stop and len(asked) > stop:
            raise KeyboardInterrupt
        return real(**job)

    def rows(**knobs):
        asked.clear()
        return studies.study("pocket", "sa-merging", n=4, journal=kept("ablate", {"name": "pocket"}, **knobs))

    monkeypatch.setattr(studies, "merge", merge)
    stop = 3
    with pytest.raises(KeyboardInterrupt):
        rows()
    stop = 0
    found = rows()
    assert len(asked) == 8 - 3
    pd.testing.assert_frame_equal(rows(), found, check_exact=True)
    assert asked == []
    pd.testing.assert_frame_equal(rows(fresh=True), found, check_exact=True)
    assert len(asked) == 8
    monkeypatch.setattr(journal, "digest", lambda: "a line of a method was changed")
    rows()
    assert len(asked) == 8


@pytest.mark.parametrize("method", FEW)
def test_an_ablation_is_the_same_to_the_last_bit_in_one_process_and_in_two(monkeypatch, method):
    few_merges(monkeypatch)
    one, two = (studies.study("pocket", method, n=6, n_jobs=n_jobs) for n_jobs in (1, 2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert one.variant.tolist() == FEW[method] * 2


def test_seeds_share_a_line():
    seeds = rows(
        *((f"shuffled scores {i}", "", 50 + gain, 80) for i, gain in enumerate((1, 2, 6))), ("ref", "", 50, 80)
    )
    line = ablation.one_line_for_seeds(ablation.table(seeds, "ref")).set_index("variant")
    assert list(line.index) == ["ref", "shuffled scores, 3 seeds"]
    assert line.id_gain["shuffled scores, 3 seeds"] == pytest.approx(3)
    assert line.id_spread["shuffled scores, 3 seeds"] == pytest.approx(math.sqrt(7))  # of 1, 2 and 6
    pd.testing.assert_frame_equal(
        ablation.one_line_for_seeds(ablation.table(MEASURED, "ref")), ablation.table(MEASURED, "ref")
    )


def test_files_are_written(tmp_path):
    measured = MEASURED.assign(per_task=[{"flags": 1 / 3}] * 4)
    gains = ablation.table(measured, "ref")
    studies.write(measured, gains, "ref", tmp_path / "new", "study")
    text = (tmp_path / "new" / "study.json").read_text(encoding="utf-8")
    assert len(json.loads(text)) == 4
    assert len(text.splitlines()) == 6  # one row a line
    assert {f.name for f in (tmp_path / "new").iterdir()} == {"study.json", "study.csv", "study.png"}


def test_lwptv_has_tables_and_pictures_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "report", lambda rows: f"{len(rows)} rows")
    monkeypatch.setattr(studies, "figures", lambda rows: {"more": ablation.figure(ablation.table(rows, "ref"), "ref")})
    studies.write(MEASURED, ablation.table(MEASURED, "ref"), "ref", tmp_path, "lwptv")
    assert {f.name for f in tmp_path.iterdir()} == {"lwptv.json", "lwptv.csv", "lwptv.png"}  # no study, but a `run`
    study = pd.concat([MEASURED, MEASURED.assign(lam_from="fixed")])
    studies.write(study, ablation.table(study, "ref"), "ref", tmp_path, "lwptv")
    assert (tmp_path / "lwptv-tables.md").read_text(encoding="utf-8") == "8 rows"
    assert {f.name for f in tmp_path.glob("*.png")} == {"lwptv.png", "more.png"}
