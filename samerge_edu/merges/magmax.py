"""MagMax (Marczak et al., Leveraging model merging for seamless continual learning, ECCV 2024, arXiv:2407.06322)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..params import Params, check_finite, check_same_structure, pieces, structure


def magmax(taus: Sequence[Params]) -> dict[str, Tensor]:
    """At each entry the one expert that changed it most decides alone.

        tau_m[j] = tau_n[j] of the n with the largest |tau_n[j]|                             (d,)
    No election, no mean: TIES at its extreme. Made for experts that were trained one after the other.

    Args: `taus`: N >= 1 task vectors; may be lazy.
    Returns tau_m; the authors' eight-task script scales it by lam = 0.5.
    Raises ValueError for structures that differ, NaN or infinity.
    Limits: one expert returns as it came. Where two are equally far from 0 on different sides, the positive one wins.
    Differs there from the authors' code, in which the later expert wins: here the order of experts does not matter.

    >>> a, b = {"w": torch.tensor([4.0, 1.0, -3.0])}, {"w": torch.tensor([2.0, -5.0, 3.0])}
    >>> magmax([a, b])["w"]
    tensor([ 4., -5.,  3.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    tau_m = {}
    for key, (shape, dtype) in structure(taus[0]).items():
        chosen = [_farthest(tau) for tau in pieces(taus, key)]
        tau_m[key] = torch.cat(chosen).reshape(shape).to(dtype)
    return tau_m


def _farthest(tau: Float[Tensor, "N b"]) -> Float[Tensor, " b"]:
    """(N, b) -> (b,): of each column the entry farthest from 0."""
    high, low = tau.amax(dim=0), tau.amin(dim=0)
    return high.where(high >= -low, low)
