"""Downloads when things go wrong, over real HTTP on the loopback address: the right file or a clear error.

Each fault is made by `hub_server.HubServer`. After each, the cache holds whole, right files and nothing else.
"""

import errno
import importlib.util
import io
import json
import os
import pickle
import re
import shutil
import ssl
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError, URLError

import huggingface_hub
import pytest
import torch
from hub_server import HubServer, plain_xet
from safetensors.torch import save_file

from samerge_edu.lora import dense
from samerge_edu.suites.published import hub
from samerge_edu.suites.published.clip_vit import prefetch_suite, read_adapter, suite_assets
from samerge_edu.suites.published.manifest import HASHES, MODELS, REVISIONS, TALL20, WORKSHOP, Asset

HERE = Path(__file__).parent
KEEPS_HALF_FILES = huggingface_hub.__version__.startswith("0.")
SHARES_FILES = importlib.util.find_spec("huggingface_hub.utils._shared_blobs") is not None  # since 1.32
FILE = Asset("org/model_a", "model.safetensors", 1, "MIT", "12")
CONFIG = Asset("org/model_a", "config.json", 0.001, "MIT", "12")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A hub with two repositories, an empty cache, and 64 KiB a chunk, so that small files have many chunks."""
    for name in ("model_a", "model_b"):
        repo = tmp_path / "served" / "org" / name
        repo.mkdir(parents=True)
        (repo / "config.json").write_text("{}", encoding="utf-8")
        generator = torch.Generator().manual_seed(len(name) + ord(name[-1]))
        save_file({"w": torch.randn(250, 1000, generator=generator)}, repo / "model.safetensors")
    for variable in ("SAMERGE_ASSETS", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 2**16)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with HubServer(tmp_path / "served") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def right(path: Path, served: HubServer, asset: Asset = FILE) -> bool:
    return path.read_bytes() == (served.folder / asset.repo / asset.filename).read_bytes()


def kept(tmp_path: Path) -> list[str]:
    """Every file with content that the cache holds, by its place in a repository."""
    files = (p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.stat().st_size > 1000)
    return sorted(p.name for p in files if "snapshots" in p.parts)


def leftovers(tmp_path: Path) -> list[Path]:
    """Half files, and blobs that no name points to. A client before 1.0 keeps half a file to go on there: not ours."""
    blobs = [p for p in (tmp_path / "cache").glob("*--*/blobs/*") if p.suffix != ".incomplete" or not KEEPS_HALF_FILES]
    named = {hub._blob(p) for p in (tmp_path / "cache").rglob("snapshots/*/*")}
    return [p for p in blobs if p not in named]


def gets(served: HubServer) -> list[str | None]:
    return [
        byte_range for method, path, byte_range in served.requests if method == "GET" and path.endswith(".safetensors")
    ]


# ---------------------------------------------------------------------------- the network


def test_a_file_is_fetched_once_and_then_needs_no_network(served, tmp_path):
    assert right(hub.locate(FILE), served)
    asked = len(served.requests)
    assert right(hub.locate(FILE), served)
    assert len(served.requests) == asked
    assert kept(tmp_path) == ["model.safetensors"]


def test_a_cut_connection_is_taken_up_where_it_broke(served, tmp_path):
    served.faults["model.safetensors"] = ["cut", "cut"]
    assert right(hub.locate(FILE), served)
    first, second, third = gets(served)
    assert first is None  # then from a chunk's end: half of the file, then half of the rest
    assert 400_000 < int(second.removeprefix("bytes=").strip("-")) < 500_080
    assert 600_000 < int(third.removeprefix("bytes=").strip("-")) < 750_080
    assert leftovers(tmp_path) == []


def test_a_truncated_file_is_refused_and_what_was_there_stays(served, tmp_path):
    other = Asset("org/model_b", "model.safetensors", 1, "MIT", "12")
    served.faults["model.safetensors"] = ["", *["truncate"] * 5]  # the first file is well
    with pytest.raises(
        OSError, match=r"org/model_b/model.safetensors came incomplete.*should be of size 1000080.*call again"
    ):
        hub.prefetch([FILE, other], say=lambda line: None)
    assert kept(tmp_path) == ["model.safetensors"]
    assert leftovers(tmp_path) == []
    asked = len(gets(served))
    assert right(hub.prefetch([FILE, other], say=lambda line: None)[1], served, other)
    assert len(gets(served)) == asked + 1  # only the one that was missing


def test_a_file_that_is_truncated_once_is_asked_for_again(served):
    served.faults["model.safetensors"] = ["truncate", "down"]
    assert right(hub.locate(FILE), served)


def test_a_damaged_file_is_thrown_away(served, tmp_path):
    served.faults["model.safetensors"] = ["corrupt"]
    with pytest.raises(ValueError, match=r"got sha256 \w{12}..., expected \w{12}.*damaged on the way.*thrown away"):
        hub.locate(FILE)
    assert kept(tmp_path) == []
    assert leftovers(tmp_path) == []
    assert right(hub.locate(FILE), served)


def test_a_file_that_is_not_the_one_in_the_manifest_is_thrown_away(served, tmp_path):
    with pytest.raises(ValueError, match="its authors replaced it"):
        hub.locate(Asset(FILE.repo, FILE.filename, 1, "MIT", "12", sha256="0" * 64))
    assert kept(tmp_path) == []


def test_too_many_requests_are_waited_for(served, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", lambda seconds: waited.append(seconds) if seconds >= 1 else None)
    served.faults["model.safetensors"] = ["429"] * 3
    assert right(hub.locate(FILE), served)
    assert len([r for r in served.requests if r[0] == "HEAD"]) == 4
    assert waited  # by the hub's client, if it is patient itself
    assert min(waited) >= 3  # as the hub's Retry-After asks


def test_our_own_patience_waits_as_long_as_the_hub_asks(monkeypatch):
    waited, trouble = [], OSError("busy")
    monkeypatch.setattr("time.sleep", waited.append)
    trouble.response = SimpleNamespace(status_code=429, headers={"Retry-After": "7"})
    answers = [trouble, trouble, trouble, "there"]

    def download():
        if (answer := answers.pop(0)) is trouble:
            raise answer
        return answer

    assert hub.patiently(download, FILE) == "there"
    assert waited == [7, 7, 7]
    trouble.response.headers.clear()  # a hub that does not say for how long
    answers[:] = [trouble] * 5
    with pytest.raises(OSError, match="keeps answering 'too many requests'"):
        hub.patiently(download, FILE)
    assert waited[3:] == [2, 5, 10, 20]


def test_too_many_requests_for_ever_end_in_a_clear_error(served, tmp_path):
    served.faults["model.safetensors"] = ["429"] * 100
    with pytest.raises(OSError, match="keeps answering 'too many requests'; wait some minutes"):
        hub.locate(FILE)
    assert kept(tmp_path) == []


def test_a_hub_in_trouble_is_asked_again(served):
    served.faults["model.safetensors"] = ["500", "500"]
    assert right(hub.locate(FILE), served)


def test_an_unknown_name_says_which_exist(served):
    with pytest.raises(FileNotFoundError, match=r"no file 'nope.safetensors'; it has config.json, model.safetensors"):
        hub.locate(Asset("org/model_a", "nope.safetensors", 1, "MIT", "12"))
    with pytest.raises(FileNotFoundError, match=r"no repository 'org/model_c'; 'org' has org/model_a, org/model_b"):
        hub.locate(Asset("org/model_c", "model.safetensors", 1, "MIT", "12"))
    with pytest.raises(FileNotFoundError, match="'org/model_a' has no revision 'v9'"):
        hub.locate(Asset("org/model_a", "model.safetensors", 1, "MIT", "12", revision="v9"))


def test_without_a_network(served, tmp_path, monkeypatch):
    hub.locate(FILE)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert right(hub.locate(FILE), served)
    with pytest.raises(OSError, match=r"config.json could not be fetched.*SAMERGE_ASSETS=DIR"):
        hub.locate(CONFIG)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert right(hub.locate(FILE), served)
    with pytest.raises(FileNotFoundError, match=r"config.json is not on this machine and HF_HUB_OFFLINE is set"):
        hub.locate(CONFIG)
    assert leftovers(tmp_path) == []


def test_without_a_network_there_is_one_sentence_and_no_chain(served, monkeypatch, capfd):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    began = time.perf_counter()
    for use in (hub.locate, lambda asset: hub.prefetch([asset], say=lambda line: None)):
        with pytest.raises(OSError, match="does not answer; without a network: `samerge-edu prefetch --to DIR`") as e:
            use(FILE)
        chained = traceback.format_exception(e.value)
        assert sum(line.startswith("Traceback") for line in chained) == 1
    assert time.perf_counter() - began < 5  # not as long as the client's own patience
    assert capfd.readouterr().err == ""  # nor its log of tries


def test_a_hub_that_refuses_or_has_an_unknown_certificate_is_reachable(monkeypatch):
    def answer(error):
        monkeypatch.setattr(hub, "urlopen", lambda *a, **k: (_ for _ in ()).throw(error))
        hub.check_reachable("it")

    answer(HTTPError("x", 429, "busy", {}, io.BytesIO()))
    answer(URLError(ssl.SSLCertVerificationError()))
    with pytest.raises(OSError, match=r"it could not be fetched: .* does not answer"):
        answer(URLError(ConnectionRefusedError()))
    with pytest.raises(OSError, match="does not answer"):
        answer(TimeoutError())


def test_an_error_of_the_client_is_told_without_its_chain(served):
    served.faults["model.safetensors"] = ["429"] * 100
    with pytest.raises(OSError, match="keeps answering") as e:
        hub.locate(FILE)
    assert sum(line.startswith("Traceback") for line in traceback.format_exception(e.value)) == 1


# ---------------------------------------------------------------------------- files that repositories share (Xet)


@pytest.fixture
def xet(served, monkeypatch):
    """The hub's Xet headers, and a client that takes them up."""
    served.xet = True
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False, raising=False)
    monkeypatch.setattr(huggingface_hub.file_download, "is_xet_available", lambda: True)
    monkeypatch.setattr(huggingface_hub.file_download, "xet_get", plain_xet)
    return served


