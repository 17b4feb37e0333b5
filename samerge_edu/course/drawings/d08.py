"""The figures of notebook 08: distortion, the shared mask, curves over lam, one layer at a time, shuffles, size."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ... import plots
from ...evaluate import WIDTH, h_score

Drawn = tuple[Figure, str]
Point = tuple[float, float]
"""ID and OOD average, in percent."""


def distorted(cosines: Mapping[str, float], left: Mapping[str, float]) -> Drawn:
    """The experts abroad: cosine with the base's features, and the OOD average.  left: has the base, too"""
    figure, axis = plt.subplots(figsize=(6.5, 3.6))
    axis.axhline(left["base"], color="0.5", linestyle=":")
    axis.text(0.99, left["base"] - 1, "base", ha="right", va="top", fontsize=8)
    for i, task in enumerate(cosines):
        look: dict[str, Any] = {"color": plots.COLOURS[i], "markersize": 8}
        axis.plot(cosines[task], left[task], plots.MARKERS[i], label=task, **look)
    axis.set(xlabel="mean cosine with the base's features of the same image", ylabel="OOD average (%)")
    axis.set_xlim(right=1.0)
    axis.legend(fontsize=8, ncol=2)
    sentence = f"Every expert moves features of tasks it never saw: cosines are {min(cosines.values()):.2f} to "
    sentence += f"{max(cosines.values()):.2f}, and the OOD average falls from {left['base']:.0f} % "
    sentence += f"to {mean(left[task] for task in cosines):.0f} % on average."
    return plots.titled(figure, sentence), sentence


def mask_map(M: Mapping[str, bool], votes: Mapping[str, int], N: int) -> Drawn:
    """Which layers the shared mask keeps, by kind and depth; the number: how many of the N tasks want it."""
    inside = [name for name in M if "resblocks." in name]
    depth = 1 + max(int(name.split("resblocks.")[1].split(".")[0]) for name in inside)
    kinds = sorted({name.split("resblocks.")[1].split(".", 1)[1] for name in inside})
    rows = [(kind, [f"transformer.resblocks.{b}.{kind}" for b in range(depth)]) for kind in kinds]
    rows += [(name, [name]) for name in M if name not in inside]
    figure, axis = plt.subplots(figsize=(7, 6))
    for y, (_, row) in enumerate(rows):
        width = depth / len(row)  # tensors outside the blocks belong to no depth
        for x, name in enumerate(row):
            look: dict[str, Any] = {
                "color": plots.COLOURS[0] if M[name] else "0.85",
                "alpha": 0.25 + 0.75 * votes[name] / N,
            }
            axis.add_patch(plt.Rectangle((x - 0.47, y - 0.42), width - 0.06, 0.84, **look))
            axis.text(x + (width - 1) / 2, y, str(votes[name]), ha="center", va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=8)
    axis.set_xticks(range(depth), [f"block {b}" for b in range(depth)])
    axis.set(xlim=(-0.6, depth - 0.4), ylim=(len(rows) - 0.4, -0.6))
    axis.grid(visible=False)
    axis.axhline(len(kinds) - 0.5, color="0.4", linewidth=1)
    weights, biases = ([name for name in M if name.endswith(end)] for end in ("weight", "bias"))
    sentence = f"The shared mask keeps {sum(M[n] for n in weights)} of {len(weights)} weight tensors "
    sentence += f"and {sum(M[n] for n in biases)} of {len(biases)} biases."
    return plots.titled(figure, sentence), sentence


def curves(lines: Mapping[str, Mapping[float, Point]], chosen: Mapping[str, Point], base: Point) -> Drawn:
    """ID against OOD over lam.  lines: method -> lam -> point, chosen: method -> point at the validated lam"""
    figure, axis = plt.subplots(figsize=(6.5, 4.2))
    for i, (name, points) in enumerate(lines.items()):
        look: dict[str, Any] = {"color": plots.COLOURS[2 * i], "linestyle": ("-", "--")[i]}
        axis.plot(*zip(*points.values(), strict=True), marker=plots.MARKERS[i], label=name, **look)
        end = max(points)  # the other end of both curves is near the base, and near each other
        place: dict[str, Any] = {"xytext": ((8, -3), (-8, -3))[i], "ha": ("left", "right")[i]}
        axis.annotate(f"lam = {end}", points[end], textcoords="offset points", fontsize=8, color="0.2", **place)
        axis.plot(*chosen[name], "o", markersize=14, markerfacecolor="none", color=look["color"])
    axis.plot(*base, "x", color="black", linestyle="", label="base")
    axis.set(xlabel="ID average (%)", ylabel="OOD average (%)")
    axis.margins(0.14, 0.08)
    axis.legend(loc="best", fontsize=8)
    sentence = "At the lam chosen on validation (circles): "
    sentence += "; ".join(f"{name} {home:.1f} % at home, {out:.1f} % abroad" for name, (home, out) in chosen.items())
    largest = max(max(points) for points in lines.values())
    sentence += f". At lam = {largest} they have " + " and ".join(f"{p[largest][1]:.0f} %" for p in lines.values())
    sentence += " abroad."
    return plots.titled(figure, sentence), sentence


