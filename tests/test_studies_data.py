"""What an image buys: the points on the tiny suite, fine-tuning against a hand-written step, the shipped record."""

import dataclasses
import json

import pytest
import torch
from data_suite import DataSuite
from torch.nn import functional as F

from samerge_edu.evaluate import WIDTH
from samerge_edu.params import task_vectors
from samerge_edu.statistics import embed
from samerge_edu.studies import data

SLOW = ("Evolution",)  # Optuna


@pytest.fixture
def suite():
    return DataSuite(locked=False)


@pytest.mark.parametrize("name", [name for name in data.CURVES if name not in SLOW])
def test_a_point_says_what_it_was_given_and_scores_every_task(name, suite, monkeypatch):
    monkeypatch.setattr(data, "fine_tune", lambda suite, theta, n: dict(theta))
    curve = data.CURVES[name]
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    before = [{k: v.clone() for k, v in tau.items()} for tau in taus]
    got = data.measure(suite, taus, curve, 5, test_images=6)
    assert got["images"] == 5
    assert (got["needs"], got["task_id"]) == (curve.needs, curve.task_id)
    assert list(got["per_task"]) == list(suite.tasks)
    assert got["id_avg"] == pytest.approx(sum(got["per_task"][t] for t in suite.id_tasks) / len(suite.id_tasks))
    torch.testing.assert_close(taus, before, rtol=0, atol=0)


def test_a_method_without_images_has_one_point_and_no_other_has_a_point_at_none():
    for curve in data.CURVES.values():
        assert (curve.needs == "none") == (curve.budgets == (0,))


def test_one_step_of_fine_tuning_is_a_step_against_the_gradient(suite):
    n, lr = 3, 1e-3
    before = {key: value.clone() for key, value in suite.theta_0.items()}
    tuned = data.fine_tune(suite, suite.theta_0, n=n, steps=1, lr=lr, batch=n)
    theta = {key: value.clone().requires_grad_() for key, value in suite.theta_0.items()}
    loss = 0
    for task in suite.id_tasks:
        images, labels = suite.images(task, "train", n)
        loss = loss + F.cross_entropy(suite.logit_scale * embed(suite, theta, images) @ suite.heads[task].T, labels)
    loss.backward()
    grads = {key: value.grad for key, value in theta.items() if value.grad is not None}
    noise = 1e-3 * max(g.abs().max() for g in grads.values())
    assert any((g.abs() > noise).any() for g in grads.values())
    for key, g in grads.items():  # Adam's first step has the length lr, whatever the gradient
        moved = (tuned[key] - before[key])[g.abs() > noise]
        torch.testing.assert_close(moved, (-lr * g.sign())[g.abs() > noise], rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(dict(suite.theta_0), before, rtol=0, atol=0)


def test_no_step_changes_nothing_and_the_same_seed_gives_the_same(suite):
    nothing = data.fine_tune(suite, suite.theta_0, n=2, steps=0)
    torch.testing.assert_close(nothing, dict(suite.theta_0), rtol=0, atol=0)
    one, two, other = (data.fine_tune(suite, suite.theta_0, n=8, steps=2, batch=2, seed=s) for s in (0, 0, 1))
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert any((one[k] != other[k]).any() for k in one)


@pytest.mark.parametrize("knobs", [{"steps": -1}, {"batch": 0}, {"lr": 0.0}])
def test_bad_knobs(knobs, suite):
    with pytest.raises(ValueError, match="steps, batch, lr: got"):
        data.fine_tune(suite, suite.theta_0, **knobs)


def test_fine_tuning_never_looks_at_the_test_split(suite):
    with pytest.raises(ValueError, match="split: got 'test'"):
        data.fine_tune(suite, suite.theta_0, split="test")


def test_what_is_recorded_is_not_measured_again(suite):
    done = {"sure": [{}] * len(data.STEPS), "rates": {str(lr): 0 for lr in data.RATES}}
    everything = [{"method": name, "images": n} for name, curve in data.CURVES.items() for n in curve.budgets]
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    assert list(data.points(suite, taus, done | {"rows": everything})) == []
    [(part, row)] = data.points(suite, taus, done | {"rows": [r for r in everything if r["method"] != "Average"]})
    assert (part, row["method"], row["images"]) == ("rows", "Average", 0)


def test_the_shipped_record_has_every_point_once_and_says_where_it_comes_from():
    record = data.recorded()
    points = [(row["method"], row["images"]) for row in record["rows"]]
    assert sorted(points) == sorted((name, n) for name, curve in data.CURVES.items() for n in curve.budgets)
    assert [seen["steps"] for seen in record["sure"]] == list(data.STEPS)
    assert list(record["rates"]) == [str(lr) for lr in data.RATES]
    default = record["rates"][str(data.fine_tune.__kwdefaults__["lr"])]
    assert max(record["rates"].values()) - default <= WIDTH
    assert record["versions"]["command"].startswith("measure_images.py")
    for row in record["rows"]:
        curve = data.CURVES[row["method"]]
        assert {f.name: getattr(curve, f.name) for f in dataclasses.fields(curve) if f.name in row} == {
            key: row[key] for key in ("needs", "task_id", "transductive")
        }
    assert len(json.dumps(record)) < 60_000


def test_the_published_orders_are_in_the_record_as_the_page_says():
    """docs/data.md, "Which published orders hold"; a difference below two points is noise there, so it is here."""
    noise = 2.0
    points = {(p["method"], p["images"]): p for p in data.recorded()["rows"]}

    def ahead(a, b, n, column="id_avg", m=None):
        return points[a, n][column] - points[b, n if m is None else m][column]

    assert abs(ahead("RegMean", "Fisher", 1)) < noise
    assert min(ahead("RegMean", "Fisher", n) for n in (4, 16)) > noise
    assert abs(ahead("AdaMerging", "RegMean", 64)) < noise
    assert ahead("AdaMerging + Surgery", "AdaMerging", 64) > noise
    assert ahead("AdaMerging + Surgery", "RegMean", 64) > noise
    for name, n in points:
        if name in ("Fisher", "RegMean", "AdaMerging"):
            assert ahead("TSV-M", name, 0, m=n) > noise
    assert ahead("AdaMerging", "LwPTV + AdaMerging", 64) > noise
    assert abs(ahead("AdaMerging", "LwPTV + AdaMerging", 64, "ood_avg")) < noise
