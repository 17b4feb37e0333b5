"""RegMean (Jin et al., Dataless knowledge fusion by merging weights, ICLR 2023, arXiv:2212.09849)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..least_squares import Computed, least_squares
from ..params import Params


def regmean(taus: Sequence[Params], grams: Sequence[Params], *, off_diagonal: float = 0.9) -> dict[str, Tensor]:
    """Answer the real inputs of each task as its expert does, as nearly as one matrix can.

    For each matrix (out, in) with a Gram, where X_n (tokens, in) is what enters the layer in expert n on task n:
        tau_m = (sum_n tau_n C_n) (sum_n C_n)^+          C_n = a X_n^T X_n + (1 - a) diag(X_n^T X_n)
    This is the paper's W = (sum W_n G_n) (sum G_n)^-1 minus the base, since W_n = W_0 + tau_n. Every other tensor
    (biases, LayerNorm, embeddings) is the plain mean.

    Args:
        taus: N >= 1 task vectors; may be lazy.
        grams: N mappings, one an expert, in the experts' order: name -> X_n^T X_n, (in, in).
        off_diagonal: a in [0, 1], by which entries off the diagonal are multiplied; 0.9 is noted as the paper's,
            FusionBench takes 0.95. 1 trusts the inputs as they were seen: of few images some directions know
            nothing. 0 weighs each input by its strength alone.
    Returns tau_m in the task vectors' dtype; theta_0 + tau_m (lam = 1).
    Raises ValueError for `off_diagonal` outside [0, 1], and as `least_squares`.
    Limits: equal Grams give the mean; one expert returns as it came. An input that is 0 for all stays pre-trained.
    Differs from the authors' code, which inverts the sum of the Grams.

    >>> taus = [{"w": torch.tensor([[2.0, 0.0]])}, {"w": torch.tensor([[0.0, 4.0]])}]
    >>> grams = [{"w": torch.tensor([[1.0, 0.5], [0.5, 1.0]])}, {"w": torch.tensor([[1.0, -0.5], [-0.5, 3.0]])}]
    >>> regmean(taus, grams, off_diagonal=0)["w"]
    tensor([[1., 3.]])
    """
    if not 0 <= off_diagonal <= 1:
        raise ValueError(f"off_diagonal: got {off_diagonal}, expected a factor in [0, 1]")

    def shrunk(C: Tensor) -> Tensor:
        return off_diagonal * C + (1 - off_diagonal) * torch.diag(C.diagonal())

    return least_squares(taus, [Computed(gram, shrunk, gram) for gram in grams])
