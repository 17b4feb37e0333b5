"""Keep the best: exact counts, ties by position, density = fraction kept."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from .params import Params, working

Score = Callable[[str], Iterable[Tensor]]
"""Name of a parameter -> N tensors of its shape, one per expert: a number >= 0 for each entry, more is better."""


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
    The k-th largest value comes from a selection, which is several times faster than sorting; a selection
    alone keeps too many at a tie, so the last places go to the first entries that equal it.

    >>> topk_mask(torch.tensor([3.0, 1.0, 2.0, 2.0, 2.0]), k=3).int()
    tensor([1, 0, 1, 1, 0], dtype=torch.int32)
    """
    d = score.shape[-1]
    if not 0 <= k <= d:
        raise ValueError(f"k: got {k}, expected 0..{d} (the number of entries)")
    if k in (0, d):
        return torch.full_like(score, k == d, dtype=torch.bool)
    if score.device.type == "cpu" and score.dtype in (torch.float32, torch.float64):  # numpy selects 5 times faster
        threshold = torch.from_numpy(np.partition(score.numpy(), d - k, axis=-1)[..., d - k, None])
    else:
        threshold = score.kthvalue(d - k + 1, dim=-1, keepdim=True).values
    mask = score >= threshold
    if (mask.count_nonzero(dim=-1) == k).all():  # no tie to break: the usual case
        return mask
    above = score > threshold
    ties = mask & ~above
    return above | (ties & (ties.cumsum(dim=-1) <= k - above.count_nonzero(dim=-1)[..., None]))


def magnitude(taus: Sequence[Params]) -> Score:
    """The score |tau_n|, entry by entry."""
    return lambda key: (working(tau[key]).abs() for tau in taus)


def keep_largest(score: Score, keys: Iterable[str], density: float, scope: str = "global") -> Callable[[str], Tensor]:
    """keep(key), a bool tensor (N, *shape): True on the `density` largest scores of each expert.

    scope="global" ranks all entries of a model together, so that a tensor may lose everything;
    scope="tensor" keeps the same share of every tensor. Counts are exact. Ties are kept in order of
    the tensors' sorted names, then of position, so the order of keys does not matter.

    >>> taus = [{"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([-3.0, 4.0])}]
    >>> keep = keep_largest(magnitude(taus), taus[0], density=0.5)
    >>> keep("a").tolist(), keep("b").tolist()
    ([[False, False]], [[True, True]])
    >>> keep = keep_largest(magnitude(taus), taus[0], density=0.5, scope="tensor")
    >>> keep("a").tolist(), keep("b").tolist()
    ([[False, True]], [[False, True]])
    """
    check_density(density)
    if scope == "tensor":

        def keep(key: str) -> Tensor:
            return torch.stack([topk_mask(S.flatten(), keep_count(density, S.numel())).view_as(S) for S in score(key)])

    elif scope == "global":
        keys = sorted(keys)
        d = sum(next(iter(score(key))).numel() for key in keys)
        threshold, surplus = kth_largest(score, keys, keep_count(density, d))

        def keep(key: str) -> Tensor:
            masks = []
            for S, t, extra in zip(score(key), threshold, surplus[key], strict=True):
                mask = S >= t
                if extra:
                    ties = (S == t).flatten().nonzero()[:, 0]
                    mask.view(-1)[ties[-extra:]] = False
                masks.append(mask)
            return torch.stack(masks)

    else:
        raise ValueError(f"scope: got '{scope}', expected 'global' or 'tensor'")
    return keep


def kth_largest(score: Score, keys: Iterable[str], k: int) -> tuple[list[Tensor], dict[str, list[int]]]:
    """The k-th largest score of each expert over all tensors, without sorting and without one long copy.

    Returns N thresholds, and for each tensor how many of the last entries that *equal* the threshold are
    one too many, N numbers, mostly 0. A radix selection, exact: non-negative floats have the order of
    their bit patterns, so the upper 16 bits sort them into 32768 buckets.

        pass 1   count each bucket; the counts say which one holds the k-th largest
        pass 2   collect that bucket, about 1 % of a real task vector, and select inside it

    Scores must be >= 0 and finite. Raises ValueError for k outside 1..d.

    >>> taus = [{"a": torch.tensor([1.0, 3.0, -2.0]), "b": torch.tensor([-4.0, 2.0])}]
    >>> kth_largest(magnitude(taus), taus[0], k=3)
    ([tensor(2.)], {'a': [0], 'b': [1]})
    """
    keys = sorted(keys)
    count = sum(torch.stack([_bucket(S).bincount(minlength=2**15) for S in score(key)]) for key in keys)
    d = int(count[0].sum())
    if not 1 <= k <= d:
        raise ValueError(f"k: got {k}, expected 1..{d} (the number of entries)")
    this_or_above = count.flip(1).cumsum(1).flip(1)  # (N, 32768)
    bucket = (this_or_above >= k).sum(dim=1) - 1  # (N,) the highest with k scores in it or above
    above = (this_or_above - count).gather(1, bucket[:, None])[:, 0]  # (N,) how many lie in a higher bucket

    inside = {key: [S.flatten()[_bucket(S) == b] for S, b in zip(score(key), bucket, strict=True)] for key in keys}
    thresholds, surplus = [], {key: [] for key in keys}
    for n, k_inside in enumerate((k - above).tolist()):
        row = torch.cat([inside[key][n] for key in keys])
        t = row.kthvalue(len(row) - k_inside + 1).values
        places = k_inside - int((row > t).sum())  # handed out to those that equal t, in order of the tensors' names
        for key in keys:
            ties = int((inside[key][n] == t).sum())
            surplus[key].append(max(0, ties - places))
            places = max(0, places - ties)
        thresholds.append(t)
    return thresholds, surplus


def _bucket(score: Tensor) -> Tensor:
    """The upper 16 bits of each non-negative float, flat: a whole number 0..32767 that never falls as it grows."""
    if score.dtype == torch.float64:
        return score.flatten().view(torch.int64) >> 48
    return score.flatten().view(torch.int32) >> 16
