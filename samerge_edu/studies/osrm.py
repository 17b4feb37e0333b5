"""LoRA experts begun orthogonally to the other tasks (OSRM): do they answer them less, and merge better?

    samerge-edu study osrm

Four tasks with three kinds of experts of rank 4: the shipped ones, those begun by `osrm.orthogonal_starts`, and the
shipped ones cut to the same directions afterwards. Merged in all subsets of three, and all four.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from statistics import mean
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..evaluate import provenance, scores
from ..lora import Adapter, dense
from ..merges.task_arithmetic import task_arithmetic
from ..merges.tsv_m import tsv_m
from ..methods import knots_ties
from ..osrm import cut_to, orthogonal_starts
from ..params import Params, add
from ..plots import begun_orthogonally
from ..statistics import input_grams
from ..suites.suite import Suite
from ..sweep import sweep
from .ablation import run as ablate
from .ablation import table
from .scale import in_order, loaded, spread

IMAGES = 100
"""Validation images of each task whose inputs are looked at: what OSRM's paper takes."""

KINDS = ("LoRA", "OSRM", "LoRA, cut afterwards")


def kinds(r: int = 4) -> dict[str, Suite]:
    """The three kinds of experts, as suites of the same four tasks."""
    osrm, plain = loaded("pocket-osrm"), loaded("pocket-lora-4")
    grams = inputs(osrm)
    cut = {task: cut_to(plain.adapters[task], others(grams, task, r)) for task in osrm.id_tasks}
    same = with_adapters(plain, {task: plain.adapters[task] for task in osrm.id_tasks})
    return dict(zip(KINDS, (same, osrm, with_adapters(plain, cut)), strict=True))


def with_adapters(suite: Suite, adapters: Mapping[str, Adapter]) -> Suite:
    theta_0 = suite.theta_0
    experts = {task: add(theta_0, dense(adapter, like=theta_0)) for task, adapter in adapters.items()}
    return replace(suite, adapters=adapters, experts=experts)


def inputs(suite: Suite) -> dict[str, dict[str, Tensor]]:
    """task -> Grams of what enters each matrix of the base."""
    return {task: input_grams(suite, suite.theta_0, task, n=IMAGES, split="val") for task in suite.id_tasks}


def others(grams: Mapping[str, Params], task: str, r: int) -> dict[str, Tensor]:
    """OSRM's A for a task."""
    return {
        key: A.float()
        for key, A in orthogonal_starts([gram for other, gram in grams.items() if other != task], r).items()
    }


def answers(suite: Suite, grams: Mapping[str, Params]) -> list[float]:
    """For each expert how strongly its updates answer the inputs of the others, as a share of its answer to its own.

    |tau x|^2 on average = tr(tau G tau^T)          sqrt of (others' mean / own), mean over the matrices
    """
    shares = []
    for task, adapter in suite.adapters.items():
        tau = {key: update.double() for key, update in dense(adapter).items()}

        def energy(key: str, of: str, tau: Params = tau) -> float:
            return torch.einsum("oi,ij,oj->", tau[key], grams[of][key], tau[key]).item()

        rest = [other for other in suite.adapters if other != task]
        shares.append(mean((mean(energy(k, o) for o in rest) / energy(k, task)) ** 0.5 for k in tau))
    return shares


@cache
def loaded_kinds() -> tuple[dict[str, Suite], dict[str, dict[str, Tensor]]]:
    """(kinds, inputs of the tasks), once in each process."""
    suites = kinds()
    return suites, inputs(suites["OSRM"])


def alone(kind: str, n: int) -> list[dict]:
    """Each expert of a kind by itself: accuracy at home and abroad, and how it answers the others' inputs."""
    suites, grams = loaded_kinds()
    suite, rows = suites[kind], []
    for task, share in zip(suite.id_tasks, answers(suite, grams), strict=True):
        got = scores(suite, suite.experts[task], tasks=[task, *suite.ood_tasks], n=n)
        ood = mean(got[t] for t in suite.ood_tasks)
        rows.append({"kind": kind, "task": task, "home": got[task], "ood": ood, "answer": share})
    return rows


