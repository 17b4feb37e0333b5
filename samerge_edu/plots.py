"""Figures, each with the sentence that reads it: `figure, sentence = accuracy_bars(...)`.

Readable without colour: the palette is made for colour-blind readers, and every series also has a marker, a hatch or
a label of its own. The sentence is computed from the data that was drawn, and is also the figure's title.
"""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from .evaluate import WIDTH
from .suites.suite import Suite

COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
"""Petroff's ten colours (2021, arXiv:2107.02270): told apart with the common colour-vision deficiencies."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "--", "++", "||", "**")


def style() -> None:
    """The figure style of the package and its notebooks: colours, markers and line styles change together."""
    lines = [(0, ()), (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (1, 1.5))] * 2
    plt.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=COLOURS) + plt.cycler(marker=MARKERS) + plt.cycler(linestyle=lines),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "grid.color": "0.9",
            "lines.markersize": 5,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 100,
            "savefig.dpi": 150,
        }
    )


# ---------------------------------------------------------------------------- contact sheet


def contact_sheet(suite: Suite, n: int = 4, web: Callable[[str, int], np.ndarray] | None = None) -> tuple[Figure, str]:
    """A few test images of every task: in-domain ones in web style beside their own style, and the out-of-domain ones.

    `n` images a task and style. `web(task, n)` gives an ID task's images in the style that the base model was
    trained on, uint8 (n, 3, H, W); without it only the own style is shown.
    """
    tasks = [*suite.id_tasks, *suite.ood_tasks]
    own = {task: suite.images(task, "test", n)[0] for task in tasks}
    everything = torch.cat(list(own.values()))  # undo the suite's normalisation: the darkest pixel is 0, the lightest 1
    low, high = everything.amin(dim=(0, 2, 3), keepdim=True), everything.amax(dim=(0, 2, 3), keepdim=True)

    strips = []
    for task in suite.id_tasks:
        if web is not None:
            strips.append((f"{task}\nweb style", np.asarray(web(task, n)) / 255))
        strips.append((f"{task}\nown style", ((own[task] - low) / (high - low)).cpu().numpy()))
    strips += [(f"{task}\nout of domain", ((own[task] - low) / (high - low)).cpu().numpy()) for task in suite.ood_tasks]

    inch = 0.6  # an image's side
    columns = min(8, max(2, 16 // n // 2 * 2))  # even, so that a task's two styles stand side by side
    rows = -(-len(strips) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=((n * inch + 0.15) * columns, (inch + 0.4) * rows + 0.4), squeeze=False
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (label, images) in zip(axes.flat, strips, strict=False):
        axis.imshow(np.concatenate(list(images.transpose(0, 2, 3, 1)), axis=1), interpolation="nearest")
        axis.text(0, 1.04, label, transform=axis.transAxes, va="bottom", fontsize=8)
    styles = "in web style and in their own" if web is not None else "in their own style"
    sentence = (
        f"The {suite.name} suite: {len(suite.id_tasks)} in-domain tasks, {styles}, "
        f"and {len(suite.ood_tasks)} out-of-domain tasks that no expert saw."
    )
    return titled(figure, sentence), sentence


# ---------------------------------------------------------------------------- accuracies


def accuracy_bars(suite: Suite, models: Mapping[str, Mapping[str, float]]) -> tuple[Figure, str]:
    """Accuracy by task, one bar a model: `models` is name -> {task: percent}, as `evaluate.scores` gives them."""
    tasks = [*suite.id_tasks, *suite.ood_tasks]
    figure, axis = plt.subplots(figsize=(min(12.0, 2.0 + 0.2 * len(tasks) * (len(models) + 1)), 3.6))
    width = 0.8 / len(models)
    for i, (name, per_task) in enumerate(models.items()):
        x = np.arange(len(tasks)) + (i - (len(models) - 1) / 2) * width
        face = COLOURS[i % len(COLOURS)]
        heights = [per_task[task] for task in tasks]
        axis.bar(x, heights, width, label=name, color=face, hatch=HATCHES[i % len(HATCHES)], edgecolor="white")
    axis.axvline(len(suite.id_tasks) - 0.5, color="0.4", linewidth=1)
    axis.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right")
    axis.text(len(suite.id_tasks) - 0.55, 101, "in-domain", ha="right", fontsize=8)
    axis.text(len(suite.id_tasks) - 0.45, 101, "out of domain", ha="left", fontsize=8)
    axis.set(ylabel="accuracy (%)", ylim=(0, 107), xlim=(-0.6, len(tasks) - 0.4))
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    averages = {name: mean(per_task[t] for t in suite.id_tasks) for name, per_task in models.items()}
    highest, lowest = max(averages.values()), min(averages.values())
    sentence = f"Highest in-domain average: {within(averages)}, {highest:.1f} %"
    sentence += f"; lowest: {within({k: -v for k, v in averages.items()})}, {lowest:.1f} %." if len(models) > 1 else "."
    return titled(figure, sentence), sentence


def pareto_front(points: Sequence[tuple[float, float]], width: float = 0.0) -> list[int]:
    """Indices of the points that no other beats: none is at least as good in both and better in one by over `width`.

    >>> pareto_front([(1.0, 5.0), (2.0, 4.0), (1.5, 3.0), (3.0, 1.0)])
    [0, 1, 3]
    >>> pareto_front([(1.0, 5.0), (1.1, 5.1), (9.0, 1.0)], width=1.0)
    [0, 1, 2]
    """

    def beaten(a: tuple[float, float]) -> bool:
        return any(b[0] >= a[0] and b[1] >= a[1] and max(b[0] - a[0], b[1] - a[1]) > width and b != a for b in points)

    return [i for i, point in enumerate(points) if not beaten(point)]


def within(values: Mapping[str, float], width: float = WIDTH) -> str:
    """The names whose value is the largest, or below it by `width` at most, as a set: "{TSV-M, Iso-C}".

    A sentence that names one winner turns round on another processor where two are as good as equal. The set says
    what is known; nbval does not compare what stands in braces.

    >>> within({"TIES": 73.8, "Iso-C": 79.7, "TSV-M": 80.2})
    '{Iso-C, TSV-M}'
    """
    best = max(values.values())
    return "{" + ", ".join(name for name, value in values.items() if value >= best - width) + "}"


def id_ood(record: Mapping) -> tuple[Figure, str]:
    """ID against OOD accuracy of every row of a leaderboard record, with the Pareto front marked.

    Hollow markers are at the published scale, filled ones at the scale chosen on validation; a thin line joins the
    two of one method. The front is that of the filled ones, up to `WIDTH` points. Base and experts are shown, but are
    no merges and take no part: the experts' point is not one model. With more than ten methods a second panel looks
    at the filled ones from nearby, and their names stand on both sides of it.
    """
    published = {r["method"]: r for r in record["rows"] if r["lam_from"] == "paper"}
    validated = {r["method"]: r for r in record["rows"] if r["lam_from"] == "validation"}
    points = {name: (row["id_avg"], row["ood_avg"]) for name, row in validated.items()}
    front = [list(points)[i] for i in pareto_front(list(points.values()), WIDTH)]
    stairs = sorted(points[name] for name in front)

    crowded = len(points) > 10
    figure = plt.figure(figsize=(14, 6) if crowded else (8, 5.5), layout="constrained")
    panels = list(figure.subplots(1, 1 + crowded, squeeze=False, width_ratios=[1, 1.6][: 1 + crowded]).flat)
    whole, near = panels[0], panels[-1]  # one and the same if there is one
    labels: dict[Axes, list] = {axis: [] for axis in panels}
    for i, (name, (x, y)) in enumerate(points.items()):
        marker = MARKERS[(i + i // len(MARKERS)) % len(MARKERS)]  # colour and marker together repeat after 100
        look = {"color": COLOURS[i % len(COLOURS)], "marker": marker, "markersize": 8}
        x_paper, y_paper = published[name]["id_avg"], published[name]["ood_avg"]
        whole.plot([x_paper, x], [y_paper, y], linestyle="-", linewidth=0.8, color=look["color"], marker="")
        whole.plot(x_paper, y_paper, linestyle="", markerfacecolor="white", **look)
        for axis in panels:
            axis.plot(x, y, linestyle="", **look)
        labels[near].append((x, y, name, "bold" if name in front else "normal"))
    for kind, name, marker in [("zero_shot", "zero-shot", "x"), ("experts", "experts", "+")]:
        x, y = record["reference"][kind]["id_avg"], record["reference"][kind]["ood_avg"]
        whole.plot(x, y, marker=marker, color="black", markersize=9, linestyle="")
        labels[whole].append((x, y, name, "normal"))
    for axis in panels:
        axis.plot(*zip(*stairs, strict=True), drawstyle="steps-pre", color="0.3", linestyle=":", marker="", zorder=0)
        axis.set(xlabel="ID average (%)", ylabel="OOD average (%)")
        axis.margins(0.15, 0.1)
    if crowded:
        near.set(title="the filled ones from nearby", ylabel="")
        near.margins(0.5, 0.1)

    h = {name: row["h"] for name, row in validated.items()}
    sentence = (
        f"On {record['suite']}, up to {WIDTH:g} point, none is better than {{{', '.join(front)}}} both at home and "
        f"abroad; the best H is {max(h.values()):.1f}, within {WIDTH:g} point by {within(h)}."
    )
    figure.supxlabel(
        "hollow: published scale · filled: scale from validation · dotted line and bold: Pareto front", fontsize=8
    )
    titled(figure, sentence)
    if crowded:
        _label_on_both_sides(near, labels.pop(near))
    for axis, texts in labels.items():  # at last: every title takes room from the panels
        _label(figure, axis, texts)
    return figure, sentence


def worst_average(record: Mapping) -> tuple[Figure, str]:
    """The worst ID task against the average of all, for every row of a leaderboard record at its validated scale.

    Methods of one average can differ by ten points here: on the vertical distance to the diagonal, which is the price
    that the average hides. Numbers stand for the names when there are more than ten, in the order of the record.
    """
    rows = [row for row in record["rows"] if row["lam_from"] == "validation"]
    crowded = len(rows) > 10
    figure, axis = plt.subplots(figsize=(13 if crowded else 8, 5.5), layout="constrained")
    labels = []
    for i, row in enumerate(rows):
        x, y, name = row["id_avg"], row["id_worst"], row["method"]
        marker = MARKERS[(i + i // len(MARKERS)) % len(MARKERS)]  # as in `id_ood`
        look: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": marker, "markersize": 8, "linestyle": ""}
        axis.plot(x, y, label=f"{i + 1:2} {name}", **look)
        labels.append((x, y, str(i + 1) if crowded else name, "normal"))
    base = record["reference"]["zero_shot"]
    axis.plot(base["id_avg"], base["id_worst"], marker="x", color="black", markersize=9, linestyle="")
    labels.append((base["id_avg"], base["id_worst"], "zero-shot", "normal"))
    axis.set(xlabel="ID average (%)", ylabel="worst ID task (%)")
    axis.margins(0.15, 0.1)
    if crowded:
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7.5, ncols=2)
    mean_best, worst_best = max(rows, key=lambda r: r["id_avg"]), max(rows, key=lambda r: r["id_worst"])
    sentence = (
        f"Highest ID average: {mean_best['method']}, {mean_best['id_avg']:.1f} % (worst task "
        f"{mean_best['id_worst']:.1f} %); highest worst task: {worst_best['method']}, {worst_best['id_worst']:.1f} % "
        f"(average {worst_best['id_avg']:.1f} %)."
    )
    titled(figure, sentence)
    _label(figure, axis, labels)
    return figure, sentence


Label = tuple[float, float, str, str]
"""x and y of a point, its name, the weight of the name's font."""