def turned(
    grid: Mapping[tuple[float, float], Point], kept: Mapping[float, int], layers: int, eta: float, lam: float
) -> Drawn:
    """One setting of eta among the others, at one lam.  grid: (eta, lam) -> point, kept: eta -> layers that stay"""
    figure, axis = plt.subplots()
    for e in kept:
        axis.plot(*grid[e, lam], "o", color="0.7")
        place = (4, 4) if e else (-9, 4)
        axis.annotate(f"{e:g}", grid[e, lam], place, textcoords="offset points", fontsize=7, color="0.4")
    home, out = grid[eta, lam]
    axis.plot(home, out, "o", markersize=11, color=plots.COLOURS[2])
    xs, ys = zip(*grid.values(), strict=True)
    axis.set(xlabel="ID average (%)", ylabel="OOD average (%)")
    axis.set(xlim=(min(xs) - 2, max(xs) + 2), ylim=(min(ys) - 3, max(ys) + 3))
    sentence = f"eta = {eta:g}, lam = {lam:g}: {kept[eta]} of {layers} layers stay; "
    sentence += f"ID {home:.1f} %, OOD {out:.1f} %, H {h_score(home, out):.1f}."
    return plots.titled(figure, sentence), sentence


def one_at_a_time(nothing: Point, alone: Mapping[str, Point], everything: Point, culprit: str) -> Drawn:
    """What each layer does if it alone is given back to the base, between none of them and all of them."""
    figure, axis = plt.subplots(figsize=(7, 0.35 * len(alone) + 1.8))
    for i, (home, out) in enumerate((nothing, *alone.values(), everything)):
        axis.plot([home, out], [i, i], "-", marker="", color="0.8")
        axis.plot(home, i, "o", color=plots.COLOURS[0], label="ID" if i == 0 else None)
        axis.plot(out, i, "s", color=plots.COLOURS[2], label="OOD" if i == 0 else None)
    rows = [f"only {name.replace('transformer.resblocks.', 'block ')}" for name in alone]
    axis.set_yticks(range(len(alone) + 2), ["nothing given back (TA)", *rows, "all of LwPTV's"])
    axis.invert_yaxis()
    axis.set(xlabel="accuracy (%)")
    axis.legend(fontsize=8)
    sentence = f"Giving back {culprit} alone moves OOD from {nothing[1]:.0f} % to {alone[culprit][1]:.0f} %; "
    sentence += f"all of LwPTV reaches {everything[1]:.0f} %."
    return plots.titled(figure, sentence), sentence


def shuffles(
    given: Sequence[Point], merged: Sequence[Point], real: Point, plain: Point, layer: str, expected: float
) -> Drawn:
    """Shuffled masks that give one layer back and those that merge it; LwPTV's own (real) and none (plain)."""
    figure, axis = plt.subplots(figsize=(6.5, 4))
    for cloud, marker, name in ((merged, "v", "merged"), (given, "^", "given back")):
        axis.plot(*zip(*cloud, strict=True), marker, linestyle="", label=f"shuffled, {layer} {name}")
    axis.plot(*real, "*", markersize=14, color=plots.COLOURS[2], label="LwPTV")
    axis.plot(*plain, "x", color="black", label="Task Arithmetic")
    axis.set(xlabel="ID average (%)", ylabel="OOD average (%)")
    axis.legend(fontsize=8)
    sentence = f"{len(given)} of {len(given) + len(merged)} shuffled masks give {layer} back by chance ({expected:.1f} "
    sentence += f"were to be expected): OOD {mean(out for _, out in given):.0f} % on average, the others "
    sentence += f"{mean(out for _, out in merged):.0f} %; LwPTV {real[1]:.0f} %."
    return plots.titled(figure, sentence), sentence


def own_or_size(size: Float[Tensor, "N L"], S: Float[Tensor, "N L"], same: float) -> Drawn:
    """S of Eq. 5 against the mean |tau| of each layer and task.  same: share of layers with one mask, in percent"""
    figure, axis = plt.subplots(figsize=(5, 3.8))
    axis.plot(size.flatten().tolist(), S.flatten().tolist(), "o", linestyle="", markersize=3, alpha=0.5)
    axis.axline((0, 0), slope=1, color="0.5", linestyle=":")
    axis.set(xlabel="size: mean |tau| of a layer and task", ylabel="S: mean distance from the mean")
    sentence = f"With {len(S)} tasks, S is nearly the size of the task vector: "
    sentence += f"both masks agree on {same:.0f} % of the layers."
    return plots.titled(figure, sentence), sentence


def board(points: Mapping[str, Point]) -> Drawn:
    """Variants in the ID/OOD plane, those that no other beats by a point marked."""
    figure, axis = plt.subplots(figsize=(6.5, 4))
    front = plots.pareto_front(list(points.values()), WIDTH)
    for i, (name, (home, out)) in enumerate(points.items()):
        look: dict[str, Any] = {"marker": plots.MARKERS[i], "color": plots.COLOURS[i], "markersize": 9, "linestyle": ""}
        axis.plot(home, out, **look, label=name + (" (Pareto front)" if i in front else ""))
    axis.set(xlabel="ID average (%)", ylabel="OOD average (%)")
    axis.legend(fontsize=8)
    h = {name: h_score(*point) for name, point in points.items()}
    sentence = "H at the lam chosen on validation: " + ", ".join(f"{name} {value:.1f}" for name, value in h.items())
    sentence += f"; within {WIDTH:g} point of the best: {plots.within(h)}."
    return plots.titled(figure, sentence), sentence
