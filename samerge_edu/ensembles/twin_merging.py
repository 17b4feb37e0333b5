"""Twin-Merging (Lu et al., Twin-Merging: dynamic integration of modular expertise, NeurIPS 2024, arXiv:2406.15479)."""

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from ..matrices import thin_svd
from ..params import Params, Structure, structure, task_vectors
from ..suites.suite import Suite
from .ensemble import Ensemble, Part
from .router import train_router


def twin_merging(suite: Suite, theta: Params, *, rank: int = 16, router: bool = True, **knobs) -> Ensemble:
    """Keep of each expert what the shared model has not got, compressed, and let a router mix it in for every input.

        v_n      = rank-r part of (theta_n - theta)            of each matrix; vectors (biases, norms) are kept whole
        theta(x) = theta + sum_n softmax(R(z))_n v_n           z = encode(theta, x), R the router       (eq. 5 to 7)
    The weights change with each input, so this is no single model. At full rank with a router that is sure it is
    expert n; with theta = theta_0 the v_n are experts of the size of LoRA's, which is the control.

    Args:
        suite: whose experts and images are used.
        theta: the shared model, from any merge; the authors' is Task Arithmetic at 0.29.
        rank: how many singular triplets of each matrix are kept, >= 1. The authors keep a tenth of the singular values:
            16 of pocket's 160.
        router: False leaves it out, and the task has to be told.
        knobs: of `train_router`. The labels are which task an image is from.
    Returns an Ensemble. Raises ValueError for rank < 1, a theta of another structure, and as `train_router`.
    Limits: rank = min(m, n) restores the experts; a part that equals nothing leaves the shared model.
    Differs from the authors' code, which prunes RoBERTa's matrices only: a convolution's kernel is taken as the matrix
    (out, rest) here. A factor pair that would be larger than its matrix is kept as the matrix.
    """
    check_rank(rank)
    exclusive = task_vectors(theta, [suite.experts[task] for task in suite.id_tasks])
    parts = {task: low_rank(v, rank) for task, v in zip(suite.id_tasks, exclusive, strict=True)}
    return Ensemble(theta, parts, train_router(suite, theta, **knobs) if router else None)


def check_rank(rank: int) -> None:
    if rank < 1:
        raise ValueError(f"rank: got {rank}, expected at least 1")


def low_rank(tau: Params, rank: int) -> Part:
    """The best rank-r approximation of each matrix of an update, kept as its two factors; vectors are kept whole.

    Of a tensor of zeros nothing is kept.

    >>> import torch
    >>> part = low_rank({"w": torch.ones(3, 4), "b": torch.tensor([1.0, -2.0])}, rank=1)
    >>> {name: tuple(x.shape) for name, x in part.stored.items()}
    {'w.U': (3, 1), 'w.V': (1, 4), 'b': (2,)}
    >>> torch.allclose(part.update()["w"], torch.ones(3, 4))
    True
    """
    check_rank(rank)
    stored, zeros = {}, {}
    for key in tau:
        M = tau[key].flatten(1) if tau[key].ndim > 1 else tau[key]  # (out, rest)
        if not M.any():
            zeros[key] = tau[key].new_zeros(())
        elif M.ndim > 1 and rank * sum(M.shape) < M.numel():
            U, S, Vt = thin_svd(M, rank)
            stored[f"{key}.U"], stored[f"{key}.V"] = (U * S).contiguous(), Vt.contiguous()
        else:
            stored[key] = tau[key]
    return Part(stored, partial(multiplied, zeros=zeros, shapes=structure(tau)))


def multiplied(stored: Mapping[str, Tensor], zeros: Params, shapes: Structure) -> dict[str, Tensor]:
    """U V of each pair of factors in the shape of the tensor that it stands for; what is whole, as it is; `zeros`."""
    update = {}
    for key, (shape, _) in shapes.items():
        x = zeros[key].expand(shape) if key in zeros else stored.get(key)
        update[key] = (stored[f"{key}.U"] @ stored[f"{key}.V"]).reshape(shape) if x is None else x
    return update
