"""Keep the best, or draw lots: exact counts, ties by position, density = fraction kept."""

import hashlib
import math
from collections.abc import Callable, Sequence
from numbers import Real

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .params import Params, flatten, stacked, structure


def check_density(density: float) -> None:
    """Raise ValueError unless density is a fraction in (0, 1]."""
    if not isinstance(density, Real):
        raise ValueError(f"density: got {density!r}, expected the fraction kept, a number in (0, 1]")
    if not 0 < density <= 1:
        hint = f"; {density:g} % is {density / 100:g}" if 1 < density <= 100 else ""
        raise ValueError(f"density: got {density}, expected the fraction kept, in (0, 1]{hint}")


def keep_count(density: float, numel: int) -> int:
    """How many of `numel` entries a density keeps: round(density * numel), at least one of a tensor that has any."""
    return min(numel, max(1, round(density * numel)))


def kth_largest(S: Float[Tensor, "*rows d"], k: int) -> Float[Tensor, "*rows 1"]:
    """The k-th largest entry of each row, (..., d) -> (..., 1), by selection, several times faster than sorting.

    `S` is without NaN. Raises ValueError for k outside 1..d.

    >>> kth_largest(torch.tensor([3.0, 1.0, 2.0, 2.0]), k=2)
    tensor([2.])
    """
    d = S.shape[-1]
    if not 1 <= k <= d:
        raise ValueError(f"k: got {k}, expected 1..{d} (the number of entries)")
    if _numpy_is_faster(S) and d > LONG:
        kth = np.empty((*S.shape[:-1], 1), dtype=S.numpy().dtype)
        for row in np.ndindex(S.shape[:-1]):
            kth[row] = _kth_of_row(S[row].numpy(), k)
        return torch.from_numpy(kth)
    if _numpy_is_faster(S):
        return torch.from_numpy(np.partition(S.numpy(), d - k, axis=-1)[..., [d - k]])
    return S.kthvalue(d - k + 1, dim=-1, keepdim=True).values


def topk_mask(S: Float[Tensor, "*rows d"], k: int, among: Bool[Tensor, " d"] | None = None) -> Bool[Tensor, "*rows d"]:
    """True on exactly the k largest entries of each row; equal scores are kept in order of position.

    `S` is (..., d), without NaN; returns a bool tensor of its shape. With `among`, a bool tensor (d,) beside one
    row of scores, only entries where it is True take part. Raises ValueError for k outside 0..d, the number of
    entries that take part.

    >>> topk_mask(torch.tensor([3.0, 1.0, 2.0, 2.0, 2.0]), k=3).int()
    tensor([1, 0, 1, 1, 0], dtype=torch.int32)
    >>> topk_mask(torch.tensor([3.0, 1.0, 2.0]), k=1, among=torch.tensor([False, True, True])).int()
    tensor([0, 0, 1], dtype=torch.int32)
    """
    d = S.shape[-1] if among is None else count(among)
    if not 0 <= k <= d:
        raise ValueError(f"k: got {k}, expected 0..{d} (the number of entries)")
    if k in (0, d):
        everything = torch.ones_like(S, dtype=torch.bool) if among is None else among
        return everything & (k == d)
    if _numpy_is_faster(S) and (among is not None or S.shape[-1] > LONG):
        mask, among = np.empty(S.shape, dtype=bool), None if among is None else among.numpy()
        for row in np.ndindex(S.shape[:-1]):
            mask[row] = _topk_of_row(S[row].numpy(), k, d, among)
        return torch.from_numpy(mask)
    if among is not None:
        mask, at = torch.zeros_like(among), among.nonzero().squeeze(1)
        mask[at[topk_mask(S[at], k)]] = True
        return mask
    threshold = kth_largest(S, k)
    mask = S >= threshold
    if mask.count_nonzero() == k * threshold.numel():  # each row has k at least, so no tie to break
        return mask
    above = S > threshold
    ties = mask & ~above
    return above | (ties & (ties.cumsum(dim=-1) <= k - above.count_nonzero(dim=-1)[..., None]))


SAMPLE = np.random.default_rng(0).random(2**15)  # places to look at, as shares of a length
LONG = 4 * len(SAMPLE)  # from here on it saves time to look at a sample first


def _kth_of_row(S: np.ndarray, k: int) -> float:
    """`kth_largest` of one long row: a sample brackets it, and only what lies between is ranked."""
    for lo, hi in (_bracket(S, k / len(S), None), (-math.inf, math.inf)):
        left = k - np.count_nonzero(S > hi)
        between = S[(S >= lo) & (S <= hi)]
        if 1 <= left <= len(between):
            break
    return np.partition(between, len(between) - left)[len(between) - left]


