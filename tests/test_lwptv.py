"""LwPTV against loops over layers and single numbers, at its limits, and in front of other merges."""

import inspect
import math
from collections.abc import Mapping
from functools import partial

import pytest
import torch
from shared_properties import assert_same, example_taus

from samerge_edu.lora import LoRA, dense
from samerge_edu.merges.consensus import consensus
from samerge_edu.merges.pcb import pcb
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.merges.ties import ties
from samerge_edu.params import add, lazy_task_vectors, pipe
from samerge_edu.transforms.dare import dare
from samerge_edu.transforms.lwptv import Pruned, layer_of, layer_saliency, lwptv, shared_mask

RULES = {"or": any, "and": all}


def layer_name(key, granularity):
    """By splitting at the dots: which block a key of the examples is in."""
    parts = key.split(".")
    return f"block {parts[parts.index('resblocks') + 1]}" if granularity == "block" and "resblocks" in parts else key


def saliency_oracle(taus, norm, granularity):
    """Loops over layers, tensors and single numbers."""
    S = {}
    for layer in dict.fromkeys(layer_name(key, granularity) for key in taus[0]):
        distances, count = [0.0] * len(taus), 0
        for key in taus[0]:
            if layer_name(key, granularity) != layer:
                continue
            for column in zip(*(tau[key].flatten().tolist() for tau in taus), strict=True):
                mean = sum(column) / len(column)
                distances = [d + abs(x - mean) for d, x in zip(distances, column, strict=True)]
                count += 1
        S[layer] = [d / max(count, 1) for d in distances] if norm == "mean" else distances
    return S


def mask_oracle(S, eta, rule):
    """Loops over tasks: which layers each one prunes, from the least salient up; of equals the later name first."""
    N = len(next(iter(S.values())))
    own = {layer: [True] * N for layer in S}
    for n in range(N):
        from_below = sorted(sorted(S, reverse=True), key=lambda layer: S[layer][n])
        for layer in from_below[: round(eta * len(S))]:
            own[layer][n] = False
    return own if rule == "own" else {layer: [RULES[rule](kept)] * N for layer, kept in own.items()}


def as_lists(layers):
    return {layer: values.tolist() for layer, values in layers.items()}


# ---------------------------------------------------------------------------- against loops


@pytest.mark.parametrize("granularity", ["tensor", "block"])
@pytest.mark.parametrize("norm", ["mean", "sum"])
@pytest.mark.parametrize("N", [2, 3, 4])
def test_saliency_is_the_distance_to_the_mean_task_vector(N, norm, granularity):
    taus = example_taus(n=N)
    S, expected = layer_saliency(taus, norm, granularity), saliency_oracle(taus, norm, granularity)
    assert list(S) == list(expected)  # in the order of the tensors, for a picture over depth
    for layer in S:
        assert S[layer].tolist() == pytest.approx(expected[layer])


@pytest.mark.parametrize("rule", ["or", "and", "own"])
@pytest.mark.parametrize("eta", [0.0, 0.2, 0.5, 0.7, 0.9, 1.0])
def test_the_mask_prunes_a_share_of_each_task_and_combines(eta, rule):
    g = torch.Generator().manual_seed(3)
    S = {f"l{i}": torch.randint(0, 5, (3,), generator=g).double() for i in range(11)}  # many equal scores
    assert as_lists(shared_mask(S, eta, rule)) == mask_oracle(as_lists(S), eta, rule)


@pytest.mark.parametrize("granularity", ["tensor", "block"])
@pytest.mark.parametrize("rule", ["or", "and", "own"])
@pytest.mark.parametrize(("eta", "norm"), [(0.4, "mean"), (0.7, "sum"), (0.7, "mean")])
def test_lwptv_zeroes_the_pruned_layers_and_nothing_else(eta, norm, rule, granularity):
    taus = example_taus()
    M = mask_oracle(saliency_oracle(taus, norm, granularity), eta, rule)
    for n, (tau_hat, tau) in enumerate(zip(lwptv(taus, eta, norm, granularity, rule), taus, strict=True)):
        for key in tau:
            expected = tau[key] if M[layer_name(key, granularity)][n] else torch.zeros_like(tau[key])
            assert torch.equal(tau_hat[key], expected)


