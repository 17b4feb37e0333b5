"""The figures of the notebooks: their sentences say what was drawn, and hang on no near-tie."""

import matplotlib.pyplot as plt
import pytest
import torch

from samerge_edu.course.drawings import d03, d04, d05, d07


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_paths_and_scores_reads_R_and_the_share_of_one_weight():
    Ws = [torch.ones(3, 2), torch.ones(2, 3), torch.ones(1, 2)]
    assert d03.entries(Ws)["W2[1,2]"] == (1, 1, 2)
    strengths = {(i, j, k): float(i + j + k > 0) for i in range(2) for j in range(3) for k in range(2)}
    scores = [torch.ones(3, 2), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.ones(1, 2)]
    _, sentence = d03.paths_and_scores(strengths, scores, "W2[1,2]")
    assert sentence == "R = 11, 11 of 12 paths are alive, and the paths through W2[1,2] carry 6 of R."


def test_densities_without_a_path_are_named_as_sets():
    masks = {(way, d): [torch.ones(2, 2)] for way in ("one shot", "rounds") for d in (0.3, 0.1)}
    paths = {("one shot", 0.3): 5, ("one shot", 0.1): 0, ("rounds", 0.3): 5, ("rounds", 0.1): 4}
    _, sentence = d03.weights_left([0.3, 0.1], masks, paths)
    assert "one shot {0.1}; rounds {none}" in sentence


def test_accuracies_after_pruning_stay_in_the_order_of_the_ways():
    curves = {("a", 0.3): (50.0, 90.0), ("a", 0.02): (10.0, 20.0), ("b", 0.3): (51.0, 90.0), ("b", 0.02): (10.0, 80.0)}
    _, sentence = d03.accuracies([0.3, 0.02], curves, high=0.3, low=0.02)
    assert sentence == (
        "Right after pruning, density 0.3: a 50 %, b 51 %. After 100 steps of training, density 0.02: a 20 %, b 80 %."
    )


def test_the_largest_update_finds_its_place_by_saliency():
    tau = torch.tensor([[5.0, 0.0], [0.2, -3.0]])
    _, sentence = d04.two_rankings(tau, torch.tensor([[0.1, 0.0], [0.8, 2.0]]))
    assert sentence == "The largest update, tau[0, 0], is number 3 of 3 by saliency."


def test_rank_correlations_are_read_from_the_worst_matrix():
    both, alone = {"a.weight": 0.98, "b.weight": 0.95}, {"a.weight": -0.1, "b.weight": 0.2}
    figure, sentence = d04.size_and_slope(torch.rand(40, 5) + 0.1, torch.rand(40, 5) + 1, "a.weight", both, alone)
    assert "0.95 or more" in sentence
    assert "at most 0.20" in sentence
    assert len(figure.axes) == 2


def test_readings_as_good_as_the_best_are_a_set():
    result = {"Task Arithmetic": (0.3, 75.0, 20.0), "literal": (0.3, 70.0, 40.0), "abs": (0.4, 69.5, 30.0)}
    _, sentence = d05.accuracies(result | {"none": (0.2, 60.0, 20.0)}, ("literal", "abs", "none"), 61.0, 1.6)
    assert "{literal, abs}, 70.0 %" in sentence
    assert "3.2 points" in sentence


def test_one_weight_has_an_arrow_for_each_expert_and_one_for_the_sum():
    scores = {"literal": [1.0, -1.0], "abs": [2.0, 2.0]}
    figure = d05.one_weight(1.0, {"expert 1": 1.5, "expert 2": -0.5}, scores)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert [w for w in words if w] == ["expert 1: +1.5", "expert 2: -0.5", "sum: +1"]
    assert [bar.get_height() for bar in figure.axes[1].patches] == [1.0, 2.0, -1.0, 2.0]


def test_a_rule_beside_lots_has_the_p_value_of_exercise_06_5():
    _, sentence = d07.against_lots([1.0, 2.0, 3.0, 4.0], {"saliency": 4.0, "size": 5.0}, 6.0, keep=2, r=16)
    assert "Saliency: +1.5 points beside the mean of 4 draws, better than 3 of them (p 0.40)" in sentence
    assert "Size: +2.5 points beside the mean of 4 draws, better than 4 of them (p 0.20)" in sentence


def test_ranks_kept_names_who_is_ahead_up_to_a_point():
    kept = {("saliency", 16): (0.2, 72.0), ("size", 16): (0.2, 72.0)}
    kept |= {("saliency", 2): (1.0, 70.0), ("size", 2): (1.0, 70.9)}
    _, sentence = d07.ranks_kept(kept, 16)
    assert sentence == (
        "By saliency from 72.0 % with 16 ranks to 70.0 % with 2. Ahead, up to a point: {saliency, size} at 2."
    )


def test_side_by_side_names_those_ahead_and_the_plain_sum():
    board = {"sum": (0.2, 71.6), "TIES": (1.0, 70.6), "KnOTS + TIES": (1.0, 74.0), "linear": (0.1, 66.5)}
    _, sentence = d07.side_by_side(board | {"TSV-M": (1.0, 74.4)}, "sum")
    assert sentence.startswith("Ahead, up to a point: {KnOTS + TIES, TSV-M}, 74.4 %. The sum has 71.6 %, KnOTS + TIES")


def test_the_other_sentences_read_their_numbers():
    _, sentence = d04.kept_accuracy(
        {("digits", "size"): 70.0, ("flags", "size"): 80.0},
        ["size"],
        {"size": 75.0, "saliency": 74.0, "size, rewritten": 60.0, "saliency, rewritten": 73.9},
    )
    assert (
        sentence == "5 % kept: by size 75.0 %, by saliency 74.0 %; after rewriting the same models 60.0 % and 73.9 %."
    )
    _, sentence = d05.conflict_and_overlap({"before": 99.0, "literal": 92.0, "agreement": 1.0}, {"literal": 93.0})
    assert sentence.startswith("Sign conflict was 99 %; a third kept by agreement leaves 1 %, by literal 92 %")
    _, sentence = d07.scale_curves([0.1, 1.0], {"size": [60.0, 50.0]}, [70.0, 20.0], "2 of 16 ranks")
    assert sentence == "2 of 16 ranks: size 60 % at lam 0.1."
    _, sentence = d07.left_out({"as trained": [0.95, 0.9, 0.0], "singular": [0.8, 0.55, 0.0]}, "digits", 2)
    assert sentence == "digits: 2 of 3 components miss the update by 90 % (as trained), 55 % (singular)."
    _, sentence = d07.gauges({"as trained": 71.0}, {"as trained": 69.4}, 68.0, "2 of 16")
    assert "Alone: 71 % (as trained). Merged: 69.4 % (as trained), random ranks as trained 68.0 %" in sentence
