"""The first cells of every notebook: the badges, the setup cell's text, and start()."""

import os
import random
import sys
import warnings
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import torch

from .. import BRANCH, REPOSITORY, TAG
from ..forecast import free_memory
from ..plots import style

SETUP = f"""\
#@title Setup: run me. Installs samerge-edu where it is missing; whatever is installed already stays as it is.
import importlib.metadata, importlib.util, pathlib, subprocess, sys, tempfile
if importlib.util.find_spec("samerge_edu") is None:
    keep = {{"torch", "torchvision", "numpy", "ipython", "ipywidgets", "traitlets", "matplotlib", "pillow"}}
    installed = {{(d.metadata["Name"] or "").lower(): d.version for d in importlib.metadata.distributions()}}
    lines = [f"{{name}}=={{installed[name]}}\\n" for name in keep & set(installed)]
    constraints = pathlib.Path(tempfile.mkdtemp()) / "constraints.txt"
    constraints.write_text("".join(lines), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "-q", "-c", str(constraints)]
    for place in ("tags/{TAG}", "heads/{BRANCH}"):  # the release of this notebook; if it has no tag, the newest version
        package = f"samerge-edu @ {REPOSITORY}/archive/refs/{{place}}.zip"
        done = subprocess.run([*pip, package], capture_output=True, text=True)
        if done.returncode == 0:
            break
    else:
        raise RuntimeError(f"samerge-edu could not be installed. pip says: {{done.stderr}}")
import samerge_edu as se
"""
"""The setup cell, the same in every notebook: installs the release with what is installed already as constraints.

Folded away: Colab shows the title of a cell that starts with `#@title`, JupyterLab a line of dots.
"""
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}
"""The metadata that folds it."""


def badge(stem: str) -> str:
    """Links that open this very notebook as it is on the branch: they work before there is a tag."""
    owner_and_name = REPOSITORY.removeprefix("https://github.com/")
    file = f"notebooks/{stem}.ipynb"
    colab = f"https://colab.research.google.com/github/{owner_and_name}/blob/{BRANCH}/{file}"
    binder = f"https://mybinder.org/v2/gh/{owner_and_name}/{BRANCH}?urlpath=lab/tree/{file}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder}) "
        f"on your computer: `samerge-edu lab`"
    )


LITTLE_MEMORY = 2.0  # GB


@dataclass(frozen=True)
class Lab:
    """Where a lesson runs: `load_suite(lab.suite)`, `model.to(lab.device)`."""

    lesson: str
    place: str
    suite: str
    device: str


def start(lesson: str) -> Lab:
    """Seed everything, set the figure style, print one line: place, device, suite, free memory. Warns, never fails.

    The suite is "pocket" unless SAMERGE_SUITE names another. The pocket suite is taught on the CPU, where its
    numbers were recorded; the others use CUDA if it is there. SAMERGE_DEVICE overrides both.
    """
    suite = _chosen_suite()
    device = os.environ.get("SAMERGE_DEVICE") or ("cuda" if suite != "pocket" and torch.cuda.is_available() else "cpu")
    free = free_memory() / 2**30
    if free < LITTLE_MEMORY:
        warnings.warn(f"only {free:.1f} GB of memory are free: close other notebooks", stacklevel=2)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    style()
    mpl.rcParams["figure.figsize"] = (4.8, 3.2)  # two of them fit side by side into a notebook, at their own size
    lab = Lab(lesson, _place(), suite, device)
    print(f"Lesson {lesson} on {lab.place}: device {device}, suite {suite}, {free:.1f} GB of memory free")
    return lab


def _chosen_suite() -> str:
    wanted = os.environ.get("SAMERGE_SUITE") or "pocket"
    if wanted == "pocket":
        return wanted
    from ..suites import suite_names  # loads the model code: only if somebody asks for another suite

    if wanted in suite_names():
        return wanted
    known = ", ".join(suite_names())
    warnings.warn(f"SAMERGE_SUITE: got '{wanted}', expected one of {known}; using pocket", stacklevel=3)
    return "pocket"


def _place() -> str:
    if "google.colab" in sys.modules:
        return "Colab"
    if "BINDER_SERVICE_HOST" in os.environ or "BINDER_REPO_URL" in os.environ:
        return "Binder"
    return "this computer"
