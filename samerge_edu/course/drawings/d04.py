"""Figures of notebook 04: blocked updates, size against slope, accuracy of what is kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from ... import plots


def two_rankings(tau: Tensor, saliency: Tensor) -> tuple[Figure, str]:
    """The updates that are not 0, by size and by saliency, side by side."""
    entries = [tuple(e) for e in (tau != 0).nonzero().tolist()]
    names = [f"tau[{i},{j}]" for i, j in entries]
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.6))
    for axis, score, title in zip(axes, (tau.abs(), saliency), ("size |tau|", "saliency |G tau|"), strict=True):
        axis.barh(names, [score[e].item() for e in entries], hatch="//", edgecolor="white")
        axis.set(title=title)
        axis.invert_yaxis()
    largest = max(entries, key=lambda e: tau[e].abs())
    place = 1 + sum(saliency[e] > saliency[largest] for e in entries)
    sentence = f"The largest update, tau{list(largest)}, is number {place} of {len(entries)} by saliency."
    return plots.titled(figure, sentence), sentence


def size_and_slope(
    size: Tensor, slope: Tensor, matrix: str, both: Mapping[str, float], alone: Mapping[str, float]
) -> tuple[Figure, str]:
    """Left |tau| and |G| of the entries of one matrix; right rank correlations, name of a matrix -> number."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(1, 1.3))
    size, slope = size.flatten()[::37], slope.flatten()[::37]  # some of the entries, or the picture is a blot
    left.loglog(size, slope / slope.mean(), linestyle="", marker=".", markersize=3)
    left.set(xlabel="|tau|", ylabel="|G| / mean |G|", title=_short(matrix), ylim=(0.1, 10))
    left.set_xlim(size.max().item() / 1e4, size.max().item() * 2)
    right.plot(range(len(both)), list(both.values()), label="|tau| with |G tau|")
    right.plot(range(len(alone)), list(alone.values()), label="|tau| with |G| alone")
    right.set_xticks(range(len(both)), [_short(key) for key in both], rotation=90, fontsize=7)
    right.set(ylabel="rank correlation", ylim=(-0.3, 1.05))
    right.legend()
    sentence = "|tau| spans decades, |G| hardly varies; so |G tau| ranks as |tau| does, with a correlation of "
    sentence += f"{min(both.values()):.2f} or more in every matrix; |G| alone has at most {max(alone.values()):.2f}."
    return plots.titled(figure, sentence), sentence


def _short(key: str) -> str:
    return key.removeprefix("transformer.resblocks.").removesuffix(".weight").removesuffix("_weight")


def kept_accuracy(
    table: Mapping[tuple[str, str], float], ways: Sequence[str], means: Mapping[str, float]
) -> tuple[Figure, str]:
    """Accuracy of each task under each way; `table` is (task, way) -> percent, `means` way -> mean over the tasks."""
    tasks = list(dict.fromkeys(task for task, _ in table))
    figure, axis = plt.subplots(figsize=(7, 3))
    for n, task in enumerate(tasks):
        places = [i + 0.27 * (n - 1) for i in range(len(ways))]
        look: dict[str, Any] = {"label": task, "hatch": plots.HATCHES[n], "edgecolor": "white"}
        axis.bar(places, [table[task, way] for way in ways], 0.27, **look)
    axis.set_xticks(range(len(ways)), ways, rotation=20, ha="right", fontsize=9)
    axis.set(ylabel="test accuracy (%)", ylim=(0, 100))
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    sentence = f"5 % kept: by size {means['size']:.1f} %, by saliency {means['saliency']:.1f} %; after rewriting "
    sentence += f"the same models {means['size, rewritten']:.1f} % and {means['saliency, rewritten']:.1f} %."
    return plots.titled(figure, sentence), sentence