def shared(tmp_path: Path) -> list[Path]:
    """The files in the store that repositories share."""
    return [p for p in (tmp_path / "cache/blobs").glob("*/*") if len(p.name) == 64]


def twin(served: HubServer) -> Asset:
    """The same file in another repository, as base models and their copies are."""
    shutil.copy(served.folder / FILE.repo / FILE.filename, served.folder / "org/model_b" / FILE.filename)
    return Asset("org/model_b", FILE.filename, 1, "MIT", "12")


def test_a_xet_file_is_what_the_hub_says(xet, tmp_path):
    path = hub.locate(FILE)
    assert right(path, xet)
    assert hub.expected_sha256(FILE, path) == hub.sha256(path)  # not the Xet hash, which looks the same
    hub.verify(FILE, path)
    asked = len(xet.requests)
    assert right(hub.prefetch([FILE], say=lambda line: None)[0], xet)
    assert len(gets(xet)) == 1
    assert len(xet.requests) == asked
    assert len(shared(tmp_path)) == SHARES_FILES


def test_what_is_thrown_away_is_ours_and_not_what_repositories_share(xet, tmp_path):
    other = twin(xet)
    assert right(hub.locate(other), xet)
    with pytest.raises(ValueError, match="its authors replaced it"):
        hub.locate(replace(FILE, sha256="0" * 64))
    assert not list((tmp_path / "cache/models--org--model_a").glob("blobs/*"))
    assert not list((tmp_path / "cache/models--org--model_a").glob("snapshots/*/*"))
    assert right(hub.locate(other), xet)  # the other repository's file is still here, and whole
    assert len(shared(tmp_path)) == SHARES_FILES
    assert leftovers(tmp_path) == []


