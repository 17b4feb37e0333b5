"""A job for sweeps that loads nothing heavy, where it runs: it may sleep, fail, or take its process with it."""

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
