"""Many jobs side by side: each in a process of its own with one thread, results as they finish.

Two processes with a thread each encode more images in a second than one process with two threads: small matrices
leave the second thread little to do.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import joblib

X = TypeVar("X")


def sweep(work: Callable[..., X], jobs: Sequence[Mapping[str, Any]], n_jobs: int = 1) -> Iterator[tuple[int, X]]:
    """(number of the job, work(**job)) for each job, in the order in which they finish; `n_jobs` at a time.

    With one at a time nothing leaves this process, and the order is that of the jobs. Otherwise `work` and the jobs
    travel to worker processes (joblib's loky), so both must be small and picklable; a job that raises ends the sweep
    with its error. Raises ValueError for n_jobs < 1.
    """
    if n_jobs < 1:
        raise ValueError(f"n_jobs: got {n_jobs}, expected at least 1")
    if n_jobs == 1:
        yield from ((i, work(**job)) for i, job in enumerate(jobs))
        return
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        workers = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)
        yield from workers(joblib.delayed(_numbered)(i, work, job) for i, job in enumerate(jobs))


def _numbered(number: int, work: Callable[..., X], job: Mapping[str, Any]) -> tuple[int, X]:
    return number, work(**job)


def cores() -> int:
    """How many jobs this machine runs at a time: the cores that this process may use."""
    return joblib.cpu_count()
