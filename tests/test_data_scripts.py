"""The scripts of data_scripts/ that use the hub, run as a person would, against the local one."""

import sys
from argparse import Namespace

import pytest
import torch
from data_script import SCRIPTS, script
from hub_server import HubServer
from tiny_hub import write_data

from samerge_edu.files import LazyParams, load_params
from samerge_edu.lora import read_peft
from samerge_edu.merges.average import average
from samerge_edu.streaming import merge_suite
from samerge_edu.suites.published.clip_vit import load_clip_vit, suite_assets
from samerge_edu.suites.published.data import DATA
from samerge_edu.suites.published.manifest import MODELS, REVISIONS, TALL20


@pytest.fixture
def run(monkeypatch, capsys):
    """run("download_experts", "--dry-run") -> what it printed."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        script(name).main()
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", ["download_experts", "download_data", "evaluate_suite", "finetune_expert"])
def test_help_says_size_licence_and_minutes(run, capsys, name):
    with pytest.raises(SystemExit) as end:
        run(name, "--help")
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert " GB" in text
    assert "licence" in text.lower() or "MIT" in text
    assert "minutes" in text.lower()
    assert 30 <= len((SCRIPTS / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_download_line_names_what_the_hub_has(tmp_path, monkeypatch, run):
    for a in {a for m in MODELS for lora in (False, True) for a in suite_assets(m, 20, lora)}:
        (path := tmp_path / "served" / a.repo / a.filename).parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}", encoding="utf-8")
    for number, task in enumerate(TALL20):
        write_data(tmp_path / "served/datasets" / DATA[task].repo, task, classes=2, seed=number, per_class=1)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with HubServer(tmp_path / "served") as server:
        server.commits |= REVISIONS
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        for model in MODELS:
            for lora in ([], ["--lora"]):
                out = run("download_experts", "--dry-run", "--model", model, "--tasks", "20", *lora)
                assert out.count(" 0.0 MB  to fetch") == 1 + 20 + 1  # each line with the hub's size, and the total
        for split in ("train", "test"):
            out = run("download_data", "--dry-run", "--tasks", "20", "--split", split)
            assert [line.split()[3].rstrip(",") for line in out.splitlines()] == list(TALL20)
            assert "about" not in out
        assert not any(p.suffix in (".safetensors", ".parquet") for p in (tmp_path / "cache").rglob("*"))


def test_experts_are_fetched_packed_and_used_without_a_network(hub, tmp_path, monkeypatch, run):
    stick = str(tmp_path / "stick")
    out = run("download_experts", "--model", "ViT-tiny", "--tasks", "mnist,svhn", "--to", stick)
    assert "6 files are here and checked" in out
    assert "mnist, test" in run("download_data", "--tasks", "mnist,svhn", "--to", stick)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("SAMERGE_ASSETS", stick)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "another machine"))
    suite = load_clip_vit("mnist,svhn", (), model="ViT-tiny")
    merged = merge_suite(suite, average, tmp_path / "merged.safetensors", lam=1.0, per_tensor=True, recipe="Average")
    out = run(
        "evaluate_suite", "--model", "ViT-tiny", "--tasks", "mnist,svhn", "--per-class", "4", "--files", str(merged)
    )
    rows = {line[:28].strip(): [float(x) for x in line[28:].split()] for line in out.splitlines()[2:5]}
    assert out.startswith("tiny: made by tests/tiny_hub.py, at most 4 images of each class")
    assert list(rows) == ["zero-shot", "merged.safetensors", "experts, each on its own"]
    assert rows["zero-shot"][2] < rows["merged.safetensors"][2] < rows["experts, each on its own"][2]
    assert rows["experts, each on its own"][:2] == [100.0, 100.0]


def test_a_mistake_ends_with_one_line(hub, run):
    with pytest.raises(SystemExit, match="download_experts: task: got 'mnits', expected one of sun397"):
        run("download_experts", "--model", "ViT-tiny", "--tasks", "mnits")
    with pytest.raises(SystemExit, match=r"download_experts: .* has no repository 'samerge-edu/tiny-clip_dtd'"):
        run("download_experts", "--model", "ViT-tiny", "--tasks", "dtd")
    with pytest.raises(SystemExit, match=r"download_data: .* has no repository 'datasets/tanganke/dtd'"):
        run("download_data", "--tasks", "dtd")


# ---------------------------------------------------------------------------- fine-tuning


@pytest.fixture
def options(tmp_path):
    recipe = {"task": "svhn", "lora": None, "lr": 1e-3, "steps": 130, "batch": 16, "images": 60, "seed": 0}
    return lambda out, **changed: Namespace(out=tmp_path / out, device="cpu", **(recipe | changed))


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_exactly_the_same_expert(hub, options, monkeypatch, capsys):
    finetune = script("finetune_expert")
    suite = load_clip_vit("svhn", (), model="ViT-tiny")
    finetune.finetune(suite, options("whole"))
    assert float(capsys.readouterr().out.split("before, ")[1].split(" %")[0]) > 80  # learned something

    steps, trange = [], finetune.trange

    def cut(*args, **kwargs):
        for step in trange(*args, **kwargs):
            if step == 120:
                raise KeyboardInterrupt
            steps.append(step)
            yield step

    monkeypatch.setattr(finetune, "trange", cut)
    with pytest.raises(KeyboardInterrupt):
        finetune.finetune(suite, options("cut"))
    monkeypatch.setattr(finetune, "trange", lambda *a, **k: (steps.append(s) or s for s in trange(*a, **k)))
    finetune.finetune(suite, options("cut"))
    assert steps == [*range(120), *range(100, 130)]  # saved at 100, taken up there
    whole, again = (load_params(options(out).out / "expert.safetensors") for out in ("whole", "cut"))
    assert whole.keys() == set(suite.theta_0)
    assert all(torch.equal(whole[k], again[k]) for k in whole)
    assert LazyParams(options("cut").out / "expert.safetensors").metadata["task"] == "svhn"
    with pytest.raises(ValueError, match="is of another run"):
        finetune.finetune(suite, options("cut", lr=2e-3))


@pytest.mark.slow
def test_a_lora_expert_is_a_peft_adapter(hub, options, capsys):
    finetune = script("finetune_expert")
    suite = load_clip_vit("svhn", (), model="ViT-tiny")
    finetune.finetune(suite, options("lora", lora=4, lr=1e-2, steps=100))
    before, after = (float(x.split(" %")[0]) for x in capsys.readouterr().out.split("svhn: ")[1].split(" before, "))
    assert after > before + 20
    adapter = read_peft(options("lora").out)
    assert all(len(lora.A) == 4 for lora in adapter.values())
    assert "transformer.resblocks.0.attn.in_proj_weight" in adapter
    assert set(adapter) < set(suite.theta_0)
