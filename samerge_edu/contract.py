"""What a method must do before it may stand on the leaderboard: `se.check_method(fn)`, and the properties that it runs.

The same properties are run over every method of this package by tests/test_shared_properties.py. A few must hold for
any method (REQUIRED); the others hold for most, and the report says of each whether it does.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .params import lazy_task_vectors

# ---------------------------------------------------------------------------- inputs

SHAPES = {
    "visual.transformer.resblocks.0.attn.in_proj_weight": (12, 4),
    "visual.transformer.resblocks.0.mlp.c_fc.weight": (9, 4),
    "visual.transformer.resblocks.0.ln_1.bias": (4,),
    "visual.conv1.weight": (4, 3, 2, 2),
    "visual.transformer.resblocks.1.mlp.c_proj.weight": (4, 9),
    "visual.transformer.resblocks.1.ln_2.weight": (4,),
    "visual.class_embedding": (4,),
    "visual.ln_post.weight": (4,),
    "visual.proj": (4, 7),
}


def example_taus(dtype: torch.dtype = torch.float64, n: int = 3) -> list[dict[str, Tensor]]:
    """Experts of different size and sign, tensors of different scale: no property holds by symmetry."""
    g = torch.Generator().manual_seed(5)
    expert_scale = [1.0, 0.4, 2.5, 0.8][:n]
    return [
        {
            k: (s * (i + 1) * torch.randn(shape, generator=g, dtype=torch.float64)).to(dtype)
            for i, (k, shape) in enumerate(SHAPES.items())
        }
        for s in expert_scale
    ]


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor], **tolerance) -> None:
    assert got.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(got[key], expected[key], msg=lambda m, key=key: f"{key}: {m}", **tolerance)


# ---------------------------------------------------------------------------- the properties


def order_of_experts(merge: Callable) -> None:
    """The order of the experts does not matter."""
    a, b, c = example_taus()
    expected = merge([a, b, c])
    assert_same(merge([c, a, b]), expected)
    assert_same(merge([b, a, c]), expected)


def key_order(merge: Callable) -> None:
    """The order of the names does not matter."""
    taus = example_taus()
    shuffled = [{k: tau[k] for k in reversed(tau)} for tau in taus]
    assert_same(merge(shuffled), merge(taus))
    assert_same(merge([taus[0], *shuffled[1:]]), merge(taus))


def positive_homogeneity(merge: Callable) -> None:
    """2.5 times the task vectors give 2.5 times the update."""
    taus = example_taus()
    doubled = merge([{k: 2.5 * v for k, v in tau.items()} for tau in taus])
    assert_same(doubled, {k: 2.5 * v for k, v in merge(taus).items()})


def sign_flip(merge: Callable) -> None:
    """Task vectors of the opposite sign give the opposite update."""
    taus = example_taus()
    flipped = merge([{k: -v for k, v in tau.items()} for tau in taus])
    assert_same(flipped, {k: -v for k, v in merge(taus).items()})


def inputs_unchanged(merge: Callable) -> None:
    """The task vectors given are not changed."""
    taus = example_taus(torch.float32)
    before = [{k: v.clone() for k, v in tau.items()} for tau in taus]
    merge(taus)
    for tau, expected in zip(taus, before, strict=True):
        assert_same(tau, expected, rtol=0, atol=0)


def half_precision(merge: Callable) -> None:
    """16-bit task vectors are merged in float32 and come back in 16 bits; 32 and 64 bits stay what they are."""
    for dtype in (torch.float32, torch.float64):
        assert {v.dtype for v in merge(example_taus(dtype)).values()} == {dtype}
    for dtype in (torch.float16, torch.bfloat16):
        taus = example_taus(dtype)
        in_float = merge([{k: v.float() for k, v in tau.items()} for tau in taus])
        assert_same(merge(taus), {k: v.to(dtype) for k, v in in_float.items()})


def lazy(merge: Callable) -> None:
    """Task vectors that are read from a file when asked for give the same."""
    theta_0, *thetas = example_taus(torch.float32, n=4)
    lazies = lazy_task_vectors(theta_0, thetas)
    assert_same(merge(lazies), merge([dict(tau) for tau in lazies]), rtol=0, atol=0)


def non_contiguous(merge: Callable) -> None:
    """Tensors that are views of others give the same."""
    taus = example_taus()
    strided = [{k: v.mT.contiguous().mT if v.ndim == 2 else v for k, v in tau.items()} for tau in taus]
    assert not strided[0]["visual.proj"].is_contiguous()
    assert_same(merge(strided), merge(taus))


def zero_task_vectors(merge: Callable) -> None:
    """Experts that are the base give the base."""
    zeros = [{k: torch.zeros_like(v) for k, v in tau.items()} for tau in example_taus()]
    assert_same(merge(zeros), zeros[0], rtol=0, atol=0)
    one_zero = merge([*zeros[:1], *example_taus()[1:]])
    assert all(v.isfinite().all() for v in one_zero.values())


def one_expert(merge: Callable) -> None:
    """One expert alone can be merged."""
    result = merge(example_taus(n=1))
    assert all(v.isfinite().all() for v in result.values())
    assert any(v.any() for v in result.values())


def tiny_tensors(merge: Callable) -> None:
    """Empty tensors, scalars, single rows and columns pass."""
    shapes = {"none": (0,), "scalar": (), "one": (1,), "column": (3, 1), "row": (1, 3), "square": (3, 3)}
    g = torch.Generator().manual_seed(1)
    taus = [
        {
            f"visual.transformer.resblocks.{i}.{k}": torch.randn(s, generator=g)
            for i, (k, s) in enumerate(shapes.items())
        }
        for _ in range(3)
    ]
    result = merge(taus)
    assert {k: v.shape for k, v in result.items()} == {k: v.shape for k, v in taus[0].items()}
    assert all(v.isfinite().all() for v in result.values())


def signature(merge: Callable) -> None:
    """It can be called with nothing but a list of task vectors: every other argument has a default."""
    inspect.signature(merge).bind([])


def same_tensors(merge: Callable) -> None:
    """The update has the task vectors' names, shapes and dtypes, and finite numbers."""
    taus = example_taus(torch.float32)
    tau_m = merge(taus)
    assert isinstance(tau_m, Mapping), f"got {type(tau_m).__name__}, expected a dictionary name -> tensor"
    assert set(tau_m) == set(taus[0]), f"names that differ: {sorted(set(tau_m) ^ set(taus[0]))}"
    for key, tau in taus[0].items():
        got, expected = (tuple(tau_m[key].shape), tau_m[key].dtype), (tuple(tau.shape), tau.dtype)
        assert got == expected, f"'{key}': got {got}, expected {expected}"
        assert tau_m[key].isfinite().all(), f"'{key}': got NaN or infinity"