@pytest.mark.parametrize("rule", ["or", "and", "own"])
@pytest.mark.parametrize("eta", [0.3, 0.7, 0.95])
def test_by_parameter_every_number_is_a_layer(eta, rule):
    taus = example_taus()
    places = [(key, i) for key in sorted(taus[0]) for i in range(taus[0][key].numel())]
    S = {}
    for key, i in places:
        column = [tau[key].flatten()[i].item() for tau in taus]
        S[(key, i)] = [abs(x - sum(column) / 3) for x in column]
    M = mask_oracle(S, eta, rule)
    for n, tau_hat in enumerate(lwptv(taus, eta, granularity="parameter", mask_rule=rule)):
        for key, i in places:
            expected = taus[n][key].flatten()[i] if M[(key, i)][n] else 0.0
            assert tau_hat[key].flatten()[i] == expected, (key, i)


def test_the_layers_come_in_the_order_of_the_first_expert():
    first, *others = example_taus()
    turned = [{key: tau[key] for key in reversed(tau)} for tau in others]
    assert list(layer_saliency([first, *turned])) == list(first)


@pytest.mark.parametrize("piece", [1, 5, 1000])
def test_large_tensors_are_looked_at_in_pieces(monkeypatch, piece):
    monkeypatch.setattr("samerge_edu.params.PIECE", piece)
    S, expected = layer_saliency(example_taus()), saliency_oracle(example_taus(), "mean", "tensor")
    for layer in S:
        assert S[layer].tolist() == pytest.approx(expected[layer])


def test_the_mean_does_not_favour_large_layers_and_the_sum_does():
    """The same deviation per number in both layers, but for a little more in the small one."""
    a = {"large": torch.full((10, 10), 1.0), "small": torch.full((2,), 1.1)}
    b = {"large": torch.full((10, 10), -1.0), "small": torch.full((2,), -1.1)}
    assert not lwptv([a, b], eta=0.5, norm="mean")[0]["large"].any()
    assert not lwptv([a, b], eta=0.5, norm="sum")[0]["small"].any()


def test_a_layer_of_one_number_counts_as_one_and_an_empty_layer_scores_0():
    a, b = {"s": torch.tensor(3.0), "none": torch.ones(0, 2)}, {"s": torch.tensor(-1.0), "none": torch.ones(0, 2)}
    assert as_lists(layer_saliency([a, b])) == {"s": [2.0, 2.0], "none": [0.0, 0.0]}


def test_the_defaults_are_the_papers():
    knobs = {name: knob.default for name, knob in inspect.signature(lwptv).parameters.items()}
    assert knobs.pop("taus") is inspect.Parameter.empty
    assert knobs == {"eta": 0.7, "norm": "mean", "granularity": "tensor", "mask_rule": "or", "shuffle": None}
    assert inspect.signature(shared_mask).parameters["eta"].default == 0.7


# ---------------------------------------------------------------------------- limits


@pytest.mark.parametrize("granularity", ["tensor", "block", "parameter"])
@pytest.mark.parametrize("rule", ["or", "and", "own"])
def test_eta_0_changes_nothing_and_eta_1_gives_the_base(granularity, rule):
    taus = example_taus()
    for tau_hat, tau in zip(lwptv(taus, 0, granularity=granularity, mask_rule=rule), taus, strict=True):
        assert_same({k: tau_hat[k] for k in tau}, tau, rtol=0, atol=0)
    taus[1] = taus[0]  # numbers on which all agree are kept as well, if nothing is pruned
    assert_same(dict(lwptv(taus[:2], 0, granularity=granularity, mask_rule=rule)[0]), taus[0], rtol=0, atol=0)
    for tau_hat in lwptv(taus, 1, granularity=granularity, mask_rule=rule):
        assert not any(v.any() for v in tau_hat.values())


