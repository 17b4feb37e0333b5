"""TALL masks as compression (Wang et al., Localizing task information, ICML 2024, arXiv:2405.07813, section 4)."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..evaluate import accuracy, plateau
from ..merges.consensus import tall_masks
from ..params import Params, add, flatten, task_vectors, total, unflatten
from ..suites.suite import Suite
from .ensemble import Ensemble, Part
from .router import train_router


def tall_experts(
    suite: Suite,
    *,
    n: int = 64,
    mask_lams: Sequence[float] = (0.2, 0.3, 0.4, 0.5, 0.6),
    split: str = "val",
    router: bool = False,
    **knobs,
) -> Ensemble:
    """N experts as one sum and N masks of 1 bit an entry: theta_0 + m_n * tau_sum stands in for expert n.

        tau_sum = sum_n tau_n                                                  kept once, beside theta_0
        m_n     = 1 where |tau_n| > mask_lam_n |tau_sum - tau_n|               (`merges.consensus`)
    The shared model is the base: an image of no task gets theta_0, for no mask is made for it.

    Args:
        suite: whose base, experts and images are used.
        n, split: the first n *labelled* images of each task choose its mask_lam.
        mask_lams: what is tried; the paper's five. With one alone no image is looked at.
        router: True trains one on the base's features; False, as published: the task has to be told.
        knobs: of `train_router`.
    Returns an Ensemble whose `second` is tau_sum: it costs as much as a whole model, which a bit an entry makes one
    forget. Raises ValueError for no mask_lams or a negative one, the test split, n < 1.
    Differs from the paper, which takes the best of the five; here it is the middle of those that are as good as the
    best (`evaluate.plateau`), since n images tell few of them apart.
    """
    if not mask_lams or not all(lam > 0 for lam in mask_lams):
        raise ValueError(f"mask_lams: got {list(mask_lams)}, expected at least one number > 0")
    if split == "test":
        raise ValueError("split: got 'test', expected 'val' or 'train': a mask chosen on test is no result")
    theta_0 = suite.theta_0
    taus = task_vectors(theta_0, [suite.experts[task] for task in suite.id_tasks])
    tau_sum = {key: total(taus, key) for key in taus[0]}
    curves: dict[str, dict[float, float]] = {task: {} for task in suite.id_tasks}
    for lam in mask_lams if len(mask_lams) > 1 else ():
        for task, m in zip(suite.id_tasks, tall_masks(taus, lam), strict=True):
            stand_in = add(theta_0, {key: m[key] * tau_sum[key] for key in m})
            curves[task][lam] = accuracy(suite, stand_in, task, split, n)
    parts = {}
    for i, (task, curve) in enumerate(curves.items()):
        m = tall_masks(taus, plateau(curve) if curve else mask_lams[0])[i]
        parts[task] = masked(m, tau_sum)
    return Ensemble(theta_0, parts, train_router(suite, theta_0, n=n, **knobs) if router else None, second=tau_sum)


def masked(chosen: Params, tau: Params) -> Part:
    """The entries of a shared vector tau that a mask has `chosen`; only the mask is kept, 8 entries to a byte.

    >>> part = masked({"w": torch.tensor([True, False, True])}, {"w": torch.tensor([4.0, 5.0, 6.0])})
    >>> part.stored["mask"], part.update()["w"]
    (tensor([160], dtype=torch.uint8), tensor([4., 0., 6.]))
    """
    bits = flatten({key: chosen[key].float() for key in chosen}).cpu().numpy() > 0
    return Part({"mask": torch.from_numpy(np.packbits(bits))}, partial(selected, tau=tau))


def selected(stored: Mapping[str, Tensor], tau: Params) -> dict[str, Tensor]:
    """tau where the bits are 1, else 0."""
    x = flatten(tau)
    bits = np.unpackbits(stored["mask"].cpu().numpy(), count=len(x))
    return unflatten(x * torch.from_numpy(bits).to(x), like=tau)
