"""The figures of notebook 11: who is sent where, how sure the router is, the line between two networks, a budget."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...plots import COLOURS, HATCHES, MARKERS, titled, within

Drawn = tuple[Figure, str]


def confusion(share: Tensor, tasks: Sequence[str], experts: Sequence[str]) -> Drawn:
    """(tasks, experts): the share of a task's images that a router sends to an expert; tasks with an expert first."""
    figure, axis = plt.subplots(figsize=(6, 0.3 * len(tasks) + 1.4))
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(share.tolist()):
        for j, x in enumerate(row):
            if x >= 0.005:
                axis.text(
                    j, i, f"{100 * x:.0f}", ha="center", va="center", fontsize=8, color="white" if x > 0.5 else "black"
                )
    axis.set_xticks(range(len(experts)), experts, rotation=35, ha="right", fontsize=8)
    axis.set_yticks(range(len(tasks)), tasks, fontsize=8)
    axis.axhline(len(experts) - 0.5, color="black", linewidth=1)
    axis.set(xlabel="expert that the router chooses (%)")
    axis.grid(visible=False)
    own, most = share[: len(experts)].diagonal(), share[len(experts) :].amax(dim=1)
    sentence = (
        f"Above the line {100 * own.min():.0f} to {100 * own.max():.0f} % of a task's images reach their own expert. "
        f"Below it nobody has one: the most frequent choice gets {100 * most.min():.0f} to {100 * most.max():.0f} %."
    )
    return titled(figure, sentence), sentence


def doubt(home: Tensor, abroad: Tensor, threshold: float, right_home: Tensor, right_abroad: Tensor) -> Drawn:
    """The largest weight of each image (n,), and whether it is right (n, 2) by (the expert chosen, the base)."""
    figure, axis = plt.subplots(figsize=(4.8, 3.2))
    bins = [i / 20 for i in range(21)]
    axis.hist([home, abroad], bins, color=COLOURS[:2], label=["tasks with an expert", "tasks without"])
    axis.axvline(threshold, color="black", linestyle="--", linewidth=1, marker="")
    axis.set(xlabel="the router's largest weight", ylabel="images")
    axis.legend(fontsize=8, loc="upper left")
    got = [behind(sure, threshold, right) for sure, right in ((home, right_home), (abroad, right_abroad))]
    sentence = f"Below {threshold:.2f} to the base: {got[0]:.1f} % right at home, {got[1]:.1f} % abroad."
    return titled(figure, sentence), sentence


def behind(sure: Tensor, threshold: float, right: Tensor) -> float:
    """Accuracy in percent if images below the threshold get the base: `right` (n, 2), by expert and by base.

    >>> behind(torch.tensor([0.9, 0.4]), 0.5, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    100.0
    """
    return 100 * torch.where(sure >= threshold, right[:, 0], right[:, 1]).mean().item()


def along(lines: Mapping[str, Sequence[float]], ends: str) -> Drawn:
    """Accuracy at even steps from one network to another; `ends`: what stands at 0 and 1."""
    figure, axis = plt.subplots(figsize=(5.5, 3.4))
    lowest = {}
    for i, (name, line) in enumerate(lines.items()):
        t = [j / (len(line) - 1) for j in range(len(line))]
        axis.plot(t, line, color=COLOURS[i], marker=MARKERS[i], label=name)
        lowest[name] = min(line)
    axis.set(xlabel=ends, ylabel="accuracy (%)", ylim=(0, 102))
    axis.legend(fontsize=8, loc="lower right")
    sentence = "Lowest point of the line: " + ", ".join(f"{name} {value:.0f} %" for name, value in lowest.items()) + "."
    return titled(figure, sentence), sentence


def at_budget(rows: Sequence[Mapping], megabytes: float, told: bool) -> Drawn:
    """Bars: of each line of `studies.storage` the row that is best at home within the budget, if the task is told."""
    best: dict[str, Mapping] = {}
    for row in rows:
        fits = row["stored_mb"] <= megabytes and (told or row["asks"] != "task id") and row["method"] != "base"
        if fits and row["id_avg"] > best.get(row["line"], {"id_avg": -1})["id_avg"]:
            best[row["line"]] = row
    figure, axis = plt.subplots(figsize=(4.8, 3.2))
    chosen = sorted(best.values(), key=lambda row: row["id_avg"])
    for i, row in enumerate(chosen):
        kind = ("", "router", "task id").index(row["asks"])
        axis.barh(i, row["id_avg"], color=COLOURS[kind], hatch=HATCHES[kind], edgecolor="white")
    axis.set_yticks(range(len(chosen)), [f"{row['method']}, {row['stored_mb']:.1f} MB" for row in chosen], fontsize=7)
    axis.set(xlabel="ID average (%)", xlim=(0, 100))
    first = within({row["method"]: row["id_avg"] for row in chosen})
    sentence = f"At most {megabytes} MB, the task is {'told' if told else 'not told'}: {first} leads at home."
    return titled(figure, sentence), sentence