@pytest.mark.parametrize(
    "merge",
    [task_arithmetic, ties, pcb, consensus, pipe(partial(dare, generator=torch.Generator().manual_seed(0)), ties)],
    ids=["task arithmetic", "TIES", "PCB", "consensus", "DARE + TIES"],
)
@pytest.mark.parametrize("lam", [0.3, 1.0, -2.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_pruned_layers_of_the_merged_model_are_the_pre_trained_ones_bit_by_bit(merge, lam, dtype):
    theta_0, *thetas = example_taus(dtype, n=4)
    taus = lazy_task_vectors(theta_0, thetas)
    kept = shared_mask(layer_saliency(taus), eta=0.7)
    theta = add(theta_0, pipe(lwptv, merge)(taus), lam)
    assert {bool(M.any()) for M in kept.values()} == {True, False}
    for key, M in kept.items():
        same = torch.equal(theta[key].view(torch.int16), theta_0[key].view(torch.int16))
        assert same or M.any(), key
        assert not same or not M.any() or merge is not task_arithmetic, key  # sparse merges may empty a kept layer


def test_identical_experts_have_nothing_to_rank_by():
    """All scores are 0: the quota goes to the first layers by name, and the saliency says that it means nothing."""
    tau = {f"l{i}": torch.full((2, 2), float(i + 1)) for i in reversed(range(10))}
    assert not any(S.any() for S in layer_saliency([tau, tau]).values())
    tau_hat = lwptv([tau, tau])[0]
    assert sorted(key for key in tau if tau_hat[key].any()) == ["l0", "l1", "l2"]


def test_one_expert_is_its_own_mean():
    for granularity in ("tensor", "block", "parameter"):
        with pytest.raises(ValueError, match="got 1 task vectors, expected at least 2"):
            lwptv(example_taus(n=1), granularity=granularity)


def test_half_precision_is_averaged_in_float32():
    """2048 + 1 is 2048 in float16: the mean of the two would be one of them."""
    S = layer_saliency([{"w": torch.tensor([2048.0]).half()}, {"w": torch.tensor([2050.0]).half()}], norm="sum")
    assert S["w"].tolist() == [1.0, 1.0]


# ---------------------------------------------------------------------------- shuffling


def test_shuffled_scores_prune_as_many_layers_but_others():
    g = torch.Generator().manual_seed(1)
    taus = [{f"l{i}": torch.randn(4, generator=g) for i in range(30)} for _ in range(3)]

    def kept(seed):
        shuffle = None if seed is None else torch.Generator().manual_seed(seed)
        return [key for key, tau in lwptv(taus, shuffle=shuffle)[0].items() if tau.any()]

    assert len(kept(None)) == len(kept(0)) == len(kept(1)) < 30
    assert kept(0) == kept(0)
    assert len({tuple(kept(seed)) for seed in (None, 0, 1, 2)}) == 4


def test_shuffling_moves_each_layers_scores_together_and_not_with_the_order_of_keys():
    taus = example_taus()
    shuffle = torch.Generator().manual_seed(0)
    own = lwptv(taus, 0.5, mask_rule="own", shuffle=shuffle)
    patterns = sorted(tuple(bool(tau_hat[key].any()) for tau_hat in own) for key in taus[0])
    assert patterns == sorted(tuple(m) for m in as_lists(shared_mask(layer_saliency(taus), 0.5, "own")).values())
    turned = lwptv([{k: tau[k] for k in reversed(tau)} for tau in taus], 0.5, mask_rule="own", shuffle=shuffle)
    assert all(torch.equal(a[k], b[k]) for a, b in zip(own, turned, strict=True) for k in a)


# ---------------------------------------------------------------------------- in front of others


def test_gradients_reach_learned_coefficients_through_it():
    """As in layer-wise AdaMerging: one number per task and layer, all of them behind the mask."""
    theta_0, taus = example_taus(n=4)[3], example_taus(n=3)
    tau_hat, layers = lwptv(taus), list(taus[0])
    lam = torch.full((3, len(layers)), 0.3, dtype=torch.float64, requires_grad=True)
    tau_m = {key: sum(lam[n, i] * tau_hat[n][key] for n in range(3)) for i, key in enumerate(layers)}
    theta = add(theta_0, tau_m)
    sum(x.square().sum() for x in theta.values()).backward()
    kept = shared_mask(layer_saliency(taus))
    assert {bool(M.any()) for M in kept.values()} == {True, False}
    for i, key in enumerate(layers):
        for n in range(3):
            expected = 2 * (theta[key].detach() * taus[n][key]).sum().item() if kept[key].any() else 0.0
            assert lam.grad[n, i].item() == pytest.approx(expected, rel=1e-4, abs=1e-6), (key, n)


def test_lora_experts_are_made_dense_first_and_what_has_no_adapter_goes_first():
    g = torch.Generator().manual_seed(0)
    theta_0 = {"a.weight": torch.randn(6, 5, generator=g), "b.weight": torch.randn(4, 6, generator=g)}
    theta_0 |= {f"{name}.bias": torch.randn(3, generator=g) for name in "cde"}
    adapters = [
        {
            key: LoRA(torch.randn(2, i, generator=g), size * torch.randn(o, 2, generator=g), 0.5)
            for key, (o, i), size in (("a.weight", (6, 5), 1.0), ("b.weight", (4, 6), 3.0))
        }
        for _ in range(2)
    ]
    taus = [dense(adapter, like=theta_0) for adapter in adapters]
    half = lwptv(taus, eta=0.6)  # three of five tensors: those without an adapter
    for tau_hat, adapter in zip(half, adapters, strict=True):
        for key in theta_0:
            expected = 0.5 * adapter[key].B @ adapter[key].A if key in adapter else torch.zeros(3)
            torch.testing.assert_close(tau_hat[key], expected)
    more = lwptv(taus, eta=0.8)
    assert [key for key in theta_0 if more[0][key].any()] == ["b.weight"]


# ---------------------------------------------------------------------------- memory


class Recorded(Mapping):
    """A task vector that notes each read."""

    def __init__(self, tau, n, reads):
        self.tau, self.n, self.reads = tau, n, reads
        self.structure = {k: (tuple(v.shape), v.dtype) for k, v in tau.items()}

    def __getitem__(self, key):
        self.reads.append((key, self.n))
        return self.tau[key]

    def __iter__(self):
        return iter(self.tau)

    def __len__(self):
        return len(self.tau)


def test_the_experts_are_read_once_tensor_by_tensor():
    reads = []
    taus = [Recorded(tau, n, reads) for n, tau in enumerate(example_taus())]
    tau_hat = lwptv(taus)
    assert reads == [(key, n) for key in example_taus()[0] for n in range(3)]
    reads.clear()
    tau_hat[1]["visual.proj"]
    assert reads == [("visual.proj", 1)]


def test_a_pruned_task_vector_copies_nothing_that_it_keeps():
    tau = {"a": torch.ones(2), "b": torch.ones(3).half(), "c": torch.ones(2)}
    pruned = Pruned(tau, {"a": torch.tensor(True), "b": torch.tensor(False), "c": torch.tensor([False, True])})
    assert pruned["a"] is tau["a"]
    assert (pruned["b"].dtype, pruned["b"].tolist()) == (torch.float16, [0, 0, 0])
    assert pruned["c"].tolist() == [0, 1]
    assert (list(pruned), len(pruned), pruned.structure["b"]) == (["a", "b", "c"], 3, ((3,), torch.float16))
    assert tau["c"].tolist() == [1, 1]


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("granularity", ["tensor", "parameter"])
def test_eta_is_a_share(granularity):
    with pytest.raises(ValueError, match=r"eta: got 70, expected the share pruned, in \[0, 1\]; 70 % is 0\.7"):
        lwptv(example_taus(), eta=70, granularity=granularity)
    for eta in (1.5, 100):
        with pytest.raises(ValueError, match=rf"{eta} % is {eta / 100:g}"):
            lwptv(example_taus(), eta=eta, granularity=granularity)
    for eta in (-0.1, 101, math.nan):
        with pytest.raises(ValueError, match=rf"eta: got {eta}, expected the share pruned, in \[0, 1\]$"):
            lwptv(example_taus(), eta=eta, granularity=granularity)


@pytest.mark.parametrize("granularity", ["tensor", "block", "parameter"])
def test_what_is_not_finite_is_named(granularity):
    for bad in (math.nan, math.inf):
        taus = example_taus()
        taus[2]["visual.conv1.weight"][1, 0, 1, 1] = bad
        with pytest.raises(ValueError, match=r"task vector 2, key 'visual\.conv1\.weight': got 1 entries that are NaN"):
            lwptv(taus, granularity=granularity)


def test_words_it_does_not_know():
    with pytest.raises(ValueError, match="norm: got 'max', expected 'mean' or 'sum'"):
        lwptv(example_taus(), norm="max")
    with pytest.raises(
        ValueError, match="granularity: got 'head', expected 'tensor', 'block' or, in lwptv, 'parameter'"
    ):
        lwptv(example_taus(), granularity="head")
    for granularity in ("tensor", "parameter"):
        with pytest.raises(ValueError, match="mask_rule: got 'xor', expected 'or', 'and' or 'own'"):
            lwptv(example_taus(), granularity=granularity, mask_rule="xor")
    with pytest.raises(ValueError, match="shuffle: got a generator with granularity 'parameter', expected None"):
        lwptv(example_taus(), granularity="parameter", shuffle=torch.Generator())


def test_layer_of():
    assert layer_of("visual.transformer.resblocks.7.ln_1.bias", "block") == "block 7"
    assert layer_of("visual.transformer.resblocks.7.ln_1.bias", "tensor") == "visual.transformer.resblocks.7.ln_1.bias"
    assert layer_of("visual.proj", "block") == "visual.proj"
