"""What does each part of a method contribute? Take it away, or replace it, and measure again.

    samerge-edu ablate sa-merging | lwptv  [--suite pocket]

Every variant merges several subsets of the experts, so that its number comes with a spread. The scale is chosen for
each variant and subset on validation images; what is reported is the test split. `sa_variants` and `lwptv_variants`
are literal tables, like `METHODS`: name -> recipe.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from .evaluate import choose_lam, h_score, scores
from .merges.task_arithmetic import task_arithmetic
from .merges.ties import ties
from .merges.tsv_m import tsv_m
from .merges.wudi import wudi_flow
from .params import Params, add, pipe, task_vectors
from .plots import titled
from .saliency import clip_flow, flow_score, magnitude_score, random_score
from .transforms.lwptv import lwptv
from .transforms.sa_merging import sa_merging

Recipe = Callable[[Sequence[Params]], Params]
FINAL = 0.8**10
"""Density that T = 10 rounds of p = 0.2 leave: 0.107. Variants with other T reach the same one."""


def sa_variants(suite, random_masks: int = 10) -> dict[str, Recipe]:
    """SA-Merging and what is left when a part is changed: the paper's ablations, and those that its reading needs."""
    flow = partial(clip_flow, heads=suite.attention_heads)

    def sa(modulation="literal", flow_at="expert", score=None, **knobs) -> Recipe:
        score = score or flow_score(suite.theta_0, flow, modulation=modulation, flow_at=flow_at)
        return pipe(partial(sa_merging, score=score, **knobs), task_arithmetic)

    def equal_density(T: int) -> Recipe:
        return sa(T=T, p=1 - FINAL ** (1 / T))

    variants = {
        "Task Arithmetic": task_arithmetic,
        "TIES": ties,
        "SA (literal score)": sa(),
        "score: agreement": sa("agreement"),
        "score: abs": sa("abs"),
        "no modulation": sa("none"),
        "magnitude, no modulation": sa(score=magnitude_score()),
        "magnitude, agreement": sa(score=magnitude_score("agreement")),
        "flow at the merged model": sa(flow_at="merged"),
        "one ranking over all tensors": sa(scope="global"),
        "1-D tensors: mean": sa(one_d="mean"),
        "1-D tensors: sum": sa(one_d="sum"),
        "1-D tensors: base": sa(one_d="base"),
        **{f"T = {T}, equal density": equal_density(T) for T in (1, 2, 5, 20)},
        **{f"p = {p}": sa(p=p) for p in (0.05, 0.1, 0.3)},
    }
    for seed in range(random_masks):
        variants[f"random mask {seed}"] = sa(score=random_score(torch.Generator().manual_seed(seed)), T=1, p=1 - FINAL)
    return variants


def lwptv_variants(suite, shuffles: int = 3) -> dict[str, Recipe]:
    """LwPTV in front of four merges, and its parts: share, score, shared mask, granularity, norm."""
    merges = {"TA": task_arithmetic, "TIES": ties, "TSV-M": tsv_m, "WUDI (optimum)": wudi_flow}
    variants: dict[str, Recipe] = {}
    for name, merge in merges.items():
        variants |= {name: merge, f"LwPTV + {name}": pipe(lwptv, merge)}

    def with_ta(**knobs) -> Recipe:
        return pipe(partial(lwptv, **knobs), task_arithmetic)

    variants |= {f"eta = {eta}": with_ta(eta=eta) for eta in (0.3, 0.5, 0.8, 0.9, 0.95)}
    for seed in range(shuffles):
        variants[f"shuffled scores {seed}"] = with_ta(shuffle=torch.Generator().manual_seed(seed))
    return variants | {
        "mask: AND": with_ta(mask_rule="and"),
        "mask: own": with_ta(mask_rule="own"),
        "granularity: block": with_ta(granularity="block"),
        "granularity: parameter": with_ta(granularity="parameter"),
        "norm: sum": with_ta(norm="sum"),
    }


VARIANTS = {"sa-merging": sa_variants, "lwptv": lwptv_variants}


def subsets(tasks: Sequence[str]) -> list[list[str]]:
    """All experts; all without the first two; all without the fifth and sixth.

    >>> subsets(list("abcdefgh"))
    [['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'], ['c', 'd', 'e', 'f', 'g', 'h'], ['a', 'b', 'c', 'd', 'g', 'h']]
    """
    return [list(tasks), list(tasks[2:]), [*tasks[:4], *tasks[6:]]]


