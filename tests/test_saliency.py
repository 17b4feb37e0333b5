import copy
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from oracles.flow import random_tower, split_names, sum_over_paths, tower_strength
from torch import nn

from samerge_edu.masks import keep_count
from samerge_edu.saliency import (
    Lazy,
    chain_flow,
    clip_flow,
    flow_score,
    magnitude_score,
    path_norm,
    random_score,
    synflow,
    synflow_prune,
)

close = partial(torch.testing.assert_close, rtol=1e-5, atol=0)


@pytest.fixture
def g():
    return torch.Generator().manual_seed(0)


def chain(g, widths, dtype=torch.float32):
    """A bias-free chain: widths[0] inputs, widths[-1] outputs."""
    return {
        f"{i}.weight": torch.randn(out, fan_in, generator=g, dtype=dtype)
        for i, (fan_in, out) in enumerate(pairwise(widths))
    }


def network(g, widths, bias=False):
    layers = []
    for fan_in, out in pairwise(widths):
        layers += [nn.Linear(fan_in, out, bias=bias), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for w in net.parameters():
            w.copy_(torch.randn(w.shape, generator=g))
    return net


# ---------------------------------------------------------------------------- SynFlow


def test_synflow_is_the_sum_over_the_paths_through_each_weight(g):
    net = network(g, [3, 4, 2, 5])
    weights = list(net.parameters())
    R, grads = sum_over_paths(weights)
    assert path_norm(net, (3,)).item() == pytest.approx(R, rel=1e-12)
    for S, W, G in zip(synflow(net, (3,)).values(), weights, grads, strict=True):
        close(S, G * W.double().abs())


def test_conservation_each_layer_carries_R_and_each_unit_passes_on_what_it_gets(g):
    net = network(g, [3, 6, 4, 2])
    R = path_norm(net, (3,))
    S = list(synflow(net, (3,)).values())
    for layer in S:
        close(layer.sum(), R)
    for before, after in pairwise(S):
        close(before.sum(dim=1), after.sum(dim=0))


def test_synflow_takes_every_entry_of_the_state_dict_in_absolute_value_in_evaluation_mode():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.9), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
        net[0].bias.copy_(torch.tensor([-1.0, 2.0]))
        net[1].weight.copy_(torch.tensor([-2.0, 1.0]))
        net[1].bias.copy_(torch.tensor([0.5, -0.25]))
        net[1].running_mean.copy_(torch.tensor([-1.0, 0.5]))
        net[1].running_var.copy_(torch.tensor([4.0, 0.25]))
        net[3].weight.copy_(torch.tensor([[-1.0, 2.0]]))
        net[3].bias.fill_(-3.0)
    net.train()
    h = (torch.tensor([4.0, 5.5]) - torch.tensor([1.0, 0.5])) / (torch.tensor([4.0, 0.25]) + 1e-5).sqrt()
    h = h * torch.tensor([2.0, 1.0]) + torch.tensor([0.5, 0.25])
    close(path_norm(net, (2,)).float(), h[0] + 2 * h[1] + 3)
    assert synflow(net, (2,))["3.bias"].item() == pytest.approx(3.0)


def test_synflow_of_a_convolution(g):
    conv = nn.Conv2d(2, 3, 2, bias=False)
    S = synflow(conv, (2, 3, 4))["weight"]  # 2 x 3 places, at each of which every weight meets a one
    close(S, 6 * conv.weight.detach().double().abs())


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("rounds", [1, 7])
def test_synflow_prune_keeps_exact_counts_and_never_brings_back(g, scope, rounds):
    net = network(g, [5, 7, 3], bias=True)
    masks = synflow_prune(net, (5,), density=0.3, rounds=rounds, scope=scope)
    assert set(masks) == {"0.weight", "2.weight"}
    if scope == "global":
        assert sum(m.sum() for m in masks.values()) == keep_count(0.3, 35 + 21)
    else:
        assert [int(m.sum()) for m in masks.values()] == [keep_count(0.3, 35), keep_count(0.3, 21)]


