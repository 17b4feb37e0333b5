"""Figures of notebook 05: one weight and three scores, conflict and overlap after pruning, accuracy of the readings."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ... import plots


def one_weight(theta_0: float, updates: Mapping[str, float], scores: Mapping[str, Sequence[float]]) -> Figure:
    """Left where each expert goes and where the sum goes; right the scores of the experts, reading -> one each."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8), width_ratios=(1.4, 1), dpi=75)
    for row, (name, tau) in enumerate({**updates, "sum": sum(updates.values())}.items()):
        left.annotate("", (theta_0 + tau, -row), (theta_0, -row), arrowprops={"color": plots.COLOURS[row], "width": 3})
        left.text(theta_0, 0.2 - row, f"{name}: {tau:+g}", fontsize=9)
    left.axvline(0, color="0.3", linewidth=1)
    left.axvline(theta_0, color="0.3", linewidth=1, linestyle=":")
    left.set(xlim=(-4, 4), ylim=(-2.5, 0.7), yticks=[], xlabel="weight (dotted: the base)")
    for n, name in enumerate(updates):
        places = [i + 0.4 * n - 0.2 for i in range(len(scores))]
        look = {"label": name, "color": plots.COLOURS[n], "hatch": plots.HATCHES[n], "edgecolor": "white"}
        right.bar(places, [each[n] for each in scores.values()], 0.4, **look)
    right.axhline(0, color="black", linewidth=1)
    right.set_xticks(range(len(scores)), list(scores))
    right.set(ylabel="score", ylim=(-4, 4))
    right.legend(fontsize=8, loc="lower right")
    return figure


def conflict_and_overlap(conflicts: Mapping[str, float], overlaps: Mapping[str, float]) -> tuple[Figure, str]:
    """Sign conflict before and after one round, and the overlap of two experts' masks, in percent."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3))
    panels = ((conflicts, "sign conflict (%)"), (overlaps, "overlap of masks (%)"))
    for axis, (values, title) in zip(axes, panels, strict=True):
        for n, (name, value) in enumerate(values.items()):
            look = list(conflicts).index(name)
            axis.bar(n, value, color=plots.COLOURS[look], hatch=plots.HATCHES[look], edgecolor="white")
            axis.text(n, value + 1, f"{value:.0f}", ha="center", fontsize=9)
        axis.set_xticks(range(len(values)), list(values))
        axis.set(title=title, ylim=(0, 112))
        axis.grid(axis="x", visible=False)
    sentence = f"Sign conflict was {conflicts['before']:.0f} %; a third kept by agreement leaves "
    sentence += f"{conflicts['agreement']:.0f} %, by literal {conflicts['literal']:.0f} %, where two experts share "
    sentence += f"{overlaps['literal']:.0f} % of their entries."
    return plots.titled(figure, sentence), sentence


def accuracies(
    result: Mapping[str, tuple[float, float, float]], readings: Sequence[str], zero_shot: float, error: float
) -> tuple[Figure, str]:
    """Test accuracy at the chosen scale and at 1, with two standard errors; `result` is name -> (lam, chosen, at 1)."""
    figure, axis = plt.subplots(figsize=(8, 3.2))
    for n, (lam, chosen, at_1) in enumerate(result.values()):
        bars = ((-0.2, chosen, f"lam {lam:g}", ""), (0.2, at_1, "lam 1", "//"))
        for shift, height, label, hatch in bars:
            axis.bar(n + shift, height, 0.4, color=plots.COLOURS[n], edgecolor="white", hatch=hatch, yerr=2 * error)
            axis.text(n + shift, height + 2 * error + 1, label, ha="center", fontsize=8)
    axis.axhline(zero_shot, color="black", linewidth=1, linestyle=":")
    axis.set_xticks(range(len(result)), list(result))
    axis.set(ylabel="test accuracy (%)", ylim=(0, 100))
    axis.grid(axis="x", visible=False)
    best = {name: result[name][1] for name in readings}
    sentence = f"Best of the four readings, up to a point: {plots.within(best)}, {max(best.values()):.1f} %. "
    sentence += f"Task Arithmetic {result['Task Arithmetic'][1]:.1f} %; two standard errors of one number are "
    sentence += f"{2 * error:.1f} points (dotted: the base)."
    return plots.titled(figure, sentence), sentence
