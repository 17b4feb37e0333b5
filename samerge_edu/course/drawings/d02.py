"""The figures of notebooks 02 and 02b: densities, conflict against chance, the parts of a sum, tables as bars."""

from collections.abc import Mapping, Sequence
from statistics import mean

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ...plots import COLOURS, titled, within

Drawn = tuple[Figure, str]
Row = Mapping[str, float]  # "ID", "OOD", "lam", "paper ID", "paper lam"


def own_accuracy(densities: Sequence[float], kept: Mapping[str, Sequence[float]], base: float, expert: float) -> Drawn:
    """Accuracy of the experts on their own tasks, by how their entries were chosen and how many are left."""
    figure, axis = plt.subplots(figsize=(6.5, 3.6))
    for name, line in kept.items():
        axis.plot([*densities, 1.0], [*line, expert], label=name)
    axis.axhline(base, color="0.4", linestyle=":", marker="")
    axis.text(1.0, base + 1, "zero-shot", ha="right", fontsize=9)
    axis.set(xlabel="density (share of entries kept)", ylabel="accuracy on the own task (%)")
    on_densities(axis, [*densities, 1.0])
    axis.legend()
    shares = ", ".join(f"{name} {100 * (line[0] - base) / (expert - base):.0f} %" for name, line in kept.items())
    sentence = f"Of what an expert gains over the base, at density {densities[0]:g} is left: {shares}."
    return titled(figure, sentence), sentence


def against_chance(densities: Sequence[float], rows: Mapping[str, Sequence[float]]) -> Drawn:
    """Sign conflict and cancelled mass, beside the same with signs by coin."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.3), sharex=True)
    for axis, what in zip(axes, ("conflict", "cancelled"), strict=True):
        axis.plot(densities, rows[what], label="these experts")
        axis.plot(densities, rows[f"{what} by chance"], label="same sizes, signs by coin")
        axis.set(xlabel="density after the trim", ylabel=f"{what} (%)", ylim=(0, 102))
        on_densities(axis, densities)
    axes[0].legend(loc="lower right", fontsize=8)
    real, chance = rows["cancelled"][-1], rows["cancelled by chance"][-1]
    sentence = f"{real:.0f} % of all change cancels in the sum; with signs by coin it would be {chance:.0f} %."
    return titled(figure, sentence), sentence


def parts_of_the_sum(lams: Sequence[float], hurt: Mapping[str, Sequence[float]], alone: float, at: float) -> Drawn:
    """Own accuracy of the experts with a part of the others' changes added; the sentence is about lam = `at`."""
    figure, axis = plt.subplots(figsize=(6.5, 3.6))
    for name, line in hurt.items():
        axis.plot([0, *lams], [alone, *line], label=name)
    axis.set(xlabel="lam: how much of the other experts is added", ylabel="accuracy on the own task (%)")
    axis.legend()
    lost = {name: round(alone - line[list(lams).index(at)]) for name, line in hurt.items()}
    sentence = f"At lam = {at:g} an expert loses {lost['all']} points to all others; the part that opposes it takes "
    sentence += f"{lost['against']}, the part that agrees with it {lost['along']}, shuffled {lost['shuffled']}."
    return titled(figure, sentence), sentence


