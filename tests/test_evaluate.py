"""Accuracies against a loop over single images, summaries by hand, and the choice of lam on known curves."""

import copy
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_suite import PeakSuite, TinySuite

from samerge_edu.evaluate import (
    LAMS,
    WIDTH,
    accuracy,
    choose_lam,
    h_score,
    id_average,
    plateau,
    provenance,
    reference,
    retention,
    scores,
    summary,
)


@pytest.fixture(scope="module")
def suite():
    return TinySuite()


def accuracy_by_loop(suite, theta, task, split, n=None):
    """One image at a time through a module that really holds theta."""
    model = copy.deepcopy(suite.tower)
    model.load_state_dict(theta)
    images, labels = suite.images(task, split)
    hits = 0
    pairs = list(zip(images, labels, strict=True))[:n]
    with torch.no_grad():
        for image, label in pairs:
            z = model(image[None])[0]
            similarities = [float(z @ head) for head in suite.heads[task]]
            hits += similarities.index(max(similarities)) == int(label)
    return 100 * hits / len(pairs)


@pytest.mark.parametrize("split", ["val", "test"])
def test_scores_equal_a_loop_over_single_images(suite, split):
    theta = suite.experts["noise"]
    got = scores(suite, theta, split)
    assert list(got) == ["ink", "noise", "land", "letters", "flags"]
    for task in suite.tasks:
        assert got[task] == pytest.approx(accuracy_by_loop(suite, theta, task, split))
    assert len(set(got.values())) > 2, "the test cannot tell tasks apart"


def test_scores_of_some_tasks_on_some_images(suite):
    got = scores(suite, suite.theta_0, "val", ["land", "ink"], n=7)
    assert list(got) == ["land", "ink"]
    assert got["land"] == pytest.approx(accuracy_by_loop(suite, suite.theta_0, "land", "val", n=7))
    assert accuracy(suite, suite.theta_0, "land", "val", n=7) == got["land"]


def test_evaluation_leaves_model_and_parameters_alone(suite):
    theta = {k: v.clone() for k, v in suite.experts["ink"].items()}
    before = copy.deepcopy(suite.tower.state_dict())
    scores(suite, theta)
    assert all(torch.equal(theta[k], suite.experts["ink"][k]) for k in theta)
    assert all(torch.equal(v, before[k]) for k, v in suite.tower.state_dict().items())


def test_unknown_task_is_refused_with_those_that_exist(suite):
    with pytest.raises(ValueError, match=r"unknown task: got 'cars', expected one of ink, noise, land, letters, flags"):
        accuracy(suite, suite.theta_0, "cars")


def test_summary_by_hand(suite):
    per_task = {"ink": 90.0, "noise": 40.0, "land": 20.0, "letters": 70.0, "flags": 80.0}
    got = summary(suite, per_task, expert_accuracy={"ink": 100.0, "noise": 80.0, "land": 50.0})
    assert got == {
        "id_avg": 50.0,
        "id_worst": 20.0,
        "ood_avg": 75.0,
        "h": pytest.approx(60.0),  # 2 * 50 * 75 / 125
        "normalised": pytest.approx((90 + 50 + 40) / 3),
    }


@given(st.floats(0, 100), st.floats(0, 100))
def test_h_lies_between_the_smaller_and_the_mean(a, b):
    assert min(a, b) - 1e-9 <= h_score(a, b) <= (a + b) / 2 + 1e-9
    assert h_score(a, b) == h_score(b, a)


def test_h_of_nothing_is_zero():
    assert h_score(0.0, 0.0) == 0.0


def test_reference_rows(suite):
    got = reference(suite)
    zero_shot, experts = got["zero_shot"], got["experts"]
    assert zero_shot["per_task"] == scores(suite, suite.theta_0)
    for task in suite.id_tasks:
        assert experts["per_task"][task] == pytest.approx(accuracy_by_loop(suite, suite.experts[task], task, "test"))
    abroad = [accuracy_by_loop(suite, theta, "flags", "test") for theta in suite.experts.values()]
    assert experts["per_task"]["flags"] == pytest.approx(sum(abroad) / 3)
    assert experts["normalised"] == pytest.approx(100)
    assert zero_shot["normalised"] != pytest.approx(100)


def test_retention_is_what_is_left_of_the_base_on_the_tasks_asked_for():
    base, merged = {"letters": 80.0, "flags": 50.0, "dials": 0.0, "ink": 10.0}, {"letters": 20.0, "flags": 60.0}
    merged |= {"dials": 5.0, "ink": 90.0}
    assert retention(merged, base, ["flags", "letters", "dials"]) == {"flags": 120.0, "letters": 25.0, "dials": 100.0}


def test_id_average_is_the_mean_over_the_id_tasks(suite):
    per_task = [accuracy_by_loop(suite, suite.experts["land"], task, "val") for task in ("ink", "noise", "land")]
    assert id_average(suite, suite.experts["land"], "val") == pytest.approx(sum(per_task) / 3)


# ---------------------------------------------------------------------------- choice of lam


