"""Models as dictionaries of tensors: check, subtract, add. Files are in `files`.

A model, a task vector and a merged update are all the same thing here: `Params`, a mapping from the
name of a parameter to its tensor. No class with operators, because every public one of them broke
unseen; plain functions on plain dictionaries can be printed, saved and handed to `functional_call`.

    theta_0, theta_1..theta_N   --task_vectors-->   tau_1..tau_N   --transforms, a merge-->   tau_m
    theta = theta_0 + lam * tau_m                   --add-->
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import combinations
from numbers import Real
from statistics import mean
from typing import Any

import torch
from torch import Tensor

Params = Mapping[str, Tensor]
"""A state dict, floating tensors only. Integer buffers never take part in arithmetic: see `split_buffers`."""

Structure = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""name -> (shape, dtype): what two models must share before they can be added."""


# ---------------------------------------------------------------------------- checks


def split_buffers(state_dict: Params) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(floating parameters, everything else): merge the first, put the second back on save.

    >>> floats, rest = split_buffers({"w": torch.ones(2), "position_ids": torch.arange(3)})
    >>> list(floats), list(rest)
    (['w'], ['position_ids'])
    """
    floats = {k: v for k, v in state_dict.items() if v.is_floating_point()}
    return floats, {k: v for k, v in state_dict.items() if k not in floats}


def structure(params: Params) -> Structure:
    """name -> (shape, dtype), without reading a lazy file's tensors.

    Raises ValueError for what is no dictionary of tensors: a module, numpy arrays, tensors without entries in memory.
    """
    if not isinstance(params, Mapping):
        hint = "; take model.state_dict()" if isinstance(params, torch.nn.Module) else ""
        raise ValueError(f"got a {type(params).__name__}, expected a dictionary of tensors{hint}")
    known = getattr(params, "structure", None)
    if known is not None:
        return known
    for key, tensor in params.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"key '{key}': got a {type(tensor).__name__}, expected a torch tensor")
        if tensor.layout is not torch.strided or tensor.is_meta:
            kind = "a meta tensor, which holds no numbers" if tensor.is_meta else f"a {tensor.layout} tensor"
            raise ValueError(f"key '{key}': got {kind}, expected a dense one in memory")
    return {k: (tuple(v.shape), v.dtype) for k, v in params.items()}


def check_same_structure(models: Sequence[Params], at_least: int = 1, what: str = "task vector") -> list[Params]:
    """The models as a list; raises ValueError unless all have the same floating tensors: names, shapes, dtypes.

    A generator can be read once only, so who calls this goes on with the list: `taus = check_same_structure(taus)`.
    `at_least` is how many models the caller needs, `what` what an error calls them. Says got / expected / which key;
    the first model is the expectation. The order of keys may differ. Tensors on another device than the first one's
    are refused; tensors that want a gradient are handed out without: a merge is no step of training.
    """
    if isinstance(models, Mapping):
        raise ValueError(f"got one {what}, expected a list of them: put it in brackets")
    if not isinstance(models, Iterable):
        raise ValueError(f"got a {type(models).__name__}, expected a list of {what}s")
    models = list(models)
    if len(models) < at_least:
        raise ValueError(f"got {len(models)} {what}s, expected at least {at_least}")
    structures = []
    for n, model in enumerate(models):
        try:
            structures.append(structure(model))
        except ValueError as e:
            raise ValueError(f"{what} {n}: {e}") from e
    expected = structures[0]
    if not expected:
        raise ValueError(f"{what} 0 has no tensors")
    device = None
    for n, (model, got) in enumerate(zip(models, structures, strict=True)):
        for key, (_, dtype) in got.items():
            if not dtype.is_floating_point:
                kind = "complex tensor" if dtype.is_complex else "integer buffer"
                raise ValueError(
                    f"{what} {n}, key '{key}': got {kind} {dtype}, expected a floating tensor; "
                    "split_buffers(state_dict) takes such buffers out"
                )
        if not hasattr(model, "structure"):  # tensors that are here already can be looked at
            for key, tensor in model.items():
                device = device or tensor.device
                if tensor.device != device:
                    raise ValueError(f"{what} {n}, key '{key}': got it on {tensor.device}, expected {device}")
        if missing := sorted(expected.keys() - got.keys()):
            raise ValueError(f"{what} {n}: missing key '{missing[0]}' ({len(missing)} missing in all)")
        if extra := sorted(got.keys() - expected.keys()):
            raise ValueError(f"{what} {n}: extra key '{extra[0]}' ({len(extra)} extra in all)")
        for key, (shape, dtype) in expected.items():
            if got[key][0] != shape:
                raise ValueError(f"{what} {n}, key '{key}': got shape {got[key][0]}, expected {shape}")
            if got[key][1] != dtype:
                raise ValueError(f"{what} {n}, key '{key}': got dtype {got[key][1]}, expected {dtype}")
    return [_without_gradient(model) for model in models]


def _without_gradient(model: Params) -> Params:
    if hasattr(model, "structure") or not any(tensor.requires_grad for tensor in model.values()):
        return model
    return {key: tensor.detach() for key, tensor in model.items()}


def check_finite(models: Sequence[Params], what: str = "task vector") -> None:
    """Raise ValueError that names the first expert and tensor holding NaN or infinity.

    One read of the data: a sum is finite unless an entry is not (or the sum overflows; then look closer).
    """
    for n, model in enumerate(models):
        for key in model:
            tensor = model[key]
            if not tensor.sum(dtype=torch.float32).isfinite() and not (finite := tensor.isfinite()).all():
                raise ValueError(
                    f"{what} {n}, key '{key}': got {int((~finite).sum())} entries that are NaN or infinite, "
                    "expected finite numbers"
                )


# ---------------------------------------------------------------------------- arithmetic


def working(tensor: Tensor) -> Tensor:
    """Half precision as float32, anything else as it is: sums of experts are never taken in 16 bits."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def own(params: Params, key: str) -> Tensor:
    """A tensor that the caller may change: a copy, unless `params.fresh` promises that each reading makes it anew."""
    tensor = params[key].detach()
    return tensor if getattr(params, "fresh", False) else tensor.clone(memory_format=torch.contiguous_format)