def density_and_scale(
    density: float, lam: float, scales: Sequence[float], accuracies: Mapping[float, Sequence[float]],
    conflicts: Mapping[float, float], best_lam: float,
) -> Drawn:  # fmt: skip
    """TIES: validation accuracy over the scale, one line a density, and the conflict that is left; one point marked."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
    for other, line in accuracies.items():
        mine = {"color": COLOURS[0], "linewidth": 2.5} if other == density else {"color": "0.75"}
        left.plot(scales, line, linestyle="-", marker="", **mine)
    reached = accuracies[density][list(scales).index(lam)]
    left.plot([lam], [reached], color=COLOURS[2], markersize=9)
    left.set(xlabel="scale lam", ylabel="ID accuracy (%), validation", title="grey: the other densities")
    right.plot(list(conflicts), list(conflicts.values()), color="0.6")
    right.plot([density], [conflicts[density]], color=COLOURS[2], markersize=9)
    right.set(xlabel="density", ylabel="sign conflict after the trim (%)", ylim=(0, 102))
    on_densities(right, list(conflicts))
    sentence = (
        f"TIES at density {density} and lam {lam}: {reached:.1f} %, with conflict on {conflicts[density]:.0f} % of "
    )
    sentence += f"the shared entries; good scales at this density lie around {best_lam}."
    return titled(figure, sentence), sentence


def bars(rows: Mapping[str, Row]) -> Drawn:
    """ID test accuracy: a bar at the scale from validation, a hollow diamond at the published one."""
    figure, axis = plt.subplots(figsize=(6.5, 0.4 * len(rows) + 1.2))
    for y, row in enumerate(reversed(list(rows.values()))):
        axis.barh(y, row["ID"], color=COLOURS[0], height=0.6)
        axis.plot(row["paper ID"], y, marker="D", color="black", markerfacecolor="white", linestyle="")
        axis.text(max(row["ID"], row["paper ID"]) + 1.5, y - 0.1, f"lam {row['lam']}", fontsize=9)
    axis.set(xlabel="ID accuracy on test (%); diamond: at the published scale")
    axis.set_yticks(range(len(rows)), list(reversed(list(rows))))
    axis.grid(axis="y", visible=False)
    published = [row["paper ID"] for row in rows.values()]
    own = {name: row["ID"] for name, row in rows.items()}
    sentence = f"At their own scale the best are {within(own)} with up to {max(own.values()):.1f} %; "
    sentence += f"at the published scales the rows reach {min(published):.1f} to {max(published):.1f} %."
    return titled(figure, sentence), sentence


def who_survives(survives: Mapping[str, Tensor], density: float) -> Drawn:
    """Share of entries that an edit keeps, over their rank within the row.  name -> (width of the matrix,)"""
    figure, axis = plt.subplots(figsize=(6.5, 3.4))
    tenth = {}
    for name, chance in survives.items():
        width = len(chance)
        smooth = chance.unfold(0, width // 16, width // 16).mean(dim=1)
        axis.plot([100 * (i + 0.5) / len(smooth) for i in range(len(smooth))], 100 * smooth, label=name)
        tenth[name] = 100 * chance[: width // 10].mean().item()
    axis.set(xlabel="rank within the row: 0 = largest change, 100 = smallest", ylabel="entries that survive (%)")
    axis.legend()
    words = ", ".join(f"{name} keeps {share:.0f} %" for name, share in tenth.items())
    sentence = f"At density {density:g}, of the largest tenth of each row {words}."
    return titled(figure, sentence), sentence


def needed_by(share: Sequence[float], min_tasks: int = 2) -> Drawn:
    """How many experts need an entry: percent of the entries needed by 0, 1, ... N of them."""
    figure, axis = plt.subplots(figsize=(6.5, 3))
    colours = [COLOURS[3]] * min_tasks + [COLOURS[0]] * (len(share) - min_tasks)
    axis.bar(range(len(share)), share, color=colours)
    axis.set(xlabel="number of experts that need an entry (grey: dropped)", ylabel="entries (%)")
    sentence = f"{share[0]:.0f} % of the entries are needed by no expert, {share[1]:.0f} % by one alone: "
    sentence += f"the consensus keeps {sum(share[min_tasks:]):.0f} %."
    return titled(figure, sentence), sentence


def one_page(rows: Mapping[str, Row], base: Mapping[str, float]) -> Drawn:
    """All rows, best ID first: ID and OOD at the scale from validation, hollow at the published one; base dotted."""
    ranked = sorted(rows, key=lambda name: -rows[name]["ID"])
    figure, axes = plt.subplots(1, 2, figsize=(7, 0.27 * len(ranked) + 1.2), sharey=True)
    for axis, what, look in zip(axes, ("ID", "OOD"), ("o", "s"), strict=True):
        axis.plot([rows[name][what] for name in ranked], range(len(ranked)), look, linestyle="", color=COLOURS[0])
        axis.set(xlabel=f"{what} accuracy on test (%)")
        axis.axvline(base[what], color="0.5", linestyle=":", marker="")
    published = [rows[name]["paper ID"] for name in ranked]
    axes[0].plot(published, range(len(ranked)), "D", linestyle="", color="black", markerfacecolor="white", zorder=0)
    axes[0].set_yticks(range(len(ranked)), ranked, fontsize=9)
    axes[0].invert_yaxis()
    best = max(row["ID"] for row in rows.values())
    sentence = (
        f"At home the best are {within({name: row['ID'] for name, row in rows.items()})} with up to {best:.1f} %; "
    )
    sentence += f"the mean of all rows is {mean(row['ID'] for row in rows.values()):.1f} % at home and "
    sentence += f"{mean(row['OOD'] for row in rows.values()):.1f} % abroad, the base has {base['ID']:.1f} and "
    sentence += f"{base['OOD']:.1f} %."
    return titled(figure, sentence), sentence


def on_densities(axis: Axes, densities: Sequence[float]) -> None:
    axis.set_xscale("log")
    axis.set_xticks(densities, [f"{density:g}" for density in densities])
