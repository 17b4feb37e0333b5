"""What all ablations share: merge subsets of the experts by every variant, compare within a subset, draw, write.

Every variant merges several subsets, so that its number comes with a spread. The scale is chosen for each variant and
subset on validation images; what is reported is the test split.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from ..evaluate import choose_lam, h_score, scores
from ..params import Params, add, mean_cosine, task_vectors
from ..plots import style, titled
from ..suites.suite import Suite

Recipe = Callable[[Sequence[Params]], Params]


# ---------------------------------------------------------------------------- run


def subsets(tasks: Sequence[str]) -> list[list[str]]:
    """All experts; all without the first two; all without the fifth and sixth.

    >>> subsets(list("abcdefgh"))
    [['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'], ['c', 'd', 'e', 'f', 'g', 'h'], ['a', 'b', 'c', 'd', 'g', 'h']]
    """
    return [list(tasks), list(tasks[2:]), [*tasks[:4], *tasks[6:]]]


def run(
    suite: Suite,
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
            some = subset(suite, tasks)
            for name, recipe in variants.items():
                bar.set_description(f"{part}: {name}")
                rows += rows_of(some, name, recipe, n, (fixed or {}).get(name), part)
                bar.update()
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Subset:
    """Some of a suite's experts: `suite` has no others, `taus` are their task vectors, `about` is what a row says."""

    suite: Suite
    taus: list[dict[str, Tensor]]
    about: dict[str, Any]


def subset(suite: Suite, tasks: Sequence[str]) -> Subset:
    """The experts of these tasks."""
    smaller = replace(suite, experts={t: suite.experts[t] for t in tasks})
    taus = task_vectors(suite.theta_0, [dict(theta) for theta in smaller.experts.values()])
    left_out = ", ".join(t for t in suite.id_tasks if t not in tasks)
    return Subset(smaller, taus, {"tasks": len(tasks), "left_out": left_out, "cosine": mean_cosine(taus)})


def rows_of(some: Subset, variant: str, recipe: Recipe, n: int, fixed: float | None, part: str) -> list[dict]:
    """A variant merges a subset once: its row at the scale chosen on validation, and at the `fixed` one, if any."""
    suite, tasks, tau_m = some.suite, list(some.suite.experts), recipe(some.taus)
    lams = {"validation": choose_lam(suite, tau_m, n=n)[0]} | ({} if fixed is None else {"fixed": fixed})
    at = {lam: add(suite.theta_0, tau_m, lam) for lam in set(lams.values())}
    at = {lam: scores(suite, theta, "test", [*tasks, *suite.ood_tasks], n) for lam, theta in at.items()}
    rows = []
    for lam_from, lam in lams.items():
        per_task = at[lam]
        id_avg, ood_avg = (mean(per_task[t] for t in group) for group in (tasks, suite.ood_tasks))
        row = {"variant": variant, "part": part, **some.about, "lam": lam, "lam_from": lam_from, "id_avg": id_avg}
        rows.append(row | {"ood_avg": ood_avg, "h": h_score(id_avg, ood_avg), "per_task": per_task})
    return rows


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


def write(
    rows: pd.DataFrame,
    gains: pd.DataFrame,
    reference: str,
    folder: Path,
    name: str,
    more: Mapping[str, tuple[Figure, str]] | None = None,
) -> None:
    """NAME.json (every merge, one a line), NAME.csv (the table) and NAME.png into a folder; `more` pictures beside."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) for row in rows.round(3).to_dict("records")]
    (folder / f"{name}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    gains.to_csv(folder / f"{name}.csv", index=False, float_format="%.4g")
    with plt.rc_context():
        style()
        for file, (fig, _) in {name: figure(gains, reference), **(more or {})}.items():
            fig.savefig(folder / f"{file}.png", bbox_inches="tight")
            plt.close(fig)
