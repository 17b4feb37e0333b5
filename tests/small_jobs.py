"""Jobs for sweeps. One may sleep, fail, or take its process with it; the other solves, to the last bit."""

import math
import os
import time
from pathlib import Path


def job(x, nap=0.0, die_unless=None, sign=None):
    """sqrt(x); `die_unless`: end the whole process, unless a file of that name is there, and make it.

    `sign`: a file to which the job adds a line when it begins.
    """
    if sign is not None:
        with open(sign, "a", encoding="utf-8") as file:
            file.write(f"{x}\n")
    if die_unless is not None and not Path(die_unless).exists():
        if os.path.isabs(die_unless):
            Path(die_unless).touch()
        os._exit(1)
    time.sleep(nap)
    return math.sqrt(x)


def solved(N):
    """Singular values of N matrices 160 x 640, as TSV-M looks at them: with two threads the last bits are others."""
    import torch

    return torch.linalg.svdvals(torch.randn(N, 160, 640, generator=torch.Generator().manual_seed(N))).flatten().tolist()
