"""A model in a byte an entry: each row of a matrix as whole numbers from -127 to 127, times one scale.

    s_i = max_j |W_ij| / 127        Q_ij = round(W_ij / s_i)        W_ij ~ s_i Q_ij, wrong by s_i / 2 at most

Half the size of 16 bits. Of an expert store the task vector: its entries are smaller than the model's, and so are the
errors.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float, Int8
from safetensors import safe_open
from torch import Tensor

from .files import LazyParams, save_params
from .params import Params, check_finite, check_same_structure, working

SCALE = ".int8_scale"
"""What the name of a tensor of scales ends with."""


def quantize(
    tensor: Float[Tensor, " rows *shape"],
) -> tuple[Int8[Tensor, " rows *shape"], Float[Tensor, " rows"]]:
    """(Q, s): whole numbers from -127 to 127, and one scale a row; a row of zeros has the scale 0.

    A row is what one index of the first axis names: of a convolution a whole filter. Halves are rounded to even.

    >>> Q, s = quantize(torch.tensor([[2.54, -1.0, 0.0], [0.0, 0.0, 0.0]]))
    >>> Q.tolist(), [round(x, 6) for x in s.tolist()]
    ([[127, -50, 0], [0, 0, 0]], [0.02, 0.0])
    """
    rows = working(tensor).flatten(1)
    s = rows.abs().amax(dim=1) / 127
    Q = (rows / s.where(s > 0, 1)[:, None]).round().clamp(-127, 127).to(torch.int8)
    return Q.reshape(tensor.shape), s


def dequantize(Q: Int8[Tensor, " rows *shape"], s: Float[Tensor, " rows"]) -> Float[Tensor, " rows *shape"]:
    """s_i Q_ij, in the dtype of s."""
    return (s[:, None] * Q.flatten(1)).reshape(Q.shape)


def rounded(params: Params) -> dict[str, Tensor]:
    """What a file of `save_int8` gives back, without the file."""
    return {k: x if x.ndim < 2 or not x.numel() else dequantize(*quantize(x)) for k, x in params.items()}


def save_int8(path: str | Path, params: Params, metadata: Mapping[str, str] | None = None) -> None:
    """Write a model, or a task vector, as int8; vectors (biases, gains) and single numbers are written as they are.

    Read it with `LazyInt8`. Raises ValueError for integer tensors, NaN, infinity, and as `files.save_params`.
    """
    (params,) = check_same_structure([params], what="model")
    check_finite([params], what="model")
    stored: dict[str, Tensor] = {}
    for key in params:
        if params[key].ndim < 2 or not params[key].numel():
            stored[key] = params[key]
        else:
            stored[key], stored[key + SCALE] = quantize(params[key])
    save_params(path, stored, metadata)


class LazyInt8(LazyParams):
    """A file of `save_int8`, read one tensor at a time as float32 (or as `dtype`): what `LazyParams` is for others.

    Raises ValueError, FileNotFoundError as `LazyParams`, and ValueError for a file that holds no scales.
    """

    def __init__(self, path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32):
        super().__init__(path, device, dtype)
        with safe_open(self.path, framework="pt") as f:
            shapes = {k: tuple(f.get_slice(k).get_shape()) for k in self.buffers}
        self.scaled = {k for k in shapes if k + SCALE in self.structure}
        if not self.scaled:
            raise ValueError(f"{self.path.name}: got no '...{SCALE}', expected a file that save_int8 has written")
        self.buffers = [k for k in self.buffers if k not in self.scaled]
        floats = {k: spec for k, spec in self.structure.items() if not k.endswith(SCALE)}
        self.structure = {k: (shapes[k], dtype) for k in shapes if k in self.scaled} | floats

    def _read(self, keys: Iterable[str]) -> dict[str, Tensor]:
        tensors = {}
        with safe_open(self.path, framework="pt", device=self.device) as f:
            for key in keys:
                whole = f.get_tensor(key)
                if key in self.scaled:
                    whole = dequantize(whole, f.get_tensor(key + SCALE))
                tensors[key] = whole.to(self.structure[key][1], copy=True)
        return tensors
