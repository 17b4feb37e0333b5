"""Notebooks for a class, from the ones of the course: with or without hints and solutions, or for nbgrader.

    plain      DIR/student/01_task_vectors.ipynb, and DIR/solution/ with every exercise solved
    nbgrader   DIR/source/01_task_vectors/01_task_vectors.ipynb, from which `nbgrader generate_assignment` goes on

For nbgrader (schema 3) exercise 01.2 has a solution cell with the grade_id 01-2 (it takes no dots), and a locked cell,
01-2-check, with the check: once as the student sees it, and once, hidden, with a secret seed. Its points are the
exercise's importance.
Outputs are left out: a class is to see its own.
"""

import copy
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..bank import exercise
from ..draws import check_seed
from ..exercise import Exercise
from ..lessons import lessons
from .plans import plan_named, reduced

FORMATS, SOLUTIONS = ("plain", "nbgrader"), ("no", "folded", "yes")
ANSWERS = ("Solution", "Answer", "What a good answer has")  # what folds are called that give an answer away
FOLD = re.compile(r"<details><summary>(?P<called>[^<]*)</summary>.*?</details>\s*", re.DOTALL)
CHECK = re.compile(r'se\.check\("([\w.]+)", \w+\)')
CONFIG = """\
c = get_config()  # noqa: F821 - nbgrader's own
c.CourseDirectory.course_id = "merging"
c.ExecutePreprocessor.timeout = 600
c.ClearSolutions.code_stub = {"python": 'raise NotImplementedError("your turn")'}
"""


def handout(
    folder: Path,
    numbers: Sequence[str] = (),
    plan: str | None = None,
    format: str = "plain",
    solutions: str = "no",
    hints: bool = True,
    seed: int | None = None,
) -> tuple[list[Path], int]:
    """Write the notebooks of some lessons, or of a plan, and return their paths and the seed of hidden checks.

    Args:
        folder: made if it does not exist; nothing in it is written over.
        numbers: lessons such as "01"; all of them, or all of the plan, if empty.
        plan: a name of plans.PLANS: notebooks cut down to it.
        format: "plain" or "nbgrader".
        solutions: in the student's edition "no", or "folded" below the exercise; "yes" writes the solved edition alone.
            With nbgrader, "no" or "folded".
        hints: whether the folded hints stay.
        seed: of nbgrader's hidden checks; drawn if it is None.

    Raises:
        ValueError: an unknown lesson, plan, format or kind of solutions; a file that is there already.
    """
    if format not in FORMATS or solutions not in SOLUTIONS or (format == "nbgrader" and solutions == "yes"):
        raise ValueError(
            f"format, solutions: got '{format}', '{solutions}', expected one of {', '.join(FORMATS)} and one of "
            f"{', '.join(SOLUTIONS)} (for nbgrader no or folded: it takes the solutions out itself)"
        )
    seed = secrets.randbelow(2**31) if seed is None else seed
    check_seed(seed)
    made = {}
    for number in chosen(numbers, plan):
        path = lessons()[number]
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if plan is not None:
            notebook = reduced(notebook, plan, number)
        if format == "nbgrader":
            made[folder / "source" / path.stem / path.name] = for_nbgrader(notebook, seed, solutions, hints)
            continue
        if solutions != "yes":
            made[folder / "student" / path.name] = edition(notebook, solutions, hints)
        made[folder / "solution" / path.name] = edition(notebook, "yes", hints)
    if there := [path for path in made if path.exists()]:
        raise ValueError(f"{there[0]} is there already: name another folder")
    for path, notebook in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if format == "nbgrader" and not (config := folder / "nbgrader_config.py").exists():
        config.write_text(CONFIG, encoding="utf-8")
    return list(made), seed


def chosen(numbers: Sequence[str], plan: str | None) -> list[str]:
    """The lessons asked for, in order. Raises ValueError for one that is not there."""
    known = list(lessons())
    if plan is not None:
        known = plan_named(plan).lessons
    if unknown := [number for number in numbers if number not in known]:
        raise ValueError(f"lessons: got '{unknown[0]}', expected some of {', '.join(known)}")
    return [number for number in known if number in numbers or not numbers]


