"""Is everything here, and is the suite what it should be? `samerge-edu doctor` prints what this module finds."""

import importlib.metadata
import json
import math
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import torch

from .evaluate import choose_lam, id_average, scores
from .forecast import free_memory
from .masks import keep_count, topk_mask
from .merges.average import average
from .merges.task_arithmetic import task_arithmetic
from .params import Params, add, flatten, mean_cosine, task_vectors, unflatten
from .suites.suite import Suite

# ---------------------------------------------------------------------------- this machine


def machine() -> dict[str, str]:
    """Versions, device and free memory, as words."""
    packages = (
        "samerge-edu",
        "torch",
        "torchvision",
        "open_clip_torch",
        "numpy",
        "matplotlib",
        "ipywidgets",
        "ipython",
    )
    found = {"python": platform.python_version()} | {name: _version(name) or "not installed" for name in packages}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        device = f"cuda: {torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    else:
        device = f"cpu: {torch.get_num_threads()} threads"
    return found | {
        "device": device,
        "memory": f"{free_memory() / 2**30:.1f} GiB free",
        "disk": f"{shutil.disk_usage(Path.cwd()).free / 2**30:.1f} GiB free here",
    }


def missing() -> dict[str, str]:
    """What is not here -> the line that mends it. Empty when nothing is missing."""
    repairs = {}
    if find_spec("jupyterlab") is None:
        repairs["JupyterLab, to open the notebooks"] = 'pip install "samerge-edu[lab]"'
    if recorded_bands() is None:
        repairs["the pocket suite's weights"] = "make suite        (or install the package again)"
    return repairs


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# ---------------------------------------------------------------------------- the suite's acceptance bands


CLEARLY = 2.0
"""Percent points: what "clearly below" means here, about two standard errors of an average over the OOD tasks."""


def recorded_bands() -> list[dict] | None:
    """The bands of the pocket suite as they were when it was built; None if its weights are not here."""
    metrics = Path(__file__).parent / "suites" / "pocket" / "weights" / "metrics.json"
    return json.loads(metrics.read_text(encoding="utf-8"))["bands"] if metrics.is_file() else None


def bands(suite: Suite) -> list[dict]:
    """Measure the suite's acceptance bands now, from its weights, on the test split: [{name, low, high, value}].

    In percent, or percent points for differences. A value outside its band means that the suite does not teach
    what it should: see `outside`. Scales are chosen on validation.
    """
    at_home, abroad = suite.id_tasks, suite.ood_tasks
    thetas = {task: dict(suite.experts[task]) for task in at_home}
    taus = task_vectors(suite.theta_0, list(thetas.values()))
    tau_sum = task_arithmetic(taus)
    lam, _ = choose_lam(suite, tau_sum)

    base = scores(suite, suite.theta_0)
    experts = {task: scores(suite, theta) for task, theta in thetas.items()}
    merged = scores(suite, add(suite.theta_0, tau_sum, lam))
    uniform = id_average(suite, add(suite.theta_0, average(taus)), "test")

    def over(tasks: Sequence[str], per_task: Mapping[str, float]) -> float:
        return mean(per_task[task] for task in tasks)

    base_id, base_ood = over(at_home, base), over(abroad, base)
    own = {task: experts[task][task] for task in at_home}
    experts_id = over(at_home, own)
    experts_ood = mean(over(abroad, run) for run in experts.values())
    elsewhere = mean(run[other] for task, run in experts.items() for other in at_home if other != task)
    found = [
        # name, low, high, value
        ("base, ID average", 35, 65, base_id),
        ("base, OOD average", 70, 100, base_ood),
        ("experts on their own task, average", 92, 100, experts_id),
        ("experts on their own task, worst", 85, 100, min(own.values())),
        ("experts on the other ID tasks", 0, base_ood - CLEARLY, elsewhere),
        ("experts, OOD average", 0, base_ood - CLEARLY, experts_ood),
        ("uniform average, ID average", base_id, experts_id, uniform),
        ("experts minus Task Arithmetic, ID average", 8, 100, experts_id - over(at_home, merged)),
        ("base minus Task Arithmetic, OOD average", 3, 100, base_ood - over(abroad, merged)),
        ("target: experts' gain kept at density 0.2", 80, 100, 100 * gain_kept(suite, taus, base, own)),
        ("target: |tau| / |theta_0|", 1, 10, 100 * relative_size(suite.theta_0, taus)),
        ("target: cosine between task vectors", -0.1, 0.2, mean_cosine(taus)),
        ("target: best scale of Task Arithmetic", 0.2, 0.5, lam),
    ]
    return [dict(zip(("name", "low", "high", "value"), band, strict=True)) for band in found]


def outside(band: Mapping) -> bool:
    """Whether a measured value misses its band."""
    return not band["low"] <= band["value"] <= band["high"]


def is_target(band: Mapping) -> bool:
    """Whether a row is something we aimed at (redundancy, best scale, ...), not a condition of acceptance."""
    return band["name"].startswith("target:")


def gain_kept(
    suite: Suite, taus: Sequence[Params], base: Mapping[str, float], own: Mapping[str, float], density: float = 0.2
) -> float:
    """Share of the experts' gain over zero-shot that is left when only the largest entries of each tau are kept.

    Redundancy: published CLIP experts keep nearly all of it, and every method that prunes presupposes it.
    """
    kept, gained = 0.0, 0.0
    for task, tau in zip(suite.id_tasks, taus, strict=True):
        vector = flatten(tau)
        trimmed = vector * topk_mask(vector.abs(), keep_count(density, vector.numel()))
        theta = add(suite.theta_0, unflatten(trimmed, like=tau))
        kept += scores(suite, theta, tasks=[task])[task] - base[task]
        gained += own[task] - base[task]
    return kept / gained if gained else math.nan


def relative_size(theta_0: Params, taus: Sequence[Params]) -> float:
    """Mean of |tau_n| / |theta_0| over the experts, Euclidean."""
    return mean((flatten(tau).norm() / flatten(theta_0).norm()).item() for tau in taus)
