"""AdaMerging (Yang et al., Adaptive model merging for multi-task learning, ICLR 2024, arXiv:2310.02575)."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..params import Params
from ..statistics import unlabelled
from ..suites.suite import Suite
from .coefficients import descend

Level = Literal["task", "layer"]


def adamerging(
    suite: Suite,
    taus: Sequence[Params],
    *,
    level: Level = "layer",
    n: int = 64,
    split: str = "val",
    transductive: bool = False,
    steps: int = 20,
    lr: float = 1e-2,
    batch: int = 16,
    lam: float = 0.3,
    clamp: bool = True,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Learn how much of each expert to add, from images without labels: the merged model should be sure of itself.

        min over lam of   sum_t mean_i H(softmax(logits of image i of task t))         H(p) = - sum_c p_c log p_c
        theta = theta_0 + sum_n lam_n tau_n         level "task": one lam_n an expert
        theta^l = theta_0^l + sum_n lam_n^l tau_n^l        "layer": one an expert and *tensor* of the state dict

    by Adam (eq. 5 and 6). AdaMerging++ is the same on task vectors that TIES has trimmed and elected.
    Low entropy is not accuracy: a model that calls every image a seven is sure as well.

    Args:
        suite: whose base, heads and images are used; its ID tasks vote.
        taus: N >= 1 task vectors.
        n, split, transductive: the first n images of each task. The paper adapts to the *test* images themselves:
            split="test", transductive=True. The default here looks at validation images.
        steps, lr, batch: the paper's are 500, 1e-3 and 16. Here ten times the rate, and 20 steps: on pocket's
            validation images accuracy has its peak there, and falls from then on, while entropy goes on falling.
        lam: where all coefficients start; 0.3 is the paper's.
        clamp: keep each coefficient in [0, 1], as the authors' code does and FusionBench does not.
        seed: of the batches.
    Returns {name: (N,)}, for `weigh(taus, ...)`.
    Raises ValueError for an unknown level, n < 1, the test split without `transductive`, steps < 0, lr <= 0, batch < 1,
    and structures that differ.
    Limits: 0 steps give Task Arithmetic at `lam`.
    Differs from the authors' loop, which draws two batches a task and step (its test for the end comes late), and
    adds 1e-8 to no probability (FusionBench does: log(p + 1e-8)).
    """
    if level not in ("task", "layer"):
        raise ValueError(f"level: got '{level}', expected 'task' or 'layer'")
    data = {task: (unlabelled(suite, task, n, split, transductive), None) for task in suite.id_tasks}
    return descend(
        suite,
        taus,
        data,
        lambda logits, _: sum((entropy(z) for z in logits), torch.tensor(0.0)),
        torch.full((1 if level == "task" else len(suite.theta_0), len(taus)), float(lam)),
        partial(torch.optim.Adam, lr=lr),
        steps=steps,
        batch=batch,
        seed=seed,
        effective=(lambda lam: lam.clamp(0, 1)) if clamp else (lambda lam: lam),
    )


def entropy(logits: Float[Tensor, "n classes"]) -> Float[Tensor, ""]:
    """Mean entropy of the rows' soft-max, in nats; (n, classes) -> ().

    >>> round(entropy(torch.zeros(1, 2)).item(), 4), round(entropy(torch.tensor([[0.0, 3.0]])).item(), 4)
    (0.6931, 0.1909)
    """
    log_p = logits.log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1).mean()
