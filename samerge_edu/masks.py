"""Keep the best, or draw lots: exact counts, ties by position, density = fraction kept."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from .params import Params, flatten, stacked, structure, working


def check_density(density: float) -> None:
    """Raise ValueError unless density is a fraction in (0, 1]."""
    if not 0 < density <= 1:
        hint = f"; {density:g} % is {density / 100:g}" if 1 < density <= 100 else ""
        raise ValueError(f"density: got {density}, expected the fraction kept, in (0, 1]{hint}")


def keep_count(density: float, numel: int) -> int:
    """How many of `numel` entries a density keeps: round(density * numel), at least one of a tensor that has any."""
    return min(numel, max(1, round(density * numel)))


def kth_largest(score: Tensor, k: int) -> Tensor:
    """The k-th largest entry of each row, (..., d) -> (..., 1), by selection, several times faster than sorting.

    `score` is without NaN. Raises ValueError for k outside 1..d.

    >>> kth_largest(torch.tensor([3.0, 1.0, 2.0, 2.0]), k=2)
    tensor([2.])
    """
    d = score.shape[-1]
    if not 1 <= k <= d:
        raise ValueError(f"k: got {k}, expected 1..{d} (the number of entries)")
    if score.device.type == "cpu" and score.dtype in (torch.float32, torch.float64):  # numpy selects 5 times faster
        return torch.from_numpy(np.partition(score.numpy(), d - k, axis=-1)[..., [d - k]])
    return score.kthvalue(d - k + 1, dim=-1, keepdim=True).values


def topk_mask(score: Tensor, k: int) -> Tensor:
    """True on exactly the k largest entries of each row; equal scores are kept in order of position.

    `score` is (..., d), without NaN; returns a bool tensor of its shape. Raises ValueError for k outside 0..d.
    A threshold alone keeps too many at a tie, so the last places go to the first entries that equal it.

    >>> topk_mask(torch.tensor([3.0, 1.0, 2.0, 2.0, 2.0]), k=3).int()
    tensor([1, 0, 1, 1, 0], dtype=torch.int32)
    """
    d = score.shape[-1]
    if not 0 <= k <= d:
        raise ValueError(f"k: got {k}, expected 0..{d} (the number of entries)")
    if k in (0, d):
        return torch.full_like(score, k == d, dtype=torch.bool)
    threshold = kth_largest(score, k)
    mask = score >= threshold
    if mask.count_nonzero() == k * threshold.numel():  # each row has k at least, so no tie to break
        return mask
    above = score > threshold
    ties = mask & ~above
    return above | (ties & (ties.cumsum(dim=-1) <= k - above.count_nonzero(dim=-1)[..., None]))


def keep_largest(taus: Sequence[Params], density: float, scope: str = "global") -> Callable[[str], Tensor]:
    """keep(key), a bool tensor (N, *shape): True on the `density` largest |entries| of each task vector.

    scope="global" ranks all entries of a model together, so that a tensor may lose everything; it copies one
    flattened model at a time and remembers thresholds instead of masks. scope="tensor" keeps the same share
    of every tensor. Counts are exact: equal magnitudes are kept in order of the tensors' sorted names, then of
    position, so the order of keys does not matter. Zeros are never kept: a task vector with too few other
    entries keeps those. Raises ValueError for a density outside (0, 1] and an unknown scope.

    >>> taus = [{"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([-3.0, 4.0])}]
    >>> keep = keep_largest(taus, density=0.5)
    >>> keep("a").tolist(), keep("b").tolist()
    ([[False, False]], [[True, True]])
    >>> keep = keep_largest(taus, density=0.5, scope="tensor")
    >>> keep("a").tolist(), keep("b").tolist()
    ([[False, True]], [[False, True]])
    """
    check_density(density)
    if scope not in ("global", "tensor"):
        raise ValueError(f"scope: got '{scope}', expected 'global' or 'tensor'")
    if scope == "tensor":

        def keep(key: str) -> Tensor:
            S = stacked(taus, key).abs_()
            rows = S.reshape(len(S), S[0].numel())
            return topk_mask(rows, keep_count(density, rows.shape[1])).view_as(S) & (S > 0)

        return keep

    sizes = {key: torch.Size(shape).numel() for key, (shape, _) in sorted(structure(taus[0]).items())}
    start = dict(
        zip(sizes, accumulate(sizes.values(), initial=0), strict=False)
    )  # where each begins in the flat vector
    k = keep_count(density, sum(sizes.values()))
    thresholds, ends = [], []
    for tau in taus:
        S = flatten(tau).abs_()
        threshold = kth_largest(S, k)
        places = k - (S > threshold).count_nonzero()
        thresholds.append(threshold)
        ends.append(_position(S == threshold, int(places)) + 1 if threshold > 0 else 0)  # ties from here on go

    def keep(key: str) -> Tensor:
        masks = []
        for tau, threshold, end in zip(taus, thresholds, ends, strict=True):
            S = working(tau[key]).abs().flatten()
            before, after = S.tensor_split([max(0, end - start[key])])
            masks.append(torch.cat([before >= threshold, after > threshold]))
        return torch.stack(masks).view(len(taus), *structure(taus[0])[key][0])

    return keep


def _position(mask: Tensor, i: int) -> int:
    """Where the i-th True of a long mask is, 1 for the first; `nonzero` of the whole would take ten times as long."""
    begin = 0
    for piece in mask.split(2**20):
        inside = int(piece.count_nonzero())
        if i <= inside:
            return begin + int(piece.nonzero()[i - 1])
        begin, i = begin + len(piece), i - inside


def own_generator(generator: torch.Generator, key: str, n: int) -> torch.Generator:
    """A random generator for tensor `key` of expert n alone, derived from the *seed* of `generator`.

    So the draws do not depend on the order of the tensors, nor on which others there are, and a recipe that
    holds a generator gives the same result at each call: for other draws, take another seed.
    """
    digest = hashlib.sha256(f"{generator.initial_seed()} {n} {key}".encode()).digest()
    return torch.Generator(generator.device).manual_seed(int.from_bytes(digest[:7], "big"))
