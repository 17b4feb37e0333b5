"""Does Run All give the same numbers whether none, half or all of the exercises are solved? Run lessons in each state.

    python data_scripts/solve_notebooks.py            all lessons
    python data_scripts/solve_notebooks.py 01 09      two of them

Half: every other exercise solved, the ones between left as they are. Compared is what every learner should see, the
text of all cells but those of the exercises themselves, with a run in which none is solved. Prints a line for each run,
and the first line that differs; exits with 1 if one does. Three runs of each lesson, so it is not part of `make test`,
which does this with a small lesson (tests/test_course_lesson.py).
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from run_notebook import execute, models_of  # noqa: E402 - only now are this checkout's tests and package on the path

from samerge_edu.course import bank  # noqa: E402
from samerge_edu.course.lessons import lessons  # noqa: E402

OF_THE_EXERCISES = {"exercise", "settle", "setup", "quiz", "nbval-ignore-output"}


def solved(notebook: nbformat.NotebookNode, ids: Iterable[str]) -> nbformat.NotebookNode:
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="numbers such as 00 01; all of them if none is given")
    arguments, notebooks, same = parser.parse_args(), lessons(), True
    if unknown := set(arguments.lessons) - notebooks.keys():
        parser.error(f"no lesson {', '.join(sorted(unknown))}, there are {', '.join(notebooks)}")
    for number in arguments.lessons or notebooks:
        path, none = notebooks[number], None
        ids = [exercise.id for exercise in bank.chapter(number).EXERCISES]
        with models_of(number):
            for state, chosen in (("none", []), ("half", ids[::2]), ("all", ids)):
                notebook = solved(nbformat.read(path, 4), chosen)
                execute(notebook, path.parent)
                none = said(notebook) if none is None else none
                pairs = zip([*said(notebook), "(the end)"], [*none, "(the end)"], strict=False)
                differs = next(((ours, theirs) for ours, theirs in pairs if ours != theirs), None)
                same &= differs is None
                verdict = "the same" if differs is None else f"'{differs[0]}' in place of '{differs[1]}'"
                print(f"{number}  {state:<4} solved ({len(chosen)} of {len(ids)})  {verdict}", flush=True)
    sys.exit(not same)


if __name__ == "__main__":
    main()
