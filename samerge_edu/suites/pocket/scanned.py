"""Real handwriting for a model that has seen only drawings: 1,797 scanned digits, for reporting and for nothing else.

Where they come from, and their licence: scans/README.md. There is a test split only, so that no choice can be made
by them.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from .draw import SIZE
from .tasks import TASKS, Task

FILE = Path(__file__).parent / "scans" / "digits.npz"
INK = 22  # of SIZE pixels: the scans touch their border, drawn digits do not

REAL_DIGITS: Task = replace(TASKS["digits"], name="real_digits", mirrors="", kind="report")
"""The classes and captions of "digits"; of no kind that an average is taken over."""


def real_digits(split: str = "test", n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """White on black, enlarged from 8 to 22 of 32 pixels (bicubic): uint8 (n, 3, 32, 32), and labels, int64 (n,).

    The first `n` of them, or all. Raises ValueError for another split than "test", and for more than there are.

    >>> images, labels = real_digits(n=3)
    >>> images.shape, labels.tolist()
    ((3, 3, 32, 32), [0, 1, 2])
    """
    if split != "test":
        raise ValueError(f"split: got '{split}', expected 'test': real_digits are reported, nothing is chosen by them")
    with np.load(FILE) as file:
        small, labels = file["images"][:n], file["labels"][:n].astype(np.int64)
    if n is not None and n > len(labels):
        raise ValueError(f"n: got {n}, expected at most {len(labels)} scanned digits")
    border = (SIZE - INK) // 2
    ink = torch.from_numpy(small)[:, None].float() / 16  # (n, 1, 8, 8), 0 to 1
    large = F.interpolate(ink, size=(INK, INK), mode="bicubic").clamp(0, 1)  # bicubic overshoots
    large = F.pad(large, 4 * [border]).expand(-1, 3, -1, -1)
    return (255 * large).round().to(torch.uint8).numpy(), labels
