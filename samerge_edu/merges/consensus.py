"""TALL masks and Consensus Task Arithmetic (Wang et al., ICML 2024, arXiv:2405.07813)."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..params import Params, check_finite, check_same_structure, stacked, structure


def consensus(taus: Sequence[Params], min_tasks: int = 2, mask_lam: float = 0.6) -> dict[str, Tensor]:
    """Sum the task vectors, and drop the entries that fewer than `min_tasks` tasks use.

        tau_sum = sum_n tau_n                                                               (d,)
        m_n     = 1 where |tau_n| > mask_lam * |tau_sum - tau_n|, else 0                    (N, d)  `tall_masks`
        tau_m   = tau_sum where sum_n m_n >= min_tasks, else 0                              (d,)

    An entry that no task uses is noise ("catastrophic"), one that a single task uses is "selfish": it serves that
    task and disturbs all others.

    Args:
        taus: N >= 1 task vectors; may be lazy.
        min_tasks: the paper's k = 2. 0 gives Task Arithmetic, more than N gives the base, so one expert alone does.
        mask_lam: how much of a mask survives, >= 0, smaller keeps more. The paper picks one of 0.2, 0.3 .. 0.6 for
            each task on labelled validation data; without data it has to be fixed. 0.6 is FusionBench's value.
    Returns tau_m, to be scaled by lam (the paper tunes it on validation data, 0.1 .. 1.0).
    Raises ValueError for a negative min_tasks or mask_lam, structures that differ, NaN or infinity.
    Differs from the paper in one fixed mask_lam for all tasks.

    >>> a, b = {"w": torch.tensor([4.0, 1.0, -3.0])}, {"w": torch.tensor([2.0, 0.0, -2.5])}
    >>> consensus([a, b], mask_lam=0.4)["w"]
    tensor([ 6.0000,  0.0000, -5.5000])
    """
    taus = _check(taus, mask_lam)
    if min_tasks < 0:
        raise ValueError(f"min_tasks: got {min_tasks}, expected at least 0")
    tau_m = {}
    for key, (_, dtype) in structure(taus[0]).items():
        tau = stacked(taus, key)
        tau_sum = tau.sum(dim=0)
        used = _tall_mask(tau, tau_sum, mask_lam).sum(dim=0, dtype=torch.int16)
        tau_m[key] = (tau_sum * (used >= min_tasks)).to(dtype)
    return tau_m


def tall_masks(taus: Sequence[Params], mask_lam: float = 0.6) -> list[dict[str, Tensor]]:
    """The N masks (bool) that find each task's part in the sum: theta_0 + m_n * tau_sum is close to expert n.

    They compress N experts into one sum and N bits per parameter; the task must be known at test time.
    Arguments and errors as in `consensus`.
    """
    taus = _check(taus, mask_lam)
    masks = [{} for _ in taus]
    for key in taus[0]:
        tau = stacked(taus, key)
        for n, m in enumerate(_tall_mask(tau, tau.sum(dim=0), mask_lam)):
            masks[n][key] = m
    return masks


def _tall_mask(
    tau: Float[Tensor, " N *shape"], tau_sum: Float[Tensor, "*shape"], mask_lam: float
) -> Bool[Tensor, " N *shape"]:
    return tau.abs() > mask_lam * (tau_sum - tau).abs()


def _check(taus: Sequence[Params], mask_lam: float) -> list[Params]:
    taus = check_same_structure(taus)
    check_finite(taus)
    if not mask_lam >= 0:
        raise ValueError(f"mask_lam: got {mask_lam}, expected a number >= 0")
    return taus
