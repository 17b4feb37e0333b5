"""The setup cell and start(): what a learner runs first, on whatever machine."""

import importlib.util
import random
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import samerge_edu as se
from samerge_edu.course.start import SETUP, start


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    for name in ("SAMERGE_SUITE", "SAMERGE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    with plt.rc_context():
        yield


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, samerge_edu; print([m for m in ('torch', 'numpy', 'matplotlib', 'open_clip') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", [n for n in se.HOME if n not in ("METHODS", "load_suite")])
def test_every_public_name_is_there(name):
    assert getattr(se, name).__module__ == f"samerge_edu.{se.HOME[name]}" or name == "Params"
    assert name in dir(se)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'samerge_edu' has no attribute 'nonsense'"):
        _ = se.nonsense


def test_start_prints_one_line_and_seeds_everything(capsys):
    lab = start("03")
    first = (random.random(), np.random.rand(), torch.rand(1).item())
    assert start("03") == lab
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first
    assert (lab.lesson, lab.suite, lab.device) == ("03", "pocket", "cpu")
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("Lesson 03 on this computer: device cpu, suite pocket, ")
    assert line.endswith(" GB of memory free")


def test_start_warns_of_an_unknown_suite_and_goes_on(monkeypatch, capsys):
    monkeypatch.setenv("SAMERGE_SUITE", "vit-b-33")
    with pytest.warns(UserWarning, match="SAMERGE_SUITE: got 'vit-b-33', expected one of pocket"):
        assert start("03").suite == "pocket"


def test_start_warns_of_little_memory_and_goes_on(monkeypatch, capsys):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**30})())
    with pytest.warns(UserWarning, match=r"only 1\.0 GB of memory are free"):
        start("03")


def test_start_follows_the_environment_and_knows_colab(monkeypatch, capsys):
    monkeypatch.setenv("SAMERGE_DEVICE", "cuda:1")
    monkeypatch.setitem(sys.modules, "google.colab", object())
    assert (start("03").device, start("03").place) == ("cuda:1", "Colab")


# ---------------------------------------------------------------------------- the setup cell


@pytest.fixture
def pip(monkeypatch):
    """What the setup cell asks pip for: a list of (arguments, constraints)."""
    asked = []

    def run(arguments, **options):
        constraints = Path(arguments[arguments.index("-c") + 1]).read_text(encoding="utf-8")
        asked.append((arguments, constraints.splitlines()))
        there = arguments[-1].endswith(tuple(f"refs/{place}.zip" for place in on_the_server))
        return subprocess.CompletedProcess(arguments, 0 if there else 1, "", "404 not found")

    on_the_server = {f"tags/{se.TAG}", "heads/main"}
    monkeypatch.setattr(subprocess, "run", run)
    asked_and_there = namedtuple("Pip", "asked there")
    return asked_and_there(asked, on_the_server)


@pytest.fixture
def not_installed(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "samerge_edu" else find(name))


def test_the_setup_cell_installs_nothing_where_the_package_is(pip):
    exec(SETUP, {})
    assert pip.asked == []


def test_the_setup_cell_holds_on_to_what_is_installed(pip, not_installed):
    exec(SETUP, {})
    [(arguments, constraints)] = pip.asked
    assert arguments[:4] == [sys.executable, "-m", "pip", "install"]
    assert arguments[-1] == f"samerge-edu @ {se.REPOSITORY}/archive/refs/tags/{se.TAG}.zip"
    assert not {"-U", "--upgrade", "--force-reinstall"} & set(arguments)
    for package in ("torch", "torchvision", "numpy", "ipython", "ipywidgets"):
        assert f"{package}=={importlib.metadata.version(package)}" in constraints


def test_without_a_tag_the_setup_cell_installs_the_branch(pip, not_installed):
    pip.there.remove(f"tags/{se.TAG}")
    exec(SETUP, {})
    assert [arguments[-1].partition("/refs/")[2] for arguments, _ in pip.asked] == [
        f"tags/{se.TAG}.zip",
        f"heads/{se.BRANCH}.zip",
    ]


def test_where_nothing_can_be_installed_the_setup_cell_hands_on_what_pip_says(pip, not_installed):
    pip.there.clear()
    with pytest.raises(RuntimeError, match=r"samerge-edu could not be installed\. pip says: 404 not found"):
        exec(SETUP, {})


def test_the_setup_cell_has_a_title_for_colab_and_is_plain():
    lines = SETUP.strip().splitlines()
    assert lines[0].startswith("#@title ")
    assert len(lines) <= 18
    assert lines[-1] == "import samerge_edu as se"
    assert not any(line.lstrip().startswith(("!", "%")) for line in lines)


def test_the_release_tag_is_the_version_of_the_package():
    import tomllib

    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    assert (
        se.TAG == f"v{tomllib.loads(project.read_text(encoding='utf-8'))['project']['version']}" == f"v{se.__version__}"
    )
