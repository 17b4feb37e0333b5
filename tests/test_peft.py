"""PEFT itself as the oracle: what it saves we read as s B A, or refuse by name; what we write it loads."""

import copy
import json
import warnings

import pytest
import torch
from torch import nn

from samerge_edu.files import load_params
from samerge_edu.lora import LoRA, dense, read_peft, write_peft
from samerge_edu.suites import load_suite
from samerge_edu.suites.pocket.suite import WEIGHTS
from samerge_edu.suites.published.names import from_hf, fused, hf_weight, split, to_hf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PEFT's own imports
    peft = pytest.importorskip("peft", reason="a development dependency")
    from peft.tuners.lora import config as lora_config
    from peft.tuners.lora.corda import preprocess_corda

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT and transformers warn about each other


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.mid, self.fc2 = nn.Linear(24, 16), nn.Linear(16, 16), nn.Linear(16, 8)

    def forward(self, x):
        return self.fc2(self.mid(self.fc1(x)).relu())


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield Net()


def trained(net, folder, **options):
    """Let PEFT adapt a copy of the net, change what it trains, save it. Returns the trained, merged state dict."""
    targets = options.pop("target_modules", ["fc1", "fc2"])
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": targets} | options)
    model = copy.deepcopy(net)
    if options.get("init_lora_weights") == "corda":
        preprocess_corda(model, config, run_model=lambda: model(torch.randn(64, 24)))
    model = peft.get_peft_model(model, config)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=g)
    model.save_pretrained(folder)
    return model


def update(net, merged):
    return {k: v - net.state_dict()[k] for k, v in merged.items() if not torch.equal(v, net.state_dict()[k])}


ACCEPTED = {
    "the default": {},
    "rsLoRA": {"use_rslora": True},
    "all linear layers": {"target_modules": "all-linear"},
    "by regular expression": {"target_modules": r"fc\d"},
    "but one": {"target_modules": ["fc1", "mid", "fc2"], "exclude_modules": ["mid"]},
    "own ranks and alphas": {"rank_pattern": {"fc2": 2}, "alpha_pattern": {"fc.": 3}},
    "the end of a name": {"rank_pattern": {"c1": 3}},  # is no name: PEFT wants a dot before it
    "Gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "random": {"init_lora_weights": False},
    "EVA": {"init_lora_weights": "eva", "eva_config": lora_config.EvaConfig()},
    "MiCA": {"init_lora_weights": "mica"},
    "dropout": {"lora_dropout": 0.5},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_read_is_what_peft_merges(net, tmp_path, name):
    options = copy.deepcopy(ACCEPTED[name])
    merged = trained(net, tmp_path, **options).merge_and_unload().state_dict()
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(net), tmp_path).merge_and_unload().state_dict()
    expected, got = update(net, loaded), dense(read_peft(tmp_path))
    assert expected.keys() == got.keys() >= {"fc1.weight", "fc2.weight"}
    for key, tau in got.items():
        torch.testing.assert_close(tau, expected[key], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(tau, merged[key] - net.state_dict()[key], atol=1e-6, rtol=1e-5)


def block_diagonal():
    return lora_config.BdLoraConfig(target_modules_bd_a=["fc1"], target_modules_bd_b=["fc2"], nblocks=2)


REFUSED = {
    "PiSSA": ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'; such a start is taken off the base"),
    "fast PiSSA": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights = 'pissa_niter_4'"),
    "OLoRA": ({"init_lora_weights": "olora"}, "init_lora_weights = 'olora'"),
    "CorDA": ({"init_lora_weights": "corda", "corda_config": lora_config.CordaConfig()}, "init_lora_weights = 'corda'"),
    "LoRA-GA": (
        {"init_lora_weights": "lora_ga", "lora_ga_config": lora_config.LoraGAConfig()},
        "init_lora_weights = 'lora_ga'",
    ),
    "DoRA": ({"use_dora": True}, "use_dora = True; DoRA rescales"),
    "aLoRA": ({"alora_invocation_tokens": [1, 2]}, r"alora_invocation_tokens = \[1, 2\]; an activated LoRA"),
    "biases": ({"bias": "all"}, "bias = 'all'; trained biases would be lost"),
    "its own biases": ({"lora_bias": True}, "lora_bias = True; trained biases would be lost"),
    "whole modules": ({"target_modules": ["fc1"], "modules_to_save": ["fc2"]}, "modules_to_save = .'fc2'.; fully"),
    "bare parameters": ({"target_modules": [], "target_parameters": ["fc1.weight"]}, "target_parameters = .'fc1"),
    "QALoRA": ({"use_qalora": True, "qalora_group_size": 4}, "use_qalora = True; the factors are made for"),
    "KaSA": ({"kasa_config": lora_config.KasaConfig()}, "kasa_config = .*; it is not known here"),
    "BD-LoRA": ({"use_bdlora": block_diagonal()}, "use_bdlora = .*; it is not known here"),
    "VeLoRA": ({"velora_config": lora_config.VeloraConfig(num_groups=4)}, "velora_config = .*; it is not known here"),
    "Monte-CLoRA": ({"monteclora_config": lora_config.MontecloraConfig()}, "monteclora_config = .*; it is not known"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_peft_saves_and_is_no_s_B_A_is_refused_by_name(net, tmp_path, name):
    options, message = REFUSED[name]
    trained(net, tmp_path, **copy.deepcopy(options))
    with pytest.raises(ValueError, match=message) as refusal:
        read_peft(tmp_path)
    assert f"{tmp_path.name}/adapter_config.json" in str(refusal.value)


@pytest.mark.parametrize("start", ["pissa", "olora", "corda"])
def test_the_refused_starts_are_indeed_no_s_B_A(net, tmp_path, start):
    """Without the check the update would be read wrong, by as much as it weighs."""
    options = {"corda_config": lora_config.CordaConfig()} if start == "corda" else {}
    merged = trained(net, tmp_path, init_lora_weights=start, **options).merge_and_unload().state_dict()
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"init_lora_weights": True}))
    wrong = dense(read_peft(tmp_path))["fc1.weight"]
    right = merged["fc1.weight"] - net.state_dict()["fc1.weight"]
    assert (wrong - right).norm() > 0.3 * right.norm()


