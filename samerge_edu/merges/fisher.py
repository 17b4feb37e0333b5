"""Fisher merging (Matena and Raffel, Merging models with Fisher-weighted averaging, NeurIPS 2022, arXiv:2111.09832)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..params import Params, check_finite, check_same_structure, stacked, structure


def fisher(
    taus: Sequence[Params],
    fishers: Sequence[Params],
    *,
    weights: Sequence[float] | None = None,
    normalise: bool = True,
    floor: float = 1e-6,
) -> dict[str, Tensor]:
    """Average each entry, and listen to each expert as far as its task depends on that entry.

        tau_m = sum_n w_n F_n * tau_n / sum_n w_n F_n          F_n the diagonal of expert n's Fisher information

    The paper averages the models theta_n (eq. 2); the weights of each entry add up to 1, so the base cancels.
    It is the maximum of the product of N Gaussians, one around each expert, with F_n as inverse variances.

    Args:
        taus: N >= 1 task vectors; may be lazy.
        fishers: N mappings, one an expert, in the experts' order: a number >= 0 for each entry of the task vector, as
            `statistics.fisher` measures it at theta_n.
        weights: w_n >= 0 of each expert; equal if left out.
        normalise: divide each F_n by its length over the whole model (as the authors' and FusionBench's code): a
            task with large gradients does not outvote the others.
        floor: added to each entry of F_n, >= 0 (FusionBench). Where all F_n are far below it, the plain mean results.
    Returns tau_m in the task vectors' dtype; theta_0 + tau_m (lam = 1).
    Raises ValueError for structures that differ, NaN, infinity or a negative number in a Fisher, for Fishers or weights
    that are not one an expert, weights that are negative or all 0, and a floor < 0.
    Limits: equal Fishers give the mean; one expert returns as it came. Where no expert has any (all 0, floor 0): the
    plain mean. The diagonal knows nothing of inputs that rise and fall together: see RegMean.
    Differs from the authors' code, which takes max(F, floor), not F + floor.

    >>> taus = [{"w": torch.tensor([2.0, 0.0])}, {"w": torch.tensor([0.0, 4.0])}]
    >>> fishers = [{"w": torch.tensor([3.0, 1.0])}, {"w": torch.tensor([1.0, 3.0])}]
    >>> fisher(taus, fishers, floor=0.0)["w"]
    tensor([1.5000, 3.0000])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    _check_fishers(taus, fishers)
    N = len(taus)
    w = torch.tensor([1.0] * N if weights is None else list(weights), dtype=torch.float64)
    if len(w) != N or (w < 0).any() or not w.sum() > 0:
        raise ValueError(f"weights: got {weights}, expected {N} numbers >= 0, not all 0")
    if not floor >= 0:
        raise ValueError(f"floor: got {floor}, expected a number >= 0")
    if normalise:
        squares = [sum((F[key].double().square().sum() for key in F), torch.tensor(0)) for F in fishers]
        length = torch.stack(squares).sqrt().cpu()
        w = w / (length + floor).where(length + floor > 0, 1.0)
    w = w / w.sum()
    tau_m = {}
    for key, (_, dtype) in structure(taus[0]).items():
        tau = stacked(taus, key)
        F = stacked(fishers, key).to(tau.device) + floor
        F *= w.to(F).reshape(-1, *[1] * (F.ndim - 1))
        total = F.sum(dim=0)
        known = total > 0
        tau_m[key] = ((F * tau).sum(dim=0) / total.where(known, 1)).where(known, tau.mean(dim=0)).to(dtype)
    return tau_m


def _check_fishers(taus: Sequence[Params], fishers: Sequence[Params]) -> None:
    if len(fishers) != len(taus):
        raise ValueError(f"fishers: got {len(fishers)}, expected {len(taus)}, one an expert")
    for n, F in enumerate(fishers):
        for key, (shape, _) in structure(taus[0]).items():
            if key not in F:
                raise ValueError(f"Fisher of expert {n}: missing key '{key}'")
            if tuple(F[key].shape) != shape:
                raise ValueError(
                    f"Fisher of expert {n}, key '{key}': got shape {tuple(F[key].shape)}, expected {shape}"
                )
            if not F[key].isfinite().all() or (F[key] < 0).any():
                raise ValueError(f"Fisher of expert {n}, key '{key}': got NaN, infinity or a negative, expected >= 0")