def stacked(models: Sequence[Params], key: str) -> Tensor:
    """(N, *shape): one tensor of every model, in working precision."""
    return torch.stack([working(model[key]) for model in models])


def total(models: Sequence[Params], key: str) -> Tensor:
    """sum_n models[n][key], in working precision; one model's tensor is read at a time."""
    first, *others = models
    summed = working(first[key]).clone()
    for model in others:
        summed += working(model[key])
    return summed


PIECE = 2**16
"""Entries looked at together: N pieces fit into a processor's cache, so that memory is read once, not N + 2 times."""


def pieces(models: Sequence[Params], key: str) -> Iterator[Tensor]:
    """One tensor of N models piece by piece: (N, b) stacks of consecutive entries, b <= 2**16, in working precision.

    For merges that look at each entry alone. `torch.cat` of the results is the flattened tensor.
    """
    whole = [working(model[key]).reshape(-1) for model in models]
    for parts in zip(*(x.split(PIECE) for x in whole), strict=True):
        yield torch.stack(parts)


def task_vectors(theta_0: Params, thetas: Sequence[Params]) -> list[dict[str, Tensor]]:
    """tau_n = theta_n - theta_0 for each expert n (Ilharco et al., 2023, arXiv:2212.04089, section 2).

    Half-precision models are subtracted in, and returned as, float32: at fp16 the difference of two
    close numbers would lose most of its digits. Raises ValueError for an empty list, for keys, shapes
    or dtypes that differ from the base, for integer buffers, and for NaN or infinity.

    >>> base, expert = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.5, 1.0])}
    >>> task_vectors(base, [expert])[0]["w"]
    tensor([ 0.5000, -1.0000])
    """
    theta_0, *thetas = _check_experts(theta_0, thetas)
    taus = [{k: working(theta[k]) - working(theta_0[k]) for k in theta_0} for theta in thetas]
    check_finite(taus, what="expert")
    return taus


