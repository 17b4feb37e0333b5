"""Iso-C and Iso-CTS (Marczak et al., No task left behind, ICML 2025, arXiv:2502.04959), from the authors' code."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..matrices import nearest_orthonormal, not_text_projection, thin_svd
from ..params import Params, check_finite, check_same_structure, stacked, structure


def iso_c(
    taus: Sequence[Params], *, is_matrix: Callable[[str, Tensor], bool] = not_text_projection
) -> dict[str, Tensor]:
    """Add the experts, then give all singular directions of the sum the same strength.

    For each matrix (out, in), r = min(out, in):
        U diag(S) V^T = sum_n tau_n                                  (out, r), (r), (r, in)
        tau_m         = sigma U V^T,   sigma = (1/r) sum_i S_i
    The sum is ruled by the few directions that most experts share; the experts whose own directions are
    weak lose. An isotropic spectrum gives those directions a voice. Other tensors are the plain mean.

    Args:
        taus: N >= 1 task vectors; may be lazy, one tensor of every expert is in memory at a time.
        is_matrix: (name, tensor) -> whether this 2-D tensor has a spectrum to equalise. The default is the
            authors' rule: all but `text_projection`; the embedding of positions is among them.
    Returns tau_m in the task vectors' dtype. The paper tunes the scale on validation data: lam = 1.3, 1.0, 0.9
    for 8, 14, 20 tasks on ViT-B/32.
    Raises ValueError for an empty list, for keys, shapes or dtypes that differ, and for NaN or infinity.
    Limits: the result depends on how the model is written down (q, k, v fused or not).
    Differs from the authors' code where the sum has fewer than r directions, as a sum of LoRA updates has: theirs
    fills up with directions that rounding chose, at strength sigma, here they stay 0. A copy of Iso-C in the
    code of TSV-M starts from the mean, not the sum: its tau_m is N times smaller.

    >>> tau = {"w": torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])}
    >>> iso_c([tau])["w"]
    tensor([[2., 0.],
            [0., 2.],
            [0., 0.]])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    tau_m = {}
    for key, (_, dtype) in structure(taus[0]).items():
        tau = stacked(taus, key)  # (N, *shape)
        if tau[0].ndim == 2 and is_matrix(key, tau[0]):
            U, S, Vt = thin_svd(tau.sum(dim=0))
            merged = S.mean() * U @ Vt
        else:
            merged = tau.mean(dim=0)
        tau_m[key] = merged.to(dtype)
    return tau_m


def iso_cts(
    taus: Sequence[Params],
    *,
    common_fraction: float = 0.8,
    is_matrix: Callable[[str, Tensor], bool] = not_text_projection,
) -> dict[str, Tensor]:
    """Iso-C, with the weakest directions of the sum replaced by each expert's own.

    For each matrix (out, in), r = min(out, in):
        U diag(S) V^T = sum_n tau_n;  U_c, S_c, V_c: its k largest          k = r - N s, about common_fraction * r
        rest_n = tau_n - U_c U_c^T tau_n;  U_n, S_n, V_n: its s largest     s = round(r (1 - common_fraction) / N)
        U, V   = nearest orthonormal to [U_c U_1 .. U_N] and [V_c V_1 .. V_N]
        tau_m  = sigma U V^T,   sigma = (1/r) sum of all S_c and S_n
    Other tensors are the plain mean.

    Args:
        taus: N >= 1 task vectors; may be lazy, one tensor of every expert is in memory at a time.
        common_fraction: share of the directions that come from the sum, in [0, 1]; 0.8 is the paper's.
            1 is Iso-C.
        is_matrix: as in `iso_c`.
    Returns tau_m in the task vectors' dtype. The paper tunes the scale on validation data: lam = 1.5, 1.2, 1.1
    for 8, 14, 20 tasks on ViT-B/32.
    Raises ValueError for a share outside [0, 1], and as `iso_c`.
    Limits and differences: those of `iso_c`, so also where the experts' own directions run out (one expert is zero, or
    experts are identical: nothing is left beside the sum's); and a small share of few directions, where the authors'
    rounding asks for more than r in all, gives floor(r / N) to each expert here.

    >>> a, b = {"w": torch.diag(torch.tensor([5.0, 3.0, 0.0]))}, {"w": torch.diag(torch.tensor([5.0, 0.0, 1.0]))}
    >>> iso_cts([a, b], common_fraction=1 / 3)["w"].diag()  # 10 from the sum, 3 from a, 1 from b: 14/3 each
    tensor([4.6667, 4.6667, 4.6667])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    if not 0 <= common_fraction <= 1:
        raise ValueError(f"common_fraction: got {common_fraction}, expected a share in [0, 1]")
    N, tau_m = len(taus), {}
    for key, (_, dtype) in structure(taus[0]).items():
        tau = stacked(taus, key)  # (N, *shape)
        if tau[0].ndim == 2 and is_matrix(key, tau[0]):
            U, S, Vt = thin_svd(tau.sum(dim=0))
            r = len(S)
            s = min(round((r - int(common_fraction * r)) / N), r // N)
            k = r - N * s
            U_c, S_c, Vt_c = U[:, :k], S[:k], Vt[:k]
            U_n, S_n, Vt_n = thin_svd(tau - U_c @ (U_c.mT @ tau), rank=s)  # (N, out, s), (N, s), (N, s, in)
            U = nearest_orthonormal(torch.cat([U_c, U_n.transpose(0, 1).flatten(1)], dim=1))
            S = torch.cat([S_c, S_n.flatten()])
            Vt = nearest_orthonormal(torch.cat([Vt_c, Vt_n.flatten(0, 1)]))
            merged = S.mean() * U @ Vt
        else:
            merged = tau.mean(dim=0)
        tau_m[key] = merged.to(dtype)
    return tau_m
