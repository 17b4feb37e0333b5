"""`module_flow`: equal to the flows that are known, conserved everywhere else, and clear about what it cannot do."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from architectures import ARCHITECTURES, architecture, expert_of, floats
from open_clip.transformer import VisionTransformer
from oracles.flow import sum_over_paths
from torch import nn

from samerge_edu.flow import module_flow
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.params import task_vectors
from samerge_edu.saliency import chain_flow, clip_flow, flow_score, path_norm, synflow
from samerge_edu.transforms.sa_merging import sa_merging


@pytest.fixture
def g():
    return torch.Generator().manual_seed(0)


def close(a, b, rtol=1e-5):
    torch.testing.assert_close(a, b, rtol=rtol, atol=0, check_dtype=False)


def relu_chain(*widths, bias=False, dtype=torch.float64):
    layers = [m for i, o in pairwise(widths) for m in (nn.Linear(i, o, bias=bias, dtype=dtype), nn.ReLU(inplace=True))]
    return nn.Sequential(*layers[:-1])


# ---------------------------------------------------------------------------- equal to what is known


def test_it_is_the_sum_over_all_paths(g):
    net = relu_chain(3, 4, 2, 5)
    R, grads = sum_over_paths([w.detach() for w in net.parameters()])
    flow = module_flow(net, torch.zeros(1, 3))(net.state_dict())
    assert flow.log_R == pytest.approx(math.log(R), rel=1e-12)
    for key, G in zip(net.state_dict(), grads, strict=True):
        close(flow.gradient(key), G / R)


def test_it_is_chain_flow_on_a_chain_biases_included(g):
    net = relu_chain(4, 6, 3, bias=True)
    theta = {k: torch.randn(v.shape, generator=g, dtype=v.dtype) for k, v in net.state_dict().items()}
    mine, known = module_flow(net, torch.zeros(2, 4))(theta), chain_flow(theta)
    for key in theta:
        G, H = mine.gradient(key), known.gradient(key)
        if theta[key].ndim == 1:  # an offset is measured against the vector of mean 1 that chain_flow keeps
            G, H = G / G.sum(), H / H.sum()
        close(G, H)


def test_it_is_synflow_on_a_bias_free_network_with_convolutions_padding_and_pools():
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(5, 6, 3, padding=1, groups=1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Dropout(0.9), nn.Linear(24, 4, bias=False),
    ).double()  # fmt: skip
    flow = module_flow(net, torch.zeros(1, 3, 17, 17))(net.state_dict())
    assert flow.log_R == pytest.approx(path_norm(net, (3, 17, 17)).log().item(), rel=1e-12)
    R = path_norm(net, (3, 17, 17))
    for key, S in synflow(net, (3, 17, 17)).items():
        close(flow.gradient(key) * net.state_dict()[key].abs(), S / R)


def test_it_is_synflow_on_a_residual_network_with_batch_norm():
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = resnet18(num_classes=3).double().eval()
    for key, x in net.state_dict().items():  # the statistics that SynFlow has no rule for are out of the way
        if key.endswith("running_var"):
            x.copy_(torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) + 0.5)
        elif key.endswith(("bias", "running_mean")):
            x.zero_()
    flow = module_flow(net, torch.zeros(1, 3, 32, 32))(floats(net))
    R, S = path_norm(net, (3, 32, 32)), synflow(net, (3, 32, 32))
    assert flow.log_R == pytest.approx(R.log().item(), rel=1e-9)
    for key in S:
        if not key.endswith("bias"):
            close(flow.gradient(key) * net.state_dict()[key].abs(), S[key] / R)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.a, self.b, self.last = (
            nn.Linear(i, o, bias=False) for i, o in [(3, 4), (4, 5), (5, 4), (4, 2)]
        )

    def forward(self, x):
        x = self.first(x)
        return self.last(x + self.b(self.a(x)))


def test_a_branch_whose_numbers_leave_the_range_is_added_at_its_true_size():
    net = Residual().double()
    theta = {k: v.clone() for k, v in net.state_dict().items()}
    theta["a.weight"] *= 1e15
    theta["b.weight"] *= 1e-14
    net.load_state_dict(theta)
    flow, R = module_flow(net, torch.zeros(1, 3))(theta), path_norm(net, (3,))
    assert flow.log_R == pytest.approx(R.log().item(), rel=1e-9)
    for key, S in synflow(net, (3,)).items():
        close(flow.gradient(key) * theta[key].abs(), S / R)


def clip_towers():
    import transformers

    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.CLIPVisionConfig(image_size=32, patch_size=16, projection_dim=7, **small)
    gelu = transformers.CLIPVisionConfig(image_size=32, patch_size=16, hidden_act="gelu", **small)
    return {
        "open_clip": VisionTransformer(32, 16, width=32, layers=3, heads=2, mlp_ratio=1.5, output_dim=5),
        "CLIPVisionModel": transformers.CLIPVisionModel(config),
        "CLIPVisionModelWithProjection": transformers.CLIPVisionModelWithProjection(config),
        "CLIPVisionModel, gelu": transformers.CLIPVisionModel(gelu),
    }


@pytest.mark.parametrize(
    "which", ["open_clip", "CLIPVisionModel", "CLIPVisionModelWithProjection", "CLIPVisionModel, gelu"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_clip_flow_on_clip_value_and_rank(g, which, dtype):
    tower = clip_towers()[which]
    theta = {k: torch.randn(v.shape, generator=g, dtype=dtype) for k, v in floats(tower).items()}
    mine, known = module_flow(tower, torch.zeros(1, 3, 32, 32))(theta), clip_flow(theta, heads=2)
    assert mine.log_R == pytest.approx(known.log_R, rel=1e-6)
    for key in theta:
        close(mine.gradient(key), known.gradient(key), rtol=1e-5 if dtype is torch.float64 else 1e-4)
        if dtype is torch.float64:
            S, known_S = (f.gradient(key).flatten() for f in (mine, known))
            order = known_S.argsort()
            assert (S[order].diff() >= -1e-5 * S.max()).all(), f"{key}: another ranking"


def test_sa_merging_by_it_is_sa_merging_by_clip_flow(g):
    tower = clip_towers()["open_clip"].double()
    theta_0 = {k: torch.randn(v.shape, generator=g, dtype=torch.float64) for k, v in floats(tower).items()}
    thetas = [
        {k: v + 0.1 * torch.randn(v.shape, generator=g, dtype=torch.float64) for k, v in theta_0.items()} for _ in "ab"
    ]
    taus = task_vectors(theta_0, thetas)
    by_module = sa_merging(taus, score=flow_score(theta_0, module_flow(tower, torch.zeros(1, 3, 32, 32))), T=2, p=0.4)
    by_clip = sa_merging(taus, score=flow_score(theta_0, lambda theta: clip_flow(theta, heads=2)), T=2, p=0.4)
    for a, b in zip(by_module, by_clip, strict=True):
        same = sum(int(((a[k] != 0) == (b[k] != 0)).sum()) for k in a)
        assert same >= (1 - 1e-4) * sum(x.numel() for x in a.values()), "masks differ beyond rounding"


# ---------------------------------------------------------------------------- every architecture


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_tensor_of_every_architecture_gets_a_gradient_and_nothing_is_touched(name):
    model, example = architecture(name)
    model.train()
    before = copy.deepcopy(model.state_dict())
    flow = module_flow(model, example)
    first, again = flow(floats(model)), flow(floats(model))
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert set(first.factors) == set(floats(model))
    for key, theta in floats(model).items():
        G = first.gradient(key)
        assert G.shape == theta.shape
        assert (G > 0).any(), key
        torch.testing.assert_close(G, again.gradient(key))  # a convolution's threads add in any order
    lost = [k for k in flow.unreached if "relative_attention_bias" not in k]
    assert lost == []


FOLLOWERS = {  # a layer whose outputs feed another's inputs, unit by unit, through activations alone
    "torchvision ViT": ("encoder.layers.encoder_layer_1.mlp.0", "encoder.layers.encoder_layer_1.mlp.3"),
    "timm ViT": ("blocks.1.mlp.fc1", "blocks.1.mlp.fc2"),
    "timm ConvNeXt": ("stages.2.blocks.1.mlp.fc1", "stages.2.blocks.1.mlp.fc2"),
    "CLIPVisionModel": ("encoder.layers.0.mlp.fc1", "encoder.layers.0.mlp.fc2"),
    "ViTModel": ("layers.1.mlp.fc1", "layers.1.mlp.fc2"),
    "RobertaModel": ("encoder.layer.0.intermediate.dense", "encoder.layer.0.output.dense"),
    "T5 encoder": ("encoder.block.1.layer.1.DenseReluDense.wi", "encoder.block.1.layer.1.DenseReluDense.wo"),
    "LLaMA": ("model.layers.1.mlp.up_proj", "model.layers.1.mlp.down_proj"),
}


@pytest.mark.parametrize("name", FOLLOWERS)
def test_conservation_what_enters_a_hidden_unit_leaves_it(name):
    model, example = architecture(name)
    theta = {k: v.double() for k, v in floats(model).items()}
    flow = module_flow(model, example)(theta)
    before, after = (next(k for k in theta if k.endswith(f"{part}.weight")) for part in FOLLOWERS[name])
    into = (flow.gradient(before) * theta[before].abs()).sum(dim=1)
    out = (flow.gradient(after) * theta[after].abs()).sum(dim=0)
    close(into, out, rtol=1e-9)


def test_all_of_R_passes_through_the_first_and_the_last_layer_of_a_network_without_attention():
    for name, ends in {
        "torchvision ResNet-18": ("conv1.weight", "fc.weight"), "timm ConvNeXt": ("stem.0.weight", "head.fc.weight"),
    }.items():  # fmt: skip
        model, example = architecture(name)
        flow = module_flow(model, example)(floats(model))
        for key in ends:
            close((flow.gradient(key) * floats(model)[key].abs()).sum(), torch.tensor(1.0), rtol=1e-4)


def test_the_gradient_is_that_of_ln_R_finite_differences():
    """In an architecture with gates, rotations, grouped keys and a product of two flows."""
    model, example = architecture("LLaMA")
    theta = {k: v.double() for k, v in floats(model).items()}
    flow = module_flow(model.double(), example)
    G = flow(theta).gradient("lm_head.weight")
    for i, j in [(0, 0), (7, 13)]:
        R = []
        for eps in (1e-6, -1e-6):
            moved = theta | {"lm_head.weight": theta["lm_head.weight"].clone()}
            moved["lm_head.weight"][i, j] += eps
            R.append(flow(moved).log_R)
        assert abs(R[0] - R[1]) / 2e-6 == pytest.approx(G[i, j].item(), rel=1e-4)


def test_a_product_of_two_flows_is_the_sum_over_pairs_of_paths():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.up, self.down = (nn.Linear(i, o, bias=False) for i, o in [(3, 4), (3, 4), (4, 2)])

        def forward(self, x):
            return self.down(torch.nn.functional.silu(3 * self.gate(x)) * self.up(x))

    net = Gated().double()
    theta = {k: v.detach().clone().requires_grad_() for k, v in net.state_dict().items()}
    a, b, c = (theta[k].abs() for k in ("gate.weight", "up.weight", "down.weight"))
    sum(
        c[o, h] * a[h, i] * b[h, j] for o in range(2) for h in range(4) for i in range(3) for j in range(3)
    ).log().backward()
    flow = module_flow(net, torch.zeros(1, 3))({k: v.detach() for k, v in theta.items()})
    for key, t in theta.items():
        close(flow.gradient(key), t.grad.abs(), rtol=1e-9)
    with torch.no_grad():
        x, y = 3 * a.sum(dim=1), b.sum(dim=1)
        R = (c @ (x * y)).sum() / (x.mean() * y.mean()).sqrt()  # brought back to the size of one of the two
    assert flow.log_R == pytest.approx(R.log().item(), rel=1e-9)


def test_depth_and_scale_do_not_leave_the_range_of_float32(g):
    net = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(200)))
    theta = {
        k: 10 ** (8 * torch.rand(1, generator=g) - 4) * torch.randn(v.shape, generator=g)
        for k, v in net.state_dict().items()
    }
    mine, known = module_flow(net, torch.zeros(1, 16))(theta), chain_flow(theta)
    assert mine.log_R == pytest.approx(known.log_R, rel=1e-6)
    for key in theta:
        close(mine.gradient(key), known.gradient(key), rtol=1e-4)


def test_ids_do_not_matter_and_every_row_of_the_vocabulary_counts_alike():
    model, _ = architecture("RobertaModel")
    one, other = (
        module_flow(model, {"input_ids": ids})(floats(model))
        for ids in (torch.tensor([[2, 3, 4]]), torch.tensor([[9, 9, 9]]))
    )
    key = "embeddings.word_embeddings.weight"
    assert torch.equal(one.gradient(key), other.gradient(key))
    close(one.gradient(key), one.gradient(key)[:1].expand(50, -1))
    rows = one.gradient("embeddings.position_embeddings.weight")
    close(rows, rows[:1].expand_as(rows))


def test_tied_weights_are_one_and_only_one_name_is_needed():
    model, example = architecture("T5 encoder")
    both = floats(model)
    one = {k: v for k, v in both.items() if k != "encoder.embed_tokens.weight"}
    flow = module_flow(model, example)
    assert torch.equal(flow(one).gradient("shared.weight"), flow(both).gradient("encoder.embed_tokens.weight"))


# ---------------------------------------------------------------------------- what it does not know


class Strange(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.layer, self.act = nn.Linear(4, 4), act

    def forward(self, x):
        return self.act(self.layer(x))


class Cumulative(nn.Module):
    def forward(self, x):
        return torch.cumsum(x, dim=-1)


class Difference(nn.Module):
    def forward(self, x):
        return x - x.mean(dim=-1, keepdim=True)


@pytest.mark.parametrize(
    ("inside", "message"),
    [(Cumulative(), r"'body.1.act': module_flow does not know the operation 'cumsum' on a flow"),
     (Difference(), r"'body.1.act': a flow is subtracted from a flow")],
)  # fmt: skip
def test_an_unknown_operation_is_named_with_its_modules_path(inside, message):
    net = nn.Sequential()
    net.add_module("body", nn.Sequential(nn.Linear(4, 4), Strange(inside)))
    with pytest.raises(ValueError, match=message):
        module_flow(net, torch.zeros(1, 4))(net.state_dict())


class Aside(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.used(x)


def test_a_tensor_that_no_flow_reaches_is_refused_or_ranked_by_size_and_listed():
    net = Aside()
    with pytest.raises(ValueError, match=r"no flow passes through 'unused.weight' \(2 in all"):
        module_flow(net, torch.zeros(1, 2))(net.state_dict())
    flow = module_flow(net, torch.zeros(1, 2), unreached="size")
    assert torch.equal(flow(net.state_dict()).gradient("unused.weight"), torch.ones(2, 2))
    assert flow.unreached == ["unused.weight", "unused.bias"]


def test_refusals():
    net = relu_chain(3, 4, 2, dtype=torch.float32)
    theta = dict(net.state_dict())
    with pytest.raises(ValueError, match="example: got None"):
        module_flow(net, None)
    with pytest.raises(ValueError, match="unreached: got 'skip', expected 'refuse' or 'size'"):
        module_flow(net, torch.zeros(1, 3), unreached="skip")
    flow = module_flow(net, torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"missing key '2.weight'"):
        flow({"0.weight": theta["0.weight"]})
    with pytest.raises(ValueError, match=r"unknown key 'more' \(1 in all\)"):
        flow(theta | {"more": torch.ones(1)})
    with pytest.raises(ValueError, match=r"'0.weight': got shape \(3, 4\), expected \(4, 3\)"):
        flow(theta | {"0.weight": theta["0.weight"].T})
    with pytest.raises(ValueError, match=r"'2': got a flow of 0.0 out of this layer"):
        flow(theta | {"2.weight": torch.zeros(2, 4)})
    with pytest.raises(ValueError, match=r"'0': got a flow of nan"):
        flow(theta | {"0.weight": torch.full((4, 3), math.nan)})


def test_sa_merging_runs_on_an_architecture_that_is_no_clip():
    model, example = architecture("timm ViT")
    theta_0 = floats(model)
    taus = task_vectors(theta_0, [{k: v for k, v in expert_of(model, s).items() if k in theta_0} for s in (1, 2)])
    tau_hat = sa_merging(taus, score=flow_score(theta_0, module_flow(model, example)), T=3, p=0.2)
    kept = tau_hat[0]["blocks.0.attn.qkv.weight"]
    assert int(kept.count_nonzero()) == math.ceil(0.8**3 * kept.numel())
    assert any(x.any() for x in task_arithmetic(tau_hat).values())
