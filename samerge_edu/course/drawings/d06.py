"""The figures of notebook 06: the rounds, the masks' overlap, effective scales, errors, chance."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from jaxtyping import Bool
from matplotlib.figure import Figure
from torch import Tensor

from ... import plots

Drawn = tuple[Figure, str]


def rounds(history: Mapping[str, Sequence[tuple[float, float, float]]]) -> Drawn:
    """Density, sign conflict and ln R above the base after each round.  reading -> one triple a round"""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3))
    for reading, seen in history.items():
        for axis, values in zip(axes, zip(*seen, strict=True), strict=True):
            axis.plot(range(len(seen)), values, label=reading)
    axes[0].set(title="density", xlabel="round", yscale="log")
    axes[0].set(yticks=[0.1, 0.2, 0.5, 1], yticklabels=["0.1", "0.2", "0.5", "1"])
    axes[0].minorticks_off()
    axes[1].set(title="sign conflict", xlabel="round", ylim=(-0.05, 1.05))
    axes[2].set(title="ln R of the sum, above the base", xlabel="round", ylim=(0, None))
    axes[2].legend(loc="best")
    conflicts = ", ".join(f"{100 * seen[-1][1]:.0f} % ({reading})" for reading, seen in history.items())
    rises = max(seen[2] for seen in history["literal"]) - history["literal"][0][2]
    sentence = f"The density falls to {history['literal'][-1][0]:.3f} under every reading, the sign conflict to "
    sentence += f"{conflicts}; under literal ln R first rises by {rises:.2f}."
    return plots.titled(figure, sentence), sentence


def overlap(kept: Mapping[str, Bool[Tensor, "N d"]], union: Mapping[str, float], length: Mapping[str, float]) -> Drawn:
    """How many experts keep an entry, and how much of its length an expert keeps.  union, length: in percent"""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), width_ratios=(1.7, 1))
    for i, (name, m) in enumerate(kept.items()):
        look = {"color": plots.COLOURS[i], "hatch": plots.HATCHES[i], "edgecolor": "white"}
        by = torch.bincount(m.sum(dim=0), minlength=len(m) + 1)[1:].double()
        left.bar(
            [c + 0.16 * (i - 2) for c in range(1, len(m) + 1)], (100 * by / by.sum()).tolist(), 0.16, label=name, **look
        )
        right.barh(name, length[name], **look)
    left.set(xlabel="number of experts that keep an entry", ylabel="share of all kept entries (%)", ylim=(0, 100))
    left.legend(loc="upper center")
    right.set(xlabel="length of its task vector that an expert keeps (%)", xlim=(0, 100))
    right.invert_yaxis()
    for axis in (left, right):
        axis.grid(visible=False)
    share = 100 * kept["literal"].double().mean().item()
    sentence = f"Each expert keeps {share:.1f} % of its entries; under literal all of them together "
    sentence += f"{union['literal']:.1f} %, by random masks {union['random']:.0f} %. A literal mask keeps "
    sentence += f"{length['literal']:.0f} % of an expert's length, a random one {length['random']:.0f} %, "
    sentence += f"the largest entries {length['own size']:.0f} %."
    return plots.titled(figure, sentence), sentence


def two_rulers(curves: Mapping[str, Sequence[float]], scales: Sequence[float], e: Mapping[str, float]) -> Drawn:
    """The same accuracies against lam and against the effective scale a = lam e.  curves, e: by method"""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
    for i, (name, curve) in enumerate(curves.items()):
        look = {"color": plots.COLOURS[i], "marker": plots.MARKERS[i]}
        left.plot([a / e[name] for a in scales], curve, label=name, **look)
        right.plot(scales, curve, **look)
    left.set(xscale="log", xlabel="lam", ylabel="accuracy (%), validation", title="the same curves against lam ...")
    right.set(xlabel="effective scale a = lam e", title="... and against the effective scale")
    figure.legend(loc="outside right center")
    peaks = {name: max(curve) for name, curve in curves.items()}
    masks = [peak for name, peak in peaks.items() if name not in ("TIES", "TSV-M")]
    sentence = f"At their best effective scale {len(masks)} ways to choose entries lie between {min(masks):.1f} and "
    sentence += f"{max(masks):.1f} %; TIES has {peaks['TIES']:.1f} %, TSV-M {peaks['TSV-M']:.1f} %."
    return plots.titled(figure, sentence), sentence


def off(distances: Mapping[str, tuple[float, float]]) -> Drawn:
    """How far from Task Arithmetic's model, in weights and in features.  name -> the two distances"""
    figure, axis = plt.subplots(figsize=(7, 2.8))
    for i, label in enumerate(("in weights", "in features")):
        places = [n + 0.4 * i - 0.2 for n in range(len(distances))]
        look: dict[str, Any] = {"hatch": plots.HATCHES[i], "edgecolor": "white"}
        axis.bar(places, [both[i] for both in distances.values()], 0.4, label=label, **look)
    axis.axhline(1, color="black", linewidth=1, linestyle=":")
    axis.set_xticks(range(len(distances)), list(distances))
    axis.set(ylabel="distance to Task Arithmetic,\nits own way = 1")
    axis.grid(axis="x", visible=False)
    axis.legend()
    of = {
        name: f"{weights:.2f} in weights, {features:.2f} in features" for name, (weights, features) in distances.items()
    }
    sentence = "In units of Task Arithmetic's own way: "
    sentence += f"the random mask is off by {of['random']}; TSV-M by {of['TSV-M']}."
    return plots.titled(figure, sentence), sentence


