"""DELLA's MagPrune (Deep et al., 2024, arXiv:2406.11617)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..masks import check_density, own_generator
from ..params import Params, check_finite, check_same_structure, working


def della(
    taus: Sequence[Params], generator: torch.Generator, density: float = 0.7, epsilon: float = 0.07
) -> list[dict[str, Tensor]]:
    """Drop entries at random as DARE does, but the larger an entry in its row, the likelier it stays.

        r_i       = rank of |tau_i| in its row, 0 (smallest) .. w - 1               rows of width w
        p_i       = density - epsilon + 2 * epsilon * r_i / (w - 1)                 probability of staying
        m_i       ~ Bernoulli(p_i)
        tau_hat_i = m_i * tau_i / p_i                                               E[tau_hat] = tau

    A row runs along the last dimension, so every output neuron of a Linear keeps about the same share; a 1-D
    tensor is one row. A row of width 1 has no ranks: p = density. The paper then elects signs and averages the
    experts that agree: `pipe(partial(della, generator=g), partial(ties, density=1.0))`.

    Args:
        taus: N >= 1 task vectors; may be lazy.
        generator: its seed fixes every draw; each tensor of each expert draws for itself (`own_generator`).
        density: mean probability of staying; 0.7 and epsilon 0.07 are the example of the authors' README
            (drop rate 0.3, window 0.14), scaled by lam = 1.1 there.
        epsilon: half the spread of the probabilities, >= 0; 0 gives DARE.
    Returns N task vectors. Equal magnitudes are ranked in order of position.
    Raises ValueError unless 0 < density - epsilon and density + epsilon <= 1; for structures that differ, NaN or
    infinity.
    Differs from mergekit, which rescales the tensor to its former L1 norm instead of each entry by 1 / p_i, and
    divides 0 by 0 on rows of width 1, as the authors' code does.

    >>> tau = {"w": torch.tensor([4.0, 1.0, -3.0])}
    >>> della([tau], generator=torch.Generator().manual_seed(0), density=0.5, epsilon=0.3)[0]["w"]
    tensor([ 0.,  5., -6.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    check_density(density)
    if not 0 <= epsilon < density or density + epsilon > 1:
        raise ValueError(
            f"epsilon: got {epsilon} at density {density}, expected probabilities density - epsilon > 0 "
            "and density + epsilon <= 1"
        )
    tau_hat = [{} for _ in taus]
    for n, tau in enumerate(taus):
        for key in tau:
            value = working(tau[key])
            p = _keep_probability(value.abs().reshape(value.shape or (1,)), density, epsilon).view_as(value)
            lots = own_generator(generator, key, n)
            m = torch.rand(value.shape, generator=lots, device=lots.device).to(value.device) < p
            tau_hat[n][key] = (value.masked_fill(~m, 0) / p).to(tau[key].dtype)
    return tau_hat


def _keep_probability(magnitude: Float[Tensor, "*rows w"], density: float, epsilon: float) -> Float[Tensor, "*rows w"]:
    """density - epsilon for the smallest of a row up to density + epsilon for the largest."""
    w = magnitude.shape[-1]
    if w < 2:
        return torch.full_like(magnitude, density)
    order = magnitude.argsort(dim=-1, stable=True)
    steps = torch.linspace(density - epsilon, density + epsilon, w, dtype=magnitude.dtype, device=magnitude.device)
    return torch.empty_like(magnitude).scatter_(-1, order, steps.expand_as(magnitude))  # the r-th smallest gets step r
