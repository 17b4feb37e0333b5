"""Slips that people make, and what they are told: got, expected, which key. Never a number, never a foreign error."""

import math
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_suite import TinySuite, tiny_lora_suite
from torch import nn

from samerge_edu.beforehand import check_n
from samerge_edu.evaluate import accuracy, choose_lam, id_average, reference, scores
from samerge_edu.files import LazyParams, load_params, save_params
from samerge_edu.forecast import forecast
from samerge_edu.lora import LoRA, check_adapters, dense
from samerge_edu.masks import keep_largest, own_generator, topk_mask
from samerge_edu.merges.average import average
from samerge_edu.merges.consensus import consensus, tall_masks
from samerge_edu.merges.iso import iso_c
from samerge_edu.merges.knots import knots
from samerge_edu.merges.peft_lora import cat, linear, svd
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.merges.ties import ties
from samerge_edu.methods import LORA_METHODS, METHODS
from samerge_edu.params import add, flatten, lazy_task_vectors, mean_cosine, pipe, task_vectors, unflatten
from samerge_edu.saliency import chain_flow, clip_flow, flow_score, magnitude_score, path_norm, random_score, synflow
from samerge_edu.streaming import merge_to_file
from samerge_edu.suites.published.hub import convert_pickle
from samerge_edu.suites.suite import Suite
from samerge_edu.transforms.breadcrumbs import breadcrumbs
from samerge_edu.transforms.dare import dare
from samerge_edu.transforms.della import della
from samerge_edu.transforms.lines import lines
from samerge_edu.transforms.lwptv import layer_saliency, lwptv
from samerge_edu.transforms.sa_lora import sa_lora
from samerge_edu.transforms.sa_merging import density, sa_merging, sign_conflict
from samerge_edu.transforms.trim import trim

