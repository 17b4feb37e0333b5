"""Merge checkpoints on disk into one on disk, within the memory that was forecast: `samerge-edu merge --base ...`.

    plan_of(...)        what it will read and hold, and how long the disk needs for that
    merge_files(...)    shard by shard, tensor by tensor: the folder that comes out loads as the base's does

What comes in may be safetensors files, Hugging Face folders, sharded or not, and PEFT adapters on the base.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .beforehand import check_new
from .files import LazyParams, fingerprint, write_safetensors
from .folders import INDEX, Opened, copy_beside, open_model
from .forecast import Forecast, forecast
from .merging import chosen, knobs_of, like_base, warn_if_far, with_knobs
from .methods import Checkpoints
from .params import Params
from .streaming import merged_tensors, metadata

READS = {True: 2, False: 6}
"""How often each file is read: to hash it, and to merge it tensor by tensor; a global method looks several times."""


@dataclass(frozen=True)
class Plan:
    """What a merge on disk will cost, before it is begun."""

    method: str
    lam: float
    knobs: dict[str, object]
    models: dict[str, int]  # name -> bytes, the base first
    bytes_read: int
    memory: Forecast
    rate: float  # bytes a second, measured on the base's file

    @property
    def peak(self) -> int:
        return self.memory.needs[self.memory.streamed]

    def __str__(self) -> str:
        megabytes, rate, free = self.bytes_read / 1e6, self.rate / 1e6, self.memory.free
        lines = [f"{self.method}, lam = {self.lam:g}, {self.knobs}"]
        lines += [f"  {name:<40} {n / 1e6:10.1f} MB" for name, n in self.models.items()]
        lines += [
            f"reads up to {megabytes:.1f} MB: {megabytes / rate:.1f} s at {rate:.0f} MB/s, as measured here",
            "(too fast a measure, if the system still had the file in memory)",
            f"holds up to {self.peak / 2**30:.3f} GiB of tensors ({self.memory.streamed})",
            f"{free / 2**30:.2f} GiB are free on {self.memory.device}",
        ]
        return "\n".join(lines)


@dataclass
class Job:
    """Everything opened and checked, nothing merged yet."""

    base: Opened
    experts: list[Params]
    run: Callable
    per_tensor: bool
    plan: Plan
    folder: Path | None  # the base's, where it is one
    inputs: list[list[Path]]


def prepare(
    base: str | Path,
    experts: Sequence[str | Path],
    method: str,
    lam: float | None = None,
    knobs: Mapping[str, object] | None = None,
    device: str | torch.device = "cpu",
) -> Job:
    """Open and check everything; raises what `merging.merge` and `folders.open_model` raise."""
    opened = open_model(base)
    others = [open_model(expert, base=opened) for expert in experts]
    thetas = [like_base(other.params, opened.params, {}, n) for n, other in enumerate(others, 1)]
    name, row = chosen(method)
    run = with_knobs(row.recipe(Checkpoints(opened.params)), knobs or {}, name)
    files = [opened.files]
    for other, expert in zip(others, experts, strict=True):
        files.append(other.files or sorted(Path(expert).glob("*.safetensors")))  # an adapter's
    bytes_of = [sum(file.stat().st_size for file in mine) for mine in files]
    sizes = dict(zip(map(str, [base, *experts]), bytes_of, strict=True))
    memory = forecast([opened.params, *thetas], row.per_tensor, device)
    read, rate = READS[row.per_tensor] * sum(bytes_of), disk_rate(opened.files[0])
    plan = Plan(name, row.lam if lam is None else lam, knobs_of(run), sizes, read, memory, rate)
    return Job(opened, thetas, run, row.per_tensor, plan, Path(base) if Path(base).is_dir() else None, files)


def merge_files(job: Job, out: str | Path, progress: Callable[[str], None] = lambda key: None) -> list[Path]:
    """Do it. `out` ending in .safetensors is a file, anything else a new folder. Returns the files written.

    The folder has the base's shards, index, configuration and tokenizer. It appears in one piece, at the end. 16-bit
    weights stay 16-bit, their sums are taken in float32. Raises ValueError for a folder that has something in it.
    """
    out = Path(out)
    warn_if_far(job.base.params, job.experts)
    plan, device = job.plan, job.plan.memory.device
    tensors = merged_tensors(
        job.base.params, job.experts, job.run, lam=plan.lam, per_tensor=job.per_tensor, device=device, progress=progress
    )
    inputs = [fingerprint(LazyParams(file)) for files in job.inputs for file in files]
    about = metadata(f"{plan.method} {plan.knobs}", plan.lam, inputs)
    if out.suffix == ".safetensors":
        if len(job.base.files) > 1:
            raise ValueError(f"--out {out.name}: the base is sharded, expected a folder's name")
        _write(job.base, job.base.files[0], out, tensors, about)
        return [out]
    check_new(out)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # of an interrupted run of ours
    part.mkdir(parents=True)
    try:
        for file in job.base.files:
            _write(job.base, file, part / file.name, tensors, about)
        if job.folder:
            copy_beside(job.folder, part)
            if (job.folder / INDEX).is_file():
                shutil.copyfile(job.folder / INDEX, part / INDEX)
        if out.exists():
            out.rmdir()
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sorted(out.iterdir())


def _write(base: Opened, file: Path, out: Path, tensors: Callable, about: Mapping[str, str]) -> None:
    """One shard of the result: the merged tensors that the base has in this file, and its integer buffers."""
    lazy = LazyParams(file)
    kept = {key: base.buffers[key] for key in lazy.buffers}
    contents = dict(lazy.structure) | {key: (tuple(x.shape), x.dtype) for key, x in kept.items()}

    def both() -> Iterator[tuple[str, Tensor]]:
        yield from tensors(lazy)
        yield from kept.items()

    write_safetensors(out, contents, both(), about)


def disk_rate(file: Path, at_most: int = 64 * 2**20) -> float:
    """Bytes a second that this file is read at, from its first 64 MiB."""
    start = time.perf_counter()
    with file.open("rb") as f:
        n = len(f.read(at_most))
    return n / max(time.perf_counter() - start, 1e-9)
