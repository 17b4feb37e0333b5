"""ACTMat (Hameed et al., Model merging via data-free covariance estimation, 2026, arXiv:2604.01329)."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..least_squares import least_squares, linear_weight, stand_ins
from ..params import Params, check_same_structure


def actmat(taus: Sequence[Params], *, is_matrix: Callable[[str, Tensor], bool] = linear_weight) -> dict[str, Tensor]:
    """RegMean without images: the rows of tau_n stand in for the inputs of task n.

    For each matrix (out, in):
        tau_m = (sum_n tau_n C_n) (sum_n C_n)^+          C_n = tau_n^T tau_n, (in, in)
    A linear layer's gradient is a sum of (error) x (input)^T, so under gradient descent every row of tau_n is a mixture
    of inputs, and C_n looks like their Gram matrix. Longer task vectors have more say: tau_n twice as long, C_n four
    times as large. Every other tensor is the plain mean.

    Args:
        taus: N >= 1 task vectors; may be lazy, one tensor of one expert is read at a time.
        is_matrix: (name, tensor) -> whether a 2-D tensor is used as tensor @ x. The default leaves out embeddings and
            projections that are used as x @ tensor: their rows are no mixtures of inputs.
    Returns tau_m in the task vectors' dtype, solved in float64; theta_0 + tau_m (lam = 1): nothing to tune.
    Raises ValueError for an empty list, for keys, shapes or dtypes that differ, and for NaN or infinity.
    Limits: one expert returns as it came. Experts that use different inputs are added, equal ones averaged.
    Differs from the authors' code, whose pseudo-inverse in float32 drops directions below about 1e-4 of the strongest
    in the sum of the C_n; here those below 1e-12.

    >>> import torch
    >>> a, b = {"w": torch.tensor([[2.0, 0.0]])}, {"w": torch.tensor([[0.0, 4.0]])}
    >>> actmat([a, b])["w"], actmat([a, a])["w"]
    (tensor([[2., 4.]]), tensor([[2., 0.]]))
    """
    taus = check_same_structure(taus)
    return least_squares(taus, stand_ins(taus, lambda tau: tau.mT @ tau, is_matrix))
