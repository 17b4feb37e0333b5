"""What every suite offers."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..beforehand import check_n
from ..params import Params, structure


@dataclass(repr=False)
class Suite:
    """A base, its experts, and what is needed to say how good a merge of them is.

    theta_0    the base's image tower, open_clip's names without the prefix "visual."
    experts    task -> theta_n, lazy: a tensor is read from disk when it is asked for
    tasks      name -> task, with .name, .kind ("id": an expert exists, "ood": none does, "report": a test split that is
               in no average), .classes, .templates
    heads      name -> (classes, dim), the zero-shot class embeddings, each of length 1, frozen
    visual     the open_clip image tower that gives the parameters their meaning; its own weights are never used
    draw       (task, split, n) -> images (n, 3, H, W) as the tower expects them, labels (n,)
    family     which training run the checkpoints come from: printed beside every number
    validation what the "val" split is to the experts: a scale chosen on images they were trained on is optimistic
    adapters   task -> LoRA, where the experts are LoRA experts
    read       captions -> (n, dim) text features of length 1: what the heads are made of
    """

    name: str
    family: str
    theta_0: Params
    experts: Mapping[str, Params]
    tasks: Mapping[str, Any]
    heads: Mapping[str, Tensor]
    visual: nn.Module
    draw: Callable[..., tuple[Any, Tensor]]
    logit_scale: float
    attention_heads: int
    adapters: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[Sequence[str]], Tensor] | None = None
    validation: str = "images that no expert was trained on"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _images: dict = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        """What one wants to know at a glance, not a thousand lines of numbers."""
        entries = sum(torch.Size(shape).numel() for shape, _ in structure(self.theta_0).values())
        size = f"{entries:,} parameters in {len(self.theta_0)} tensors on {self.device}"
        return (
            f"{type(self).__name__} '{self.name}' ({self.family}): {size}\n"
            f"  {'LoRA experts' if self.adapters else 'experts'}: {', '.join(self.id_tasks)}\n"
            f"  other tasks: {', '.join(self.ood_tasks) or 'none'}"
        )

    @property
    def id_tasks(self) -> list[str]:
        """Tasks that have an expert here, in the order of the experts."""
        return list(self.experts)

    @property
    def ood_tasks(self) -> list[str]:
        """Tasks that no expert was trained on."""
        return [name for name, task in self.tasks.items() if task.kind == "ood"]

    def images(self, task: str, split: str = "test", n: int | None = None) -> tuple[Tensor, Tensor]:
        """(n, 3, H, W) images ready for the tower and (n,) labels; drawn or read once, then kept.

        `split` is "train", "val" (for every choice) or "test" (reported only). Raises ValueError for a
        task or split that does not exist and for n < 1.
        """
        if task not in self.tasks:
            raise ValueError(f"task: got '{task}', expected one of {', '.join(self.tasks)}")
        if split not in ("train", "val", "test"):
            raise ValueError(f"split: got '{split}', expected train, val or test")
        check_n(n)
        if (task, split, n) not in self._images:
            images, labels = self.draw(task, split, n)
            self._images[task, split, n] = images.to(self.device), labels.to(self.device)
        return self._images[task, split, n]

    def encode(self, theta: Params, images: Tensor, batch: int = 100) -> Tensor:
        """(n, dim) image features of length 1 under the parameters `theta`; no module is changed.

        In float32, whatever the processor, so that a number does not hang on the machine; see `precision`. On two
        cores batches of 100 are the fastest: larger ones leave the cache.
        """
        theta = {k: theta[k].to(self.device, torch.float32) for k in theta}
        self.visual.eval()
        half = precision() == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            features = [functional_call(self.visual, theta, (self.ready(x),)) for x in images.split(batch)]
        return F.normalize(torch.cat(features).float(), dim=-1)

    def ready(self, images: Tensor) -> Tensor:
        """A batch as the tower expects it, which here it is already."""
        return images

    def features(
        self, theta: Params, tasks: Sequence[str], split: str = "test", n: int | None = None
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(task, features (n, dim) of length 1, labels (n,)) of each task, in one pass of the encoder over all."""
        images, labels = zip(*(self.images(task, split, n) for task in tasks), strict=True)
        z = self.encode(theta, torch.cat(images)).split([len(y) for y in labels])
        yield from zip(tasks, z, labels, strict=True)


def precision() -> str:
    """In what images are encoded: "float32", unless SAMERGE_PRECISION=bfloat16 asks for speed.

    In bfloat16 an image in a thousand changes its class; where a processor has units for it (AMX, avx512_bf16, a
    GPU) the encoder is about twice as fast. Every record says which was used. Raises ValueError for anything else.
    """
    chosen = os.environ.get("SAMERGE_PRECISION") or "float32"
    if chosen not in ("float32", "bfloat16"):
        raise ValueError(f"SAMERGE_PRECISION: got '{chosen}', expected float32 or bfloat16")
    return chosen
