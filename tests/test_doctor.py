"""The suite's bands, each against its definition, on a tiny suite."""

import json

import pytest
import torch
from tiny_suite import TinySuite

from samerge_edu import doctor
from samerge_edu.evaluate import scores
from samerge_edu.params import add, task_vectors


@pytest.fixture(scope="module")
def suite():
    return TinySuite()


@pytest.fixture(scope="module")
def values(suite):
    return {band["name"]: band["value"] for band in doctor.bands(suite)}


def test_bands_are_json_with_the_agreed_keys(suite):
    bands = doctor.bands(suite)
    assert json.loads(json.dumps(bands)) == bands
    assert all(list(band) == ["name", "low", "high", "value"] for band in bands)


def test_bands_hold_what_their_names_say(suite, values):
    base = scores(suite, suite.theta_0)
    experts = {task: scores(suite, theta) for task, theta in suite.experts.items()}
    assert values["base, ID average"] == pytest.approx((base["ink"] + base["noise"] + base["land"]) / 3)
    assert values["base, OOD average"] == pytest.approx((base["letters"] + base["flags"]) / 2)
    own = [experts[task][task] for task in experts]
    assert values["experts on their own task, worst"] == min(own)
    assert values["experts on their own task, average"] == pytest.approx(sum(own) / 3)
    abroad = [experts[a][b] for a in experts for b in ("letters", "flags")]
    assert values["experts, OOD average"] == pytest.approx(sum(abroad) / 6)
    others = [experts[a][b] for a in experts for b in experts if a != b]
    assert values["experts on the other ID tasks"] == pytest.approx(sum(others) / 6)


def test_best_scale_and_the_gap_to_the_experts_belong_together(suite, values):
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    total = {k: sum(tau[k] for tau in taus) for k in suite.theta_0}
    merged = scores(suite, add(suite.theta_0, total, values["target: best scale of Task Arithmetic"]))
    id_avg = (merged["ink"] + merged["noise"] + merged["land"]) / 3
    gap = values["experts on their own task, average"] - id_avg
    assert values["experts minus Task Arithmetic, ID average"] == pytest.approx(gap)
    ood_gap = values["base, OOD average"] - (merged["letters"] + merged["flags"]) / 2
    assert values["base minus Task Arithmetic, OOD average"] == pytest.approx(ood_gap)


def test_gain_kept_is_all_of_it_at_density_one_and_less_below(suite):
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    base = scores(suite, suite.theta_0)
    own = {task: scores(suite, suite.experts[task], tasks=[task])[task] for task in suite.experts}
    assert doctor.gain_kept(suite, taus, base, own, density=1.0) == pytest.approx(1.0)
    trimmed = 0.0
    for task, tau in zip(suite.experts, taus, strict=True):
        sizes = torch.cat([tau[k].abs().flatten() for k in tau])
        threshold = sizes.sort(descending=True).values[round(0.2 * len(sizes)) - 1]
        theta = {k: v + tau[k] * (tau[k].abs() >= threshold) for k, v in suite.theta_0.items()}
        trimmed += scores(suite, theta, tasks=[task])[task] - base[task]
    expected = trimmed / sum(own[task] - base[task] for task in own)
    assert doctor.gain_kept(suite, taus, base, own) == pytest.approx(expected)
    assert expected != pytest.approx(1.0)


def test_sizes_and_angles_by_hand():
    theta_0 = {"w": torch.tensor([3.0, 4.0])}
    taus = [{"w": torch.tensor([0.0, 1.0])}, {"w": torch.tensor([0.6, 0.8])}, {"w": torch.tensor([-2.0, 0.0])}]
    assert doctor.relative_size(theta_0, taus) == pytest.approx((1 + 1 + 2) / 3 / 5)
    assert doctor.mean_cosine(taus) == pytest.approx((0.8 + 0.0 - 0.6) / 3, abs=1e-6)


@pytest.mark.parametrize(("value", "verdict"), [(1.9, True), (2.0, False), (3.0, False), (3.1, True)])
def test_outside(value, verdict):
    assert doctor.outside({"name": "x", "low": 2, "high": 3, "value": value}) is verdict


def test_recorded_bands_come_with_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "doctor.py"))
    assert doctor.recorded_bands() is None
    weights = tmp_path / "suites" / "pocket" / "weights"
    weights.mkdir(parents=True)
    band = {"name": "x", "low": 0, "high": 1, "value": 0.5}
    (weights / "metrics.json").write_text(json.dumps({"bands": [band], "seed": 1}), encoding="utf-8")
    assert doctor.recorded_bands() == [band]


def test_machine_names_versions_and_memory():
    found = doctor.machine()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert "GiB free" in found["disk"]
    assert 0 < float(doctor.machine()["memory"].removesuffix(" GiB free")) < 10_000