def deterministic(merge: Callable) -> None:
    """The same task vectors give the same update, whatever the global random state: lots come from a generator."""
    taus = example_taus(torch.float32)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = {key: x.clone() for key, x in merge(taus).items()}
        torch.manual_seed(2)
        assert_same(merge(taus), first, rtol=0, atol=0)


PROPERTIES: dict[str, Callable[[Callable], None]] = {
    f.__name__: f
    for f in (
        order_of_experts, key_order, positive_homogeneity, sign_flip, inputs_unchanged, half_precision, lazy,
        non_contiguous, zero_task_vectors, one_expert, tiny_tensors,
    )
}  # fmt: skip
REQUIRED = (signature, same_tensors, deterministic, inputs_unchanged)
"""Without these a row of the leaderboard would mean nothing."""


@dataclass
class Report:
    """What `check_method` found: property -> None where it holds, else what was seen. `ok`: all required ones hold."""

    name: str
    required: dict[str, str | None] = field(default_factory=dict)
    others: dict[str, str | None] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not any(self.required.values())

    def __str__(self) -> str:
        lines = [f"{self.name}: {'ready for the leaderboard' if self.ok else 'NOT YET'}"]
        for heading, found in {"must hold": self.required, "holds for most": self.others}.items():
            lines.append(f"  {heading}")
            lines += [
                f"    {'no ' if seen else 'yes'}  {what}{f' ({seen})' if seen else ''}" for what, seen in found.items()
            ]
        return "\n".join(lines)

    __repr__ = __str__


def check_method(fn: Callable[[Sequence[Mapping[str, Tensor]]], Mapping[str, Tensor]], name: str = "") -> Report:
    """Try a method, taus -> tau_m, on three small task vectors, and say in words what it does and does not do.

    Required: it can be called with a list alone, returns the same names, shapes and dtypes, finite numbers, the same
    numbers twice, and leaves its inputs alone. The others are for your information: a method may well depend on the
    order of the experts, if it means to. Whatever fn does, nothing is raised; look at `.ok`, or print the report.
    Raises RuntimeError under `python -O`, which takes the assertions away: everything would seem to hold.

    >>> def my_mean(taus):
    ...     return {key: sum(tau[key] for tau in taus) / len(taus) for key in taus[0]}
    >>> report = check_method(my_mean)
    >>> report.ok
    True
    >>> print(str(report).splitlines()[0])
    my_mean: ready for the leaderboard
    """
    if not __debug__:
        raise RuntimeError("check_method: got python -O, which skips assertions, expected Python without it")
    report = Report(name or getattr(fn, "__name__", "method"))
    for check in REQUIRED:
        report.required[_words(check)] = _seen(check, fn)
    for check in PROPERTIES.values():
        if check not in REQUIRED:
            report.others[_words(check)] = _seen(check, fn)
    return report


def _words(check: Callable) -> str:
    return str(inspect.getdoc(check)).splitlines()[0]


def _seen(check: Callable, fn: Callable) -> str | None:
    try:
        check(fn)
    except Exception as e:  # whatever somebody's method raises is the finding
        words = " ".join(str(e).split())
        return (
            f"{type(e).__name__}: {words[:150]}" if not isinstance(e, AssertionError) else words[:150] or "it differs"
        )
    return None
