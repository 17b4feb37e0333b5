"""Merge models that do not fit in memory: read a tensor of each, merge it, write it, forget it.

    for each tensor k:    tau_n[k] = theta_n[k] - theta_0[k]    n = 1..N          N + 1 tensors read
                          theta[k] = theta_0[k] + lam * merge(tau_1[k]..tau_N[k])  written at once

so the peak is about (N + 2) times the *largest tensor*, whatever the number of layers. That is possible because a
safetensors file is a table of contents followed by the tensors' bytes: the contents are known before the first
tensor is.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .forecast import check_fits, forecast
from .params import Params, Structure, add, check_finite, lazy_task_vectors, structure

_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def merge_to_file(
    theta_0: Params,
    thetas: Sequence[Params],
    merge: Callable[[Sequence[Params]], Params],
    out: str | Path,
    *,
    lam: float,
    per_tensor: bool,
    recipe: str,
    prefix: str = "",
    keep: Params | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[str], None] = lambda key: None,
) -> Path:
    """Write theta_0 + lam * merge(taus) as a safetensors file, holding as little as the method allows.

    Args: `theta_0` and `thetas`, best lazy (`LazyParams`, `clip.from_hf`); `merge`, taus -> tau_m; `lam`, its scale;
    `per_tensor`, whether the method treats each tensor on its own: then it is called as `merge([{k: tau_n[k]}, ...])`
    key by key; otherwise once, with lazy task vectors, and its result is held whole. A global method called per
    tensor gives another method's result, so there is no default. `recipe` names the method in the file's metadata;
    `prefix` stands before each merged name in the file; `keep`, tensors that are copied unchanged (a text tower)
    under their own names; `device`, where the arithmetic is done.

    The metadata holds recipe, lam, the sha256 of every input and the versions. The file appears in one piece, at
    the end: an interrupted run leaves the old file, or none. Raises ValueError for models that do not fit together,
    and for NaN or infinity in the result; MemoryError with the numbers before loading what cannot fit.
    """
    keep, out = {} if keep is None else keep, Path(out)
    taus = lazy_task_vectors(theta_0, thetas)
    plan = forecast([theta_0, *thetas], per_tensor, device)
    advice = "" if per_tensor else "the method looks at all tensors at once"
    check_fits(plan.needs[plan.streamed], f"merging {len(thetas)} experts", device, advice)
    if not math.isfinite(lam):
        raise ValueError(f"lam: got {lam}, expected a finite number")

    on_device = [_On(tau, device) for tau in taus]
    whole = None if per_tensor else merge(on_device)

    def tensors() -> Iterable[tuple[str, Tensor]]:
        for key in structure(theta_0):
            if per_tensor:
                pieces = [{key: tau[key]} for tau in on_device]
                check_finite(pieces, what="expert")
                tau_m = {key: merge(pieces)[key]}
            else:
                tau_m = {key: whole[key]}
            theta = add({key: theta_0[key].to(device)}, tau_m, lam)[key]
            if not theta.isfinite().all():
                raise ValueError(f"'{key}': got NaN or infinity in the merged model, expected finite numbers")
            progress(key)
            yield prefix + key, theta
        for key in structure(keep):
            yield key, keep[key]

    contents = {prefix + k: s for k, s in structure(theta_0).items()} | dict(structure(keep))
    metadata = {"format": "pt", "recipe": recipe, "lam": repr(lam), "versions": json.dumps(_versions())}
    metadata["inputs"] = json.dumps([fingerprint(model) for model in (theta_0, *thetas)])
    write_safetensors(out, contents, tensors(), metadata)
    return out


class _On(Mapping[str, Tensor]):
    """A task vector whose tensors arrive on a device when they are read."""

    def __init__(self, tau: Params, device: str | torch.device):
        self.tau, self.device, self.structure = tau, device, structure(tau)

    def __getitem__(self, key: str) -> Tensor:
        return self.tau[key].to(self.device)

    def __iter__(self):
        return iter(self.structure)

    def __len__(self) -> int:
        return len(self.structure)


def write_safetensors(
    path: Path, contents: Structure, tensors: Iterable[tuple[str, Tensor]], metadata: Mapping[str, str]
) -> None:
    """Write tensors one by one as they come; `contents` says beforehand which, with shapes and dtypes.

    The format: 8 bytes, the length of the header; the header, JSON: name -> dtype, shape, [begin, end) counted
    from the header's end; the tensors' bytes, without gaps. Wide dtypes go first, so that all stay aligned.
    Raises ValueError for a tensor that is not as announced or is missing.
    """
    path, header, end = Path(path), {"__metadata__": dict(metadata)}, 0
    for name, (shape, dtype) in sorted(contents.items(), key=lambda item: -item[1][1].itemsize):
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    table = json.dumps(header).encode()
    table += b" " * (-len(table) % 8)
    start, left = 8 + len(table), set(contents)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(len(table).to_bytes(8, "little") + table)
            f.truncate(start + end)
            for name, tensor in tensors:
                if name not in left or (tuple(tensor.shape), tensor.dtype) != contents[name]:
                    raise ValueError(
                        f"'{name}': got {tuple(tensor.shape)} {tensor.dtype}, expected {contents.get(name)}"
                    )
                left.remove(name)
                f.seek(start + header[name]["data_offsets"][0])
                f.write(_bytes(tensor))
            if left:
                raise ValueError(f"missing tensor '{min(left)}' ({len(left)} missing in all)")
        Path(part).chmod(0o644)  # mkstemp's own is for the owner only
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def fingerprint(model: Params) -> dict[str, str]:
    """What a model is, for the record: its file's name and sha256, or the sha256 of its tensors in memory."""
    path = getattr(model, "path", None)
    if path is not None:
        with Path(path).open("rb") as f:
            return {"file": Path(path).name, "sha256": hashlib.file_digest(f, "sha256").hexdigest()}
    digest = hashlib.sha256()
    for key in sorted(model):
        digest.update(key.encode())
        digest.update(_bytes(model[key]))
    return {"file": "", "sha256": digest.hexdigest()}


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "safetensors")}