def test_iterated_synflow_saves_the_layer_that_one_shot_pruning_empties(g):
    """Layer collapse, Tanaka et al. section 4: each entry of the wide layer carries little, one shot takes them all."""
    net = network(g, [40, 40, 2])
    with torch.no_grad():
        net[0].weight.copy_(1 + 0.01 * torch.rand(40, 40, generator=g))
        net[2].weight.copy_(1 + 0.01 * torch.rand(2, 40, generator=g))
    density = 60 / 1680
    once = synflow_prune(net, (40,), density, rounds=1)
    often = synflow_prune(net, (40,), density, rounds=50)
    assert not once["0.weight"].any()
    assert often["0.weight"].any()
    assert often["2.weight"].any()


def test_synflow_prune_ranks_what_is_left_not_what_was(g):
    """Against a plain loop that multiplies the masks into the weights itself."""
    net = network(g, [4, 6, 3])
    density, rounds = 0.4, 3
    masks = synflow_prune(net, (4,), density, rounds)
    mine = copy.deepcopy(net)
    for t in range(1, rounds + 1):
        S = torch.cat([s.flatten() for s in synflow(mine, (4,)).values()])
        S[torch.cat([w.detach().flatten() for w in mine.parameters()]) == 0] = -1
        keep = torch.zeros(S.numel())
        keep[S.argsort(descending=True)[: keep_count(density ** (t / rounds), S.numel())]] = 1
        with torch.no_grad():
            for w, part in zip(mine.parameters(), keep.split([w.numel() for w in mine.parameters()]), strict=True):
                w.mul_(part.view_as(w))
    for w, m in zip(mine.parameters(), masks.values(), strict=True):
        assert torch.equal(w != 0, m)


def test_synflow_leaves_the_model_alone(g):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    before = copy.deepcopy(net.state_dict())
    path_norm(net, (3,)), synflow(net, (3,)), synflow_prune(net, (3,), 0.5, rounds=2)
    assert net.training
    assert all(m.training for m in net)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"density": 20.0}, "density: got 20"),
        ({"rounds": 0}, "rounds: got 0, expected at least 1"),
        ({"scope": "layer"}, "scope: got 'layer', expected 'global' or 'tensor'"),
    ],
)
def test_synflow_prune_refuses(g, change, message):
    with pytest.raises(ValueError, match=message):
        synflow_prune(network(g, [2, 3]), (2,), **{"density": 0.5} | change)


def test_synflow_says_when_float64_is_not_enough():
    net = nn.Sequential(*(nn.Linear(10, 10, bias=False) for _ in range(9)))
    with torch.no_grad():
        for w in net.parameters():
            w.fill_(1e36)
    with pytest.raises(ValueError, match="out of float64's range"):
        synflow(net, (10,))


# ---------------------------------------------------------------------------- chain_flow


def test_chain_flow_is_the_sum_over_paths(g):
    theta = chain(g, [3, 4, 2, 5])
    R, grads = sum_over_paths(list(theta.values()))
    flow = chain_flow(theta)
    assert flow.log_R == pytest.approx(math.log(R), rel=1e-6)
    for key, G in zip(theta, grads, strict=True):
        close(flow.gradient(key).double(), G / R)


def test_chain_flow_equals_autograd_of_the_weights(g):
    """The outer product of two vectors is the gradient that autograd would fill a whole matrix with."""
    theta = {k: v.double().requires_grad_() for k, v in chain(g, [5, 7, 6, 3]).items()}
    x = torch.ones(5, dtype=torch.float64)
    for W in theta.values():
        x = W.abs() @ x
    x.sum().log().backward()
    flow = chain_flow({k: v.detach() for k, v in theta.items()})
    for key, W in theta.items():
        close(flow.gradient(key), W.grad.abs())
        left, right = flow.factors[key]
        assert (left.numel(), right.numel()) == W.shape


def test_conservation_in_the_chain(g):
    theta = chain(g, [5, 7, 6, 3])
    flow = chain_flow(theta)
    for key in theta:
        close((flow.gradient(key) * theta[key].abs()).sum(), torch.tensor(1.0))


