"""A task vector for another base: "Update your transformer to the latest release" (Rinaldi et al., 2025, TransFusion,
arXiv:2505.22697).

An expert's base is replaced by a new release of another training. Its task vector belongs to the old base's units; it
is carried to theirs in the new one, by matching the two bases, of which neither knows the task:

    tau' = pi(tau), pi from theta_0 and theta_new         theta = theta_new + alpha tau'

A map is a matrix for each shared order, M (n, n) with new ~ M old: a permutation; inside an attention head any rotation
will do, because q . k and out v stay the same if both are rotated.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ..matrices import nearest_orthonormal
from ..params import Params, check_finite, check_same_structure, working
from .axes import Axes, Permutations
from .weight_matching import assign, gains, weight_matching

Maps = Mapping[str, Tensor]
"""name -> M (n, n), orthogonal: the new units, written in the old ones."""


def rebasin(
    theta_0: Params,
    theta_new: Params,
    axes: Axes,
    *,
    generator: torch.Generator,
    inside: Literal["permutation", "orthogonal"] = "permutation",
    sweeps: int = 100,
) -> dict[str, Tensor]:
    """The maps from the old base's units to the new one's; `carry(tau, maps, axes)` then moves a task vector.

    Args:
        theta_0, theta_new: the two bases, of the same tensors, in the same embedding (see `shared_embedding`).
        axes: which axes share an order: `vit_axes(theta, heads)`.
        generator: for `weight_matching`.
        inside: inside a head "permutation" (the paper's), or "orthogonal", the best rotation (Procrustes).
        sweeps: for `weight_matching`.
    Two levels, as published: which head goes where is decided by what no rotation inside a head and no order of the
    residual stream changes, the singular values of its matrices (`head_order`); then the units, everywhere, by
    `weight_matching`.
    Raises ValueError for bases of different tensors, NaN, an unknown `inside`.
    Differs: one order for the whole residual stream, so that the network stays one (theirs changes at every block, and
    a matrix is put on the skip); q and k have an order of their own, beside that of v and the output (theirs: one of
    all); the output's matrix counts as well when heads are paired.
    """
    if inside not in ("permutation", "orthogonal"):
        raise ValueError(f"inside: got {inside!r}, expected 'permutation' or 'orthogonal'")
    old, new = check_same_structure([theta_0, theta_new], what="base")
    check_finite([old, new], what="base")
    old, new = ({key: working(base[key]) for key in base} for base in (old, new))
    P = weight_matching(
        new, old, axes, generator=generator, sweeps=sweeps, head_order=head_order(new, old, axes)
    )  # fmt: skip
    maps = as_matrices(P)
    if inside == "orthogonal":
        for (qk, vo), heads in axes.heads.items():
            for name in (qk, vo):  # neither hangs on the other's
                maps[name] = _rotations(gains(new, old, name, P, axes), P[name], heads)
    return maps


def head_order(theta_a: Params, theta_b: Params, axes: Axes) -> dict[tuple[str, str], list[int]]:
    """Which head of theta_b is like which of theta_a: (q and k's name, v's name) -> head order[i] comes to place i.

        min over orders   sum_i sum over q, k, v, out   || s(A's head i) - s(B's head order[i]) ||

    s: the singular values of a head's matrix (units of the head, width), which stay the same when its units, or the
    residual stream, are permuted or rotated.
    """
    places = axes.places(theta_a)
    found = {}
    for (qk, vo), heads in axes.heads.items():
        distance = torch.zeros(heads, heads, dtype=torch.float64)
        for name in (qk, vo):
            n, where = places[name]
            for key, axis, start in where:
                if theta_a[key].ndim > 1:
                    s_a, s_b = (_head_spectra(theta[key], axis, start, n, heads) for theta in (theta_a, theta_b))
                    distance += torch.cdist(s_a, s_b)
        found[qk, vo] = assign(-distance).tolist()
    return found


def _head_spectra(tensor: Tensor, axis: int, start: int, n: int, heads: int) -> Tensor:
    """(heads, d): the singular values of each head's slice of one matrix."""
    units = tensor.movedim(axis, 0)[start : start + n].double().cpu()
    return torch.linalg.svdvals(units.reshape(heads, n // heads, -1))


def _rotations(C: Tensor, P: Tensor, heads: int) -> Tensor:
    """(n, n): for each head the rotation that is worth most under C, at the place where P puts the head."""
    d, M = len(P) // heads, torch.zeros_like(C)
    for i in range(heads):
        j = int(P[i * d]) // d
        here, there = slice(i * d, (i + 1) * d), slice(j * d, (j + 1) * d)
        M[here, there] = nearest_orthonormal(C[here, there])
    return M


def as_matrices(permutations: Permutations) -> dict[str, Tensor]:
    """name -> M (n, n), float64, with M x = x[P] for the P of `permutations`."""
    return {name: torch.eye(len(P), dtype=torch.float64)[P] for name, P in permutations.items()}


def carry(tau: Params, maps: Maps, axes: Axes) -> dict[str, Tensor]:
    """A task vector (or a network) in the units of the new base: every axis times the map of its name.

    Raises ValueError for a map that is missing, unknown, or not (n, n) for n units; and as `Axes.places`.

    >>> from samerge_edu.alignment.axes import chain_axes
    >>> tau = {"0.weight": torch.tensor([[1.0], [2.0]]), "2.weight": torch.tensor([[3.0, 4.0]])}
    >>> carry(tau, {"hidden.1": torch.tensor([[0.0, 1.0], [1.0, 0.0]])}, chain_axes(tau))["2.weight"]
    tensor([[4., 3.]])
    """
    places = axes.places(tau)
    for name in [*places, *maps]:
        if name not in maps or name not in places:
            raise ValueError(f"'{name}' is {'missing from the maps' if name in places else 'unknown to the axes'}")
        n = places[name][0]
        if maps[name].shape != (n, n):
            raise ValueError(f"'{name}': got a map of shape {tuple(maps[name].shape)}, expected {(n, n)}")
    moved = {}
    for key in tau:
        x = working(tau[key]).double()
        for axis, names in enumerate(axes.of[key]):
            parts = () if names is None else (names,) if isinstance(names, str) else names
            if parts:
                chunks = x.movedim(axis, 0).chunk(len(parts))
                turned = [torch.tensordot(maps[name].to(x), part, 1) for name, part in zip(parts, chunks, strict=True)]
                x = torch.cat(turned).movedim(0, axis)
        moved[key] = x.to(working(tau[key]).dtype)
    return moved


# ---------------------------------------------------------------------------- two embeddings


def shared_embedding(texts: Tensor, texts_new: Tensor) -> Tensor:
    """Q (dim, dim): the old embedding's coordinates, turned into the new one's: texts @ Q ~ texts_new.

    Two CLIPs of two beginnings agree in what is close to what, and in no coordinate. Both have read the same captions:
    texts, texts_new (captions, dim) are their features; Q is the rotation that brings them closest (Procrustes). A
    direction that no caption has is dropped: no class head has it either.
    Raises ValueError for features of different shapes, and NaN.
    """
    if texts.shape != texts_new.shape or texts.ndim != 2:
        raise ValueError(
            f"texts: got {tuple(texts.shape)} and {tuple(texts_new.shape)}, expected (captions, dim) twice"
        )
    if not (texts.isfinite().all() and texts_new.isfinite().all()):
        raise ValueError("texts: got NaN or infinity, expected finite features")
    return nearest_orthonormal(texts.T @ texts_new)


def turned(theta: Params, Q: Tensor, key: str = "proj") -> dict[str, Tensor]:
    """A tower (or a task vector) that answers in the other embedding: its last matrix (width, dim) times Q."""
    return {k: theta[k] @ Q.to(theta[k]) if k == key else theta[k] for k in theta}