SUITE = TinySuite()
BASE = {"w": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b": torch.tensor([1.0, -1.0])}
TAU = {"w": torch.tensor([[0.5, -1.0], [2.0, 0.1]]), "b": torch.tensor([0.3, 0.2])}
WANTS = {"w": TAU["w"].clone().requires_grad_(), "b": TAU["b"]}
NAN = {"w": torch.tensor([[0.5, math.nan], [2.0, 0.1]]), "b": TAU["b"]}
A, B = torch.ones(2, 3), torch.ones(4, 2)
WHOLE = SUITE.theta_0
SIZES = {"theta_0": BASE, "thetas": [BASE], "merge": average, "lam": 1.0, "per_tensor": True, "recipe": "x"}


def but(model, **changed):
    return {k: v for k, v in model.items() if k not in changed} | {k: v for k, v in changed.items() if v is not None}


def half(model):
    return dict(list(model.items())[: len(model) // 2])


def with_nan(model):
    key = next(iter(model))
    return model | {key: torch.full_like(model[key], math.nan)}


CALLS = [  # what is called, what it says
    # a model that is no whole model
    (lambda: accuracy(SUITE, {}, "ink"), "theta: missing key 'class_embedding', as the base has them"),
    (lambda: accuracy(SUITE, half(WHOLE), "ink"), "theta: missing key 'transformer.resblocks.0.mlp"),
    (lambda: accuracy(SUITE, WHOLE | {"more": TAU["w"]}, "ink"), "theta: unknown key 'more', as the base has them"),
    (lambda: accuracy(SUITE, with_nan(WHOLE), "ink"), "theta, key 'class_embedding': got NaN or infinity, expected"),
    (lambda: accuracy(SUITE, WHOLE | {"proj": torch.ones(2, 2)}, "ink"), "theta, key 'proj': got shape (2, 2), expect"),
    (lambda: accuracy(SUITE, WHOLE | {"proj": WHOLE["proj"].long()}, "ink"), "theta, key 'proj': got torch.int64, exp"),
    (lambda: accuracy(SUITE, WHOLE | {"proj": WHOLE["proj"].numpy()}, "ink"), "key 'proj': got a ndarray, expected"),
    (lambda: accuracy(SUITE, SUITE.tower, "ink"), "got a VisionTransformer, expected a dictionary of tensors; take mo"),
    (lambda: scores(SUITE, half(WHOLE)), "theta: missing key"),
    (lambda: id_average(SUITE, half(WHOLE), "val"), "theta: missing key"),
    (lambda: reference(SUITE, SUITE.experts | {"ink": half(WHOLE)}), "theta: missing key"),
    (lambda: choose_lam(SUITE, half(WHOLE)), "is missing from the update"),
    (lambda: choose_lam(SUITE, with_nan(WHOLE)), "theta, key 'class_embedding': got NaN or infinity"),
    # how many images, which tasks
    (lambda: accuracy(SUITE, WHOLE, "ink", n=0), "n: got 0, expected a whole number of images, at least 1, or None fo"),
    (lambda: accuracy(SUITE, WHOLE, "ink", n=-1), "n: got -1, expected"),
    (lambda: scores(SUITE, WHOLE, n=2.5), "n: got 2.5, expected"),
    (lambda: choose_lam(SUITE, WHOLE, n=0), "n: got 0, expected"),
    (lambda: check_n("10"), "n: got '10', expected"),
    (lambda: scores(SUITE, WHOLE, tasks=[]), "tasks: got none, expected some of ink, noise, land"),
    (lambda: scores(SUITE, WHOLE, tasks="inc"), "unknown task: got 'inc', expected one of ink"),
    # no dictionaries of tensors
    (lambda: task_vectors(nn.Linear(2, 2), [nn.Linear(2, 2)]), "model 0: got a Linear, expected a dictionary of tenso"),
    (lambda: average([nn.Linear(2, 2)]), "task vector 0: got a Linear, expected a dictionary of tensors; take model.s"),
    (lambda: average([{"w": np.ones(2)}]), "task vector 0: key 'w': got a ndarray, expected a torch tensor"),
    (lambda: add(BASE, {"w": [1.0], "b": [1.0]}), "key 'w': got a list, expected a torch tensor"),
    (lambda: save_params("unused", {"w": np.ones(2)}), "key 'w': got a ndarray, expected a torch tensor"),
    (lambda: average([{"w": torch.ones(2, device="meta")}]), "task vector 0: key 'w': got a meta tensor, which holds"),
    (lambda: ties([{"w": torch.eye(2).to_sparse()}]), "task vector 0: key 'w': got a torch.sparse_coo tensor, expecte"),
    (lambda: trim([{"w": torch.ones(2, dtype=torch.complex64)}]), "task vector 0, key 'w': got complex tensor torch.c"),
    (lambda: trim([{"w": torch.ones(2, dtype=torch.int32)}]), "task vector 0, key 'w': got integer buffer torch.int32"),
    # lists that are none
    (lambda: average(TAU), "got one task vector, expected a list of them: put it in brackets"),
    (lambda: average(None), "got a NoneType, expected a list of task vectors"),
    (lambda: task_vectors(BASE, 3), "got a int, expected a list of experts"),
    (lambda: task_vectors(BASE, (x for x in [])), "got 0 experts, expected at least 1"),
    (lambda: lazy_task_vectors(BASE, BASE), "got one expert, expected a list of them"),
    (lambda: merge_to_file(BASE, BASE, average, "unused", lam=1, per_tensor=True, recipe="x"), "got one expert, expec"),
    # numbers
    (lambda: trim([TAU], density="0.2"), "density: got '0.2', expected the fraction kept, a number in (0, 1]"),
    (lambda: trim([TAU], density=20), "density: got 20, expected the fraction kept, in (0, 1]; 20 % is 0.2"),
    (lambda: ties([TAU], density=None), "density: got None, expected the fraction kept"),
    (lambda: breadcrumbs([TAU], density=math.nan), "density: got nan, expected the fraction kept"),
    (lambda: add(BASE, TAU, lam=math.inf), "lam: got inf, expected a finite number"),
    (lambda: add(BASE, TAU, lam="0.3"), "lam: got '0.3', expected a finite number"),
    (lambda: add(BASE, TAU, lam=torch.ones(2)), "lam: got nan, expected a finite number"),
    (lambda: add({"w": torch.tensor([1, 2])}, {"w": torch.tensor([0.5, 0.5])}), "key 'w': got torch.int64 in the base"),
    (lambda: add({"w": torch.ones(2)}, {"w": torch.tensor([1, 2])}), "key 'w': got torch.int64 in the update, expecte"),
    (lambda: clip_flow(WHOLE, heads=0), "heads: got 0, expected the number of attention heads, at least 1"),
    (lambda: clip_flow(WHOLE, heads="2"), "heads: got '2', expected the number of attention heads"),
    (lambda: topk_mask(torch.ones(3), 4), "k: got 4, expected 0..3"),
    # random numbers
    (lambda: dare([TAU], 0), "generator: got 0, expected one: torch.Generator().manual_seed(0)"),
    (lambda: della([TAU], None), "generator: got None, expected one: torch.Generator().manual_seed(0)"),
    (lambda: own_generator(7, "w", 0), "generator: got 7, expected one"),
    # models that do not fit together
    (lambda: mean_cosine([TAU, {"w": TAU["w"]}]), "task vector 1: missing key 'b' (1 missing in all)"),
    (lambda: sign_conflict([TAU, {"w": TAU["w"]}]), "task vector 1: missing key 'b' (1 missing in all)"),
    (lambda: add(BASE, but(TAU, b=None)), "key 'b' is missing from the update"),
    (lambda: unflatten(torch.ones(5), like=BASE), "got a vector of shape (5,), expected (6,)"),
    (lambda: flow_score(BASE, chain_flow)([but(TAU, b=None)]), "task vector 0, key 'b': got no such tensor, expected"),
    (lambda: iso_c([TAU, NAN]), "task vector 1, key 'w': got 1 entries that are NaN or infinite"),
    (lambda: knots([TAU, NAN], merge=average), "task vector 1, key 'w': got 1 entries that are NaN or infinite"),
    # adapters
    (lambda: dense({"w": LoRA(A.double(), B, 1.0)}), "adapter 0, key 'w': got A torch.float64 and B torch.float32, ex"),
    (lambda: dense({"w": LoRA(A.long(), B.long(), 1.0)}), "adapter 0, key 'w': got A torch.int64 and B torch.int64, e"),
    (lambda: dense({"w": LoRA(A, B, math.nan)}), "adapter 0, key 'w': got scale nan, expected a finite number"),
    (lambda: dense({"w": LoRA(A, B, "2")}), "adapter 0, key 'w': got scale '2', expected a finite number"),
    (lambda: dense({"w": LoRA(A.numpy(), B, 1.0)}), "key 'A': got a ndarray, expected a torch tensor"),
    (lambda: dense({"w": LoRA(A * math.nan, B, 1.0)}), "adapter 0, key 'w': got NaN or infinity in A, expected"),
    (lambda: check_adapters({"w": LoRA(A, B, 1.0)}), "got one adapter, expected a list of them: put it in brackets"),
    (lambda: cat(iter([])), "got 0 adapters, expected at least 1"),
    # files
    (lambda: save_params("unused", {"__metadata__": torch.ones(1)}), "got a tensor named '__metadata__', expected tex"),
    (lambda: save_params("unused", BASE, {"recipe": None}), "metadata: got 'recipe': None, expected text"),
    (lambda: save_params("unused", {"w": torch.ones(1, dtype=torch.complex64)}), "'w': got torch.complex64, expected"),
    (lambda: merge_to_file(**SIZES | {"recipe": None}, out="unused"), "metadata: got 'recipe': None, expected text"),
    (lambda: merge_to_file(**SIZES, out="unused", keep={"w": TAU["w"]}), "keep: got 'w', which is a merged tensor's n"),
    (lambda: merge_to_file(**SIZES, out="unused", keep={"__metadata__": TAU["w"]}), "got a tensor named '__metadata__"),
]  # fmt: skip


@pytest.mark.parametrize("n", range(len(CALLS)))
def test_a_bad_call_says_what_was_wrong(tmp_path, monkeypatch, n):
    monkeypatch.chdir(tmp_path)
    call, message = CALLS[n]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
    assert not list(tmp_path.iterdir()), "something was written"


# ---------------------------------------------------------------------------- iterators are lists


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same({**a}, {**b}) for a, b in zip(one, other, strict=True))
    return one == other


TAUS = [TAU, {"w": torch.tensor([[-0.5, 1.5], [1.0, 0.2]]), "b": torch.tensor([0.1, -0.4])}]
GENERATOR = torch.Generator().manual_seed(0)
OF_LISTS = {
    "task_vectors": partial(task_vectors, BASE),
    "lazy_task_vectors": partial(lazy_task_vectors, BASE),
    "average": average,
    "task_arithmetic": task_arithmetic,
    "consensus": consensus,
    "tall_masks": tall_masks,
    "knots": partial(knots, merge=average),
    "mean_cosine": mean_cosine,
    "density": density,
    "sign_conflict": sign_conflict,
    "layer_saliency": layer_saliency,
    "lwptv by parameter": partial(lwptv, granularity="parameter"),
    "sa_merging": partial(sa_merging, score=magnitude_score("agreement")),
    "flow_score": lambda taus: flow_score({"w": BASE["w"]}, chain_flow)({"w": tau["w"]} for tau in taus),
    "random_score": lambda taus: random_score(torch.Generator().manual_seed(0))(taus),
    "keep_largest": lambda taus: {key: keep_largest(taus, 0.5)(key) for key in ("w",)},
    "forecast": lambda models: str(forecast(models, per_tensor=True).needs),
}


@pytest.mark.parametrize("name", OF_LISTS)
def test_an_iterator_is_as_good_as_a_list(name):
    call = OF_LISTS[name]
    expected = call(TAUS)
    assert same(call(tau for tau in TAUS), expected)
    assert same(call(map(dict, TAUS)), expected)


@pytest.mark.parametrize("name", METHODS)
def test_every_row_of_the_leaderboard_takes_an_iterator(name):
    """To mend a method that fails here: `taus = check_same_structure(taus)`, which hands out the list."""
    taus = task_vectors(SUITE.theta_0, list(SUITE.experts.values()))
    merge = METHODS[name].recipe(SUITE)
    assert same(merge(tau for tau in taus), merge(taus))


@pytest.mark.parametrize("name", LORA_METHODS)
def test_rows_for_adapters_take_an_iterator(name):
    suite = tiny_lora_suite(0.1)
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    merge = LORA_METHODS[name].recipe(suite)
    assert same(merge(tau for tau in taus), merge(taus))


@pytest.mark.parametrize("merge", [cat, svd, linear, check_adapters])
def test_merges_of_adapters_take_an_iterator(merge):
    adapters = [{"w": LoRA(torch.randn(2, 3), torch.randn(4, 2), 0.5)} for _ in range(2)]
    assert str(merge(a for a in adapters)) == str(merge(adapters))
    base = {"w": torch.ones(4, 3)}
    assert str(sa_lora((a for a in adapters), theta_0=base, flow=chain_flow)) == str(
        sa_lora(adapters, theta_0=base, flow=chain_flow)
    )


def test_a_merge_to_file_takes_an_iterator(tmp_path):
    out = merge_to_file(**SIZES | {"thetas": (x for x in [TAU, BASE])}, out=tmp_path / "m")
    assert same(load_params(out), add(BASE, average(task_vectors(BASE, [TAU, BASE]))))


# ---------------------------------------------------------------------------- what is allowed


def test_tensors_that_want_a_gradient_are_merged_without():
    for call in (ties, average, task_arithmetic, partial(trim, density=0.5), partial(task_vectors, BASE)):
        result = call([WANTS, TAU])
        assert same(result, call([TAU, TAU]))
        assert not any(x.requires_grad for m in (result if isinstance(result, list) else [result]) for x in m.values())
    assert not lazy_task_vectors(WANTS, [TAU])[0]["w"].requires_grad
    assert WANTS["w"].requires_grad


def test_lam_may_be_a_number_of_any_kind():
    for lam in (2, 2.0, np.float32(2), np.int64(2), torch.tensor(2.0), torch.tensor([2.0])):
        assert torch.equal(add(BASE, TAU, lam)["b"], BASE["b"] + 2 * TAU["b"])


def test_a_lazy_model_is_scored_and_read_once(tmp_path, monkeypatch):
    save_params(tmp_path / "m.safetensors", WHOLE)
    reads, read = [], LazyParams.__getitem__
    monkeypatch.setattr(LazyParams, "__getitem__", lambda self, key: reads.append(key) or read(self, key))
    assert scores(SUITE, LazyParams(tmp_path / "m.safetensors")) == scores(SUITE, WHOLE)
    assert sorted(reads) == sorted(WHOLE)


def test_one_task_may_be_given_without_brackets():
    assert scores(SUITE, WHOLE, tasks="land") == scores(SUITE, WHOLE, tasks=["land"])


def test_half_and_double_precision_are_scored():
    for dtype in (torch.float64, torch.bfloat16):
        accuracy(SUITE, {k: v.to(dtype).float() for k, v in WHOLE.items()}, "ink")


def test_a_suite_draws_no_images_for_no_number():
    unused = dict.fromkeys(
        ("name", "family", "theta_0", "experts", "heads", "visual", "logit_scale", "attention_heads")
    )
    suite = Suite(**unused, tasks={"ink": SimpleNamespace(kind="id")}, draw=lambda *_: pytest.fail("drawn"))
    for n in (0, -3, 1.5):
        with pytest.raises(ValueError, match=f"n: got {n}, expected a whole number of images"):
            suite.images("ink", "val", n)


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


def test_synflow_of_tied_weights_is_that_of_both_uses():
    model = Tied()
    W = model.first.weight.detach().double().abs()
    ones = torch.ones(3, dtype=torch.float64)
    assert path_norm(model, (3,)).item() == pytest.approx((ones @ W @ W @ ones).item())
    scored = synflow(model, (3,))
    assert list(scored) == ["first.weight"]
    first, second = W * torch.outer(W.T @ ones, ones), W * torch.outer(ones, W @ ones)  # by paths
    torch.testing.assert_close(scored["first.weight"], first + second)


def test_an_empty_pickle_is_refused_by_its_name(tmp_path):
    (tmp_path / "empty.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.bin holds more than tensors and was not opened: EOFError"):
        convert_pickle(tmp_path / "empty.bin", tmp_path / "out")


def test_flatten_pipe_and_lines_go_on_with_lists():
    assert flatten(TAU).shape == (6,)
    blocks = [{f"resblocks.{i}.w": tau["w"] for i in range(2)} for tau in TAUS]
    merge = pipe(partial(trim, density=0.5), partial(lines, merge=task_arithmetic))
    assert same(merge(iter(blocks)), merge(blocks))
