"""What matters when there are more experts? Six methods merge 1 to 8 of them, at home and abroad.

    samerge-edu study scale          about 8 minutes on two idle cores

After Yadav et al., "What matters for model merging at scale?" (arXiv:2410.03617), who merge up to eight experts of
models up to 64 B. Here one size of model, and every number of experts with a spread: the orders in which they come are
one that is drawn, and the same begun at other places. With all eight of them each task is merged equally often at every
N; the record that comes with the package has four.
"""

import json
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeVar

from matplotlib.figure import Figure

from ..evaluate import choose_lam, provenance, scores
from ..methods import METHODS
from ..params import add, task_vectors
from ..plots import by_number_of_experts
from ..suites import load_suite
from ..suites.suite import Suite
from ..sweep import sweep

Row = TypeVar("Row")

COMPARED = ("Average", "Task Arithmetic", "TIES", "SA-Merging", "TSV-M", "WUDI (optimum, every matrix)")
"""Rows of `METHODS`. The average has no scale to choose; that of the others is chosen on validation."""

GRID = (0.18, 0.3, 0.56, 1.0, 1.8)
"""Scales that are tried: `LAMS` without its ends. The plain sum of eight is best at the lowest, or a little below."""


def orders(tasks: Sequence[str], seed: int = 0, every: int = 1) -> list[list[str]]:
    """One order that is drawn, and the same begun at each of its places, or at every second, third, ...

    >>> sorted(order.index("a") for order in orders(["a", "b", "c"]))
    [0, 1, 2]
    """
    drawn = random.Random(seed).sample(list(tasks), len(tasks))
    return [drawn[i:] + drawn[:i] for i in range(0, len(drawn), every)]


def subsets(tasks: Sequence[str], seed: int = 0, every: int = 1) -> list[list[str]]:
    """The first N experts of each order, N = 1, 2, ...; all of them once.

    >>> len(subsets("abcdefgh"))
    57
    """
    firsts = [order[:N] for N in range(1, len(tasks)) for order in orders(tasks, seed, every)]
    return [*firsts, list(tasks)]


def measure(suite: Suite, tasks: Sequence[str], methods: Sequence[str], n: int, n_val: int) -> list[dict]:
    """One row a method: these experts merged, at the scale that `n_val` images of each of their tasks choose.

    `per_task` is of all tasks of the suite, whether their expert is among the merged ones or not.
    """
    smaller = replace(suite, experts={task: suite.experts[task] for task in tasks})
    taus = task_vectors(suite.theta_0, [dict(theta) for theta in smaller.experts.values()])
    rows = []
    for name in methods:
        start = time.perf_counter()
        tau_m = METHODS[name].recipe(smaller)(taus)
        seconds = time.perf_counter() - start
        lam = METHODS[name].lam if name == "Average" else choose_lam(smaller, tau_m, GRID, n=n_val)[0]
        per_task = scores(suite, add(suite.theta_0, tau_m, lam), n=n)
        rows.append({"method": name, "merged": list(tasks), "lam": lam, "seconds": seconds, "per_task": per_task})
    return rows


@cache
def loaded(name: str) -> Suite:
    return load_suite(name)  # once in each process


def job(suite: str, tasks: Sequence[str], methods: Sequence[str], n: int, n_val: int) -> list[dict]:
    """`measure` for another process. No tasks: the base, in one row; "experts": each on its own task."""
    if tasks == "experts":
        own = {task: scores(loaded(suite), theta, tasks=[task], n=n)[task] for task, theta in experts_of(suite)}
        return [{"method": "experts", "merged": [], "per_task": own}]
    if not tasks:
        return [{"method": "base", "merged": [], "per_task": scores(loaded(suite), loaded(suite).theta_0, n=n)}]
    return measure(loaded(suite), tasks, methods, n, n_val)


def experts_of(suite: str) -> Iterable:
    return loaded(suite).experts.items()