def _label(figure: Figure, axis: Axes, labels: Sequence[Label]) -> None:
    """Write each name beside its point: in the nearest place where it covers no point and no other name."""
    figure.draw_without_rendering()  # fixes the limits, so that data can be converted to pixels
    pixel = 72 / figure.dpi  # in points
    points = np.concatenate([axis.transData.transform(line.get_xydata()) for line in axis.lines])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in points]
    for x, y, name, weight in sorted(labels, key=lambda label: -label[1]):
        text = axis.annotate(
            name, (x, y), (0, 0), textcoords="offset points", va="center", fontsize=8, fontweight=weight,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.5},
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
        size, frame = Text.get_window_extent(text), axis.bbox  # the text's own size, without the line to the point
        here = Bbox.from_bounds(0, -size.height / 2, size.width, size.height).translated(
            *axis.transData.transform((x, y))
        )
        for dx, dy in _places(size.width, size.height):
            box = here.translated(dx, dy)
            inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            if inside and not box.count_overlaps(taken):
                break
        taken.append(box)
        text.set_position((dx * pixel, dy * pixel))


def _places(width: float, height: float) -> Iterator[tuple[float, float]]:
    """Ways, in pixels, to move a text whose left end is on a point: right, left, above, below, then further away."""
    for gap in range(8, 160, 4):
        for right, up in [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]:
            yield {1: gap, -1: -width - gap, 0: -width / 2}[right], up * (height / 2 + gap)


