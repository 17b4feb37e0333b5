"""The rows that look at data: which images, which labels, how many; what the leaderboard says of them."""

import dataclasses

import pytest
import torch
from data_suite import DataSuite, Locked
from typer.testing import CliRunner

from samerge_edu import cli, leaderboard, suites
from samerge_edu.evaluate import scores
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.merges.ties import ties
from samerge_edu.methods import DATA_METHODS, METHODS, Method
from samerge_edu.params import add, task_vectors
from samerge_edu.transforms.elect import elect

SLOW = ("DF-Merge", "Evolution (densities and scales)")


class Watched(DataSuite):
    """Notes which images are asked for; `labels=False` locks the labels of every split."""

    def __init__(self, labels: bool):
        super().__init__()
        self.labels, self.asked = labels, set()
        g = torch.Generator().manual_seed(5)
        for name, k in self.sizes.items():  # a router is refused fewer than it asks for
            self.data[name, "val"] = torch.randn(64, 3, 32, 32, generator=g), torch.arange(64) % k

    def images(self, task, split, n=None):
        self.asked.add((split, n))
        images, labels = super().images(task, split, n)
        return images, labels if self.labels else Locked()


@pytest.mark.parametrize("name", DATA_METHODS)
def test_each_row_looks_at_what_it_says_and_at_nothing_else(name, monkeypatch):
    method = DATA_METHODS[name]
    suite = Watched(labels=method.needs == "labelled")
    if name in SLOW:
        search = "samerge_edu.adaptation.{}.maximise".format("df_merge" if name == "DF-Merge" else "evolve")
        monkeypatch.setattr(search, lambda objective, space, start, **_: (start, objective(start)))
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    before = [{k: v.clone() for k, v in tau.items()} for tau in taus]
    tau_m = method.recipe(suite)(taus)
    for keep in (method.repair, method.beside):
        if keep:
            keep(suite, add(suite.theta_0, tau_m, method.lam))
    assert {split for split, _ in suite.asked} <= ({"test"} if method.transductive else {"train", "val"})
    assert suite.asked, "a row of this table looks at images"
    per_split = {}
    for split, n in suite.asked:
        per_split[split] = max(per_split.get(split, 0), n)
    assert sum(per_split.values()) == method.images
    torch.testing.assert_close(taus, before, rtol=0, atol=0)
    assert list(tau_m) == list(suite.theta_0)
    assert all(value.isfinite().all() for value in tau_m.values())


@pytest.mark.parametrize("name", [name for name in DATA_METHODS if name not in SLOW])
def test_each_row_is_the_same_again(name):
    suite = DataSuite(locked=False)
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    first, second = (DATA_METHODS[name].recipe(suite)(taus) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("method", DATA_METHODS.values(), ids=DATA_METHODS)
def test_each_row_says_what_it_needs(method):
    assert method.needs in ("unlabelled", "labelled")
    assert method.images > 0
    assert bool(method.repair or method.beside) == (method.task_id or method.router)


def test_a_row_that_adapts_to_test_images_says_so_in_its_name():
    assert not DATA_METHODS.keys() & METHODS.keys()
    for name, method in DATA_METHODS.items():
        assert method.transductive == ("(test images)" in name)
    assert all(method.needs == "none" and not method.images for method in METHODS.values())


def test_a_repair_reaches_the_features_of_its_own_task_only():
    suite = DataSuite(locked=False)
    plain = scores(suite, suite.theta_0, "val")
    one_class = {"ink": lambda z: suite.heads["ink"][0].expand(len(z), -1)}
    repaired = scores(suite, suite.theta_0, "val", repair=one_class)
    labels = suite.images("ink", "val")[1]
    assert repaired.pop("ink") == pytest.approx(100 * (labels == 0).double().mean().item())
    assert {task: plain[task] for task in repaired} == repaired


def test_the_leaderboard_scores_with_the_repair_and_names_images():
    suite = DataSuite(locked=False)
    seen = []

    def repair(suite, theta):
        seen.append(theta)
        return {"ink": lambda z: suite.heads["ink"][1].expand(len(z), -1)}

    plain = Method(lambda suite: task_arithmetic, 0.37, "2402.02705", 2024, needs="unlabelled", images=7)
    rows = leaderboard.run(
        suite, {"plain": plain, "repaired": dataclasses.replace(plain, repair=repair, task_id=True, transductive=True)}
    )["rows"]
    without, repaired = rows[0], rows[2]
    labels = suite.images("ink", "test")[1]
    assert repaired["per_task"]["ink"] == pytest.approx(100 * (labels == 1).double().mean().item())
    assert {t: v for t, v in without["per_task"].items() if t != "ink"} == {
        t: v for t, v in repaired["per_task"].items() if t != "ink"
    }
    assert (repaired["images"], repaired["transductive"], without["transductive"]) == (7, True, False)
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    torch.testing.assert_close(seen[0], add(suite.theta_0, task_arithmetic(taus), 0.37))
    record = {"reference": {}, "rows": rows}
    assert list(leaderboard.table(record)["images"]) == [7] * 4


def test_elect_is_the_part_of_ties_before_the_merge():
    suite = DataSuite()
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    torch.testing.assert_close(task_arithmetic(elect(taus, density=0.3)), ties(taus, density=0.3, reduce="sum"))
    torch.testing.assert_close(elect(taus), elect(taus, density=0.2))  # both papers' density
    for tau, elected in zip(taus, elect(taus, density=0.3), strict=True):
        for key in tau:
            kept = elected[key] != 0
            torch.testing.assert_close(elected[key][kept], tau[key][kept], rtol=0, atol=0)


# ---------------------------------------------------------------------------- command line


@pytest.fixture
def run(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(suites, "load_suite", lambda name, **options: DataSuite(locked=False))
    monkeypatch.setattr(leaderboard, "run", lambda suite, methods, **knobs: seen.append(list(methods)) or {})
    monkeypatch.chdir(tmp_path)

    def call(*words):
        seen.clear()
        result = CliRunner().invoke(cli.app, ["leaderboard", *words])
        return seen[0] if seen else result.stderr

    return call


def test_needs_chooses_the_rows(run):
    def needing(kind):
        return [name for name, method in DATA_METHODS.items() if method.needs == kind]

    assert run() == run("--needs", "none") == list(METHODS)
    assert run("--needs", "unlabelled") == needing("unlabelled")
    assert run("--needs", "labelled") == needing("labelled")
    assert run("--needs", "all") == [*METHODS, *DATA_METHODS]
    assert run("--methods", "regmean,average") == ["Average", "RegMean"]
    assert "needs: got 'some', expected one of none, unlabelled, labelled, all" in run("--needs", "some")


def test_a_model_with_something_beside_it_is_no_single_file():
    with pytest.raises(ValueError, match=r"'TA \+ Surgery' keeps something for each task beside the model"):
        cli.chosen_method("TA + Surgery")
    assert cli.chosen_method("RegMean")[0] == "RegMean"
