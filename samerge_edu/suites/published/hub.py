"""Files from the hub: listed with their sizes first, downloaded once, checked, then used without a network.

    locate(asset)          SAMERGE_ASSETS folder -> the hub's cache -> download and check        a path
    prefetch(assets)       all of a suite's files at once, with a dry run that only prints
    open_safetensors(path) the tensors, lazily; a pickle is refused

`huggingface_hub` downloads: it takes up a broken transfer where it stopped (not one whose process was killed: that
file starts again) and moves a file to its place only when it is whole. A busy hub is asked five times, as late as it
asks for. What is read is checked: once after the download, and in a SAMERGE_ASSETS folder once a process. Variables,
read at each call, say where:

    HF_ENDPOINT=http://...   a mirror of the hub                 HF_HUB_CACHE=DIR   where downloads are kept
    HF_HUB_OFFLINE=1         never ask the network               SAMERGE_ASSETS=DIR a folder or stick made by
                                                                                    `prefetch(assets, to=DIR)`
"""

import errno
import functools
import hashlib
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import torch
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch import Tensor

from ...files import LazyParams, replace_file, save_params
from .manifest import Asset

SUMS = "SHA256SUMS"
"""Beside the files of a SAMERGE_ASSETS folder: `sha256sum -c SHA256SUMS` checks them without this package too."""

SMALL = 0.01
"""In 10^6 bytes: a configuration file below it is fetched like any other and has no line of its own in the list."""

ADVICE = "without a network: `samerge-edu prefetch --to DIR` where there is one, carry DIR over, set SAMERGE_ASSETS=DIR"


# ---------------------------------------------------------------------------- where


def endpoint() -> str:
    """The hub, or the mirror that HF_ENDPOINT names."""
    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


def cache_folder() -> Path:
    """Where the hub's client keeps what it downloads."""
    return Path(os.environ.get("HF_HUB_CACHE", constants.HF_HUB_CACHE))


