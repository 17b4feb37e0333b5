import math
from fractions import Fraction
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.flow import random_tower, sa_merging_slowly, sum_over_paths

from samerge_edu.masks import topk_mask
from samerge_edu.params import lazy_task_vectors
from samerge_edu.saliency import Lazy, chain_flow, clip_flow, flow_score, magnitude_score, random_score
from samerge_edu.transforms.sa_merging import density, sa_merging, sign_conflict


@pytest.fixture
def g():
    return torch.Generator().manual_seed(0)


def problem(g, widths=(4, 6, 5, 3), N=3, size=0.5):
    """A bias-free chain in float64 and N task vectors, no two dimensions of a matrix equal."""
    shapes = {f"{i}.weight": (out, fan_in) for i, (fan_in, out) in enumerate(pairwise(widths))}
    draw = partial(torch.randn, generator=g, dtype=torch.float64)
    theta_0 = {k: draw(s) for k, s in shapes.items()}
    return theta_0, [{k: size * (n + 1) * draw(s) for k, s in shapes.items()} for n in range(N)]


def same(a, b):
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True)
    )


# ---------------------------------------------------------------------------- oracle


@pytest.mark.parametrize("modulation", ["literal", "agreement", "abs", "none"])
def test_against_algorithm_1_in_three_loops_over_paths(g, modulation):
    theta_0, taus = problem(g)

    def gradient(theta):
        return dict(zip(theta, sum_over_paths(list(theta.values()))[1], strict=True))

    out = sa_merging(taus, score=flow_score(theta_0, chain_flow, modulation), T=4, p=0.3)
    assert same(out, sa_merging_slowly(theta_0, taus, gradient, T=4, p=0.3, modulation=modulation))


def test_rounds_rescore_what_is_left(g):
    """Otherwise T rounds at p would be one round at 1 - (1-p)^T, as they are for magnitude."""
    theta_0, taus = problem(g, widths=(10, 20, 10))
    p_once = 1 - 0.5**4
    score = flow_score(theta_0, chain_flow, "agreement")
    assert not same(sa_merging(taus, score=score, T=4, p=0.5), sa_merging(taus, score=score, T=1, p=p_once))
    score = magnitude_score()
    assert same(sa_merging(taus, score=score, T=4, p=0.5), sa_merging(taus, score=score, T=1, p=p_once))


# ---------------------------------------------------------------------------- density


@given(numel=st.integers(1, 400), T=st.integers(1, 12), p=st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.9]))
@settings(max_examples=60, deadline=None)
def test_density_is_one_minus_p_to_the_T_rounded_up(numel, T, p):
    tau = {"w": torch.arange(1.0, numel + 1).reshape(1, -1)}
    kept = sa_merging([tau], score=magnitude_score(), T=T, p=p)[0]["w"].count_nonzero().item()
    assert kept == math.ceil((1 - Fraction(p).limit_denominator(1000)) ** T * numel)


def test_eighty_percent_of_eighty_percent_of_a_hundred_is_sixty_four():
    """0.8 * 0.8 * 100 is 64.00000000000001 in floating point, and its ceiling 65."""
    tau = {"w": torch.arange(1.0, 101.0).reshape(10, 10)}
    assert sa_merging([tau], score=magnitude_score(), T=2, p=0.2)[0]["w"].count_nonzero() == 64


def test_every_tensor_has_its_own_quota_and_global_scope_has_one(g):
    taus = [{"a": torch.rand(4, 5, generator=g) + 10, "b": torch.rand(6, 5, generator=g)} for _ in range(2)]
    for tau in sa_merging(taus, score=magnitude_score(), T=1, p=0.5):
        assert tau["a"].count_nonzero() == 10
        assert tau["b"].count_nonzero() == 15
    for tau in sa_merging(taus, score=magnitude_score(), T=1, p=0.5, scope="global"):
        assert tau["a"].count_nonzero() == 20  # all of the large ones
        assert tau["b"].count_nonzero() == 5


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_survivors_shrink_and_never_come_back(g, scope):
    theta_0, taus = problem(g)
    seen = []

    def look(t, now):
        seen.append([{k: v != 0 for k, v in tau.items()} for tau in now])

    sa_merging(taus, score=flow_score(theta_0, chain_flow), T=6, p=0.2, scope=scope, progress=look)
    assert len(seen) == 6
    for before, after in pairwise(seen):
        assert all((after[n][k] <= before[n][k]).all() for n in range(3) for k in theta_0)
    counts = [sum(int(m.sum()) for m in masks[0].values()) for masks in seen]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0]


def test_zeros_take_no_place_in_the_quota():
    """An update that is not there cannot survive; tau_star would make the zeros of expert 0 salient."""
    theta_0 = {"w": torch.ones(1, 4)}
    taus = [{"w": torch.tensor([[0.0, 0.0, 0.1, 0.2]])}, {"w": torch.tensor([[9.0, 9.0, 0.1, 0.1]])}]
    out = sa_merging(taus, score=flow_score(theta_0, chain_flow), T=1, p=0.5)
    assert out[0]["w"].tolist() == taus[0]["w"].tolist()


def test_ties_are_kept_by_position():
    tau = {"w": torch.ones(2, 3)}
    assert sa_merging([tau], score=magnitude_score(), T=1, p=0.5)[0]["w"].tolist() == [[1, 1, 1], [0, 0, 0]]


# ---------------------------------------------------------------------------- limits


@pytest.mark.parametrize("modulation", ["literal", "agreement", "abs", "none"])
def test_p_zero_is_the_identity(g, modulation):
    theta_0, taus = problem(g)
    assert same(sa_merging(taus, score=flow_score(theta_0, chain_flow, modulation), p=0.0), taus)


@pytest.mark.parametrize("T", [1, 3, 10])
def test_with_magnitude_it_is_trimming_in_any_number_of_rounds(g, T):
    _, taus = problem(g)
    p = 1 - 0.5 ** (1 / T)
    for tau, out in zip(taus, sa_merging(taus, score=magnitude_score(), T=T, p=p), strict=True):
        for k, x in tau.items():
            trimmed = x * topk_mask(x.abs().flatten(), math.ceil(round(0.5 * x.numel(), 6))).view_as(x)
            assert torch.equal(out[k], trimmed)


def test_one_expert_alone_is_its_own_aggregate(g):
    theta_0, taus = problem(g, N=1)
    runs = [sa_merging(taus, score=flow_score(theta_0, chain_flow, m), T=3) for m in ("agreement", "abs", "none")]
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])


def test_kept_entries_keep_their_values(g):
    theta_0, taus = problem(g)
    for tau, out in zip(taus, sa_merging(taus, score=flow_score(theta_0, chain_flow)), strict=True):
        for k in tau:
            assert torch.equal(out[k], tau[k] * (out[k] != 0))


# ---------------------------------------------------------------------------- equivariances


@pytest.mark.parametrize("modulation", ["literal", "agreement", "abs"])
def test_permuting_hidden_units_permutes_the_masks(g, modulation):
    theta_0, taus = problem(g)
    order = torch.randperm(6, generator=g)

    def shuffled(params):  # the six units between layers 0 and 1
        return params | {"0.weight": params["0.weight"][order], "1.weight": params["1.weight"][:, order]}

    out = sa_merging(taus, score=flow_score(theta_0, chain_flow, modulation), T=3)
    turned = sa_merging([shuffled(t) for t in taus], score=flow_score(shuffled(theta_0), chain_flow, modulation), T=3)
    assert same([shuffled(t) for t in out], turned)


@pytest.mark.parametrize("layer", ["0.weight", "1.weight", "2.weight"])
def test_scaling_a_layer_of_the_chain_leaves_every_mask_unchanged(g, layer):
    theta_0, taus = problem(g)

    def scaled(params):
        return params | {layer: 7.0 * params[layer]}

    out = sa_merging(taus, score=flow_score(theta_0, chain_flow), T=3)
    other = sa_merging([scaled(t) for t in taus], score=flow_score(scaled(theta_0), chain_flow), T=3)
    for a, b in zip(out, other, strict=True):
        assert all(torch.equal(a[k] != 0, b[k] != 0) for k in a)


@pytest.mark.parametrize("flow_at", ["expert", "merged"])
def test_the_order_of_experts_and_of_keys_is_irrelevant(g, flow_at):
    theta_0, taus = problem(g)
    score = flow_score(theta_0, chain_flow, flow_at=flow_at)
    out = sa_merging(taus, score=score, T=3)
    assert same(out, sa_merging(taus[::-1], score=score, T=3)[::-1])
    assert same(out, sa_merging([dict(reversed(t.items())) for t in taus], score=score, T=3))


