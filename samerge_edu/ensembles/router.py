"""Which expert does an image belong to? A router on the features of the shared model: Twin- and FREE-Merging's."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..params import Params
from ..statistics import features
from ..suites.suite import Suite


@dataclass(frozen=True)
class Router:
    """Weights of the experts from an image's features: softmax of a small network, or 1 at the largest (`hard`).

    `layers` are (W (out, in), b (out,)), leaky ReLU between them, N outputs at the end in the order of `tasks`. In
    training a BatchNorm follows each inner layer; at test time it is a part of W and b.
    """

    tasks: tuple[str, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]
    hard: bool = False

    def logits(self, z: Float[Tensor, "n dim"]) -> Float[Tensor, "n N"]:
        """(n, dim) -> (n, N). Raises ValueError for features that are not finite."""
        if not z.isfinite().all():
            raise ValueError("features: got NaN or infinity, expected finite numbers: no route for such an image")
        x = z.float()
        for i, (W, b) in enumerate(self.layers):
            x = F.linear(F.leaky_relu(x) if i else x, W.to(x.device), b.to(x.device))
        return x

    def __call__(self, z: Float[Tensor, "n dim"]) -> Float[Tensor, "n N"]:
        """(n, dim) -> weights (n, N), each row of sum 1."""
        logits = self.logits(z)
        return F.one_hot(logits.argmax(dim=1), logits.shape[1]).float() if self.hard else logits.softmax(dim=1)

    def stored(self) -> dict[str, Tensor]:
        """Its tensors, under the names they would have in a file."""
        return {f"router.{i}.{'Wb'[j]}": x for i, layer in enumerate(self.layers) for j, x in enumerate(layer)}


def train_router(
    suite: Suite,
    theta: Params,
    *,
    n: int = 64,
    split: str = "val",
    transductive: bool = False,
    depth: int = 2,
    hard: bool = False,
    epochs: int = 50,
    lr: float = 5e-4,
    batch: int = 64,
    seed: int = 0,
) -> Router:
    """Learn from features of the shared model which task an image is from.

        min over R of   mean over images of   - log softmax(R(z))_task          z = encode(theta, image)  (dim,)
        R: [Linear dim -> 2 dim, BatchNorm, leaky ReLU, dropout 1/2] x depth, Linear 2 dim -> N          by AdamW
    The labels are only which task an image came with, so the images need no classes. Every image gets a route, also
    one that belongs to no task: the soft-max cannot say so.

    Args:
        suite: whose ID tasks are the classes.
        theta: the shared model; its features are computed once.
        n, split, transductive: the first n images of each task.
        depth: inner layers; the authors' 2. 0 is a linear soft-max regression.
        hard: see `Router`.
        epochs, lr: the authors' 50 and 5e-4, with 5500 sentences a task.
        batch: images in a step; the authors' 1024, which at n = 64 would be one step an epoch.
        seed: of the first weights, the dropout and the batches. It is trained on the CPU, wherever the suite is.
    Returns a Router. Raises ValueError for n < 2, fewer than n images of a task, the test split without
    `transductive`, features that are not finite, depth < 0, epochs < 0, lr <= 0, batch < 2.
    Differs from Twin-Merging's code, which keeps the epoch that is best on its *test* set, lets the rate fall to 0
    linearly and routes RoBERTa's mean token; and from FREE-Merging's, whose router is a network on the pixels.
    """
    if n < 2:
        raise ValueError(f"n: got {n} images, expected at least 2")
    if batch < 2:  # a BatchNorm of one image has no variance
        raise ValueError(f"batch: got {batch}, expected at least 2")
    if depth < 0 or epochs < 0:
        raise ValueError(f"depth, epochs: got {depth}, {epochs}, expected at least 0")
    if not lr > 0:
        raise ValueError(f"lr: got {lr}, expected a number > 0")
    tasks = tuple(suite.id_tasks)
    z = {task: features(suite, theta, task, n, split, transductive).float().cpu() for task in tasks}
    check_features(z, n)
    x, y = torch.cat(list(z.values())), torch.arange(len(tasks)).repeat_interleave(n)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _network(x.shape[1], depth, len(tasks)).train()
        adam = torch.optim.AdamW(net.parameters(), lr, weight_decay=0.0)
        for _ in range(epochs):
            for pick in torch.randperm(len(x)).split(batch):
                if len(pick) > 1:
                    adam.zero_grad()
                    F.cross_entropy(net(x[pick]), y[pick]).backward()
                    adam.step()
    return Router(tasks, _folded(net.eval()), hard)


def check_features(by_task: Mapping[str, Tensor], n: int) -> None:
    """Raise ValueError for a task (`by_task`: its features) with fewer than n images, and for NaN or infinity."""
    for task, rows in by_task.items():
        if len(rows) < n:
            raise ValueError(f"n: got {len(rows)} images of '{task}', expected {n}: the split has no more")
        if not rows.isfinite().all():
            raise ValueError(f"features of '{task}': got NaN or infinity, expected finite numbers")


def _network(dim: int, depth: int, classes: int) -> nn.Sequential:
    width = 2 * dim
    inner = [
        layer
        for i in range(depth)
        for layer in (nn.Linear(width if i else dim, width), nn.BatchNorm1d(width), nn.LeakyReLU(), nn.Dropout(0.5))
    ]
    return nn.Sequential(*inner, nn.Linear(width if depth else dim, classes))


@torch.no_grad()
def _folded(net: nn.Sequential) -> tuple[tuple[Tensor, Tensor], ...]:
    """(W, b) of each linear layer with the BatchNorm behind it, which at test time is a x + c for each unit."""
    layers: list[tuple[Tensor, Tensor]] = []
    for module in net:
        if isinstance(module, nn.Linear):
            layers.append((module.weight.detach(), module.bias.detach()))
        if isinstance(module, nn.BatchNorm1d):
            W, b = layers.pop()
            at_0, at_1 = (module(torch.full((1, len(b)), x))[0] for x in (0.0, 1.0))
            layers.append(((at_1 - at_0)[:, None] * W, (at_1 - at_0) * b + at_0))
    return tuple(layers)
