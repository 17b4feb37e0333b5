"""If the updates are redundant, does choosing entries by saliency pay? Experts trained for merging, and the answer.

    samerge-edu study sparse

SA-Merging presupposes that a tenth of an expert's entries carries its task. Of the shipped experts that is hardly true,
of those of `pocket-sparse` it is, by their training: each step of AdamW ends with a proximal step towards the base.
Both are merged in five subsets of the experts, all, and all but two, each left out once: the sparse ones by 13 methods,
the shipped ones by the plain sum and the masks (the others: docs/ablations/).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import mean
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from ..evaluate import provenance, scores
from ..merges.iso import iso_cts
from ..merges.task_arithmetic import task_arithmetic
from ..merges.ties import ties
from ..merges.tsv_m import tsv_m
from ..merges.wudi import wudi_optimum
from ..methods import sa
from ..params import add, flatten, pipe, task_vectors
from ..plots import trained_for_merging
from ..saliency import magnitude_score, random_score
from ..suites.suite import Suite
from ..sweep import sweep
from ..transforms.lwptv import lwptv
from ..transforms.sa_merging import sa_merging
from ..transforms.trim import trim
from .ablation import Recipe, table
from .ablation import run as ablate
from .sa_merging import FINAL
from .scale import in_order, loaded, spread

SUITES = ("pocket", "pocket-sparse")
KEPT = (0.2, 0.1, 0.05)
"""Densities at which an expert is asked what is left of its gain."""


def sparse_variants(suite: Suite) -> dict[str, Recipe]:
    """Masks by saliency, by size and by lot at one density, the plain sum, and what solves for directions."""

    def masked(**knobs) -> Recipe:
        return pipe(partial(sa_merging, **knobs), task_arithmetic)

    lot = random_score(torch.Generator().manual_seed(0))
    return {
        "TA": task_arithmetic,
        "TIES": ties,
        "TSV-M": tsv_m,
        "Iso-CTS": iso_cts,
        "WUDI (optimum, matrices)": partial(wudi_optimum, scope="matrices"),
        "LwPTV + TA": pipe(lwptv, task_arithmetic),
        "SA (literal score)": pipe(sa(suite), task_arithmetic),
        "SA (agreement)": pipe(sa(suite, modulation="agreement"), task_arithmetic),
        "SA (abs)": pipe(sa(suite, modulation="abs"), task_arithmetic),
        "SA (no modulation)": pipe(sa(suite, modulation="none"), task_arithmetic),
        "largest entries": masked(score=magnitude_score()),
        "random entries": masked(score=lot, T=1, p=1 - FINAL),
        "SA (p = 0.05) + WUDI": pipe(sa(suite, p=0.05), partial(wudi_optimum, scope="matrices")),
    }


MASKS = ("SA (literal score)", "SA (agreement)", "SA (abs)", "SA (no modulation)", "largest entries", "random entries")
"""The variants that differ in nothing but which tenth of the entries they keep."""


def left_out(tasks: Sequence[str]) -> list[list[str]]:
    """All tasks; all without the first two, without the third and fourth, and so on.

    >>> left_out(list("abcd"))
    [['a', 'b', 'c', 'd'], ['c', 'd'], ['a', 'b']]
    """
    return [list(tasks), *([*tasks[:i], *tasks[i + 2 :]] for i in range(0, len(tasks), 2))]


def merges(suite: str, tasks: Sequence[str], n: int) -> list[dict]:
    """Every variant of one subset, for another process; of the dense experts the plain sum and the masks."""
    variants = sparse_variants(loaded(suite))
    if suite == "pocket":
        variants = {name: variants[name] for name in ("TA", *MASKS)}
    found = ablate(loaded(suite), variants, [tasks], n)
    return [{"suite": suite} | row for row in found.to_dict("records")]


def alone(suite: str, tasks: Sequence[str], n: int) -> list[dict]:
    """One expert by itself: accuracy at home and abroad, and how much of its gain its largest entries keep."""
    (task,), s = tasks, loaded(suite)
    (tau,) = task_vectors(s.theta_0, [dict(s.experts[task])])
    base = scores(s, s.theta_0, tasks=[task], n=n)[task]
    got = scores(s, s.experts[task], tasks=[task, *s.ood_tasks], n=n)
    trimmed = {p: scores(s, add(s.theta_0, trim([tau], p)[0]), tasks=[task], n=n)[task] for p in KEPT}
    length, moved = flatten(tau), (flatten(tau) != 0).double().mean().item()
    return [
        {
            "suite": suite,
            "task": task,
            "home": got[task],
            "ood": mean(got[t] for t in s.ood_tasks),
            "moved": 100 * moved,
            "size": 100 * (length.norm() / flatten(s.theta_0).norm()).item(),
            "kept": {str(p): 100 * (after - base) / (got[task] - base) for p, after in trimmed.items()},
        }
    ]


def job(what: str, **knobs: Any) -> list[tuple[str, dict]]:
    """Rows, each with the part of the record that it belongs to."""
    return [(what, row) for row in {"experts": alone, "merges": merges}[what](**knobs)]


def run(n: int = 60, n_jobs: int = 1, **where: Any) -> Iterator[dict]:
    """The record as it grows: {"test_images", "versions", "experts": [...], "merges": [...]}.

    `where`: the engine and the journal of the `sweep`.
    """
    record: dict[str, Any] = {"test_images": n, "versions": provenance(), "experts": [], "merges": []}
    tasks = loaded("pocket").id_tasks
    jobs = [{"what": "experts", "suite": suite, "tasks": [task], "n": n} for suite in SUITES for task in tasks]
    jobs += [{"what": "merges", "suite": suite, "tasks": some, "n": n} for some in left_out(tasks) for suite in SUITES]
    for rows in in_order(sweep(job, jobs, n_jobs, **where)):
        for part in ("experts", "merges"):
            record[part] = [row for what, row in rows if what == part]
        yield record
    record["merges"].sort(key=lambda row: (row["suite"], row["left_out"]))


# ---------------------------------------------------------------------------- what comes out


def gains(record: Mapping, suite: str) -> pd.DataFrame:
    """`ablation.table` of one suite: each variant's difference from the plain sum, with its spread over subsets."""
    rows = pd.DataFrame(record["merges"])
    return table(rows[rows.suite == suite], "TA")