def _label_on_both_sides(axis: Axes, labels: Sequence[Label]) -> None:
    """Names in two columns beside the points, in the order of their heights, each with a line to its point."""
    by_x = sorted(labels)
    half = len(by_x) // 2
    for column, place, align in [(by_x[:half], 0.01, "left"), (by_x[half:], 0.99, "right")]:
        for row, (x, y, name, weight) in enumerate(sorted(column, key=lambda label: (label[1], label[0]))):
            axis.annotate(
                name, (x, y), (place, (row + 0.5) / len(column)), textcoords="axes fraction", ha=align, va="center",
                fontsize=7.5, fontweight=weight, path_effects=[withStroke(linewidth=2, foreground="white")],
                arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkB": 4,
                            "relpos": (1 if align == "left" else 0, 0.5)},
            )  # fmt: skip


def titled(figure: Figure, sentence: str) -> Figure:
    """The figure with its sentence as the title, broken into lines that fit its width."""
    width = int(figure.get_figwidth() * 11)
    figure.suptitle("\n".join(textwrap.wrap(sentence, width)), fontsize=10, x=0.01, ha="left")
    return figure


# ---------------------------------------------------------------------------- notebook 09


def directions_kept(
    S: torch.Tensor, noise: torch.Tensor, ranks: Sequence[int], accuracies: Sequence[float]
) -> tuple[Figure, str]:
    """Singular values of a matrix of each expert (N, r) and of a random one (r,); accuracy against directions kept."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
    for n, line in enumerate(S):
        left.plot(line / line.norm(), color=COLOURS[0], linewidth=1, marker="", label=None if n else "experts")
    left.plot(noise / noise.norm(), color="black", marker="", label="random numbers")
    left.set(xlabel="direction i", ylabel="strength, share of the length")
    left.legend()
    right.plot(ranks, accuracies)
    right.set(xscale="log", xlabel="directions kept in each matrix", ylabel="accuracy on the own task (%)")
    right.set_xticks(ranks, ranks)
    some = next(i for i, k in enumerate(ranks) if 8 * k >= ranks[-1])
    sentence = (
        f"With {ranks[some]} of {ranks[-1]} directions in each matrix an expert reaches {accuracies[some]:.0f} % "
        f"on its own task, with all of them {accuracies[-1]:.0f} %."
    )
    return titled(figure, sentence), sentence


def turned(pair: torch.Tensor, versions: Mapping[str, torch.Tensor]) -> tuple[Figure, str]:
    """Two directions, the columns of (2, 2), as they are (grey) and as each version turns them."""
    figure, axes = plt.subplots(1, len(versions), figsize=(7, 2.7))
    angles = []
    for axis, (name, X) in zip(axes, versions.items(), strict=True):
        for i, colour in enumerate(COLOURS[:2]):
            axis.arrow(0, 0, *pair[:, i].tolist(), color="0.8", width=0.01, length_includes_head=True)
            axis.arrow(0, 0, *X[:, i].tolist(), color=colour, width=0.02, length_includes_head=True)
        axis.set(xlim=(-0.6, 1.3), ylim=(-0.8, 1.1), aspect="equal", title=name)
        cosines = torch.nn.functional.cosine_similarity(X, pair, dim=0).clamp(-1, 1)
        angles.append(f"{name} " + " and ".join(f"{a:.0f}" for a in cosines.acos().rad2deg().tolist()))
    sentence = f"By how many degrees the two directions turn: {', '.join(angles)}."
    return titled(figure, sentence), sentence


def ranked(results: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> tuple[Figure, str]:
    """ID average (bar), worst ID task (triangle) and OOD average (square) of some merges, in the order given."""
    figure, axis = plt.subplots(figsize=(7, 0.34 * len(names) + 1.4))
    places = range(len(names), 0, -1)
    axis.barh(places, [results[m]["ID"] for m in names], color=COLOURS[0], height=0.6, label="ID average")
    for key, marker, colour, label in (
        ("worst", "<", COLOURS[2], "worst ID task"),
        ("OOD", "s", "black", "OOD average"),
    ):
        values = [results[m][key] for m in names]
        axis.plot(values, places, marker, linestyle="", color=colour, markerfacecolor="white", label=label)
    axis.set(xlabel="accuracy on test (%), lam from validation", xlim=(0, 102))
    axis.set_yticks(places, names, fontsize=9)
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    best, fair = (max(names, key=lambda m: results[m][key]) for key in ("ID", "worst"))
    sentence = (
        f"Highest average: {best}, {results[best]['ID']:.1f} %, its worst task {results[best]['worst']:.1f} %; "
        f"highest worst task: {fair}, {results[fair]['worst']:.1f} %, its average {results[fair]['ID']:.1f} %."
    )
    return titled(figure, sentence), sentence


def heard(S: torch.Tensor, shares: Mapping[str, float], k: int) -> tuple[Figure, str]:
    """The spectrum of a sum of experts, flat in Iso-C, and how much of each expert its k strongest directions hold."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
    left.plot(S, marker="", label="sum of the experts")
    left.axhline(S.mean(), color=COLOURS[1], linestyle="--", marker="", label="Iso-C")
    left.set(xlabel="direction i of the sum", ylabel="strength")
    left.legend()
    right.barh(list(shares), list(shares.values()), color=COLOURS[0])
    right.set(xlabel=f"length^2 inside the {k} strongest\ndirections of the sum (%)")
    right.invert_yaxis()
    least, most = min(shares, key=lambda task: shares[task]), max(shares, key=lambda task: shares[task])
    sentence = (
        f"The sum's strongest direction is {S[0] / S.mean():.1f} times the mean; its first {k} of {len(S)} hold "
        f"between {shares[least]:.0f} % ({least}) and {shares[most]:.0f} % ({most}) of an expert."
    )
    return titled(figure, sentence), sentence


