"""One number for each tensor of each expert, learned: what AdaMerging and aTLAS share.

theta(lam) = theta_0 + sum_n lam[key, n] tau_n[key]            only lam learns; the model is a function of it
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..params import Params, check_finite, check_same_structure, stacked, structure
from ..statistics import embed, logits, on_device
from ..suites.suite import Suite


def weigh(taus: Sequence[Params], coefficients: Params) -> dict[str, Tensor]:
    """tau_m = sum_n lam_n tau_n, tensor by tensor: the merge that learned coefficients make (lam = 1 at `add`).

    `coefficients`: name -> (N,). Raises ValueError for structures that differ, and a name without N coefficients.

    >>> taus = [{"w": torch.tensor([2.0])}, {"w": torch.tensor([10.0])}]
    >>> weigh(taus, {"w": torch.tensor([0.5, 0.1])})["w"]
    tensor([2.])
    """
    taus = check_same_structure(taus)
    tau_m = {}
    for key, (_, dtype) in structure(taus[0]).items():
        if key not in coefficients or coefficients[key].shape != (len(taus),):
            got = tuple(coefficients[key].shape) if key in coefficients else "nothing"
            raise ValueError(f"coefficients of '{key}': got {got}, expected shape ({len(taus)},)")
        tau = stacked(taus, key)
        tau_m[key] = torch.tensordot(coefficients[key].to(tau), tau, dims=1).to(dtype)
    return tau_m


Data = Mapping[str, tuple[Tensor, Tensor | None]]
"""task -> (images (n, 3, H, W), labels (n,) or None)."""


def descend(
    suite: Suite,
    taus: Sequence[Params],
    data: Data,
    batch_loss: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor],
    initial: Float[Tensor, "rows N"],
    optimiser: Callable[[list[Tensor]], torch.optim.Optimizer],
    *,
    steps: int,
    batch: int,
    seed: int,
    effective: Callable[[Tensor], Tensor] = lambda lam: lam,
    clip: float | None = None,
) -> dict[str, Tensor]:
    """Minimise a loss over lam by gradient steps; returns {name: (N,)}.

    Args:
        suite: whose base, heads and tower are used.
        data: task -> (images, labels or None).
        initial: where lam starts, (L, N): one row a tensor; or (1, N): one row for all of them.
        batch_loss: (one tensor of logits (batch, classes) a task, one of labels a task that has any) -> a number.
        optimiser: [lam] -> an optimiser; its learning rate must be > 0.
        steps: >= 0; 0 returns the start.
        batch: images a task and step, drawn with the generator `seed`, each at most once a step.
        effective: what lam becomes before it multiplies, e.g. clamped.
        clip: largest length of the gradient, as in `clip_grad_norm_`.
    Memory: one stack of N task vectors, one model, the activations of one batch of all tasks.
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    if steps < 0:
        raise ValueError(f"steps: got {steps}, expected at least 0")
    if batch < 1:
        raise ValueError(f"batch: got {batch}, expected at least 1")
    if odd := sorted(taus[0].keys() ^ suite.theta_0.keys()):
        raise ValueError(f"got '{odd[0]}' in the task vectors or the base only, expected the same names in both")
    theta_0 = on_device(suite, suite.theta_0)
    T = {key: stacked(taus, key).to(theta_0[key]) for key in theta_0}
    lam = initial.clone().to(suite.device).requires_grad_()
    adam = optimiser([lam])
    if not adam.defaults["lr"] > 0:
        raise ValueError(f"lr: got {adam.defaults['lr']}, expected a number > 0")
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        picks = {task: torch.randperm(len(x), generator=generator)[:batch] for task, (x, _) in data.items()}
        drawn = [(*data[task], pick.to(suite.device)) for task, pick in picks.items()]
        images = [x[pick] for x, _, pick in drawn]
        labels = [y[pick] for _, y, pick in drawn if y is not None]
        rows = effective(lam).expand(len(T), -1)
        theta = {key: theta_0[key] + torch.tensordot(row, T[key], dims=1) for key, row in zip(T, rows, strict=True)}
        z = embed(suite, theta, torch.cat(images)).split([len(x) for x in images])
        adam.zero_grad()
        batch_loss([logits(suite, z_t, task) for z_t, task in zip(z, picks, strict=True)], labels).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([lam], clip)
        adam.step()
    rows = effective(lam).detach().expand(len(T), -1)
    return {key: row.clone() for key, row in zip(T, rows, strict=True)}
