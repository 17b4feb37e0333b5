"""Task Arithmetic (Ilharco et al., ICLR 2023, arXiv:2212.04089, section 2)."""

from collections.abc import Sequence

from torch import Tensor

from ..parallel import side_by_side
from ..params import Params, check_same_structure, structure, total


def task_arithmetic(taus: Sequence[Params]) -> dict[str, Tensor]:
    """Add the N experts' task vectors, entry by entry.

        tau_m = sum_n tau_n                                         each tensor in its own shape
        theta = theta_0 + lam * tau_m                               `params.add`

    The scale `lam` belongs to `add`: 1 trusts the plain sum, 0.3 is the value that the CLIP literature
    fixes for 8 tasks, 1/N gives `average`. Negation is the same sum with a negative scale: with one task
    vector, `add(theta_0, tau, lam=-1)` moves away from that task, so that the model forgets it.

    Args: `taus`, N >= 1 task vectors; may be lazy, one tensor of one expert is read at a time.
    Returns tau_m in the task vectors' dtype (16-bit ones are summed in float32).
    Raises ValueError for an empty list and for keys, shapes or dtypes that differ.

    >>> import torch
    >>> task_arithmetic([{"w": torch.tensor([4.0, 0.0, 1.0])}, {"w": torch.tensor([2.0, 1.0, -1.0])}])["w"]
    tensor([6., 1., 0.])
    """
    taus = check_same_structure(taus)
    shapes, device = structure(taus[0]), next(iter(taus[0].values())).device
    sums = side_by_side(lambda key: total(taus, key).to(shapes[key][1]), shapes, device)
    return dict(zip(shapes, sums, strict=True))
