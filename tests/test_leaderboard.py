"""The leaderboard on a tiny suite: its record, its files, what a merge is charged for."""

import dataclasses
import json
import math

import pandas as pd
import pytest
import torch
from tiny_suite import TinySuite

from samerge_edu import leaderboard
from samerge_edu.beforehand import check_writable
from samerge_edu.evaluate import LAMS, scores
from samerge_edu.merges.average import average
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.methods import METHODS, Method
from samerge_edu.params import add, task_vectors

TWO = {
    "Average": Method(lambda suite: average, lam=1.0, paper="2203.05482", year=2022),
    "Sum": Method(
        lambda suite: task_arithmetic, lam=0.37, paper="2212.04089", year=2023, needs="labelled", router=True
    ),
}


@pytest.fixture(scope="module")
def suite():
    return TinySuite()


@pytest.fixture(scope="module")
def record(suite):
    return leaderboard.run(suite, TWO)


def test_record_has_the_promised_shape_and_is_json(record):
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert list(record) == ["suite", "versions", "reference", "rows"]
    assert list(record["reference"]) == ["zero_shot", "experts"]
    assert [(r["method"], r["lam_from"]) for r in record["rows"]] == [
        ("Average", "paper"),
        ("Average", "validation"),
        ("Sum", "paper"),
        ("Sum", "validation"),
    ]
    keys = "method needs lam lam_from lam_low lam_high id_avg id_worst ood_avg h normalised".split()
    keys += "seconds peak_mb density images transductive task_id router stored_mb per_task".split()
    for row in record["rows"]:
        assert set(row) == set(keys)
        assert list(row["per_task"]) == list(TinySuite.sizes)
    assert record["rows"][3]["needs"] == "labelled, router"
    assert {"torch", "seed", "command", "commit"} <= record["versions"].keys()


def test_rows_hold_the_accuracies_of_the_scaled_merge(suite, record):
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    paper, validated = record["rows"][2:]
    assert paper["lam"] == 0.37
    assert LAMS[0] <= validated["lam_low"] <= validated["lam_high"] <= LAMS[-1]
    assert LAMS[0] <= validated["lam"] <= LAMS[-1]
    assert paper["lam_low"] == paper["lam_high"] == 0.37
    for row in (paper, validated):
        theta = add(suite.theta_0, task_arithmetic(taus), row["lam"])
        assert row["per_task"] == scores(suite, theta, "test")
        assert row["id_avg"] == pytest.approx(sum(row["per_task"][t] for t in suite.id_tasks) / 3)


def test_the_same_scale_is_not_evaluated_twice(suite):
    chosen = leaderboard.run(suite, {"Sum": TWO["Sum"]})["rows"][1]["lam"]
    images = {split: sum(len(suite.images(t, split)[1]) for t in suite.tasks) for split in ("val", "test")}
    costs = []
    for lam in (chosen, 0.37):
        before = suite.encoded
        leaderboard.run(suite, {"Sum": dataclasses.replace(TWO["Sum"], lam=lam)})
        costs.append(suite.encoded - before)
    assert costs[1] - costs[0] == images["test"]


def test_density_counts_non_zero_entries():
    tau_m = {"w": torch.tensor([[0.0, 1.0], [-2.0, 0.0]]), "b": torch.tensor([0.0, 0.0, 3.0])}
    assert leaderboard.density(tau_m) == pytest.approx(3 / 7)


def test_peak_memory_sees_what_a_merge_holds_for_a_moment():
    def work(mib):
        big = torch.ones(mib * 2**18)
        return big.sum().item()

    peaks = [leaderboard.measured(lambda mib=mib: work(mib), torch.device("cpu"))[2] for mib in (8, 200)]
    if None in peaks:
        pytest.skip("this system keeps no resettable high-water mark")
    assert 190 < peaks[1] < 260
    assert peaks[0] < 60


def test_measured_returns_result_and_time():
    result, seconds, _ = leaderboard.measured(lambda: sum(range(10)), torch.device("cpu"))
    assert result == 45
    assert 0 < seconds < 5


def test_peak_memory_is_none_where_it_cannot_be_measured(monkeypatch):
    monkeypatch.setattr(leaderboard, "_reset_resident_peak", lambda: False)
    assert leaderboard.measured(lambda: 1, torch.device("cpu"))[2] is None


