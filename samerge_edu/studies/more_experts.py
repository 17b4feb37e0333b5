"""Why do more experts fail? What that theory speaks of, measured: the gain of each expert added, and where it ends.

    samerge-edu study more-experts          seconds: it reads the merges that `study scale` has recorded

Wang et al., "Why do more experts fail? A theoretical analysis of model merging" (arXiv:2505.21226). Of its statements

    can be checked here    each further expert gains less (a concave curve); the space that the experts' updates take
                           fills up; beyond some number the next one is not worth it
    cannot                 that a *unique* number exists beyond which nothing is gained, and the bounds behind it: they
                           hold for random sets in high dimension, and eight experts of one base are no sample of any
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..evaluate import provenance
from ..params import Params, block_index, flatten, task_vectors
from ..plots import further_experts
from ..suites.suite import Suite
from .scale import by_size, loaded, methods_of, orders, recorded, spread

MIDDLE = 2
"""The block whose matrices' ranks are looked at: one is enough to see it."""


def steps(record: Mapping, method: str) -> list[list[float]]:
    """For each N by how many points the N-th expert raises the average over the tasks of *all* experts, in each order.

    The average counts tasks whose expert is not there yet, so that the first expert is compared with the base and
    the last with all but itself. What an expert gains for its own task it may cost the others.
    """
    (base,) = (row["per_task"] for row in record["rows"] if row["method"] == "base")
    (own,) = (row["per_task"] for row in record["rows"] if row["method"] == "experts")
    reached = {frozenset(line["merged"]): line["all"] for part in by_size(record, method).values() for line in part}
    reached[frozenset()] = mean(base[task] for task in own)
    curves = [
        [reached[frozenset(order[:N])] for N in range(len(order) + 1)]
        for order in orders(list(own), record["seed"], record["every"])
    ]
    each = [[after - before for before, after in pairwise(curve)] for curve in curves]
    return [list(at_N) for at_N in zip(*each, strict=True)]


def effective_rank(W: Tensor) -> float:
    """exp(entropy of the shares s_i^2 / sum s^2): in how many directions the squared length of a matrix lies.

    >>> round(effective_rank(torch.eye(4)), 3), round(effective_rank(torch.ones(4, 4)), 3)
    (4.0, 1.0)
    """
    W = W.double() if W.shape[0] <= W.shape[1] else W.T.double()
    share = torch.linalg.eigvalsh(W @ W.T).clamp(min=0)  # s_i^2
    return torch.special.entr(share / share.sum()).sum().exp().item()


def width(taus: Sequence[Tensor], draws: int = 2000, seed: int = 0) -> float:
    """Gaussian width of a set of N vectors, each brought to length 1: the mean over g ~ N(0, 1) of max_n <g, tau_n>.

    By their cosines alone: the N products <g, tau_n> are normal, with these as covariance. N orthogonal vectors have a
    width that grows like sqrt(2 ln N). A set of one has 0.
    """
    units = torch.stack([tau / tau.norm() for tau in taus]).double()
    values, vectors = torch.linalg.eigh(units @ units.T)
    half = vectors * values.clamp(min=0).sqrt()
    g = torch.randn(len(units), draws, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (half @ g).amax(dim=0).mean().item()


def geometry(suite: Suite, seed: int = 0, every: int = 1) -> list[dict]:
    """For each order and N: how long the sum is, how many directions it and the experts side by side use.

    "length"   |sum tau| / mean |tau_n|             sqrt(N) if the experts are orthogonal, N if they are equal
    "rank"     effective rank of the sum, mean over the matrices of the middle block, as a share of the largest possible
    "beside"   the same of [tau_1 ... tau_N], the experts side by side: of (out, N in)
    "heard"    cosine of an expert with the sum, mean over the experts
    "width"    Gaussian width of the set
    """
    taus = dict(zip(suite.id_tasks, task_vectors(suite.theta_0, list(suite.experts.values())), strict=True))
    flat = {task: flatten(tau) for task, tau in taus.items()}
    rows = []
    for order in orders(suite.id_tasks, seed, every):
        for N in range(1, len(order) + 1):
            some = [flat[task] for task in order[:N]]
            total = torch.stack(some).sum(dim=0)
            rows.append(
                {
                    "N": N,
                    "length": (total.norm() / mean(x.norm().item() for x in some)).item(),
                    "heard": mean(torch.cosine_similarity(x, total, dim=0).item() for x in some),
                    "width": width(some),
                    **_ranks([taus[task] for task in order[:N]]),
                }
            )
    return rows


def _ranks(taus: Sequence[Params]) -> dict[str, float]:
    alone, beside = [], []
    for key in taus[0]:
        parts = [tau[key] for tau in taus]
        if parts[0].ndim == 2 and block_index(key) == MIDDLE:
            most = min(parts[0].shape)
            alone.append(effective_rank(torch.stack(parts).sum(dim=0)) / most)
            beside.append(effective_rank(torch.cat(parts, dim=1)) / parts[0].shape[0])
    return {"rank": mean(alone), "beside": mean(beside)}


def run(n: int | None = None, n_jobs: int = 1, **where: Any) -> Iterator[dict]:
    """The record: {"suite", "scale", "steps": {method: for each N the points gained}, "geometry": [...], "versions"}.

    The merges are those of `study scale`, whatever `n`, `n_jobs` and `where` are; "scale" says how they were
    measured. Nothing is left for a sweep to do.
    """
    merges = recorded("scale")
    yield {
        "suite": merges["suite"],
        "scale": {key: merges[key] for key in ("test_images", "val_images", "seed", "every", "versions")},
        "versions": provenance(),
        "steps": {name: steps(merges, name) for name in methods_of(merges)},
        "geometry": geometry(loaded(merges["suite"]), merges["seed"], merges["every"]),
    }


LABELS = {
    "length": "length of the sum, beside one expert",
    "heard": "cosine of an expert with the sum",
    "rank": "effective rank of the sum, share",
    "beside": "effective rank of the experts side by side, share",
    "width": "Gaussian width",
}


def by_number(record: Mapping, key: str) -> list[float]:
    """A quantity of `geometry` for N = 1, 2, ...: the mean over the orders."""
    sizes = sorted({row["N"] for row in record["geometry"]})
    return [mean(row[key] for row in record["geometry"] if row["N"] == N) for N in sizes]


def report(record: Mapping) -> str:
    """Markdown: what each further expert gains, mean (spread over the orders); what becomes of their sum, mean."""
    N = len(next(iter(record["steps"].values())))
    numbers, rule = " | ".join(map(str, range(1, N + 1))), "|---" * (N + 1) + "|"
    out = [f"| points gained by expert | {numbers} |", rule]
    for name, gained in record["steps"].items():
        out.append(f"| {name} | {' | '.join(map(spread, gained))} |")
    out += ["", f"| experts | {numbers} |", rule]
    for key, label in LABELS.items():
        out.append(f"| {label} | {' | '.join(f'{value:.2f}' for value in by_number(record, key))} |")
    return "\n".join([*out, ""])


def figure(record: Mapping) -> tuple[Figure, str]:
    return further_experts(record["steps"], {LABELS[k]: by_number(record, k) for k in ("rank", "beside")})
