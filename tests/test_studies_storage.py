"""What a megabyte buys: the rows on a tiny suite, the shipped record, the table, the figure, the command."""

import json

import matplotlib.pyplot as plt
import pytest
import torch
from data_suite import DataSuite
from typer.testing import CliRunner

from samerge_edu import cli, names, plots, studies
from samerge_edu.ensembles.ensemble import Ensemble
from samerge_edu.evaluate import WIDTH, scores
from samerge_edu.merges.emr import emr, emr_masks
from samerge_edu.params import add, task_vectors
from samerge_edu.studies import storage


class Roomy(DataSuite):
    """Enough validation images for a router, labels of all splits."""

    def __init__(self):
        super().__init__(locked=False)
        g = torch.Generator().manual_seed(5)
        for name, k in self.sizes.items():
            self.data[name, "val"] = torch.randn(64, 3, 32, 32, generator=g), torch.arange(64) % k


@pytest.fixture(scope="module")
def suite():
    return Roomy()


@pytest.fixture(scope="module")
def taus(suite):
    return task_vectors(suite.theta_0, list(suite.experts.values()))


@pytest.mark.parametrize("name", [name for name in storage.KEPT if "rank 3" not in name and "LoRA" not in name])
def test_a_point_is_measured_told_and_routed(name, suite, taus):
    kept = storage.KEPT[name]
    before = [{key: value.clone() for key, value in tau.items()} for tau in taus]
    rows = storage.rows_of(suite, taus, name, kept, 6)
    ways = {"one model": [""], "Surgery": ["task id"]}.get(kept.line, ["task id", "router"])
    assert [row["asks"] for row in rows] == ways
    for row in rows:
        assert list(row["per_task"]) == list(suite.tasks)
        at_home = [row["per_task"][task] for task in suite.id_tasks]
        assert (row["id_avg"], row["id_worst"]) == (pytest.approx(sum(at_home) / 3), min(at_home))
        assert row["ood_avg"] == pytest.approx(sum(row["per_task"][task] for task in suite.ood_tasks) / 2)
        assert (row["stored_mb"] > 0) == (row["asks"] != "")
        assert bool(row["routes"]) == (row["asks"] == "router")
    if len(rows) == 2:  # the router is weighed too
        assert rows[1]["stored_mb"] > rows[0]["stored_mb"]
    torch.testing.assert_close(taus, before, rtol=0, atol=0)


def test_whole_experts_told_the_task_are_the_experts(suite, taus):
    told, _ = storage.rows_of(suite, taus, "experts", storage.KEPT["experts"], 6)
    for task in suite.id_tasks:
        assert told["per_task"][task] == scores(suite, suite.experts[task], tasks=[task], n=6)[task]
    base = scores(suite, suite.theta_0, tasks=suite.ood_tasks, n=6)
    assert {task: told["per_task"][task] for task in suite.ood_tasks} == base


def test_emr_is_read_through_mask_and_factor(suite, taus):
    ensemble = storage.emr_experts(suite, taus)
    assert isinstance(ensemble, Ensemble)
    shared = emr(taus)
    for task, (m, lam) in zip(suite.id_tasks, emr_masks(taus), strict=True):
        expected = add(suite.theta_0, {key: lam * m[key] * shared[key] for key in m})
        torch.testing.assert_close(ensemble.model(task), expected)


ROWS = [
    {"method": "plain", "line": "one model", "needs": "none", "asks": "", "stored_mb": 0.0, "id_avg": 70.0},
    {"method": "some", "line": "parts", "needs": "unlabelled", "asks": "task id", "stored_mb": 1.0, "id_avg": 95.0},
    {"method": "some", "line": "parts", "needs": "unlabelled", "asks": "router", "stored_mb": 1.5, "id_avg": 89.5},
    {"method": "more", "line": "parts", "needs": "unlabelled", "asks": "router", "stored_mb": 9.0, "id_avg": 90.0},
    {"method": "few", "line": "parts", "needs": "unlabelled", "asks": "router", "stored_mb": 0.5, "id_avg": 80.0},
]
ROWS = [row | {"id_worst": 50.0, "ood_avg": 60.0 + i} for i, row in enumerate(ROWS)]


