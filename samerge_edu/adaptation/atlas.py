"""aTLAS (Zhang et al., Knowledge composition using task vectors with learned anisotropic scaling, NeurIPS 2024)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ..params import Params
from ..statistics import labelled
from ..suites.suite import Suite
from .coefficients import descend


def atlas(
    suite: Suite,
    taus: Sequence[Params],
    *,
    n: int = 64,
    split: str = "train",
    steps: int = 60,
    lr: float = 1e-2,
    batch: int = 16,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Learn one coefficient for each tensor of each expert from a few *labelled* images of every task.

        min over lam of   sum_t cross-entropy of the images of task t
        theta^l = theta_0^l + sum_n lam_n^l tau_n^l          lam starts at 0, the base; it may become negative

    arXiv:2407.02880, eq. 3 and 4, task addition: the paper's Lambda_n is block-diagonal, one scalar a tensor. By AdamW,
    the gradient cut to length 1. AdaMerging has the same coefficients: it starts at 0.3 and asks no labels.

    Args:
        suite: whose base, heads and images are used; its ID tasks vote.
        taus: N >= 1 task vectors.
        n, split: the first n labelled images of each task; at least as many as it has classes, never of the test split.
        steps, lr, batch: the authors run 20 epochs of their validation images, batch 128; steps and rate are ours.
        weight_decay: of AdamW; pulls towards the base.
        seed: of the batches.
    Returns {name: (N,)}, for `weigh(taus, ...)`.
    Raises ValueError for fewer images than classes, labels outside the classes, the test split, steps < 0, lr <= 0,
    batch < 1, and structures that differ.
    Limits: 0 steps give the base.
    Differs from the authors' code, which keeps the epoch with the best validation accuracy, and can give each tensor
    K coefficients for K random parts of it; here there is one, and the last step counts.
    """
    data = {}
    for task in suite.id_tasks:
        if n < (classes := len(suite.heads[task])):
            raise ValueError(f"n: got {n} images, expected at least {classes}, one for each class of '{task}'")
        data[task] = labelled(suite, task, n, split)
    return descend(
        suite,
        taus,
        data,
        lambda logits, labels: sum(
            (F.cross_entropy(z, y) for z, y in zip(logits, labels, strict=True)), torch.tensor(0.0)
        ),
        torch.zeros(len(suite.theta_0), len(taus)),
        partial(torch.optim.AdamW, lr=lr, weight_decay=weight_decay),
        steps=steps,
        batch=batch,
        seed=seed,
        clip=1.0,
    )
