"""Git Re-Basin's weight matching (Ainsworth, Hayase, Srinivasa, 2023, arXiv:2209.04836, section 3.2, algorithm 1).

Two trainings from two beginnings may find the same network with its units in another order. Then the mean of both is
no network at all, while the mean after reordering one of them is.

    max over permutations   sum over tensors  < A, B permuted >

Data-free. All orders at once are out of reach (the problem is NP-hard); one order with the others fixed is a linear
assignment, which is solved exactly. Round and round until nothing moves:

    C_ij = sum over the axes with this order   < A's slice i, B's slice j, its other axes permuted >
    P = argmax over permutations   sum_i C_i,P[i]
"""

from collections.abc import Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..params import Params, check_finite, check_same_structure, working
from .axes import Axes, Permutations, check_permutations, identity, permute, reordered

GAIN = 1e-12
"""A step that gains less has converged; as the authors' code has it."""


def weight_matching(
    theta_a: Params,
    theta_b: Params,
    axes: Axes,
    *,
    generator: torch.Generator,
    sweeps: int = 100,
    begin: Permutations | None = None,
    head_order: Mapping[tuple[str, str], Sequence[int]] | None = None,
) -> dict[str, Tensor]:
    """The permutations that bring theta_b's units into the order of theta_a's: `permute(theta_b, found, axes)`.

    Args:
        theta_a, theta_b: two networks of the same tensors.
        axes: which axes share an order: `chain_axes(theta)`, `vit_axes(theta, heads)`.
        generator: draws the order in which the layers are looked at, anew in each sweep.
        sweeps: at most so many, >= 1; the search ends earlier when no layer gains more than 1e-12.
        begin: where to begin; without it, with the order as it is.
        head_order: (q and k's name, v's name) -> which head of theta_b comes to which place, where that is known.
    Attention: all pairs of heads are solved first, q with k and v with the output (their units may be ordered
    independently, their heads may not), then, unless it is given, which head goes where, by the value that its best
    units give. With the other layers fixed that is the exact optimum.
    Raises ValueError for networks of different tensors (says which), NaN, sweeps < 1, and for tensors, heads or a
    `begin` that do not fit the axes. A local optimum: another generator may find another. Biases count, as in the
    authors' code. Differs from the paper: attention, which it does not treat, and a residual stream with norms as one
    shared order.

    >>> from samerge_edu.alignment.axes import chain_axes
    >>> a = {"0.weight": torch.tensor([[1.0, 0.0], [0.0, 2.0]]), "2.weight": torch.tensor([[3.0, 1.0]])}
    >>> b = {"0.weight": torch.tensor([[0.0, 2.1], [0.9, 0.0]]), "2.weight": torch.tensor([[1.0, 3.0]])}
    >>> weight_matching(a, b, chain_axes(a), generator=torch.Generator().manual_seed(0))
    {'hidden.1': tensor([1, 0])}
    """
    if sweeps < 1:
        raise ValueError(f"sweeps: got {sweeps}, expected at least 1")
    a, b = _checked(theta_a, theta_b)
    places = axes.places(a)
    P = dict(identity(a, axes) if begin is None else begin)
    for pair, order in (head_order or {}).items():
        P |= {name: torch.arange(places[name][0]).reshape(axes.heads[pair], -1)[list(order)].flatten() for name in pair}
    check_permutations(a, P, axes)
    partner = {qk: vo for qk, vo in axes.heads}
    groups = [name for name in places if name not in partner.values()]
    for _ in range(sweeps):
        gained = 0.0
        for index in torch.randperm(len(groups), generator=generator).tolist():
            names = [groups[index]] + ([partner[groups[index]]] if groups[index] in partner else [])
            Cs = [gains(a, b, name, P, axes) for name in names]
            before = sum(_value(C, P[name]) for C, name in zip(Cs, names, strict=True))
            if len(names) == 2:
                pair = names[0], names[1]
                found = assign_heads(Cs[0], Cs[1], axes.heads[pair], (head_order or {}).get(pair))
            else:
                found = [assign(Cs[0])]
            gain = sum(_value(C, p) for C, p in zip(Cs, found, strict=True)) - before
            if gain > GAIN:  # of equal orders the old one stays
                P |= zip(names, found, strict=True)
                gained = max(gained, gain)
        if gained <= GAIN:
            break
    return P


def gains(theta_a: Params, theta_b: Params, name: str, permutations: Permutations, axes: Axes) -> Tensor:
    """C (n, n), float64: what it is worth to put B's unit j to A's unit i of `name`, all other orders as they are."""
    n, places = axes.places(theta_a)[name]
    C = torch.zeros(n, n, dtype=torch.float64)
    for key, axis, start in places:
        b = reordered(theta_b[key], axes.of[key], permutations, but=axis)
        A, B = (x.movedim(axis, 0).reshape(x.shape[axis], -1)[start : start + n].double() for x in (theta_a[key], b))
        C += (A @ B.T).cpu()
    return C


def assign(C: Tensor) -> Tensor:
    """P (n,) that maximises sum_i C[i, P[i]] (Jonker-Volgenant, scipy).

    >>> assign(torch.tensor([[1.0, 5.0], [2.0, 5.5]]))
    tensor([1, 0])
    """
    return torch.from_numpy(linear_sum_assignment(C.numpy(), maximize=True)[1])


def assign_heads(C_qk: Tensor, C_vo: Tensor, heads: int, order: Sequence[int] | None = None) -> list[Tensor]:
    """[P of q and k, P of v and the output], (n,) each: the best that moves whole heads, the same in both.

    C_qk, C_vo: the `gains` of either. order: head order[i] comes to place i; without it the best order of all.
    """
    best = torch.zeros(heads, heads, dtype=C_qk.dtype)
    inside: dict[tuple[int, int], list[Tensor]] = {}
    for i in range(heads):
        for j in range(heads):
            blocks = [C.unflatten(0, (heads, -1)).unflatten(2, (heads, -1))[i, :, j] for C in (C_qk, C_vo)]
            inside[i, j] = [assign(block) for block in blocks]
            best[i, j] = sum(_value(block, p) for block, p in zip(blocks, inside[i, j], strict=True))
    order = assign(best).tolist() if order is None else order
    sizes = [len(C) // heads for C in (C_qk, C_vo)]
    return [torch.cat([j * d + inside[i, j][part] for i, j in enumerate(order)]) for part, d in enumerate(sizes)]


def _value(C: Tensor, P: Tensor) -> float:
    return C[torch.arange(len(P)), P].sum().item()


def similarity(theta_a: Params, theta_b: Params) -> float:
    """What the matching maximises, as a cosine: sum <A, B> / (|A| |B|) over all tensors together."""
    a, b = _checked(theta_a, theta_b)
    inner, aa, bb = (sum((x[k].double() * y[k].double()).sum().item() for k in a) for x, y in ((a, b), (a, a), (b, b)))
    return inner / (aa * bb) ** 0.5


def matched(theta_a: Params, theta_b: Params, axes: Axes, *, generator: torch.Generator) -> dict[str, Tensor]:
    """theta_b with its units in the order of theta_a's."""
    return permute(theta_b, weight_matching(theta_a, theta_b, axes, generator=generator), axes)


def _checked(theta_a: Params, theta_b: Params) -> list[dict[str, Tensor]]:
    models = check_same_structure([theta_a, theta_b], what="model")
    check_finite(models, what="model")
    return [{key: working(model[key]) for key in model} for model in models]
