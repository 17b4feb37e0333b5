"""Jobs on a Dask cluster: ask everybody first whether they can do the work, then hand it out.

The trap that the questions are for: the scheduler unpacks what it hands on, too. One that cannot import the package
lets a sweep wait for ever.
"""

import logging
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack
from typing import Any, TypeVar

from .. import __version__
from .job import numbered
from .journal import installed

X = TypeVar("X")

PATIENCE = 30.0
"""Seconds for a scheduler to answer, a worker to join, and all of them to import the package."""

QUESTION = "__import__('samerge_edu.sweep.journal', fromlist=['']).installed()"
"""Sent as text, which everybody understands: a function of ours could not even arrive where the package is missing."""


def on_dask(
    work: Callable[..., X], jobs: Mapping[int, Mapping], n_jobs: int, address: str, limit: float | None
) -> Generator[tuple[int, X]]:
    """`sweep` on a scheduler, or on "local": `n_jobs` workers of this machine. A dead worker's job is done by another.

    A job that outlived four workers is at fault itself: ChildProcessError. For the other errors see `sweep`.
    """
    try:
        from distributed import Client, KilledWorker, LocalCluster, wait
    except ImportError:
        raise ImportError('engine dask: it is not installed: pip install "samerge-edu[cluster]"') from None

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised, in a sentence
    with ExitStack() as stack:
        if address == "local":
            local = LocalCluster(n_workers=n_jobs, threads_per_worker=1, dashboard_address=None, silence_logs=50)
            address = stack.enter_context(local).scheduler_address
        try:
            client = stack.enter_context(Client(address, timeout=PATIENCE))
        except OSError:
            raise ConnectionError(
                f"engine dask: no scheduler answers at {address} within {PATIENCE:g} seconds: start one there, "
                f"dask scheduler"
            ) from None
        ask_everybody(client, address)
        pending = {
            client.submit(numbered, i, work, dict(job), pure=False, key=f"job-{i}-{time.time_ns()}")
            for i, job in jobs.items()
        }
        since = time.monotonic()
        while pending:
            try:
                finished = wait(pending, timeout=0.5, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                finished = set()
            except CancelledError:  # by nobody here: the connection is lost
                raise _gone(address, len(pending)) from None
            for future in sorted(finished, key=lambda future: future.status == "error"):  # errors last: they end it
                try:
                    result = future.result()
                except KilledWorker as e:
                    raise ChildProcessError(
                        f"engine dask: job {jobs[int(future.key.split('-')[1])]} has killed four workers, perhaps "
                        "because memory ran out; what had finished is kept"
                    ) from e
                except (OSError, CancelledError) as e:
                    if future.status == "error":
                        raise  # the job's own
                    raise _gone(address, len(pending)) from e
                pending.remove(future)
                since = time.monotonic()
                yield result
            if client.status != "running":
                raise _gone(address, len(pending))
            if limit is not None and time.monotonic() - since > limit:
                raise TimeoutError(f"no job finished within {limit:g} seconds; what had finished is kept")


def _gone(address: str, left: int) -> ConnectionError:
    return ConnectionError(
        f"engine dask: the scheduler at {address} is gone; what had finished is kept, {left} jobs are left"
    )


def ask_everybody(client: Any, address: str) -> None:
    """Raise ConnectionError, with what to install where, unless scheduler and workers have what we have."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise ConnectionError(
            f"engine dask: no worker has joined {address} within {PATIENCE:g} seconds: start some, "
            f"dask worker {address} --nthreads 1"
        ) from None
    try:
        workers = client.run(eval, QUESTION, on_error="return", callback_timeout=PATIENCE)
        try:
            scheduler = client.run_on_scheduler(eval, QUESTION, callback_timeout=PATIENCE)
        except ImportError as e:
            scheduler = e
    except TimeoutError:
        raise ConnectionError(
            f"engine dask: scheduler or workers at {address} do not say within {PATIENCE:g} seconds what they have "
            f'installed: pip install "samerge-edu[cluster]=={__version__}" there'
        ) from None
    ours = _comparable(installed())
    for who, theirs in {
        f"scheduler {address}": scheduler,
        **{f"worker {at}": it for at, it in workers.items()},
    }.items():
        if isinstance(theirs, Exception):
            raise ConnectionError(
                f"engine dask: {who} cannot import samerge_edu ({theirs}): "
                f'pip install "samerge-edu[cluster]=={__version__}" there'
            )
        theirs = _comparable(theirs)
        if other := [f"{what} {theirs[what]} there, {ours[what]} here" for what in ours if theirs[what] != ours[what]]:
            raise ConnectionError(f"engine dask: {who} has other versions: {'; '.join(other)}: install the same there")


def _comparable(about: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be equal everywhere, by its name."""
    return {
        "samerge_edu": about["package"][:12],
        "python": about["python"].rpartition(".")[0],
        "SAMERGE_PRECISION": about["precision"],
        **about["libraries"],
    }
