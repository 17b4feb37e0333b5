"""Figures of notebook 07: ranks kept against accuracy, lots, gauges, and every row side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ... import plots

Row = tuple[float, float]
"""The scale that validation chose, and the ID average on test."""


def scale_curves(
    grid: Sequence[float], curves: Mapping[str, Sequence[float]], everything: Sequence[float], title: str
) -> tuple[Figure, str]:
    """ID average on validation against lam, one line a way of choosing ranks; in grey with all ranks."""
    figure, axis = plt.subplots()
    for way, curve in curves.items():
        axis.plot(grid, curve, label=way)
    axis.plot(grid, everything, color="0.7", marker="", label="all ranks", zorder=0)
    axis.set(xlabel="lam", ylabel="ID average, validation (%)", xscale="log", ylim=(15, 85))
    axis.set_xticks(grid, [f"{lam:g}" for lam in grid])
    axis.minorticks_off()
    axis.legend(fontsize=8, loc="lower left")
    tops = [f"{way} {max(curve):.0f} % at lam {grid[curve.index(max(curve))]:g}" for way, curve in curves.items()]
    sentence = f"{title}: {', '.join(tops)}."
    return plots.titled(figure, sentence), sentence


def ranks_kept(kept: Mapping[tuple[str, int], Row], r: int) -> tuple[Figure, str]:
    """ID average on test against the number of ranks kept; `kept` is (way, ranks) -> row, of r ranks in all."""
    ways, ranks = list(dict.fromkeys(way for way, _ in kept)), list(dict.fromkeys(k for _, k in kept))
    figure, axis = plt.subplots(figsize=(6, 3.6))
    for way in ways:
        axis.plot(ranks, [kept[way, k][1] for k in ranks], label=way)
    axis.set(xlabel=f"ranks kept of {r}", ylabel="ID average, test (%)", xscale="log")
    axis.set_xticks(ranks, [str(k) for k in ranks])
    axis.minorticks_off()
    axis.legend(fontsize=8)
    few = min(ranks)
    sentence = (
        f"By saliency from {kept['saliency', r][1]:.1f} % with {r} ranks to {kept['saliency', few][1]:.1f} % with "
    )
    ahead = (f"{plots.within({way: kept[way, k][1] for way in ways})} at {k}" for k in ranks if k < r)
    sentence += f"{few}. Ahead, up to a point: {', '.join(ahead)}."
    return plots.titled(figure, sentence), sentence


def against_lots(
    by_chance: Sequence[float], real: Mapping[str, float], everything: float, keep: int, r: int
) -> tuple[Figure, str]:
    """Each draw of lots as a point, the rules beside them, all ranks as a line; with the p-value of exercise 06.5."""
    figure, axis = plt.subplots(figsize=(6.5, 2.4))
    heights = [0.1 * (i % 3 - 1) for i in range(len(by_chance))]
    axis.plot(by_chance, heights, "o", color="0.6", label="random ranks")
    for i, (name, value) in enumerate(real.items()):
        look: dict[str, Any] = {"color": plots.COLOURS[i], "markersize": 11, "label": name}
        axis.plot(value, 0.15 - 0.15 * i, plots.MARKERS[i + 1], **look)
    axis.axvline(everything, color="0.6", linewidth=1, label="all ranks")
    axis.set(xlabel="ID average, test (%)", yticks=[], ylim=(-0.5, 0.5))
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    n, sentence = len(by_chance), f"{keep} of {r} ranks. "
    for name, value in real.items():
        below = sum(value > x for x in by_chance)
        sentence += f"{name[0].upper()}{name[1:]}: {value - sum(by_chance) / n:+.1f} points beside the mean of {n} "
        sentence += f"draws, better than {below} of them (p {(1 + n - below) / (1 + n):.2f}). "
    return plots.titled(figure, sentence.strip()), sentence.strip()


def left_out(errors: Mapping[str, Sequence[float]], task: str, keep: int) -> tuple[Figure, str]:
    """Relative error of one expert's update against the components kept, 1, 2, ..., r of them, in each gauge."""
    figure, axis = plt.subplots(figsize=(6, 3.4))
    for name, values in errors.items():
        axis.plot(range(1, len(values) + 1), values, label=name)
    axis.set(xlabel="components kept, the largest first", ylabel="relative error of the update", ylim=(0, 1.05))
    axis.legend(fontsize=8)
    r = max(len(values) for values in errors.values())
    sentence = f"{task}: {keep} of {r} components miss the update by "
    sentence += ", ".join(f"{100 * values[keep - 1]:.0f} % ({name})" for name, values in errors.items()) + "."
    return plots.titled(figure, sentence), sentence


def gauges(alone: Mapping[str, float], merged: Mapping[str, float], lots: float, of: str) -> tuple[Figure, str]:
    """The pruned experts on their own tasks, and their merge, in each gauge; `lots` is the mean of random ranks."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), sharey=True)
    for axis, values, what in zip(axes, (alone, merged), ("pruned experts, own task", "their merge"), strict=True):
        for y, value in enumerate(values.values()):
            axis.plot(value, y, plots.MARKERS[y], color=plots.COLOURS[y], markersize=9)
            axis.text(value, y - 0.22, f"{value:.1f}", ha="center", fontsize=8)
        axis.set(xlabel=f"{what}: ID average, test (%)", ylim=(len(values) - 0.6, -0.6))
        axis.margins(x=0.15)
    axes[0].set_yticks(range(len(alone)), list(alone))
    axes[1].axvline(lots, color="0.6", linewidth=1)
    axes[1].annotate("random ranks, mean", (lots, 0.5), (3, 0), textcoords="offset points", fontsize=8, color="0.4")
    sentence = f"The same experts, {of} ranks. Alone: "
    sentence += ", ".join(f"{value:.0f} % ({name})" for name, value in alone.items()) + ". Merged: "
    sentence += ", ".join(f"{value:.1f} % ({name})" for name, value in merged.items())
    sentence += f", random ranks as trained {lots:.1f} % on average."
    return plots.titled(figure, sentence), sentence


def side_by_side(board: Mapping[str, Row], plain: str) -> tuple[Figure, str]:
    """Every row by its accuracy, with its scale; the sentence names those ahead, and the row `plain`."""
    figure, axis = plt.subplots(figsize=(7, 4))
    ranked = sorted(board, key=lambda name: board[name][1])
    for y, name in enumerate(ranked):
        lam, result = board[name]
        ours = name.startswith("SA-LoRA")
        axis.plot(result, y, "s" if ours else "o", color=plots.COLOURS[2] if ours else "0.5", markersize=8)
        axis.text(result + 0.2, y, f"{result:.1f} (lam {lam:g})", va="center", fontsize=8)
    axis.set_yticks(range(len(ranked)), ranked)
    axis.set(xlabel="ID average, test (%)", xlim=(board[ranked[0]][1] - 1, board[ranked[-1]][1] + 3))
    best = {name: result for name, (_, result) in board.items()}
    sentence = (
        f"Ahead, up to a point: {plots.within(best)}, {max(best.values()):.1f} %. The {plain} has {best[plain]:.1f} %, "
    )
    sentence += ", ".join(f"{name} {best[name]:.1f} %" for name in ("KnOTS + TIES", "TIES", "linear")) + "."
    return plots.titled(figure, sentence), sentence
