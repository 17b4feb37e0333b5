"""samerge-edu prefetch and merge as a person would run them: on pocket, and on the tiny suite behind a local hub."""

import inspect
import json
from pathlib import Path

import open_clip
import pytest
import torch
from typer.testing import CliRunner

from samerge_edu import cli
from samerge_edu import forecast as forecast_module
from samerge_edu.files import LazyParams, load_params
from samerge_edu.methods import METHODS
from samerge_edu.params import add, task_vectors
from samerge_edu.suites import load_suite
from samerge_edu.suites.published.clip_vit import load_clip_vit
from samerge_edu.suites.published.manifest import WORKSHOP


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli.app, [str(word) for word in words])


def refused(result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("samerge-edu: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


# ---------------------------------------------------------------------------- prefetch


def test_prefetch_prints_then_fetches_then_needs_no_network(run, hub, tmp_path, monkeypatch):
    dry = run("prefetch", "--suite", "vit-tiny-lora", "--images", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert dry.stdout.count("to fetch  samerge-edu/tiny-clip") == 1 + len(WORKSHOP)
    assert [line.split()[3] for line in dry.stdout.splitlines() if " images " in line] == [f"{t}," for t in WORKSHOP]
    assert not list(tmp_path.rglob("*.bin"))
    done = run("prefetch", "--suite", "vit-tiny-lora", "--tasks", "mnist, svhn", "--images", "--to", "stick")
    assert done.exit_code == 0, done.output
    assert "6 files are here and checked" in done.stdout
    assert done.stdout.splitlines()[-1] == f"kept in {tmp_path / 'cache'}"
    assert len(list((tmp_path / "stick").rglob("*.parquet"))) == 2
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = run("prefetch", "--suite", "vit-tiny-lora", "--tasks", "mnist,svhn")
    assert "to fetch " not in again.stdout.replace("to fetch in all", "")
    assert again.exit_code == 0
    missing = run("prefetch", "--suite", "vit-tiny", "--tasks", "mnist")  # its full expert was not fetched
    assert "tiny-clip_mnist/config.json is not on this machine" in refused(missing)


def test_prefetch_names_what_exists(run, hub):
    assert "suite: got 'pocket', expected one of vit-b-32, " in refused(run("prefetch", "--suite", "pocket"))
    mistyped = run("prefetch", "--suite", "vit-tiny", "--tasks", "mnits")
    assert "task: got 'mnits', expected one of sun397, " in refused(mistyped)


# ---------------------------------------------------------------------------- merge


def images_like(suite) -> torch.Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def features(suite, theta) -> torch.Tensor:
    return suite.encode(theta, images_like(suite))


@pytest.mark.parametrize("method", ["Task Arithmetic", "SA-Merging"])
def test_a_published_suite_becomes_a_clip_that_open_clip_loads(run, hub, tmp_path, monkeypatch, method):
    monkeypatch.setenv("SAMERGE_PRECISION", "float32")  # compare in float32
    (tmp_path / "merged").mkdir()
    result = run("merge", "--suite", "vit-tiny", "--method", method.lower(), "--out", "merged/it.safetensors",
                 "--tasks", "mnist,eurosat")  # fmt: skip
    assert result.exit_code == 0, result.output
    first, *needs, _free, plan, how, last = result.stdout.splitlines()
    assert first == f"{method} of mnist, eurosat (tiny: made by tests/tiny_hub.py)"
    assert len(needs) == (3 if METHODS[method].per_tensor else 2)
    assert plan == "plan: everything in memory"
    assert how == f"this command: {'one tensor at a time' if METHODS[method].per_tensor else 'read as needed'}"
    assert last.endswith(f"lam = {METHODS[method].lam:g}")
    model, _, _ = open_clip.create_model_and_transforms("local-dir:merged")
    suite = load_suite("vit-tiny", tasks=("mnist", "eurosat"))
    tau_m = METHODS[method].recipe(suite)(task_vectors(suite.theta_0, list(suite.experts.values())))
    expected = features(suite, add(suite.theta_0, tau_m, METHODS[method].lam))
    with torch.no_grad():
        torch.testing.assert_close(model.eval().encode_image(images_like(suite), normalize=True), expected)
    about = LazyParams(tmp_path / "merged/it.safetensors").metadata
    assert about["recipe"].startswith(f"{method} on vit-tiny: mnist, eurosat")
    assert len(json.loads(about["inputs"])) == 3


def test_pocket_becomes_an_image_tower_that_open_clip_takes(run, tmp_path):
    result = run("merge", "--suite", "pocket-similar", "--method", "TSV-M", "--lam", "0.7", "--out", "it.safetensors")
    assert result.exit_code == 0, result.output
    suite = load_suite("pocket-similar")
    tau_m = METHODS["TSV-M"].recipe(suite)(task_vectors(suite.theta_0, list(suite.experts.values())))
    expected = add(suite.theta_0, tau_m, 0.7)
    merged = load_params(tmp_path / "it.safetensors")
    assert merged.keys() == expected.keys()
    torch.testing.assert_close(merged, dict(expected))
    suite.visual.load_state_dict(merged, strict=True)  # open_clip's own VisionTransformer
    assert isinstance(suite.visual, open_clip.transformer.VisionTransformer)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--method", "Magic"], f"method: got 'Magic', expected one of {', '.join(METHODS)}"),
        (["--method", "TIES,TSV-M"], "method: got 'TIES,TSV-M', did you mean TSV-M or TIES"),
        (["--method", ""], "method: got '', expected one of Average, "),
        (["--out", "no/such/it.safetensors"], "there is no folder no/such"),
        (["--suite", "purse"], "suite: got 'purse', expected one of pocket, "),
        (["--tasks", "mnist"], "--tasks: the experts of 'pocket' are fixed; a choice have vit-b-32, "),
        (["--device", "abacus"], "device: got 'abacus'"),
    ],
)
def test_a_mistake_ends_in_one_line_and_no_file(run, tmp_path, words, reason):
    result = run("merge", "--method", "TIES", "--out", "it.safetensors", *words)
    assert reason in refused(result)
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_forecast_and_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(forecast_module, "free_memory", lambda device: 10**6)
    result = run("merge", "--method", "TIES", "--out", "it.safetensors")
    assert "plan: does not fit" in result.stdout
    assert "merging 8 experts needs 0.10 GiB, cpu has 0.00 GiB free" in refused(result)
    assert list(tmp_path.iterdir()) == []


def test_two_models_do_not_share_a_folder(run, hub, tmp_path):
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {}}', encoding="utf-8")
    words = ["merge", "--suite", "vit-tiny", "--method", "Average", "--out", "it.safetensors", "--tasks", "mnist"]
    assert "open_clip_config.json is another model's: choose a folder of its own" in refused(run(*words))
    assert not Path("it.safetensors").exists()
    (tmp_path / "open_clip_config.json").unlink()
    assert run(*words).exit_code == 0
    assert run(*words).exit_code == 0  # its own, again


# ---------------------------------------------------------------------------- notebook 12


def test_notebook_12_takes_the_real_experts_unless_told_otherwise(monkeypatch, capsys):
    notebook = json.loads((Path(__file__).parents[1] / "notebooks/12_real_clip.ipynb").read_text(encoding="utf-8"))
    cell = next(
        s for c in notebook["cells"] if "SAMERGE_CLIP" in (s := "".join(c["source"])) and c["cell_type"] == "code"
    )
    monkeypatch.delenv("SAMERGE_CLIP", raising=False)
    monkeypatch.setenv("SAMERGE_SUITE", "pocket")  # the cell sets it: put back afterwards
    exec(cell, names := {"torch": torch})
    assert (names["name"], names["model"], names["lora"]) == ("vit-b-32", "ViT-B-32", False)
    assert "vit-b-32 (ViT-B-32), tasks mnist, svhn, eurosat, gtsrb" in capsys.readouterr().out
    assert inspect.signature(load_clip_vit).parameters["tasks"].default == WORKSHOP
