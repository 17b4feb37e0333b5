"""PCB-Merging, parameter competition balancing (Du et al., NeurIPS 2024, arXiv:2410.02396)."""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from ..masks import check_density, keep_count, kth_largest, topk_mask
from ..params import Params, check_finite, check_same_structure, flatten, unflatten


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
        taus: N >= 1 task vectors; may be lazy. Ranks whole vectors: holds about seven of them, whatever N is.
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
    merge = partial(_by_code, winsorise=winsorise) if form == "code" else _by_softmax
    return unflatten(merge(taus, density), like=taus[0])


def _by_code(taus: Sequence[Params], density: float, winsorise: float) -> Float[Tensor, " d"]:
    """tau_m. Works in place, on six vectors whatever N is: new memory takes longer than the arithmetic."""
    N, ends = len(taus), []
    tau = flatten(taus[0])
    u, a = torch.empty_like(tau), torch.empty_like(tau)
    competition, weighted, total = (torch.zeros_like(tau) for _ in range(3))
    for n in range(N):
        tau = flatten(taus[n], out=tau)
        ends.append(_ends(torch.abs(tau, out=u), winsorise))
        competition += _norm_(u, *ends[n]).copysign_(tau)  # sum_j sgn(tau_j) u_j; where tau_j is 0, so is u_j
    for n in range(N):
        tau = flatten(taus[n], out=tau)
        _norm_(torch.abs(tau, out=a), *ends[n])
        a.square_().sub_(1).mul_(N).exp_()  # the constant factor e^-N cancels in the last norm
        c = a.mul_(torch.mul(tau, competition, out=u).tanh_())
        w = _norm_(c, kth_largest(c, keep_count(density, len(c))).item(), c.max().item())
        total += w
        tau_hat = torch.abs(tau, out=u).clamp_(*ends[n]).mul_(tau.sign_())
        weighted.addcmul_(w, tau_hat)
    return weighted.div_(total.clamp_(min=1e-12))


def _by_softmax(taus: Sequence[Params], density: float) -> Float[Tensor, " d"]:
    N = len(taus)
    weighted = total = torch.zeros((), device=next(iter(taus[0].values())).device)
    for n in range(N):
        tau = flatten(taus[n])
        a = torch.softmax(N * _norm(tau**2), dim=0)
        b = sum(torch.softmax(_norm(tau * flatten(taus[j])), dim=0) for j in range(N))
        c = a * b
        w = c * topk_mask(c, keep_count(density, len(c)))
        weighted = weighted + w * tau
        total = total + w
    return weighted / total.clamp(min=1e-12)


def _norm(x: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """To [0, 1] by its smallest and largest entry, in place; 0 where all are equal."""
    low, high = x.aminmax()
    return _norm_(x, low.item(), high.item())


def _norm_(x: Float[Tensor, " d"], low: float, high: float) -> Float[Tensor, " d"]:
    """Clamp x to [low, high] and bring these to 0 and 1, in place; 0 where they are equal."""
    x.clamp_(low, high).sub_(low)
    return x.div_(high - low) if high > low else x


def _ends(magnitude: Float[Tensor, " d"], share: float) -> tuple[float, float]:
    """To what the smallest and the largest `share` of the entries are winsorised."""
    d = len(magnitude)
    cut = int(share * d)
    return kth_largest(magnitude, d - cut).item(), kth_largest(magnitude, cut + 1).item()