def test_the_figure_draws_every_row_and_reads_it():
    figure, sentence = plots.megabytes(ROWS, 6.4)
    for axis, key in zip(figure.axes, ("id_avg", "ood_avg"), strict=True):
        drawn = {tuple(xy) for line in axis.lines[:-1] for xy in line.get_xydata()}
        assert drawn == {(row["stored_mb"], row[key]) for row in ROWS}
        assert axis.lines[-1].get_xdata()[0] == 6.4
        assert axis.get_ylabel() == {"id_avg": "ID average (%)", "ood_avg": "OOD average (%)"}[key]
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["one model", "parts"]
    assert sentence == (
        "Filled: nobody tells the task; hollow: it is told. Best single model at home: 70.0 %; with a router 90.0 %; "
        f"the lightest within {WIDTH:g} point of it: {{some}}, 1.5 MB."
    )
    plt.close(figure)


def test_the_table_has_told_beside_routed():
    lines = storage.report({"rows": ROWS}).splitlines()
    assert lines[2] == "| plain | none | 0.00 |  | 70.0 | 50.0 |  | 60.0 |"
    assert lines[3] == "| some | unlabelled | 1.50 | 95.0 | 89.5 | 50.0 | 61.0 | 62.0 |"
    assert len(lines) == 6


def test_the_record_grows_in_the_tables_order(monkeypatch):
    monkeypatch.setattr(storage, "job", lambda name, n: [{"method": name, "n": n}])
    records = [len(record["rows"]) for record in storage.run(n=7)]
    assert records == list(range(1, len(storage.KEPT) + 2))
    *_, record = storage.run(n=7)
    assert [row["method"] for row in record["rows"]] == ["base", *storage.KEPT]
    assert record["model_mb"] == pytest.approx(6.40448)


def test_the_command_writes_record_table_and_picture(monkeypatch, tmp_path):
    record = {"rows": ROWS, "model_mb": 6.4}
    monkeypatch.setattr(storage, "run", lambda n, n_jobs, **where: iter([record | {"asked": [n, n_jobs]}]))
    words = ["study", "storage", "--images", "5", "--jobs", "1", "--out", str(tmp_path / "new")]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0
    assert result.stdout.strip() == storage.report(record).strip()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["storage.json", "storage.md", "storage.png"]
    assert json.loads((tmp_path / "new" / "storage.json").read_text(encoding="utf-8"))["asked"] == [5, 1]
    wrong = CliRunner().invoke(cli.app, ["study", "storages"])
    assert (wrong.exit_code, "did you mean storage?" in wrong.stderr) == (2, True)


def test_names_of_studies_are_those_of_the_table():
    assert names.questions() == list(studies.QUESTIONS)
    for module in studies.QUESTIONS.values():
        assert all(callable(getattr(module, part)) for part in ("run", "report", "figure"))


def test_a_record_is_rounded():
    assert studies.rounded({"a": [1.23456789, (2, "x")]}) == {"a": [1.2346, [2, "x"]]}


def test_the_shipped_record_has_every_point_and_says_where_it_comes_from():
    record = storage.recorded()
    asked = {}
    for row in record["rows"]:
        asked.setdefault(row["method"], []).append(row["asks"])
    assert list(asked) == ["base", *storage.KEPT]
    for name, ways in asked.items():
        line = storage.KEPT[name].line if name in storage.KEPT else "one model"
        assert ways == {"one model": [""], "Surgery": ["task id"]}.get(line, ["task id", "router"])
    assert record["versions"]["command"].startswith("samerge-edu study storage")
    assert record["test_images"] == 100
    experts = next(row for row in record["rows"] if (row["method"], row["asks"]) == ("experts", "task id"))
    assert experts["stored_mb"] == pytest.approx(8 * record["model_mb"], abs=1e-3)
    assert len(json.dumps(record)) < 120_000