def alike(table: torch.Tensor, tasks: Sequence[str]) -> tuple[Figure, str]:
    """Cosine of the real inputs' Gram of each task (rows) with each expert's stand-in (columns), (N, N)."""
    figure, axis = plt.subplots(figsize=(6, 4.6))
    image = axis.imshow(table.numpy(), cmap="viridis")
    figure.colorbar(image, label="cosine of the two Grams")
    axis.set_xticks(range(len(tasks)), tasks, rotation=40, ha="right")
    axis.set_yticks(range(len(tasks)), tasks)
    axis.set(xlabel="stand-in: tau^T tau of expert ...", ylabel="real inputs of task ...")
    axis.grid(visible=False)
    N = len(tasks)
    own, others = table.diagonal().mean(), (table.sum() - table.diagonal().sum()) / (N * N - N)
    sentence = f"A stand-in's cosine with the inputs of its own task is {own:.2f}, with those of another {others:.2f}."
    return titled(figure, sentence), sentence


def loss_accuracy(curves: Mapping[str, Sequence[tuple[float, float, str]]]) -> tuple[Figure, str]:
    """Accuracy against a loss that falls to the right: name -> its points (loss, accuracy, label)."""
    figure, axis = plt.subplots(figsize=(6.8, 3.8))
    for name, points in curves.items():
        axis.plot([x for x, _, _ in points], [y for _, y, _ in points], label=name)
        for x, y, text in points:
            axis.annotate(text, (x, y), (3, 4), textcoords="offset points", fontsize=8)
    axis.set(xlabel="WUDI's loss (log scale)", ylabel="ID accuracy (%), validation", xscale="log")
    axis.invert_xaxis()
    axis.legend(fontsize=8)
    ends = [f"{name} ends at loss {points[-1][0]:.3g} with {points[-1][1]:.1f} %" for name, points in curves.items()]
    sentence = "; ".join(ends) + "."
    return titled(figure, sentence), sentence


