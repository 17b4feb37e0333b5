"""ACM, activation-guided consensus merging (Yao et al., NeurIPS 2025, arXiv:2505.14009)."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..params import Params, block_index, check_finite, check_same_structure, stacked, structure


def mutual_information(a: Float[Tensor, "rows units"], b: Float[Tensor, "rows units"]) -> float:
    """Mean over units of the mutual information of a unit's answers in two models, in nats; a, b: (rows, units).

    Of two Gaussians with correlation rho it is -1/2 log(1 - rho^2): 0 if they know nothing of each other, without
    bound if they agree (cut at rho^2 = 1 - 1e-6, 6.9 nats). A unit that never changes counts as agreeing.

    >>> x = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    >>> round(mutual_information(x, x), 1), mutual_information(x, torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]))
    (6.9, 0.0)
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(
            f"activations: got shapes {tuple(a.shape)} and {tuple(b.shape)}, expected two alike (rows, units)"
        )
    a, b = (x.double() - x.double().mean(dim=0) for x in (a, b))
    size = (a.square().sum(dim=0) * b.square().sum(dim=0)).sqrt()
    rho = ((a * b).sum(dim=0) / size).where(size > 0, 1.0)
    return (-0.5 * torch.log1p(-rho.square().clamp(max=1 - 1e-6))).mean().item()


def acm(
    taus: Sequence[Params], information: Sequence[Mapping[str, float]], *, sharpness: float = 1.0
) -> dict[str, Tensor]:
    """Weigh each layer of each expert: much where its answers have moved away from the base's, little where not.

        lam_n^l = 2 / (1 + exp(sharpness * I_n^l))        in (0, 1]: 1 for no information in common, towards 0 for all
        tau_m^l = sum_n lam_n^l tau_n^l
        I_n^l   = mutual information of the answers of layer l in the base and in expert n, on task n's images

    Args:
        taus: N >= 1 task vectors of a transformer; may be lazy.
        information: N mappings, one an expert: name of a matrix -> I >= 0, from `mutual_information` of two
            `statistics.activations`.
        sharpness: how fast the weight falls with I, >= 0. 0: all weights 1, Task Arithmetic.
    Returns tau_m in the task vectors' dtype, to be scaled by lam as Task Arithmetic.
    Raises ValueError for structures that differ, NaN or infinity, information that is not one an expert, negative, or
    names no tensor; and sharpness < 0.
    A tensor without information of its own takes the mean weight of its block, outside the blocks that of the model.
    What is published in the sources we could read: that the coefficients are per layer and come from the mutual
    information of the two models' activations. The Gaussian estimate, the sigmoid and its direction are our reading.

    >>> taus = [{"w": torch.tensor([2.0])}, {"w": torch.tensor([2.0])}]
    >>> acm(taus, [{"w": 0.0}, {"w": 50.0}])["w"]  # the second expert's layer still answers as the base does
    tensor([2.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    if len(information) != len(taus):
        raise ValueError(f"information: got {len(information)}, expected {len(taus)}, one an expert")
    if not sharpness >= 0:
        raise ValueError(f"sharpness: got {sharpness}, expected a number >= 0")
    lam = [_weights(of_expert, taus[0], n, sharpness) for n, of_expert in enumerate(information)]
    tau_m = {}
    for key, (_, dtype) in structure(taus[0]).items():
        tau = stacked(taus, key)
        tau_m[key] = torch.tensordot(tau.new_tensor([weights[key] for weights in lam]), tau, dims=1).to(dtype)
    return tau_m


def _weights(information: Mapping[str, float], tau: Params, n: int, sharpness: float) -> dict[str, float]:
    for key, value in information.items():
        if key not in tau or not value >= 0:
            raise ValueError(
                f"information of expert {n}, '{key}': got {value}, expected a tensor's name and a number >= 0"
            )
    if not information:
        raise ValueError(f"information of expert {n}: got none, expected that of one layer at least")
    known = {key: 2 / (1 + math.exp(sharpness * value)) for key, value in information.items()}

    def nearby(key: str) -> float:
        own = [value for other, value in known.items() if block_index(other) == block_index(key)]
        return sum(own or known.values()) / len(own or known)

    return {key: known.get(key, nearby(key)) for key in tau}