def test_turning_all_signs_of_base_and_updates_turns_the_result(g):
    theta_0, taus = problem(g)
    minus = partial(lambda params: {k: -v for k, v in params.items()})
    out = sa_merging(taus, score=flow_score(theta_0, chain_flow), T=3)
    assert same(
        [minus(t) for t in out], sa_merging([minus(t) for t in taus], score=flow_score(minus(theta_0), chain_flow), T=3)
    )


# ---------------------------------------------------------------------------- a CLIP tower


def tower(g, N=2, dtype=torch.float32):
    theta_0 = random_tower(g)
    taus = [{k: (0.1 * torch.randn(v.shape, generator=g)).to(dtype) for k, v in theta_0.items()} for _ in range(N)]
    return theta_0, taus


@pytest.mark.parametrize("one_d", ["prune", "mean", "sum", "base"])
def test_tensors_of_one_dimension(g, one_d):
    theta_0, taus = tower(g)
    out = sa_merging(taus, score=flow_score(theta_0, partial(clip_flow, heads=2)), one_d=one_d)
    for k, x in theta_0.items():
        total = sum(t[k] for t in taus)
        merged = sum(o[k] for o in out)
        if x.ndim >= 2 or one_d == "prune":
            assert all(int(o[k].count_nonzero()) == math.ceil(Fraction(4, 5) ** 10 * x.numel()) for o in out)
        else:
            torch.testing.assert_close(merged, {"mean": total / 2, "sum": total, "base": 0 * total}[one_d])


def test_tensors_of_one_dimension_are_pruned_like_the_rest_and_one_expert_has_them_too(g):
    tau = {"w": torch.randn(3, 4, generator=g), "b": torch.tensor([0.1, -3.0, 2.0, 0.2])}
    out = sa_merging([tau], score=magnitude_score(), T=1, p=0.5)[0]
    assert out["b"].tolist() == [0.0, -3.0, 2.0, 0.0]
    out = sa_merging([tau], score=magnitude_score(), T=1, p=0.5, one_d="mean")[0]
    assert torch.equal(out["b"], tau["b"])
    assert out["w"].count_nonzero() == 6


def test_a_global_quota_may_be_larger_than_any_tensor():
    tau = {"a": torch.arange(1.0, 6.0)[:, None], "b": torch.arange(6.0, 11.0)[:, None]}
    out = sa_merging([tau], score=magnitude_score(), T=1, p=0.2, scope="global")[0]
    assert (out["a"].flatten().tolist(), out["b"].flatten().tolist()) == ([0, 0, 3, 4, 5], [6, 7, 8, 9, 10])


def test_scores_may_be_infinite():
    def score(taus):
        return [{"w": torch.tensor([math.inf, 1.0, -math.inf, 2.0])} for _ in taus]

    out = sa_merging([{"w": torch.tensor([1.0, 2.0, 3.0, 4.0])}], score=score, T=1, p=0.5)[0]
    assert out["w"].tolist() == [1.0, 0.0, 0.0, 4.0]


def test_the_number_of_threads_is_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sa_merging([{"w": torch.ones(3)}], score=magnitude_score())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_kept(g, dtype):
    theta_0, taus = tower(g, dtype=dtype)
    out = sa_merging(taus, score=flow_score(theta_0, partial(clip_flow, heads=2), "agreement"), T=2, one_d="mean")
    assert all(o[k].dtype == dtype for o in out for k in o)
    exact = sa_merging(
        [{k: v.float() for k, v in t.items()} for t in taus],
        score=flow_score(theta_0, partial(clip_flow, heads=2), "agreement"), T=2, one_d="mean",
    )  # fmt: skip
    if dtype != torch.float64:
        assert all(
            torch.equal(o[k] != 0, e[k] != 0) for o, e in zip(out, exact, strict=True) for k in o if o[k].ndim > 1
        )


