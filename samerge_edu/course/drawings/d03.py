"""Figures of notebook 03: every path of a small network, weights left in each layer, accuracy after pruning."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ... import plots

Entry = tuple[int, int, int]
"""Layer, row and column of a weight, counted from 0."""


def entries(Ws: Sequence[Tensor]) -> dict[str, Entry]:
    """Name of each weight, such as "W2[0,1]" in the second layer, -> its place."""
    return {
        f"W{layer + 1}[{i},{j}]": (layer, i, j)
        for layer, W in enumerate(Ws)
        for i in range(W.shape[0])
        for j in range(W.shape[1])
    }


def paths_and_scores(strengths: Mapping[Entry, float], scores: Sequence[Tensor], entry: str) -> tuple[Figure, str]:
    """Left every path that is alive, right the scores of each layer, stacked; the sentence is about `entry`.

    `strengths` is (input, unit of hidden 1, unit of hidden 2) -> strength: 2 inputs, 3 and 2 hidden units, 1 output.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.9), width_ratios=(3, 2), dpi=75)
    _draw_paths(left, strengths)
    _draw_scores(right, scores)
    R, alive = sum(strengths.values()), sum(s > 0 for s in strengths.values())
    layer, i, j = entries(scores)[entry]
    sentence = f"R = {R:g}, {alive} of {len(strengths)} paths are alive, and the paths through {entry} carry "
    sentence += f"{scores[layer][i, j].item():g} of R."
    return plots.titled(figure, sentence), sentence


def _draw_paths(axis: Axes, strengths: Mapping[Entry, float]) -> None:
    """A line for each path, as thick as it is strong, in the colour of its unit of hidden layer 1."""
    for number, ((i, j, k), strength) in enumerate(strengths.items()):
        shift = 0.012 * (number - 5.5)  # paths that share an edge lie side by side
        if strength > 0:
            heights = [i - 0.5 + shift, j - 1 + shift, k - 0.5 + shift, shift]
            axis.plot(range(4), heights, color=plots.COLOURS[j], linestyle="-", marker="", linewidth=0.3 * strength)
    for place, units in enumerate((2, 3, 2, 1)):
        axis.plot([place] * units, [n - (units - 1) / 2 for n in range(units)], "o", color="black", markersize=9)
    axis.set_xticks(range(4), ["inputs", "hidden 1", "hidden 2", "output"])
    axis.set_yticks([])
    axis.grid(False)


def _draw_scores(axis: Axes, scores: Sequence[Tensor]) -> None:
    """One column a layer: its scores stacked, each named by its entry."""
    tops = [0.0] * len(scores)
    for name, (layer, i, j) in entries(scores).items():
        S = scores[layer][i, j].item()
        axis.bar(layer, S, width=0.95, bottom=tops[layer], color=plots.COLOURS[layer], alpha=0.5, edgecolor="white")
        if S > 0.06 * scores[layer].sum():
            axis.text(layer, tops[layer] + S / 2, f"{name}: {S:.3g}", ha="center", va="center", fontsize=8)
        tops[layer] += S
    axis.set_xticks(range(len(scores)), [f"layer {n + 1}" for n in range(len(scores))])
    axis.set(ylabel="score S")


def weights_left(
    densities: Sequence[float],
    masks: Mapping[tuple[str, float], Sequence[Tensor]],
    paths: Mapping[tuple[str, float], int],
) -> tuple[Figure, str]:
    """Share of each layer that is kept, a panel for each way; `masks` and `paths` are (way, density) -> masks, count.

    The densities without a path are written as sets, in braces: which these are may differ by one on another processor.
    """
    ways = list(dict.fromkeys(way for way, _ in masks))
    figure, axes = plt.subplots(1, len(ways), figsize=(9, 3.2), sharey=True)
    for axis, way in zip(axes, ways, strict=True):
        for n in range(len(masks[way, densities[0]])):
            shares = [100 * masks[way, density][n].double().mean().item() for density in densities]
            axis.plot(densities, [max(share, 1e-3) for share in shares], label=f"layer {n + 1}")
        axis.set(title=way, xscale="log", yscale="log", xlabel="density of the network")
        axis.invert_xaxis()
    axes[0].set_ylabel("weights left in the layer (%)")
    axes[-1].legend(fontsize=8)
    without = {way: ", ".join(f"{d:g}" for d in densities if paths[way, d] == 0) or "none" for way in ways}
    sentence = "Densities at which no path is left: "
    sentence += "; ".join(f"{way} {{{gone}}}" for way, gone in without.items()) + ". On the floor: an empty layer."
    return plots.titled(figure, sentence), sentence


def accuracies(
    densities: Sequence[float], curves: Mapping[tuple[str, float], tuple[float, float]], high: float, low: float
) -> tuple[Figure, str]:
    """Accuracy against density, right after pruning and trained again; `curves` is (way, density) -> both.

    The sentence reads the first panel at the density `high`, the second at `low`.
    """
    ways = list(dict.fromkeys(way for way, _ in curves))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    titles = ("right after pruning", "after 100 steps of training")
    for when, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        for way in ways:
            axis.plot(densities, [curves[way, density][when] for density in densities], label=way)
        axis.axhline(10, color="0.6", linewidth=1)
        axis.set(title=title, xscale="log", xlabel="density")
        axis.invert_xaxis()
    axes[0].set(ylabel="test accuracy (%)")
    axes[0].legend(fontsize=8)
    sentences = [
        f"{title.capitalize()}, density {density:g}: "
        + ", ".join(f"{way} {curves[way, density][when]:.0f} %" for way in ways)
        for when, (title, density) in enumerate(zip(titles, (high, low), strict=True))
    ]
    sentence = ". ".join(sentences) + "."
    return plots.titled(figure, sentence), sentence
