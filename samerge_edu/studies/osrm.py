"""LoRA experts begun orthogonally to the other tasks (OSRM): do they answer them less, and merge better?

    samerge-edu study osrm

Four tasks with three kinds of experts of rank 4: the shipped ones, those begun by `osrm.orthogonal_starts`, and the
shipped ones cut to the same directions afterwards. Merged in all subsets of three, and all four.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from .ablation import run as ablate
from .ablation import table
from .scale import loaded, spread

IMAGES = 100
"""Validation images of each task whose inputs are looked at: what OSRM's paper takes."""


def kinds(r: int = 4) -> dict[str, Suite]:
    """The three kinds of experts, as suites of the same four tasks."""
    osrm, plain = loaded("pocket-osrm"), loaded("pocket-lora-4")
    grams = inputs(osrm)
    cut = {task: cut_to(plain.adapters[task], others(grams, task, r)) for task in osrm.id_tasks}
    return {
        "LoRA": with_adapters(plain, {task: plain.adapters[task] for task in osrm.id_tasks}),
        "OSRM": osrm,
        "LoRA, cut afterwards": with_adapters(plain, cut),
    }


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


def run(n: int = 100, n_jobs: int = 1) -> Iterator[dict]:
    """The record as it grows, kind by kind: {"test_images", "versions", "experts": [...], "merges": [...]}.

    Everything runs in this process.
    """
    record: dict[str, Any] = {"test_images": n, "versions": provenance(), "experts": [], "merges": []}
    suites = kinds()
    grams = inputs(suites["OSRM"])
    for kind, suite in suites.items():
        tasks = suite.id_tasks
        for task, share in zip(tasks, answers(suite, grams), strict=True):
            got = scores(suite, suite.experts[task], tasks=[task, *suite.ood_tasks], n=n)
            ood = mean(got[t] for t in suite.ood_tasks)
            record["experts"].append({"kind": kind, "task": task, "home": got[task], "ood": ood, "answer": share})
        for some in [tasks, *map(list, combinations(tasks, 3))]:
            smaller = with_adapters(suite, {task: suite.adapters[task] for task in some})
            variants = {"TA": task_arithmetic, "KnOTS + TIES": knots_ties(smaller), "TSV-M": tsv_m}
            rows = ablate(smaller, variants, n=n, which=[some])
            left = ", ".join(task for task in tasks if task not in some)
            record["merges"] += [{"kind": kind} | row | {"left_out": left} for row in rows.to_dict("records")]
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