def test_a_convolution_counts_as_a_layer_of_the_chain_and_a_bias_as_an_offset(g):
    theta = {
        "a.weight": torch.randn(4, 3, 2, 2, generator=g),
        "a.bias": torch.randn(4, generator=g),
        "b.weight": torch.randn(2, 4, generator=g),
    }
    flow = chain_flow(theta)
    flat = chain_flow({"a.weight": theta["a.weight"].flatten(1), "b.weight": theta["b.weight"]})
    assert flow.log_R == flat.log_R
    close(flow.gradient("a.weight"), flat.gradient("a.weight").view(4, 3, 2, 2))
    B = theta["b.weight"].abs().sum(dim=0)  # what an output of layer a is worth
    close(flow.gradient("a.bias") / flow.gradient("a.bias").sum(), B / B.sum())


@pytest.mark.parametrize(
    "widths",
    [[16] * 49, [1024, 300, 1024, 700] * 12 + [512]],
    ids=["narrow", "wide"],
)
def test_forty_eight_layers_at_any_scale_stay_in_range_and_in_order(g, widths):
    """Random scales from 1e-4 to 1e4: R itself would leave float32, and here even float64, many times over."""
    theta = chain(g, widths)
    for key in theta:
        theta[key] *= 10 ** (8 * torch.rand(1, generator=g) - 4)
    flow = chain_flow(theta)
    forward, log_R = [np.ones(widths[0])], 0.0  # the brute force: numpy, float64, powers of two taken out exactly
    for W in theta.values():
        h = np.abs(W.double().numpy()) @ forward[-1]
        exponent = np.frexp(h.max())[1]
        log_R += float(exponent) * math.log(2)
        forward.append(np.ldexp(h, -exponent))
    log_R += math.log(forward[-1].sum())
    u = np.ones(widths[-1])
    assert math.isfinite(flow.log_R)
    assert flow.log_R == pytest.approx(log_R, rel=1e-6)
    for W, key, x in zip(list(theta.values())[::-1], list(theta)[::-1], forward[-2::-1], strict=True):
        exact = np.outer(u, x)
        exact /= (np.abs(W.double().numpy()) * exact).sum()  # conservation fixes the scale
        np.testing.assert_allclose(flow.gradient(key).double().numpy(), exact, rtol=1e-5)
        u = np.abs(W.double().numpy()).T @ u
        u = np.ldexp(u, -np.frexp(u.max())[1])


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        ({"a.bias": torch.ones(3)}, "no tensor of two or more dimensions"),
        ({"a.weight": torch.ones(3, 2), "b.weight": torch.ones(2, 4)}, "'b.weight': got 4 inputs, expected 3"),
        ({"a.weight": torch.ones(3, 2), "gain": torch.ones(3)}, "unknown key 'gain'"),
        ({"a.weight": torch.zeros(3, 2)}, "'a.weight': got a flow of 0.0"),
        ({"a.weight": torch.full((3, 2), float("nan"))}, "'a.weight': got a flow of nan"),
        ({"a.weight": torch.full((3, 2), 3e38)}, "'a.weight': got a flow of inf"),
    ],
)
def test_chain_flow_refuses_and_names_the_layer(theta, message):
    with pytest.raises(ValueError, match=message):
        chain_flow(theta)


def test_a_gradient_out_of_range_names_its_tensor():
    """All that flows takes the weak way, 1e-40; a step on the other, 1e3 wide, would change ln R 1e40 times as much."""
    with pytest.raises(ValueError, match=r"'a.weight': the gradient of ln R is NaN or infinite"):
        chain_flow({"a.weight": torch.tensor([[1.0], [1e-40]]), "b.weight": torch.tensor([[1e-40, 1e3]])})


# ---------------------------------------------------------------------------- clip_flow


def test_clip_flow_is_the_surrogate_token_by_token_with_a_real_softmax(g):
    """Every tensor's gradient against autograd through the whole tower in float64 (q, k, v and biases included)."""
    theta = {k: v.requires_grad_() for k, v in random_tower(g, dtype=torch.float64).items()}
    centre = {k: v.detach().clone() for k, v in theta.items()}
    R = tower_strength(theta, 2, centre, {})
    R.log().backward()
    flow = clip_flow(centre, heads=2)
    assert set(flow.factors) == set(theta)
    assert flow.log_R == pytest.approx(R.log().item(), rel=1e-12)
    for key, t in theta.items():
        mine, exact = flow.gradient(key), t.grad.abs()
        assert mine.shape == t.shape
        if key == "positional_embedding":  # one token stands for all: what all positions add together
            exact = exact.sum(dim=0).expand_as(mine)
        if (t.ndim == 1 and not key.endswith("weight")) or key == "positional_embedding":
            mine, exact = mine / mine.sum(), exact / exact.sum()  # an offset, measured against a vector of mean 1
        close(mine, exact, msg=lambda text, key=key: f"{key}: {text}")