def test_lazy_task_vectors(g):
    theta_0, taus = tower(g)
    thetas = [{k: theta_0[k] + t[k] for k in theta_0} for t in taus]
    lazy = lazy_task_vectors(theta_0, thetas)
    score = flow_score(theta_0, partial(clip_flow, heads=2))
    assert same(sa_merging(lazy, score=score, T=2), sa_merging([dict(t) for t in lazy], score=score, T=2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_cpu_and_cuda_agree(g, scope):
    """The same entries, but for a few whose scores are equal up to the rounding of another order of summation."""
    theta_0, taus = tower(g, N=3)
    on = [[{k: v.to(d) for k, v in t.items()} for t in (theta_0, *taus)] for d in ("cpu", "cuda")]
    runs = [
        sa_merging(ts, score=flow_score(base, partial(clip_flow, heads=2), "agreement"), scope=scope)
        for base, *ts in on
    ]
    agree = [(a[k] == b[k].cpu()).float().mean() for a, b in zip(*runs, strict=True) for k in a]
    assert min(agree) > 0.98
    assert all(b[k].is_cuda for b in runs[1] for k in b)


# ---------------------------------------------------------------------------- manners


def test_nothing_given_is_changed(g):
    theta_0, taus = tower(g)
    copies = [{k: v.clone() for k, v in t.items()} for t in (theta_0, *taus)]
    for one_d in ("prune", "sum"):
        out = sa_merging(taus, score=flow_score(theta_0, partial(clip_flow, heads=2)), T=2, one_d=one_d)
        for o in out:
            for k in o:
                o[k].add_(1)
    assert same([theta_0, *taus], copies)


def test_weights_that_ask_for_gradients_or_are_views_are_taken_as_they_are(g):
    theta_0, taus = problem(g)
    plain = sa_merging(taus, score=flow_score(theta_0, chain_flow), T=2)
    asking = [{k: v.t().contiguous().t().requires_grad_() for k, v in t.items()} for t in (theta_0, *taus)]
    out = sa_merging(asking[1:], score=flow_score(asking[0], chain_flow), T=2)
    assert same(out, plain)
    assert not any(v.requires_grad for o in out for v in o.values())


def test_random_pruning_is_reproducible(g):
    _, taus = problem(g)
    runs = [sa_merging(taus, score=random_score(torch.Generator().manual_seed(s)), T=3) for s in (1, 1, 2)]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_progress_sees_each_round(g):
    _, taus = problem(g, widths=(25, 40))
    rounds = []
    sa_merging(
        taus,
        score=magnitude_score(),
        T=3,
        p=0.2,
        progress=lambda t, now: rounds.append((t, density(now), sign_conflict(now))),
    )
    assert [(t, d) for t, d, _ in rounds] == [(1, 0.8), (2, 0.64), (3, 0.512)]
    assert all(0 < c < 1 for *_, c in rounds)


def test_sign_conflict_by_hand():
    taus = [
        {"w": torch.tensor([1.0, 0.0, -1.0, 2.0])},
        {"w": torch.tensor([1.0, 1.0, 1.0, 0.0])},
        {"w": torch.tensor([0.0, 0.0, 1.0, -1.0])},
    ]
    assert sign_conflict(taus) == pytest.approx(2 / 3)  # entries 0, 2, 3 are shared; 2 and 3 conflict
    assert sign_conflict(taus[:1]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"T": 0}, "T: got 0, expected a whole number of rounds, at least 1"),
        ({"T": 2.5}, "T: got 2.5, expected a whole number"),
        ({"p": 1.0}, "p: got 1.0, expected the share pruned in a round, in \\[0, 1\\)"),
        ({"p": -0.1}, "p: got -0.1"),
        ({"one_d": "keep"}, "one_d: got 'keep', expected one of \\('prune', 'sum', 'mean', 'base'\\)"),
        ({"scope": "layer"}, "scope: got 'layer', expected 'tensor' or 'global'"),
        ({"taus": []}, "got 0 task vectors"),
        ({"taus": [{"w": torch.ones(2, 2)}, {"w": torch.ones(2, 3)}]}, "task vector 1, key 'w': got shape"),
        (
            {"taus": [{"w": torch.ones(2, 2)}, {"w": torch.full((2, 2), math.nan)}]},
            "task vector 1, key 'w': got 4 entries",
        ),
        (
            {"score": lambda taus: [Lazy(["w"], lambda key: torch.full((2, 2), math.nan))]},
            "score of task vector 0, key 'w': got NaN",
        ),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        sa_merging(**{"taus": [{"w": torch.ones(2, 2)}], "score": magnitude_score()} | change)


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_without_a_matrix_one_d_settles_everything(scope):
    taus = [{"bias": torch.tensor([1.0, -2.0])}, {"bias": torch.tensor([3.0, 4.0])}]
    out = sa_merging(taus, score=magnitude_score(), T=2, one_d="mean", scope=scope)
    assert [tau["bias"].tolist() for tau in out] == [[0.5, -1.0], [1.5, 2.0]]
