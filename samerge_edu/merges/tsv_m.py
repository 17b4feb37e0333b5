"""TSV-Merge (Gargiulo et al., Task singular vectors, CVPR 2025, arXiv:2412.00081), from the authors' code."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..matrices import nearest_orthonormal, not_text_projection, thin_svd
from ..params import Params, check_finite, check_same_structure, stacked, structure


def tsv_m(
    taus: Sequence[Params], *, is_matrix: Callable[[str, Tensor], bool] = not_text_projection
) -> dict[str, Tensor]:
    """Give each of N experts its share of the singular directions of a matrix, then make all directions orthogonal.

    For each matrix (out, in), with r = min(out, in) and k = floor(r / N) triplets an expert:
        tau_n   = U_n diag(S_n) V_n^T, cut to its k largest singular values
        U, S, V = [U_1 .. U_N], [S_1 .. S_N], [V_1 .. V_N]             (out, N k), (N k), (in, N k)
        tau_m   = U_perp diag(S) V_perp^T          U_perp, V_perp: nearest matrices with orthonormal columns
    Singular vectors of different experts overlap, and where they do the experts interfere; after the
    last step no direction is written by two of them. Every other tensor is the plain mean.

    Args:
        taus: N >= 1 task vectors; may be lazy, one tensor of every expert is in memory at a time.
        is_matrix: (name, tensor) -> whether this 2-D tensor is merged by its singular vectors. The default is
            the authors' rule: all but `text_projection`; the embedding of positions is among them.
    Returns tau_m in the task vectors' dtype; theta_0 + tau_m (lam = 1) is the paper's setting.
    Raises ValueError for an empty list, for keys, shapes or dtypes that differ, and for NaN or infinity.
    Limits: the result depends on how the model is written down: q, k and v in one matrix (open_clip) or in
    three (Hugging Face). A matrix with r < N has no triplet for everybody and is averaged. One expert
    returns as it came; N copies of one expert give its best approximation of rank k.
    Differs from the authors' code, which (a) sets such a small matrix to 0, (b) where two experts share a
    direction exactly (or an expert has rank < k) fills in one that rounding chose; here it is left out.

    >>> import torch
    >>> a, b = {"w": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}, {"w": torch.tensor([[1.0, 0.0], [0.0, 3.0]])}
    >>> tsv_m([a, b])["w"]  # k = 1: the direction of 2 from a, the direction of 3 from b
    tensor([[2., 0.],
            [0., 3.]])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    tau_m = {}
    for key, (_, dtype) in structure(taus[0]).items():
        tau = stacked(taus, key)  # (N, *shape)
        k = min(tau[0].shape) // len(taus) if tau[0].ndim == 2 else 0
        if k > 0 and is_matrix(key, tau[0]):
            U, S, Vt = thin_svd(tau, rank=k)  # (N, out, k), (N, k), (N, k, in)
            U_perp = nearest_orthonormal(U.transpose(0, 1).flatten(1))  # (out, N k)
            Vt_perp = nearest_orthonormal(Vt.flatten(0, 1))  # (N k, in)
            merged = U_perp * S.flatten() @ Vt_perp
        else:
            merged = tau.mean(dim=0)
        tau_m[key] = merged.to(dtype)
    return tau_m
