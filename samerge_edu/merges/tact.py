"""TACT, trim and covariance transform: ACTMat whose stand-in is trimmed, as TIES trims.

Proposed in an openly logged, automated research run of May 2026; no paper and no review are known to us.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..least_squares import least_squares, linear_weight, stand_ins
from ..masks import check_density, keep_count, topk_mask
from ..params import Params, check_same_structure


def tact(
    taus: Sequence[Params], *, density: float = 0.5, is_matrix: Callable[[str, Tensor], bool] = linear_weight
) -> dict[str, Tensor]:
    """ACTMat that asks only the larger entries of tau_n what the inputs were.

    For each matrix (out, in), m_n = 1 on its density * out * in entries of largest |tau_n|, else 0:
        tau_m = (sum_n tau_n C_n) (sum_n C_n)^+          C_n = (m_n * tau_n)^T (m_n * tau_n), (in, in)
    Small entries are taken for noise. Independent noise adds to the diagonal of C_n: every expert then claims to know
    something of every input. What is merged is still the whole tau_n. Every other tensor is the plain mean.

    Args:
        taus: N >= 1 task vectors; may be lazy.
        density: fraction of each matrix that counts for C_n, in (0, 1]; 0.5 is the log's best. 1 is ACTMat.
        is_matrix: as in `actmat`.
    Returns tau_m in the task vectors' dtype, solved in float64; theta_0 + tau_m (lam = 1).
    Raises ValueError for a density outside (0, 1], and as `actmat`.
    Limits: one expert returns as it came where its trimmed matrix has rank `in`; elsewhere the directions that were
    trimmed away stay pre-trained. Equal magnitudes are kept in order of position.
    Differs from the log's code, which pulls directions that no C_n has towards the mean of the experts.

    >>> import torch
    >>> a, b = {"w": torch.tensor([[4.0, 1.0]])}, {"w": torch.tensor([[-1.0, 2.0]])}
    >>> tact([a, b])["w"]  # a's C_n knows the first input only, b's the second
    tensor([[4., 2.]])
    """
    check_density(density)

    def trimmed_gram(tau: Tensor) -> Tensor:
        m = topk_mask(tau.abs().flatten(), keep_count(density, tau.numel())).view_as(tau)
        return (m * tau).mT @ (m * tau)

    taus = check_same_structure(taus)
    return least_squares(taus, stand_ins(taus, trimmed_gram, is_matrix))
