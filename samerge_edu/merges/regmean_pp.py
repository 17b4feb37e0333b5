"""RegMean++ (Nguyen et al., Enhancing effectiveness and generalization of regression mean, 2025, arXiv:2508.03121)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..least_squares import Computed, least_squares
from ..params import Params, block_index, check_finite, check_same_structure, total


def regmean_pp(
    taus: Sequence[Params],
    grams: Callable[[int, Params, Sequence[str]], Params],
    *,
    off_diagonal: float = 0.9,
) -> dict[str, Tensor]:
    """RegMean, block by block: each block is fitted to the inputs that the merged blocks below really send it.

    RegMean takes the inputs of block l from expert n, whose lower blocks the merged model does not have. Here
        for l = 0 .. L-1:   G_n of block l   under  merged blocks 0 .. l-1  and expert n's block l
                            tau_m of block l = (sum_n tau_n C_n) (sum_n C_n)^+     C_n = a G_n + (1 - a) diag(G_n)
    Everything outside the blocks, and what is no matrix in them, is the plain mean, before the first block is measured.

    Args:
        taus: N >= 1 task vectors of a transformer (`resblocks.l.` or `layers.l.`).
        grams: (n, tau, names) -> {name: (in, in)}: the Grams of task n's inputs to the matrices `names`, in
            theta_0 + tau, measured on images (`statistics.input_grams`). Called N times a block.
        off_diagonal: a in [0, 1]; see RegMean.
    Returns tau_m in the task vectors' dtype; theta_0 + tau_m (lam = 1).
    Raises ValueError for `off_diagonal` outside [0, 1], for task vectors without blocks, and as `least_squares`.
    Limits: one expert returns as it came (Grams of full rank). With one block and equal embeddings it is RegMean.
    Costs L passes over the images of every task, where RegMean needs one; FusionBench keeps the inputs of block l
    in memory instead and passes each block once. Same results.

    >>> from samerge_edu.params import add
    >>> taus = [{"resblocks.0.w": torch.tensor([[2.0, 0.0]])}, {"resblocks.0.w": torch.tensor([[0.0, 4.0]])}]
    >>> strength = [torch.tensor([1.0, 1.0]), torch.tensor([1.0, 3.0])]
    >>> regmean_pp(taus, lambda n, tau, names: {name: strength[n].diag() for name in names})["resblocks.0.w"]
    tensor([[1., 3.]])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    if not 0 <= off_diagonal <= 1:
        raise ValueError(f"off_diagonal: got {off_diagonal}, expected a factor in [0, 1]")
    blocks = sorted({b for key in taus[0] if (b := block_index(key)) is not None})
    if not blocks:
        raise ValueError(
            f"got no block, expected names with 'resblocks.l.' or 'layers.l.', not '{next(iter(taus[0]))}'"
        )

    def shrunk(C: Tensor) -> Tensor:
        return off_diagonal * C + (1 - off_diagonal) * torch.diag(C.diagonal())

    outside = [key for key in taus[0] if block_index(key) is None]
    tau_m = {key: (total(taus, key) / len(taus)).to(taus[0][key].dtype) for key in outside}
    for block in blocks:
        of_block = [{k: tau[k] for k in tau if block_index(k) == block} for tau in taus]
        names = [key for key in of_block[0] if of_block[0][key].ndim == 2]
        measured = [grams(n, {**tau, **tau_m}, names) for n, tau in enumerate(taus)]
        tau_m |= least_squares(of_block, [Computed(gram, shrunk, gram) for gram in measured])
    return {key: tau_m[key] for key in taus[0]}