def offline() -> bool:
    """Is the network forbidden by HF_HUB_OFFLINE?"""
    return constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def find(asset: Asset) -> Path | None:
    """The file if it is on this machine, in the SAMERGE_ASSETS folder or the hub's cache; no network."""
    if folder := os.environ.get("SAMERGE_ASSETS"):
        path = Path(folder) / asset.repo / asset.filename
        if path.is_file():
            return path
    try:
        path = hf_hub_download(
            asset.repo, asset.filename, revision=asset.revision, cache_dir=cache_folder(), local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return Path(path)


def locate(asset: Asset) -> Path:
    """The file on this machine: downloaded if it is not here yet, and checked if it was, or if it is on a stick.

    Raises FileNotFoundError for a name that the hub does not have (says which exist) and for a file that is not
    here while there is no network; ValueError for a file that is not the one expected; OSError for a full disk and
    for a hub that gives up. None of them leaves half a file, or loses one that was already there.
    """
    if path := find(asset):
        if not _in_cache(path):  # a stick or a shared folder: it may have been carried far
            verify(asset, path)
        return path
    if offline():
        raise FileNotFoundError(f"{_name(asset)} is not on this machine and HF_HUB_OFFLINE is set; {ADVICE}")
    _check_space(asset.mb * 1e6, cache_folder(), _name(asset))
    check_reachable(_name(asset))
    options: dict[str, Any] = {"revision": asset.revision, "cache_dir": cache_folder(), "endpoint": endpoint()}
    return download(asset, lambda **force: [hf_hub_download(asset.repo, asset.filename, **options, **force)])[0]


def check_reachable(what: str) -> None:
    """Raise OSError, one sentence with the way out, if the hub does not answer: before its client tries for long.

    Any answer counts, also a refusal; so does a certificate that Python's own store does not know.
    """
    try:
        urlopen(f"{endpoint()}/api/models?limit=1", timeout=10).close()
    except HTTPError:
        return
    except OSError as e:
        if not isinstance(getattr(e, "reason", None), ssl.SSLError):
            raise OSError(f"{what} could not be fetched: {endpoint()} does not answer; {ADVICE}") from None


def download(asset: Asset, get: Callable[..., Sequence[str | Path]]) -> list[Path]:
    """The files that `get` fetches, checked.

    Since huggingface_hub 1.32 repositories share files, and a file that is damaged there would be handed out again
    at every try: then it is fetched once more, past what is shared, with `get(force_download=True)`.
    """
    files = [Path(f) for f in patiently(lambda: get(force_download=False), asset)]
    shared = any(_blob(f).is_symlink() for f in files)
    try:
        _verify_all(asset, files)
    except ValueError:
        if not shared:
            raise
        files = [Path(f) for f in patiently(lambda: get(force_download=True), asset)]
        _verify_all(asset, files)
    return files


def _verify_all(asset: Asset, files: Sequence[Path]) -> None:
    for file in files:
        verify(replace(asset, filename=file.name) if "*" in asset.filename else asset, file)


def patiently(download: Callable[[], Any], asset: Asset) -> Any:
    """What `download` returns, tried five times where the trouble may pass; then its error in plain words."""
    for wait in (2, 5, 10, 20, None):  # the client's own patience differs from version to version; this is ours
        try:
            return download()
        except Exception as e:
            response = _response(e)
            if wait is None or not _passing(e, response):
                raise _explained(e, asset) from None  # one sentence; the client's own chain fills screens
            asked = response.headers.get("Retry-After", "") if response is not None else ""
            time.sleep(int(asked) if asked.isdigit() else wait)


def _response(error: BaseException | None) -> Any:
    """The hub's answer behind an error, if there was one."""
    while error and getattr(error, "response", None) is None:
        error = error.__cause__
    return getattr(error, "response", None)


def _passing(error: Exception, response: Any) -> bool:
    """Is it worth another try? A busy hub and a broken transfer are; a name, a full disk and no network are not."""
    if response is not None:
        return response.status_code in (408, 429, 500, 502, 503, 504)
    if isinstance(error, LocalEntryNotFoundError):  # so a client before 1.0 says that the hub hung up: it did answer
        return True
    return not isinstance(error, EntryNotFoundError) and getattr(error, "errno", None) is None


# ---------------------------------------------------------------------------- is it the right file?


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def expected_sha256(asset: Asset, path: Path) -> str | None:
    """The manifest's hash; else the name under which the hub's cache stores a large file; else that of SHA256SUMS."""
    if asset.sha256:
        return asset.sha256
    if re.fullmatch(r"[0-9a-f]{64}", name := _blob(path).name):
        return name
    root = path.parents[len(Path(asset.repo, asset.filename).parts) - 1]
    return _sums(root).get(_name(asset))


def _blob(path: Path) -> Path:
    """What a file of the hub's cache is a link to, `blobs/<sha256>`; the file itself where it is no link.

    Only the first link counts. Since huggingface_hub 1.32 the blob may be a link, too, to a file that several
    repositories share; that one is named by another hash (Xet's), of 64 hexadecimal digits as well.
    """
    return Path(os.path.normpath(path.parent / os.readlink(path))) if path.is_symlink() else path


def _in_cache(path: Path) -> bool:
    return cache_folder().resolve() in path.parent.resolve().parents


def verify(asset: Asset, path: Path) -> None:
    """Raise ValueError, and throw the file out of the cache, if its sha256 is not the expected one.

    Thrown out are the snapshot's link and the repository's blob, not what that may share with other repositories.
    """
    expected = expected_sha256(asset, path)
    if expected is None or (got := _sha256_once(path.resolve(), *_stamp(path))) == expected:
        return
    if ours := _in_cache(path):
        _blob(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    raise ValueError(
        f"{_name(asset)}: got sha256 {got[:12]}..., expected {expected[:12]}...; it was damaged on the way or its "
        f"authors replaced it. {'It was thrown away; try' if ours else 'Remove it and try'} again"
    )


@functools.lru_cache
def _sha256_once(path: Path, size: int, changed: int) -> str:
    """`sha256`, computed again only when the file is another: a suite asks for the same files several times."""
    return sha256(path)


def _stamp(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


# ---------------------------------------------------------------------------- all at once


def prefetch(
    assets: Sequence[Asset], dry_run: bool = False, to: str | Path | None = None, say: Callable[[str], None] = print
) -> list[Path]:
    """Print what is needed and how large it is, then fetch and check it; a second call only checks.

    `dry_run` prints and downloads nothing; sizes are the hub's own where it answers, else the manifest's, marked
    "about"; small configuration files are counted in the last line. `to` also copies the files into a folder for
    machines without a network (SAMERGE_ASSETS=folder), with their hashes in SHA256SUMS. Returns the paths. Raises as
    `locate` does; what was fetched before stays.
    """
    here = [find(asset) for asset in assets]
    ask, missing_mb = not offline(), 0.0
    for asset, path in zip(assets, here, strict=True):
        size = path.stat().st_size / 1e6 if path else None
        if size is None and ask and dry_run:
            size = _size_on_hub(asset)
            ask = size is not None  # one silent hub is enough: do not wait for it once a file
        missing_mb += 0 if path else size or asset.mb
        if asset.mb < SMALL:
            continue
        number = f"{size:8.1f} MB" if size is not None else f"about {asset.mb:.1f} MB"
        say(f"{number:>16}  {'here' if path else 'to fetch':8}  {_name(asset)}  [{asset.licence}]")
    small = sum(asset.mb < SMALL for asset in assets)
    say(f"{missing_mb:13.1f} MB  to fetch in all{f', with {small} small configuration files' if small else ''}")
    if dry_run:
        return [path for path in here if path]
    if None in here:
        _check_space(missing_mb * 1e6, cache_folder(), f"{sum(p is None for p in here)} files")
    paths = []
    for asset in assets:
        paths.append(locate(asset))
        verify(asset, paths[-1])
    say(f"{len(paths)} files are here and checked")
    return pack({_name(a): p for a, p in zip(assets, paths, strict=True)}, Path(to)) if to else paths


def pack(files: Mapping[str, Path], folder: Path) -> list[Path]:
    """Copy files, by their place under a SAMERGE_ASSETS folder, into it; their hashes join those in SHA256SUMS."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = _sums(folder)
    for place, path in files.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = sha256(path)
        if not (target.is_file() and sha256(target) == digest):
            _check_space(path.stat().st_size, folder, place)
            replace_file(target, lambda part, path=path: shutil.copyfile(path, part))
        sums[place] = digest
    lines = "".join(f"{digest}  {place}\n" for place, digest in sorted(sums.items()))
    replace_file(folder / SUMS, lambda part: part.write_text(lines, encoding="utf-8"))
    return [folder / place for place in files]


def _sums(folder: Path) -> dict[str, str]:
    """place -> sha256, as SHA256SUMS lists them."""
    if not (folder / SUMS).is_file():
        return {}
    sums = {}
    for number, line in enumerate((folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not (parts := re.fullmatch(r"([0-9a-f]{64}) [ *](\S.*)", line)):
            raise ValueError(
                f"{folder / SUMS}, line {number}: got '{line[:60]}', expected a sha256, two blanks and a name; "
                "mend the line, or remove the file and run prefetch --to again"
            )
        sums[parts[2]] = parts[1]
    return sums


def _size_on_hub(asset: Asset) -> float | None:
    try:
        url = hf_hub_url(asset.repo, asset.filename, revision=asset.revision, endpoint=endpoint())
        size = get_hf_file_metadata(url, timeout=5).size
        return None if size is None else size / 1e6
    except (RepositoryNotFoundError, EntryNotFoundError, RevisionNotFoundError) as e:
        raise _explained(e, asset) from None
    except Exception:  # no network, a proxy, a hub that is busy: the manifest's size will do
        return None


# ---------------------------------------------------------------------------- what may be opened


def open_safetensors(path: str | Path, device: str | torch.device = "cpu") -> LazyParams:
    """The tensors of a safetensors file, lazily. A pickle is refused with the reason and the way to convert it.

    The safetensors library checks the header (sizes, offsets, overlaps, length) before any tensor is read.
    """
    path = Path(path)
    with path.open("rb") as f:
        start = f.read(4)
    if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl") or start[:2] in (b"PK", b"\x80\x02"):
        raise ValueError(
            f"{path.name} is a pickle: opening one runs whatever code its author put inside. Convert it once with "
            "samerge_edu.suites.published.hub.convert_pickle(path, 'new.safetensors'), which takes out tensors alone"
        )
    return LazyParams(path, device)


def read_pickled_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a pickled state dict, by PyTorch's restricted reader: any other object in it is a ValueError."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # the reader raises many types for what it refuses
        why = (str(e).splitlines() or [type(e).__name__])[0]  # of an empty file it says nothing at all
        raise ValueError(f"{Path(path).name} holds more than tensors and was not opened: {why}") from e
    if not isinstance(tensors, dict) or not all(isinstance(v, Tensor) for v in tensors.values()):
        raise ValueError(f"{Path(path).name}: expected a dictionary of tensors")
    return tensors


def convert_pickle(path: str | Path, out: str | Path) -> Path:
    """Write the tensors of a pickled state dict as safetensors; refuses a pickle that holds anything else."""
    save_params(out, read_pickled_tensors(path), {"format": "pt", "converted_from": Path(path).name})
    return Path(out)


# ---------------------------------------------------------------------------- in plain words


def _name(asset: Asset) -> str:
    return f"{asset.repo}/{asset.filename}"


def _check_space(needed: float, folder: Path, what: str) -> None:
    existing = next(p for p in [folder, *folder.resolve().parents] if p.exists())
    if (free := shutil.disk_usage(existing).free) < needed:
        raise OSError(
            errno.ENOSPC,
            f"no room for {what}: {needed / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free; "
            "make room or set HF_HUB_CACHE to a folder on another disk",
        )


def _explained(error: Exception, asset: Asset) -> Exception:
    """The hub client's error as one of Python's own, with the names that exist or what to do next."""
    name, where = _name(asset), endpoint()
    response = _response(error)
    if isinstance(error, RepositoryNotFoundError):
        return FileNotFoundError(f"{where} has no repository '{asset.repo}'{_alike(asset.repo)}")
    if isinstance(error, RevisionNotFoundError):
        return FileNotFoundError(f"'{asset.repo}' has no revision '{asset.revision}'")
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return FileNotFoundError(f"'{asset.repo}' has no file '{asset.filename}'; it has {_files(asset)}")
    if response is not None and response.status_code == 429:
        return OSError(f"{name}: {where} keeps answering 'too many requests'; wait some minutes and call again")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OSError(errno.ENOSPC, f"the disk is full while fetching {name} ({asset.mb:.0f} MB)")
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return OSError(f"{name} came incomplete: {str(error).splitlines()[0]}; call again")
    return OSError(f"{name} could not be fetched from {where} ({type(error.__cause__ or error).__name__}); {ADVICE}")


def _files(asset: Asset) -> str:
    try:
        return ", ".join(sorted(HfApi(endpoint=endpoint()).list_repo_files(asset.repo, revision=asset.revision)))
    except Exception as e:
        return f"(its list could not be read: {type(e).__name__})"


def _alike(repo: str) -> str:
    owner, _, name = repo.partition("/")
    try:
        there = sorted(m.id for m in HfApi(endpoint=endpoint()).list_models(author=owner, search=name.split("_")[0]))
    except Exception:
        return ""
    return f"; '{owner}' has {', '.join(there)}" if there else ""
