"""ZipIt! (Stoica et al., 2024, arXiv:2305.03053): merge by features, also two of one model, and stop where they part.

A permutation gives every unit of A one of B. Networks of different tasks do not have the same features, but each of
them has some twice. ZipIt! puts all units of both into one heap, and pairs what is most alike:

    M (n, 2n)  merge:   the mean of each group          f = M [f_a; f_b]
    U (2n, n)  unmerge: each unit gets its group's      [f_a; f_b] ~ U f
    W = M_out [W_a  0; 0  W_b] U_in                     what is merged at the output is unmerged at the next input

Not covered: in a ViT the residual stream, attention, embeddings and norms; `zip_mlps` zips the hidden units of its MLP
blocks and takes the mean of everything else, which suits two experts of one base. No BatchNorm, so nothing is reset.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..params import Params, check_finite, check_same_structure, structure
from .axes import Axes, chain_axes

Features = Mapping[str, Tensor]
"""name of a shared order, as in `axes` -> (samples, n): what its units say to some inputs."""


@dataclass(frozen=True)
class Zipped:
    """Two chains grown together from the input on: `trunk` is shared, `heads` (one each) read its last features."""

    trunk: dict[str, Tensor]
    heads: tuple[dict[str, Tensor], dict[str, Tensor]]


def match(f_a: Tensor, f_b: Tensor, *, alpha: float = 0.3, beta: float = 0.125) -> tuple[Tensor, Tensor]:
    """(M, U): which of the 2n units of both networks become one; n groups are left.

    Args:
        f_a, f_b: (samples, n) features of both at the same inputs.
        alpha: what the correlations of a merged group are multiplied by, in [0, 1]: 1 groups freely, 0 pairs only.
        beta: which share of the merges of a network may be within itself, in [0, 1]; 0 is a pairing A with B.
    Greedy: the pair of the highest correlation becomes one; its correlation with another is the smaller of the
    two, times alpha. A constant unit correlates 0 with all. Both defaults are those of the authors' code.
    Raises ValueError for features of different shapes, fewer than 2 samples, NaN, alpha or beta outside [0, 1].
    When a network's budget is spent, its units, and groups that hold one, do not meet again. Differs from the code: a
    budget of 0 forbids the first merge within a network too; alpha multiplies positive correlations only (theirs brings
    negative ones closer to 0); with alpha = 0 a group is less like any unit than two opposites are.
    Budgets never forbid every pair: while more than n groups are left, each network has one of its own units alone, and
    these two may meet.

    >>> f = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> match(f, f.flip(1), beta=0.0)[1].int().tolist()      # rows a0, a1, b0, b1: a0 and b1 are one, a1 and b0
    [[1, 0], [0, 1], [0, 1], [1, 0]]
    """
    if f_a.shape != f_b.shape or f_a.ndim != 2 or len(f_a) < 2:
        raise ValueError(f"features: got {tuple(f_a.shape)} and {tuple(f_b.shape)}, expected (samples >= 2, n) twice")
    for what, value in (("alpha", alpha), ("beta", beta)):
        if not 0 <= value <= 1:
            raise ValueError(f"{what}: got {value}, expected a number in [0, 1]")
    S = correlation(torch.cat([f_a, f_b], dim=1))
    n = f_a.shape[1]
    model = torch.arange(2 * n) // n
    budget = [int(n // 2 * beta + 1e-4)] * 2
    groups = {unit: [unit] for unit in range(2 * n)}  # under the first of its units
    S.fill_diagonal_(-torch.inf)

    def close(origin: int) -> None:
        S[(model == origin)[:, None] & (model == origin)] = -torch.inf

    for origin in (0, 1):
        if budget[origin] <= 0:
            close(origin)
    for _ in range(n):
        i, j = sorted(divmod(int(S.numpy().argmax()), 2 * n))  # numpy's is seven times as fast
        groups[i] += groups.pop(j)
        row = torch.minimum(S[i], S[j])
        row = torch.minimum(row, alpha * row) if alpha > 0 else row.clamp(max=-2.0)
        S[i] = S[:, i] = row
        S[j] = S[:, j] = -torch.inf
        S[i, i] = -torch.inf
        if model[i] == model[j]:
            origin = int(model[i])
            budget[origin] -= 1
            if budget[origin] <= 0:
                close(origin)
    U = torch.zeros(2 * n, n, dtype=f_a.dtype)  # on the CPU, whatever the features are on
    for column, group in enumerate(groups.values()):
        U[group, column] = 1.0
    return (U / U.sum(dim=0)).T, U


def correlation(f: Tensor) -> Tensor:
    """(n, n) Pearson correlations of the columns of f (samples, n), float64; of a constant column 0.

    Raises ValueError for NaN or infinity.
    """
    if not f.isfinite().all():
        raise ValueError("features: got NaN or infinity, expected finite numbers")
    f = f.detach().double().cpu()
    f = f - f.mean(dim=0)
    f = f / f.norm(dim=0).clamp(min=1e-12)
    return f.T @ f


def zipit(
    theta_a: Params,
    theta_b: Params,
    features_a: Features,
    features_b: Features,
    *,
    layers: int | None = None,
    alpha: float = 0.3,
    beta: float = 0.125,
) -> Zipped:
    """Two chains of linear layers (MLPs) zipped up from the input for `layers` layers; from there on each has its own.

    Args:
        theta_a, theta_b: chains of the same tensors, as `axes.chain_axes` takes them, on the same inputs.
        features_a, features_b: "hidden.l" -> (samples, n): what the units of layer l give, see `chain_features`.
        layers: how many layers are shared, 1 .. L; without it L: then the two outputs are averaged, which asks for the
            same classes. With fewer the rest is kept twice ("partial zip").
        alpha, beta: see `match`.
    Returns the shared layers, and the two heads under the names of their layers (empty if everything is shared).
    Raises ValueError for chains of different tensors (says which), NaN, features that are missing, `layers` outside
    1 .. L, and as `match`.
    """
    a, b = check_same_structure([theta_a, theta_b], what="model")
    check_finite([a, b], what="model")
    names = [key.removesuffix(".weight") for key in chain_axes(a).of if key.endswith(".weight")]
    L = len(names)
    stop = L if layers is None else layers
    if not 1 <= stop <= L:
        raise ValueError(f"layers: got {stop}, expected 1 .. {L}")
    inputs = structure(a)[f"{names[0]}.weight"][0][1]
    U = torch.eye(inputs).repeat(2, 1)  # the input is the same for both
    trunk: dict[str, Tensor] = {}
    for number, layer in enumerate(names[:stop], start=1):
        W_a, W_b = a[f"{layer}.weight"], b[f"{layer}.weight"]
        if number == L:
            M = torch.eye(len(W_a)).repeat(1, 2) / 2
        else:
            M, U_next = match(*_features(features_a, features_b, f"hidden.{number}", len(W_a)), alpha=alpha, beta=beta)
        M, U = M.to(W_a), U.to(W_a)
        trunk[f"{layer}.weight"] = M @ torch.block_diag(W_a, W_b) @ U
        if f"{layer}.bias" in a:
            trunk[f"{layer}.bias"] = M @ torch.cat([a[f"{layer}.bias"], b[f"{layer}.bias"]])
        if number < L:
            U = U_next
    heads = tuple({key: theta[key] for key in theta if key not in trunk} for theta in (a, b))
    if stop < L:
        first = f"{names[stop]}.weight"
        n = len(U) // 2
        for head, part in zip(heads, (U[:n], U[n:]), strict=True):
            head[first] = head[first] @ part.to(head[first])  # it goes on reading its own units, through their groups
    return Zipped(trunk, heads)  # ty: ignore[invalid-argument-type]  a tuple of two


def zip_mlps(
    theta_a: Params,
    theta_b: Params,
    features_a: Features,
    features_b: Features,
    axes: Axes,
    *,
    alpha: float = 0.3,
    beta: float = 0.125,
) -> dict[str, Tensor]:
    """Two ViTs of one residual stream: the hidden units of every MLP block zipped, everything else averaged.

    `features_a`, `features_b`: "blocks.i.mlp" -> (samples, n), the hidden units of every block after the activation;
    `axes`: `vit_axes`.
    Networks of two beginnings must be brought into one residual stream before (`weight_matching`).
    Raises ValueError as `zipit`.
    """
    a, b = check_same_structure([theta_a, theta_b], what="model")
    check_finite([a, b], what="model")
    merged = {key: (a[key] + b[key]) / 2 for key in a}
    for name, (n, places) in axes.places(a).items():
        if not name.endswith(".mlp"):
            continue
        M, U = match(*_features(features_a, features_b, name, n), alpha=alpha, beta=beta)
        for key, axis, _ in places:
            both = torch.cat([a[key], b[key]], dim=axis)
            # rows are averaged; columns of a group are summed, and halved, because both write into one stream
            merged[key] = M.to(both) @ both if axis == 0 else both @ U.to(both) / 2
    return merged


def _features(features_a: Features, features_b: Features, name: str, n: int) -> tuple[Tensor, Tensor]:
    for features in (features_a, features_b):
        if name not in features:
            raise ValueError(f"features: missing '{name}', got {', '.join(features) or 'none'}")
        if features[name].ndim != 2 or features[name].shape[1] != n:
            raise ValueError(f"features '{name}': got shape {tuple(features[name].shape)}, expected (samples, {n})")
    return features_a[name], features_b[name]


def chain_features(theta: Params, x: Tensor, activation: Callable[[Tensor], Tensor] = torch.relu) -> dict[str, Tensor]:
    """ "hidden.l" -> (samples, n) of an MLP at inputs x (samples, inputs), after the activation; and "output"."""
    names = [key.removesuffix(".weight") for key in chain_axes(theta).of if key.endswith(".weight")]
    found = {}
    for number, layer in enumerate(names, start=1):
        x = x @ theta[f"{layer}.weight"].T + theta.get(f"{layer}.bias", torch.zeros(()))
        if number < len(names):
            x = found[f"hidden.{number}"] = activation(x)
    return found | {"output": x}
