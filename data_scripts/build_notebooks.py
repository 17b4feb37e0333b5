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
import contextlib
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from run_notebook import execute  # noqa: E402 - only now are this checkout's tests and package on the path

from samerge_edu.course import bank, reading_time  # noqa: E402
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


def reading_minutes(lesson: list[nbformat.NotebookNode]) -> int:
    """What `{reading}` in the first cell becomes: minutes for the lesson's own text, code and figures."""
    own = [cell for cell in lesson if not re.match(r"# (EXERCISE|QUIZ|OPEN) ", cell.source)]
    texts, codes = ([c.source for c in own if c.cell_type == kind] for kind in ("markdown", "code"))
    return reading_time.minutes(texts, codes)


def slide(cell: nbformat.NotebookNode) -> str:
    """What `jupyter nbconvert --to slides` makes of a cell: a section begins a slide, an exercise one below it.

    Code follows its text with the next key, output and all; the machinery (setup, settle) is not shown.
    """
    if {"setup", "settle"} & set(cell.metadata.get("tags", [])):
        return "skip"
    if cell.cell_type == "code":
        return "fragment"
    if cell.source.startswith(("# ", "## ")):
        return "slide"
    return "subslide" if cell.source.startswith("### ") else "-"


def expand(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """`# EXERCISE 01.2`, `# QUIZ 01.q1` and `# OPEN 01.open` become their cells; any other cell stays."""
    words = cell.source.split()
    if cell.cell_type == "code" and words[:2] == ["#", "EXERCISE"]:
        return exercise_cells(bank.exercise(words[2]))
    if cell.cell_type == "code" and words[:2] == ["#", "QUIZ"]:
        return quiz_cells(bank.quiz(words[2]))
    if cell.cell_type == "code" and words[:2] == ["#", "OPEN"]:
        return open_cells(bank.open_task(words[2]))
    return [code(cell.source, *cell.metadata.get("tags", []))] if cell.cell_type == "code" else [text(cell.source)]


def exercise_cells(exercise: bank.Exercise) -> list[nbformat.NotebookNode]:
    """Text, stub with its check, hints and solution folded away, settle."""
    id, name = exercise.id, exercise.name
    folded = [fold(f"Hint {n} of {len(exercise.hints)}", h) for n, h in enumerate(exercise.hints, start=1)]
    effort = f"{exercise.minutes} minutes, difficulty {exercise.difficulty} of 5, importance {exercise.importance} of 5"
    folded.append(fold("Solution", f"```python\n{exercise.solution_source}\n```"))
    return [
        text(f"### Exercise {id}: {exercise.title}\n\n{exercise.goal}\n\n*{effort}.*"),
        code(f'{exercise.stub_source}\n\n\nse.check("{id}", {name})', "exercise"),
        text("\n\n".join(folded)),
        code(f'{name} = se.settle("{id}", {name})', "settle"),
    ]


def quiz_cells(quiz: bank.Quiz) -> list[nbformat.NotebookNode]:
    """The question with a place for the letter, and all feedback folded away."""
    *others, last = quiz.options
    letters = f"{', '.join(others)} or {last}"
    feedback = [f"* {letter}) {option.feedback}" for letter, option in quiz.options.items()]
    return [
        code(f'se.quiz("{quiz.id}")\nse.answer("{quiz.id}", "?")  # write {letters} in place of ?', "quiz"),
        text(fold("Answer", "\n".join([f"**{quiz.right}**", "", *feedback]))),
    ]


def open_cells(task: bank.OpenTask) -> list[nbformat.NotebookNode]:
    """The question, a place to write, and what a good answer has, folded away. Nothing is checked."""
    good = "\n".join(f"* {point}" for point in task.good)
    return [
        text(f"## An open task: {task.title}\n\n{task.question}\n\n*Nothing checks this one.*"),
        text("*Double-click here and write your answer.*"),
        text(fold("What a good answer has", good)),
    ]


def fold(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def text(source: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(source.strip())


def code(source: str, *tags: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source.strip(), metadata={"tags": list(tags)} if tags else {})


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
        with contextlib.ExitStack() as served:
            if number == "12":
                from tiny_hub import serve_tiny_clip

                os.environ |= served.enter_context(serve_tiny_clip())
            execute(notebook, NOTEBOOKS)
        target = NOTEBOOKS / f"{sources[number].stem}.ipynb"
        nbformat.write(notebook, target)
        kilobytes = target.stat().st_size / 1000
        print(f"{target.name}: {len(notebook.cells)} cells, {time.perf_counter() - start:.1f} s, {kilobytes:.0f} kB")


if __name__ == "__main__":
    main()
