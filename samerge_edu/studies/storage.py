"""What does a megabyte buy? One merged model, and the same with masks, low-rank parts or whole experts beside it.

    samerge-edu study storage        took 26 minutes on two cores that were busy with much else

Every part is measured twice where it can be: told the task of each image, and with a router that has to find it out.
The difference is what the router costs at home. Scales are the published ones; nothing is chosen on test images.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from statistics import mean
from typing import Any

import torch
from matplotlib.figure import Figure

from ..adaptation.surgery import surgery
from ..ensembles.ensemble import Ensemble, Part, measure, whole
from ..ensembles.free_merging import free_merging
from ..ensembles.localize_and_stitch import localize, stitch
from ..ensembles.router import train_router
from ..ensembles.tall_masks import masked, tall_experts
from ..ensembles.twin_merging import twin_merging
from ..evaluate import h_score, provenance, scores
from ..merges.average import average
from ..merges.emr import emr, emr_masks
from ..merges.iso import iso_c
from ..merges.task_arithmetic import task_arithmetic
from ..merges.tsv_m import tsv_m
from ..params import Params, add, pipe, task_vectors
from ..plots import megabytes
from ..suites import load_suite
from ..suites.suite import Suite
from ..sweep import sweep
from ..transforms.free_fr import free_fr
from .scale import in_order
from .scale import recorded as record_of

RANKS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Kept:
    """One point of the figure: `make(suite, taus)` -> a merged update, or an Ensemble.

    `line`: points of one line are joined in the figure, in the order of the table. `router`: whether it is measured
    with a router, too. `suite`: whose experts are kept.
    """

    make: Callable[[Suite, Sequence[Params]], Params | Ensemble]
    line: str
    needs: str = "none"
    router: bool = True
    suite: str = "pocket"
    lam: float = 1.0


def routed(suite: Suite, ensemble: Ensemble) -> Ensemble:
    """The same with a router on the features of its shared model."""
    return replace(ensemble, router=train_router(suite, ensemble.theta))


def experts(suite: Suite, taus: Sequence[Params], dtype: torch.dtype | None = None) -> Ensemble:
    """All experts beside the base, whole."""
    parts = {task: whole(tau, dtype) for task, tau in zip(suite.id_tasks, taus, strict=True)}
    return routed(suite, Ensemble(suite.theta_0, parts))


def emr_experts(suite: Suite, taus: Sequence[Params]) -> Ensemble:
    """EMR-Merging: one elected vector, and for each task a mask and a factor (`merges.emr`)."""
    shared, parts = emr(taus), {}
    for task, (m, lam) in zip(suite.id_tasks, emr_masks(taus), strict=True):
        part = masked(m, shared)
        stored = {**part.stored, "lam": torch.tensor([lam], dtype=torch.float32)}
        parts[task] = Part(stored, partial(scaled, unpack=part.unpack))
    return routed(suite, Ensemble(suite.theta_0, parts, second=shared))


def scaled(stored: Mapping[str, torch.Tensor], unpack: Callable) -> dict[str, torch.Tensor]:
    """What `unpack` makes of it, times the factor that is kept."""
    return {key: stored["lam"].item() * x for key, x in unpack(stored).items()}


def twin(rank: int, suite: Suite, taus: Sequence[Params]) -> Ensemble:
    return twin_merging(suite, add(suite.theta_0, task_arithmetic(taus), 0.29), rank=rank)


def low_rank(rank: int, suite: Suite, taus: Sequence[Params]) -> Ensemble:
    """The control of Twin-Merging: the same parts and router on the base, without any merge."""
    return twin_merging(suite, suite.theta_0, rank=rank)


def free(density: float, suite: Suite, taus: Sequence[Params]) -> Ensemble:
    shared = pipe(partial(free_fr, align=False), task_arithmetic)(taus)
    return free_merging(suite, add(suite.theta_0, shared, 0.5), density=density)


def learned(suite: Suite, taus: Sequence[Params]) -> Params:
    return stitch(taus, localize(suite, taus))


KEPT: dict[str, Kept] = {
    "Average": Kept(lambda suite, taus: average(taus), "one model"),
    "Task Arithmetic": Kept(lambda suite, taus: task_arithmetic(taus), "one model", lam=0.3),
    "TSV-M": Kept(lambda suite, taus: tsv_m(taus), "one model"),
    "Iso-C": Kept(lambda suite, taus: iso_c(taus), "one model", lam=1.3),
    "Localize-and-Stitch": Kept(learned, "one model", needs="labelled"),
    "TA + Surgery": Kept(lambda suite, taus: task_arithmetic(taus), "Surgery", needs="unlabelled", lam=0.3),
    **{f"base, rank {r}": Kept(partial(low_rank, r), "low rank on the base", "unlabelled") for r in RANKS},
    **{f"Twin, rank {r}": Kept(partial(twin, r), "Twin-Merging", "unlabelled") for r in RANKS},
    **{f"FREE, {d:.0%}": Kept(partial(free, d), "FREE-Merging", "unlabelled") for d in (0.01, 0.05)},
    **{
        f"LoRA, rank {r}": Kept(partial(low_rank, r), "LoRA experts", "unlabelled", suite=name)
        for r, name in ((4, "pocket-lora-4"), (16, "pocket-lora"))
    },
    "TALL masks": Kept(lambda suite, taus: tall_experts(suite, router=True), "masks", "labelled"),
    "EMR masks": Kept(emr_experts, "masks", "unlabelled"),
    "experts, 16 bits": Kept(lambda suite, taus: experts(suite, taus, torch.float16), "experts", "unlabelled"),
    "experts": Kept(experts, "experts", "unlabelled"),
}


# ---------------------------------------------------------------------------- measuring


def rows_of(suite: Suite, taus: Sequence[Params], name: str, kept: Kept, n: int) -> list[dict]:
    """One row for each way of asking: "" (one model), "task id", "router"; accuracies on n test images a task."""
    made = kept.make(suite, taus)
    if not isinstance(made, Ensemble):
        theta = add(suite.theta_0, made, kept.lam)
        repair = surgery(suite, theta) if kept.line == "Surgery" else {}
        mb = sum(x.nbytes for bottleneck in repair.values() for x in bottleneck) / 1e6
        found = [("task id" if repair else "", mb, scores(suite, theta, n=n, repair=repair), {})]
    else:
        told = replace(made, router=None)
        found = [("task id", told.megabytes, *measure(suite, told, n=n))]
        found += [("router", made.megabytes, *measure(suite, made, n=n))] if made.router else []
    about = {"method": name, "line": kept.line, "needs": kept.needs}
    return [about | {"asks": a, "stored_mb": mb} | averages(suite, got) | {"routes": r} for a, mb, got, r in found]


def averages(suite: Suite, per_task: Mapping[str, float]) -> dict:
    at_home = [per_task[task] for task in suite.id_tasks]
    id_avg, ood_avg = mean(at_home), mean(per_task[task] for task in suite.ood_tasks)
    found = {"id_avg": id_avg, "id_worst": min(at_home), "ood_avg": ood_avg, "h": h_score(id_avg, ood_avg)}
    return found | {"per_task": dict(per_task)}


@cache
def loaded(name: str) -> tuple[Suite, list[dict]]:
    suite = load_suite(name)  # once in each process
    return suite, task_vectors(suite.theta_0, [dict(suite.experts[task]) for task in suite.id_tasks])


def job(name: str, n: int) -> list[dict]:
    """`rows_of` for another process; "base": the base itself, which is what all others are kept beside."""
    if name == "base":
        suite, taus = loaded("pocket")
        nothing = Kept(lambda suite, taus: taus[0], "one model", lam=0.0)
        return rows_of(suite, taus, name, nothing, n)
    return rows_of(*loaded(KEPT[name].suite), name, KEPT[name], n)


def run(n: int = 100, n_jobs: int = 1, **where: Any) -> Iterator[dict]:
    """The record as it grows: {"suite", "test_images", "model_mb", "versions", "rows": [...]}, after each point.

    `where`: the engine and the journal of the `sweep`.
    """
    theta_0 = loaded("pocket")[0].theta_0
    model_mb = sum(x.nbytes for x in theta_0.values()) / 1e6
    record = {"suite": "pocket", "test_images": n, "model_mb": model_mb, "versions": provenance(), "rows": []}
    for rows in in_order(sweep(job, [{"name": name, "n": n} for name in ("base", *KEPT)], n_jobs, **where)):
        record["rows"] = rows
        yield record


# ---------------------------------------------------------------------------- what comes out


recorded = partial(record_of, "storage")


def report(record: Mapping) -> str:
    """Markdown: one line a point, told the task beside routed."""
    heads = ["kept", "needs", "MB beside", "ID, told", "ID, routed", "worst, routed", "OOD, told", "OOD, routed"]
    out = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in dict.fromkeys(row["method"] for row in record["rows"]):
        ways = {row["asks"]: row for row in record["rows"] if row["method"] == name}
        told, router = ways.get("task id", {}), ways.get("router", ways.get("", {}))
        most = router or told
        numbers = [told.get("id_avg"), router.get("id_avg"), router.get("id_worst")]
        numbers += [told.get("ood_avg"), router.get("ood_avg")]
        cells = ["" if x is None else f"{x:.1f}" for x in numbers]
        out.append(f"| {name} | {most['needs']} | {most['stored_mb']:.2f} | {' | '.join(cells)} |")
    return "\n".join([*out, ""])


def figure(record: Mapping) -> tuple[Figure, str]:
    return megabytes(record["rows"], record["model_mb"])