# ---------------------------------------------------------------------------- storage


def megabytes(rows: Sequence[Mapping], model_mb: float) -> tuple[Figure, str]:
    """ID and OOD average against what is kept beside one model of `model_mb`, both in millions of bytes.

    Filled: nobody tells the task (one model, or a router); hollow: the task is told. Rows of one "line" are joined.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), sharex=True)
    for axis, key, where in zip(axes, ("id_avg", "ood_avg"), ("ID", "OOD"), strict=True):
        for i, line in enumerate(dict.fromkeys(row["line"] for row in rows)):
            look: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
            for told in (False, True):
                ours = [row for row in rows if row["line"] == line and (row["asks"] == "task id") == told]
                style = {"linestyle": ":" if told else "-", "markerfacecolor": "white" if told else look["color"]}
                style |= {"linestyle": ""} if line == "one model" else {}
                x, y = [row["stored_mb"] for row in ours], [row[key] for row in ours]
                label = line if ours and line not in [drawn.get_label() for drawn in axis.lines] else None
                axis.plot(x, y, linewidth=1, label=label, **look, **style)
        axis.set_xscale("symlog", linthresh=0.1)
        axis.set_xticks([0, 0.1, 1, 10], ["0", "0.1", "1", "10"])
        axis.axvline(model_mb, color="0.6", linewidth=1)
        axis.set(xlabel="MB beside one model", ylabel=f"{where} average (%)", xlim=(-0.02, None))
    axes[0].text(model_mb, axes[0].get_ylim()[0], " one more model", fontsize=8, color="0.4", va="bottom")
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    untold = [row for row in rows if row["asks"] != "task id"]
    best = max(row["id_avg"] for row in untold)
    cheap = min((row for row in untold if row["id_avg"] >= best - WIDTH), key=lambda row: row["stored_mb"])
    alone = max(row["id_avg"] for row in untold if not row["stored_mb"])
    sentence = (
        f"Filled: nobody tells the task; hollow: it is told. Best single model at home: {alone:.1f} %; with a router "
        f"{best:.1f} %; the lightest within {WIDTH:g} point of it: {{{cheap['method']}}}, {cheap['stored_mb']:.1f} MB."
    )
    return titled(figure, sentence), sentence


# ---------------------------------------------------------------------------- two beginnings


def two_beginnings(widths: Sequence[Mapping], lines: Sequence[Mapping]) -> tuple[Figure, str]:
    """`studies.alignment`'s record: the mean of two MLPs against their width, and lines between two image towers."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    sizes = sorted({row["width"] for row in widths})
    for i, (key, label) in enumerate(
        {"ends": "each alone", "mean": "mean", "matched": "mean, matched", "zipped": "zipped"}.items()
    ):
        values = [[row[key] for row in widths if row["width"] == size] for size in sizes]
        left.plot(sizes, [mean(v) for v in values], label=label)
        left.fill_between(sizes, [min(v) for v in values], [max(v) for v in values], color=COLOURS[i], alpha=0.2)
    left.set(xscale="log", xlabel="hidden units in a layer of two MLPs", ylabel="accuracy on digits (test, %)")
    left.set_xticks(sizes, sizes)
    left.minorticks_off()
    left.legend(fontsize=8)
    names = {"copy": "a copy of ours, permuted", "stranger": "the stranger"}
    for row in lines:
        t = np.linspace(0, 1, len(row["line"]))
        right.plot(t, row["line"], label=f"{names.get(row['to'], row['to'])}, {row['way']}")
    right.set(xlabel="from our digits expert (0) to ... (1)", ylabel="accuracy on digits (test, %)")
    right.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.52, 0.94))
    wide = {key: mean(row[key] for row in widths if row["width"] == sizes[-1]) for key in ("mean", "matched")}
    falls = {(row["to"], row["way"]): row["barrier"] for row in lines}
    sentence = (
        f"Mean of two MLPs of width {sizes[-1]}: {wide['mean']:.0f} % as they are, {wide['matched']:.0f} % matched. "
        f"Between two ViTs the barrier is {falls['stranger', 'as it is']:.0f} points, matched "
        f"{falls['stranger', 'matched']:.0f}; to a permuted copy {falls['copy', 'as it is']:.0f}, matched "
        f"{falls['copy', 'matched']:.0f}."
    )
    return titled(figure, sentence), sentence