def run(
    n: int = 60,
    n_jobs: int = 1,
    suite: str = "pocket",
    methods: Sequence[str] = COMPARED,
    seed: int = 0,
    every: int = 2,
    **where: Any,
) -> Iterator[dict]:
    """The record as it grows: {"suite", "test_images", "val_images", "versions", "rows": [...]}, after each subset.

    `n` test images a task, and half as many to choose each scale. `every` second order (1: all) is tried. `where`: the
    engine and the journal of the `sweep`.
    """
    n_val, tasks = max(1, n // 2), loaded(suite).id_tasks
    record: dict[str, Any] = {"suite": suite, "test_images": n, "val_images": n_val, "seed": seed, "every": every}
    record |= {"versions": provenance(), "rows": []}
    common = {"suite": suite, "methods": tuple(methods), "n": n, "n_val": n_val}
    jobs = [
        common | {"tasks": part} for part in ([], "experts", *reversed(subsets(tasks, seed, every)))
    ]  # the longest first
    for rows in in_order(sweep(job, jobs, n_jobs, **where)):
        record["rows"] = rows
        yield record
    record["rows"].sort(key=lambda row: (len(row["merged"]), row["merged"]))


def in_order(results: Iterable[tuple[int, Sequence[Row]]]) -> Iterator[list[Row]]:
    """All rows so far, in the order of the jobs, whatever the order in which a sweep's jobs finish.

    >>> list(in_order([(2, ["c"]), (0, ["a", "b"])]))
    [['c'], ['a', 'b', 'c']]
    """
    found: dict[int, Sequence[Row]] = {}
    for number, rows in results:
        found[number] = rows
        yield [row for i in sorted(found) for row in found[i]]


# ---------------------------------------------------------------------------- what comes out


def recorded(study: str) -> dict:
    """The record of a study that comes with the package: what `samerge-edu study` wrote when the docs were made."""
    return json.loads((Path(__file__).parent / f"{study}.json").read_text(encoding="utf-8"))


def by_size(record: Mapping, method: str) -> dict[int, list[dict]]:
    """N -> one {"id", "worst", "ood", "all", "kept", "merged"} for each subset of N experts, in percent.

    "id": the mean of the merged tasks; "all": of the tasks of all experts, merged or not; "kept": of what the merged
    tasks' experts reach.
    """
    (base,) = (row["per_task"] for row in record["rows"] if row["method"] == "base")
    (own,) = (row["per_task"] for row in record["rows"] if row["method"] == "experts")
    ood = [task for task in base if task not in own]
    found: dict[int, list[dict]] = {}
    for row in record["rows"]:
        if row["method"] == method:
            got, merged = row["per_task"], row["merged"]
            line = {
                "id": mean(got[task] for task in merged),
                "worst": min(got[task] for task in merged),
                "ood": mean(got[task] for task in ood),
                "all": mean(got[task] for task in own),
                "kept": mean(100 * got[task] / own[task] for task in merged),
                "merged": merged,
            }
            found.setdefault(len(merged), []).append(line)
    return dict(sorted(found.items()))


def methods_of(record: Mapping) -> list[str]:
    return [name for name in dict.fromkeys(row["method"] for row in record["rows"]) if name not in ("base", "experts")]


def spread(values: Sequence[float]) -> str:
    """ "74.3 (2.1)": mean, and the standard deviation if there are two or more.

    >>> spread([1.0, 3.0]), spread([2.0])
    ('2.0 (1.4)', '2.0')
    """
    return f"{mean(values):.1f}" + (f" ({stdev(values):.1f})" if len(values) > 1 else "")


def report(record: Mapping) -> str:
    """Markdown: at home and abroad, by method and number of experts, mean (spread over the subsets)."""
    out = []
    for key, heading in (("id", "ID average of the merged tasks"), ("ood", "OOD average")):
        sizes = list(by_size(record, methods_of(record)[0]))
        out += [f"\n| {heading} | {' | '.join(f'N = {N}' for N in sizes)} |", "|---" * (len(sizes) + 1) + "|"]
        for name in methods_of(record):
            lines = by_size(record, name)
            out.append(f"| {name} | {' | '.join(spread([line[key] for line in lines[N]]) for N in sizes)} |")
    return "\n".join([*out, ""]).lstrip()


def figure(record: Mapping) -> tuple[Figure, str]:
    curves = {}
    for name in methods_of(record):
        lines = by_size(record, name)
        curves[name] = {key: {N: [line[key] for line in lines[N]] for N in lines} for key in ("id", "ood")}
    return by_number_of_experts(curves)
