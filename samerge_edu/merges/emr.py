"""EMR-Merging (Huang et al., Tuning-free high-performance model merging, NeurIPS 2024, arXiv:2405.17461)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..params import Params, check_finite, check_same_structure, stacked, structure


def emr(taus: Sequence[Params]) -> dict[str, Tensor]:
    """Elect: one vector that reaches as far as the farthest expert on the side that the sum chose.

        gamma = sign(sum_n tau_n)                                                            (d,)
        tau_m = gamma * max_n |tau_n| over the n with sign(tau_n) = gamma                    (d,)
    That is MagMax after an election. Alone it is too long in most entries; it is meant to be read through a mask and a
    factor of each task, `emr_masks`, and then the task has to be known.

    Args: `taus`: N >= 1 task vectors; may be lazy.
    Returns tau_m, the paper's tau_uni. Raises ValueError for structures that differ, NaN or infinity.

    >>> a, b = {"w": torch.tensor([4.0, 1.0, -3.0])}, {"w": torch.tensor([2.0, -5.0, 2.0])}
    >>> emr([a, b])["w"]
    tensor([ 4., -5., -3.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    tau_m = {}
    for key, (_, dtype) in structure(taus[0]).items():
        tau, gamma = _elected(taus, key)
        tau_m[key] = (gamma * (gamma * tau).clamp(min=0).amax(dim=0)).to(dtype)
    return tau_m


def emr_masks(taus: Sequence[Params]) -> list[tuple[dict[str, Tensor], float]]:
    """Mask and rescale: for each expert (m_n, lam_n), so that theta_0 + lam_n * m_n * tau_m stands in for it.

        m_n   = 1 where tau_n * gamma > 0, else 0                                            (d,)
        lam_n = sum_k mean |tau_n[k]| / sum_k mean |m_n * tau_m[k]|      over the tensors k
    N experts become one vector, N bits an entry and N numbers. Arguments and errors as in `emr`.
    Differs from the paper, whose lam_n is the ratio of the sums over all entries; the authors' code (and FusionBench)
    averages within each tensor first, so that a bias counts as much as a matrix. So do we. Zeros lie on no side: an
    expert of zeros gets lam_n = 0.

    >>> a, b = {"w": torch.tensor([4.0, 1.0, -3.0])}, {"w": torch.tensor([2.0, -5.0, 2.0])}
    >>> (m, lam), _ = emr_masks([a, b])
    >>> m["w"].tolist(), round(lam, 2)  # |4| + |1| + |-3| over |4| + |-3|
    ([True, False, True], 1.14)
    """
    taus = check_same_structure(taus)
    tau_m = emr(taus)
    masks: list[dict[str, Tensor]] = [{} for _ in taus]
    own, shared = torch.zeros(len(taus), dtype=torch.float64), torch.zeros(len(taus), dtype=torch.float64)
    for key in tau_m:
        tau, gamma = _elected(taus, key)
        for n, m in enumerate(gamma * tau > 0):
            masks[n][key] = m
            if m.numel():
                own[n] += tau[n].abs().double().mean().cpu()
                shared[n] += (m * tau_m[key]).abs().double().mean().cpu()
    return [(m, float(a / b) if b else 0.0) for m, a, b in zip(masks, own, shared, strict=True)]


def _elected(taus: Sequence[Params], key: str) -> tuple[Tensor, Tensor]:
    """tau (N, *shape) and the side gamma (*shape) that the sum lies on: -1, 0 or 1."""
    tau = stacked(taus, key)
    return tau, tau.sum(dim=0).sign()
