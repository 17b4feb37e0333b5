"""Three ways of PEFT to merge LoRA adapters (`add_weighted_adapter` of github.com/huggingface/peft, no paper).

All take N adapters and weights w_n (default: 1 each, the plain sum) and return one adapter of scale 1, to be
made `dense`. The task is sum_n w_n s_n B_n A_n; only one of the three gives up on it.
"""

from collections.abc import Sequence

import torch

from ..lora import Adapter, LoRA, check_adapters
from ..params import working


def cat(adapters: Sequence[Adapter], weights: Sequence[float] | None = None) -> dict[str, LoRA]:
    """Stack the factors: exactly the sum, at the price of the sum of the ranks.

        A = [w_1 s_1 A_1; ...; w_N s_N A_N]   (N r, in)      B = [B_1, ..., B_N]   (out, N r)

    Raises ValueError for adapters that do not fit each other and for another number of weights.

    >>> a = LoRA(A=torch.tensor([[1.0]]), B=torch.tensor([[2.0]]), scale=1.0)
    >>> b = LoRA(A=torch.tensor([[3.0]]), B=torch.tensor([[4.0]]), scale=1.0)
    >>> merged = cat([{"w": a}, {"w": b}])["w"]
    >>> merged.B @ merged.A                                                       # 2 * 1 + 4 * 3
    tensor([[14.]])
    """
    adapters, weights = _checked(adapters, weights)
    merged = {}
    for key in adapters[0]:
        layers = [adapter[key] for adapter in adapters]
        A = torch.cat([w * s * working(A) for w, (A, _, s) in zip(weights, layers, strict=True)])
        merged[key] = LoRA(A, torch.cat([working(B) for _, B, _ in layers], dim=1), 1.0)
    return merged


def svd(
    adapters: Sequence[Adapter], weights: Sequence[float] | None = None, rank: int | None = None
) -> dict[str, LoRA]:
    """Cut the sum back to `rank` (default, PEFT's: the largest rank among the adapters): the best approximation.

        sum_n w_n s_n B_n A_n = U diag(S) V^T       A = V^T[:rank]      B = U[:, :rank] diag(S[:rank])

    The sum is never formed: with `cat`'s factors B = Q_B R_B and A^T = Q_A R_A, the small matrix R_B R_A^T has
    the same singular values. Exact if `rank` is at least the sum's rank. Raises ValueError as `cat`, and rank < 1.
    """
    if rank is not None and rank < 1:
        raise ValueError(f"rank: got {rank}, expected at least 1")
    adapters, merged = list(adapters), {}
    for key, (A, B, _) in cat(adapters, weights).items():
        k = rank or max(len(adapter[key].A) for adapter in adapters)
        (Q_B, R_B), (Q_A, R_A) = torch.linalg.qr(B), torch.linalg.qr(A.T)
        U, S, Vt = torch.linalg.svd(R_B @ R_A.T, full_matrices=False)
        merged[key] = LoRA(Vt[:k] @ Q_A.T, Q_B @ (U[:, :k] * S[:k]), 1.0)
    return merged


def linear(adapters: Sequence[Adapter], weights: Sequence[float] | None = None) -> dict[str, LoRA]:
    """Add up the factors themselves. It keeps the rank, and it is *not* the sum of the updates.

        A = sum_n sqrt(w_n s_n) A_n        B = sum_n sqrt(w_n s_n) B_n      (a negative w_n: its sign goes to A)
        B A = sum_n w_n s_n B_n A_n  +  sum_{n != m} sqrt(w_n s_n w_m s_m) B_n A_m

    The second sum pairs one expert's B with another's A, which means nothing, and changes with the gauge of each
    adapter. Shown because it is in wide use. Raises ValueError as `cat`, and for ranks that differ.
    """
    adapters, weights = _checked(adapters, weights, same_rank=True)
    merged = {}
    for key in adapters[0]:
        layers = [adapter[key] for adapter in adapters]
        root = [abs(w * s) ** 0.5 for w, (_, _, s) in zip(weights, layers, strict=True)]
        sign = [-1 if w < 0 else 1 for w in weights]
        A = sum(c * q * working(A) for c, q, (A, _, _) in zip(sign, root, layers, strict=True))
        merged[key] = LoRA(A, sum(q * working(B) for q, (_, B, _) in zip(root, layers, strict=True)), 1.0)
    return merged


def _checked(
    adapters: Sequence[Adapter], weights: Sequence[float] | None, same_rank: bool = False
) -> tuple[list[Adapter], list[float]]:
    adapters = check_adapters(adapters, same_rank)
    weights = [1.0] * len(adapters) if weights is None else list(weights)
    if len(weights) != len(adapters):
        raise ValueError(f"got {len(weights)} weights, expected {len(adapters)}, one per adapter")
    return adapters, weights
