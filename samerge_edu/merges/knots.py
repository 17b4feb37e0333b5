"""KnOTS (Stoica et al., "Model merging with SVD to tie the Knots", ICLR 2025, arXiv:2410.19735, section 4)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..params import Params, check_finite, check_same_structure, working


def knots(
    taus: Sequence[Params], *, merge: Callable[[Sequence[Params]], Params], cutoff: float = 1e-5
) -> dict[str, Tensor]:
    """Write all experts' updates in one common basis per layer, merge there, and come back.

        [tau_1 ... tau_N] = U diag(S) [V_1^T ... V_N^T]             (out, N in) = (out, k) (k, k) (k, N in)
        tau_m = U merge(diag(S) V_1^T, ..., diag(S) V_N^T)          (out, in)   = (out, k) (k, in)

    LoRA updates of different experts live in different low-dimensional spaces, so entries meet less often, and
    an entry-wise merge (signs, magnitudes) has less to compare. The concatenation gives them the same U.

    Args: `taus`, N >= 1 task vectors, for LoRA `dense(adapter)` of the adapted layers only: `merge` sees all layers
    together, and zeros from elsewhere would count in its density. `merge`, taus -> tau_m, is what happens in the
    basis; the paper's KnOTS-TIES is `partial(ties, density=0.2)`, ranked over all layers jointly. `cutoff`: singular
    values at or below it are dropped (the authors' 1e-5). Tensors that are no matrices go to `merge` as they are.
    Returns tau_m in the task vectors' dtype; the SVD is taken in float64. The authors scale it by 0.6 on ViT-B/32.
    Raises ValueError for an empty list, structures that differ, NaN or infinity, and a cutoff below 0.

    Limits: a merge that is linear (sum, mean) comes out of the basis unchanged, up to the cutoff. The largest singular
    value stays even at or below the cutoff, so a layer that no expert changes sends one row of zeros a task to `merge`,
    which counts in TIES' density.

    >>> taus = [{"w": torch.tensor([[3.0, 0.0]])}, {"w": torch.tensor([[0.0, 4.0]])}]
    >>> knots(taus, merge=lambda blocks: {"w": blocks[0]["w"] + blocks[1]["w"]})["w"]
    tensor([[3., 4.]])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    if cutoff < 0:
        raise ValueError(f"cutoff: got {cutoff}, expected at least 0")
    blocks: list[dict[str, Tensor]] = [{} for _ in taus]
    bases = {}
    for key in taus[0]:
        updates = [working(tau[key]) for tau in taus]
        if updates[0].ndim == 2:
            U, S, Vt = torch.linalg.svd(torch.cat(updates, dim=1).double(), full_matrices=False)
            k = max(1, int((S > cutoff).sum()))
            bases[key] = U[:, :k]
            updates = [b.to(updates[0].dtype) for b in (S[:k, None] * Vt[:k]).chunk(len(taus), dim=1)]
        for block, update in zip(blocks, updates, strict=True):
            block[key] = update
    tau_m = merge(blocks)
    return {
        key: (bases[key] @ tau_m[key].double() if key in bases else tau_m[key]).to(taus[0][key].dtype)
        for key in taus[0]
    }