def test_a_damaged_xet_file_does_not_stay_damaged_for_ever(xet, tmp_path):
    xet.faults["model.safetensors"] = ["corrupt"]
    if SHARES_FILES:  # fetched once more, past the store that would hand out the damaged one
        assert right(hub.locate(FILE), xet)
    else:
        with pytest.raises(ValueError, match="thrown away"):
            hub.locate(FILE)
        assert right(hub.locate(FILE), xet)
    assert len(gets(xet)) == 2
    xet.faults["model.safetensors"] = ["corrupt"] * 2
    shutil.rmtree(tmp_path / "cache")
    for _ in range(1 if SHARES_FILES else 2):
        with pytest.raises(ValueError, match="thrown away"):
            hub.locate(FILE)
    assert kept(tmp_path) == []


FETCH = """
import sys
from samerge_edu.suites.published import hub
from samerge_edu.suites.published.manifest import Asset
path = hub.locate(Asset("org/model_a", "model.safetensors", 0.0, "MIT", "12"))
print(hub.sha256(path))
"""


def fetch(before: str = "") -> subprocess.Popen:
    environment = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-c", before + FETCH]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_at_once(served, tmp_path):
    both = [fetch(), fetch()]
    answers = [p.communicate(timeout=300) for p in both]
    expected = hub.sha256(served.folder / FILE.repo / FILE.filename)
    assert [out.strip() for out, _ in answers] == [expected] * 2, answers
    assert kept(tmp_path) == ["model.safetensors"]
    assert leftovers(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a limit on written files needs a POSIX system")
def test_a_disk_that_fills_up_while_writing(served, tmp_path):
    quota = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
    out, err = (p := fetch(quota)).communicate(timeout=300)
    assert p.returncode == 1
    assert out == ""
    assert "the disk is full while fetching org/model_a/model.safetensors" in err.splitlines()[-1]
    assert kept(tmp_path) == []
    assert leftovers(tmp_path) == []
    assert right(hub.locate(FILE), served)


def test_a_disk_that_is_too_small_is_noticed_before(served, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 5 * 10**5, 5 * 10**5)
    )
    with pytest.raises(OSError, match=r"no room for org/model_a/model.safetensors: 1 MB needed, 0 MB free") as e:
        hub.locate(FILE)
    assert e.value.errno == errno.ENOSPC
    assert served.requests == []


