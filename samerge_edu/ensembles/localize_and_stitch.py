"""Localize-and-Stitch with learned masks (He et al., TMLR 2025, arXiv:2408.13656); without data it is in `merges`."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import grad
from torch.nn import functional as F

from ..masks import keep_largest
from ..params import Params, check_finite, check_same_structure, stacked, structure, total
from ..statistics import embed, labelled, logits, on_device
from ..suites.suite import Suite


def localize(
    suite: Suite,
    taus: Sequence[Params],
    *,
    n: int = 64,
    split: str = "train",
    density: float = 1e-5,
    bias: float = 5.0,
    strength: float = 1.0,
    steps: int = 10,
    lr: float = 1e7,
    batch: int = 128,
) -> list[dict[str, Tensor]]:
    """Which few entries of a task vector carry its task? Learn a mask for each expert, by its own labelled images.

        min over S of   mean cross-entropy of theta_0 + sigmoid(S) * tau_n  +  strength / lr * sum sigmoid(S)     (d,)
        m_n = 1 where S > 0
    by `steps` steps of length `lr` over all n images, from S = bias on the largest |tau_n| and -bias elsewhere. (eq. 4)
    So far from 0 sigmoid is flat, and a mask entry moves a loss by 1e-7 or so: hence the huge lr.

    Args:
        suite: whose base, heads and images are used.
        taus: one task vector for each ID task, in their order.
        n, split: the first n labelled images of each task; the authors have 64 of each class.
        density: share of the entries that the mask starts with, in (0, 1]; the authors' 1e-5.
        bias: where S starts, the authors' 5.
        strength: of the pull towards an empty mask, >= 0, in units of a step; the authors' 1.
        steps, lr, batch: the authors' 10, 1e7 and 128. `batch` is for memory only: each step looks at all n.
    Returns N masks (bool), for `stitch`. The positional embedding is left out, as by the authors.
    Raises ValueError for another number of task vectors than of tasks, structures that differ, NaN or infinity, a
    density outside (0, 1], bias <= 0, strength < 0, steps < 0, lr <= 0, and as `statistics.labelled`.
    Limits: 0 steps keep the largest entries, the dataless variant.
    Differs from the authors' code in the sign of the pull: theirs, `p -= g - where(p > 0, d, -d)`, drives each entry
    away from 0, where the paper's L1 norm drives all of them down.
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    if len(taus) != len(suite.id_tasks):
        raise ValueError(f"taus: got {len(taus)}, expected one for each of the {len(suite.id_tasks)} tasks")
    if steps < 0:
        raise ValueError(f"steps: got {steps}, expected at least 0")
    if not (lr > 0 and bias > 0 and strength >= 0):
        raise ValueError(f"lr, bias, strength: got {lr}, {bias}, {strength}, expected > 0, > 0 and >= 0")
    theta_0 = on_device(suite, suite.theta_0)
    masks = []
    for task, tau in zip(suite.id_tasks, taus, strict=True):
        images, labels = labelled(suite, task, n, split)
        tau, keep = on_device(suite, tau), keep_largest([tau], density)
        S = {key: bias * (2.0 * keep(key)[0].to(suite.device) - 1) for key in tau}

        def loss(S: Params, x: Tensor, y: Tensor, task: str = task, tau: Params = tau, n: int = len(images)) -> Tensor:
            theta = {key: theta_0[key] + S[key].sigmoid() * tau[key] for key in S}
            return F.cross_entropy(logits(suite, embed(suite, theta, x), task), y, reduction="sum") / n

        for _ in range(steps):
            drawn = zip(images.split(batch), labels.split(batch), strict=True)
            G = [grad(loss)(S, x, y) for x, y in drawn]
            for key, s in S.items():
                slope = s.sigmoid() * (1 - s.sigmoid())
                S[key] = s - lr * total(G, key) - strength * slope
        masks.append({key: (s > 0) & ("positional_embedding" not in key) for key, s in S.items()})
    return masks


def stitch(taus: Sequence[Params], masks: Sequence[Params]) -> dict[str, Tensor]:
    """Put the located regions into one update, the mean where they overlap: no scale is needed, lam = 1.

        tau_m = sum_n m_n * tau_n / sum_j m_j,  0 where no m_j is set                (d,)    (eq. 5)
    Raises ValueError for another number of masks than of task vectors, and structures that differ.

    >>> a, b = {"w": torch.tensor([4.0, 1.0, -3.0])}, {"w": torch.tensor([2.0, 0.5, 5.0])}
    >>> stitch([a, b], [{"w": torch.tensor([True, False, False])}, {"w": torch.tensor([True, False, True])}])["w"]
    tensor([3., 0., 5.])
    """
    taus, masks = check_same_structure(taus), list(masks)
    if len(masks) != len(taus):
        raise ValueError(f"masks: got {len(masks)}, expected one for each of {len(taus)} task vectors")
    shapes = structure(taus[0])
    for n, m in enumerate(masks):
        if odd := sorted(k for k in {*m, *shapes} if k not in m or k not in shapes or m[k].shape != shapes[k][0]):
            raise ValueError(f"mask {n}, key '{odd[0]}': expected a mask of the task vectors' names and shapes")
    tau_m = {}
    for key, (_, dtype) in shapes.items():
        m = torch.stack([mask[key] for mask in masks])
        tau_m[key] = ((stacked(taus, key) * m).sum(dim=0) / m.sum(dim=0).clamp(min=1)).to(dtype)
    return tau_m
