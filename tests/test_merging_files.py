"""`samerge-edu merge --base ...`: folders of transformers, sharded in and out, PEFT adapters, and every bad input."""

import json
import subprocess
import sys

import pytest
import torch
from architectures import architecture, expert_of, floats
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import samerge_edu as se
from samerge_edu import cli, files
from samerge_edu.folders import Shards, open_model
from samerge_edu.merging_files import READS, prepare
from samerge_edu.methods import METHODS
from samerge_edu.params import block_index


def run(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def refused(result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("samerge-edu: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def saved(tmp_path, name, n=2, shard="1GB", dtype=torch.float32):
    """(base's folder, experts' folders), as `save_pretrained` writes them; models in `dtype`."""
    model, example = architecture(name)
    model = model.to(dtype)
    folders = [tmp_path / "base", *(tmp_path / f"expert{i}" for i in range(n))]
    model.save_pretrained(folders[0], max_shard_size=shard)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    for i, folder in enumerate(folders[1:]):
        model.load_state_dict(expert_of(model, seed=i + 1))
        model.save_pretrained(folder, max_shard_size=shard)
        model.load_state_dict(start)
    return model, example, folders


def merged_by_hand(model, folders, method, **knobs):
    experts = [type(model).from_pretrained(folder, dtype=model.dtype) for folder in folders[1:]]
    return se.merge(type(model).from_pretrained(folders[0], dtype=model.dtype), experts, method, **knobs)


MODELS = ["CLIPVisionModel", "RobertaModel", "T5 encoder", "LLaMA"]


@pytest.mark.parametrize("shard", ["1GB", "20KB"], ids=["one file", "sharded"])
@pytest.mark.parametrize("name", MODELS)
def test_a_folder_goes_in_and_one_comes_out_that_from_pretrained_loads(tmp_path, name, shard):
    model, example, folders = saved(tmp_path, name, shard=shard)
    (folders[0] / "tokenizer.json").write_text("{}", encoding="utf-8")
    result = run("merge", "--base", folders[0], "--expert", folders[1], "--expert", folders[2], "--method", "ties",
                 "--set", "density=0.3", "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert (folders[0] / "model.safetensors.index.json").exists() == (shard == "20KB")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in folders[0].iterdir())
    loaded, info = type(model).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    expected = merged_by_hand(model, folders, "TIES", density=0.3)
    for key, value in loaded.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-7)
    assert any(not torch.equal(v, floats(model)[k]) for k, v in floats(loaded).items())
    assert all(y.isfinite().all() for y in loaded(**example).values() if isinstance(y, torch.Tensor))


@pytest.mark.parametrize("method", ["Task Arithmetic", "TIES"])
def test_bf16_in_bf16_out_sums_in_float32(tmp_path, method):
    _, _, folders = saved(tmp_path, "LLaMA", n=3, shard="20KB", dtype=torch.bfloat16)
    run("merge", "--base", folders[0], *(w for f in folders[1:] for w in ("--expert", f)), "--method", method,
        "--lam", "0.7", "--out", tmp_path / "out")  # fmt: skip
    out, base, *experts = (dict(open_model(f).params) for f in (tmp_path / "out", *folders))
    taus = [{k: e[k].double() - base[k].double() for k in base} for e in experts]
    tau_m = METHODS[method].recipe(None)(taus)
    for key in base:
        assert out[key].dtype == torch.bfloat16
        exact = base[key].double() + 0.7 * tau_m[key]
        assert ((out[key].double() - exact).abs() <= 0.0041 * exact.abs() + 1e-9).all(), "more than one rounding"


def test_tied_weights_stay_tied(tmp_path):
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config)
    for name, step in (("base", 0), ("expert", 0.01)):
        with torch.no_grad():
            model.model.embed_tokens.weight.add_(step)
        model.save_pretrained(tmp_path / name)
    assert run("merge", "--base", tmp_path / "base", "--expert", tmp_path / "expert", "--method", "average",
               "--out", tmp_path / "out").exit_code == 0  # fmt: skip
    assert "lm_head.weight" not in open_model(tmp_path / "out").params
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    torch.testing.assert_close(loaded.lm_head.weight, model.lm_head.weight)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT of transformers
def test_peft_adapters_become_experts_of_their_base(tmp_path):
    peft = pytest.importorskip("peft")
    model, _, folders = saved(tmp_path, "LLaMA", n=0)
    dense = []
    for i in range(2):
        base = type(model).from_pretrained(folders[0])
        lora = peft.get_peft_model(base, peft.LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "down_proj"]))
        with torch.no_grad():
            for key, x in lora.named_parameters():
                if "lora_" in key:
                    x.copy_(0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(i)))
        lora.save_pretrained(tmp_path / f"adapter{i}")
        dense.append(lora.merge_and_unload().state_dict())
    result = run("merge", "--base", folders[0], "--expert", tmp_path / "adapter0", "--expert", tmp_path / "adapter1",
                 "--method", "task arithmetic", "--lam", 0.5, "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 0, result.output
    out, base = open_model(tmp_path / "out").params, open_model(folders[0]).params
    for key in base:
        torch.testing.assert_close(
            out[key], base[key] + 0.5 * sum(d[key] - base[key] for d in dense), rtol=1e-5, atol=1e-6
        )


def test_files_of_ones_own_with_integer_buffers(tmp_path):
    base = {"layer.weight": torch.randn(4, 3), "steps": torch.tensor(5), "seen": torch.tensor([True, False])}
    save_file(base, tmp_path / "base.safetensors")
    save_file(base | {"layer.weight": base["layer.weight"] + 0.1, "steps": torch.tensor(9)}, tmp_path / "e.safetensors")
    run("merge", "--base", tmp_path / "base.safetensors", "--expert", tmp_path / "e.safetensors", "--method", "average",
        "--lam", 0.5, "--out", tmp_path / "merged.safetensors")  # fmt: skip
    out = load_file(tmp_path / "merged.safetensors")
    assert out["steps"] == 5
    assert out["seen"].tolist() == [True, False]
    torch.testing.assert_close(out["layer.weight"], base["layer.weight"] + 0.05)
    about = files.LazyParams(tmp_path / "merged.safetensors").metadata
    assert about["recipe"] == "Average {}"
    assert [i["file"] for i in json.loads(about["inputs"])] == ["base.safetensors", "e.safetensors"]


# ---------------------------------------------------------------------------- the plan


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    _, _, folders = saved(tmp_path, "RobertaModel")
    result = run(
        "merge", "--base", folders[0], "--expert", folders[1], "--method", "TIES", "--dry-run", "--out", tmp_path / "o"
    )
    assert result.exit_code == 0, result.output
    size = (folders[0] / "model.safetensors").stat().st_size
    assert f"reads up to {12 * size / 1e6:.1f} MB" in result.stdout
    assert "holds up to" in result.stdout
    assert "MB/s" in result.stdout
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if "SA" not in name and row.needs == "none"])
def test_no_method_reads_a_file_more_often_than_planned(tmp_path, monkeypatch, method):
    """Counted tensor by tensor, for the base and each expert; the pass for the hash is the first."""
    _, _, folders = saved(tmp_path, "RobertaModel", n=2)
    job = prepare(folders[0], folders[1:], method)
    read, real = [], Shards.__getitem__
    monkeypatch.setattr(Shards, "__getitem__", lambda self, key: read.append((id(self), key)) or real(self, key))
    from samerge_edu.merging_files import merge_files

    merge_files(job, tmp_path / "out")
    key = next(k for k in job.base.params if block_index(k) == 1 and k.endswith("output.dense.weight"))
    experts = max(read.count((id(theta), key)) for theta in job.experts)
    assert 1 + experts <= READS[METHODS[method].per_tensor], f"{experts} reads and one for the hash"


