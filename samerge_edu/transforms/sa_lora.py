"""SA-Merging of LoRA experts, rank by rank (Park, Lee and Sohn, ICML 2026, arXiv:2606.00511, LoRA variant)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..lora import Adapter, LoRA, check_adapters
from ..masks import topk_mask
from ..params import Params, structure, working
from ..saliency import Flow, Lazy


def sa_lora(
    adapters: Sequence[Adapter],
    *,
    theta_0: Params,
    flow: Callable[[Params], Flow],
    T: int = 10,
    p: float = 0.2,
    progress: Callable[[int, list[dict[str, LoRA]]], None] | None = None,
) -> list[dict[str, LoRA]]:
    """Prune whole rank components b_k a_k^T of N adapters, those of least saliency first, in T rounds.

        tau_n = s B A = s sum_k b_k a_k^T,   b_k column k of B (out,),  a_k row k of A (in,)
        G_n    = d ln R_n / dtau_n                       at theta_0 + tau_n, one layer             (out, in)
        gamma_k = b_k^T G_n a_k                          what R gains if component k grows
        eta_k   = b_k^T (sum_i tau_i) a_k                how far it agrees with the sum of all experts
        m_n     = 1 on the ceil((1-p)^t r) largest |gamma_k eta_k| of each layer, else 0           (r,)
        B <- B diag(m_n),   A <- diag(m_n) A

    No update is formed for this: eta_k = sum_i s_i (b_k^T B_i) (A_i a_k), and G = sign(theta) * (u x^T) with the
    two vectors that `Flow` holds, so gamma_k = (u * b_k)^T sign(theta) (x * a_k). (Path strength itself needs
    |theta_0 + s B A|, one layer at a time.) Shapes stay, so that the result is still an adapter in PEFT's format.

    Args: `adapters`, N >= 1, of any ranks; `theta_0`, the base with all tensors that `flow` passes;
    `flow`, `chain_flow` or `partial(clip_flow, heads=...)`; `T` >= 1 and `p` in [0, 1) as in `sa_merging`: the paper
    gives no values for ranks, these are its values for entries, which leave 2 of 16 and 1 of 4;
    `progress(t, adapters)` is called after each round.
    Returns N adapters, to be summed: `task_arithmetic([dense(a) for a in ...])`, or PEFT's `cat`.
    Raises ValueError for arguments out of range, adapters that do not fit each other or the base.

    Limits: the choice depends on the gauge. (B M^-1, M A) is the same expert, but if M mixes ranks its components
    b_k a_k^T are others, and so is what is pruned; only reordering and rescaling of the ranks change nothing.

    >>> from samerge_edu.saliency import chain_flow
    >>> base = {"w": torch.ones(1, 2)}
    >>> expert = {"w": LoRA(A=torch.tensor([[3.0, 0.0], [0.0, 2.0]]), B=torch.tensor([[1.0, 1.0]]), scale=0.1)}
    >>> sa_lora([expert], theta_0=base, flow=chain_flow, T=1, p=0.5)[0]["w"].A      # the larger component is left
    tensor([[3., 0.],
            [0., 0.]])
    """
    adapters = check_adapters(adapters)
    if T < 1 or T != int(T):
        raise ValueError(f"T: got {T}, expected a whole number of rounds, at least 1")
    if not 0 <= p < 1:
        raise ValueError(f"p: got {p}, expected the share pruned in a round, in [0, 1)")
    shapes = {key: shape for key, (shape, _) in structure(theta_0).items()}
    for key, (A, B, _) in adapters[0].items():
        if shapes.get(key) != (len(B), A.shape[1]):
            got = shapes.get(key, "no such tensor")
            raise ValueError(f"theta_0, key '{key}': got {got}, expected {(len(B), A.shape[1])}, as in the adapters")

    adapters = [{key: LoRA(A.clone(), B.clone(), s) for key, (A, B, s) in adapter.items()} for adapter in adapters]
    for t in range(1, T + 1):
        saliencies = [_saliency(adapter, adapters, theta_0, flow) for adapter in adapters]
        for adapter, S in zip(adapters, saliencies, strict=True):
            for key, (A, B, _) in adapter.items():
                alive = A.any(dim=1) & B.any(dim=0)
                keep = math.ceil((1 - p) ** t * len(A) * (1 - 1e-12))
                m = topk_mask(S[key].masked_fill(~alive, -math.inf), keep)
                A *= m[:, None]
                B *= m
        if progress:
            progress(t, adapters)
    return adapters


def _saliency(adapter: Adapter, adapters: Sequence[Adapter], theta_0: Params, flow: Callable) -> dict[str, Tensor]:
    """|gamma_k eta_k| of each rank of each layer."""

    def theta(key: str) -> Tensor:
        if key not in adapter:
            return working(theta_0[key])
        A, B, s = adapter[key]
        return torch.addmm(working(theta_0[key]), working(B), working(A), alpha=s)

    factors = flow(Lazy(theta_0, theta)).factors
    S = {}
    for key in adapter:
        A, B = working(adapter[key].A), working(adapter[key].B)
        u, x = factors[key]  # (out, 1), (1, in)
        gamma = (u * B * (theta(key).sign() @ (x * A).T)).sum(dim=0)
        eta = torch.zeros_like(gamma)
        for A_i, B_i, s in (other[key] for other in adapters):
            eta += s * ((B.T @ working(B_i)) * (A @ working(A_i).T)).sum(dim=1)
        S[key] = (gamma * eta).abs()
    return S
