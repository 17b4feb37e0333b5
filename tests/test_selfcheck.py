"""The self-check at first contact: all is well where it is, each planted fault is named. Over HTTP, in miniature."""

import dataclasses
import json
import re
import shutil

import pandas as pd
import pytest
import torch
from hub_server import HubServer
from safetensors.torch import load_file, save_file
from tiny_hub import make_tiny_hub, tiny_hub_folder
from typer.testing import CliRunner

from samerge_edu import cli, selfcheck
from samerge_edu.selfcheck import REFERENCES, SLACK, check
from samerge_edu.suites.published.clip_vit import load_clip_vit
from samerge_edu.suites.published.manifest import SUITES, TA8, TALL20, WARNINGS

TASKS = "mnist,eurosat"
DATA = "datasets/tanganke/eurosat/data/test-00000-of-00001.parquet"


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """serve(break_it) -> the miniature behind a hub, after `break_it(folder)` has changed its files."""
    servers = []

    def serve(break_it=lambda folder: None):
        folder = shutil.copytree(tiny_hub_folder(), tmp_path / "served")
        break_it(folder)
        servers.append(server := HubServer(folder).__enter__())
        for variable in ("SAMERGE_ASSETS", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        return server

    yield serve
    for server in servers:
        server.__exit__()


def run(*words: str):
    return CliRunner().invoke(cli.app, ["check", "--tasks", TASKS, *words])


def lines(result) -> dict[str, str]:
    """task -> what its line says after the numbers."""
    found = [line for line in result.stdout.splitlines() if "|tau|" in line]
    return {line.split()[0]: re.split(r"\d\.\d{3}   ", line)[1] for line in found}


@pytest.mark.parametrize("suite", ["vit-tiny", "vit-tiny-lora"])
def test_what_is_right_is_well(serve, suite):
    serve()
    result = run("--suite", suite)
    assert result.exit_code == 0, result.output
    assert lines(result) == {"mnist": "ok", "eurosat": "ok"}
    assert result.stdout.splitlines()[-1] == "All is well."


def rewrite(file, change) -> None:
    save_file({k: change(k, v) for k, v in load_file(file).items()}, file)


def another_base(folder) -> None:
    """The same architecture from another run: names, shapes and configuration agree."""
    generator = torch.Generator().manual_seed(1)
    file = folder / "samerge-edu/tiny-clip/open_clip_model.safetensors"
    rewrite(file, lambda k, v: torch.randn(v.shape, generator=generator) * v.std() if v.ndim > 1 else v)


def truncated(folder) -> None:
    frame = pd.read_parquet(folder / DATA)
    frame.iloc[:50].to_parquet(folder / DATA)


def relabelled(folder, label) -> None:
    frame = pd.read_parquet(folder / DATA)
    frame["label"] = [label(x) for x in frame["label"]]
    frame.to_parquet(folder / DATA)


def broken_adapter(folder) -> None:
    """The update the wrong way round, and too large: as far from the task as the expert is near it."""
    file = folder / "samerge-edu/tiny-clip_lora_R4_eurosat/adapter_model.bin"
    tensors = torch.load(file, weights_only=True)
    torch.save({k: -4 * v if "lora_B" in k else v for k, v in tensors.items()}, file)


@pytest.mark.parametrize(
    ("suite", "fault", "tasks", "named"),
    [
        ("vit-tiny", another_base, ["mnist", "eurosat"], r"the expert is 1\.\d\d of .* away .* not its base"),
        ("vit-tiny", truncated, ["eurosat"], "the test split has 50 images, expected 80: truncated"),
        ("vit-tiny", lambda f: relabelled(f, lambda x: (x + 3) % 10), ["eurosat"], "the labels are shuffled"),
        ("vit-tiny", lambda f: relabelled(f, lambda x: x + 1), ["eurosat"], "10 labels from 1 to 10, expected 0 to 9"),
        ("vit-tiny", lambda f: relabelled(f, lambda x: min(x, 8)), ["eurosat"], "9 labels from 0 to 8, expected 0 to"),
        ("vit-tiny-lora", broken_adapter, ["eurosat"], "a broken one"),
    ],
    ids=["another base", "truncated split", "other order", "labels from 1", "a class missing", "broken adapter"],
)  # fmt: skip
def test_a_planted_fault_is_named_for_its_tasks_and_no_other(serve, suite, fault, tasks, named):
    serve(fault)
    result = run("--suite", suite)
    assert result.exit_code == 1, result.output
    found = lines(result)
    for task, verdict in found.items():
        if task in tasks:
            assert re.match(f"PROBLEM: .*({named})", verdict), verdict
        else:
            assert verdict == "ok"
    assert result.stdout.splitlines()[-1].startswith("Do not use these numbers")


def test_the_wrong_activation_is_named(serve):
    """In one configuration loading refuses it; in all of them at once only the self-check sees it."""

    def everywhere(folder):
        for task in ("mnist", "eurosat"):
            config = folder / f"samerge-edu/tiny-clip_{task}/config.json"
            config.write_text(json.dumps({"hidden_act": "gelu"}), encoding="utf-8")
        config = folder / "samerge-edu/tiny-clip/open_clip_config.json"
        about = json.loads(config.read_text(encoding="utf-8"))
        about["model_cfg"]["quick_gelu"] = False
        config.write_text(json.dumps(about), encoding="utf-8")

    serve(everywhere)
    result = run("--suite", "vit-tiny")
    assert result.exit_code == 1
    verdicts = set(lines(result).values())
    assert verdicts == {
        "PROBLEM: the tower computes 'gelu', OpenAI's weights were trained with 'quick_gelu': wrong activation"
    }


def test_doctor_looks_at_a_published_suite_with_its_own_bands(serve, monkeypatch):
    monkeypatch.setattr("samerge_edu.doctor.missing", dict)
    serve(truncated)
    result = CliRunner().invoke(cli.app, ["doctor", "--suite", "vit-tiny"])
    assert result.exit_code == 1
    assert "truncated" in lines(result)["eurosat"]
    assert {lines(result)[t] for t in ("mnist", "svhn", "gtsrb")} == {"ok"}
    assert "base, ID average" not in result.stdout  # a band of pocket's


# ---------------------------------------------------------------------------- what is published, and the rules


def test_every_suite_has_its_numbers():
    for name, (model, lora) in SUITES.items():
        known = REFERENCES[name]
        if "tiny" in name:
            continue
        assert set(known.zero_shot) == set(TALL20)
        assert set(TALL20 if not lora else ()) <= set(known.experts)
        assert all(0 < known.zero_shot[t] < 100 for t in known.zero_shot)
        gains = {t: known.experts[t] - known.zero_shot[t] for t in known.experts}
        assert all(gain > -0.2 for gain in gains.values()), (model, gains)  # STL10 is as good without an expert
    mean = {name: sum(REFERENCES[name].experts[t] for t in TA8) / 8 for name in ("vit-b-32", "vit-b-16", "vit-l-14")}
    assert {k: round(v, 1) for k, v in mean.items()} == {"vit-b-32": 90.4, "vit-b-16": 92.4, "vit-l-14": 94.3}


@pytest.mark.parametrize(
    ("zero_shot", "expert", "after_renaming", "named"),
    [
        (48.0, 99.0, 99.0, None),
        (48.0, 94.0, 94.0, None),  # 99.6 - SLACK = 93.6
        (48.0, 92.0, 93.0, "at least 93.6: a broken one, or another checkpoint"),
        (48.0, 19.6, 30.0, "worse than the base on its own task"),
        (10.0, 9.0, 12.0, "other images, other labels or other class names"),  # every label drawn anew
        (12.0, 11.0, 99.0, "labels are shuffled, in another order"),  # classes in another order
        (70.0, 99.0, 99.0, "zero-shot is outside"),
    ],
)
def test_what_the_accuracies_of_mnist_would_say(zero_shot, expert, after_renaming, named):
    band = selfcheck._band(48.26, 250)
    assert band == pytest.approx((48.26 - 15.48, 48.26 + 15.48), abs=0.01)
    problem = selfcheck._wrong_accuracies(zero_shot, expert, band, 99.58 - SLACK, after_renaming)
    assert (problem is None) if named is None else (named in problem)


def test_the_known_broken_adapter_is_said_before_it_is_fetched_and_when_it_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    told = CliRunner().invoke(cli.app, ["prefetch", "--suite", "vit-b-32-lora", "--tasks", "8", "--dry-run"])
    assert told.stdout.count("warning: ") == 1
    assert "KnOTS-ViT-B-32_lora_R16_sun397 is a broken adapter: 19.6 %" in told.stdout
    clean = CliRunner().invoke(cli.app, ["prefetch", "--suite", "vit-b-32", "--tasks", "8", "--dry-run"])
    assert "warning" not in clean.stdout
    with pytest.warns(UserWarning, match="a broken adapter"), pytest.raises(OSError, match="does not answer"):
        load_clip_vit("sun397", lora=True)
    assert len(WARNINGS) == 2


def test_pocket_has_its_own_bands_and_a_suite_without_numbers_is_still_looked_at():
    from samerge_edu.suites import load_suite

    pocket = load_suite("pocket")
    one = dataclasses.replace(pocket, experts={"digits": pocket.experts["digits"]})
    assert [f.problem for f in check(one)] == [None]
    swapped = dataclasses.replace(pocket, experts={"digits": pocket.experts["scenes"]})
    assert "worse than the base" in next(check(swapped)).problem
    renamed = dataclasses.replace(one, name="mine")
    assert next(check(renamed)).problem is None
    relabelled = dataclasses.replace(one, heads={**pocket.heads, "digits": pocket.heads["digits"].roll(1, 0)})
    assert "labels are shuffled" in next(check(relabelled)).problem
    moved = dataclasses.replace(one, theta_0={k: v + torch.randn_like(v) for k, v in pocket.theta_0.items()})
    assert "not its base" in next(check(moved)).problem


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "samerge-edu").mkdir()
    assert make_tiny_hub(tmp_path) == tmp_path
    assert list(tmp_path.iterdir()) == [tmp_path / "samerge-edu"]
