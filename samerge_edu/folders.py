"""Checkpoints as people have them: a state dict, a module, a safetensors file, a Hugging Face or a PEFT folder.

    open_model(source)         what there is to merge (lazy, where it is on disk), and what is kept beside it
    copy_beside(folder, out)   configuration, tokenizer: all that is no weights

A Hugging Face folder holds `model.safetensors`, or shards named in `model.safetensors.index.json`. A PEFT folder holds
an adapter: with its base it becomes an expert, theta_0 + s B A.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from .files import LazyParams
from .lora import CONFIG, Adapter, read_peft
from .params import Params, Structure, split_buffers, structure, working

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
NO_WEIGHTS = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "LICENSE*")
"""What is copied along: configurations, vocabularies, tokenizers, chat templates."""


@dataclass
class Opened:
    """A checkpoint: floating `params`; integer `buffers`, kept as they are; all names in their `order`; its `files`."""

    params: Params
    buffers: Params = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def open_model(source: Params | nn.Module | str | Path, base: Opened | None = None) -> Opened:
    """Open a model, whatever it is given as; what is on disk is read tensor by tensor when asked for.

    `base` is needed where the folder holds a PEFT adapter. Raises FileNotFoundError for what is not there, ValueError
    for what cannot be merged: a missing shard, pickled or quantised weights, an adapter without or of another base.
    """
    if isinstance(source, nn.Module):
        source = source.state_dict()
    if isinstance(source, Opened):
        return source
    if isinstance(source, LazyParams | Shards | Adapted):
        return Opened(source, {}, list(source))
    if isinstance(source, Mapping):
        if stray := [key for key, x in source.items() if not isinstance(x, Tensor)]:
            raise ValueError(f"'{stray[0]}': got {type(source[stray[0]]).__name__}, expected a tensor")
        floats, rest = split_buffers({key: x.detach() for key, x in source.items()})
        return Opened(floats, rest, list(source))
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    if path.is_file():
        return _of_files({path.name: None}, path.parent)
    if (path / CONFIG).is_file():
        return Opened(_adapted(path, base))
    return _of_folder(path)


def _of_folder(folder: Path) -> Opened:
    config = json.loads(text(folder / "config.json")) if (folder / "config.json").is_file() else {}
    if how := config.get("quantization_config"):
        raise ValueError(
            f"{folder.name} is quantised ({how.get('quant_method', 'unknown method')}): its tensors are codes, not "
            "weights, and cannot be added; take the unquantised checkpoint"
        )
    if (folder / INDEX).is_file():
        where = json.loads(text(folder / INDEX))["weight_map"]
        names = {shard: [key for key, s in where.items() if s == shard] for shard in dict.fromkeys(where.values())}
        if missing := [shard for shard in names if not (folder / shard).is_file()]:
            raise FileNotFoundError(
                f"{folder.name}: missing shard {missing[0]} ({len(missing)} of {len(names)} in all)"
            )
        return _of_files(names, folder)
    if (folder / SINGLE).is_file():
        return _of_files({SINGLE: None}, folder)
    if pickles := sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]):
        raise ValueError(
            f"{folder.name} holds {pickles[0].name}, a pickle, which may run code when it is opened: load it where you "
            "trust it and save it again with save_pretrained(folder), which writes safetensors"
        )
    raise FileNotFoundError(f"{folder.name}: got neither {SINGLE} nor {INDEX} nor {CONFIG}")


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _of_files(names: Mapping[str, list[str] | None], folder: Path) -> Opened:
    """Shard -> the tensors that the index says it holds (None: no index) -> one model, shard after shard."""
    files = {shard: LazyParams(folder / shard) for shard in names}
    for shard, expected in names.items():
        there = {*files[shard].structure, *files[shard].buffers}
        if expected is not None and (lost := sorted(set(expected) - there)):
            raise ValueError(
                f"{folder.name}/{shard}: missing tensor '{lost[0]}' ({len(lost)} in all), named in {INDEX}"
            )
    params, rest = Shards(list(files.values())), {}
    for lazy in files.values():
        with safe_open(lazy.path, framework="pt") as f:
            rest |= {key: f.get_tensor(key) for key in lazy.buffers}
    if packed := [key for key, x in rest.items() if x.ndim >= 2 and key.endswith(("weight", "qweight", "packed"))]:
        raise ValueError(
            f"{folder.name}, key '{packed[0]}': got {rest[packed[0]].dtype}: quantised weights, not to be added"
        )
    order = [key for lazy in files.values() for key in [*lazy.structure, *lazy.buffers]]
    return Opened(params, rest, order, [lazy.path for lazy in files.values()])


class Shards(Mapping[str, Tensor]):
    """Several safetensors files as one read-only model, in the order of the files."""

    def __init__(self, files: list[LazyParams]):
        self.files = files
        self.home = {key: lazy for lazy in files for key in lazy}
        self.structure: Structure = {key: lazy.structure[key] for key, lazy in self.home.items()}
        if len(files) == 1:
            self.path = files[0].path  # for the fingerprint in the result's metadata

    def __getitem__(self, key: str) -> Tensor:
        return self.home[key][key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.structure)

    def __len__(self) -> int:
        return len(self.structure)


# ---------------------------------------------------------------------------- adapters


class Adapted(Mapping[str, Tensor]):
    """theta_0 + s B A, the expert that an adapter makes of its base, tensor by tensor.

    In float32 where the base has 16 bits: the update would drown in the rounding of the sum.
    """

    def __init__(self, theta_0: Params, adapter: Adapter):
        self.theta_0, self.adapter = theta_0, adapter
        self.structure: Structure = structure(theta_0)

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.adapter:
            return self.theta_0[key]
        A, B, scale = self.adapter[key]
        return working(self.theta_0[key]) + scale * (working(B) @ working(A))

    def __iter__(self) -> Iterator[str]:
        return iter(self.structure)

    def __len__(self) -> int:
        return len(self.structure)


def _adapted(folder: Path, base: Opened | None) -> Adapted:
    if base is None:
        raise ValueError(f"{folder.name} is an adapter: give its base as the base, and the adapter as an expert")
    adapter, theta_0 = read_peft(folder), structure(base.params)
    for key, (A, B, _) in adapter.items():
        if key not in theta_0:
            raise ValueError(f"{folder.name}: adapts '{key}', which the base does not have: an adapter of another base")
        if (got := (B.shape[0], A.shape[1])) != theta_0[key][0]:
            raise ValueError(
                f"{folder.name}, key '{key}': got an update of shape {got}, expected {theta_0[key][0]}: "
                "an adapter of another base"
            )
    return Adapted(base.params, adapter)


# ---------------------------------------------------------------------------- what goes along


def copy_beside(folder: Path, out: Path) -> list[str]:
    """Copy what is no weights from a model's folder: configuration, tokenizer. Returns the names."""
    copied = []
    for pattern in NO_WEIGHTS:
        for file in sorted(folder.glob(pattern)):
            if file.is_file() and file.name not in (INDEX, CONFIG):
                shutil.copyfile(file, out / file.name)
                copied.append(file.name)
    return copied
