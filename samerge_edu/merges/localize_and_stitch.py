"""Localize-and-Stitch without data (He et al., TMLR 2025, arXiv:2408.13656, the dataless variant)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..masks import keep_largest
from ..params import Params, check_finite, check_same_structure, stacked, structure


def localize_and_stitch(taus: Sequence[Params], density: float = 0.1) -> dict[str, Tensor]:
    """Keep each expert's few largest changes and stitch them into the base; average where regions overlap.

        m_n   = 1 on the density * d largest |tau_n|, else 0                         (N, d)  localize
        tau_m = sum_n m_n * tau_n / sum_j m_j,  0 where no m_j is set                (d,)    stitch

    Nothing is scaled down: an entry that only one expert needs arrives in full, so lam = 1.

    Args:
        taus: N >= 1 task vectors; may be lazy.
        density: fraction each expert keeps of its whole vector, in (0, 1]; 0.1 is the authors' code.
    Returns tau_m. Equal magnitudes are kept in order of name, then position.
    Raises ValueError for a density outside (0, 1], structures that differ, NaN or infinity.
    Differs from the full method, which learns the masks on a few labelled images; and from the authors' dataless
    code, which drops the entries that equal the threshold (one fewer than density * d without ties).

    >>> import torch
    >>> a, b = {"w": torch.tensor([4.0, 1.0, -3.0])}, {"w": torch.tensor([2.0, 0.5, 5.0])}
    >>> localize_and_stitch([a, b], density=2 / 3)["w"]
    tensor([3., 0., 1.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    keep = keep_largest(taus, density)
    tau_m = {}
    for key, (_, dtype) in structure(taus[0]).items():
        m = keep(key)  # (N, *shape)
        tau_sum = stacked(taus, key).mul_(m).sum(dim=0)
        tau_m[key] = (tau_sum / m.sum(dim=0, dtype=torch.int16).clamp(min=1)).to(dtype)
    return tau_m
