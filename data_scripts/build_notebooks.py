"""Build notebooks/NN_name.ipynb from notebooks/src/NN_name.py: assemble, execute, store the outputs.

    python data_scripts/build_notebooks.py             all lessons
    python data_scripts/build_notebooks.py 00 01       two of them
    python data_scripts/build_notebooks.py 01 --record also record the numbers of se.show as bands

A lesson is a percent-format file (notebooks/src/README.md says how to write one). The badge, the setup cell
and the cells of exercises and quizzes come from one place each, so that no two notebooks can disagree.
Under a minute for a lesson on two cores; no download: notebook 12, which is about models on a hub, gets a
miniature of them from this machine (tests/tiny_hub.py).
"""

import argparse
import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from run_notebook import execute, models_of  # noqa: E402 - only now are this checkout's tests and package on the path

from data_scripts.notebook_cells import code, expand, reading_minutes, slide, text  # noqa: E402
from samerge_edu.course import bank  # noqa: E402
from samerge_edu.course.start import FOLDED, SETUP, badge  # noqa: E402

NOTEBOOKS = ROOT / "notebooks"


def number_of(lesson: Path) -> str:
    """What stands before the name: 02 of 02_interference, 02b of 02b_catalogue."""
    return lesson.stem.partition("_")[0]


def assemble(source: Path) -> nbformat.NotebookNode:
    """The notebook of a lesson, not yet executed."""
    title, *lesson = jupytext.read(source, fmt="py:percent").cells
    if title.cell_type != "markdown" or not title.source.startswith("# "):
        raise ValueError(f"{source.name}: expected a first cell that is text and starts with '# '")
    heading, _, rest = title.source.partition("\n")
    rest = rest.replace("{reading}", str(reading_minutes(lesson)))
    rest = rest.replace("{exercises}", str(sum(e.minutes for e in bank.chapter(number_of(source)).EXERCISES)))
    cells = [
        text(f"{heading}\n\n{badge(source.stem)}\n{rest}"),
        code(SETUP, "setup"),
        code(f'import torch\n\nlab = se.start("{number_of(source)}")', "setup"),
    ]
    for cell in lesson:
        cells += expand(cell)
    notebook = nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
    )
    notebook.cells[1].metadata |= FOLDED
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:03d}"  # nbformat's random ids would make every build a change
        cell.metadata["slideshow"] = {"slide_type": slide(cell)}
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="numbers such as 00 01; all of them if none is given")
    parser.add_argument("--record", action="store_true", help="record the numbers of se.show as bands")
    arguments = parser.parse_args()
    if arguments.record:
        os.environ["SAMERGE_RECORD"] = "1"
    sources = {number_of(path): path for path in sorted((NOTEBOOKS / "src").glob("[0-9][0-9]*_*.py"))}
    if unknown := set(arguments.lessons) - sources.keys():
        parser.error(f"no lesson {', '.join(sorted(unknown))} in notebooks/src, there are {', '.join(sources)}")
    for number in arguments.lessons or sources:
        start, notebook = time.perf_counter(), assemble(sources[number])
        with models_of(number):
            execute(notebook, NOTEBOOKS)
        target = NOTEBOOKS / f"{sources[number].stem}.ipynb"
        nbformat.write(notebook, target)
        kilobytes = target.stat().st_size / 1000
        print(f"{target.name}: {len(notebook.cells)} cells, {time.perf_counter() - start:.1f} s, {kilobytes:.0f} kB")


if __name__ == "__main__":
    main()
