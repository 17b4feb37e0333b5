"""Will it fit? Memory predicted before anything is loaded, against what is free, and the plan that fits.

everything in memory     (N + 2) * model        base, N experts, the result
half precision           the same, at 16 bits
one tensor at a time     (N + 2) * largest tensor: constant in the number of layers
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from .params import Params, Structure, structure

ROOM = 0.8
"""The share of what is free that a plan may use: the rest is for activations and for everybody else."""


@dataclass(frozen=True)
class Forecast:
    """What a merge needs and what there is, in bytes. `plan` is None where nothing fits."""

    needs: dict[str, int]
    free: int
    device: str
    plan: str | None

    @property
    def streamed(self) -> str:
        """The last way in `needs`: the one that `streaming.merge_to_file` takes, whatever would fit."""
        return list(self.needs)[-1]

    def __str__(self) -> str:
        gib = f"{self.free / 2**30:.2f} GiB"
        lines = [f"{name:<22}{needed / 2**30:8.2f} GiB" for name, needed in self.needs.items()]
        return "\n".join([*lines, f"{'free on ' + self.device:<22}{gib:>12}", f"plan: {self.plan or 'does not fit'}"])


def forecast(
    models: Sequence[Params], per_tensor: bool, device: str | torch.device = "cpu", copies: float = 2
) -> Forecast:
    """Predict the memory of merging `models` (the base and N experts), and choose the first plan that fits.

    Nothing is read but names, shapes and dtypes. A method that works tensor by tensor can stream; a global one
    (`per_tensor=False`) reads lazily, but holds `copies` (N, d) matrices in float32 at its peak. The default fits
    the most demanding of this package: with 8 x ViT-B/32, SA-Merging was measured at 0.9 of what it allows, TIES
    at 0.2 (tests/benchmarks/bench_streaming.py). One tensor at a time is what a sum needs; a method that takes
    singular values of it (TSV-M) was measured at five times that, 0.4 GiB in all.
    """
    models = list(models)
    spec = _shapes(models[0])
    numel = {k: torch.Size(shape).numel() for k, (shape, _) in spec.items()}
    n, d, largest = len(models) - 1, sum(numel.values()), max(numel.values())
    if per_tensor:
        needs = {"everything in memory": 4 * (n + 2) * d, "half precision": 2 * (n + 2) * d}
        needs["one tensor at a time"] = 4 * (n + 2) * largest
    else:
        held = int(4 * copies * n * d)
        needs = {"everything in memory": 4 * (n + 2) * d + held, "read as needed": 4 * (d + (n + 1) * largest) + held}
    free = free_memory(device)
    fits = (name for name, needed in needs.items() if needed <= ROOM * free)
    return Forecast(needs, free, str(device), next(fits, None))


def _shapes(params: Params) -> Structure:
    """As `structure`, which refuses tensors without numbers: here PyTorch's meta tensors say enough."""
    if isinstance(params, dict) and any(isinstance(v, torch.Tensor) and v.is_meta for v in params.values()):
        return {key: (tuple(v.shape), v.dtype) for key, v in params.items()}
    return structure(params)


def check_fits(needed: int, what: str, device: str | torch.device = "cpu", advice: str = "") -> None:
    """Raise MemoryError, with the numbers, if `needed` bytes would not fit: better than being killed half-way."""
    free = free_memory(device)
    if needed > ROOM * free:
        raise MemoryError(
            f"{what} needs {needed / 2**30:.2f} GiB, {device} has {free / 2**30:.2f} GiB free "
            f"({ROOM:.0%} of it may be used){'; ' + advice if advice else ''}"
        )


def free_memory(device: str | torch.device = "cpu") -> int:
    """Bytes that can still be taken on a device: the GPU's own count, or the machine's within its container."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and (most := limit.read_text(encoding="utf-8").strip()) != "max":
        free = min(free, int(most) - int(used.read_text(encoding="utf-8")))
    return free
