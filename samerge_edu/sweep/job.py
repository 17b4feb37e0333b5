"""One job, in whatever process it runs."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

X = TypeVar("X")


def numbered(number: int, work: Callable[..., X], job: Mapping[str, Any]) -> tuple[int, X]:
    """(number, work(**job)): the number comes back with the result, or stands with the job in a note on the error."""
    try:
        return number, work(**job)
    except Exception as e:
        e.add_note(f"in job {number}: {dict(job)}")
        raise
