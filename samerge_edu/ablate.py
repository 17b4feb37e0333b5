"""What does each part of a method contribute? Take it away, or replace it, and measure again.

    samerge-edu ablate sa-merging | lwptv  [--suite pocket]
    samerge-edu ablate sa-lora --suite pocket-lora

Every variant merges several subsets of the experts, so that its number comes with a spread. The scale is chosen for
each variant and subset on validation images; what is reported is the test split. `sa_variants` and, in
`ablate_lwptv`, `lwptv_variants` are tables, like `METHODS`: name -> recipe. `study` runs one of them, and for LwPTV
also pairs of tasks and a weak base.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from .ablate_lora import lora_variants
from .ablate_lwptv import Recipe, figures, lwptv_variants, on_pairs, published_lam, report
from .evaluate import choose_lam, h_score, scores
from .merges.task_arithmetic import task_arithmetic
from .merges.ties import ties
from .params import add, mean_cosine, pipe, task_vectors
from .plots import style, titled
from .saliency import clip_flow, flow_score, magnitude_score, random_score
from .suites import load_suite
from .transforms.sa_merging import sa_merging

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


VARIANTS = {"sa-merging": sa_variants, "lwptv": lwptv_variants, "sa-lora": lora_variants}


# ---------------------------------------------------------------------------- run


def study(suite, method: str, n: int = 100, progress: bool = False) -> pd.DataFrame:
    """All rows of a method's ablation; the column `part` says which experiment they belong to.

    "subsets", every variant on three subsets of the experts. For LwPTV also Task Arithmetic with and without it on
    "pairs", each two of the suite's experts, and for the pocket suite on "similar", three pairs that draw nearly the
    same task by construction, and "weak", two experts of a base that saw little of the web.
    """
    variants = VARIANTS[method](suite)
    if method != "lwptv":
        return run(suite, variants, n=n, progress=progress)
    rows = [run(suite, variants, n=n, progress=progress, fixed={name: published_lam(name) for name in variants})]
    others = {"pairs": suite}
    if suite.name == "pocket":
        close = load_suite("pocket-similar")  # the same base, so that pocket's own expert for signs is a third
        others["similar"] = replace(close, experts={"signs": suite.experts["signs"], **close.experts})
        others["weak"] = load_suite("pocket-weak")
    for part, other in others.items():
        pairs, variants = [list(two) for two in combinations(other.id_tasks, 2)], on_pairs()
        rows.append(run(other, variants, pairs, n, progress, dict.fromkeys(variants, 1.0), part))
    return pd.concat(rows, ignore_index=True)


def subsets(tasks: Sequence[str]) -> list[list[str]]:
    """All experts; all without the first two; all without the fifth and sixth.

    >>> subsets(list("abcdefgh"))
    [['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'], ['c', 'd', 'e', 'f', 'g', 'h'], ['a', 'b', 'c', 'd', 'g', 'h']]
    """
    return [list(tasks), list(tasks[2:]), [*tasks[:4], *tasks[6:]]]


def run(
    suite,
    variants: Mapping[str, Recipe],
    which: Sequence[Sequence[str]] | None = None,
    n: int = 100,
    progress: bool = False,
    fixed: Mapping[str, float] | None = None,
    part: str = "subsets",
) -> pd.DataFrame:
    """One row for each variant and subset of experts: lam, id_avg, ood_avg, h and per_task on the test split.

    `which` lists the subsets (default: `subsets`); `n` images a task are looked at, both for choosing lam on
    validation and for the test. A variant named in `fixed` gets a second row, at that lam; `lam_from` tells the two
    apart. `cosine` is the mean over pairs of the subset's task vectors. Subsets are judged on their own tasks, so
    compare variants within a subset: `table` does.
    """
    rows = []
    which = subsets(suite.id_tasks) if which is None else which
    with tqdm(total=len(which) * len(variants), disable=not progress, leave=False, unit="merge") as bar:
        for tasks in which:
            smaller = replace(suite, experts={t: suite.experts[t] for t in tasks})
            taus = task_vectors(suite.theta_0, [dict(theta) for theta in smaller.experts.values()])
            left_out = ", ".join(t for t in suite.id_tasks if t not in tasks)
            about = {"part": part, "tasks": len(tasks), "left_out": left_out, "cosine": mean_cosine(taus)}
            for name, recipe in variants.items():
                bar.set_description(f"{part}: {name}")
                tau_m = recipe(taus)
                lams = {"validation": choose_lam(smaller, tau_m, n=n)[0]}
                lams |= {"fixed": fixed[name]} if fixed and name in fixed else {}
                at = {lam: add(suite.theta_0, tau_m, lam) for lam in set(lams.values())}
                at = {lam: scores(smaller, theta, "test", [*tasks, *suite.ood_tasks], n) for lam, theta in at.items()}
                for lam_from, lam in lams.items():
                    per_task = at[lam]
                    id_avg, ood_avg = (mean(per_task[t] for t in group) for group in (tasks, suite.ood_tasks))
                    row = {"variant": name, **about, "lam": lam, "lam_from": lam_from, "id_avg": id_avg}
                    rows.append(row | {"ood_avg": ood_avg, "h": h_score(id_avg, ood_avg), "per_task": per_task})
                bar.update()
    return pd.DataFrame(rows)


# ---------------------------------------------------------------------------- what comes out


def table(rows: pd.DataFrame, reference: str, lam_from: str = "validation", part: str = "subsets") -> pd.DataFrame:
    """Mean over the subsets of each variant's difference from `reference`, with the spread of that difference.

    The difference is taken subset by subset first: the subsets differ in difficulty, the variants in a subset do
    not. `id_spread`, `ood_spread` and `h_spread` are standard deviations over the subsets (NaN for a single one).
    `lam_from` and `part` say which of the rows count.
    """
    rows = rows[(rows.lam_from == lam_from) & (rows.part == part)]
    against = rows[rows.variant == reference].set_index("left_out")
    out = []
    for name, group in rows.groupby("variant", sort=False):
        group = group.set_index("left_out")
        line = {"variant": name, "lam": group.lam.median()}
        for key in ("id_avg", "ood_avg", "h"):
            difference = (group[key] - against[key])[group.index].tolist()
            short = key.removesuffix("_avg")
            line |= {
                key: group[key].mean(),
                f"{short}_gain": mean(difference),
                f"{short}_spread": stdev(difference) if len(difference) > 1 else float("nan"),
            }
        out.append(line)
    return pd.DataFrame(out)


def one_line_for_seeds(gains: pd.DataFrame) -> pd.DataFrame:
    """A table in which "random mask 0", "random mask 1", ... are one variant, "random mask, 10 seeds"."""
    kind = gains.variant.str.extract(r"^(random mask|shuffled scores) \d+$", expand=False)
    lines = [gains[kind.isna()]]
    for name, seeds in gains.groupby(kind, sort=False):
        line = seeds.mean(numeric_only=True)
        for short in ("id", "ood", "h"):
            line[f"{short}_spread"] = seeds[f"{short}_gain"].std()
        lines.append(pd.DataFrame([{"variant": f"{name}, {len(seeds)} seeds", **line}]))
    return pd.concat(lines, ignore_index=True)


def figure(gains: pd.DataFrame, reference: str) -> tuple[Figure, str]:
    """ID and OOD gain over the reference of each variant, with bars of one standard deviation.

    The seeds of random masks and shuffles share one line: their mean, and the spread over seeds.
    """
    shown = one_line_for_seeds(gains[gains.variant != reference]).iloc[::-1]
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 0.24 * len(shown) + 1.4), sharey=True)
    for axis, short, marker in zip(axes, ("id", "ood"), "os", strict=True):
        axis.errorbar(
            shown[f"{short}_gain"], range(len(shown)), xerr=shown[f"{short}_spread"], fmt=marker, capsize=2, color="C0"
        )
        axis.axvline(0, color="0.5", linewidth=1)
        axis.set_xlabel(f"{short.upper()} average minus that of {reference}\n(points; mean and spread)")
    axes[0].set_yticks(range(len(shown)), shown.variant)
    axes[0].set_ylim(-0.8, len(shown) - 0.2)
    axes[0].tick_params(axis="y", labelsize=8)
    best = gains.loc[gains.id_avg.idxmax()]
    sentence = (
        f"At home {best.variant} is best, {best.id_gain:+.1f} points beside {reference} (spread {best.id_spread:.1f})."
    )
    return titled(fig, sentence), sentence


def write(rows: pd.DataFrame, gains: pd.DataFrame, reference: str, folder: Path, name: str) -> None:
    """NAME.json (every merge, one a line), NAME.csv (the table) and NAME.png into a folder; for LwPTV more of each."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) for row in rows.round(3).to_dict("records")]
    (folder / f"{name}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    gains.to_csv(folder / f"{name}.csv", index=False, float_format="%.4g")
    whole_study = name == "lwptv" and (rows.lam_from == "fixed").any()  # and not one `run` of its variants
    if whole_study:
        (folder / f"{name}-tables.md").write_text(report(rows), encoding="utf-8")
    with plt.rc_context():
        style()
        pictures = {name: figure(gains, reference)} | (figures(rows) if whole_study else {})
        for file, (fig, _) in pictures.items():
            fig.savefig(folder / f"{file}.png", bbox_inches="tight")
            plt.close(fig)
