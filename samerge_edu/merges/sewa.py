"""SeWA, selective weight averaging (Wang et al., 2025, arXiv:2502.10119)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..params import Params, check_finite, check_same_structure, stacked, structure


def sewa(
    taus: Sequence[Params],
    loss: Callable[[Params], Tensor],
    *,
    k: int,
    generator: torch.Generator,
    steps: int = 50,
    lr: float = 0.1,
    temperature: float = 0.5,
) -> dict[str, Tensor]:
    """Of the last checkpoints of *one* run, learn which k to average, by gradient descent on a random mask.

        m_n = sigmoid((a_n + g) / temperature),  g logistic noise       Gumbel-soft-max for Bernoulli(sigmoid(a_n))
        a  <- a - lr * d/da loss(sum_n m_n tau_n / sum_n m_n)           a starts at 0: each checkpoint in or out, 1/2
        tau_m = mean of the k checkpoints with the largest a_n

    Args:
        taus: N >= 1 task vectors, of the checkpoints of one run.
        loss: tau -> a number, differentiable: the training loss of theta_0 + tau on a (new) batch.
        k: how many to average, 1 .. N.
        generator: of the noise.
        steps, lr, temperature: of the search, by Adam. The paper's values are not readable in a public source.
    Returns tau_m in the task vectors' dtype; theta_0 + tau_m (lam = 1).
    Raises ValueError for k outside 1..N, steps < 0, lr <= 0, temperature <= 0, structures that differ, NaN or infinity.
    Limits: k = N is the mean, whatever the loss. Equal a_n (0 steps): the last k checkpoints, LAWA.
    Our reading of the abstract: the mask of the paper is drawn, too; that the final choice is the k most likely, and
    that the relaxed masks divide by their sum.

    >>> run = [{"w": torch.tensor([v])} for v in (5.0, 1.0, -1.0, 7.0)]
    >>> g = torch.Generator().manual_seed(0)
    >>> sewa(run, loss=lambda tau: tau["w"].square().sum(), k=2, generator=g)["w"]
    tensor([0.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    N = len(taus)
    if not 1 <= k <= N:
        raise ValueError(f"k: got {k}, expected 1..{N}, the number of checkpoints")
    if steps < 0:
        raise ValueError(f"steps: got {steps}, expected at least 0")
    if not (lr > 0 and temperature > 0):
        raise ValueError(f"lr, temperature: got {lr}, {temperature}, expected numbers > 0")
    T = {key: stacked(taus, key) for key in taus[0]}
    device = next(iter(T.values())).device
    a = torch.zeros(N, device=device, requires_grad=True)
    adam = torch.optim.Adam([a], lr)
    for _ in range(steps):
        u = torch.rand(N, generator=generator, device=generator.device).clamp(1e-6, 1 - 1e-6).to(device)
        m = torch.sigmoid((a + u.logit()) / temperature)
        share = m / m.sum()
        adam.zero_grad()
        loss({key: torch.tensordot(share.to(x), x, dims=1) for key, x in T.items()}).backward()
        adam.step()
    chosen = sorted(range(N), key=lambda n: (a[n].item(), n))[N - k :]
    return {key: T[key][chosen].mean(dim=0).to(dtype) for key, (_, dtype) in structure(taus[0]).items()}