def report(record: Mapping) -> str:
    """Markdown: experts of both suites, mean (spread over tasks); merges, mean and gain (spread over subsets)."""
    out = ["| experts | home | abroad | moved | size | " + " | ".join(f"kept at {p:.0%}" for p in KEPT) + " |"]
    out += ["|---" * (5 + len(KEPT)) + "|"]
    for suite in SUITES:
        own = [row for row in record["experts"] if row["suite"] == suite]
        cells = [spread([row[key] for row in own]) for key in ("home", "ood", "moved", "size")]
        cells += [spread([row["kept"][str(p)] for row in own]) for p in KEPT]
        out.append(f"| {suite} | {' | '.join(cells)} |")
    out += ["", "| merged | " + " | ".join(f"{suite}: ID | beside TA | OOD" for suite in SUITES) + " |"]
    out += ["|---" * (1 + 3 * len(SUITES)) + "|"]
    tables = [gains(record, suite).set_index("variant") for suite in SUITES]
    for name in max(tables, key=len).index:
        cells = [
            f"{t.id_avg[name]:.1f} | {t.id_gain[name]:+.1f} ({t.id_spread[name]:.1f}) | {t.ood_avg[name]:.1f}"
            if name in t.index
            else " | | "
            for t in tables
        ]
        out.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*out, ""])


def figure(record: Mapping) -> tuple[Figure, str]:
    own = {s: [row["ood"] for row in record["experts"] if row["suite"] == s] for s in SUITES}
    home = {s: [row["home"] for row in record["experts"] if row["suite"] == s] for s in SUITES}
    differences = {s: gains(record, s).set_index("variant") for s in SUITES}
    return trained_for_merging(
        home, own, {s: {v: (t.id_gain[v], t.id_spread[v]) for v in MASKS} for s, t in differences.items()}
    )