def exercises_in(written: Iterable[Path]) -> list[str]:
    """The ids of the exercises that some notebooks set, in order."""
    texts = (path.read_text(encoding="utf-8").replace('\\"', '"') for path in written)
    return sorted({id for text in texts for id in re.findall(r'se\.check\("([\w.]+)"', text)})


# ---------------------------------------------------------------------------- plain


def edition(notebook: dict, solutions: str, hints: bool) -> dict:
    """A copy without outputs. `solutions`: "no" answer is in it, they are "folded", or "yes": in place of stubs."""
    cells = []
    for cell in _copied(notebook["cells"]):
        if task := task_of(cell):
            program = task.solution_source if solutions == "yes" else task.stub_source
            cell["source"] = f'{program}\n\n\nse.check("{task.id}", {task.name})'
        cells.append(cell)
    return notebook | {"cells": unfolded(cells, () if solutions == "folded" else _answers(solutions), hints)}


def _answers(solutions: str) -> tuple[str, ...]:
    return ANSWERS if solutions == "no" else ("Solution",)  # where it stands in the cell, no fold repeats it


def unfolded(cells: Iterable[dict], without: tuple[str, ...], hints: bool) -> list[dict]:
    """The cells without some folds; a cell in which nothing is left is left out."""
    gone, kept = (*without, *(() if hints else ("Hint",))), []
    for cell in cells:
        if cell["cell_type"] == "markdown":
            text = FOLD.sub(lambda fold: "" if fold["called"].startswith(gone) else fold[0], cell["source"]).strip()
            if not text:
                continue
            cell["source"] = text
        kept.append(cell)
    return kept


def task_of(cell: dict) -> Exercise | None:
    """The exercise whose stub and check a cell holds."""
    if "exercise" not in cell["metadata"].get("tags", []):
        return None
    (id,) = CHECK.findall(cell["source"])
    return exercise(id)


def _copied(cells: Iterable[dict]) -> list[dict]:
    """Copies with the source as one text, and without outputs."""
    copies = []
    for cell in copy.deepcopy(list(cells)):
        cell["source"] = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
        copies.append(cell)
    return copies


# ---------------------------------------------------------------------------- nbgrader


def for_nbgrader(notebook: dict, seed: int, solutions: str = "no", hints: bool = True) -> dict:
    """A copy as nbgrader's source version: solutions and hidden checks between the marks that it looks for."""
    cells: list[dict] = []
    for cell in _copied(notebook["cells"]):
        task = task_of(cell)
        if task is None:
            cells.append(cell)
            continue
        if task.to_mend is not None and cells and cells[-1]["cell_type"] == "markdown":
            cells[-1]["source"] += f"\n\nThe program to be mended:\n\n```python\n{task.stub_source}\n```"
        cell["source"] = marked_solution(task)
        cell["metadata"]["nbgrader"] = _marks(solution_id(task), solution=True)
        cells.append(cell)
        check = copy.deepcopy(cell) | {"id": f"{cell.get('id', 'exercise')}-check"}
        check["source"] = (
            f"{public_check(task)}\n### BEGIN HIDDEN TESTS\n"
            f'se.check("{task.id}", {task.name}, seed={seed}, must_pass=True)\n### END HIDDEN TESTS'
        )
        # a wrong answer is an error for nbgrader, and no end for `Run All`
        marks = _marks(check_id(task), grade=True, locked=True, points=task.importance)
        check["metadata"] = {"tags": ["check", "raises-exception"], "nbgrader": marks}
        cells.append(check)
    return notebook | {"cells": unfolded(cells, () if solutions == "folded" else ANSWERS, hints)}


def solution_id(task: Exercise) -> str:
    return task.id.replace(".", "-")


def check_id(task: Exercise) -> str:
    return f"{solution_id(task)}-check"


def public_check(task: Exercise) -> str:
    """What a student sees of the locked cell."""
    return f'se.check("{task.id}", {task.name}, must_pass=True)'


def marked_solution(task: Exercise) -> str:
    """The solution, its body between the marks: nbgrader puts its stub there."""
    head = task.head_source
    body = task.solution_source.removeprefix(head).strip("\n")
    return f"{head}\n    ### BEGIN SOLUTION\n{body}\n    ### END SOLUTION"


def _marks(grade_id: str, **set_to: object) -> dict:
    kinds = dict.fromkeys(("grade", "solution", "locked", "task"), False)
    return {"schema_version": 3, "grade_id": grade_id} | kinds | set_to