def test_printed_table_fits_a_terminal(record):
    lines = leaderboard.text(record).splitlines()
    assert lines[0].split() == "method lam from ID worst OOD H norm. sec.".split()
    assert len(lines) == 1 + 2 + 4
    assert {len(line.rstrip()) for line in lines} <= set(range(60, 81))
    assert lines[1].split()[0] == "zero-shot"
    row = record["rows"][2]
    assert f"{row['id_avg']:.1f}" in lines[5]
    assert "0.37  paper" in lines[5]
    assert lines[5].startswith("Sum (labelled, router) ")
    assert "nan" not in leaderboard.text(record).lower()


def test_a_long_name_is_cut_on_the_screen_only(record):
    row = {**record["rows"][0], "method": "A method with a name of over fifty letters, all of them needed"}
    assert len(leaderboard.line(row)) == 80
    assert "…" in leaderboard.line(row)
    assert leaderboard.table({**record, "rows": [row]}).method[2] == row["method"]


def test_rows_are_handed_over_as_they_finish(suite):
    seen = []

    def stop_after_the_first_method(record, rows):
        seen.append([row["method"] for row in rows])
        assert record["rows"][-len(rows) :] == rows or not record["rows"]
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leaderboard.run(suite, TWO, each=stop_after_the_first_method)
    assert seen == [["zero-shot"], ["experts (one a task)"], ["Average", "Average"]]


def test_files(record, tmp_path):
    paths = [tmp_path / name for name in ("a.csv", "b.json", "c.png")]
    leaderboard.write(record, *paths)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.json", "c.png"], "parts are left behind"
    csv = pd.read_csv(paths[0], keep_default_na=False, na_values=[""])
    assert list(csv["method"]) == ["zero-shot", "experts (one a task)", "Average", "Average", "Sum", "Sum"]
    assert list(csv["needs"][2:]) == ["none", "none", "labelled, router", "labelled, router"]
    assert csv["acc_land"][4] == pytest.approx(record["rows"][2]["per_task"]["land"], rel=1e-5)
    assert json.loads(paths[1].read_text(encoding="utf-8")) == record
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_all_files_or_none(record, tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("old", encoding="utf-8")

    def full_disk(record, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(leaderboard, "_save_png", full_disk)
    with pytest.raises(OSError, match="No space left"):
        leaderboard.write(record, tmp_path / "a.csv", tmp_path / "b.json", tmp_path / "c.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "old"


def test_paths_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path, reason in [
        (tmp_path, "it is a folder"),
        (tmp_path / "no" / "x.csv", "there is no folder"),
        (file / "x.csv", "there is no folder"),
    ]:
        with pytest.raises(ValueError, match=reason):
            check_writable([None, path])
    with pytest.raises(ValueError, match="named twice"):
        check_writable([tmp_path / "x", None, tmp_path / "x"])
    check_writable([None, file, tmp_path / "new"])
    assert [p.name for p in tmp_path.iterdir()] == ["file"], "the check leaves nothing behind"


# ---------------------------------------------------------------------------- the table of methods


@pytest.mark.parametrize("name", METHODS)
def test_every_row_merges_a_tiny_suite_the_same_way_twice_and_changes_nothing(suite, name):
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    before = [{k: v.clone() for k, v in tau.items()} for tau in taus]
    first, second = (METHODS[name].recipe(suite)(taus) for _ in range(2))
    assert first.keys() == suite.theta_0.keys()
    for key, value in first.items():
        assert value.shape == suite.theta_0[key].shape
        assert value.isfinite().all()
        torch.testing.assert_close(value, second[key], rtol=0, atol=0)
    assert all(torch.equal(tau[k], old[k]) for tau, old in zip(taus, before, strict=True) for k in old)
    assert 0 < leaderboard.density(first) <= 1


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_row_names_its_paper(method):
    assert math.isfinite(method.lam)
    assert len(method.paper.split(".")[0]) == 4, "arXiv ids look like 2212.04089"
    assert 2016 <= method.year <= 2026
    assert method.needs in ("none", "unlabelled", "labelled")


def test_needs_in_words():
    method = TWO["Average"]
    assert method.all_needs == "none"
    assert dataclasses.replace(method, needs="unlabelled", task_id=True).all_needs == "unlabelled, task id"
