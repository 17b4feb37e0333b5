"""Run a notebook from its first cell to its last, as build_notebooks.py does."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
SECONDS_PER_CELL = 300


@contextmanager
def models_of(number: str) -> Generator[None]:
    """What a lesson downloads, served from this machine: a miniature (tiny_hub.py) for notebook 12, else nothing."""
    if number != "12":
        yield
        return
    from tiny_hub import serve_tiny_clip  # takes seconds: only if it is needed

    with serve_tiny_clip() as environment:
        os.environ |= environment
        yield


def execute(notebook: nbformat.NotebookNode, folder: Path, *, record_timing: bool = False) -> None:
    """Run all cells in place, as still pictures; raises CellExecutionError at the first cell that fails."""
    os.environ["SAMERGE_STATIC"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        record_timing=record_timing,
        coalesce_streams=True,  # on a busy machine one print arrives in several pieces
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}  # the interpreter's version would change every build
