"""Work on several items at a time, where torch itself would use one thread only."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

X = TypeVar("X")
Y = TypeVar("Y")


def side_by_side(work: Callable[[X], Y], items: Iterable[X], device: torch.device | str = "cpu") -> list[Y]:
    """[work(item) for each item], on the CPU as many at a time as torch has threads, each with one.

    For what torch does on one thread only, or numpy: reading files, drawing lots, selection. A GPU is busy with one
    item, and is asked from the caller's thread, whose stream it has to keep to.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if torch.device(device).type != "cpu":
            return list(map(work, items))
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, items))
    finally:
        torch.set_num_threads(threads)