def test_gradient_equals_finite_differences(g):
    theta = random_tower(g, blocks=1, dtype=torch.float64)
    flow, logits = clip_flow(theta, heads=2), {}
    R = tower_strength(theta, 2, theta, logits)
    for key in (
        "conv1.weight",
        "transformer.resblocks.0.attn.in_proj_weight",
        "transformer.resblocks.0.ln_1.weight",
        "proj",
    ):
        G = theta[key].sign() * flow.gradient(key)
        for i in torch.randperm(G.numel(), generator=g)[:6].tolist():
            R_at = []
            for eps in (1e-6, -1e-6):
                moved = theta | {key: theta[key].clone()}
                moved[key].view(-1)[i] += eps
                R_at.append(tower_strength(moved, 2, theta, logits))
            close((R_at[0] - R_at[1]) / 2e-6 / R, G.view(-1)[i], rtol=1e-4)


def test_a_head_carries_as_much_through_q_and_through_k_as_through_v(g):
    theta = random_tower(g, blocks=1, width=8)
    key = "transformer.resblocks.0.attn.in_proj_weight"
    S = (clip_flow(theta, heads=4).gradient(key) * theta[key].abs()).view(3, 4, -1).sum(dim=-1)  # (q k v, heads)
    close(S[0], S[2])
    close(S[1], S[2])


def test_names_of_hugging_face_and_prefixes_give_the_same_flow(g):
    theta = random_tower(g, blocks=3)
    ours = clip_flow(theta, heads=2)
    visual = clip_flow({"visual." + k: v for k, v in theta.items()}, heads=2)
    hf = split_names(theta, blocks=3)
    theirs = clip_flow(hf, heads=2)
    bare = clip_flow({k.removeprefix("vision_model."): v for k, v in hf.items()}, heads=2)
    assert ours.log_R == visual.log_R
    assert ours.log_R == pytest.approx(theirs.log_R, rel=1e-6)
    assert theirs.log_R == bare.log_R
    G = split_names({k: ours.gradient(k) for k in theta}, blocks=3)
    assert G.keys() == theirs.factors.keys()
    for key in G:
        close(theirs.gradient(key), G[key])
        close(theirs.gradient(key), bare.gradient(key.removeprefix("vision_model.")))


def test_the_projection_may_be_missing_from_a_hugging_face_tower(g):
    hf = split_names(random_tower(g, blocks=1), blocks=1)
    del hf["visual_projection.weight"]
    assert "vision_model.post_layernorm.weight" in clip_flow(hf, heads=2).factors


def test_the_flow_misses_no_tensor_of_an_open_clip_tower():
    from open_clip.transformer import VisionTransformer

    tower = VisionTransformer(image_size=8, patch_size=4, width=16, layers=2, heads=2, mlp_ratio=2, output_dim=5)
    flow = clip_flow(tower.state_dict(), heads=2)
    for key, value in tower.state_dict().items():
        assert flow.gradient(key).shape == value.shape
        assert (flow.gradient(key) > 0).all()


def test_forty_eight_blocks_at_any_scale_stay_in_range_and_in_order(g):
    wild = partial(lambda: 10 ** (8 * torch.rand(1, generator=g).item() - 4))
    theta = random_tower(g, blocks=48, width=64, mlp=96, out=32, patch=4, scale=wild)
    flow, exact = clip_flow(theta, heads=4), clip_flow({k: v.double() for k, v in theta.items()}, heads=4)
    assert math.isfinite(flow.log_R)
    assert flow.log_R == pytest.approx(exact.log_R, rel=1e-6)
    for key in theta:
        assert flow.gradient(key).dtype == torch.float32
        close(flow.gradient(key).double(), exact.gradient(key))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_worked_in_float32(g, dtype):
    theta = {k: v.to(dtype) for k, v in random_tower(g).items()}
    flow = clip_flow(theta, heads=2)
    exact = clip_flow({k: v.float() for k, v in theta.items()}, heads=2)
    assert all(
        flow.gradient(k).dtype == torch.float32 and torch.equal(flow.gradient(k), exact.gradient(k)) for k in theta
    )


