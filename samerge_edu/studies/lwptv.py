"""LwPTV taken apart: what is tried, and the pictures. `ablation.run` runs it.

    samerge-edu ablate lwptv

Does it help, in front of which merge? How large must eta be? Does the *score* help, or would any mask do? Each
question is a few rows of the table `lwptv_variants`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import mean

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..evaluate import retention, scores
from ..merges.task_arithmetic import task_arithmetic
from ..methods import METHODS, sa
from ..params import Params, add, pipe
from ..plots import COLOURS, MARKERS, titled
from ..suites.suite import Suite
from ..transforms.lwptv import Pruned, layer_saliency, lwptv, shared_mask
from .ablation import Recipe

ETAS = tuple(i / 10 for i in range(11))
PATCHES = "conv1.weight"
"""The patch embedding, through which every image enters: notebook 08 finds that it decides."""


# ---------------------------------------------------------------------------- what is tried


def lwptv_variants(suite: Suite, shuffles: int = 19) -> dict[str, Recipe]:
    """Every row of the study, by the question that it answers; "TA" is what all are compared with."""

    def with_ta(**knobs) -> Recipe:
        return pipe(partial(lwptv, **knobs), task_arithmetic)

    return {
        # in front of which merge?
        **with_and_without(suite),
        "SA-Merging, then LwPTV": pipe(sa(suite), lwptv, task_arithmetic),
        # how much to prune? eta = 0 is TA, 0.7 is "LwPTV + TA", 1 the base
        **{f"eta = {eta}": with_ta(eta=eta) for eta in sorted({*ETAS, 0.95} - {0.0, 0.7})},
        "eta from the knee of S": pipe(at_the_knee, task_arithmetic),
        # which part of the method matters?
        "mask: AND": with_ta(mask_rule="and"),
        "mask: own": with_ta(mask_rule="own"),
        "granularity: block": with_ta(granularity="block"),
        "granularity: parameter": with_ta(granularity="parameter"),
        "norm: sum": with_ta(norm="sum"),
        # does the score matter? other scores and masks, the same rule; shuffled scores prune as many layers
        "score: size, mean |tau|": pipe(partial(by_score, score=size_of_update), task_arithmetic),
        "score: number of entries": pipe(partial(by_score, score=size_of_layer), task_arithmetic),
        "only the patch embedding given back": pipe(partial(with_patches, kept=False), task_arithmetic),
        "LwPTV, patch embedding merged": pipe(partial(with_patches, kept=True), task_arithmetic),
        "oracle (cheating)": pipe(partial(oracle, suite=suite), task_arithmetic),
        **{f"shuffled scores {seed}": with_ta(shuffle=torch.Generator().manual_seed(seed)) for seed in range(shuffles)},
    }


def with_and_without(suite: Suite) -> dict[str, Recipe]:
    """Every merge of the leaderboard, and LwPTV + the same.

    Not those that add nothing to the question: the average is Task Arithmetic at another scale, WUDI by gradient
    steps is WUDI's optimum, slowly; one sparse and one dense merge after SA-Merging are enough.
    """
    left_out = ("Average", "WUDI", "SA-Merging + DARE", "SA-Merging + WUDI")
    variants: dict[str, Recipe] = {}
    for name, method in METHODS.items():
        if name in left_out or "LwPTV" in name:
            continue
        short, merge = "TA" if name == "Task Arithmetic" else name, method.recipe(suite)
        variants |= {short: merge, f"LwPTV + {short}": pipe(lwptv, merge)}
    return variants


def published_lam(variant: str) -> float:
    """The scale that a variant's merge was published with."""
    merge = variant.removeprefix("LwPTV + ")
    return METHODS[merge if merge in METHODS else "Task Arithmetic"].lam


def on_pairs() -> dict[str, Recipe]:
    """What is tried on two experts at a time."""
    return {"TA": task_arithmetic, "LwPTV + TA": pipe(lwptv, task_arithmetic), "base": base}


def base(taus: Sequence[Params]) -> Params:
    """No update at all: eta = 1."""
    return task_arithmetic(lwptv(taus, eta=1))


# ---------------------------------------------------------------------------- other masks


def masked(taus: Sequence[Params], keep: Callable[[str], Tensor | bool]) -> list[Pruned]:
    """Task vectors with the layers for which keep(name) is false given back to the base."""
    return [Pruned(tau, {key: torch.tensor(bool(keep(key))) for key in tau}) for tau in taus]