# ---------------------------------------------------------------------------- what is refused


def test_bad_folders_are_named(tmp_path):
    _, _, folders = saved(tmp_path, "LLaMA", shard="20KB")
    out = ["--method", "TIES", "--out", tmp_path / "out"]

    def sentence(base, *experts):
        return refused(run("merge", "--base", base, *(w for e in experts for w in ("--expert", e)), *out))

    shard = sorted(folders[2].glob("*.safetensors"))[1]
    kept = shard.read_bytes()
    shard.unlink()
    assert f"missing shard {shard.name} (1 of " in sentence(folders[0], folders[1], folders[2])
    shard.write_bytes(kept[:100])
    assert f"{shard.name} is not a readable safetensors file" in sentence(folders[0], folders[2])
    shard.write_bytes(kept)

    config = folders[1] / "config.json"
    plain = config.read_text(encoding="utf-8")
    config.write_text(json.dumps({"quantization_config": {"quant_method": "gptq"}}), encoding="utf-8")
    assert "quantised (gptq): its tensors are codes" in sentence(folders[0], folders[1])
    config.write_text(plain, encoding="utf-8")

    assert "no such file or folder" in sentence(folders[0], tmp_path / "nowhere")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin, a pickle" in sentence(folders[0], tmp_path / "pickled")
    (tmp_path / "empty").mkdir()
    assert "got neither model.safetensors nor" in sentence(tmp_path / "empty", folders[1])
    packed = {"w.weight": torch.ones(2, 2, dtype=torch.uint8), "v": torch.ones(1)}
    save_file(packed, tmp_path / "packed.safetensors")
    assert "'w.weight': got torch.uint8: quantised" in sentence(tmp_path / "packed.safetensors", folders[1])
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.part").exists()


