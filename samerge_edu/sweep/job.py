"""One job, in whatever process it runs."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

X = TypeVar("X")


def on_one_thread(work: Callable[..., X], job: Mapping[str, Any]) -> X:
    """work(**job) with one thread of torch, given back afterwards.

    A singular value decomposition rounds in another order with two threads than with one, and where an image lies on
    the border between two classes an accuracy tells. So a job has one thread wherever it runs, in this process, too.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work(**job)
    finally:
        torch.set_num_threads(threads)


def numbered(number: int, work: Callable[..., X], job: Mapping[str, Any]) -> tuple[int, X]:
    """(number, work(**job)): the number comes back with the result, or stands with the job in a note on the error."""
    try:
        return number, on_one_thread(work, job)
    except Exception as e:
        e.add_note(f"in job {number}: {dict(job)}")
        raise
