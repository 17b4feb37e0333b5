"""Models in safetensors files: read one tensor at a time or whole, written in one piece, or tensor by tensor."""

import hashlib
import json
import math
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .params import Params, Structure, structure

_NAMES = {  # the types that are read and written, as the format calls them
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.bool: "BOOL"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8"},
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


# ---------------------------------------------------------------------------- read


class LazyParams(Mapping[str, Tensor]):
    """A safetensors file read one tensor at a time, so that no model need fit in memory twice.

    Behaves as a read-only `Params`; each access reads that tensor from disk again, as `dtype` if one is
    given, else as it was stored. What you get is a copy: the file may change afterwards. Integer buffers in the file
    are left out and named in `buffers`. Raises ValueError for a file that is no safetensors file, that holds a type of
    numbers not supported here (8-bit floats), or that was replaced meanwhile by one of other tensors;
    FileNotFoundError for one that is not there.
    """

    fresh = True  # each reading gives new memory, which the reader may change: see `params.own`

    def __init__(self, path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None):
        self.path, self.device, self.dtype = Path(path), str(device), dtype
        if not self.path.is_file():
            raise FileNotFoundError(f"no such file: {self.path.name} (in {self.path.parent.name or '.'})")
        try:
            with safe_open(self.path, framework="pt") as f:
                self.metadata: dict[str, str] = dict(f.metadata() or {})
                slices = {k: f.get_slice(k) for k in f.keys()}  # no dict, it has no items()
                spec = {k: (tuple(part.get_shape()), part.get_dtype()) for k, part in slices.items()}
        except SafetensorError as e:
            raise ValueError(f"{self.path.name} is not a readable safetensors file: {e}") from e
        for key, (_, kind) in spec.items():
            if kind not in _DTYPES:
                raise ValueError(f"{self.path.name}, key '{key}': got numbers of type {kind}, expected {list(_DTYPES)}")
        spec = {k: (shape, _DTYPES[kind]) for k, (shape, kind) in spec.items()}
        self.structure: Structure = {
            k: (shape, dtype or stored) for k, (shape, stored) in spec.items() if stored.is_floating_point
        }
        self.buffers: list[str] = [k for k in spec if k not in self.structure]

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.structure:
            raise KeyError(key)
        return self._read([key])[key]

    def read_all(self) -> dict[str, Tensor]:
        """Every floating tensor, in memory; the file is opened once."""
        return self._read(self.structure)

    def _read(self, keys: Iterable[str]) -> dict[str, Tensor]:
        tensors = {}
        try:
            with safe_open(self.path, framework="pt", device=self.device) as f:
                for key in keys:
                    shape, dtype = self.structure[key]
                    # a copy: the library's own tensor is a view of the file, and dies with it
                    tensors[key] = f.get_tensor(key).to(dtype, copy=True)
                    if tensors[key].shape != shape:
                        raise ValueError(f"key '{key}': got shape {tuple(tensors[key].shape)}, expected {shape}")
        except (SafetensorError, ValueError) as e:
            raise ValueError(f"{self.path.name} is not the file that was opened first: {e}") from e
        return tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.structure)

    def __len__(self) -> int:
        return len(self.structure)


def load_params(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Every floating tensor of a safetensors file, in memory. For one at a time use `LazyParams`."""
    return LazyParams(path, device).read_all()


# ---------------------------------------------------------------------------- write


def save_params(path: str | Path, params: Params, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; an interrupted write leaves the old file, or none, never half of one.

    Raises ValueError for what is no dictionary of tensors, a type of numbers that cannot be read back here, the name
    "__metadata__", which the format keeps for itself, and metadata that is not text.
    """
    check_contents(structure(params), metadata or {})
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
    check_contents(contents, metadata)
    header: dict[str, dict] = {"__metadata__": dict(metadata)}
    end = 0
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


def check_contents(contents: Structure, metadata: Mapping[str, str]) -> None:
    """Raise ValueError for what would make a file that cannot be read: names, types of numbers, metadata."""
    for name, (_, dtype) in contents.items():
        if not isinstance(name, str) or name == "__metadata__":
            raise ValueError(f"got a tensor named {name!r}, expected text other than '__metadata__'")
        if dtype not in _NAMES:
            raise ValueError(f"'{name}': got {dtype}, expected one of {', '.join(map(str, _NAMES))}")
    for name, text in metadata.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise ValueError(f"metadata: got {name!r}: {text!r}, expected text")


def replace_file(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `target`, then move it there: an interrupted write leaves the old file, or none.

    The new file is as open to others as the process's umask says, like any other new file. Errors, Ctrl-C, SIGTERM
    and a closed terminal take the half-written file away; a power cut leaves it, with the ending ".part".
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    os.close(handle)
    part = Path(name)
    with _removed_by_signals(part):
        try:
            write(part)
            share(part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _removed_by_signals(part: Path) -> Generator[None]:
    """While this lasts, a signal that ends the process removes `part` before; handlers of others are left alone."""
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield
        return

    def end(number: int, frame: object) -> None:
        part.unlink(missing_ok=True)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    deadly = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP
    deadly = [number for number in deadly if signal.getsignal(number) is signal.SIG_DFL]
    for number in deadly:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in deadly:
            signal.signal(number, signal.SIG_DFL)


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