def carried(rows: Sequence[Mapping]) -> tuple[Figure, str]:
    """`studies.alignment`'s "release": the share of each expert's gain that is kept on another base."""
    figure, axis = plt.subplots(figsize=(8, 3.8))
    names = {"pocket-second-base": "the second release"}
    rows = [{**row, "to": names.get(row["to"], row["to"])} for row in rows]
    bars = list(dict.fromkeys((row["to"], row["way"]) for row in rows))
    kept = {bar: [row["kept"] for row in rows if (row["to"], row["way"]) == bar] for bar in bars}
    bases = list(dict.fromkeys(to for to, _ in bars))
    for place, bar in enumerate(bars):
        colour = bases.index(bar[0])
        axis.barh(place, mean(kept[bar]), color=COLOURS[colour], hatch=HATCHES[colour], height=0.6, alpha=0.8)
        axis.plot(kept[bar], [place] * len(kept[bar]), "o", color="black", markerfacecolor="white", markersize=4)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(bars)), [f"{to}: {way}" for to, way in bars], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel="share of the expert's gain kept on the new base (%), bar: mean, rings: tasks")
    axis.grid(axis="y", visible=False)
    best = {to: max(mean(kept[bar]) for bar in bars if bar[0] == to) for to in bases}
    sentence = "Gain kept at best: " + "; ".join(f"on {to} {value:.0f} %" for to, value in best.items()) + "."
    return titled(figure, sentence), sentence