@pytest.mark.parametrize(
    ("change", "heads", "message"),
    [
        ({}, 3, "heads: got 3, expected a divisor of the width 8"),
        ({"text.token_embedding": torch.ones(2, 2)}, 2, "unknown key 'text.token_embedding'"),
        ({"transformer.resblocks.1.ln_2.weight": None}, 2, "missing key 'transformer.resblocks.1.ln_2.weight'"),
        ({"conv1.weight": None}, 2, "no patch embedding, expected a CLIP image tower"),
        ({"transformer.resblocks.1.mlp.c_proj.weight": torch.full((8, 12), float("inf"))}, 2, "resblocks.1.mlp.c_proj"),
    ],
)
def test_clip_flow_refuses_and_names_the_tensor(g, change, heads, message):
    theta = {k: v for k, v in (random_tower(g) | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        clip_flow(theta, heads)


# ---------------------------------------------------------------------------- scores


def problem(g, N=3, dtype=torch.float64):
    theta_0 = chain(g, [4, 5, 3], dtype)
    return theta_0, [
        {k: 0.5 * torch.randn(v.shape, generator=g, dtype=dtype) for k, v in theta_0.items()} for _ in range(N)
    ]


@pytest.mark.parametrize("flow_at", ["expert", "merged"])
def test_the_scores_are_their_formulas(g, flow_at):
    theta_0, taus = problem(g)
    total = {k: sum(t[k] for t in taus) for k in theta_0}
    for n, tau in enumerate(taus):
        theta = {k: theta_0[k] + (tau if flow_at == "expert" else total)[k] for k in theta_0}
        for k in theta_0:
            G = chain_flow(theta).gradient(k)
            signed = G * theta[k].sign()  # dR/dtau itself
            expected = {
                "literal": signed * total[k],
                "agreement": signed.abs() * tau[k].sign() * total[k],
                "abs": (signed * total[k]).abs(),
                "none": (signed * tau[k]).abs(),
            }
            for modulation, S in expected.items():
                close(flow_score(theta_0, chain_flow, modulation, flow_at)(taus)[n][k], S)


def test_the_literal_score_is_the_change_of_ln_R_along_the_aggregate(g):
    """Finite differences: move expert n a little along tau_star and watch its own ln R."""
    theta_0, taus = problem(g)
    total = {k: sum(t[k] for t in taus) for k in theta_0}
    S = flow_score(theta_0, chain_flow)(taus)
    for n, tau in enumerate(taus):
        eps = 1e-6
        ahead, behind = ({k: theta_0[k] + tau[k] + e * total[k] for k in theta_0} for e in (eps, -eps))
        slope = (chain_flow(ahead).log_R - chain_flow(behind).log_R) / (2 * eps)
        assert sum(S[n][k].sum().item() for k in theta_0) == pytest.approx(slope, rel=1e-6)


def test_literal_rewards_growth_and_agreement_rewards_agreement():
    """theta_0 = -2, the updates +0.5 and +1 agree, and both shrink the weight: the two scores differ in sign."""
    theta_0, taus = {"w": torch.tensor([[-2.0]])}, [{"w": torch.tensor([[0.5]])}, {"w": torch.tensor([[1.0]])}]
    assert flow_score(theta_0, chain_flow, "literal")(taus)[0]["w"].item() < 0
    assert flow_score(theta_0, chain_flow, "agreement")(taus)[0]["w"].item() > 0


@pytest.mark.parametrize("flow_at", ["expert", "merged"])
def test_where_the_weight_has_become_zero_the_literal_score_has_no_direction(flow_at):
    """theta = 1 - 1: |theta| grows whichever way it goes, so sgn(theta) = 0 and S = 0; the others keep their size."""
    theta_0, tau = {"w": torch.tensor([[1.0, 2.0]])}, {"w": torch.tensor([[-1.0, 0.5]])}
    close(flow_score(theta_0, chain_flow, "literal", flow_at)([tau])[0]["w"], torch.tensor([[0.0, 0.2]]))
    close(flow_score(theta_0, chain_flow, "abs", flow_at)([tau])[0]["w"], torch.tensor([[0.4, 0.2]]))
    close(flow_score(theta_0, chain_flow, "agreement", flow_at)([tau])[0]["w"], torch.tensor([[0.4, 0.2]]))


@pytest.mark.parametrize("modulation", ["literal", "agreement", "abs", "none"])
def test_of_one_expert_the_merged_model_is_the_expert(g, modulation):
    theta_0, taus = problem(g, N=1)
    at_expert, merged = (flow_score(theta_0, chain_flow, modulation, at)(taus) for at in ("expert", "merged"))
    assert len(at_expert) == len(merged) == 1
    for k in theta_0:
        assert torch.equal(at_expert[0][k], merged[0][k])
        assert at_expert[0][k].any()


def test_merged_flow_gives_all_experts_one_literal_score(g):
    theta_0, taus = problem(g)
    S = flow_score(theta_0, chain_flow, "literal", "merged")(taus)
    for k in theta_0:
        assert torch.equal(S[0][k], S[2][k])


def test_magnitude_scores(g):
    _, taus = problem(g)
    k, total = "0.weight", sum(t["0.weight"] for t in taus)
    assert torch.equal(magnitude_score()(taus)[1][k], taus[1][k].abs())
    close(magnitude_score("agreement")(taus)[1][k], taus[1][k] * total)
    close(magnitude_score("abs")(taus)[1][k], (taus[1][k] * total).abs())


def test_random_scores_come_from_the_generator_alone(g):
    _, taus = problem(g)
    scores = [random_score(torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    first = [score(taus) for score in scores]
    again = scores[0](taus)
    k = "0.weight"
    assert torch.equal(first[0][0][k], first[1][0][k])
    assert torch.equal(first[0][0][k], first[0][0][k])
    for other in (first[2][0][k], first[0][1][k], again[0][k]):  # another seed, expert, round
        assert not torch.equal(first[0][0][k], other)
    assert first[0][0][k].shape == (5, 4)
    assert ((first[0][0][k] >= 0) & (first[0][0][k] < 1)).all()
    turned = random_score(torch.Generator().manual_seed(1))([dict(reversed(t.items())) for t in taus])
    assert torch.equal(turned[0][k], first[0][0][k])


def test_scores_refuse(g):
    theta_0, taus = problem(g)
    with pytest.raises(ValueError, match="modulation: got 'signed', expected one of"):
        flow_score(theta_0, chain_flow, "signed")
    with pytest.raises(ValueError, match="modulation: got 'literal', expected one of"):
        magnitude_score("literal")
    with pytest.raises(ValueError, match="flow_at: got 'base', expected 'expert' or 'merged'"):
        flow_score(theta_0, chain_flow, flow_at="base")
    score = flow_score(theta_0, chain_flow)
    with pytest.raises(ValueError, match=r"task vector 1, key '1.weight': got no such tensor, expected \(3, 5\)"):
        score([taus[0], {"0.weight": taus[1]["0.weight"]}])
    with pytest.raises(ValueError, match=r"task vector 0, key '0.weight': got \(4, 5\), expected \(5, 4\)"):
        score([{"0.weight": taus[0]["0.weight"].T, "1.weight": taus[0]["1.weight"]}])
    with pytest.raises(ValueError, match=r"key 'more': got \(1,\), expected no such tensor"):
        score([taus[0] | {"more": torch.ones(1)}])


def test_lazy_is_a_mapping_that_computes_on_reading():
    read = []
    lazy = Lazy(["a", "b"], lambda key: read.append(key) or torch.ones(1))
    assert list(lazy) == ["a", "b"]
    assert len(lazy) == 2
    assert "a" in lazy
    assert "c" not in lazy
    assert read == []
    assert lazy["b"].item() == 1
    assert read == ["b"]


def test_what_a_lazy_gives_is_changed_only_if_it_says_that_it_is_fresh(g):
    theta = chain(g, [3, 4])
    before = theta["0.weight"].clone()
    chain_flow(Lazy(theta, theta.get))
    assert torch.equal(theta["0.weight"], before)
    chain_flow(Lazy(theta, theta.get, fresh=True))
    assert torch.equal(theta["0.weight"], before.abs())