def run(
    suite, variants: Mapping[str, Recipe], which: Sequence[Sequence[str]] | None = None, n: int = 100, progress=False
) -> pd.DataFrame:
    """One row for each variant and subset of experts: lam, id_avg, ood_avg, h on the test split.

    `which` lists the subsets (default: `subsets`); `n` images a task are looked at, both for choosing lam on
    validation and for the test. Subsets are judged on their own tasks, so compare variants within a subset:
    `table` does.
    """
    rows = []
    which = subsets(suite.id_tasks) if which is None else which
    with tqdm(total=len(which) * len(variants), disable=not progress, leave=False, unit="merge") as bar:
        for tasks in which:
            smaller = replace(suite, experts={t: suite.experts[t] for t in tasks})
            taus = task_vectors(suite.theta_0, [dict(theta) for theta in smaller.experts.values()])
            for name, recipe in variants.items():
                bar.set_description(name)
                tau_m = recipe(taus)
                lam, _ = choose_lam(smaller, tau_m, n=n)
                per_task = scores(smaller, add(suite.theta_0, tau_m, lam), "test", [*tasks, *suite.ood_tasks], n=n)
                id_avg, ood_avg = (mean(per_task[t] for t in group) for group in (tasks, suite.ood_tasks))
                row = {
                    "variant": name,
                    "tasks": len(tasks),
                    "left_out": ", ".join(t for t in suite.id_tasks if t not in tasks),
                }
                rows.append(row | {"lam": lam, "id_avg": id_avg, "ood_avg": ood_avg, "h": h_score(id_avg, ood_avg)})
                bar.update()
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Mean over the subsets of each variant's difference from `reference`, with the spread of that difference.

    The difference is taken subset by subset first: the subsets differ in difficulty, the variants in a subset do
    not. `id_spread` and `ood_spread` are standard deviations over the subsets (NaN for a single one).
    """
    against = rows[rows.variant == reference].set_index("left_out")
    out = []
    for name, group in rows.groupby("variant", sort=False):
        group = group.set_index("left_out")
        line = {"variant": name, "lam": group.lam.median()}
        for key in ("id_avg", "ood_avg"):
            difference = (group[key] - against[key]).tolist()
            short = key.removesuffix("_avg")
            line |= {
                key: group[key].mean(),
                f"{short}_gain": mean(difference),
                f"{short}_spread": stdev(difference) if len(difference) > 1 else float("nan"),
            }
        out.append(line)
    return pd.DataFrame(out)


def figure(gains: pd.DataFrame, reference: str) -> tuple[Figure, str]:
    """ID and OOD gain over the reference of each variant, with bars of one standard deviation."""
    shown = gains[gains.variant != reference].iloc[::-1]
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 0.24 * len(shown) + 1.4), sharey=True)
    for axis, short, marker in zip(axes, ("id", "ood"), "os", strict=True):
        axis.errorbar(
            shown[f"{short}_gain"], range(len(shown)), xerr=shown[f"{short}_spread"], fmt=marker, capsize=2, color="C0"
        )
        axis.axvline(0, color="0.5", linewidth=1)
        axis.set_xlabel(f"{short.upper()} average minus that of {reference}\n(points, mean and spread over subsets)")
    axes[0].set_yticks(range(len(shown)), shown.variant)
    axes[0].tick_params(axis="y", labelsize=8)
    best = gains.loc[gains.id_avg.idxmax()]
    sentence = (
        f"At home {best.variant} is best, {best.id_gain:+.1f} points beside {reference} (spread {best.id_spread:.1f})."
    )
    return titled(fig, sentence), sentence


def write(rows: pd.DataFrame, gains: pd.DataFrame, reference: str, folder: Path, name: str) -> None:
    """NAME.json (every merge), NAME.csv (the table) and NAME.png into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(rows.to_dict("records"), indent=1) + "\n", encoding="utf-8")
    gains.to_csv(folder / f"{name}.csv", index=False, float_format="%.4g")
    fig, _ = figure(gains, reference)
    fig.savefig(folder / f"{name}.png", bbox_inches="tight")
    plt.close(fig)
