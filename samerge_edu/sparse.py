"""A task vector that is mostly zeros, in little space: where it is not zero, a bit an entry, and what stands there.

    "where"   uint8 (bytes,)   the bits of all tensors one after the other, packed and shrunk by zlib
    "values"  uint8 (bytes,)   the entries that are not 0, as whole numbers from -127 to 127, shrunk by zlib
    "scales"  float32 (tensors,)    by which those of a tensor are multiplied

Names and shapes are in the file's metadata. With a fifth of the entries a quarter of a byte each is enough: fp16 takes
eight times as much.
"""

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from .files import LazyParams, save_params
from .params import Params, check_finite, check_same_structure

SHAPES = "sparse_shapes"


def save_sparse(path: str | Path, tau: Params, metadata: Mapping[str, str] | None = None) -> None:
    """Write a task vector: what is 0 stays exactly 0, the rest is rounded to 127 steps up to its tensor's largest.

    Read it with `load_sparse`. An entry below half a step becomes 0. Raises ValueError for integer tensors, NaN,
    infinity, no tensors, and as `files.save_params`.
    """
    (tau,) = check_same_structure([tau])
    check_finite([tau])
    scales = torch.tensor([tau[key].abs().max().item() / 127 if tau[key].numel() else 0.0 for key in tau])
    whole = [(tau[key].float().cpu() / (s or 1)).round().flatten() for key, s in zip(tau, scales.tolist(), strict=True)]
    Q = torch.cat(whole).clamp(-127, 127).to(torch.int8).numpy()
    stored = {"where": shrunk(np.packbits(Q != 0)), "values": shrunk(Q[Q != 0]), "scales": scales}
    shapes = json.dumps({key: list(tau[key].shape) for key in tau})
    save_params(path, stored, {**(metadata or {}), SHAPES: shapes})


def load_sparse(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """The task vector of a file that `save_sparse` has written, in float32.

    Raises FileNotFoundError, ValueError for a file that is no safetensors file or that save_sparse has not written.
    """
    described = LazyParams(path)
    try:
        shapes = {key: tuple(shape) for key, shape in json.loads(described.metadata[SHAPES]).items()}
        sizes = [math.prod(shape) for shape in shapes.values()]
        with safe_open(path, framework="pt") as f:
            where = np.unpackbits(grown(f.get_tensor("where")), count=sum(sizes))
            values, scales = grown(f.get_tensor("values")).view(np.int8), f.get_tensor("scales")
        Q = np.zeros(sum(sizes), np.float32)
        Q[where.astype(bool)] = values
    except (KeyError, ValueError, zlib.error) as e:
        raise ValueError(f"{described.path.name}: expected a file that save_sparse has written: {e}") from e
    parts = zip(shapes.items(), torch.from_numpy(Q).split(sizes), scales, strict=True)
    return {key: (s * part).reshape(shape).to(device) for (key, shape), part, s in parts}


def shrunk(array: np.ndarray) -> Tensor:
    return torch.frombuffer(bytearray(zlib.compress(array.tobytes(), level=9)), dtype=torch.uint8)


def grown(tensor: Tensor) -> np.ndarray:
    return np.frombuffer(zlib.decompress(tensor.numpy().tobytes()), np.uint8)
