"""How good is a merged model? At home (ID), abroad (OOD), one number for both (H), and which `lam` to use.

Every number is a percentage. ID tasks are those that have an expert; OOD tasks are those that no expert saw.
"""

import importlib.metadata
import math
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from types import MappingProxyType

import torch
from torch import Tensor

from .params import Params, add, structure
from .suites.suite import Suite, check_n, precision

LAMS = (0.1, 0.18, 0.3, 0.56, 1.0, 1.8, 3.2)
"""The scales that are tried: four a decade, as dense for sums (best near 0.3) as for means (best near 1 or 2)."""

WIDTH = 1.0
"""Points of accuracy that some hundreds of validation images cannot tell apart: the softness of `plateau`."""


def accuracy(suite: Suite, theta: Params, task: str, split: str = "test", n: int | None = None) -> float:
    """Share of a task's images whose nearest class head is the right one, in percent.

        z = encode(theta, images)  (n, dim), unit length        predicted = argmax_c  <z, head_c>

    `split` is "train", "val" (for every choice) or "test" (for reporting); `n` takes the first n images only.
    Raises ValueError for a task that the suite does not have, n < 1, and a `theta` that is no whole model: see
    `check_model`.
    """
    return scores(suite, theta, split, [task], n)[task]


def scores(
    suite: Suite,
    theta: Params,
    split: str = "test",
    tasks: Sequence[str] | None = None,
    n: int | None = None,
    repair: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({}),
) -> dict[str, float]:
    """`accuracy` of each task, in one pass of the encoder over all their images.

    `tasks`: all of them unless some are named, but never by itself one that is for reporting only (kind "report").
    `repair`: task -> what its features go through before they meet the heads, for methods that know the task
    (Surgery); features of other tasks stay as they are.
    """
    everything = [name for name, task in suite.tasks.items() if task.kind != "report"]
    tasks = everything if tasks is None else [tasks] if isinstance(tasks, str) else list(tasks)
    if not tasks:
        raise ValueError(f"tasks: got none, expected some of {', '.join(suite.tasks)}")
    check_n(n)
    theta = check_model(suite, theta)
    for task in tasks:
        if task not in suite.tasks:
            raise ValueError(f"unknown task: got '{task}', expected one of {', '.join(suite.tasks)}")
    per_task = {}
    for task, z_task, y in suite.features(theta, tasks, split, n):
        z_task = repair[task](z_task) if task in repair else z_task
        predicted = (z_task @ suite.heads[task].T).argmax(dim=1)
        per_task[task] = 100 * (predicted == y).double().mean().item()
    return per_task


def check_model(suite: Suite, theta: Params) -> dict[str, Tensor]:
    """The model in memory; raises ValueError, with the key, unless it has exactly the base's tensors, all finite.

    A tensor that were missing would be taken from the tower that encodes, so that half a model scored like the base;
    NaN would score like a guess.
    """
    got, expected = structure(theta), structure(suite.theta_0)
    for key in [*expected, *got]:
        if key not in got or key not in expected:
            raise ValueError(f"theta: {'missing' if key in expected else 'unknown'} key '{key}', as the base has them")
        if got[key][0] != expected[key][0]:
            raise ValueError(f"theta, key '{key}': got shape {got[key][0]}, expected {expected[key][0]}")
        if not got[key][1].is_floating_point:
            raise ValueError(f"theta, key '{key}': got {got[key][1]}, expected a floating tensor")
    theta = {key: theta[key] for key in theta}  # a lazy one is read once
    for key, tensor in theta.items():
        if not tensor.isfinite().all():
            raise ValueError(f"theta, key '{key}': got NaN or infinity, expected finite numbers")
    return theta


def h_score(id_avg: float, ood_avg: float) -> float:
    """Harmonic mean of ID and OOD accuracy: high only when both are (LwPTV's H; 0 when both are 0).

    >>> h_score(60.0, 40.0)
    48.0
    """
    return 2 * id_avg * ood_avg / (id_avg + ood_avg) if id_avg + ood_avg else 0.0


def summary(suite: Suite, per_task: Mapping[str, float], expert_accuracy: Mapping[str, float]) -> dict[str, float]:
    """One row of a results table from the accuracies of all tasks.

    id_avg      mean over the ID tasks             id_worst   the lowest of them
    ood_avg     mean over the OOD tasks            h          2 ID OOD / (ID + OOD)
    normalised  mean over the ID tasks t of 100 * accuracy_t / accuracy of expert t on t
    """
    at_home = [per_task[t] for t in suite.id_tasks]
    id_avg, ood_avg = mean(at_home), mean(per_task[t] for t in suite.ood_tasks)
    return {
        "id_avg": id_avg,
        "id_worst": min(at_home),
        "ood_avg": ood_avg,
        "h": h_score(id_avg, ood_avg),
        "normalised": mean(100 * per_task[t] / expert_accuracy[t] for t in suite.id_tasks),
    }


