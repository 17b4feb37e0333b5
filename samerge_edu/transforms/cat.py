"""CAT Merging, conflict-aware task merging (Sun et al., ICML 2025, arXiv:2505.06977)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..params import Params, check_finite, check_same_structure, structure, working


def cat(
    taus: Sequence[Params], grams: Sequence[Params], *, rank: int = 3, keep: float = 1.0
) -> list[dict[str, Tensor]]:
    """Remove from each task vector the few directions in which it changes the answers of *another* task most.

    For each matrix (out, in) with a Gram, G_n = X_n^T X_n of task n's inputs, task k protects the outputs
        B_k = the first `rank` eigenvectors of   M_k = sum_{i != k} tau_i (G_k - keep * G_i) tau_i^T        (out, out)
    since tr(B^T tau_i G_k tau_i^T B) is what expert i adds to task k's answers in the directions B, and the same with
    G_i is what expert i's own task would lose there. Then each task vector gives up what the others protect:
        tau_hat_i = (I - Q_i Q_i^T) tau_i         Q_i an orthonormal basis of all B_k, k != i

    Args:
        taus: N >= 1 task vectors; may be lazy.
        grams: N mappings, one an expert, in their order: name -> (in, in), `statistics.input_grams` of 2 or 3 images.
        rank: directions that each task protects in each matrix, >= 0; the paper's c. Its value is not readable in a
            public source: 3 is our choice.
        keep: the paper's lambda, >= 0, what an expert's own task weighs against the conflict: 0 looks at conflict
            alone. Its value: as for `rank`. Directions whose eigenvalue is not above 0 are not protected.
    Returns N task vectors; tensors without a Gram come back as they are. Task Arithmetic follows.
    Raises ValueError for structures that differ, NaN or infinity, Grams that are not one an expert or of another shape
    than (in, in), rank < 0, keep < 0.
    Limits: one expert, rank 0, or Grams of 0 change nothing. The more tasks, the more is removed: up to (N - 1) * rank.
    Our reading of a summary of the paper (its code was not reachable): that all B_k are removed at once, so that the
    order of the tasks is without effect. Left out: its masks for LayerNorm's scale and shift.

    >>> taus = [{"w": torch.tensor([[1.0, 0.0], [0.0, 1.0]])}, {"w": torch.tensor([[0.0, 0.0], [0.0, 1.0]])}]
    >>> grams = [{"w": torch.diag(torch.tensor([1.0, 0.0]))}, {"w": torch.diag(torch.tensor([0.0, 1.0]))}]
    >>> [tau["w"].tolist() for tau in cat(taus, grams, rank=1, keep=0.0)]  # task 1 sees the second input only
    [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    if len(grams) != len(taus):
        raise ValueError(f"grams: got {len(grams)}, expected {len(taus)}, one an expert")
    if rank < 0 or not keep >= 0:
        raise ValueError(f"rank, keep: got {rank}, {keep}, expected numbers >= 0")
    tau_hat: list[dict[str, Tensor]] = [{} for _ in taus]
    for key, (shape, dtype) in structure(taus[0]).items():
        tau = [working(t[key]) for t in taus]
        if key in grams[0]:
            G = [_checked(gram, key, shape).to(tau[0].device, torch.float64) for gram in grams]
            tau = _without_conflicts(tau, G, rank, keep)
        for n in range(len(taus)):
            tau_hat[n][key] = tau[n].to(dtype)
    return tau_hat


def _without_conflicts(tau: list[Tensor], G: list[Tensor], rank: int, keep: float) -> list[Tensor]:
    N, T = len(tau), [t.double() for t in tau]
    own = [t @ G_n @ t.T for t, G_n in zip(T, G, strict=True)]
    B = []
    for k in range(N):
        M = sum((T[i] @ G[k] @ T[i].T - keep * own[i] for i in range(N) if i != k), torch.zeros_like(own[k]))
        value, vector = torch.linalg.eigh(M)  # smallest first
        first = max(0, len(value) - rank)
        B.append(vector[:, first:][:, value[first:] > 1e-12 * value.abs().max()])
    without = []
    for i in range(N):
        others = torch.cat([B[k] for k in range(N) if k != i] or [B[i][:, :0]], dim=1)
        Q, S, _ = torch.linalg.svd(others, full_matrices=False)
        Q = Q[:, S > 1e-6]  # two tasks may protect the same direction
        without.append((T[i] - Q @ (Q.T @ T[i])).to(tau[i].dtype))
    return without


def _checked(gram: Params, key: str, shape: tuple[int, ...]) -> Tensor:
    if key not in gram:
        raise ValueError(f"grams: got no '{key}' for some expert, expected the same names for all")
    if len(shape) != 2 or tuple(gram[key].shape) != (shape[1], shape[1]):
        raise ValueError(f"Gram of '{key}': got shape {tuple(gram[key].shape)}, expected (in, in) of a matrix {shape}")
    if not gram[key].isfinite().all():
        raise ValueError(f"Gram of '{key}': got NaN or infinity, expected finite numbers")
    return gram[key]
