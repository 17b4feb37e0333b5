"""Before a notebook goes to nbgrader: would it stumble? If so, over which cell, and what to do.

nbgrader finds exercises by the metadata of their cells. At two cells with one grade_id it stops, and speaks of an old
version of the metadata; where the metadata is lost it finds nothing; a changed check it replaces. None of the three
tells the student.
"""

from collections import Counter
from pathlib import Path

from ..bank import chapter
from ..exercise import Exercise
from .handed_in import cells_of, read
from .handout import check_id, public_check, solution_id

GRADES_BY_NAME = "`samerge-edu class grade` finds the functions by their names, and grades it all the same."


def problems(path: Path) -> list[str]:
    """What is wrong with a notebook of an nbgrader course; empty if it can be handed in. ValueError: no notebook."""
    cells = cells_of(path)
    handed_in = read(path)
    tasks = chapter(handed_in.lesson).EXERCISES
    ids = Counter(id for cell in cells if (id := grade_id(cell)))
    if not ids:
        return [f"lost metadata: no cell has nbgrader's. Was it copied into another notebook? {GRADES_BY_NAME}"]
    found = []
    for id, n in ids.items():
        if n > 1:
            found.append(
                f"copied cell: {n} cells are '{id}'. nbgrader stops there, without a grade. Delete all but one."
            )
    text = "\n".join(cell["source"] for cell in cells)
    asked = [task for task in tasks if {solution_id(task), check_id(task)} & set(ids) or f'"{task.id}"' in text]
    for task in asked:
        found += _of_one(task, cells, ids)
    for task in asked:
        if task.name in handed_in.unread:
            found.append(f"{task.id}: {handed_in.unread[task.name]}. Nothing in that cell can run.")
    return found


def _of_one(task: Exercise, cells: list[dict], ids: Counter) -> list[str]:
    """What happened to the two cells of an exercise."""
    lost = [id for id in (solution_id(task), check_id(task)) if id not in ids]
    if lost:
        what = "the cell of the solution" if solution_id(task) in lost else "the cell of the check"
        return [f"lost metadata: {task.id}: {what} is gone, or no longer marked '{lost[0]}'. {GRADES_BY_NAME}"]
    found = []
    for cell in cells:
        if grade_id(cell) == check_id(task) and cell["source"].strip() != public_check(task):
            found.append(f"tampered: {task.id}: the check was changed. nbgrader puts the original back: undo it.")
        if grade_id(cell) == solution_id(task) and task.name not in cell["source"]:
            found.append(f"tampered: {task.id}: its cell no longer defines {task.name}: put it back there.")
    return found


def grade_id(cell: dict) -> str:
    """What nbgrader calls a cell, "" if it does not know it."""
    metadata = cell.get("metadata")
    marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return str(marks.get("grade_id", "")) if isinstance(marks, dict) else ""
