"""Which axes of a network share an order: the same spec serves to permute a network and to match two.

The units of a hidden layer have no order of their own. To permute them is to permute the rows of the matrix that writes
them, its bias, and the columns of the matrix that reads them: three axes, one permutation. In a ViT:

    residual        160   everything that is added up: embeddings, norms, what blocks read and write, the rows of `proj`
    blocks.i.mlp    640   rows of c_fc, columns of c_proj
    blocks.i.qk     160   rows of q and of k: whole heads change places, and units inside each head
    blocks.i.vo     160   rows of v, columns of out_proj: the same heads, other units
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..params import Params, structure

Axis = str | tuple[str, ...] | None
"""What orders one axis: a name; the names of several parts that lie one behind the other; or None, no freedom."""

Permutations = Mapping[str, Tensor]
"""name -> P (n,), int64: the new i-th unit is the old P[i]-th."""


class Place(NamedTuple):
    """Where a name occurs: entries start .. start + n of this axis of this tensor."""

    key: str
    axis: int
    start: int


@dataclass(frozen=True)
class Axes:
    """The spec of an architecture.

    of        tensor -> what orders each of its axes
    heads     (name of q and k's order, name of v's and the output's) -> number of heads: both move whole heads alike
    """

    of: Mapping[str, tuple[Axis, ...]]
    heads: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def places(self, theta: Params) -> dict[str, tuple[int, list[Place]]]:
        """name -> (how many units n, where they occur); raises ValueError unless theta is as the spec says."""
        shapes = {key: shape for key, (shape, _) in structure(theta).items()}
        if missing := [key for key in self.of if key not in shapes]:
            raise ValueError(f"missing key '{missing[0]}' ({len(missing)} in all): the axes have it")
        if extra := [key for key in shapes if key not in self.of]:
            raise ValueError(f"unknown key '{extra[0]}' ({len(extra)} in all): the axes do not have it")
        found: dict[str, tuple[int, list[Place]]] = {}
        for key, axes in self.of.items():
            if len(axes) != len(shapes[key]):
                raise ValueError(f"'{key}': got shape {shapes[key]}, expected {len(axes)} axes")
            for axis, names in enumerate(axes):
                parts = _parts(names)
                for number, name in enumerate(parts):
                    n, rest = divmod(shapes[key][axis], len(parts))
                    expected, places = found.setdefault(name, (n, []))
                    if n != expected or rest:
                        raise ValueError(
                            f"'{key}': got {shapes[key][axis]} entries along axis {axis}, expected "
                            f"{expected * len(parts)}: '{name}' has {expected} units in '{places[0].key}'"
                        )
                    places.append(Place(key, axis, number * n))
        for (qk, vo), heads in self.heads.items():
            for name in (qk, vo):
                if heads < 1 or found[name][0] % heads:
                    raise ValueError(
                        f"heads: got {heads}, expected a divisor of the width {found[name][0]} of '{name}'"
                    )
        return found


def _parts(names: Axis) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else names


# ---------------------------------------------------------------------------- specs


def chain_axes(theta: Params) -> Axes:
    """The spec of a chain of linear layers (an MLP): `a.weight` (out, in), `a.bias`, ..., in the order of the layers.

    The units of layer l are "hidden.l", counted from 1; inputs and outputs keep their order. Raises ValueError for a
    tensor that is no weight or bias of such a layer, and for a layer that does not take what the one before gives.

    >>> chain_axes({"0.weight": torch.zeros(3, 2), "0.bias": torch.zeros(3), "2.weight": torch.zeros(1, 3)}).of
    {'0.weight': ('hidden.1', None), '0.bias': ('hidden.1',), '2.weight': (None, 'hidden.1')}
    """
    shapes = {key: shape for key, (shape, _) in structure(theta).items()}
    layers = [key.removesuffix(".weight") for key in shapes if key.endswith(".weight") and len(shapes[key]) == 2]
    if strange := [
        k for k in shapes if k not in {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    ]:
        raise ValueError(f"'{strange[0]}': got shape {shapes[strange[0]]}, expected weights (out, in) and biases only")
    of: dict[str, tuple[Axis, ...]] = {}
    before: str | None = None
    for number, layer in enumerate(layers, start=1):
        rows, columns = shapes[f"{layer}.weight"]
        if number > 1 and columns != (given := shapes[f"{layers[number - 2]}.weight"][0]):
            raise ValueError(f"'{layer}.weight': got {columns} inputs, expected {given}, as the layer before it gives")
        after = f"hidden.{number}" if number < len(layers) else None
        of[f"{layer}.weight"] = (after, before)
        if f"{layer}.bias" in shapes:
            if shapes[f"{layer}.bias"] != (rows,):
                raise ValueError(f"'{layer}.bias': got shape {shapes[f'{layer}.bias']}, expected {(rows,)}")
            of[f"{layer}.bias"] = (after,)
        before = after
    return Axes(of)


def vit_axes(theta: Params, heads: int) -> Axes:
    """The spec of open_clip's image tower (names without "visual."), with `heads` heads in each block.

    Pixels, positions and the coordinates of the embedding keep their order. Raises ValueError for heads that do not
    divide the width, for a missing tensor, and for one that such a tower does not have.
    """
    of: dict[str, tuple[Axis, ...]] = {
        "class_embedding": ("residual",),
        "positional_embedding": (None, "residual"),
        "conv1.weight": ("residual", None, None, None),
        "proj": ("residual", None),
    }
    of |= {f"{norm}.{part}": ("residual",) for norm in ("ln_pre", "ln_post") for part in ("weight", "bias")}
    pairs = {}
    for i in sorted({int(key.split(".")[2]) for key in structure(theta) if key.startswith("transformer.resblocks.")}):
        block, qk, vo, mlp = f"transformer.resblocks.{i}", f"blocks.{i}.qk", f"blocks.{i}.vo", f"blocks.{i}.mlp"
        of |= {f"{block}.{norm}.{part}": ("residual",) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}
        of |= {
            f"{block}.attn.in_proj_weight": ((qk, qk, vo), "residual"),  # q, k and v, one behind the other
            f"{block}.attn.in_proj_bias": ((qk, qk, vo),),
            f"{block}.attn.out_proj.weight": ("residual", vo),
            f"{block}.attn.out_proj.bias": ("residual",),
            f"{block}.mlp.c_fc.weight": (mlp, "residual"),
            f"{block}.mlp.c_fc.bias": (mlp,),
            f"{block}.mlp.c_proj.weight": ("residual", mlp),
            f"{block}.mlp.c_proj.bias": ("residual",),
        }
        pairs[qk, vo] = heads
    axes = Axes(of, pairs)
    axes.places(theta)
    return axes


# ---------------------------------------------------------------------------- permutations


def identity(theta: Params, axes: Axes) -> dict[str, Tensor]:
    """Everything stays where it is."""
    return {name: torch.arange(n) for name, (n, _) in axes.places(theta).items()}


def shuffled(theta: Params, axes: Axes, generator: torch.Generator) -> dict[str, Tensor]:
    """Drawn by lot among those that keep the function: whole heads, then units inside each."""
    draw = {name: torch.randperm(n, generator=generator) for name, (n, _) in axes.places(theta).items()}
    for (qk, vo), heads in axes.heads.items():
        order = torch.randperm(heads, generator=generator)
        for name in (qk, vo):
            d = len(draw[name]) // heads
            draw[name] = torch.cat([h * d + torch.randperm(d, generator=generator) for h in order.tolist()])
    return draw


def inverse(permutations: Permutations) -> dict[str, Tensor]:
    """What undoes `permute` by them."""
    return {name: P.argsort() for name, P in permutations.items()}


def permute(theta: Params, permutations: Permutations, axes: Axes) -> dict[str, Tensor]:
    """The same network with its units in another order; also a task vector of such a network.

        new[i, j] = old[P_rows[i], P_columns[j]]

    The function stays: each axis that shares a name is permuted alike. Raises ValueError for names that are missing or
    unknown, for what is no permutation of 0 .. n - 1, for heads torn apart, or moved in q and k but not in v, and for
    tensors that are not as the axes say.

    >>> theta = {"0.weight": torch.tensor([[1.0], [2.0]]), "2.weight": torch.tensor([[3.0, 4.0]])}
    >>> permute(theta, {"hidden.1": torch.tensor([1, 0])}, chain_axes(theta))["2.weight"]
    tensor([[4., 3.]])
    """
    check_permutations(theta, permutations, axes)
    return {key: reordered(theta[key], axes.of[key], permutations) for key in theta}


def reordered(tensor: Tensor, spec: tuple[Axis, ...], permutations: Permutations, but: int | None = None) -> Tensor:
    """One tensor, whose axes the `spec` names, with each in its new order, except axis `but`."""
    for axis, parts in enumerate(map(_parts, spec)):
        if parts and axis != but:
            size = tensor.shape[axis] // len(parts)
            P = torch.cat([permutations[name] + number * size for number, name in enumerate(parts)])
            tensor = tensor.index_select(axis, P.to(tensor.device))
    return tensor


def check_permutations(theta: Params, permutations: Permutations, axes: Axes) -> None:
    """Raise ValueError unless these permutations fit the network and keep its function."""
    places = axes.places(theta)
    for name in [*places, *permutations]:
        if name not in permutations or name not in places:
            what = "missing from the permutations" if name in places else "unknown to the axes"
            raise ValueError(f"'{name}' is {what}")
    for name, (n, _) in places.items():
        P = permutations[name]
        if P.shape != (n,) or not torch.equal(P.sort().values.cpu(), torch.arange(n)):
            raise ValueError(f"'{name}': got {tuple(P.shape)} indices, expected each of 0 .. {n - 1} once")
    for (qk, vo), heads in axes.heads.items():
        order = []
        for name in (qk, vo):
            of_head = (permutations[name] // (places[name][0] // heads)).reshape(heads, -1)
            if (of_head != of_head[:, :1]).any():
                raise ValueError(f"'{name}': a head is torn apart, expected whole heads of {of_head.shape[1]} units")
            order.append(of_head[:, 0].tolist())
        if order[0] != order[1]:
            raise ValueError(f"'{qk}' has the heads in the order {order[0]}, '{vo}' in {order[1]}: expected one order")
