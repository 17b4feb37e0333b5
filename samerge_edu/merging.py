"""Merge models of one's own: `se.merge(theta_0, thetas, "TIES")`, whatever their architecture and wherever they are.

theta_0, thetas    state dicts, modules, safetensors files, Hugging Face or PEFT folders
method             a row of `METHODS`, or a function taus -> tau_m
theta              a state dict again: the base's names, order, dtypes, integer buffers and ties
"""

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import torch
from torch import nn

from .catalogue import FROM_THE_RECIPE, named_knobs
from .flow import module_flow
from .folders import open_model
from .methods import METHODS, Checkpoints, Method
from .names import one_of
from .params import Params, add, lazy_task_vectors, pipe, structure, working

FAR = 0.5
"""|tau| / |theta_0| of a weight, above which an expert hardly started from this base: fine-tuning moves a few percent,
two unrelated models are about sqrt(2) apart."""

Model = Params | nn.Module | str | Path


class Merged(dict):
    """A merged state dict; `record` says how it came about."""

    record: dict


def merge(
    theta_0: Model,
    thetas: Sequence[Model],
    method: str | Method | Callable = "TIES",
    lam: float | None = None,
    *,
    model: nn.Module | None = None,
    example: object = None,
    **knobs: object,
) -> Merged:
    """Merge experts into one model:  theta = theta_0 + lam * method(theta_1 - theta_0, .., theta_N - theta_0).

    Args:
        theta_0: the base: a state dict, a module, a safetensors file, or a folder that `from_pretrained` loads.
        thetas: N >= 1 experts, each of any of these kinds, or a folder with a PEFT adapter.
        method: the name of a row of `METHODS` (case does not matter), a `Method`, or a function taus -> tau_m.
        lam: the scale; None is the one that the method's paper publishes (1 for a function), said in the record.
        model: a module of the experts' architecture, and
        example: what it is called with (a tensor, a tuple, or a dict of keyword arguments): for the methods that
            follow the flow through the network, SA-Merging and its kin; see `flow.module_flow`.
        knobs: the method's own, such as density=0.1; one that two steps have is called `dare_density`, `ties_density`.
    Returns a state dict that `load_state_dict` takes: the base's names, order and dtypes, its integer buffers, its
    tied weights tied. Nothing given is changed, and no gradient is kept. `.record` holds method, lam and where it is
    from, knobs, and the tensors that were taken from the base as they are.
    Raises ValueError for an unknown method or knob (with the list), models that do not fit each other (names the
    model and the key), a method that needs a suite's data. Warns where experts seem to come from another base.

    >>> base, experts = {"w": torch.ones(2)}, [{"w": torch.tensor([2.0, 1.5])}, {"w": torch.tensor([1.0, 2.0])}]
    >>> theta = merge(base, experts, "ties", density=1.0)
    >>> theta["w"], theta.record["lam"], theta.record["lam_from"]
    (tensor([2.0000, 1.7500]), 1.0, 'paper')
    """
    if isinstance(thetas, Mapping | nn.Module | str | Path):
        raise ValueError("got one expert, expected a list of them: put it in brackets")
    base = open_model(theta_0)
    params, ties = untied(base.params)
    experts = [like_base(open_model(theta, base=base).params, params, ties, n) for n, theta in enumerate(thetas, 1)]
    name, row = chosen(method)
    taus = lazy_task_vectors(params, experts)
    warn_if_far(params, experts)
    flow = module_flow(model, example) if model is not None else None
    run = with_knobs(row.recipe(Checkpoints(params, flow)), knobs, name)
    scale = row.lam if lam is None else lam
    merged = add(params, run(taus), scale)

    everything = merged | {tied: merged[key] for tied, key in ties.items()} | dict(base.buffers)
    theta = Merged({key: everything[key] for key in base.order})
    theta.record = {
        "method": name, "lam": scale, "lam_from": "paper" if lam is None else "argument",
        "knobs": {**knobs_of(run)}, "experts": len(experts), "from_base": list(base.buffers), "tied": dict(ties),
        "ranked_by_size_alone": list(getattr(flow, "unreached", ())),
    }  # fmt: skip
    return theta


def chosen(method: str | Method | Callable) -> tuple[str, Method]:
    """(name, row): a row of METHODS, or a function taken as one, to be scaled by 1."""
    if isinstance(method, str):
        name = one_of("method", method, list(METHODS))
        return name, METHODS[name]
    if isinstance(method, Method):
        return next((name for name, row in METHODS.items() if row is method), "own method"), method
    if callable(method):
        return getattr(method, "__name__", "own method"), Method(lambda suite: method, 1.0, "", 0)
    raise ValueError(f"method: got {method!r}, expected a name, a Method or a function taus -> tau_m")


# ---------------------------------------------------------------------------- knobs


def steps_of(run: Callable) -> list[Callable]:
    """The steps of a piped method, or the method itself."""
    return list(getattr(run, "steps", (run,)))


def knobs_of(run: Callable) -> dict[str, object]:
    """The knobs of a method as it is set: name -> value.

    >>> from .merges.ties import ties
    >>> knobs_of(partial(ties, density=0.1))
    {'density': 0.1, 'reduce': 'mean', 'scope': 'global'}
    """
    return named_knobs([(_name(step), _knobs(step)) for step in steps_of(run)])


