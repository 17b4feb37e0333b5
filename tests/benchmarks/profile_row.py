"""Where the time of one leaderboard row goes: merge, choice of the scale, tests; and how fast the encoder is alone.

    python tests/benchmarks/profile_row.py            about two minutes on two idle cores

One thread, as a worker of the leaderboard has it. Prints seconds, images, the load of the machine, and images/s by the
size of the batch. Not a test: nothing fails if a machine is slow.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from samerge_edu.evaluate import LAMS, choose_lam, scores
from samerge_edu.leaderboard import VAL_IMAGES
from samerge_edu.methods import METHODS
from samerge_edu.params import add, task_vectors
from samerge_edu.suites import load_suite

Result = TypeVar("Result")


def timed(label: str, images: int, work: Callable[[], Result]) -> Result:
    """What `work` returns, after a line with its seconds and its images a second."""
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    print(f"{label:<44}{seconds:8.2f} s" + (f"{images:8,} images{images / seconds:8,.0f} a second" if images else ""))
    return result


def main() -> None:
    torch.set_num_threads(1)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, torch {torch.__version__}, one thread")
    suite = load_suite("pocket")
    taus = task_vectors(suite.theta_0, [dict(suite.experts[task]) for task in suite.id_tasks])
    tasks = [*suite.id_tasks, *suite.ood_tasks]
    tests = timed("drawing the test images", 0, lambda: sum(len(suite.images(task)[1]) for task in tasks))
    timed("drawing the validation images", 0, lambda: [suite.images(t, "val", VAL_IMAGES) for t in suite.id_tasks])
    for name in ("Task Arithmetic", "SA-Merging"):
        tau_m = timed(f"{name}: the merge", 0, lambda name=name: METHODS[name].recipe(suite)(taus))
        tried = len(LAMS) * VAL_IMAGES * len(suite.id_tasks)
        lam, _ = timed(f"{name}: the scale", tried, lambda tau_m=tau_m: choose_lam(suite, tau_m, n=VAL_IMAGES))
        theta = add(suite.theta_0, tau_m, lam)
        timed(f"{name}: the tests, at one scale", tests, lambda theta=theta: scores(suite, theta))
    images = torch.cat([suite.images(task)[0] for task in suite.id_tasks])[:2000]
    for batch in (50, 100, 250, 500):
        timed(f"encoding, batches of {batch}", len(images), lambda batch=batch: suite.encode(theta, images, batch))


if __name__ == "__main__":
    main()
