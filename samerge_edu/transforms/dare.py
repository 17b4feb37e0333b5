"""DARE, drop and rescale (Yu et al., ICML 2024, arXiv:2311.03099)."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..masks import below, check_density, own_generator, zero_outside_
from ..parallel import side_by_side
from ..params import Params, check_finite, check_same_structure, structure, working


def dare(
    taus: Sequence[Params], generator: torch.Generator, density: float = 0.5, lazy: bool = False
) -> Sequence[Mapping[str, Tensor]]:
    """Drop entries of each task vector at random and scale up the others, so that the expectation stays.

        m_n       ~ Bernoulli(density), one draw per entry               (d,)
        tau_hat_n = m_n * tau_n / density                                E[tau_hat_n] = tau_n

    Any merge can follow: `pipe(partial(dare, generator=g), ties)` is FusionBench's DARE + TIES; with
    `partial(ties, density=1.0)` DARE takes the place of the trim (mergekit).

    Args:
        taus: N >= 1 task vectors; may be lazy.
        generator: its seed fixes every draw; each tensor of each expert draws for itself (`own_generator`).
        density: probability of keeping an entry, in (0, 1], the paper's 1 - p. 0.5 is what FusionBench runs on CLIP;
            the paper drops up to p = 0.9 from large language models.
        lazy: draw and drop when a tensor is asked for, each time anew with the same outcome. For merges that read
            every tensor once, as the sum does: the N pruned copies never exist.
    Returns N task vectors. The kept number varies: it is drawn, not counted.
    Raises ValueError for a density outside (0, 1], structures that differ, NaN or infinity.
    Differs from mergekit, which rescales until the tensor's L1 norm is what it was instead of by 1 / density.

    >>> tau = {"w": torch.tensor([4.0, 1.0, -3.0])}
    >>> dare([tau], generator=torch.Generator().manual_seed(0), density=0.5)[0]["w"]
    tensor([ 0.,  2., -6.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    check_density(density)

    pruned = [Dropped(tau, n, generator, density) for n, tau in enumerate(taus)]
    return pruned if lazy else side_by_side(dict, pruned, next(iter(taus[0].values())).device)


class Dropped(Mapping[str, Tensor]):
    """m_n * tau_n / density of one expert, tensor by tensor when asked for."""

    fresh = True  # see params.own

    def __init__(self, tau: Params, n: int, generator: torch.Generator, density: float):
        self.tau, self.n, self.generator, self.density, self.structure = tau, n, generator, density, structure(tau)

    def __getitem__(self, key: str) -> Tensor:
        dtype = self.structure[key][1]
        scaled, lots = working(self.tau[key]) / self.density, own_generator(self.generator, key, self.n)
        m = below(torch.rand(scaled.shape, generator=lots, device=lots.device), self.density).to(scaled.device)
        zero_outside_(scaled, m)
        return scaled.to(dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.structure)

    def __len__(self) -> int:
        return len(self.structure)
