"""Does Run All give the same numbers whether none, half or all of the exercises are solved? Run lessons in each state.

    python data_scripts/solve_notebooks.py            all lessons
    python data_scripts/solve_notebooks.py 01 09      two of them

Half: every other exercise solved, the ones between left as they are. Compared is what every learner should see, the
text of all cells but those of the exercises themselves, with a run in which none is solved. Prints a line for each run,
and the first line that differs; exits with 1 if one does. Three runs of each lesson, so it is not part of `make test`,
which does this with a small lesson (tests/test_course_lesson.py).
"""

import contextlib
import os
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from run_notebook import execute  # noqa: E402 - only now are this checkout's tests and package on the path

from data_scripts.build_notebooks import NOTEBOOKS, number_of  # noqa: E402
from samerge_edu.course import bank  # noqa: E402

OF_THE_EXERCISES = {"exercise", "settle", "setup", "quiz", "nbval-ignore-output"}


def solved(notebook: nbformat.NotebookNode, ids: list[str]) -> nbformat.NotebookNode:
    """The notebook with the reference solutions of some exercises in the place of their stubs."""
    for exercise in map(bank.exercise, ids):
        [cell] = [c for c in notebook.cells if c.cell_type == "code" and c.source.startswith(exercise.stub_source)]
        cell.source = cell.source.replace(exercise.stub_source, exercise.solution_source, 1)
    return notebook


def said(notebook: nbformat.NotebookNode) -> list[str]:
    """The printed lines of the lesson's own cells, in order; seconds and memory are not for comparison."""
    cells = [
        c for c in notebook.cells if c.cell_type == "code" and not OF_THE_EXERCISES & set(c.metadata.get("tags", []))
    ]
    texts = [out.get("text", "") for cell in cells for out in cell.outputs if out.output_type == "stream"]
    return "".join(texts).splitlines()


def main() -> None:
    wanted, same = sys.argv[1:], True
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]*_*.ipynb")):
        number = number_of(path)
        if wanted and number not in wanted:
            continue
        none: list[str] | None = None
        ids = [exercise.id for exercise in bank.chapter(number).EXERCISES]
        with contextlib.ExitStack() as served:
            if number == "12":
                from tiny_hub import serve_tiny_clip

                os.environ |= served.enter_context(serve_tiny_clip())
            for state, chosen in (("none", []), ("half", ids[::2]), ("all", ids)):
                notebook = solved(nbformat.read(path, 4), chosen)
                execute(notebook, NOTEBOOKS)
                none = said(notebook) if none is None else none
                pairs = zip([*said(notebook), "(the end)"], [*none, "(the end)"], strict=False)
                differs = next(((ours, theirs) for ours, theirs in pairs if ours != theirs), None)
                same &= differs is None
                verdict = "the same" if differs is None else f"'{differs[0]}' in place of '{differs[1]}'"
                print(f"{number}  {state:<4} solved ({len(chosen)} of {len(ids)})  {verdict}", flush=True)
    sys.exit(not same)


if __name__ == "__main__":
    main()