def test_a_pissa_adapter_that_peft_converted_is_read(net, tmp_path):
    model = copy.deepcopy(net)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["fc1", "fc2"], init_lora_weights="pissa")
    model = peft.get_peft_model(model, config)
    model.peft_config["default"].init_lora_weights = True  # as PEFT's example does before it saves the start
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = "pissa"
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter *= 1.5
    model.save_pretrained(tmp_path / "end", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    merged = model.merge_and_unload().state_dict()
    tau = dense(read_peft(tmp_path / "end"))
    assert tau.keys() == {"fc1.weight", "fc2.weight"}
    for key in tau:
        torch.testing.assert_close(tau[key], merged[key] - net.state_dict()[key], atol=1e-5, rtol=1e-4)


def test_replicated_layers_are_refused(tmp_path):
    transformers = pytest.importorskip("transformers", reason="a development dependency")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=32, **sizes))
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], layer_replication=[(0, 2), (1, 2)], task_type="CAUSAL_LM")
    peft.get_peft_model(llama, config).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"layer_replication = \[\[0, 2\], \[1, 2\]\]; the adapter is of a model with more"
    ):
        read_peft(tmp_path)


def test_every_field_of_this_peft_is_one_we_know_or_refuse(net, tmp_path):
    """A new field of a newer PEFT is refused once it is set; unset it must not stand in the way."""
    trained(net, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_tomorrow": None, "tomorrow_config": {}}))
    assert len(read_peft(tmp_path)) == 2
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_tomorrow": True}))
    with pytest.raises(ValueError, match="got use_tomorrow = True; it is not known here"):
        read_peft(tmp_path)


# ---------------------------------------------------------------------------- what we write


def test_peft_loads_what_we_write(net, tmp_path):
    g = torch.Generator().manual_seed(2)

    def factors(r, out, fan_in, scale):
        return LoRA(torch.randn(r, fan_in, generator=g), torch.randn(out, r, generator=g), scale)

    # "fc" ends the name of "a.fc": a pattern for one must not catch the other
    model = nn.ModuleDict({"a": nn.ModuleDict({"fc": nn.Linear(6, 5)}), "fc": nn.Linear(5, 4), "b": nn.Linear(4, 3)})
    expert = {
        "a.fc.weight": factors(3, 5, 6, 0.5),
        "fc.weight": factors(2, 4, 5, 1.7),
        "b.weight": factors(3, 3, 4, 2.0),
    }
    for names in (list(expert), list(reversed(expert))):
        write_peft(tmp_path, {name: expert[name] for name in names})
        merged = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path).merge_and_unload().state_dict()
        for key, tau in dense(expert).items():
            torch.testing.assert_close(merged[key] - model.state_dict()[key], tau, atol=1e-5, rtol=1e-5)
        back = dense(read_peft(tmp_path))
        assert all(torch.equal(back[key], tau) for key, tau in dense(expert).items())


def test_peft_loads_the_fused_attention_that_we_write(tmp_path):
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2)})
    g = torch.Generator().manual_seed(3)
    expert = {
        f"attn.{name}": LoRA(torch.randn(2, 8, generator=g), torch.randn(out, 2, generator=g), 0.5)
        for name, out in (("in_proj_weight", 24), ("out_proj.weight", 8))
    }
    write_peft(tmp_path, expert)
    merged = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path).merge_and_unload().state_dict()
    tau = dense(expert)
    moved = {key: merged[key] - model.state_dict()[key] for key in tau}
    torch.testing.assert_close(moved["attn.in_proj_weight"], tau["attn.in_proj_weight"])
    times = (moved["attn.out_proj.weight"] / tau["attn.out_proj.weight"]).mean().item()
    torch.testing.assert_close(
        moved["attn.out_proj.weight"], round(times) * tau["attn.out_proj.weight"], atol=1e-5, rtol=1e-5
    )
    assert round(times) in (1, 2)  # 2: a fault of PEFT up to 0.21, see `write_peft`