def _topk_of_row(S: np.ndarray, k: int, d: int, among: np.ndarray | None) -> np.ndarray:
    """`topk_mask` of one row, of which d take part, in the manner of Floyd and Rivest (1975).

    A sample tells between which two scores the k-th largest should lie. What is above both is kept, what is below
    is not, and only the few between are ranked. If the sample misled us, which the counts show, all are.
    """
    for lo, hi in (_bracket(S, k / d, among), (-math.inf, math.inf)):
        keep = S >= lo
        if among is not None:
            keep &= among
        between = S <= hi
        between &= keep
        at, excess = np.flatnonzero(between), np.count_nonzero(keep) - k
        if 0 <= excess <= len(at):
            break
    if excess:
        scores = S[at]
        threshold = np.partition(scores, excess - 1)[excess - 1]  # the largest score that has to go
        below, ties = at[scores < threshold], at[scores == threshold]
        keep[below] = False
        keep[ties[len(ties) + len(below) - excess :]] = False
    return keep


def _bracket(S: np.ndarray, share: float, among: np.ndarray | None) -> tuple[float, float]:
    """Two scores that most likely enclose the smallest of the largest `share`; of a short row the two infinities."""
    if len(S) <= LONG:
        return -math.inf, math.inf
    at = (SAMPLE * len(S)).astype(np.intp)
    sample = np.sort(S[at if among is None else at[among[at]]])
    slack = 1.5 * math.sqrt(len(sample)) + 1  # three standard deviations of a rank, at most
    first, last = (int((1 - share) * len(sample) + step) for step in (-slack, slack))
    lo = float(sample[first]) if first >= 0 else -math.inf
    return lo, float(sample[last]) if last < len(sample) else math.inf


def _numpy_is_faster(x: Tensor) -> bool:
    """On the CPU, where numpy compares, selects, and multiplies by a bool several times as fast as torch."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and x.ndim > 0


def nonzero(x: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """True where x is not 0."""
    return torch.from_numpy(x.numpy() != 0) if _numpy_is_faster(x) else x != 0


def below(x: Float[Tensor, "*shape"], limit: float) -> Bool[Tensor, "*shape"]:
    """True where x < limit."""
    return torch.from_numpy(x.numpy() < limit) if _numpy_is_faster(x) else x < limit


def zero_outside_(x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> None:
    """x *= mask, in place."""
    if _numpy_is_faster(x):
        np.multiply(x.numpy(), mask.numpy(), out=x.numpy())
    else:
        x *= mask


def count(mask: Bool[Tensor, "*shape"]) -> int:
    """How many are True."""
    return int(np.count_nonzero(mask.numpy()) if mask.device.type == "cpu" else mask.count_nonzero())


def keep_largest(
    taus: Sequence[Params], density: float, scope: str = "global"
) -> Callable[[str], Bool[Tensor, " N *shape"]]:
    """keep(key), a bool tensor (N, *shape): True on the `density` largest |entries| of each task vector.

    scope="global" ranks all entries of a model together, so that a tensor may lose everything; it copies one
    flattened model at a time and remembers N masks, a byte per entry. scope="tensor" keeps the same share
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
    taus = list(taus)
    check_density(density)
    if scope not in ("global", "tensor"):
        raise ValueError(f"scope: got '{scope}', expected 'global' or 'tensor'")
    if scope == "tensor":

        def keep(key: str) -> Bool[Tensor, " N *shape"]:
            S = stacked(taus, key).abs_()
            rows = S.reshape(len(S), S[0].numel())
            return topk_mask(rows, keep_count(density, rows.shape[1])).view_as(S) & (S > 0)

        return keep

    spec = dict(sorted(structure(taus[0]).items()))
    sizes = [torch.Size(shape).numel() for shape, _ in spec.values()]
    masks, S = [], None
    for tau in taus:
        S = flatten(tau, out=S).abs_()
        changed = nonzero(S)
        m = topk_mask(S, min(keep_count(density, len(S)), count(changed)), among=changed)
        masks.append(dict(zip(spec, m.split(sizes), strict=True)))

    def keep(key: str) -> Bool[Tensor, " N *shape"]:
        return torch.stack([m[key].view(spec[key][0]) for m in masks])

    return keep


def own_generator(generator: torch.Generator, key: str, n: int) -> torch.Generator:
    """A random generator for tensor `key` of expert n alone, derived from the *seed* of `generator`.

    So the draws do not depend on the order of the tensors, nor on which others there are, and a recipe that
    holds a generator gives the same result at each call: for other draws, take another seed. Raises ValueError for
    what is no generator.
    """
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator: got {generator!r}, expected one: torch.Generator().manual_seed(0)")
    digest = hashlib.sha256(f"{generator.initial_seed()} {n} {key}".encode()).digest()
    return torch.Generator(generator.device).manual_seed(int.from_bytes(digest[:7], "big"))
