"""The first two cells of every notebook: the setup cell's text, and start()."""

import os
import random
import sys
import warnings
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import psutil
import torch

from .. import REPOSITORY, TAG

SETUP = f"""\
# Setup: safe to run again. Installs only what is missing: torch, numpy, IPython and their like stay as they are.
import importlib.metadata, importlib.util, pathlib, subprocess, sys, tempfile
if importlib.util.find_spec("samerge_edu") is None:
    keep = {{"torch", "torchvision", "numpy", "ipython", "ipywidgets", "traitlets", "matplotlib", "pillow"}}
    installed = {{d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}}
    constraints = pathlib.Path(tempfile.mkdtemp()) / "constraints.txt"
    constraints.write_text("".join(f"{{name}}=={{installed[name]}}\\n" for name in keep & set(installed)), encoding="utf-8")
    package = "samerge-edu @ {REPOSITORY}/archive/refs/tags/{TAG}.zip"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-c", str(constraints), package], check=True)
import samerge_edu as se
"""
"""The setup cell, the same in every notebook: installs the release with what is installed already as constraints."""

SUITES = ("pocket", "vit-b-32", "vit-b-32-lora")
LITTLE_MEMORY = 2.0  # GB
COLOURS = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"]
"""Petroff's ten colours (arXiv:2107.02270), told apart with any colour vision; given here because matplotlib 3.9 lacks them."""


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
    suite = os.environ.get("SAMERGE_SUITE") or "pocket"
    if suite not in SUITES:
        warnings.warn(f"SAMERGE_SUITE: got '{suite}', expected one of {', '.join(SUITES)}; using pocket", stacklevel=2)
        suite = "pocket"
    device = os.environ.get("SAMERGE_DEVICE") or ("cuda" if suite != "pocket" and torch.cuda.is_available() else "cpu")
    free = psutil.virtual_memory().available / 2**30
    if free < LITTLE_MEMORY:
        warnings.warn(f"only {free:.1f} GB of memory are free: close other notebooks", stacklevel=2)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    figure_style()
    lab = Lab(lesson, _place(), suite, device)
    print(f"Lesson {lesson} on {lab.place}: device {device}, suite {suite}, {free:.1f} GB of memory free")
    return lab


def figure_style() -> None:
    """One look for every figure: at most 7 in wide, 110 dpi, 9 pt, colours and line styles told apart by everyone."""
    styles = ["-", "--", "-.", ":", "-"] * 2  # never colour alone
    mpl.rcParams.update(
        {
            "axes.prop_cycle": mpl.cycler(color=COLOURS) + mpl.cycler(linestyle=styles),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.dpi": 110,
            "figure.figsize": (5.0, 3.2),
            "figure.constrained_layout.use": True,
            "font.size": 9.0,
            "axes.titlesize": 10.0,
            "image.cmap": "viridis",
        }
    )


def _place() -> str:
    if "google.colab" in sys.modules:
        return "Colab"
    if "BINDER_SERVICE_HOST" in os.environ or "BINDER_REPO_URL" in os.environ:
        return "Binder"
    return "this computer"
