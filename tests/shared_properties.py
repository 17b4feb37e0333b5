"""What every merge must do, and the table of merges that must do it.

To add a method: one line in MERGES (a transform is followed by a merge, so that everything is
`list[Params] -> Params`), and, where a property does not hold by the method's own formula, one line in
EXCEPTIONS with the reason. `test_shared_properties.py` runs each property over each method, and checks
that each exception really is one.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from samerge_edu.merges.actmat import actmat
from samerge_edu.merges.average import average
from samerge_edu.merges.consensus import consensus
from samerge_edu.merges.emr import emr
from samerge_edu.merges.iso import iso_c, iso_cts
from samerge_edu.merges.localize_and_stitch import localize_and_stitch
from samerge_edu.merges.magmax import magmax
from samerge_edu.merges.pcb import pcb
from samerge_edu.merges.svc import svc
from samerge_edu.merges.tact import tact
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.merges.ties import ties
from samerge_edu.merges.tsv_m import tsv_m
from samerge_edu.merges.wudi import wudi, wudi_flow, wudi_optimum
from samerge_edu.params import lazy_task_vectors, pipe
from samerge_edu.transforms.breadcrumbs import breadcrumbs
from samerge_edu.transforms.dare import dare
from samerge_edu.transforms.della import della
from samerge_edu.transforms.free_fr import free_fr
from samerge_edu.transforms.lines import lines
from samerge_edu.transforms.lwptv import lwptv
from samerge_edu.transforms.trim import trim

GENERATOR = torch.Generator().manual_seed(0)  # only its seed counts: see masks.own_generator

# ---------------------------------------------------------------------------- the table

MERGES: dict[str, Callable] = {
    "average": average,
    "task arithmetic": task_arithmetic,
    # element-wise
    "trim": pipe(partial(trim, density=0.3), task_arithmetic),
    "trim, per tensor": pipe(partial(trim, density=0.3, scope="tensor"), task_arithmetic),
    "TIES": partial(ties, density=0.3),
    "TIES, sum": partial(ties, density=0.3, reduce="sum"),
    "TIES, per tensor": partial(ties, density=0.3, scope="tensor"),
    "Localize-and-Stitch": partial(localize_and_stitch, density=0.3),
    "PCB": partial(pcb, density=0.1),
    "PCB, soft-max": partial(pcb, density=0.1, form="softmax"),
    "Consensus": consensus,
    "MagMax": magmax,
    "EMR": emr,
    "DARE": pipe(partial(dare, generator=GENERATOR), task_arithmetic),
    "DARE + TIES": pipe(partial(dare, generator=GENERATOR), ties),
    "DELLA": pipe(partial(della, generator=GENERATOR, density=0.5, epsilon=0.3), partial(ties, density=1.0)),
    "Breadcrumbs": pipe(partial(breadcrumbs, density=0.5, outliers=0.25), task_arithmetic),
    "LiNeS": partial(lines, merge=task_arithmetic),
    "TIES + LiNeS, by position": partial(lines, merge=partial(ties, density=0.3), beta=0.8, outside="position"),
    "LwPTV": pipe(partial(lwptv, eta=0.4), task_arithmetic),
    "LwPTV, sum, blocks + TIES": pipe(partial(lwptv, eta=0.6, norm="sum", granularity="block"), ties),
    "LwPTV, AND": pipe(partial(lwptv, eta=0.4, mask_rule="and"), task_arithmetic),
    "LwPTV, own": pipe(partial(lwptv, eta=0.4, mask_rule="own"), task_arithmetic),
    "LwPTV, parameters": pipe(partial(lwptv, eta=0.6, granularity="parameter"), task_arithmetic),
    "LwPTV, shuffled": pipe(partial(lwptv, eta=0.4, shuffle=GENERATOR), task_arithmetic),
    # spectral and least squares
    "TSV-M": tsv_m,
    "Iso-C": iso_c,
    "Iso-CTS": iso_cts,
    "WUDI": partial(wudi, scope="matrices"),
    "WUDI, blocks": wudi,
    "WUDI, flow": partial(wudi_flow, time=3.0, scope="matrices"),
    "WUDI, end of the flow": partial(wudi_flow, scope="matrices"),
    "WUDI, optimum": partial(wudi_optimum, scope="matrices"),
    "WUDI, optimum, blocks": wudi_optimum,
    "ACTMat": actmat,
    "TACT": tact,
    "SVC + TA": partial(svc, merge=task_arithmetic, lam=0.3),
    "SVC + TSV-M": partial(svc, merge=tsv_m, alpha=1.0),
    "FR": pipe(partial(free_fr, scope="matrices"), task_arithmetic),
    "FR, blocks": pipe(free_fr, task_arithmetic),
}

EXCEPTIONS: dict[str, dict[str, str]] = {
    "order_of_experts": {
        "DARE": "each expert draws its own lots",
        "DARE + TIES": "each expert draws its own lots",
        "DELLA": "each expert draws its own lots",
    },
    "key_order": {},
    "positive_homogeneity": {
        "PCB": "tanh sees the raw task vectors",
        "WUDI": "the step of Adam, lr, is in the unit of the weights",
        "WUDI, blocks": "the step of Adam, lr, is in the unit of the weights",
    },
    "sign_flip": {},
    "inputs_unchanged": {},
    "half_precision": {
        "FR": "the filtered task vectors are rounded to 16 bits before they are summed",
        "FR, blocks": "the filtered task vectors are rounded to 16 bits before they are summed",
        "SVC + TA": "the merged update is rounded to 16 bits before it is calibrated",
        "SVC + TSV-M": "the merged update is rounded to 16 bits before it is calibrated",
    },
    "lazy": {},
    "non_contiguous": {},
    "zero_task_vectors": {},
    "one_expert": {
        "Consensus": "two tasks have to use an entry: one expert gives the base",
    }
    | {name: "the mean of one task vector is itself: refused" for name in MERGES if name.startswith("LwPTV")},
    "tiny_tensors": {
        "WUDI, blocks": "none of the names is that of a weight in a transformer block",
        "WUDI, optimum, blocks": "none of the names is that of a weight in a transformer block",
        "FR, blocks": "none of the names is that of a weight in a transformer block",
    },
    "refusals": {},
    "not_finite": {
        "average": "a NaN stays a NaN: nothing is ranked",
        "task arithmetic": "a NaN stays a NaN: nothing is ranked",
    },
}

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
    a, b, c = example_taus()
    expected = merge([a, b, c])
    assert_same(merge([c, a, b]), expected)
    assert_same(merge([b, a, c]), expected)


def key_order(merge: Callable) -> None:
    taus = example_taus()
    shuffled = [{k: tau[k] for k in reversed(tau)} for tau in taus]
    assert_same(merge(shuffled), merge(taus))
    assert_same(merge([taus[0], *shuffled[1:]]), merge(taus))


def positive_homogeneity(merge: Callable) -> None:
    taus = example_taus()
    doubled = merge([{k: 2.5 * v for k, v in tau.items()} for tau in taus])
    assert_same(doubled, {k: 2.5 * v for k, v in merge(taus).items()})


def sign_flip(merge: Callable) -> None:
    taus = example_taus()
    flipped = merge([{k: -v for k, v in tau.items()} for tau in taus])
    assert_same(flipped, {k: -v for k, v in merge(taus).items()})


def inputs_unchanged(merge: Callable) -> None:
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
    theta_0, *thetas = example_taus(torch.float32, n=4)
    lazies = lazy_task_vectors(theta_0, thetas)
    assert_same(merge(lazies), merge([dict(tau) for tau in lazies]), rtol=0, atol=0)


def non_contiguous(merge: Callable) -> None:
    taus = example_taus()
    strided = [{k: v.mT.contiguous().mT if v.ndim == 2 else v for k, v in tau.items()} for tau in taus]
    assert not strided[0]["visual.proj"].is_contiguous()
    assert_same(merge(strided), merge(taus))


def zero_task_vectors(merge: Callable) -> None:
    zeros = [{k: torch.zeros_like(v) for k, v in tau.items()} for tau in example_taus()]
    assert_same(merge(zeros), zeros[0], rtol=0, atol=0)
    one_zero = merge([*zeros[:1], *example_taus()[1:]])
    assert all(v.isfinite().all() for v in one_zero.values())


def one_expert(merge: Callable) -> None:
    result = merge(example_taus(n=1))
    assert all(v.isfinite().all() for v in result.values())
    assert any(v.any() for v in result.values())


def tiny_tensors(merge: Callable) -> None:
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


def refusals(merge: Callable) -> None:
    a, b, c = example_taus()
    with pytest.raises(ValueError, match="got 0 task vectors, expected at least"):
        merge([])
    with pytest.raises(ValueError, match="got one task vector, expected a list"):
        merge(a)
    with pytest.raises(ValueError, match=r"missing key 'visual.proj'"):
        merge([a, {k: v for k, v in b.items() if k != "visual.proj"}, c])
    with pytest.raises(ValueError, match="extra key 'more'"):
        merge([a, b, c | {"more": torch.ones(2, dtype=torch.float64)}])
    with pytest.raises(ValueError, match=r"task vector 1, key 'visual.proj': got shape \(7, 4\), expected \(4, 7\)"):
        merge([a, b | {"visual.proj": b["visual.proj"].T}, c])
    with pytest.raises(ValueError, match=r"task vector 2, key 'visual.proj': got dtype torch.float32"):
        merge([a, b, c | {"visual.proj": c["visual.proj"].float()}])


def not_finite(merge: Callable) -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        taus = example_taus()
        taus[1]["visual.proj"][2, 3] = bad
        with pytest.raises(
            ValueError, match=r"task vector 1, key 'visual.proj': got 1 entries that are NaN or infinite"
        ):
            merge(taus)


PROPERTIES: dict[str, Callable[[Callable], None]] = {
    f.__name__: f
    for f in (
        order_of_experts,
        key_order,
        positive_homogeneity,
        sign_flip,
        inputs_unchanged,
        half_precision,
        lazy,
        non_contiguous,
        zero_task_vectors,
        one_expert,
        tiny_tensors,
        refusals,
        not_finite,
    )
}
