"""Trim by magnitude: keep each task vector's largest changes (step 1 of TIES, arXiv:2306.01708, Algorithm 1)."""

from collections.abc import Sequence

from torch import Tensor

from ..masks import keep_largest
from ..params import Params, check_finite, check_same_structure


def trim(taus: Sequence[Params], density: float = 0.2, scope: str = "global") -> list[dict[str, Tensor]]:
    """Keep the `density` * d entries of each task vector with the largest magnitude; the rest becomes 0.

        m_n       = 1 on the density * d largest |tau_n|, else 0         (d,)
        tau_hat_n = m_n * tau_n                                          (d,)

    Args:
        taus: N >= 1 task vectors; may be lazy.
        density: fraction kept, in (0, 1]; 0.2 is the k = 20 % of TIES.
        scope: "global" ranks the whole model at once (TIES), so that a tensor whose changes are all small
            vanishes; "tensor" keeps the same share of every tensor (mergekit, PEFT: there int(density * n) of n
            entries, here round(density * n)).
    Returns N task vectors. Counts are exact: equal magnitudes are kept in order of name, then position.
    Raises ValueError for a density outside (0, 1], an unknown scope, structures that differ, NaN or infinity.

    >>> import torch
    >>> trim([{"w": torch.tensor([4.0, 1.0, -3.0])}], density=2 / 3)[0]["w"]
    tensor([ 4.,  0., -3.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    keep = keep_largest(taus, density, scope)
    tau_hat = [{} for _ in taus]
    for key in taus[0]:
        for n, m in enumerate(keep(key)):
            tau_hat[n][key] = taus[n][key].masked_fill(~m, 0)
    return tau_hat
