"""A hub of our own for tests that download, and what pytest leaves alone."""

import os

import pytest

os.environ["SAMERGE_PROGRESS"] = os.devnull  # what a test solves is nobody's progress

# the demo lesson is the source of a notebook, not a module with doctests
collect_ignore = ["demo_lesson", "mutate.py", "benchmarks", "golden", "checked_shapes.py"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes what the user's sweeps have kept."""
    monkeypatch.setenv("SAMERGE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The tiny suite behind a local hub, with an empty cache."""
    from hub_server import HubServer  # loads the model code: only for tests that ask for a hub
    from tiny_hub import tiny_hub_folder

    for variable in ("SAMERGE_ASSETS", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with HubServer(tiny_hub_folder()) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