def merges(kind: str, tasks: Sequence[str], n: int) -> list[dict]:
    """Three merges of some experts of a kind."""
    suite = loaded_kinds()[0][kind]
    smaller = with_adapters(suite, {task: suite.adapters[task] for task in tasks})
    variants = {"TA": task_arithmetic, "KnOTS + TIES": knots_ties(smaller), "TSV-M": tsv_m}
    rows = ablate(smaller, variants, n=n, which=[tasks])
    left = ", ".join(task for task in suite.id_tasks if task not in tasks)
    return [{"kind": kind} | row | {"left_out": left} for row in rows.to_dict("records")]


def job(what: str, **knobs: Any) -> list[tuple[str, dict]]:
    """Rows, each with the part of the record that it belongs to."""
    return [(what, row) for row in {"experts": alone, "merges": merges}[what](**knobs)]


def run(n: int = 100, n_jobs: int = 1, **where: Any) -> Iterator[dict]:
    """The record as it grows, kind by kind: {"test_images", "versions", "experts": [...], "merges": [...]}.

    `where`: the engine and the journal of the `sweep`.
    """
    record: dict[str, Any] = {"test_images": n, "versions": provenance(), "experts": [], "merges": []}
    tasks = loaded("pocket-osrm").id_tasks
    subsets = [tasks, *map(list, combinations(tasks, 3))]
    jobs: list[dict[str, Any]] = []
    for kind in KINDS:
        jobs.append({"what": "experts", "kind": kind, "n": n})
        jobs += [{"what": "merges", "kind": kind, "tasks": some, "n": n} for some in subsets]
    for rows in in_order(sweep(job, jobs, n_jobs, **where)):
        for part in ("experts", "merges"):
            record[part] = [row for what, row in rows if what == part]
        yield record


# ---------------------------------------------------------------------------- what comes out


def gains(record: Mapping, variant: str) -> pd.DataFrame:
    """One merge of the three kinds of experts: each kind's difference from plain LoRA, with its spread over subsets."""
    rows = pd.DataFrame(record["merges"])
    rows = rows[rows.variant == variant].assign(variant=rows.kind)
    return table(rows, "LoRA").set_index("variant")


def report(record: Mapping) -> str:
    """Markdown: the experts, mean (spread over tasks); the merges, mean and difference (spread over subsets)."""
    kinds = list(dict.fromkeys(row["kind"] for row in record["experts"]))
    out = ["| experts | home | abroad | answer to the others' inputs, own = 1 |", "|---|---|---|---|"]
    for kind in kinds:
        own = [row for row in record["experts"] if row["kind"] == kind]
        answer = [row["answer"] for row in own]
        cells = [spread([row[key] for row in own]) for key in ("home", "ood")]
        out.append(f"| {kind} | {' | '.join(cells)} | {mean(answer):.2f} |")
    out += [
        "",
        f"| merged by | {' | '.join(f'{kind}: ID | OOD' for kind in kinds)} |",
        "|---" * (1 + 2 * len(kinds)) + "|",
    ]
    for variant in dict.fromkeys(row["variant"] for row in record["merges"]):
        found = gains(record, variant)
        cells = [
            f"{found.id_avg[kind]:.1f}"
            + (f", {found.id_gain[kind]:+.1f} ({found.id_spread[kind]:.1f})" if kind != "LoRA" else "")
            + f" | {found.ood_avg[kind]:.1f}"
            for kind in kinds
        ]
        out.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join([*out, ""])


def figure(record: Mapping) -> tuple[Figure, str]:
    variants = dict.fromkeys(row["variant"] for row in record["merges"])
    tables = {variant: gains(record, variant) for variant in variants}
    answer: dict[str, list[float]] = {}
    for row in record["experts"]:
        answer.setdefault(row["kind"], []).append(row["answer"])
    return begun_orthogonally(
        {kind: mean(values) for kind, values in answer.items()},
        {v: {k: (t.id_avg[k], t.id_spread[k]) for k in t.index} for v, t in tables.items()},
    )
