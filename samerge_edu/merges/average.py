"""Weight averaging (Wortsman et al., Model soups, ICML 2022, arXiv:2203.05482, section 2, uniform soup)."""

from collections.abc import Sequence

from torch import Tensor

from ..params import Params, check_same_structure, structure, total


def average(taus: Sequence[Params]) -> dict[str, Tensor]:
    """Average the N experts' task vectors, entry by entry.

        tau_m = (1/N) sum_n tau_n                                   each tensor in its own shape

    theta_0 + tau_m is then the plain mean of the experts' weights: the base cancels. It is
    `task_arithmetic` at lam = 1/N, and it shrinks every expert's change by N, also where the others
    changed nothing.

    Args: `taus`, N >= 1 task vectors; may be lazy, one tensor of one expert is read at a time.
    Returns tau_m in the task vectors' dtype (16-bit ones are summed in float32).
    Raises ValueError for an empty list and for keys, shapes or dtypes that differ.
    Differs from the paper's setting: it averages runs on one task, here the experts have different tasks.

    >>> import torch
    >>> average([{"w": torch.tensor([4.0, 0.0, 1.0])}, {"w": torch.tensor([2.0, 1.0, -1.0])}])["w"]
    tensor([3.0000, 0.5000, 0.0000])
    """
    taus = check_same_structure(taus)
    return {key: total(taus, key).div_(len(taus)).to(dtype) for key, (_, dtype) in structure(taus[0]).items()}
