"""What finished jobs returned, on disk: a sweep that was killed goes on, and nothing is computed twice.

One JSON line a job, {"key", "job", "result"}. The key is a hash of the job and of everything else that its numbers
depend on; so a line cannot be stale: a changed method, weight, version or image makes another key.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
ABOVE = ("course", "notebooks", "cli.py", "options.py", "__main__.py", "doctor.py", "selfcheck.py")
"""What no number of a sweep depends on; everything else in the package is part of every key, weights included, but
the records that studies leave: to write one must not make the sweep that wrote it begin anew."""


class Journal:
    """The results in a file; `about` is what they all depend on, beside the job itself.

    Raises OSError if the file cannot be read or written. A line that was cut off, by a kill or a full disk, counts as
    never written. `fresh`: what is there is not read, but written anew.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], fresh: bool = False):
        self.path, self.about = path, about
        self.results: dict[str, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.seek(0)
            lines = file.read().split(b"\n")
            if lines[-1]:
                file.write(b"\n")  # a cut-off line ends here
        for line in [] if fresh else lines:
            try:
                entry = json.loads(line)
                self.results[entry["key"]] = entry["result"]
            except (ValueError, KeyError, TypeError):
                continue

    def key(self, job: Mapping[str, Any]) -> str:
        """The hash under which a job's result stands. Raises TypeError for a job that JSON cannot hold."""
        return hashlib.sha256(json.dumps([self.about, job], sort_keys=True).encode()).hexdigest()

    def __contains__(self, job: Mapping[str, Any]) -> bool:
        return self.key(job) in self.results

    def result(self, job: Mapping[str, Any]) -> Any:
        """What the job returned, the same to the last bit: JSON's numbers are exact."""
        return self.results[self.key(job)]

    def write(self, job: Mapping[str, Any], result: Any) -> None:
        """Append one line; whole, even where two programs write at a time, since it is one write."""
        line = json.dumps({"key": self.key(job), "job": job, "result": result}, allow_nan=False)
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode() + b"\n")
        self.results[self.key(job)] = json.loads(line)["result"]


def cache_folder() -> Path:
    """$SAMERGE_CACHE, or samerge_edu in the user's cache folder."""
    if chosen := os.environ.get("SAMERGE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "samerge_edu"


def kept(sweep: str, again: Mapping[str, Any], fresh: bool = False) -> Journal:
    """The journal of a sweep over a suite that comes with the package; `again` loads it."""
    about = what_numbers_depend_on() | {"sweep": sweep, "again": dict(again)}
    named = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    return Journal(cache_folder() / f"{sweep}-{again['name']}-{named}.jsonl", about, fresh)


def installed() -> dict[str, Any]:
    """The package, file by file, the libraries that compute, and in what images are encoded; torch is not loaded."""
    libraries = ("torch", "torchvision", "open_clip_torch", "numpy", "safetensors", "scipy", "optuna", "cmaes")
    return {
        "package": digest(),
        "libraries": {name: version(name) for name in libraries},
        "python": platform.python_version(),
        "precision": os.environ.get("SAMERGE_PRECISION") or "float32",
    }


def what_numbers_depend_on() -> dict[str, Any]:
    """What is installed, and the processor's instructions."""
    import torch

    return installed() | {"processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"}


def version(library: str) -> str | None:
    """The installed version; None if there is none."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def digest(package: Path = PACKAGE) -> str:
    """Hash of the names and contents of the package's files, without those that are `ABOVE` and recorded studies."""
    whole = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package)
        if name.parts[0] in ABOVE or "__pycache__" in name.parts or name.match("studies/*.json") or not path.is_file():
            continue
        whole.update(f"{name.as_posix()}\n".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()
