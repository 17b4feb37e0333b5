"""Many jobs side by side: on the cores of this machine or on a cluster, results as they finish, none of them lost.

Two processes with a thread each encode more images in a second than one process with two threads: small matrices
leave the second thread little to do.

    engine               where the jobs run
    loky                 processes on this machine (joblib)
    dask:local           Dask workers on this machine
    dask:tcp://host:8786 the workers of a Dask scheduler, see docs/cluster.md
    ray:auto             a Ray cluster, by joblib's backend for it
"""

import multiprocessing
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from .job import numbered, on_one_thread
from .journal import Journal

X = TypeVar("X")


def sweep(
    work: Callable[..., X],
    jobs: Sequence[Mapping[str, Any]],
    n_jobs: int = 1,
    engine: str = "loky",
    journal: Journal | None = None,
    limit: float | None = None,
) -> Iterator[tuple[int, X]]:
    """(number of the job, work(**job)) for each job, in the order in which they finish; `n_jobs` at a time.

    With one at a time on "loky" nothing leaves this process, and the order is that of the jobs. Otherwise `work` and
    the jobs travel to other processes, so both must be small and picklable. Wherever a job runs it has one thread of
    torch, so that the results are the same to the last bit. A job that raises ends the sweep with its
    error, to which its number is added as a note. A `journal` is asked first, and told of every result, so that a
    sweep that ended early goes on where it was. `limit`: so many seconds without a finished job, and one counts as
    endless; take several times what a job needs.

    Raises ValueError for n_jobs < 1 and an engine that does not exist; and an OSError with one sentence where no
    worker is ready, a worker died, the scheduler is gone (ConnectionError) or the limit is over (TimeoutError).
    """
    check_engine(engine)
    if n_jobs < 1:
        raise ValueError(f"n_jobs: got {n_jobs}, expected at least 1")
    known = {i: journal.result(job) for i, job in enumerate(jobs) if job in journal} if journal else {}
    yield from known.items()
    left = {i: job for i, job in enumerate(jobs) if i not in known}
    if not left:
        return
    results: Generator[tuple[int, X]]
    if engine == "loky" and n_jobs == 1:
        results = ((i, on_one_thread(work, job)) for i, job in left.items())
    elif engine.startswith("dask:"):
        from .cluster import on_dask

        results = on_dask(work, left, n_jobs, engine.removeprefix("dask:"), limit)
    else:
        results = _on_joblib(work, left, n_jobs, engine, limit)
    with closing(results):
        for i, result in results:
            if journal:
                journal.write(jobs[i], result)
            yield i, result


def check_engine(engine: str) -> None:
    """Raise ValueError unless the engine has one of the names above."""
    if engine not in ("loky", "dask:local", "ray:auto") and not engine.startswith("dask:t"):
        raise ValueError(f"engine: got '{engine}', expected loky, dask:local, dask:tcp://host:port or ray:auto")


def cores() -> int:
    """How many jobs this machine runs at a time: the cores that this process may use."""
    return joblib.cpu_count()


def _on_joblib(
    work: Callable[..., X], jobs: Mapping[int, Mapping], n_jobs: int, engine: str, limit: float | None
) -> Generator[tuple[int, X]]:
    backend, knobs = "loky", {"inner_max_num_threads": 1}
    if engine == "ray:auto":
        try:
            from ray.util.joblib import register_ray  # ty: ignore[import-not-found]  for who has it
        except ImportError:
            raise ImportError("engine ray:auto: Ray is not installed: pip install ray, here and on its nodes") from None
        register_ray()
        backend, knobs = "ray", {}
    with joblib.parallel_config(backend, **knobs):
        workers = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1, timeout=limit)
        results = workers(joblib.delayed(numbered)(i, work, job) for i, job in jobs.items())
    try:
        yield from results
    except TerminatedWorkerError as e:
        raise ChildProcessError(
            "a worker process was killed, perhaps because memory ran out: take fewer jobs at a time; "
            "what had finished is kept"
        ) from e
    except (TimeoutError, multiprocessing.TimeoutError) as e:
        if getattr(e, "__notes__", None):
            raise  # the job's own: `numbered` was there
        raise TimeoutError(f"no job finished within {limit:g} seconds; what had finished is kept") from e