def test_adapters_of_another_base_are_named(tmp_path):
    from samerge_edu.lora import LoRA, write_peft

    _, _, folders = saved(tmp_path, "LLaMA", n=0)
    for name, key, shape in [("keys", "elsewhere.weight", (32, 32)), ("shapes", "lm_head.weight", (50, 16))]:
        write_peft(tmp_path / name, {key: LoRA(torch.ones(2, shape[1]), torch.ones(shape[0], 2), 1.0)})
    words = ["merge", "--base", folders[0], "--method", "average", "--out", tmp_path / "out", "--expert"]
    assert "adapts 'elsewhere.weight', which the base does not have: an adapter of another" in refused(
        run(*words, tmp_path / "keys")
    )
    assert "got an update of shape (50, 16), expected (50, 32)" in refused(run(*words, tmp_path / "shapes"))
    words[2] = tmp_path / "keys"
    assert "is an adapter: give its base as the base" in refused(run(*words, tmp_path / "shapes"))


def test_another_base_is_warned_of_and_does_not_stop(tmp_path):
    _, _, folders = saved(tmp_path, "RobertaModel", n=1)
    other, _ = architecture("RobertaModel", seed=3)
    other.save_pretrained(tmp_path / "other")
    result = run(
        "merge", "--base", folders[0], "--expert", tmp_path / "other", "--method", "average", "--out", tmp_path / "out"
    )
    assert result.exit_code == 0
    assert "expert 1 seems to come from another base" in result.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--method", "tise"], "method: got 'tise', did you mean TIES"),
        (["--method", "SA-Merging"], "give the module and an input, se.merge(..., model=module, example=input)"),
        (["--method", "TIES", "--set", "density"], "--set: got 'density', expected name=value"),
        (["--method", "TIES", "--set", "densty=1"], "got knob 'densty', did you mean density"),
        (["--method", "TIES", "--set", "density=20"], "density: got 20"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, words, reason):
    save_file({"w": torch.ones(2, 2)}, tmp_path / "b.safetensors")
    result = run(
        "merge",
        "--base",
        tmp_path / "b.safetensors",
        "--expert",
        tmp_path / "b.safetensors",
        *words,
        "--out",
        tmp_path / "o",
    )
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_options_that_belong_together(tmp_path):
    assert "--base and --expert go together" in refused(
        run("merge", "--base", "x", "--method", "TIES", "--out", tmp_path / "o")
    )
    assert "give --base and --expert" in refused(run("merge", "--dry-run", "--method", "TIES", "--out", tmp_path / "o"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "exists already: choose a new folder" in refused(
        run("merge", "--base", "x", "--expert", "y", "--method", "TIES", "--out", tmp_path / "full")
    )


# ---------------------------------------------------------------------------- methods, suites


def test_methods_and_suites_are_listed_without_torch():
    program = (
        "import sys, samerge_edu.cli as c; from typer.testing import CliRunner; "
        "r = CliRunner().invoke(c.app, sys.argv[1:]); print(r.output); assert 'torch' not in sys.modules; "
        "sys.exit(r.exit_code)"
    )

    def said(*words, code=0):
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout

    listed = said("methods")
    assert all(name in listed for name in METHODS)
    assert "density=0.2, reduce=mean, scope=global" in listed
    rows = json.loads(said("methods", "--json"))
    assert rows["TIES (sum)"]["knobs"]["reduce"] == "sum"
    assert rows["WUDI"]["paper"] == "2503.08099"
    assert set(json.loads(said("suites", "--json"))) == set(se.suites.suite_names())
    assert "did you mean TIES" in said("merge", "--method", "tise", "--out", "x", code=2)