def test_peft_reads_its_own_adapter_of_a_fused_attention_as_we_do(tmp_path):
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2), "fc": nn.Linear(8, 4)})
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["attn", "fc"], init_lora_weights=False)
    peft.get_peft_model(copy.deepcopy(model), config).save_pretrained(tmp_path)
    expert = read_peft(tmp_path)
    assert expert.keys() == {"attn.in_proj_weight", "attn.out_proj.weight", "fc.weight"}
    assert {lora.scale for lora in expert.values()} == {3.0}
    stored = load_params(tmp_path / "adapter_model.safetensors")
    assert torch.equal(expert["attn.in_proj_weight"].B, stored["base_model.model.attn.lora_B.weight"])


# ---------------------------------------------------------------------------- what we ship


@pytest.fixture(scope="module")
def hugging_face():
    """The pocket suite with LoRA experts, and its base as a Hugging Face tower."""
    transformers = pytest.importorskip("transformers", reason="a development dependency")
    suite = load_suite("pocket-lora")
    theta_0 = suite.theta_0
    config = transformers.CLIPVisionConfig(
        hidden_size=len(theta_0["class_embedding"]),
        intermediate_size=len(theta_0["transformer.resblocks.0.mlp.c_fc.bias"]),
        num_hidden_layers=len(suite.visual.transformer.resblocks),
        num_attention_heads=suite.attention_heads,
        image_size=32,
        patch_size=8,
        projection_dim=theta_0["proj"].shape[1],
        hidden_act="gelu",
    )
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    model.load_state_dict(to_hf(theta_0), strict=True)
    return suite, model


@pytest.mark.parametrize("rank", [16, 4])
@pytest.mark.parametrize("task", ["digits", "textures"])
def test_a_shipped_expert_is_the_same_model_in_peft(hugging_face, monkeypatch, rank, task):
    monkeypatch.delenv("SAMERGE_PRECISION", raising=False)  # compare in float32
    suite, base = hugging_face
    experts = suite.experts if rank == 16 else load_suite("pocket-lora-4").experts
    model = peft.PeftModel.from_pretrained(copy.deepcopy(base), WEIGHTS / f"lora_r{rank}" / task)
    images, _ = suite.images(task, "val", 8)
    with torch.no_grad():
        seen = nn.functional.normalize(model(pixel_values=images).image_embeds, dim=-1)
    torch.testing.assert_close(seen, suite.encode(experts[task], images), atol=1e-4, rtol=1e-4)
    merged = from_hf(model.merge_and_unload().state_dict())
    assert merged.keys() == experts[task].keys()
    for key, tensor in experts[task].items():
        torch.testing.assert_close(merged[key], tensor, atol=1e-6, rtol=1e-6)
    assert (
        merged["transformer.resblocks.0.attn.in_proj_weight"]
        != suite.theta_0["transformer.resblocks.0.attn.in_proj_weight"]
    ).any()


def test_split_and_fused_are_each_others_way_back(hugging_face, tmp_path):
    suite, _ = hugging_face
    expert = suite.adapters["signs"]
    write_peft(tmp_path, split(expert))
    back = fused(read_peft(tmp_path, hf_weight), layers=5)
    assert back.keys() == expert.keys()
    assert all(
        torch.equal(back[k].A, A) and torch.equal(back[k].B, B) and back[k].scale == s
        for k, (A, B, s) in expert.items()
    )
    with pytest.raises(ValueError, match="the adapter has 'proj', which is no matrix of a CLIP image tower"):
        split({"proj": next(iter(expert.values()))})


def test_factors_of_q_k_and_v_that_differ_are_not_taken_for_one():
    g = torch.Generator().manual_seed(4)
    A, other = torch.randn(2, 6, generator=g), torch.randn(2, 6, generator=g)
    for by_name in ({"q": A, "k": A, "v": other}, {"q": A, "k": other, "v": other}, {"q": A, "v": A}):
        module = "encoder.layers.0.self_attn.{}_proj.weight"
        adapter = {module.format(x): LoRA(a, torch.randn(6, 2, generator=g), 0.5) for x, a in by_name.items()}
        tau = dense(fused(adapter, layers=1))["transformer.resblocks.0.attn.in_proj_weight"]
        for x, rows in zip("qkv", tau.chunk(3), strict=True):
            expected = dense(adapter).get(module.format(x), torch.zeros(6, 6))
            torch.testing.assert_close(rows, expected, atol=1e-6, rtol=1e-5)


def test_an_adapter_of_both_towers_says_so(hugging_face, tmp_path):
    suite, _ = hugging_face
    expert = split(suite.adapters["signs"])
    both = expert | {key.replace("vision_model.", "text_model."): lora for key, lora in expert.items()}
    write_peft(tmp_path, both)
    with pytest.raises(ValueError, match="is of the text tower: this adapter changes more than the image tower"):
        read_peft(tmp_path, hf_weight)
    with pytest.raises(ValueError, match=r"modules '.*fc1' and '.*fc1' are both 'fc1\.weight' here"):
        read_peft(tmp_path, lambda module: module.split(".")[-1] + ".weight")
