"""Our names and Hugging Face's are the same network: features agree, at a tiny size and at the real one."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.func import functional_call

from samerge_edu.files import LazyParams
from samerge_edu.params import structure
from samerge_edu.suites.published.names import (
    activation,
    build_clip,
    check_activation,
    from_hf,
    hf_names,
    image_tower,
    to_hf,
    zero_shot_head,
)

transformers = pytest.importorskip("transformers", reason="a development dependency: pip install transformers")

TINY = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "head_width": 16, "patch_size": 8, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
B_32 = {
    "embed_dim": 512,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def hf_vision(cfg: dict, act: str = "quick_gelu", seed: int = 0):
    v = cfg["vision_cfg"]
    torch.manual_seed(seed)
    config = transformers.CLIPVisionConfig(
        hidden_size=v["width"],
        intermediate_size=int(v["width"] * v.get("mlp_ratio", 4.0)),
        num_hidden_layers=v["layers"],
        num_attention_heads=v["width"] // v.get("head_width", 64),
        image_size=v["image_size"],
        patch_size=v["patch_size"],
        projection_dim=cfg["embed_dim"],
        hidden_act=act,
    )
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    with torch.no_grad():  # off the special point where gains are 1 and biases 0
        for p in model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return model


@torch.no_grad()
def ours(cfg, params, images):
    return functional_call(build_clip(cfg).visual, dict(params), images)


@pytest.mark.parametrize("cfg", [TINY, B_32], ids=["tiny", "B/32"])
@torch.no_grad()
def test_features_agree_with_transformers(cfg, record_property):
    hf = hf_vision(cfg)
    images = torch.randn(2, 3, cfg["vision_cfg"]["image_size"], cfg["vision_cfg"]["image_size"])
    theirs = hf(pixel_values=images).image_embeds
    mapped = from_hf(hf.state_dict())
    assert structure(mapped) == structure(dict(build_clip(cfg).visual.state_dict()))
    difference = (ours(cfg, mapped, images) - theirs).abs().max().item() / theirs.abs().max().item()
    record_property("relative difference", difference)
    assert difference < 1e-5
    if cfg is B_32:  # the size printed in FusionBench's documentation, for the tower without the projection
        assert sum(p.numel() for k, p in hf.state_dict().items() if not k.startswith("visual_proj")) == 87_456_000


@torch.no_grad()
def test_the_wrong_activation_gives_other_features_and_is_refused():
    hf, images = hf_vision(TINY, act="gelu"), torch.randn(2, 3, 32, 32)
    theirs = hf(pixel_values=images).image_embeds
    assert (ours(TINY, from_hf(hf.state_dict()), images) - theirs).abs().max() > 1e-3 * theirs.abs().max()
    exact = {**TINY, "quick_gelu": False}
    torch.testing.assert_close(ours(exact, from_hf(hf.state_dict()), images), theirs, atol=1e-5, rtol=1e-5)

    tower = build_clip(TINY).visual
    assert activation(tower) == "quick_gelu"
    assert activation(build_clip(exact).visual) == "gelu"
    check_activation(tower, hf_vision(TINY).config.hidden_act, "expert")
    with pytest.raises(
        ValueError, match=r"expert mnist: got weights trained with 'gelu', expected 'quick_gelu'.*ViT-B-32-quickgelu"
    ):
        check_activation(tower, hf.config.hidden_act, "expert mnist")


def test_round_trip_in_both_directions_and_without_the_prefix():
    hf = hf_vision(TINY).state_dict()
    there_and_back = to_hf(from_hf(hf))
    assert there_and_back.keys() == hf.keys()
    assert all(torch.equal(there_and_back[k], hf[k]) for k in hf)

    bare = {k.removeprefix("vision_model."): v for k, v in hf.items()}  # transformers >= 5
    assert dict(from_hf(bare)).keys() == dict(from_hf(hf)).keys()
    assert to_hf(from_hf(bare), prefix="").keys() == bare.keys()
    tower = dict(build_clip(TINY).visual.state_dict())
    assert all(torch.equal(from_hf(to_hf(tower))[k], v) for k, v in tower.items())


def test_transformers_accepts_what_to_hf_writes():
    tower = build_clip(TINY).visual
    hf = hf_vision(TINY, seed=3)
    hf.load_state_dict(to_hf(dict(tower.state_dict())), strict=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(hf(pixel_values=images).image_embeds, tower(images), atol=1e-5, rtol=1e-5)


def test_a_vision_model_without_projection_has_no_proj():
    hf = {k: v for k, v in hf_vision(TINY).state_dict().items() if k != "visual_projection.weight"}
    assert "proj" not in from_hf(hf)
    assert "visual_projection.weight" not in to_hf(from_hf(hf))


def test_a_whole_clip_model_gives_its_image_tower():
    whole = {
        **hf_vision(TINY).state_dict(),
        "logit_scale": torch.tensor(1.0),
        "text_model.final_layer_norm.bias": torch.ones(3),
    }
    assert set(from_hf(whole)) == set(dict(build_clip(TINY).visual.state_dict()))
    clip = build_clip(TINY)
    assert set(image_tower(clip.state_dict())) == set(clip.visual.state_dict())
    with pytest.raises(ValueError, match="expected keys that start with 'visual"):
        image_tower(clip.visual.state_dict())


def test_old_files_carry_a_buffer_which_is_left_out():
    hf = {**hf_vision(TINY).state_dict(), "vision_model.embeddings.position_ids": torch.arange(17)}
    assert not any("position_ids" in k for k in from_hf(hf))


def test_nothing_is_skipped_in_silence():
    hf = hf_vision(TINY).state_dict()
    hf.pop("vision_model.encoder.layers.1.self_attn.k_proj.bias")
    with pytest.raises(
        ValueError, match=r"missing key 'vision_model.encoder.layers.1.self_attn.k_proj.bias' \(1 missing"
    ):
        from_hf(hf)
    with pytest.raises(ValueError, match="unknown key 'classifier"):
        from_hf({**hf_vision(TINY).state_dict(), "classifier.weight": torch.ones(2)})
    tower = dict(build_clip(TINY).visual.state_dict())
    with pytest.raises(ValueError, match=r"unknown key 'attn_pool.query'"):
        to_hf({**tower, "attn_pool.query": torch.ones(2)})
    tower.pop("ln_pre.bias")
    with pytest.raises(ValueError, match=r"missing key 'ln_pre.bias'"):
        to_hf(tower)


def test_a_file_stays_on_disk_until_a_tensor_is_asked_for(tmp_path):
    save_file(hf_vision(TINY).state_dict(), tmp_path / "model.safetensors")
    lazy = LazyParams(tmp_path / "model.safetensors")
    reads = []
    lazy_read = LazyParams.__getitem__
    mapped = from_hf(lazy)
    assert mapped.path == lazy.path
    assert mapped.structure["transformer.resblocks.0.attn.in_proj_weight"][0] == (192, 64)
    assert mapped.structure["proj"][0] == (64, 24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LazyParams, "__getitem__", lambda self, k: reads.append(k) or lazy_read(self, k))
        mapped["transformer.resblocks.2.attn.in_proj_bias"]
    assert [r.split(".")[-2] for r in reads] == ["q_proj", "k_proj", "v_proj"]


def test_names_cover_each_of_theirs_once():
    theirs = [t for names in hf_names(3).values() for t in names]
    assert len(theirs) == len(set(theirs)) == len(hf_vision(TINY).state_dict()) - 1  # all but the projection


@torch.no_grad()
def test_head_is_the_normalised_mean_of_normalised_captions():
    from open_clip import get_tokenizer

    clip, tokenizer = build_clip(TINY), get_tokenizer("ViT-B-32", context_length=20)
    head = zero_shot_head(clip, tokenizer, ["cat", "red car"], ["a photo of a {}.", "{}!", "my {}."], batch=4)
    assert head.shape == (2, 24)
    for row, name in zip(head, ["cat", "red car"], strict=True):
        captions = [clip.encode_text(tokenizer([t])) for t in (f"a photo of a {name}.", f"{name}!", f"my {name}.")]
        mean = sum(c / c.norm() for c in captions) / 3
        torch.testing.assert_close(row, (mean / mean.norm()).squeeze(0))


def test_class_names_and_templates_are_whole():
    from pathlib import Path

    import samerge_edu

    path = Path(samerge_edu.__path__[0]) / "suites" / "published" / "class_names.json"
    tasks = json.loads(path.read_text(encoding="utf-8"))
    counts = {
        "sun397": 397,
        "stanford-cars": 196,
        "resisc45": 45,
        "eurosat": 10,
        "svhn": 10,
        "gtsrb": 43,
        "mnist": 10,
        "dtd": 47,
    }
    templates = {
        "sun397": 2,
        "stanford-cars": 8,
        "resisc45": 18,
        "eurosat": 3,
        "svhn": 1,
        "gtsrb": 3,
        "mnist": 1,
        "dtd": 8,
    }
    assert {t: len(tasks[t]["classes"]) for t in counts} == counts
    assert {t: len(tasks[t]["templates"]) for t in counts} == templates  # the numbers of methods.md, section A
    for name, task in tasks.items():
        assert len(set(task["classes"])) == len(task["classes"]), name
        assert all(t.count("{}") == 1 for t in task["templates"]), name
