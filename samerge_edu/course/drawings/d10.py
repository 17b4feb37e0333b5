"""The figures of notebook 10: two parameters under Fisher, sure and right, accuracy against images."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from ...plots import COLOURS, HATCHES, MARKERS, titled, within

Drawn = tuple[Figure, str]
Rows = Sequence[Mapping]
"""The points of `studies.data`: "method", "needs", "images", "id_avg", ..."""
LINES = ("Fisher", "RegMean", "AdaMerging", "TA + Surgery", "aTLAS", "fine-tuned average")
"""The methods of the figure, where nobody asks for others."""


def two_parameters(experts: torch.Tensor, fishers: torch.Tensor, merges: Mapping[str, torch.Tensor]) -> Drawn:
    """Experts (N, 2) with the ellipse in which each loses little, Fisher's diagonal (N, 2), and merges of them."""
    figure, axis = plt.subplots(figsize=(5, 3.6))
    t = torch.linspace(0, 6.2832, 100)
    for i, (theta, F) in enumerate(zip(experts, fishers, strict=True)):
        axis.plot(*theta, MARKERS[i], color=COLOURS[i], label=f"expert {i + 1}")
        axis.plot(
            theta[0] + 0.3 * t.cos() / F[0].sqrt(),
            theta[1] + 0.3 * t.sin() / F[1].sqrt(),
            "-",
            color=COLOURS[i],
            marker="",
        )
    for marker, (name, theta) in zip(("X", "*"), merges.items(), strict=False):
        axis.plot(*theta, marker, color="black", markersize=10, markerfacecolor="white", label=name)
    axis.set(xlabel="parameter 1", ylabel="parameter 2")
    axis.legend(fontsize=8)
    ends = ", ".join(f"{name} ({theta[0]:.1f}, {theta[1]:.1f})" for name, theta in merges.items())
    sentence = f"Long ellipses: directions in which an expert may be moved. {ends}."
    return titled(figure, sentence), sentence


def sure_and_right(seen: Sequence[Mapping]) -> Drawn:
    """Each task's way through entropy (nats) and accuracy while AdaMerging goes on: `studies.data.points`, "sure"."""
    figure, axis = plt.subplots(figsize=(6.5, 3.8))
    for i, task in enumerate(seen[0]["per_task"]):
        x, y = zip(*(point["per_task"][task] for point in seen), strict=True)
        axis.plot(x, y, color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], markevery=[-1], label=task)
        axis.plot(x[0], y[0], ".", color=COLOURS[i % len(COLOURS)], markersize=3)
    axis.set(xlabel="mean entropy of the answers (nats)", ylabel="accuracy on validation (%)")
    axis.invert_xaxis()
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    first, last = (list(point["per_task"].values()) for point in (seen[0], seen[-1]))
    worse = sum(b[0] < a[0] and b[1] < a[1] for a, b in zip(first, last, strict=True))
    sentence = f"To the right is surer, up is better; large marks: after {seen[-1]['steps']} steps. "
    sentence += f"{worse} of {len(first)} tasks became surer and worse."
    return titled(figure, sentence), sentence


def against_images(rows: Rows, free: Sequence[str], drawn: Sequence[str]) -> Drawn:
    """ID average against images a task, one line a method; the methods that see none are horizontal lines."""
    figure, axis = plt.subplots(figsize=(7.5, 4.2))
    for i, name in enumerate(free):
        [height] = [row["id_avg"] for row in rows if row["method"] == name]
        axis.axhline(height, color="0.5", linewidth=1, linestyle=[":", "--", "-."][i % 3], marker="")
        axis.text(400, height, f" {name}", fontsize=8, va="center")
    ends = {}
    for i, name in enumerate(drawn):
        line = sorted((row["images"], row["id_avg"]) for row in rows if row["method"] == name)
        axis.plot(*zip(*line, strict=True), color=COLOURS[i], marker=MARKERS[i], label=name)
        ends[name] = line[-1][1]
    axis.set(xscale="log", xlabel="images of each task", ylabel="ID average on test (%)")
    counts = sorted({row["images"] for row in rows if row["images"]})
    axis.set_xticks(counts, map(str, counts))
    axis.minorticks_off()
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.16, 1))
    best = max(ends.values())
    sentence = f"With the most images that were tried, {within(ends)} is highest, {best:.0f} %."
    return titled(figure, sentence), sentence


def at_budget(rows: Rows, images: int, free: Sequence[str]) -> Drawn:
    """Bars: every method at its largest number of images up to `images`, with those that look at none."""
    best: dict[str, Mapping] = {}
    for row in sorted(rows, key=lambda row: row["images"]):
        if row["images"] <= images and (row["images"] or row["method"] in free):
            best[row["method"]] = row
    figure, axis = plt.subplots(figsize=(4.8, 3.2))
    names = sorted(best, key=lambda name: best[name]["id_avg"])
    for i, name in enumerate(names):
        kind = ("none", "unlabelled", "labelled").index(best[name]["needs"])
        axis.barh(i, best[name]["id_avg"], color=COLOURS[kind], hatch=HATCHES[kind], edgecolor="white")
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set(xlabel="ID average (%)", xlim=(0, 100))
    first = within({name: row["id_avg"] for name, row in best.items()})
    sentence = (
        f"At most {images} images of each task: {first} leads. Plain bars: no image; hatched: images; dots: labels."
    )
    return titled(figure, sentence), sentence
