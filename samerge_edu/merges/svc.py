"""SVC, singular value calibration (Li et al., When shared knowledge hurts, ICML 2026, arXiv:2602.05536)."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..least_squares import every_matrix
from ..matrices import thin_svd
from ..params import Params, check_finite, check_same_structure, stacked, structure, working


def svc(
    taus: Sequence[Params],
    *,
    merge: Callable[[Sequence[Params]], Params],
    lam: float = 1.0,
    floor: float | None = None,
    is_matrix: Callable[[str, Tensor], bool] = every_matrix,
) -> dict[str, Tensor]:
    """Turn down the output directions of a merge that are louder than the experts meant them.

    What several experts share is added several times. For each matrix (out, in), U diag(S) V^T = lam * merge(taus):
        s_n^r = <u_r^T tau_m, u_r^T tau_n> / ||u_r^T tau_n||^2       how loud tau_m is along u_r, in units of expert n
        S_r  <- S_r N / sum_n max(floor, s_n^r)                      (Eq. 8 and Algorithm 1)
    Directions stay, strengths change. Other tensors stay as the merge made them.

    Args:
        taus: N >= 1 task vectors; may be lazy.
        merge: taus -> tau_m, what is calibrated: `task_arithmetic`, `tsv_m`, `iso_c`, `iso_cts`.
        lam: the merge's own scale, by which tau_m is multiplied first; the paper's 0.3 for Task Arithmetic.
        floor: what s counts at least, the paper's alpha, > 0. 1 only turns down; smaller ones turn up what is too
            quiet, by at most 1 / floor. None is 1 / N, noted as the paper's for all but TSV-M, which has 1; FusionBench
            takes 0.1.
        is_matrix: (name, tensor) -> whether a 2-D tensor is calibrated; all are in FusionBench.
    Returns tau_m in the task vectors' dtype, to be added at a scale of 1.
    Raises ValueError for floor <= 0, and what `merge` raises.
    Limits: one expert, merged to itself, returns as it came for floor <= 1. An expert that is silent along u_r counts
    as floor.

    >>> import torch
    >>> from samerge_edu.merges.task_arithmetic import task_arithmetic
    >>> a = {"w": torch.tensor([[2.0, 0.0], [0.0, 3.0]])}
    >>> b = {"w": torch.tensor([[2.0, 0.0], [0.0, 0.0]])}
    >>> svc([a, b], merge=task_arithmetic)["w"]  # the first output is 4, both meant 2; the second one only a has
    tensor([[2., 0.],
            [0., 4.]])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    if floor is not None and not floor > 0:
        raise ValueError(f"floor: got {floor}, expected a number > 0")
    N = len(taus)
    tau_m = dict(merge(taus))
    least = 1 / N if floor is None else floor
    for key, (shape, dtype) in structure(taus[0]).items():
        tau_m[key] = lam * working(tau_m[key])
        if len(shape) == 2 and is_matrix(key, tau_m[key]):
            U, S, Vt = thin_svd(tau_m[key].double())
            a_m = S[:, None] * Vt  # u_r^T tau_m: (r, in)
            a = U.mT @ stacked(taus, key).to(U)  # u_r^T tau_n: (N, r, in)
            length = a.square().sum(dim=-1)
            s = ((a * a_m).sum(dim=-1) / length.where(length > 0, 1)).clamp(min=least)  # (N, r)
            tau_m[key] = U * (S * N / s.sum(dim=0)) @ Vt
        tau_m[key] = tau_m[key].to(dtype)
    return tau_m
