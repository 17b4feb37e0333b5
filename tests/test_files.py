"""Models in files: round trips, refusals by their words, and never half a file."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from some_models import equal, models

from samerge_edu import files
from samerge_edu.files import LazyParams, load_params, save_params, write_safetensors
from samerge_edu.params import own, structure


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


# ---------------------------------------------------------------------------- what was read stays


def test_what_was_loaded_does_not_change_with_the_file(tmp_path):
    """A memory map would: overwrite the file and the numbers change, cut it and the process dies."""
    path = tmp_path / "m.safetensors"
    save_params(path, {"w": torch.ones(5000), "v": torch.ones(3).half()})
    lazy = LazyParams(path)
    models = [load_params(path), dict(lazy), lazy.read_all(), dict(LazyParams(path, dtype=torch.float64))]
    whole = path.read_bytes()
    with path.open("r+b") as f:  # in place, as other programs write
        f.write(b"\xff" * len(whole))
    assert all((model[k] == 1).all() for model in models for k in ("w", "v"))
    with path.open("r+b") as f:
        f.truncate(10)
    assert all((model[k] == 1).all() for model in models for k in ("w", "v"))


def test_loading_opens_the_file_once_whatever_the_number_of_tensors(tmp_path, monkeypatch):
    save_params(tmp_path / "m.safetensors", {f"{i}": torch.ones(1) for i in range(50)})
    opened, real = [], files.safe_open
    monkeypatch.setattr(files, "safe_open", lambda *args, **options: opened.append(args) or real(*args, **options))
    assert len(load_params(tmp_path / "m.safetensors")) == 50
    assert len(opened) == 2  # the table of contents, the tensors


def test_a_file_that_was_replaced_meanwhile_is_not_mixed_with_the_first(tmp_path):
    path = tmp_path / "m.safetensors"
    save_params(path, {"w": torch.ones(3), "v": torch.ones(1)})
    lazy = LazyParams(path)
    save_params(path, {"v": torch.zeros(1)})
    assert lazy["v"].item() == 0  # of the same shape: the file's own business
    with pytest.raises(ValueError, match=r"m\.safetensors is not the file that was opened first"):
        lazy["w"]
    save_params(path, {"w": torch.ones(4)})
    with pytest.raises(ValueError, match=r"not the file .* key 'w': got shape \(4,\), expected \(3,\)"):
        lazy["w"]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])
def test_types_that_we_cannot_compute_with_are_refused_by_file_and_key(tmp_path, dtype):
    safetensors.torch.save_file({"a": torch.ones(1), "w": torch.ones(2).to(dtype)}, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"m\.safetensors, key 'w': got numbers of type \w+, expected \['F64'"):
        LazyParams(tmp_path / "m.safetensors")


def test_tensors_read_are_the_readers_own(tmp_path):
    """`fresh` promises it: SA-Merging then works in what it has read, without another copy."""
    save_params(tmp_path / "m.safetensors", {"w": torch.ones(3)})
    lazy = LazyParams(tmp_path / "m.safetensors")
    own(lazy, "w").mul_(7)
    assert lazy["w"].tolist() == [1, 1, 1]


def test_every_type_that_is_written_can_be_read_again(tmp_path):
    path = tmp_path / "m.safetensors"
    tensors = {str(dtype): torch.tensor([[0, 1], [1, 0]]).to(dtype) for dtype in files._NAMES}
    write_safetensors(path, {k: ((2, 2), v.dtype) for k, v in tensors.items()}, tensors.items(), {})
    theirs = safetensors.torch.load_file(path)
    assert theirs.keys() == tensors.keys()
    assert all(theirs[k].dtype == v.dtype and torch.equal(theirs[k], v) for k, v in tensors.items())
    lazy = LazyParams(path)
    assert set(lazy) | set(lazy.buffers) == set(tensors)
    assert set(lazy) == {k for k, v in tensors.items() if v.is_floating_point()}


@pytest.mark.parametrize("n", range(1, 12))
def test_tensors_begin_at_addresses_that_fit_their_numbers(tmp_path, n):
    """Eight bytes, whatever the length of the header: readers map the file and look at it in place."""
    contents = {"x" * n: ((3,), torch.float16), "y": ((1,), torch.float64), "z": ((1,), torch.float32)}
    tensors = [(name, torch.ones(shape, dtype=dtype)) for name, (shape, dtype) in contents.items()]
    write_safetensors(tmp_path / "m", contents, tensors, {"made": "by a test"})
    whole = (tmp_path / "m").read_bytes()
    size = int.from_bytes(whole[:8], "little")
    assert size % 8 == 0
    header = json.loads(whole[8 : 8 + size])
    for name, (_, dtype) in contents.items():
        assert (8 + size + header[name]["data_offsets"][0]) % dtype.itemsize == 0
    assert len(whole) == 8 + size + 6 + 8 + 4


WRITE_FOR_EVER = """
import signal, sys, time, torch
from pathlib import Path
from samerge_edu.files import replace_file

for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)  # `nohup make test` ignores one, and children inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)  # ... and `make test &` the other

def write(part):
    part.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)

replace_file(Path(sys.argv[1]), write)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_killed_write_leaves_the_old_file_and_no_half_one(tmp_path, number):
    target = tmp_path / "good.safetensors"
    target.write_bytes(b"good")
    words = [sys.executable, "-c", WRITE_FOR_EVER, str(target)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == -number  # it died of the signal, as whoever sent it expects
    assert os.listdir(tmp_path) == ["good.safetensors"]
    assert target.read_bytes() == b"good"


def test_handlers_of_others_are_left_alone_and_ours_do_not_stay(tmp_path):
    seen = []

    def write(part):
        seen.append((signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)))
        part.write_bytes(b"x")

    mine = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        files.replace_file(tmp_path / "a", write)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, mine)
    assert callable(seen[0][0])
    assert seen[0][1] is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with ThreadPoolExecutor(1) as pool:  # outside the main thread there can be no handlers, and no error either
        pool.submit(files.replace_file, tmp_path / "b", write).result()
    assert seen[1][0] is signal.SIG_DFL
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
