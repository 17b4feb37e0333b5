"""TIES-Merging (Yadav et al., NeurIPS 2023, arXiv:2306.01708, Algorithm 1)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..masks import keep_largest, zero_outside_
from ..params import Params, check_finite, check_same_structure, pieces, structure


def ties(
    taus: Sequence[Params], density: float = 0.2, reduce: str = "mean", scope: str = "global"
) -> dict[str, Tensor]:
    """Trim N task vectors, elect one sign per parameter p, merge the experts that agree with it.

        Step 1  tau_hat_n = tau_n on its density * d largest |entries|, else 0              (N, d)
        Step 2  gamma^p   = sgn( sum_n tau_hat_n^p )                                        (d,)
        Step 3  tau_m^p   = mean of tau_hat_n^p over A^p = {n : sgn(tau_hat_n^p) = gamma^p} (d,)

    Args:
        taus: N >= 1 task vectors; may be lazy.
        density: fraction kept by the trim, in (0, 1]; 0.2 is the paper's k = 20 %.
        reduce: "mean" over the experts that agree (the paper, used at lam = 1), or their "sum" (the CLIP
            tables of AdaMerging and FusionBench, used at lam = 0.3).
        scope: "global" trims the whole vector at once (the paper), "tensor" each tensor for itself (mergekit, PEFT).
    Returns tau_m, to be used as theta_0 + lam * tau_m.
    Raises ValueError for a density outside (0, 1], an unknown reduce or scope, structures that differ, NaN or infinity.

    Ties: equal magnitudes are trimmed in order of name, then position, so that exactly density * d stay; where
    the trimmed values cancel to exactly 0, tau_m^p = 0, as the formula says.
    Differs from the authors' code, which keeps one entry more in Step 1 (and all that equal it) and gives a
    cancelled entry the majority sign of all p; mergekit and PEFT elect + there. Of a tensor of n entries they keep
    int(density * n), here round(density * n) stay. mergekit also puts the experts' weights in before the election; here
    all experts weigh the same.

    >>> import torch
    >>> a, b = {"w": torch.tensor([4.0, 1.0, -3.0])}, {"w": torch.tensor([2.0, 0.5, 5.0])}
    >>> ties([a, b], density=2 / 3)["w"]
    tensor([3., 0., 5.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    if reduce not in ("mean", "sum"):
        raise ValueError(f"reduce: got '{reduce}', expected 'mean' or 'sum'")
    keep = keep_largest(taus, density, scope)
    tau_m = {}
    for key, (shape, dtype) in structure(taus[0]).items():
        merged = []
        masks = [{key: m} for m in keep(key)]
        for tau_hat, m in zip(pieces(taus, key), pieces(masks, key), strict=True):
            zero_outside_(tau_hat, m)  # (N, b)  Step 1: trim
            gamma = tau_hat.sum(dim=0).sign()  # (b,)  Step 2: elect
            support = tau_hat.mul_(gamma).clamp_(min=0)  # (N, b)  |tau_hat_n| for n in A^p, else 0
            merged.append(gamma * support.sum(dim=0))  # (b,)  Step 3: merge
            if reduce == "mean":
                merged[-1] /= support.sign_().sum(dim=0).clamp_(min=1)  # |A^p|
        tau_m[key] = torch.cat(merged).view(shape).to(dtype)
    return tau_m
