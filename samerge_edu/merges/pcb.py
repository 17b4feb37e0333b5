"""PCB-Merging, parameter competition balancing (Du et al., NeurIPS 2024, arXiv:2410.02396)."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..masks import check_density, keep_count, kth_largest, topk_mask
from ..params import Params, check_finite, check_same_structure, flatten, unflatten

WeightAndVector = tuple[Float[Tensor, " d"], Float[Tensor, " d"]]


def pcb(
    taus: Sequence[Params], density: float = 0.05, form: str = "code", winsorise: float = 0.01
) -> dict[str, Tensor]:
    """Let parameters compete, within each task and between tasks; average the few winners by their score.

    form="code", the authors' program for CLIP; all vectors (d,), norm(x) = (x - min x) / (max x - min x):

        u_n   = norm(|tau_n|), after its 1 % smallest and largest magnitudes are clamped
        a_n   = exp(N u_n^2)                                    intra-balancing: large in its own task
        b_n   = tanh(tau_n * sum_j sgn(tau_j) u_j)              inter-balancing: agrees with the others
        c_n   = a_n * b_n, raised to its density quantile from above where it is lower
        w_n   = norm(c_n)                                       0 but for the largest density * d
        tau_m = sum_n w_n tau_n / max(sum_n w_n, 1e-12)         with the clamped tau_n

    form="softmax", as summaries of the paper print its equations:

        a_n = softmax(N norm(tau_n^2)),  b_n = sum_j softmax(norm(tau_n * tau_j)),  softmax over all d entries
        w_n = a_n * b_n on its density * d largest, else 0;     tau_m = sum_n w_n tau_n / sum_n w_n

    Args:
        taus: N >= 1 task vectors; may be lazy. Ranks whole vectors: holds about twelve of them, whatever N is.
        density: fraction of entries that get a weight, in (0, 1]; 0.05 in the authors' code.
        form: "code" or "softmax".
        winsorise: share of magnitudes clamped at each end, in [0, 0.5), only with form="code"; 0.01 for CLIP,
            0.0001 in the authors' other file.
    Returns tau_m, to be scaled by lam = 1.2 (authors' code).
    Raises ValueError for a density outside (0, 1], an unknown form, structures that differ, NaN or infinity.

    An expert whose scores are all equal (all zeros, say) has no winners: its weights are 0, where the authors' code
    divides 0 by 0. tanh sees the raw task vectors, so twice the task vectors do not give twice the result.
    Differs from the authors' code by at most one entry in the counts that density and winsorise stand for.

    >>> a, b = {"w": torch.tensor([4.0, 1.0, -3.0])}, {"w": torch.tensor([2.0, 0.5, 5.0])}
    >>> pcb([a, b], density=2 / 3)["w"]
    tensor([4., 0., 5.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    check_density(density)
    if form not in ("code", "softmax"):
        raise ValueError(f"form: got '{form}', expected 'code' or 'softmax'")
    if not 0 <= winsorise < 0.5:
        raise ValueError(f"winsorise: got {winsorise}, expected a fraction in [0, 0.5)")
    weigh = _code_weights(taus, density, winsorise) if form == "code" else _softmax_weights(taus, density)
    weighted = total = torch.zeros((), device=next(iter(taus[0].values())).device)
    for w, tau in weigh:
        weighted = weighted + w * tau
        total = total + w
    return unflatten(weighted / total.clamp(min=1e-12), like=taus[0])


def _code_weights(taus: Sequence[Params], density: float, winsorise: float) -> Iterator[WeightAndVector]:
    """(w_n, clamped tau_n) of one expert after the other."""
    N = len(taus)
    competition = 0  # sum_j sgn(tau_j) u_j
    for n in range(N):
        tau = flatten(taus[n])
        competition += tau.sign() * _norm(_clamp_ends(tau.abs(), winsorise))
    for n in range(N):
        tau = flatten(taus[n])
        magnitude = _clamp_ends(tau.abs(), winsorise)
        a = torch.exp(N * (_norm(magnitude) ** 2 - 1))  # the constant factor e^-N cancels in the last norm
        c = a * torch.tanh(tau * competition)
        c = c.clamp(min=kth_largest(c, keep_count(density, len(c))))
        yield _norm(c), tau.sign() * magnitude


def _softmax_weights(taus: Sequence[Params], density: float) -> Iterator[WeightAndVector]:
    """(w_n, tau_n) of one expert after the other."""
    N = len(taus)
    for n in range(N):
        tau = flatten(taus[n])
        a = torch.softmax(N * _norm(tau**2), dim=0)
        b = sum(torch.softmax(_norm(tau * flatten(taus[j])), dim=0) for j in range(N))
        c = a * b
        yield c * topk_mask(c, keep_count(density, len(c))), tau


def _norm(x: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """To [0, 1] by its smallest and largest entry; 0 where all are equal."""
    low, high = x.aminmax()
    return (x - low) / (high - low) if high > low else torch.zeros_like(x)


def _clamp_ends(magnitude: Float[Tensor, " d"], share: float) -> Float[Tensor, " d"]:
    """Winsorise: the smallest and the largest `share` of the entries become equal to their neighbours."""
    d = len(magnitude)
    cut = int(share * d)
    return magnitude.clamp(kth_largest(magnitude, d - cut), kth_largest(magnitude, cut + 1))
