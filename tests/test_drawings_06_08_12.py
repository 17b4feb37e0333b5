"""The figures of notebooks 06, 08 and 12: the sentence says what was drawn, for made-up numbers known by heart."""

import matplotlib.pyplot as plt
import pytest
import torch

from samerge_edu.course.drawings import d06, d08, d12


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def heights(axis) -> list[float]:
    return [round(float(y), 6) for line in axis.lines for y in line.get_ydata()]


# ---------------------------------------------------------------------------- 06


def test_rounds_reads_the_last_round_and_the_highest_R():
    history = {
        "literal": [(1.0, 0.9, 1.0), (0.5, 0.8, 2.5), (0.25, 0.7, 0.5)],
        "agreement": [(1.0, 0.9, 1.0), (0.5, 0.1, 0.6), (0.25, 0.0, 0.3)],
    }
    figure, sentence = d06.rounds(history)
    assert "falls to 0.250" in sentence
    assert "70 % (literal), 0 % (agreement)" in sentence
    assert "rises by 1.50" in sentence
    assert heights(figure.axes[1])[:3] == [0.9, 0.8, 0.7]


def test_overlap_counts_the_experts_that_keep_an_entry():
    m = torch.tensor([[True, True, False, False], [True, False, False, False]])
    kept = {"literal": m, "own size": m, "random": m}
    union, length = {"literal": 50.0, "random": 60.0}, {"literal": 40.0, "own size": 70.0, "random": 30.0}
    figure, sentence = d06.overlap(kept, union, length)
    assert "keeps 37.5 % of its entries" in sentence
    assert "random masks 60 %" in sentence
    assert "entries 70 %" in sentence
    assert [bar.get_height() for bar in figure.axes[0].patches[:2]] == [50.0, 50.0]  # one entry by one, one by both


def test_two_rulers_puts_the_same_heights_over_lam_and_over_the_effective_scale():
    curves = {"star": [60.0, 70.0], "random": [61.0, 72.0], "TIES": [62.0, 74.5], "TSV-M": [63.0, 79.0]}
    e = {"star": 1.0, "random": 0.1, "TIES": 0.5, "TSV-M": 0.4}
    figure, sentence = d06.two_rulers(curves, (0.1, 0.2), e)
    assert "2 ways to choose entries lie between 70.0 and 72.0 %; TIES has 74.5 %, TSV-M 79.0 %" in sentence
    left, right = figure.axes[:2]
    assert heights(left) == heights(right)
    assert list(left.lines[1].get_xdata()) == pytest.approx([1.0, 2.0])


def test_off_fair_and_thinner_say_their_numbers():
    _, sentence = d06.off({"random": (2.5, 0.25), "TSV-M": (1.5, 0.5)})
    assert "off by 2.50 in weights, 0.25 in features; TSV-M by 1.50 in weights, 0.50 in features" in sentence
    chance = {"independent": [70.0, 72.0], "shuffled": [69.0, 71.0]}
    figure, sentence = d06.fair(chance, {"literal": 71.5, "abs": 68.0}, own=70.5)
    assert sentence.startswith("Literal 71.5 %, at its own scale 70.5 %, abs 68.0 %;")
    assert "random masks 70.0 to 72.0 %, ten shuffled ones 69.0 to 71.0 %" in sentence
    assert len(figure.axes[0].get_yticks()) == 4
    _, sentence = d06.thinner((0.1, 0.01), [68.0, 67.0], [[69.0, 67.5], [67.5, 68.0]], {"base": 60.0})
    assert sentence == (
        "3 of 4 random masks are above SA-Merging at their density; at 0.010 it has 67.0 %, they have 67.5 to 68.0 %."
    )


def test_rounds_as_scale_draws_each_p_by_its_own_mark():
    grid = {(1, 0.2): (0.6, 42.0), (10, 0.2): (0.3, 59.0), (1, 0.4): (0.5, 45.0), (10, 0.4): (0.1, 71.0)}
    figure, sentence = d06.rounds_as_scale(grid, {0.1: 70.0, 0.6: 41.0}, distance=2.0)
    assert "42 % after one round to 59 % after ten; all 4 merges are within 2.0 points" in sentence
    assert len(figure.axes[0].lines) == 3


# ---------------------------------------------------------------------------- 08


def test_distorted_speaks_of_the_experts_not_of_the_base():
    _, sentence = d08.distorted({"a": 0.6, "b": 0.8}, {"a": 70.0, "b": 90.0, "base": 95.0})
    assert "0.60 to 0.80" in sentence
    assert "from 95 % to 80 % on average" in sentence