class LazyTaskVector(Mapping[str, Tensor]):
    """tau = theta - theta_0, computed tensor by tensor when asked for: see `lazy_task_vectors`."""

    fresh = True

    def __init__(self, theta_0: Params, theta: Params):
        self.theta_0, self.theta = theta_0, theta
        self.structure: Structure = {
            k: (shape, torch.promote_types(dtype, torch.float32)) for k, (shape, dtype) in structure(theta_0).items()
        }

    def __getitem__(self, key: str) -> Tensor:
        return working(self.theta[key]) - working(self.theta_0[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self.structure)

    def __len__(self) -> int:
        return len(self.structure)


def lazy_task_vectors(theta_0: Params, thetas: Sequence[Params]) -> list[LazyTaskVector]:
    """`task_vectors` that holds nothing: each access reads and subtracts one tensor.

    A merge that works tensor by tensor then needs N + 2 tensors in memory, not N + 2 models.
    """
    theta_0, *thetas = _check_experts(theta_0, thetas)
    return [LazyTaskVector(theta_0, theta) for theta in thetas]


def _check_experts(theta_0: Params, thetas: Iterable[Params]) -> list[Params]:
    """[theta_0, theta_1 .. theta_N]"""
    if isinstance(thetas, Mapping):
        raise ValueError("got one expert, expected a list of them: put it in brackets")
    if not isinstance(thetas, Iterable):
        raise ValueError(f"got a {type(thetas).__name__}, expected a list of experts")
    thetas = list(thetas)
    if not thetas:
        raise ValueError("got 0 experts, expected at least 1")
    try:
        return check_same_structure([theta_0, *thetas], what="model")
    except ValueError as e:
        raise ValueError(f"{e} (model 0 is the base, model n is expert n)") from e


def add(theta_0: Params, tau: Params, lam: float = 1.0) -> dict[str, Tensor]:
    """theta = theta_0 + lam * tau, in theta_0's dtype; the sum is taken in at least float32.

    `lam` scales the whole update: 0 gives the base, 1 the base plus the update, negative values move
    away from it (forgetting). Raises ValueError for keys or shapes that differ, for integers in either (a sum would
    be cut off to the base's), and a `lam` that is no finite number.

    >>> add({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([0.5, -1.0])}, lam=2.0)["w"]
    tensor([2., 0.])
    """
    check_lam(lam)
    base, update = structure(theta_0), structure(tau)
    for key in [*base, *update]:
        if key not in update or key not in base:
            where = "update" if key not in update else "base"
            raise ValueError(f"key '{key}' is missing from the {where}")
        if base[key][0] != update[key][0]:
            raise ValueError(f"key '{key}': got shape {update[key][0]} in the update, expected {base[key][0]}")
        for where, (_, dtype) in (("base", base[key]), ("update", update[key])):
            if not dtype.is_floating_point:
                raise ValueError(f"key '{key}': got {dtype} in the {where}, expected a floating tensor")
    return {k: (working(theta_0[k]) + lam * working(tau[k])).to(base[k][1]) for k in theta_0}


def check_lam(lam: float) -> None:
    """Raise ValueError unless lam is a finite number (a tensor of one entry may be learned)."""
    if isinstance(lam, Tensor):
        lam = lam.item() if lam.numel() == 1 else math.nan
    if not isinstance(lam, Real) or not math.isfinite(lam):
        raise ValueError(f"lam: got {lam!r}, expected a finite number")


def flatten(params: Params, out: Tensor | None = None) -> Tensor:
    """All entries as one vector (d,), tensors in the order of their sorted names, in working precision.

    Sorted, so that two models with the same tensors in another order give the same vector. `out`, of d entries, is
    overwritten and returned: new memory costs as much time as the copy.
    """
    return torch.cat([working(params[k]).reshape(-1) for k in sorted(params)], out=out)


def unflatten(vector: Tensor, like: Params) -> dict[str, Tensor]:
    """The inverse of `flatten`: names, shapes, dtypes and order of keys are those of `like`.

    >>> model = {"b": torch.zeros(1), "a": torch.ones(2, 1)}
    >>> {k: v.tolist() for k, v in unflatten(flatten(model), like=model).items()}
    {'b': [0.0], 'a': [[1.0], [1.0]]}
    """
    spec = structure(like)
    sizes = {k: torch.Size(spec[k][0]).numel() for k in sorted(spec)}
    if vector.shape != (sum(sizes.values()),):
        raise ValueError(f"got a vector of shape {tuple(vector.shape)}, expected ({sum(sizes.values())},)")
    pieces = dict(zip(sizes, vector.split(list(sizes.values())), strict=True))
    return {k: pieces[k].reshape(shape).to(dtype) for k, (shape, dtype) in spec.items()}


def mean_cosine(taus: Sequence[Params]) -> float:
    """Mean cosine over all pairs of task vectors, each as one long vector; 1 for a single one.

    Raises ValueError for task vectors that differ in structure.

    >>> x, y = torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0])
    >>> round(mean_cosine([{"w": x}, {"w": y}]), 2)
    0.6
    """
    taus = check_same_structure(taus)
    V = torch.nn.functional.normalize(torch.stack([flatten(tau) for tau in taus]), dim=1)
    pairs = [(V[i] @ V[j]).item() for i, j in combinations(range(len(V)), 2)]
    return mean(pairs) if pairs else 1.0


BLOCKS = r"(?:resblocks|layers|blocks|layer|block|h)\.(?:encoder_layer_)?(\d+)\."
"""open_clip's, Hugging Face's (CLIP, LLaMA; RoBERTa, ViT; T5; GPT-2), timm's and torchvision's names of a block."""


def block_index(key: str) -> int | None:
    """Which transformer block a parameter belongs to, counted from the input; None for those outside the blocks.

    Where blocks come in stages (ResNet, ConvNeXt, Swin), block b of stage s is 100 s + b: the order is what counts.

    >>> block_index("transformer.resblocks.3.mlp.c_fc.weight"), block_index("encoder.layers.11.mlp.fc1.weight")
    (3, 11)
    >>> block_index("encoder.layer.4.output.dense.weight"), block_index("encoder.layers.encoder_layer_5.mlp.0.weight")
    (4, 5)
    >>> block_index("stages.2.blocks.7.mlp.fc1.weight"), block_index("layer3.0.conv1.weight")
    (207, 300)
    >>> block_index("visual.proj")
    """
    if staged := re.search(r"\b(?:stages\.(\d+)\.blocks\.|layers\.(\d+)\.blocks\.|layer(\d)\.)(\d+)\.", key):
        return 100 * int(next(filter(None, staged.groups()[:3]))) + int(staged[4])
    found = re.search(rf"\b{BLOCKS}", key)
    return int(found[1]) if found else None


class pipe:
    """Apply steps in reading order: `pipe(f, g)(taus) == g(f(taus))`, so "LwPTV + TIES" is `pipe(lwptv, ties)`.

    >>> pipe(lambda x: x + 1, lambda x: 10 * x)(2)
    30
    """

    def __init__(self, *steps: Callable):
        if not steps:
            raise ValueError("got 0 steps, expected at least 1")
        self.steps = steps  # a recipe can be printed and stored beside its result

    def __call__(self, taus: Any) -> Any:
        return reduce(lambda value, step: step(value), self.steps, taus)
