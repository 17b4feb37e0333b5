"""What is kept beside one state dict: its type, its size, and the one way to measure it.

theta(x) = theta + sum_n w_n(x) v_n        v_n: the part of task n; w(x): from a router, or 1 at the task one is told
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..evaluate import scores
from ..params import Params, add, structure
from ..statistics import on_device, slow_attention
from ..suites.suite import Suite, precision
from .router import Router

# ---------------------------------------------------------------------------- the type


class Part(NamedTuple):
    """What one task adds to the shared model, in the form in which it is kept.

    `stored` holds the tensors as they would lie in a file, `unpack` makes the update v_n of them and of nothing else
    but what all parts share (names, shapes, the vector that masks select from).
    """

    stored: Mapping[str, Tensor]
    unpack: Callable[[Mapping[str, Tensor]], Params]

    def update(self) -> Params:
        """v_n, with the names and shapes of a model."""
        return self.unpack(self.stored)


@dataclass(frozen=True)
class Ensemble:
    """One state dict, and what is kept beside it.

    theta   the shared model: all that an image gets that belongs to no task
    parts   task -> what is added for it
    router  gives the weights w(x) of the parts; None: the task of every image has to be told (a task id)
    second  a vector that all parts read, kept once: the sum of the task vectors under TALL masks

    Raises ValueError for no parts, a part of another structure than theta, and a router that does not know just the
    tasks that have parts.
    """

    theta: Params
    parts: Mapping[str, Part]
    router: Router | None = None
    second: Params = field(default_factory=dict)

    def __post_init__(self):
        if not self.parts:
            raise ValueError("parts: got none, expected one for each task")
        if self.router is not None and (odd := set(self.router.tasks) ^ set(self.parts)):
            task = sorted(odd)[0]
            where = "the router has no class for it" if task in self.parts else "it has no part"
            raise ValueError(f"task '{task}': {where}; got a router for {', '.join(self.router.tasks)}")

    def model(self, task: str | None = None) -> dict[str, Tensor]:
        """theta + v_n of a task, as one state dict; the shared model for None or a task that has no part."""
        part = self.parts.get(task) if task is not None else None
        return add(self.theta, part.update()) if part else dict(self.theta)

    def stored(self) -> dict[str, Tensor]:
        """All that is kept beside theta, under the names it would have in a file."""
        kept = {f"second.{key}": self.second[key] for key in self.second}
        kept |= {f"{task}.{name}": x for task, part in self.parts.items() for name, x in part.stored.items()}
        return kept | (self.router.stored() if self.router else {})

    @property
    def megabytes(self) -> float:
        """What `stored` weighs, in millions of bytes."""
        return sum(x.nbytes for x in self.stored().values()) / 1e6


def whole(tau: Params, dtype: torch.dtype | None = None) -> Part:
    """A task vector kept as it is, or rounded to `dtype`: eight experts are eight of these beside the base.

    >>> part = whole({"w": torch.tensor([1.0, 1e-9])}, torch.float16)
    >>> part.stored["w"].nbytes, part.update()["w"]
    (4, tensor([1., 0.]))
    """
    shapes = structure(tau)
    return Part(
        {key: tau[key].to(dtype or tau[key].dtype) for key in tau},
        lambda stored: {key: stored[key].to(dtype) for key, (_, dtype) in shapes.items()},
    )


# ---------------------------------------------------------------------------- encoding


def encode(
    suite: Suite, theta: Params, updates: Mapping[str, Tensor], w: Float[Tensor, "n N"], images: Tensor, batch: int = 16
) -> Float[Tensor, "n dim"]:
    """(n, dim): image i in the model theta + sum_n w[i, n] v_n, features of length 1.

    Args:
        updates: name -> (N, *shape), the parts stacked.
        w: one row an image. Where no more rows differ than there are parts, as when each image has one expert, every
            model is built once and encodes its images together; otherwise `batch` models are built and vectorised
            by `torch.func.vmap`, an image each. Memory: `batch` models.
    Raises ValueError for another number of rows than of images.
    """
    if len(w) != len(images):
        raise ValueError(f"w: got {len(w)} rows, expected one for each of {len(images)} images")
    kinds, kind = w.unique(dim=0, return_inverse=True)
    if len(kinds) <= w.shape[1]:
        z = torch.cat([suite.encode(_mix(theta, updates, row), images[kind == i]) for i, row in enumerate(kinds)])
        return z[kind.argsort(stable=True).argsort()]

    def one(theta: Params, image: Tensor) -> Tensor:
        return functional_call(suite.visual, dict(theta), (image[None],))[0]

    theta = on_device(suite, theta)
    half = torch.autocast(suite.device.type, torch.bfloat16) if precision() == "bfloat16" else nullcontext()
    z = []
    with torch.no_grad(), slow_attention(), sdpa_kernel(SDPBackend.MATH), half:
        for rows, x in zip(w.split(batch), images.split(batch), strict=True):
            z.append(vmap(one)(_mix(theta, updates, rows), suite.ready(x)))
    return F.normalize(torch.cat(z).float(), dim=-1)


def _mix(theta: Params, updates: Mapping[str, Tensor], w: Float[Tensor, "*b N"]) -> dict[str, Tensor]:
    """theta + w v, (*b, *shape) of each tensor."""
    return {key: theta[key].to(v) + torch.tensordot(w.to(v), v, dims=1) for key, v in updates.items()}


class Routed:
    """A suite seen through an ensemble with a router: `encode` gives every image the model that it is routed to.

    So `evaluate.scores` and whatever else encodes by a suite measures an ensemble as it measures one model. `weights`
    are those of all images so far, `counts` how many of them belong to which task.
    """

    def __init__(self, suite: Suite, ensemble: Ensemble):
        if ensemble.router is None:
            raise ValueError("router: got none, expected an ensemble that needs no task id; see `measure`")
        self.suite, self.router = suite, ensemble.router
        parts = [on_device(suite, ensemble.parts[task].update()) for task in ensemble.router.tasks]
        self.updates = {key: torch.stack([part[key] for part in parts]) for key in parts[0]}
        self.weights: list[Tensor] = []
        self.counts: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.suite, name)

    def encode(self, theta: Params, images: Tensor) -> Float[Tensor, "n dim"]:
        """(n, dim): the shared model's features choose the weights, and the weighted models encode."""
        w = self.router(self.suite.encode(theta, images))
        self.weights.append(w)
        return encode(self.suite, theta, self.updates, w, images)

    def features(
        self, theta: Params, tasks: Sequence[str], split: str = "test", n: int | None = None
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """As the suite's own, by this `encode`."""
        for task, z, y in type(self.suite).features(self, theta, tasks, split, n):  # ty: ignore[invalid-argument-type] # acts as one
            self.counts[task] = len(y)
            yield task, z, y


# ---------------------------------------------------------------------------- measuring


class Measured(NamedTuple):
    """`per_task`: accuracy in percent, as `evaluate.scores` has it; `routes`: task -> expert -> mean weight of its
    part over the task's images, the confusion of the router ({} where the task is told)."""

    per_task: dict[str, float]
    routes: dict[str, dict[str, float]]


def measure(
    suite: Suite,
    ensemble: Ensemble,
    split: str = "test",
    tasks: Sequence[str] | None = None,
    n: int | None = None,
) -> Measured:
    """Accuracy of each task, and where the router sent its images; `evaluate.summary` makes ID, worst, OOD and H of it.

    Without a router each image gets the part of its own task, and an image of a task without an expert the shared
    model: being told the task is being told, too, that it is none of those. With a router nobody tells. To measure
    what a router costs, measure `dataclasses.replace(ensemble, router=None)` as well.
    `split`, `tasks`, `n` and errors as in `evaluate.scores`.
    """
    if ensemble.router is not None:
        seen = Routed(suite, ensemble)
        per_task = scores(seen, ensemble.theta, split, tasks, n)  # ty: ignore[invalid-argument-type] # acts as a suite
        rows = torch.cat(seen.weights).split(list(seen.counts.values()))
        means = {task: w.mean(dim=0).tolist() for task, w in zip(seen.counts, rows, strict=True)}
        return Measured(per_task, {t: dict(zip(ensemble.router.tasks, m, strict=True)) for t, m in means.items()})
    if tasks is None:
        tasks = [name for name, task in suite.tasks.items() if task.kind != "report"]
    tasks = [tasks] if isinstance(tasks, str) else list(tasks)
    alone = {task: scores(suite, ensemble.model(task), split, [task], n) for task in tasks if task in ensemble.parts}
    others = [task for task in tasks if task not in alone]
    rest = scores(suite, ensemble.theta, split, others, n) if others or not alone else {}
    return Measured({task: (alone[task] if task in alone else rest)[task] for task in tasks}, {})
