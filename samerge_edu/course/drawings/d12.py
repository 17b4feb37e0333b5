"""The figures of notebook 12: the models alone, published numbers by family, what half precision keeps of an update."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ... import plots

Drawn = tuple[Figure, str]


def alone(models: Mapping[str, Mapping[str, float]], images: Mapping[str, int], family: str) -> Drawn:
    """Base and experts on each task with their standard errors.  models: "zero-shot" and "experts", task -> percent"""
    figure, axis = plt.subplots(figsize=(6.5, 3.4))
    for i, (row, accuracy) in enumerate(models.items()):
        errors = [(accuracy[t] * (100 - accuracy[t]) / images[t]) ** 0.5 for t in images]
        places = [x + 0.4 * i for x in range(len(images))]
        axis.bar(places, list(accuracy.values()), 0.38, yerr=errors, capsize=3, label=row, hatch=plots.HATCHES[i])
    axis.set_xticks([x + 0.2 for x in range(len(images))], [f"{t}\n{n} images" for t, n in images.items()])
    axis.set(ylabel="accuracy (%)", xlabel=family, ylim=(0, 105))
    axis.legend(fontsize=8)
    gains = [models["experts"][t] - models["zero-shot"][t] for t in images]
    sentence = f"On its own task each expert differs from the base by {min(gains):+.0f} to {max(gains):+.0f} points."
    return plots.titled(figure, sentence), sentence


def by_family(rows: Sequence[Mapping], tasks: Sequence[str], ours: Mapping[str, float], family: str) -> Drawn:
    """Published means over some of the eight tasks, a column for each method; beside them ours, if there are any.

    rows: dictionaries with "method", "family" and "tasks" (task -> percent); ours: method -> percent, may be empty
    """
    means: dict[str, dict[str, float]] = {}  # family -> method -> percent
    for row in rows:
        if set(tasks) <= set(row["tasks"]):
            means.setdefault(row["family"], {})[row["method"]] = mean(row["tasks"][t] for t in tasks)
    methods = list(dict.fromkeys(method for of_family in means.values() for method in of_family))
    figure, axis = plt.subplots(figsize=(8, 3.8))
    for i, (which, points) in enumerate(means.items()):
        look: dict[str, Any] = {"marker": plots.MARKERS[i], "color": plots.COLOURS[i], "markersize": 8, "linestyle": ""}
        axis.plot([methods.index(m) for m in points], list(points.values()), label=f"published, {which}", **look)
    shown = {m: value for m, value in ours.items() if m in methods}
    if shown:
        places = [methods.index(m) + 0.15 for m in shown]
        axis.plot(places, list(shown.values()), "*", color="black", markersize=10, label=f"ours, {family}")
    axis.set_xticks(range(len(methods)), methods, rotation=25, ha="right", fontsize=8)
    axis.set(ylabel=f"mean accuracy (%) on\n{', '.join(tasks)}", ylim=(0, 105))
    axis.legend(fontsize=8)
    both = [m for m in methods if all(m in points for points in means.values())]
    apart = max(abs(means["FB"][m] - means["TA"][m]) for m in both)
    sentence = f"The same method on the two families' experts differs by up to {apart:.1f} points on these tasks; "
    sentence += (
        f"from the plain average to the best row of FB it is {max_merge(means['FB']) - means['FB']['Average']:.1f}."
    )
    return plots.titled(figure, sentence), sentence


def max_merge(points: Mapping[str, float]) -> float:
    """The best of a family's rows that are merges."""
    return max(value for method, value in points.items() if method not in ("zero-shot", "experts"))


def halved(lost: Mapping[str, Mapping[float, float]], weight: str = "a weight's size") -> Drawn:
    """How wrong an update is after 16 bits, against its size.  dtype -> relative size -> error in percent"""
    figure, axis = plt.subplots(figsize=(6.5, 3.4))
    for i, (name, errors) in enumerate(lost.items()):
        axis.plot(list(errors), list(errors.values()), marker=plots.MARKERS[i], label=name)
    axis.axhline(100, color="black", linewidth=1, linestyle=":")
    axis.set(xscale="log", yscale="log", xlabel=f"size of the update, in units of {weight}")
    axis.set(ylabel="error of the update (%)")
    axis.legend(fontsize=8)
    of = " and ".join(f"{errors[0.01]:.0f} % ({name})" for name, errors in lost.items())
    sentence = f"Of an update of 1 % of the weights, 16 bits get {of} wrong; of one of 0.1 %, "
    sentence += " and ".join(f"{errors[0.001]:.0f} %" for errors in lost.values()) + "."
    return plots.titled(figure, sentence), sentence