def fair(chance: Mapping[str, Sequence[float]], results: Mapping[str, float], own: float) -> Drawn:
    """Test accuracies at equal effective scale: ten masks by chance of each kind, and the methods."""
    figure, axis = plt.subplots(figsize=(8, 3.8))
    for i, (name, values) in enumerate([*chance.items(), *((name, [value]) for name, value in results.items())]):
        by_chance = name in chance
        look: dict[str, Any] = {"marker": "o" if by_chance else "D", "color": plots.COLOURS[1 if by_chance else 0]}
        axis.plot(values, [i] * len(values), linestyle="", markersize=7, alpha=0.7, **look)
    axis.axvline(own, color="black", linewidth=1, linestyle=":")
    axis.text(own, -0.7, " literal at its own lam", fontsize=8)
    count = len(chance) + len(results)
    axis.set_yticks(range(count), [*(f"10 random, {kind}" for kind in chance), *results])
    axis.set(xlabel="test accuracy (%)", ylim=(count - 0.5, -1.0))
    blind, placed = chance["independent"], chance["shuffled"]
    sentence = f"Literal {results['literal']:.1f} %, at its own scale {own:.1f} %, abs {results['abs']:.1f} %; "
    sentence += f"ten random masks {min(blind):.1f} to {max(blind):.1f} %, "
    sentence += f"ten shuffled ones {min(placed):.1f} to {max(placed):.1f} %."
    return plots.titled(figure, sentence), sentence


def rounds_as_scale(
    grid: Mapping[tuple[int, float], tuple[float, float]], curve: Mapping[float, float], distance: float
) -> Drawn:
    """Every (T, p) by its effective scale and accuracy, on Task Arithmetic's curve.  distance: the largest from it"""
    figure, axis = plt.subplots(figsize=(7, 3.2))
    axis.plot(list(curve), list(curve.values()), color="0.5", marker="", label="Task Arithmetic")
    for i, p in enumerate(sorted({p for _, p in grid})):
        points = {T: point for (T, q), point in grid.items() if q == p}
        axis.plot(*zip(*points.values(), strict=True), plots.MARKERS[i], color=plots.COLOURS[i], label=f"p = {p}")
        for T in (min(points), max(points)):
            axis.annotate(f"T = {T}", points[T], (4, 5), textcoords="offset points", fontsize=7)
    axis.set(xlabel="effective scale", ylabel="accuracy (%), validation")
    axis.legend(fontsize=8)
    sentence = f"With p = 0.2 and lam = 1, accuracy goes from {grid[1, 0.2][1]:.0f} % after one round to "
    sentence += f"{grid[10, 0.2][1]:.0f} % after ten; all {len(grid)} merges are within {distance:.1f} points of Task "
    sentence += "Arithmetic's curve."
    return plots.titled(figure, sentence), sentence


def thinner(
    density: Sequence[float], choice: Sequence[float], chance: Sequence[Sequence[float]], lines: Mapping[str, float]
) -> Drawn:
    """SA-Merging and random masks where less and less is left; lines: accuracies to compare with, by name"""
    figure, axis = plt.subplots(figsize=(7, 3))
    for n, dots in enumerate(zip(*chance, strict=True)):
        axis.plot(density, dots, "o", linestyle="", color=plots.COLOURS[1], label="random" if n == 0 else None)
    axis.plot(density, choice, "D-", color=plots.COLOURS[0], label="SA-Merging")
    for name, height in lines.items():
        axis.axhline(height, color="black", linewidth=1, linestyle=":")
        axis.text(density[-1], height + 0.3, name, fontsize=8)
    axis.set(xscale="log", xlabel="density", ylabel="test accuracy (%)")
    axis.legend(loc="center right", bbox_to_anchor=(1, 0.3))
    above = sum(r > own for own, dots in zip(choice, chance, strict=True) for r in dots)
    sentence = f"{above} of {sum(map(len, chance))} random masks are above SA-Merging at their density; at "
    sentence += f"{density[1]:.3f} it has {choice[1]:.1f} %, they have {min(chance[1]):.1f} to {max(chance[1]):.1f} %."
    return plots.titled(figure, sentence), sentence