def test_mask_map_has_a_cell_for_every_layer():
    M = {f"transformer.resblocks.{b}.{kind}": b == 0 for b in (0, 1) for kind in ("fc.weight", "fc.bias")}
    M |= {"conv1.weight": False}
    figure, sentence = d08.mask_map(M, dict.fromkeys(M, 2), N=4)
    assert sentence == "The shared mask keeps 1 of 3 weight tensors and 1 of 2 biases."
    assert len(figure.axes[0].patches) == len(M)


def test_curves_and_turned_read_the_grid():
    lines = {"TA": {0.1: (70.0, 90.0), 0.4: (60.0, 50.0)}, "LwPTV": {0.1: (69.0, 94.0), 0.4: (72.0, 91.0)}}
    _, sentence = d08.curves(lines, {"TA": (71.0, 88.0), "LwPTV": (72.5, 93.0)}, base=(64.0, 95.0))
    assert "TA 71.0 % at home, 88.0 % abroad; LwPTV 72.5 % at home, 93.0 % abroad" in sentence
    assert sentence.endswith("At lam = 0.4 they have 50 % and 91 % abroad.")
    grid = {(0.0, 0.3): (60.0, 70.0), (0.7, 0.3): (70.0, 90.0)}
    _, sentence = d08.turned(grid, {0.0: 10, 0.7: 6}, 10, eta=0.7, lam=0.3)
    assert sentence == "eta = 0.7, lam = 0.3: 6 of 10 layers stay; ID 70.0 %, OOD 90.0 %, H 78.8."


def test_one_at_a_time_shuffles_size_and_board():
    alone = {"conv1.weight": (73.0, 92.0), "ln.bias": (66.0, 75.0)}
    figure, sentence = d08.one_at_a_time((65.0, 74.0), alone, (74.0, 94.0), "conv1.weight")
    assert sentence == "Giving back conv1.weight alone moves OOD from 74 % to 92 %; all of LwPTV reaches 94 %."
    assert len(figure.axes[0].get_yticks()) == 4
    _, sentence = d08.shuffles([(70.0, 95.0)], [(60.0, 75.0), (61.0, 77.0)], (74.0, 94.0), (65.0, 74.0), "conv1", 1.2)
    assert sentence.startswith("1 of 3 shuffled masks give conv1 back by chance (1.2 were to be expected)")
    assert sentence.endswith("OOD 95 % on average, the others 76 %; LwPTV 94 %.")
    _, sentence = d08.own_or_size(torch.ones(4, 3), torch.ones(4, 3), 97.2)
    assert "With 4 tasks" in sentence
    assert "97 % of the layers" in sentence
    _, sentence = d08.board({"A": (50.0, 50.0), "B": (60.0, 60.0), "C": (59.8, 60.0)})
    assert sentence.endswith("A 50.0, B 60.0, C 59.9; within 1 point of the best: {B, C}.")


# ---------------------------------------------------------------------------- 12


def test_alone_says_a_loss_with_its_sign():
    models = {"zero-shot": {"a": 40.0, "b": 60.0}, "experts": {"a": 90.0, "b": 55.0}}
    _, sentence = d12.alone(models, {"a": 100, "b": 50}, "FB")
    assert sentence == "On its own task each expert differs from the base by -5 to +50 points."


ROWS = [
    {"method": "experts", "family": "FB", "tasks": {"a": 99.0, "b": 99.0}},
    {"method": "Average", "family": "FB", "tasks": {"a": 70.0, "b": 60.0}},
    {"method": "WUDI", "family": "FB", "tasks": {"a": 90.0, "b": 80.0}},
    {"method": "Average", "family": "TA", "tasks": {"a": 72.0, "b": 61.0}},
    {"method": "SA-Merging", "family": "TA, inferred", "tasks": {}},
]


def test_by_family_compares_what_both_print_and_draws_ours_only_if_there_is_something():
    figure, sentence = d12.by_family(ROWS, ["a", "b"], {}, "tiny")
    assert "differs by up to 1.5 points" in sentence
    assert "best row of FB it is 20.0" in sentence
    assert len(figure.axes[0].lines) == 2
    figure, _ = d12.by_family(ROWS, ["a", "b"], {"Average": 66.0, "mine": 1.0}, "FB")
    assert heights(figure.axes[0])[-1:] == [66.0]


def test_halved_names_the_two_sizes():
    lost = {"bfloat16": {0.01: 23.0, 0.001: 165.0}, "float16": {0.01: 3.0, 0.001: 29.0}}
    _, sentence = d12.halved(lost)
    assert "23 % (bfloat16) and 3 % (float16) wrong; of one of 0.1 %, 165 % and 29 %" in sentence