# ---------------------------------------------------------------------------- prefetch


def test_a_dry_run_prints_exact_sizes_and_fetches_nothing(served, tmp_path):
    lines = []
    assert hub.prefetch([CONFIG, FILE], dry_run=True, say=lines.append) == []
    assert lines[0].split() == ["1.0", "MB", "to", "fetch", "org/model_a/model.safetensors", "[MIT]"]
    assert lines[1].strip() == "1.0 MB  to fetch in all, with 1 small configuration files"
    assert {method for method, _, _ in served.requests} == {"HEAD"}
    assert kept(tmp_path) == []


def test_a_dry_run_without_a_network_says_about(served, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    lines = []
    hub.prefetch([FILE], dry_run=True, say=lines.append)
    assert lines[0].split()[:3] == ["about", "1.0", "MB"]


def test_a_stick_for_machines_without_a_network(served, tmp_path, monkeypatch):
    stick = tmp_path / "stick"
    hub.prefetch([CONFIG, FILE], to=stick, say=lambda line: None)
    assert sorted(p.name for p in stick.rglob("*") if p.is_file()) == [hub.SUMS, "config.json", "model.safetensors"]
    check = subprocess.run(["sha256sum", "-c", hub.SUMS], cwd=stick, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout

    other = Asset("org/model_b", "config.json", 0.001, "MIT", "12")
    hub.prefetch([other], to=stick, say=lambda line: None)  # more, later: the list grows
    assert (stick / hub.SUMS).read_text(encoding="utf-8").count("\n") == 3

    monkeypatch.setenv("SAMERGE_ASSETS", str(stick))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "another machine"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.locate(FILE) == stick / "org/model_a/model.safetensors"
    assert right(hub.prefetch([CONFIG, FILE], say=lambda line: None)[1], served)
    with (stick / "org/model_a/model.safetensors").open("r+b") as f:
        f.seek(500_000)
        f.write(b"x")
    for use in (hub.locate, lambda asset: hub.prefetch([CONFIG, asset], say=lambda line: None)):
        with pytest.raises(ValueError, match=r"damaged on the way .* Remove it and try again"):
            use(FILE)
    assert (stick / "org/model_a/model.safetensors").exists()  # somebody's stick is not ours to clean


def test_a_stick_is_checked_against_the_manifest_too(served, tmp_path, monkeypatch):
    (target := tmp_path / "stick" / FILE.repo).mkdir(parents=True)  # made by hand: no SHA256SUMS
    shutil.copy(served.folder / FILE.repo / FILE.filename, target)
    monkeypatch.setenv("SAMERGE_ASSETS", str(tmp_path / "stick"))
    assert hub.locate(replace(FILE, sha256=hub.sha256(target / FILE.filename))) == target / FILE.filename
    with pytest.raises(ValueError, match=r"got sha256 .* Remove it and try again"):
        hub.locate(replace(FILE, sha256="0" * 64))
    assert (target / FILE.filename).exists()


@pytest.mark.parametrize("junk", ["# made on Monday", "", "0" * 64, f"{'0' * 63}g  x", f"{'0' * 64} x"])
def test_junk_in_the_list_of_hashes_is_named_with_its_line(served, tmp_path, monkeypatch, junk):
    stick = tmp_path / "stick"
    hub.prefetch([FILE], to=stick, say=lambda line: None)
    with (stick / hub.SUMS).open("a", encoding="utf-8") as f:
        f.write(f"{'0' * 64} *org/binary.safetensors\n{junk}\n")  # the second form is sha256sum's own, for binaries
    monkeypatch.setenv("SAMERGE_ASSETS", str(stick))
    for use in (hub.locate, lambda asset: hub.prefetch([asset], to=stick, say=lambda line: None)):
        with pytest.raises(ValueError, match=r"SHA256SUMS, line 3: got '.*', expected a sha256, two blanks and a name"):
            use(FILE)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of a POSIX system")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_packed_folder_is_as_open_as_the_umask_says(served, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        hub.prefetch([CONFIG, FILE], to=tmp_path / "shared", say=lambda line: None)
    finally:
        os.umask(before)
    files = [p for p in (tmp_path / "shared").rglob("*") if p.is_file()]
    assert {p.stat().st_mode & 0o777 for p in files} == {mode}
    assert len(files) == 3


def test_a_dry_run_of_every_line_of_the_manifest(tmp_path, monkeypatch):
    assets = {a for m in MODELS for lora in (False, True) for a in suite_assets(m, 20, lora)}
    for a in assets:
        (path := tmp_path / "served" / a.repo / a.filename).parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}", encoding="utf-8")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with HubServer(tmp_path / "served") as server:
        server.commits |= REVISIONS
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        lines = []
        hub.prefetch(sorted(assets, key=str), dry_run=True, say=lines.append)
    assert len(assets) == len(MODELS) * (2 + 2 * 2 * len(TALL20)) == 328
    assert {path for _, path, _ in server.requests} == {f"{a.repo}/resolve/{a.revision}/{a.filename}" for a in assets}
    assert len(lines) == len([a for a in assets if not a.filename.endswith(".json")]) + 1
    assert all(line.split()[:4] == ["0.0", "MB", "to", "fetch"] for line in lines[:-1])  # found, with its size
    assert {r for r in REVISIONS} | {h for h in HASHES} <= {a.repo for a in assets}  # no pin of a name that is not used


def test_a_suite_is_prefetched_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    lines = []
    prefetch_suite("vit-b-32-lora", "mnist,gtsrb", images=True, dry_run=True, say=lines.append)
    assert [line.split()[-1] for line in lines if "KnOTS" in line] == ["authors]"] * 2
    assert f"{605 + 2 * 4.75 + 0.003:.1f} MB  to fetch in all, with 3 small" in lines[3]
    assert [line.split()[4] for line in lines[4:]] == ["mnist,", "gtsrb,"]
    with pytest.raises(ValueError, match="suite: got 'pocket', expected one of vit-b-32, vit-b-32-lora"):
        prefetch_suite("pocket", dry_run=True)


def test_the_manifest_pins_what_is_known():
    mnist = next(a for a in suite_assets(tasks=["mnist"]) if a.filename == "model.safetensors")
    assert mnist.sha256 == HASHES[mnist.repo]
    assert len(mnist.revision) == 40
    assert all(len(h) == 64 for h in HASHES.values())
    assert all(a.sha256 is None for a in suite_assets() if a.filename.endswith(".json"))
    lora = [a for a in suite_assets(tasks=8, lora=True) if "KnOTS" in a.repo]
    assert "hoffman-lab/KnOTS-ViT-B-32_lora_R16_stanford_cars" in {a.repo for a in lora}
    assert sum(a.mb for a in lora) < 40  # what a workshop needs beside the base
    assert [a.repo.rsplit("_", 1)[1] for a in suite_assets() if a.filename == "model.safetensors"] == list(WORKSHOP)


# ---------------------------------------------------------------------------- hostile files


def header(text: bytes, body: bytes = b"\0" * 16, length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def one(begin: int, end: int, shape=(4,), dtype="F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


HOSTILE = {
    "a length of 2^63": header(b"{}", length=2**63),
    "a length beyond the file": header(b"{}", length=10**6),
    "no JSON": header(b"{nonsense"),
    "no UTF-8": header(b'{"\xff\xfe": 1}'),
    "offsets beyond the file": header(json.dumps({"w": one(0, 10**12)}).encode()),
    "offsets that run backwards": header(json.dumps({"w": one(16, 0)}).encode()),
    "offsets that overlap": header(json.dumps({"a": one(0, 16), "b": one(8, 24)}).encode(), b"\0" * 24),
    "a hole between tensors": header(json.dumps({"a": one(0, 16), "b": one(32, 48)}).encode(), b"\0" * 48),
    "a shape that overflows": header(json.dumps({"w": one(0, 16, shape=(2**62, 8))}).encode()),
    "a shape that is not the size": header(json.dumps({"w": one(0, 16, shape=(5,))}).encode()),
    "an unknown dtype": header(json.dumps({"w": one(0, 16, dtype="EVIL")}).encode()),
    "bytes after the end": header(json.dumps({"w": one(0, 16)}).encode(), b"\0" * 17),
    "half a file": header(json.dumps({"w": one(0, 16)}).encode(), b"\0" * 8),
    "nothing": b"",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_header_is_refused(content, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model.safetensors is not a readable safetensors file"):
        hub.open_safetensors(tmp_path / "model.safetensors")


def test_the_header_that_the_hostile_ones_depart_from_is_fine(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(header(json.dumps({"w": one(0, 16)}).encode()))
    assert torch.equal(hub.open_safetensors(tmp_path / "model.safetensors")["w"], torch.zeros(4))


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def test_a_pickle_is_refused_whatever_it_is_called(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "model.bin")
    shutil.copy(tmp_path / "model.bin", tmp_path / "model.safetensors")
    (tmp_path / "old.safetensors").write_bytes(pickle.dumps({"w": 1}, protocol=2))
    for name in ("model.bin", "model.safetensors", "old.safetensors"):
        with pytest.raises(ValueError, match=rf"{name} is a pickle: opening one runs whatever code.*convert_pickle"):
            hub.open_safetensors(tmp_path / name)


def test_a_pickle_can_be_converted_and_an_attack_cannot(tmp_path):
    torch.save({"w": torch.arange(3.0)}, tmp_path / "model.bin")
    converted = hub.open_safetensors(hub.convert_pickle(tmp_path / "model.bin", tmp_path / "new.safetensors"))
    assert torch.equal(converted["w"], torch.arange(3.0))
    assert converted.metadata["converted_from"] == "model.bin"

    marker = tmp_path / "attacked"
    torch.save({"w": Attack(marker)}, tmp_path / "evil.bin")
    with pytest.raises(ValueError, match=r"evil.bin holds more than tensors and was not opened"):
        hub.convert_pickle(tmp_path / "evil.bin", tmp_path / "evil.safetensors")
    assert not marker.exists()
    assert not (tmp_path / "evil.safetensors").exists()
    torch.save([1, 2], tmp_path / "list.bin")
    with pytest.raises(ValueError, match="expected a dictionary of tensors"):
        hub.read_pickled_tensors(tmp_path / "list.bin")


# ---------------------------------------------------------------------------- adapters


def adapter(
    folder: Path, layers=("q", "k", "v", "out"), weights="adapter_model.bin", **about
) -> dict[str, torch.Tensor]:
    """Write an adapter as KnOTS did, a pickle under Hugging Face's names; returns its updates B A."""
    updates, tensors = {}, {}
    for i, which in enumerate(layers):
        A, B = torch.randn(2 + i, 5), torch.randn(7, 2 + i)
        name = f"base_model.model.vision_model.encoder.layers.1.self_attn.{which}_proj"
        tensors |= {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
        updates[which] = B @ A
    ranks = {f"{which}_proj": 2 + i for i, which in enumerate(layers)}
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "rank_pattern": ranks, "bias": "none", **about}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (torch.save if weights.endswith(".bin") else save_file)(tensors, folder / weights)
    return updates


def read(folder: Path, weights="adapter_model.bin"):
    return read_adapter(folder / "adapter_config.json", folder / weights, layers=2)


BLOCK = "transformer.resblocks.1.attn"


@pytest.mark.parametrize("weights", ["adapter_model.bin", "adapter_model.safetensors"])
def test_separate_adapters_become_one_of_the_fused_projection_exactly(tmp_path, weights):
    updates = adapter(tmp_path, weights=weights)
    loras = read(tmp_path, weights)
    assert set(loras) == {f"{BLOCK}.in_proj_weight", f"{BLOCK}.out_proj.weight"}
    # alpha is 6 for all, ranks are 2, 3, 4 and 5: scales 3, 2, 1.5 and 1.2
    expected = torch.cat([3 * updates["q"], 2 * updates["k"], 1.5 * updates["v"]])
    torch.testing.assert_close(dense(loras)[f"{BLOCK}.in_proj_weight"], expected)
    torch.testing.assert_close(dense(loras)[f"{BLOCK}.out_proj.weight"], 1.2 * updates["out"])
    assert loras[f"{BLOCK}.in_proj_weight"].A.shape == (2 + 3 + 4, 5)


def test_an_adapter_that_leaves_k_alone(tmp_path):
    updates = adapter(tmp_path, layers=("q", "v"))
    tau = dense(read(tmp_path))[f"{BLOCK}.in_proj_weight"]
    torch.testing.assert_close(tau, torch.cat([3 * updates["q"], torch.zeros(7, 5), 2 * updates["v"]]))


def test_rank_stabilised_lora_has_its_own_scale(tmp_path):
    updates = adapter(tmp_path, layers=("out",), use_rslora=True)
    torch.testing.assert_close(dense(read(tmp_path))[f"{BLOCK}.out_proj.weight"], 6 / 2**0.5 * updates["out"])


@pytest.mark.parametrize(
    ("about", "match"),
    [
        ({"use_dora": True}, "use_dora = True; DoRA rescales"),
        ({"bias": "lora_only"}, "bias = 'lora_only'; trained biases would be lost"),
        ({"modules_to_save": ["head"]}, "modules_to_save"),
        ({"rank_pattern": {}}, "has rank 3 in the file, 2 in"),
    ],
)
def test_what_is_no_plain_lora_is_refused(tmp_path, about, match):
    adapter(tmp_path, **about)
    with pytest.raises(ValueError, match=match):
        read(tmp_path)


def test_an_adapter_for_another_model_and_a_hostile_one_are_refused(tmp_path):
    adapter(tmp_path)
    with pytest.raises(
        ValueError, match=r"has 'encoder.layers.1.self_attn.k_proj.weight', which .* of 1 layers has not"
    ):
        read_adapter(tmp_path / "adapter_config.json", tmp_path / "adapter_model.bin", layers=1)
    marker = tmp_path / "attacked"
    torch.save({"w": Attack(marker)}, tmp_path / "adapter_model.bin")
    with pytest.raises(ValueError, match="holds more than tensors"):
        read(tmp_path)
    assert not marker.exists()


# ---------------------------------------------------------------------------- the table of faults


def test_every_row_of_the_fault_table_has_its_test():
    rows = [
        line for line in (HERE.parent / "docs/faults.md").read_text(encoding="utf-8").splitlines() if "`test_" in line
    ]
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", "\n".join(rows))
    assert len(named) >= len(rows) > 20
    for file, test in named:
        assert f"def {test}(" in (HERE / file).read_text(encoding="utf-8"), (file, test)