def with_knobs(run: Callable, knobs: Mapping[str, object], name: str = "the method") -> Callable:
    """The method with some of its knobs set; raises ValueError with the list for a knob that it does not have."""
    left, steps = dict(knobs), []
    known = knobs_of(run)
    full = [f"{_name(step)}_{knob}" for step in steps_of(run) for knob in _knobs(step)]  # svc_lam: `lam` is the scale
    for knob in knobs:
        if knob not in known and knob not in full:
            alike = get_close_matches(knob, known)
            perhaps = f"did you mean {' or '.join(alike)}? " if alike else ""
            raise ValueError(f"{name}: got knob '{knob}', {perhaps}expected one of {', '.join(known) or 'none'}")
    for step in steps_of(run):
        mine = {}
        for knob in _knobs(step):
            for spelled in (knob, f"{_name(step)}_{knob}"):
                if spelled in left:
                    mine[knob] = left.pop(spelled)
        steps.append(partial(step, **mine) if mine else step)
    return pipe(*steps) if len(steps) > 1 else steps[0]


def _knobs(step: Callable) -> dict[str, object]:
    parameters = inspect.signature(step).parameters.values()  # of a partial: with its own values as the defaults
    return {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in FROM_THE_RECIPE}


def _name(step: Callable) -> str:
    while isinstance(step, partial):
        step = step.func
    return getattr(step, "__name__", "step")


# ---------------------------------------------------------------------------- what fits together


def untied(params: Params) -> tuple[Params, dict[str, str]]:
    """(the tensors without repetitions, {tied name: the name it shares its memory with}).

    A language model's output layer is often its embedding under a second name: one weight, to be merged once.
    """
    if not isinstance(params, dict):
        return params, {}  # a file holds every tensor once
    first: dict[tuple, str] = {}
    ties = {}
    for key, x in params.items():
        where = (x.untyped_storage().data_ptr(), x.storage_offset(), x.shape, x.stride())
        if x.numel() and x.device.type != "meta" and first.setdefault(where, key) != key:
            ties[key] = first[where]
    return {key: x for key, x in params.items() if key not in ties}, ties


def like_base(theta: Params, params: Params, ties: Mapping[str, str], n: int) -> Params:
    """Expert n without the names that are tied in the base, after a look that they are equal there, too.

    Raises ValueError for a tied weight that the expert has untied, and for another vocabulary.
    """
    mine, base = structure(theta), structure(params)
    for tied, key in ties.items():
        if tied in mine and key in mine and not torch.equal(theta[tied], theta[key]):
            raise ValueError(f"expert {n}, key '{tied}': tied to '{key}' in the base, but different from it here")
    check_vocabulary({k: s for k, (s, _) in mine.items()}, {k: s for k, (s, _) in base.items()}, n)
    return {key: theta[key].detach() for key in theta if key not in ties} if isinstance(theta, dict) else theta


def check_vocabulary(mine: Mapping[str, tuple], base: Mapping[str, tuple], n: int) -> None:
    """Raise ValueError where an embedding has more or fewer rows than the base's: the reason, not just two shapes."""
    for key, shape in base.items():
        other = mine.get(key, shape)
        embedding = any(word in key for word in ("embed", "shared.weight", "wte", "lm_head", "emb."))
        if embedding and len(shape) == len(other) == 2 and shape[1] == other[1] and shape[0] != other[0]:
            raise ValueError(
                f"expert {n}, key '{key}': got {other[0]} rows, expected {shape[0]}: the vocabularies differ in size; "
                "resize the embeddings to the base's first"
            )


def distance(theta_0: Params, theta: Params, at_most: int = 5) -> dict[str, float]:
    """|tau| / |theta_0| of a few weights spread over the model: a glance, not a pass over all of it.

    >>> distance({"w": torch.ones(2, 2)}, {"w": torch.full((2, 2), 1.5)})
    {'w': 0.5}
    """
    weights = [key for key, (shape, _) in structure(theta_0).items() if len(shape) >= 2 and shape[0] > 1]  # no tokens
    weights = weights[:: max(1, -(-len(weights) // at_most))]
    ratios = {
        key: (working(theta[key]) - working(theta_0[key])).norm() / working(theta_0[key]).norm() for key in weights
    }
    return {key: ratio.item() for key, ratio in ratios.items() if ratio.isfinite()}


def warn_if_far(theta_0: Params, thetas: Iterable[Params]) -> None:
    """Warn, with numbers, where an expert is too far from the base to have started there."""
    for n, theta in enumerate(thetas, 1):
        ratios = distance(theta_0, theta)
        by_size = sorted(ratios, key=lambda key: ratios[key])
        key = by_size[len(by_size) // 2] if by_size else ""  # a typical one: new heads differ
        if ratios.get(key, 0) > FAR:
            warnings.warn(
                f"expert {n} seems to come from another base: |tau| / |theta_0| is {ratios[key]:.2f} at '{key}', and "
                f"fine-tuning rarely moves a weight by more than {FAR}",
                stacklevel=3,
            )
