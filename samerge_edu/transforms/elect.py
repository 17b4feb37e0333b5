"""Trim and elect: the first two steps of TIES as a transform (arXiv:2306.01708), as AdaMerging++ needs them."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from ..masks import keep_largest
from ..params import Params, check_finite, check_same_structure, working


def elect(taus: Sequence[Params], density: float = 0.2, scope: str = "global") -> list[dict[str, Tensor]]:
    """Keep the largest entries of each task vector, and of these only those with the elected sign.

        Step 1  tau_hat_n = tau_n on its density * d largest |entries|, else 0
        Step 2  gamma^p   = sgn( sum_n tau_hat_n^p );   tau_hat_n^p becomes 0 where its sign is not gamma^p

    The N vectors stay apart, so that AdaMerging++ (arXiv:2310.02575) can learn a coefficient for each; their sum is
    TIES with reduce="sum".

    Args:
        taus: N >= 1 task vectors; may be lazy.
        density: fraction kept by the trim, in (0, 1]; 0.2 is both papers'.
        scope: "global" trims the whole vector at once, "tensor" each tensor for itself.
    Returns N task vectors.
    Raises ValueError for a density outside (0, 1], an unknown scope, structures that differ, NaN or infinity.
    Where the trimmed values cancel to exactly 0, nobody is elected: see `ties` for what public code does there.

    >>> import torch
    >>> a, b = {"w": torch.tensor([4.0, 1.0, -3.0])}, {"w": torch.tensor([2.0, 0.5, 5.0])}
    >>> [tau["w"].tolist() for tau in elect([a, b], density=2 / 3)]
    [[4.0, 0.0, 0.0], [2.0, 0.0, 5.0]]
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    keep = keep_largest(taus, density, scope)
    elected: list[dict[str, Tensor]] = [{} for _ in taus]
    for key in taus[0]:
        trimmed = [taus[n][key].masked_fill(~m, 0) for n, m in enumerate(keep(key))]
        gamma = reduce(torch.add, map(working, trimmed)).sign()
        for n, tau_hat in enumerate(trimmed):
            elected[n][key] = tau_hat.masked_fill(tau_hat.sign() != gamma, 0)
    return elected
