"""`make suite` in miniature: interrupted, taken up again, and not made twice."""

from functools import partial

import pytest
import torch
import typer
from data_script import script

from samerge_edu.files import LazyParams, load_params
from samerge_edu.int8 import LazyInt8
from samerge_edu.suites.pocket import build as module

TINY = {"seed": 0, "per_task": 20, "rare": 0.1, "epochs": 24.0, "lr": 1e-3, "batch": 32}  # 210 steps


@pytest.fixture
def build(monkeypatch):
    """The makers, with a small tower and few images."""
    monkeypatch.setattr(module, "model_config", partial(module.model_config, width=32, layers=1))
    monkeypatch.setattr(module, "TASKS", {"digits": module.TASKS["digits"]})  # whose accuracies are noted
    short = {"images": 64, "epochs": 1.0, "lr": 1e-3, "batch": 32}
    monkeypatch.setattr(module, "RECIPES", {"base": TINY, "expert": short, "lora": short})
    return module


def not_again(*args, **kwargs):
    raise AssertionError("made a second time")


@pytest.mark.slow
def test_an_interrupted_build_goes_on_to_exactly_the_same_suite(build, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for stale in ("experts", "lora_r16", "weak"):
        (whole / stale).mkdir(parents=True)
    build.make_base("base", whole / "base", whole, "cpu")
    assert [p.name for p in whole.iterdir() if p.name != "base"] == ["weak"], "stale experts"

    def replace_and_die(source, target, real=build.os.replace):
        real(source, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build.os, "replace", replace_and_die)
        with pytest.raises(KeyboardInterrupt):
            build.make_base("base", cut / "base", cut, "cpu")
    assert [p.name for p in (cut / "base").iterdir()] == ["training.ckpt"]

    resumed, train_base = [], build.train_base
    monkeypatch.setattr(build, "train_base", lambda *a, **k: resumed.append(k["resume"]["step"]) or train_base(*a, **k))
    base = build.make_base("base", cut / "base", cut, "cpu")
    assert resumed == [200]
    weights = [load_params(folder / "base" / "open_clip_model.safetensors") for folder in (whole, cut)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert not (cut / "base" / "training.ckpt").exists()

    monkeypatch.setattr(build, "train_base", not_again)
    build.make_base("base", cut / "base", cut, "cpu")
    build.make_expert(base, "digits", file := cut / "experts" / "digits.safetensors")
    build.make_lora_expert(base, "digits", 4, cut / "lora_r4" / "digits")
    assert LazyParams(file).metadata["command"] == "python data_scripts/build_pocket.py"
    with monkeypatch.context() as patch:
        patch.setattr(build, "finetune", not_again)
        build.make_expert(base, "digits", file)
        build.make_lora_expert(base, "digits", 4, cut / "lora_r4" / "digits")
    build.RECIPES["expert"] = {**build.RECIPES["expert"], "lr": 2e-3}
    before = load_params(file)
    build.make_expert(base, "digits", file)
    assert any(not torch.equal(x, before[k]) for k, x in load_params(file).items()), "another recipe, another expert"

    measured = []
    run = script("build_pocket")
    monkeypatch.setattr(run, "bands", lambda suite: measured.append(suite) or [])
    run.main(out=cut, only="metrics")
    (suite,) = measured  # of the folder built, not the one that is shipped
    assert list(suite.experts) == ["digits"]
    assert torch.equal(suite.theta_0["proj"], weights[1]["visual.proj"].float())
    assert (cut / "metrics.json").is_file()


def test_a_checkpoint_of_another_recipe_is_not_taken_up(build, tmp_path):
    torch.save({"step": 200, "recipe": TINY | {"seed": 1}}, tmp_path / "training.ckpt")
    with pytest.raises(ValueError, match="is of another recipe"):
        build.make_base("base", tmp_path, tmp_path, "cpu")
    (tmp_path / "base").mkdir()
    (tmp_path / "training.ckpt").rename(tmp_path / "base" / "training.ckpt")
    with pytest.raises(typer.BadParameter, match="is of another recipe"):
        script("build_pocket").main(out=tmp_path, only="base")


def test_the_shipped_suite_is_up_to_date(monkeypatch):
    monkeypatch.setattr(module, "train_base", not_again)
    monkeypatch.setattr(module, "finetune", not_again)
    shipped = script("build_pocket")
    shipped.main(only=",".join(stage for stage in shipped.STAGES if stage != "metrics"))


def test_unknown_stage(tmp_path):
    with pytest.raises(typer.BadParameter, match="got 'experts2', expected some of base, experts"):
        script("build_pocket").main(out=tmp_path, only="experts2")


def test_a_base_and_an_expert_in_int8_are_what_was_rounded(build, tmp_path, monkeypatch):
    """Without training: what is written can be read, is measured after rounding, and is not made twice."""
    monkeypatch.setitem(build.RECIPES, "second", TINY)
    monkeypatch.setattr(build, "web_data", lambda *a: (None, None))
    monkeypatch.setattr(build, "train_base", lambda model, *a, **k: model.eval())
    measured = []
    monkeypatch.setattr(build, "zero_shot_accuracy", lambda model, *a: measured.append(model.state_dict()) or 50.0)
    base = build.make_base("second", tmp_path / "second" / "base", tmp_path, "cpu")
    shipped = base[0].state_dict()
    assert all(torch.equal(measured[0][k], shipped[k]) for k in shipped)
    file = tmp_path / "second" / "base" / build.pocket.INT8
    assert LazyParams(file).metadata["test_accuracy"] == '{"digits": 50.0}'
    assert not (file.parent / "open_clip_model.safetensors").exists()

    def nudge(visual, *args, **kwargs):
        with torch.no_grad():
            for tensor in visual.parameters():
                tensor += 0.01 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
        return 90.0

    monkeypatch.setattr(build, "fit", nudge)
    build.make_expert(base, "digits", expert := tmp_path / "digits.safetensors", tau_in_int8=True)
    theta_0 = {k: v.half().float() for k, v in base[0].visual.state_dict().items()}
    got = build.pocket.OnBase(theta_0, LazyInt8(expert))
    assert got.metadata["test_accuracy"] == '{"digits": 90.0}'
    for key, x in got.items():
        expected = theta_0[key] + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        assert (x - expected).abs().max() < 2e-3, key  # of 16 bits and of int8
    monkeypatch.setattr(build, "fit", not_again)
    monkeypatch.setattr(build, "train_base", not_again)
    build.make_base("second", tmp_path / "second" / "base", tmp_path, "cpu")
    build.make_expert(base, "digits", expert, tau_in_int8=True)