def by_score(
    taus: Sequence[Params], score: Callable[[Sequence[Params]], Mapping[str, Tensor]], eta: float = 0.7
) -> list[Pruned]:
    """LwPTV with another score than Eq. 5."""
    M = shared_mask(score(taus), eta)
    return masked(taus, lambda key: M[key].any())


def size_of_update(taus: Sequence[Params]) -> dict[str, Tensor]:
    """mean |tau_n^l|: how much the layer changed, whatever the others did."""
    return {key: torch.stack([tau[key].abs().mean() for tau in taus]) for key in taus[0]}


def size_of_layer(taus: Sequence[Params]) -> dict[str, Tensor]:
    """The number of entries, the same for all tasks: large layers stay, without a look at the weights."""
    return {key: torch.full((len(taus),), float(taus[0][key].numel())) for key in taus[0]}


def with_patches(taus: Sequence[Params], kept: bool) -> list[Pruned]:
    """kept=False: merge all but the patch embedding; kept=True: LwPTV's mask, but merge the patch embedding."""
    M = shared_mask(layer_saliency(taus))
    return masked(taus, lambda key: (kept or key != PATCHES) and (not kept or key == PATCHES or M[key].any()))


def oracle(taus: Sequence[Params], suite: Suite, n: int = 60) -> list[Pruned]:
    """Cheating: as many layers as LwPTV gives back, but those that help most on *OOD validation images*.

    Each layer is given back alone, all others merged at the published scale, and the OOD average measured. An upper
    bound for any score that looks at one layer at a time; no method may look at these tasks.
    """
    tau_m, lam = task_arithmetic(taus), published_lam("TA")
    zero = {key: torch.zeros_like(value) for key, value in tau_m.items()}

    def ood_without(layer: str) -> float:
        theta = add(suite.theta_0, tau_m | {layer: zero[layer]}, lam)
        return mean(scores(suite, theta, "val", suite.ood_tasks, n).values())

    best_first = sorted(tau_m, key=ood_without, reverse=True)
    pruned = sum(not M.any() for M in shared_mask(layer_saliency(taus)).values())
    return masked(taus, lambda key: key not in best_first[:pruned])


def at_the_knee(taus: Sequence[Params]) -> list[Pruned]:
    """LwPTV with eta from the weights alone: where the curve of the sorted saliencies bends, mean over tasks."""
    S = torch.stack(list(layer_saliency(taus).values()))  # (L, N)
    bends = [knee(curve) for curve in S.sort(dim=0).values.T.tolist()]
    return lwptv(taus, eta=mean(bends) / (len(S) - 1))


def knee(curve: Sequence[float]) -> int:
    """Where a rising or falling curve is furthest from the straight line between its ends (Satopaa et al., 2011).

    >>> knee([0.0, 0.1, 0.2, 0.3, 4.0, 8.0])
    3
    """
    line = np.linspace(curve[0], curve[-1], len(curve))
    return int(np.abs(np.asarray(curve) - line).argmax())


# ---------------------------------------------------------------------------- numbers

NUMBERS = ["id_avg", "ood_avg", "h"]


def gains(rows: pd.DataFrame, merge: str = "TA", part: str = "subsets", lam_from: str = "validation") -> pd.DataFrame:
    """With LwPTV minus without, in id_avg, ood_avg and h: one row for each subset, or pair, of experts."""
    rows = rows[(rows.part == part) & (rows.lam_from == lam_from)].set_index("left_out")
    without = rows[rows.variant == merge]
    return (rows[rows.variant == f"LwPTV + {merge}"][NUMBERS] - without[NUMBERS]).assign(cosine=without.cosine)


def merges_in(rows: pd.DataFrame) -> list[str]:
    """The merges that were measured with and without LwPTV."""
    names = rows.variant[rows.part == "subsets"].unique()
    return [name for name in names if f"LwPTV + {name}" in names]


def share_at_least_as_good(rows: pd.DataFrame, lam_from: str) -> dict[str, float]:
    """(1 + shuffles at least as good as LwPTV) / (1 + shuffles), for each of ID, OOD and H averaged over subsets."""
    rows = rows[(rows.part == "subsets") & (rows.lam_from == lam_from)]
    means = rows.groupby("variant")[NUMBERS].mean()
    shuffled = means[means.index.str.startswith("shuffled")]
    better = (shuffled >= means.loc["LwPTV + TA"] - 1e-9).sum()
    return ((1 + better) / (1 + len(shuffled))).to_dict()