@pytest.mark.parametrize("steep", [1.0, 6.0])
@pytest.mark.parametrize("peak", range(1, len(LAMS) - 1))
def test_the_choice_is_at_the_peak_of_the_curve(peak, steep):
    suite = PeakSuite(best=LAMS[peak], steep=steep)
    lam, curve = choose_lam(suite, {"w": torch.ones(1)})
    assert abs(math.log(lam / LAMS[peak])) < 0.1
    assert list(curve) == list(LAMS)
    assert curve[LAMS[peak]] == id_average(suite, {"w": torch.full((1,), LAMS[peak])}, "val")


@given(st.lists(st.floats(20, 90), min_size=7, max_size=7), st.integers(0, 6), st.floats(-0.25, 0.25))
def test_an_image_or_two_move_the_choice_by_a_little(averages, which, images):
    """0.25 points are two images of 800: a maximum may jump across the whole grid, the plateau's middle may not."""
    curve = dict(zip(LAMS, averages, strict=True))
    moved = curve | {LAMS[which]: curve[LAMS[which]] + images}
    jump = abs(math.log(plateau(moved) / plateau(curve)))
    assert jump <= abs(images) / WIDTH * math.log(LAMS[-1] / LAMS[0]) / 2 + 0.02  # the steepest that weights can do


def test_two_scales_of_one_accuracy_share_the_choice():
    near_tie = {0.1: 60.0, 0.56: 74.5, 0.75: 74.5, 1.0: 60.0}
    assert plateau(near_tie) == pytest.approx(math.sqrt(0.56 * 0.75), rel=0.01)
    turned = near_tie | {0.56: 74.375}  # one image of 800
    assert plateau(turned) == pytest.approx(plateau(near_tie), rel=0.02)


def test_the_plateau_lies_within_the_grid_and_the_order_of_scales_does_not_matter():
    curve = {0.1: 50.0, 0.3: 51.0, 1.0: 80.0}
    assert plateau(curve) == plateau(dict(reversed(curve.items()))) == 1.0
    assert plateau({0.5: 10.0}) == 0.5
    assert plateau(curve, width=1e9) == pytest.approx((0.1 * 0.3 * 1.0) ** (1 / 3), rel=0.01)


def test_only_id_tasks_vote():
    suite = PeakSuite(best=1.0)  # the OOD task is right only at the base: it would vote for the smallest scale
    assert choose_lam(suite, {"w": torch.ones(1)})[0] == pytest.approx(1.0, rel=0.1)


def test_lam_scales_the_update():
    assert choose_lam(PeakSuite(best=1.0), {"w": torch.full((1,), 10.0)})[0] == pytest.approx(0.10, rel=0.1)


def test_where_no_scale_is_better_the_middle_of_the_grid_is_as_good_as_any():
    lam, curve = choose_lam(PeakSuite(best=1.0), {"w": torch.zeros(1)})
    assert set(curve.values()) == {0.0}
    assert math.log(lam) == pytest.approx(sum(map(math.log, LAMS)) / len(LAMS), abs=0.01)


def test_each_scale_is_tried_once_and_n_limits_the_images():
    suite = PeakSuite(best=0.42)
    _, curve = choose_lam(suite, {"w": torch.ones(1)}, n=50)
    assert len(suite.tried) == len(set(suite.tried)) == len(curve)
    full = choose_lam(PeakSuite(best=0.42), {"w": torch.ones(1)})[1]
    assert curve != full


@pytest.mark.parametrize("grid", [[], [0.3, 0.1], [0.1, 0.1], [0.0, 1.0]])
def test_bad_grid_is_refused(grid):
    with pytest.raises(ValueError, match="at least one scale above 0, in increasing order"):
        choose_lam(PeakSuite(best=1.0), {"w": torch.ones(1)}, grid=grid)


def test_own_grid_and_a_grid_of_one():
    assert choose_lam(PeakSuite(best=1.0), {"w": torch.ones(1)}, grid=[0.7])[0] == 0.7
    assert choose_lam(PeakSuite(best=5.0), {"w": torch.ones(1)}, grid=[1, 2, 3, 4, 5])[0] == pytest.approx(5, rel=0.1)


def test_a_scale_is_never_chosen_on_test():
    with pytest.raises(ValueError, match="'test', expected 'val'"):
        choose_lam(PeakSuite(best=1.0), {"w": torch.ones(1)}, split="test")


# ---------------------------------------------------------------------------- provenance


def test_provenance_is_json_and_names_the_versions():
    record = json.loads(json.dumps(provenance()))
    assert record["torch"] == torch.__version__.split("+")[0] or record["torch"] == torch.__version__
    assert record["device"] == "cpu"
    assert {"samerge-edu", "numpy", "python", "command", "commit", "threads"} <= record.keys()


def test_the_command_is_the_programs_name_and_its_words_without_folders(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somebody/at/home/samerge-edu", "leaderboard", "--csv", "rows.csv"])
    assert provenance()["command"] == "samerge-edu leaderboard --csv rows.csv"
