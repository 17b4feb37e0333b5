"""Models in files: round trips, refusals by their words, and never half a file."""

import os

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from some_models import equal, models

from samerge_edu import files
from samerge_edu.files import LazyParams, load_params, save_params
from samerge_edu.params import structure


@settings(deadline=None, max_examples=30)
@given(models())
def test_save_and_load_give_the_same_model(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("models") / "m.safetensors"
    save_params(path, model, metadata={"recipe": "TIES"})
    loaded, lazy = load_params(path), LazyParams(path)
    assert equal({k: loaded[k] for k in model}, model)
    assert loaded.keys() == model.keys() == set(lazy)
    assert equal({k: lazy[k] for k in model}, model)
    assert structure(lazy) == structure(model)
    assert len(lazy) == len(model)
    assert lazy.metadata == {"recipe": "TIES"}


def test_a_strided_tensor_is_saved_as_it_looks(tmp_path):
    w = torch.arange(6.0).reshape(2, 3).T
    save_params(tmp_path / "m.safetensors", {"w": w})
    assert torch.equal(load_params(tmp_path / "m.safetensors")["w"], w)


def test_two_names_of_one_tensor_are_saved_as_two(tmp_path):
    """Tied weights, which safetensors itself refuses."""
    zeros = torch.zeros(3)
    save_params(tmp_path / "m.safetensors", {"a": zeros, "b": zeros})
    assert load_params(tmp_path / "m.safetensors").keys() == {"a", "b"}


def test_integer_buffers_of_a_file_are_named_and_left_out(tmp_path):
    state_dict = {"w": torch.ones(2), "position_ids": torch.arange(3), "mask": torch.tensor([True])}
    safetensors.torch.save_file(state_dict, tmp_path / "m.safetensors")
    lazy = LazyParams(tmp_path / "m.safetensors")
    assert list(lazy) == ["w"]
    assert sorted(lazy.buffers) == ["mask", "position_ids"]
    with pytest.raises(KeyError, match="position_ids"):
        lazy["position_ids"]


def test_a_file_can_be_read_as_another_dtype(tmp_path):
    save_params(tmp_path / "m.safetensors", {"w": torch.tensor([0.1, 2.0]).half()})
    lazy = LazyParams(tmp_path / "m.safetensors", dtype=torch.float32)
    assert structure(lazy) == {"w": ((2,), torch.float32)}
    assert torch.equal(lazy["w"], torch.tensor([0.1, 2.0]).half().float())


def test_no_file_and_no_safetensors_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: none\.safetensors"):
        LazyParams(tmp_path / "none.safetensors")
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x02not a table of contents, but long enough to be read as one")
    with pytest.raises(ValueError, match=r"pickle\.pt is not a readable safetensors file"):
        LazyParams(tmp_path / "pickle.pt")


def test_a_file_cut_short_is_refused(tmp_path):
    save_params(tmp_path / "m.safetensors", {"w": torch.ones(100)})
    whole = (tmp_path / "m.safetensors").read_bytes()
    (tmp_path / "m.safetensors").write_bytes(whole[:-40])
    with pytest.raises(ValueError, match=r"m\.safetensors is not a readable safetensors file"):
        load_params(tmp_path / "m.safetensors")


@pytest.mark.parametrize("interrupted", ["save_file", "os.replace"])
def test_an_interrupted_save_leaves_the_old_file_and_no_half_of_a_new_one(tmp_path, monkeypatch, interrupted):
    path = tmp_path / "m.safetensors"
    save_params(path, {"w": torch.ones(2)})

    def stop(*_, **__):
        raise KeyboardInterrupt

    if interrupted == "save_file":
        monkeypatch.setattr(files, "save_file", stop)
    else:
        monkeypatch.setattr(files.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        save_params(path, {"w": torch.zeros(2)})
    with pytest.raises(KeyboardInterrupt):
        save_params(tmp_path / "new.safetensors", {"w": torch.zeros(2)})
    assert os.listdir(tmp_path) == ["m.safetensors"]
    monkeypatch.undo()
    assert torch.equal(load_params(path)["w"], torch.ones(2))


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_saved_file_is_as_open_as_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        save_params(tmp_path / "m.safetensors", {"w": torch.ones(2)})
    finally:
        os.umask(before)
    assert (tmp_path / "m.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask
