"""Models in safetensors files: read one tensor at a time or whole, written in one piece, or tensor by tensor."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .params import Params, Structure

_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


# ---------------------------------------------------------------------------- read


class LazyParams(Mapping[str, Tensor]):
    """A safetensors file read one tensor at a time, so that no model need fit in memory twice.

    Behaves as a read-only `Params`; each access reads that tensor from disk again, as `dtype` if one is
    given, else as it was stored. Integer buffers in the file are left out and named in `buffers`. Raises
    ValueError for a file that is no safetensors file, FileNotFoundError for one that is not there.
    """

    def __init__(self, path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None):
        self.path, self.device, self.dtype = Path(path), str(device), dtype
        if not self.path.is_file():
            raise FileNotFoundError(f"no such file: {self.path.name} (in {self.path.parent.name or '.'})")
        try:
            with safe_open(self.path, framework="pt") as f:
                self.metadata: dict[str, str] = dict(f.metadata() or {})
                spec = {k: _spec_of_slice(f.get_slice(k)) for k in f.keys()}  # no dict, it has no items()
        except SafetensorError as e:
            raise ValueError(f"{self.path.name} is not a readable safetensors file: {e}") from e
        self.structure: Structure = {
            k: (shape, dtype or stored) for k, (shape, stored) in spec.items() if stored.is_floating_point
        }
        self.buffers: list[str] = [k for k in spec if k not in self.structure]

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.structure:
            raise KeyError(key)
        with safe_open(self.path, framework="pt", device=self.device) as f:
            return f.get_tensor(key).to(self.structure[key][1])

    def __iter__(self) -> Iterator[str]:
        return iter(self.structure)

    def __len__(self) -> int:
        return len(self.structure)


def _spec_of_slice(tensor_slice) -> tuple[tuple[int, ...], torch.dtype]:
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"}
    names |= {f"I{b}": f"int{b}" for b in (8, 16, 32, 64)} | {"U8": "uint8"}
    kind = tensor_slice.get_dtype()
    if kind not in names:
        raise ValueError(f"unsupported tensor type in file: got {kind}, expected one of {sorted(names)}")
    return tuple(tensor_slice.get_shape()), getattr(torch, names[kind])


def load_params(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Every floating tensor of a safetensors file, in memory. For one at a time use `LazyParams`."""
    return dict(LazyParams(path, device).items())


# ---------------------------------------------------------------------------- write


def save_params(path: str | Path, params: Params, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; an interrupted write leaves the old file, or none, never half of one."""
    # copies, because safetensors refuses tensors that share memory: tied weights, slices of one vector
    tensors = {k: params[k].detach().cpu().clone(memory_format=torch.contiguous_format) for k in params}
    replace_file(Path(path), lambda part: save_file(tensors, part, metadata=dict(metadata or {})))


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

    def write(part: Path) -> None:
        with part.open("wb") as f:
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

    replace_file(path, write)


def replace_file(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `target`, then move it there: an interrupted write leaves the old file, or none.

    The new file is as open to others as the process's umask says, like any other new file.
    """
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    os.close(handle)
    try:
        write(Path(part))
        share(Path(part))
        os.replace(part, target)
    finally:
        Path(part).unlink(missing_ok=True)


def share(file: Path) -> None:
    """The permissions that a new file has under the process's umask; mkstemp's are for the owner only."""
    umask = os.umask(0)  # there is no way to look at it without setting it
    os.umask(umask)
    file.chmod(0o666 & ~umask)


# ---------------------------------------------------------------------------- what a model is, for the record


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
