"""Keep the best: exact counts, ties by position, density = fraction kept."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Score = Callable[[str], Tensor]
"""Name of a parameter -> (N, *shape): one number per entry, for each of the N experts; more is better."""


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
    places = k - (score > threshold).sum(dim=-1, keepdim=True)
    return _at_least(score, threshold, places)


def keep_largest(score: Score, keys: Iterable[str], density: float, scope: str = "global") -> Score:
    """keep(key), a bool tensor (N, *shape): True on the `density` largest scores of each expert.

    scope="global" ranks all entries of a model together, so that a tensor may lose everything;
    scope="tensor" keeps the same share of every tensor. Counts are exact. Ties are kept in order of
    the tensors' sorted names, then of position, so the order of keys does not matter.

    >>> S = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([[3.0, 4.0]])}
    >>> keep = keep_largest(lambda key: S[key], S, density=0.5)
    >>> [keep(key).tolist() for key in S]
    [[[False, False]], [[True, True]]]
    >>> keep = keep_largest(lambda key: S[key], S, density=0.5, scope="tensor")
    >>> [keep(key).tolist() for key in S]
    [[[False, True]], [[False, True]]]
    """
    check_density(density)
    if scope == "tensor":

        def keep(key: str) -> Tensor:
            S = score(key)
            return topk_mask(_rows(S), keep_count(density, S[0].numel())).view_as(S)

    elif scope == "global":
        keys = sorted(keys)
        d = sum(score(key)[0].numel() for key in keys)
        threshold, places = kth_largest(score, keys, keep_count(density, d))

        def keep(key: str) -> Tensor:
            S = score(key)
            return _at_least(_rows(S), threshold[:, None], places[key][:, None]).view_as(S)

    else:
        raise ValueError(f"scope: got '{scope}', expected 'global' or 'tensor'")
    return keep


def kth_largest(score: Score, keys: Iterable[str], k: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The k-th largest score of each expert over all tensors, without sorting and without one long copy.

    Returns the threshold (N,), and for each tensor how many of the entries that *equal* it belong to
    the k largest (N,). Scores must be >= 0 and finite. A radix selection, exact: non-negative floats
    have the order of their bit patterns, so the upper 16 bits sort them into 32768 buckets.

        pass 1   count each bucket; the counts say which one holds the k-th largest
        pass 2   collect that bucket, about 1 % of a real task vector, and select inside it

    Raises ValueError for k outside 1..d.

    >>> S = {"a": torch.tensor([[1.0, 3.0, 2.0]]), "b": torch.tensor([[4.0, 2.0]])}
    >>> threshold, places = kth_largest(lambda key: S[key], S, k=3)
    >>> threshold.tolist(), places["a"].tolist(), places["b"].tolist()
    ([2.0], [1], [0])
    """
    keys = sorted(keys)
    count = sum(torch.stack([b.bincount(minlength=2**15) for b in _bucket(_rows(score(key)))]) for key in keys)
    d = int(count[0].sum())
    if not 1 <= k <= d:
        raise ValueError(f"k: got {k}, expected 1..{d} (the number of entries)")
    this_or_above = count.flip(1).cumsum(1).flip(1)  # (N, 32768)
    bucket = (this_or_above >= k).sum(dim=1, keepdim=True) - 1  # (N, 1) the highest with k scores in it or above
    k_inside = k - (this_or_above - count).gather(1, bucket)[:, 0]  # (N,) the rank within that bucket

    inside = {}  # key -> one tensor per expert
    for key in keys:
        S = _rows(score(key))
        inside[key] = [row[mine] for row, mine in zip(S, _bucket(S) == bucket, strict=True)]
    rows = [torch.cat(row) for row in zip(*inside.values(), strict=True)]
    threshold = torch.stack([row.kthvalue(len(row) - i + 1).values for row, i in zip(rows, k_inside, strict=True)])

    places = k_inside - torch.stack([(row > t).sum() for row, t in zip(rows, threshold, strict=True)])
    places_of = {}  # handed out in order of the tensors' names
    for key in keys:
        ties = torch.stack([(row == t).sum() for row, t in zip(inside[key], threshold, strict=True)])
        places_of[key] = ties.minimum(places)
        places = places - places_of[key]
    return threshold, places_of


def _rows(score: Tensor) -> Tensor:
    """(N, *shape) -> (N, number of entries), also for scalars and for tensors without entries."""
    return score.reshape(len(score), score[0].numel())


def _bucket(score: Tensor) -> Tensor:
    """The upper 16 bits of each non-negative float: a whole number 0..32767 that never falls as the float grows."""
    if score.dtype == torch.float64:
        return score.view(torch.int64) >> 48
    return score.view(torch.int32) >> 16


def _at_least(score: Tensor, threshold: Tensor, places: Tensor) -> Tensor:
    """score > threshold, and the first `places` of those that equal it, row by row."""
    ties = score == threshold
    if (ties.sum(dim=-1, keepdim=True) == places).all():  # no tie to break: the usual case
        return score >= threshold
    return (score > threshold) | (ties & (ties.cumsum(dim=-1) <= places))