def retention(per_task: Mapping[str, float], base: Mapping[str, float], tasks: Sequence[str]) -> dict[str, float]:
    """What a model kept of the base's accuracy on each of `tasks`, in percent: 100 * accuracy / accuracy of the base.

    Below 100 the task has lost, above it has gained. Where the base gets nothing right there is nothing to lose: 100.

    >>> retention({"flags": 45.0, "dials": 60.0}, {"flags": 90.0, "dials": 50.0}, ["flags", "dials"])
    {'flags': 50.0, 'dials': 120.0}
    """
    return {task: 100 * per_task[task] / base[task] if base[task] else 100.0 for task in tasks}


def reference(suite: Suite, experts: Mapping[str, Params] | None = None, split: str = "test") -> dict[str, dict]:
    """What every merge is measured against: `zero_shot`, the base itself, and `experts`, one model a task.

    The experts' ID numbers are each expert on its own task, which no single model reaches; their OOD numbers are
    the mean over the experts. `experts` are those of the suite unless others (already in memory) are given.
    """
    experts = suite.experts if experts is None else experts
    base = scores(suite, suite.theta_0, split)
    runs = {task: scores(suite, experts[task], split, [task, *suite.ood_tasks]) for task in suite.id_tasks}
    return summaries(suite, base, runs)


def summaries(suite: Suite, base: Mapping[str, float], runs: Mapping[str, Mapping[str, float]]) -> dict[str, dict]:
    """`reference` from the accuracies of the base, and of each expert on its own task and abroad."""
    abroad = suite.ood_tasks
    own = {task: run[task] for task, run in runs.items()}
    together = own | {task: mean(run[task] for run in runs.values()) for task in abroad}
    return {
        "zero_shot": summary(suite, base, own) | {"per_task": base},
        "experts": summary(suite, together, own) | {"per_task": together},
    }


def id_average(suite: Suite, theta: Params, split: str, n: int | None = None) -> float:
    """Mean accuracy over the ID tasks."""
    return mean(scores(suite, theta, split, suite.id_tasks, n).values())


def choose_lam(
    suite: Suite, tau_m: Params, grid: Sequence[float] = LAMS, split: str = "val", n: int | None = None
) -> tuple[float, dict[float, float]]:
    """The scale that the validation split favours: (lam, {lam tried: ID average}).

    theta = theta_0 + lam * tau_m. Only ID tasks vote, as is usual in the literature: OOD tasks are unseen by
    definition, so a scale that suits them cannot be chosen. Every scale of the grid is tried; the answer is the
    middle of the best ones, see `plateau`, and so may lie between two of them. `n` looks at n images a task only.
    Raises ValueError for an empty grid, one that does not increase or holds scales <= 0, for the test split, and as
    `accuracy`.
    """
    grid = list(grid)
    if not grid or grid != sorted(set(grid)) or grid[0] <= 0:
        raise ValueError(f"grid: got {grid}, expected at least one scale above 0, in increasing order")
    if split == "test":
        raise ValueError("split: got 'test', expected 'val' or 'train': a scale chosen on test is no result")
    curve = {lam: id_average(suite, add(suite.theta_0, tau_m, lam), split, n) for lam in grid}
    return plateau(curve), curve


def plateau(curve: Mapping[float, float], width: float = WIDTH) -> float:
    """The middle of the scales that are as good as the best one, as far as the images can tell.

        w_i = exp(-(max_j a_j - a_i) / width)          ln lam = sum_i w_i ln lam_i / sum_i w_i

    `curve` is lam -> accuracy a in percent. Not the single best scale: two that differ by one image change places on
    another processor, and with them every number that follows. Here an image moves the answer by a little. Rounded to
    three digits. Outside the scales that are `width` or two below the best nothing counts.

    >>> plateau({0.1: 60.0, 1.0: 70.0, 10.0: 60.0}), plateau({0.3: 74.5, 0.56: 74.5, 1.0: 50.0})
    (1.0, 0.41)
    """
    best = max(curve.values())
    weights = {lam: math.exp((accuracy - best) / width) for lam, accuracy in curve.items()}
    middle = sum(w * math.log(lam) for lam, w in weights.items()) / sum(weights.values())
    return float(f"{math.exp(middle):.3g}")


def as_good(curve: Mapping[float, float], width: float = WIDTH) -> tuple[float, float]:
    """The smallest and the largest scale of a curve whose accuracy is the best, or below it by `width` at most.

    >>> as_good({0.18: 73.0, 0.3: 74.5, 0.56: 74.0, 1.0: 50.0})
    (0.3, 0.56)
    """
    near = [lam for lam, accuracy in curve.items() if accuracy >= max(curve.values()) - width]
    return min(near), max(near)


# ---------------------------------------------------------------------------- where the numbers come from


def provenance(device: torch.device | str = "cpu") -> dict:
    """What made a number: versions, machine, command, and the commit when run from a checkout (else None)."""
    packages = ("samerge-edu", "torch", "torchvision", "open_clip_torch", "numpy", "safetensors")
    versions = {name: _version(name) for name in packages}
    return versions | {
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "precision": precision(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None  # installed from a wheel
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True)
    except OSError:  # no git on this machine
        return None
    return done.stdout.strip() or None
