"""FREE-Merging's experts and router (Zheng and Wang, ICCV 2025, arXiv:2411.16815), from the authors' code."""

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from ..masks import check_density, keep_largest
from ..matrices import block_weight
from ..params import Params, Structure, check_lam, flatten, structure, task_vectors
from ..suites.suite import Suite
from ..transforms.free_fr import free_fr
from .ensemble import Ensemble, Part
from .router import train_router


def free_merging(
    suite: Suite, theta: Params, *, density: float = 0.01, lam: float = 0.5, router: bool = True, **knobs
) -> Ensemble:
    """Keep the largest 1 % of each task vector beside a merge, make them louder, and let a router choose one expert.

        theta(x) = theta, but theta_0 + lam mu_n tau_n where |tau_n| is among the `density` largest of its matrix
        mu_n     = log10(1 / density) * mean |kept tau_n| / mean |FR(tau_n)|           n: the route of x
    The few entries replace what the merge has put there and stand in for the many that were left out: that is what
    mu is for, about 10 at 1 %. Only the linear weights of the blocks have experts.

    Args:
        suite: whose base, experts and images are used.
        theta: the shared model; the authors' is FR, `free_fr(taus, align=False)`, summed.
        density: share of each matrix that is kept, in (0, 1]; the authors' 0.01. At 1 mu is 0: nothing is left out.
        lam: scale of the experts, the authors' 0.5.
        router: False leaves it out, and the task has to be told.
        knobs: of `train_router`, whose answer is hard here: one expert an image.
    Returns an Ensemble. Raises ValueError for a density outside (0, 1], as `free_fr`, and as `train_router`.
    Differs from the authors' code, which keeps 1 % of each *row* (none of a row shorter than 100), experts for the
    blocks' biases too, means of the tensors' means, and routes by a network of its own that looks at the pixels.
    """
    check_density(density)
    check_lam(lam)
    taus = task_vectors(suite.theta_0, [suite.experts[task] for task in suite.id_tasks])
    (shared,) = task_vectors(suite.theta_0, [theta])
    blocks = [key for key in shared if block_weight(key, shared[key])]
    parts = {}
    for task, tau, filtered in zip(suite.id_tasks, taus, free_fr(taus, align=False), strict=True):
        keep = keep_largest([tau], density, scope="tensor")
        kept = {key: tau[key] * keep(key)[0] if key in blocks else torch.zeros_like(tau[key]) for key in tau}
        mu = math.log10(1 / density) * loudness(kept) / loudness(filtered)
        parts[task] = sparse({key: torch.where(x != 0, lam * mu * x - shared[key], 0) for key, x in kept.items()})
    return Ensemble(theta, parts, train_router(suite, theta, hard=True, **knobs) if router else None)


def loudness(tau: Params) -> float:
    """Mean magnitude of the entries that are not 0; 0 if all are.

    >>> loudness({"w": torch.tensor([0.0, -3.0]), "b": torch.tensor([1.0])})
    2.0
    """
    x = flatten(tau)
    return (x.abs().sum() / x.count_nonzero().clamp(min=1)).item()


def sparse(tau: Params) -> Part:
    """An update of which few entries are not 0, kept as their places and values: 8 bytes an entry in float32.

    Places count through the flattened model (`params.flatten`), as int32, or int64 above 2^31 entries.

    >>> part = sparse({"w": torch.tensor([[0.0, 5.0], [0.0, 0.0]]), "b": torch.tensor([-1.0])})
    >>> part.stored["at"].tolist(), part.stored["values"].tolist(), part.update()["w"]
    ([0, 2], [-1.0, 5.0], tensor([[0., 5.],
            [0., 0.]]))
    """
    x = flatten(tau)
    at = x.nonzero().squeeze(1)
    places = at.to(torch.int32 if len(x) < 2**31 else torch.int64)
    return Part({"at": places, "values": x[at]}, partial(scattered, shapes=structure(tau)))


def scattered(stored: Mapping[str, Tensor], shapes: Structure) -> dict[str, Tensor]:
    """Zeros with the values in their places."""
    sizes = {key: math.prod(shapes[key][0]) for key in sorted(shapes)}
    x = stored["values"].new_zeros(sum(sizes.values()))
    x[stored["at"].long()] = stored["values"]
    pieces = dict(zip(sizes, x.split(list(sizes.values())), strict=True))
    return {key: pieces[key].reshape(shape).to(dtype) for key, (shape, dtype) in shapes.items()}
