"""Keep the best: exact counts, ties by position, density = fraction kept."""

import torch
from torch import Tensor


def check_density(density: float) -> None:
    """Raise ValueError unless density is a fraction in (0, 1]."""
    if not 0 < density <= 1:
        hint = f"; {density:g} % is {density / 100:g}" if 1 < density <= 100 else ""
        raise ValueError(f"density: got {density}, expected the fraction kept, in (0, 1]{hint}")


def keep_count(density: float, numel: int) -> int:
    """How many of `numel` entries a density keeps: round(density * numel), at least one of a tensor that has any."""
    return min(numel, max(1, round(density * numel)))


def topk_mask(score: Tensor, k: int) -> Tensor:
    """True on exactly the k largest entries of each row; equal scores are kept in order of position.

    `score` is (..., d), without NaN; returns a bool tensor of its shape. Raises ValueError for k outside 0..d.
    The k-th largest value comes from a selection (`kthvalue`), which is several times faster than sorting;
    a selection alone keeps too many at a tie, so the last places go to the first entries that equal it.

    >>> topk_mask(torch.tensor([3.0, 1.0, 2.0, 2.0, 2.0]), k=3).int()
    tensor([1, 0, 1, 1, 0], dtype=torch.int32)
    """
    d = score.shape[-1]
    if not 0 <= k <= d:
        raise ValueError(f"k: got {k}, expected 0..{d} (the number of entries)")
    if k in (0, d):
        return torch.full_like(score, k == d, dtype=torch.bool)
    threshold = score.kthvalue(d - k + 1, dim=-1, keepdim=True).values
    mask = score > threshold
    places_left = k - mask.sum(dim=-1, keepdim=True)
    ties = score == threshold
    if (ties.sum(dim=-1, keepdim=True) == places_left).all():  # no tie to break: the usual case
        return mask | ties
    return mask | (ties & (ties.cumsum(dim=-1) <= places_left))
