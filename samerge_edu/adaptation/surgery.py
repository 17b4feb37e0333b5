"""Representation Surgery (Yang et al., Representation surgery for multi-task model merging, ICML 2024, 2402.02705)."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..params import Params
from ..statistics import features
from ..suites.suite import Suite


class Bottleneck(NamedTuple):
    """What Surgery keeps beside the merged model for one task: W_down (rank, dim) and W_up (dim, rank), no biases."""

    down: Float[Tensor, "rank dim"]
    up: Float[Tensor, "dim rank"]

    def repair(self, z: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        """z' = z - W_up relu(W_down z), (n, dim) -> (n, dim). A longer z gives a z' longer by as much."""
        return z - (z @ self.down.T).relu() @ self.up.T

    __call__ = repair  # so that what is kept can be weighed where it is used


def surgery(
    suite: Suite,
    theta: Params,
    *,
    experts: Mapping[str, Params] | None = None,
    n: int = 64,
    split: str = "val",
    transductive: bool = False,
    rank: int = 16,
    steps: int = 500,
    lr: float = 1e-3,
    batch: int = 16,
    seed: int = 0,
) -> dict[str, Bottleneck]:
    """After any merge, learn for each task what is wrong with the merged model's features, and subtract it.

        min over W_down, W_up of   mean | z' - z_n |         z' = z - W_up relu(W_down z)     (section 4)

    z are the merged model's features of task n's images, z_n those of expert n. The encoder stays as it is, so both
    are computed once; only 2 * rank * dim numbers a task learn, by Adam, from W_up = 0: the start changes nothing.

    Args:
        suite: whose base, experts and images are used.
        theta: the merged model, from any method.
        experts: task -> theta_n; the suite's if left out.
        n, split, transductive: the first n images of each task, without labels. The paper adapts to the test images
            themselves: split="test", transductive=True; the default here looks at validation images.
        rank, steps, lr, batch: the authors' are 16, 500, 1e-3 and 16.
        seed: of W_down and of the batches.
    Returns {task: Bottleneck}. Which one to use has to be known: Surgery needs the *task id* of every image.
    Raises ValueError for n < 1, the test split without `transductive`, rank < 1, steps < 0, lr <= 0, batch < 1.
    Limits: 0 steps change nothing, and neither does any number for a task whose features are the expert's already.
    Differs from the authors' code, which fits features before they are brought to length 1. Without biases the
    correction of a longer feature is longer by as much, so the directions, all that a head sees, are the same.
    """
    if rank < 1 or batch < 1:
        raise ValueError(f"rank, batch: got {rank}, {batch}, expected at least 1")
    if steps < 0:
        raise ValueError(f"steps: got {steps}, expected at least 0")
    if not lr > 0:
        raise ValueError(f"lr: got {lr}, expected a number > 0")
    experts = suite.experts if experts is None else experts
    generator = torch.Generator().manual_seed(seed)
    bottlenecks = {}
    for task in suite.id_tasks:
        z = features(suite, theta, task, n, split, transductive)
        z_n = features(suite, experts[task], task, n, split, transductive)
        bound = z.shape[1] ** -0.5  # of nn.Linear
        down = ((2 * torch.rand(rank, z.shape[1], generator=generator) - 1) * bound).to(z).requires_grad_()
        up = z.new_zeros(z.shape[1], rank).requires_grad_()
        adam = torch.optim.Adam([down, up], lr)
        for _ in range(steps):
            pick = torch.randperm(len(z), generator=generator)[:batch].to(z.device)
            loss = (Bottleneck(down, up).repair(z[pick]) - z_n[pick]).abs().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        bottlenecks[task] = Bottleneck(down.detach(), up.detach())
    return bottlenecks
