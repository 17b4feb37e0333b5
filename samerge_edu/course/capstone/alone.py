"""The process in which a submission merges: `python -m samerge_edu.course.capstone.alone FILE SUITE FOLDER`.

It has the task vectors, and what the method declared: the base, the path strength, validation images. Then the suite is
put out of reach, and the file is run within limits (course/limits.py). Out come FOLDER/tau_m.safetensors and a line of
JSON on stdout. Accuracy is measured elsewhere, on images that are drawn afterwards from a number that this process
never sees (ranking.py): that, and not the guard below, is why no method can know the test labels.
"""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...contract import assert_same, check_method
from ...files import save_params
from ...params import Params, task_vectors
from ...saliency import clip_flow
from ..doors import NETWORK, PROCESSES, refuse
from ..limits import run_limited
from .submission import Submission, read

SECONDS, MEGABYTES = 300.0, 4096
CLOSED = ("samerge_edu.suites", "samerge_edu.evaluate", "samerge_edu.leaderboard", "samerge_edu.studies")


@dataclass(frozen=True)
class Validation:
    """What a method with a declared need for data is given.

    images   task -> (n, 3, H, W), of the validation split          heads    task -> (classes, dim), length 1
    labels   task -> (n,), empty unless NEEDS is "labelled"         encode   (theta, images) -> (n, dim), length 1
    """

    images: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    heads: Mapping[str, Tensor]
    encode: Callable[[Params, Tensor], Tensor]


def merge_alone(submission: Submission, suite_name: str, folder: Path, images: int = 50) -> dict:
    """{"seconds", "checks": {what: None or what was seen}, "holds": {...}, "printed"}, or {"stopped": why, ...}."""
    from ...suites import load_suite  # not at the top: a submission finds this module without it

    suite = load_suite(suite_name)
    taus = [dict(tau) for tau in task_vectors(suite.theta_0, [suite.experts[task] for task in suite.id_tasks])]
    given = {"theta_0": suite.theta_0, "flow": partial(clip_flow, heads=suite.attention_heads)}
    if submission.needs != "none":
        given["validation"] = validation(suite, submission.needs == "labelled", images)
    del suite
    job = partial(_work, submission, taus, {name: given[name] for name in submission.asks}, folder)
    return run_limited(job, SECONDS, MEGABYTES)


def validation(suite: Any, labelled: bool, n: int) -> Validation:
    """n images of each task that has an expert; what encodes them has neither experts nor anything that draws."""
    pairs = {task: suite.images(task, "val", n) for task in suite.id_tasks}
    tower = replace(suite, experts={}, tasks={}, heads={}, draw=lambda *_: None, read=None, adapters={}, _images={})
    return Validation(
        images={task: x for task, (x, _) in pairs.items()},
        labels={task: y for task, (_, y) in pairs.items()} if labelled else {},
        heads={task: suite.heads[task] for task in suite.id_tasks},
        encode=tower.encode,
    )


def _work(submission: Submission, taus: Sequence[Params], given: Mapping, folder: Path, trying: Callable) -> dict:
    """Inside the limits: close the doors, run the file, merge twice, compare."""
    close_doors()
    trying("the file itself")
    try:
        method = partial(_method(submission.path), **given)
    except Exception as e:  # whatever the file raises is the finding
        return {"checks": {"it runs": f"{type(e).__name__}: {e}"}}
    before = [{k: v.clone() for k, v in tau.items()} for tau in taus]
    checks: dict[str, str | None] = {"it runs": None}
    trying("the merge")
    start = time.perf_counter()
    try:
        torch.manual_seed(1)
        tau_m = dict(method(taus))
    except Exception as e:
        return {"checks": checks | {"it merges the experts": f"{type(e).__name__}: {e}"}}
    seconds = time.perf_counter() - start
    checks["it merges the experts"] = None
    checks["the update has the names, shapes and dtypes of the task vectors, finite"] = _fits(tau_m, before[0])
    if not any(checks.values()):
        tau_m = {k: v.detach().clone().contiguous() for k, v in tau_m.items()}
        save_params(folder / "tau_m.safetensors", tau_m)  # before the method is called again
        checks["the task vectors given are left alone"] = _differs(taus, before)
        trying("the merge, a second time")
        torch.manual_seed(2)
        checks["the same task vectors give the same update"] = _differs([method(before)], [tau_m])
    holds = {} if given or any(checks.values()) else check_method(method).others
    return {"seconds": seconds, "checks": checks, "holds": holds}


def close_doors() -> None:
    """From here on: no suite, no evaluation, no network, no other process. A guard against slips, not malice."""
    package = sys.modules["samerge_edu"]
    for name in [name for name in sys.modules if name.startswith(CLOSED)]:
        del sys.modules[name]
        vars(package).pop(name.split(".")[1], None)
    vars(package).pop("load_suite", None)
    weights = str(Path(__file__).parents[2] / "suites")

    def look(event: str, arguments: tuple) -> str | None:
        if event == "import" and str(arguments[0]).startswith(CLOSED):
            raise ImportError(f"{arguments[0]} is closed: a submission works with what it is given as arguments")
        if event in NETWORK or event in PROCESSES or (event == "open" and str(arguments[0]).startswith(weights)):
            what = "the suite's files are" if event == "open" else f"{event} is"
            return f"{what} closed: a submission works with what it is given as arguments"
        return None

    refuse(look)


def _method(path: Path) -> Callable:
    spec = importlib.util.spec_from_file_location("submission", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.method


def _fits(tau_m: Mapping, tau: Params) -> str | None:
    if tau_m.keys() != tau.keys():
        return f"names that differ: {sorted(tau_m.keys() ^ tau.keys())[:3]}"
    for key, expected in tau.items():
        got = tau_m[key]
        if not isinstance(got, Tensor) or (got.shape, got.dtype) != (expected.shape, expected.dtype):
            what = f"{tuple(got.shape)}, {got.dtype}" if isinstance(got, Tensor) else type(got).__name__
            return f"'{key}': got {what}, expected {tuple(expected.shape)}, {expected.dtype}"
        if not got.isfinite().all():
            return f"'{key}': got NaN or infinity"
    return None


def _differs(got: Sequence[Params], expected: Sequence[Params]) -> str | None:
    try:
        for a, b in zip(got, expected, strict=True):
            assert_same(dict(a), dict(b), rtol=0, atol=0)
    except Exception as e:
        return " ".join(str(e).split())[:150]
    return None


def main() -> None:
    file, suite_name, folder = sys.argv[1:4]
    file, folder = Path(file).resolve(), Path(folder).resolve()
    os.chdir(folder)
    print("\n" + json.dumps(merge_alone(read(file), suite_name, folder)))


if __name__ == "__main__":
    main()
