"""Model Breadcrumbs (Davari and Belilovsky, ECCV 2024, arXiv:2312.06795)."""

from collections.abc import Sequence

from torch import Tensor

from ..masks import check_density, keep_count, topk_mask
from ..params import Params, check_finite, check_same_structure, working


def breadcrumbs(taus: Sequence[Params], density: float = 0.15, outliers: float = 0.006) -> list[dict[str, Tensor]]:
    """Keep the middle of each row: its largest entries are outliers, its smallest are noise.

        of each row of |tau_n|, width w, the largest   outliers * w   become 0,
                                then all but the next  density * w    become 0.

    A row runs along the last dimension, so every tensor keeps something, biases and LayerNorm too.
    The paper adds the results up: `pipe(breadcrumbs, task_arithmetic)`.

    Args:
        taus: N >= 1 task vectors; may be lazy.
        density: fraction of each row kept, in (0, 1], the code's beta; at least one entry of each row stays if the
            outliers leave one. 0.15 and outliers 0.006 are where the authors' search starts, with lam = 0.2.
        outliers: fraction of each row removed from above, in [0, 1), the code's gamma. Rounded: in a row of 32 (the
            kernels of a patch embedding) 0.006 removes nothing.
    Returns N task vectors. Counts are exact, equal magnitudes are ordered by position.
    Raises ValueError for a density outside (0, 1], density + outliers above 1, structures that differ, NaN, infinity.
    Differs from the authors' code, which truncates both counts, so that rows with fewer than 1 / beta entries are
    erased; and from mergekit, which ranks whole tensors.

    >>> import torch
    >>> tau = {"w": torch.tensor([4.0, 1.0, -3.0, 0.5, 2.0])}
    >>> breadcrumbs([tau], density=0.4, outliers=0.2)[0]["w"]
    tensor([ 0.,  0., -3.,  0.,  2.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    check_density(density)
    if not outliers >= 0 or density + outliers > 1:
        raise ValueError(f"outliers: got {outliers} at density {density}, expected >= 0 and density + outliers <= 1")
    tau_hat = [{} for _ in taus]
    for n, tau in enumerate(taus):
        for key in tau:
            S = working(tau[key]).abs().reshape(tau[key].shape or (1,))
            w = S.shape[-1]
            above = round(outliers * w)
            kept = min(keep_count(density, w), w - above)
            m = topk_mask(S, above + kept) & ~topk_mask(S, above)
            tau_hat[n][key] = tau[key].masked_fill(~m.view_as(tau[key]), 0)
    return tau_hat