# ---------------------------------------------------------------------------- studies


def by_number_of_experts(curves: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]]) -> tuple[Figure, str]:
    """Accuracy at home and abroad by number of experts: method -> "id" and "ood" -> N -> one number a subset."""
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 3.8))
    for axis, key, label in zip(axes, ("id", "ood"), ("merged tasks", "OOD tasks"), strict=True):
        for i, (name, of_key) in enumerate(curves.items()):
            sizes = np.array(list(of_key[key]))
            middle, spreads = (np.array([f(of_key[key][N]) for N in sizes]) for f in (np.mean, np.std))
            axis.errorbar(
                sizes + 0.06 * (i - 2.5), middle, spreads, label=name, capsize=2, linewidth=1.2, elinewidth=0.7
            )
        axis.set(xlabel="experts merged", ylabel=f"accuracy (%), mean of the {label}")
    axes[0].legend(fontsize=7)
    most = max(max(of_key["id"]) for of_key in curves.values())
    ends = {key: {name: mean(of_key[key][most]) for name, of_key in curves.items()} for key in ("id", "ood")}
    sentence = (
        f"With {most} experts the best at home are {within(ends['id'])}, {max(ends['id'].values()):.0f} %, "
        f"and abroad {within(ends['ood'])}, {max(ends['ood'].values()):.0f} %."
    )
    return titled(figure, sentence), sentence