def report(rows: pd.DataFrame) -> str:
    """The numbers behind the claims as Markdown: in front of each merge, shuffles, pairs, what each OOD task kept."""
    scales = ("validation", "fixed")

    def cells(differences: pd.DataFrame) -> str:
        spread = differences.std()
        return " | ".join(f"{differences[key].mean():+.1f} ({spread[key]:.1f})" for key in NUMBERS)

    head = "ID, OOD, H at the chosen scale | | | ID, OOD, H at the published scale | | |"
    out = ["With LwPTV minus without, in points: mean and, in brackets, spread over three subsets.\n"]
    out += [f"| in front of | {head}", "|---|" + "---|" * 6]
    for merge in merges_in(rows):
        out.append(f"| {merge} | " + " | ".join(cells(gains(rows, merge, lam_from=scale)) for scale in scales) + " |")

    out += ["\nShare of shuffled masks, LwPTV's own among them, that are at least as good.\n"]
    out += ["| scale | ID | OOD | H |", "|---|---|---|---|"]
    for scale in scales:
        shares = share_at_least_as_good(rows, scale).values()
        out.append(f"| {scale} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")

    out += ["\nPairs of experts, Task Arithmetic with LwPTV minus without (published scale: lam = 1).\n"]
    out += [f"| pairs | mean cosine | {head}", "|---|---|" + "---|" * 6]
    groups = [
        ("pairs", "all", lambda pairs: pairs),
        ("pairs", "least similar quarter", lambda pairs: pairs.nsmallest(len(pairs) // 4, "cosine")),
        ("pairs", "most similar quarter", lambda pairs: pairs.nlargest(len(pairs) // 4, "cosine")),
        ("similar", "nearly the same task by construction", lambda pairs: pairs),
        ("weak", "of a weak base", lambda pairs: pairs),
    ]
    for part, group, chosen in groups:
        if (rows.part == part).any():
            both = [chosen(gains(rows, "TA", part, scale)) for scale in scales]
            out.append(f"| {group} | {both[0].cosine.mean():.2f} | " + " | ".join(map(cells, both)) + " |")

    out += ["\nWhat each OOD task keeps of the base's accuracy, all experts, in percent.\n"]
    abroad = [task for task in rows.per_task.iloc[0] if all(task in per_task for per_task in rows.per_task)]
    out += [f"| merge | scale | {' | '.join(abroad)} |", "|---|---|" + "---|" * len(abroad)]
    everything = rows[(rows.part == "subsets") & (rows.left_out == "")].set_index(["variant", "lam_from"]).per_task
    for name in ("TA", "LwPTV + TA"):
        for scale in scales:
            kept = retention(everything[name, scale], everything["eta = 1.0", scale], abroad)
            out.append(f"| {name} | {scale} | " + " | ".join(f"{share:.0f}" for share in kept.values()) + " |")
    return "\n".join([*out, ""]).replace("(nan)", "(one)")


# ---------------------------------------------------------------------------- pictures


def figures(rows: pd.DataFrame) -> dict[str, tuple[Figure, str]]:
    """file name -> (figure, sentence) of all that the rows allow to draw."""
    drawn = {"lwptv-merges": arrows(rows), "lwptv-eta": over_eta(rows)}
    return drawn | ({"lwptv-pairs": over_cosine(rows)} if (rows.part == "pairs").any() else {})


def arrows(rows: pd.DataFrame) -> tuple[Figure, str]:
    """ID against OOD without (circle) and with LwPTV (head) for each merge, at the published and the chosen scale."""
    subsets = rows[rows.part == "subsets"]
    place, merges = subsets.groupby(["lam_from", "variant"], sort=False)[NUMBERS].mean(), merges_in(rows)
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    risen = {}
    for axis, lam_from in zip(axes, ("fixed", "validation"), strict=True):
        rises = [place.h[lam_from, f"LwPTV + {merge}"] > place.h[lam_from, merge] for merge in merges]
        for i, (merge, up) in enumerate(zip(merges, rises, strict=True), start=1):
            ends = place.loc[[(lam_from, merge), (lam_from, f"LwPTV + {merge}")], ["id_avg", "ood_avg"]].to_numpy()
            look = {"color": COLOURS[0 if up else 2], "linestyle": "-" if up else "--"}
            axis.annotate("", ends[1], ends[0], arrowprops={"arrowstyle": "->", **look})
            axis.plot(*ends[0], "o", markersize=4, markerfacecolor="white", color=look["color"])
            axis.plot(*ends[1], marker="")  # so that the axes reach as far
            axis.annotate(str(i), ends[0], (3, 3), textcoords="offset points", fontsize=8)
        where = "at the published scale" if lam_from == "fixed" else "at the scale chosen on validation"
        axis.set(xlabel=f"ID average (%), {where}", ylabel="OOD average (%)")
        risen[lam_from] = sum(rises)
    names = [f"{i} {merge}" for i, merge in enumerate(merges, start=1)]
    key = "circle: without LwPTV\narrow head: with\nsolid, blue: H rises\ndashed, red: H falls\n\n" + "\n".join(names)
    axes[1].annotate(key, (1.02, 1), xycoords="axes fraction", va="top", fontsize=8)
    sentence = (
        f"LwPTV raises H in front of {risen['fixed']} of {len(merges)} merges at the published scale, "
        f"of {risen['validation']} at the scale chosen on validation."
    )
    return titled(fig, sentence), sentence


def over_eta(rows: pd.DataFrame) -> tuple[Figure, str]:
    """ID and OOD average against eta, at both scales, with the spread over subsets and the knee of ID."""
    subsets = rows[rows.part == "subsets"]
    of_eta = {0.0: "TA", 0.7: "LwPTV + TA"} | {eta: f"eta = {eta}" for eta in ETAS if eta not in (0, 0.7)}
    of_eta = dict(sorted(of_eta.items()))
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key in zip(axes, ("id_avg", "ood_avg"), strict=True):
        for i, (lam_from, label) in enumerate([("validation", "lam chosen"), ("fixed", "lam = 0.3")]):
            curves = subsets[subsets.lam_from == lam_from].pivot(index="variant", columns="left_out", values=key)
            curves = curves.loc[list(of_eta.values())]
            middle, spread = curves.mean(axis=1), curves.sub(curves.mean()).std(axis=1)
            look = {"marker": MARKERS[i], "color": COLOURS[i], "linestyle": ("-", "--")[i]}
            axis.plot(list(of_eta), middle, label=label, **look)
            axis.fill_between(list(of_eta), middle - spread, middle + spread, color=COLOURS[i], alpha=0.15)
            if (lam_from, key) == ("validation", "id_avg"):
                bend = list(of_eta)[knee(middle.tolist())]
        axis.axvline(0.7, color="0.5", linestyle=":")
        axis.set(xlabel="eta, share of layers pruned per task", ylabel=f"{key[:-4].upper()} average (%)")
    axes[0].axvline(bend, color="0.5", linestyle="-", linewidth=0.8)
    axes[1].legend()
    sentence = f"ID holds up to a knee at eta = {bend:g} (line; dotted: the paper's 0.7) and then falls to the base's."
    return titled(fig, sentence), sentence


def over_cosine(rows: pd.DataFrame) -> tuple[Figure, str]:
    """What LwPTV gains on each pair of experts, against the cosine of their task vectors."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axis, key in zip(axes, ("id_avg", "ood_avg"), strict=True):
        for i, lam_from in enumerate(["validation", "fixed"]):
            for part, face in (("pairs", COLOURS[i]), ("similar", "white"), ("weak", "black")):
                group = gains(rows, "TA", part, lam_from)
                label = f"{part}, lam = 1" if i else f"{part}, lam chosen"
                look = {"color": COLOURS[i], "markerfacecolor": face, "linestyle": "", "marker": MARKERS[i]}
                axis.plot(group.cosine, group[key], label=label, **look)
        axis.axhline(0, color="0.5", linewidth=1)
        axis.set_xscale("symlog", linthresh=0.1, linscale=2)  # most pairs are nearly orthogonal
        axis.set_xlim(-0.05, 1)
        axis.set_xticks([0, 0.05, 0.1, 0.5, 1], ["0", "0.05", "0.1", "0.5", "1"])
        axis.set(xlabel="cosine of the two task vectors", ylabel=f"gain in {key[:-4].upper()} average (points)")
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    own = gains(rows, "TA", "pairs", "fixed")
    sentence = (
        f"Over {len(own)} pairs of experts, at lam = 1, the gain abroad is {own.ood_avg.mean():.1f} points; "
        f"its rank correlation with the cosine is {own.cosine.rank().corr(own.ood_avg.rank()):.2f}."
    )
    return titled(fig, sentence), sentence