def further_experts(
    steps: Mapping[str, Sequence[Sequence[float]]], shares: Mapping[str, Sequence[float]]
) -> tuple[Figure, str]:
    """Points that each further expert gains, method -> N -> one an order; beside it shares, name -> N -> value."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.6))
    for i, (name, gained) in enumerate(steps.items()):
        sizes = np.arange(1, len(gained) + 1)
        middle, spreads = ([f(x) for x in gained] for f in (np.mean, np.std))
        left.errorbar(sizes + 0.06 * (i - 2.5), middle, spreads, label=name, capsize=2, linewidth=1.2, elinewidth=0.7)
    left.axhline(0, color="0.5", linewidth=1)
    left.set(xlabel="expert number", ylabel="points gained over all experts' tasks")
    left.legend(fontsize=7)
    for name, values in shares.items():
        right.plot(range(1, len(values) + 1), values, label=name)
    right.set(xlabel="experts", ylabel="share of the largest possible", ylim=(0, None))
    right.legend(fontsize=7)
    first, last = ({name: mean(gained[i]) for name, gained in steps.items()} for i in (0, -1))
    sentence = (
        f"The first expert gains {min(first.values()):.1f} to {max(first.values()):.1f} points over all tasks, "
        f"the last {min(last.values()):.1f} to {max(last.values()):.1f}."
    )
    return titled(figure, sentence), sentence


def trained_for_merging(
    home: Mapping[str, Sequence[float]],
    abroad: Mapping[str, Sequence[float]],
    masks: Mapping[str, Mapping[str, tuple[float, float]]],
) -> tuple[Figure, str]:
    """Experts of some suites at home and abroad, one a task; and suite -> mask -> (gain over the plain sum, spread)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.4), gridspec_kw={"width_ratios": [2, 3]})
    for suite in home:
        left.plot(abroad[suite], home[suite], linestyle="", label=suite)
    left.set(xlabel="OOD average of the expert (%)", ylabel="accuracy on its own task (%)")
    left.legend(fontsize=8)
    for i, (suite, gains) in enumerate(masks.items()):
        places = np.arange(len(gains)) + 0.2 * (i - 0.5)
        values, spreads = zip(*gains.values(), strict=True)
        right.errorbar(values, places, xerr=spreads, linestyle="", capsize=2, label=suite)
    right.axvline(0, color="0.5", linewidth=1)
    right.set_yticks(range(len(gains)), gains, fontsize=8)
    right.invert_yaxis()
    right.set(xlabel="ID average minus that of the plain sum\n(points; mean and spread over subsets)")
    forgets = " and ".join(f"{mean(abroad[s]):.0f} ({s})" for s in abroad)
    best = {s: max(gains, key=lambda mask: gains[mask][0]) for s, gains in masks.items()}
    found = "; ".join(f"{s}: {best[s]} {masks[s][best[s]][0]:+.1f} ({masks[s][best[s]][1]:.1f})" for s in masks)
    sentence = f"Abroad the experts reach {forgets} %. The best mask beside the plain sum, with its spread: {found}."
    return titled(figure, sentence), sentence


def soups(results: Mapping[str, Mapping[str, tuple[float, float]]]) -> tuple[Figure, str]:
    """Test accuracy of runs of one task, alone and together: suite -> what -> (mean, spread)."""
    figure, axes = plt.subplots(1, len(results), figsize=(8.2, 3.2), sharex=True)
    for axis, (suite, rows) in zip(np.atleast_1d(axes), results.items(), strict=True):
        values, spreads = zip(*rows.values(), strict=True)
        alone = [name.startswith("alone") for name in rows]
        colours = [COLOURS[3] if a else COLOURS[0] for a in alone]
        axis.barh(range(len(rows)), values, xerr=spreads, color=colours, height=0.6, capsize=2)
        axis.set_yticks(range(len(rows)), [name.removeprefix("alone: ") for name in rows], fontsize=8)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set(xlabel="test accuracy (%)", title=suite, xlim=(min(min(values) - 5, 80), 100))
    found = []
    for suite, rows in results.items():
        together = {name: value for name, (value, _) in rows.items() if not name.startswith("alone")}
        found.append(f"{suite}: {within(together)}, {max(together.values()):.1f} %")
    sentence = f"Best of what can be had without the test images: {'; '.join(found)}."
    return titled(figure, sentence), sentence


def begun_orthogonally(
    answer: Mapping[str, float], merged: Mapping[str, Mapping[str, tuple[float, float]]]
) -> tuple[Figure, str]:
    """How strongly kinds of LoRA experts answer the others' inputs; merge -> kind -> (ID average, spread)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.2), gridspec_kw={"width_ratios": [2, 3]})
    left.barh(list(answer), list(answer.values()), color=COLOURS[: len(answer)], height=0.6)
    left.invert_yaxis()
    left.set(xlabel="answer to the others' inputs (own = 1)")
    left.grid(axis="y", visible=False)
    for i, kind in enumerate(answer):
        values, spreads = zip(*(of_kind[kind] for of_kind in merged.values()), strict=True)
        right.errorbar(np.arange(len(merged)) + 0.12 * (i - 1), values, spreads, linestyle="", capsize=2, label=kind)
    right.set_xticks(range(len(merged)), merged)
    right.set(ylabel="ID average (%)")
    right.legend(fontsize=8)
    best = {name: within({kind: value for kind, (value, _) in of_kind.items()}) for name, of_kind in merged.items()}
    sentence = f"Best experts to merge: {'; '.join(f'by {name} {kinds}' for name, kinds in best.items())}."
    return titled(figure, sentence), sentence
