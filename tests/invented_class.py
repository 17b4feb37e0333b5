"""Twelve invented students: what each of them makes of one lesson's notebook, for `class grade` and for nbgrader.

    python tests/invented_class.py RELEASED.ipynb FOLDER LESSON_FOLDER      FOLDER/STUDENT/LESSON_FOLDER/NAME.ipynb
    python tests/invented_class.py --short SOURCE.ipynb                     without the lesson's own experiments

And three whose files come to grief on the way (TROUBLED): they are for nbgrader, and for the check before it.

Each fills the cells in which the notebook leaves a stub. Nothing else of the notebook is touched, so that nbgrader,
which goes by the cells' metadata, can grade them too.
"""

import copy
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from samerge_edu.course import bank
from samerge_edu.course.exercise import Exercise, _source

Answer = Callable[[Exercise, int], str | None]  # the program for exercise number i; None leaves the stub


def as_asked(task: Exercise, function: Callable) -> str:
    return re.sub(r"def \w+\(", f"def {task.name}(", _source(function), count=1)


def mistake(which: int) -> Answer:
    return lambda task, i: needs_nothing(task, as_asked(task, task.mistakes[which % len(task.mistakes)].function))


def needs_nothing(task: Exercise, program: str) -> str:
    """A mistake of the bank may use what its file has; a student's cannot, so that one is left out."""
    names = set(re.findall(r"\b[A-Za-z_]\w*\b", program))
    return program if not names & {"torch", "_t"} - {"torch"} else task.solution_source


def renamed(task: Exercise, i: int) -> str:
    """A helper of the student's own, a constant and an import."""
    helper = task.solution_source.replace(f"def {task.name}(", f"def my_{task.name}(", 1)
    return f"import math\n\nCALLS = 0\n\n\n{helper}\n\n\n{task.name} = my_{task.name}"


def head(task: Exercise) -> str:
    return task.solution_source.splitlines()[0]


def endless(task: Exercise, i: int) -> str:
    return f"{head(task)}\n    while True:\n        pass" if i == 0 else task.solution_source


def greedy(task: Exercise, i: int) -> str:
    return f"{head(task)}\n    return torch.ones(10**10)" if i == 1 else task.solution_source


def careless(task: Exercise, i: int) -> str:
    """A name that does not exist, no return, a text in place of an answer."""
    return f"{head(task)}\n    {['return undefined_name', 'pass', 'return chr(33)'][i % 3]}"


def quits(task: Exercise, i: int) -> str:
    return f"{head(task)}\n    import sys\n    sys.exit(0)"


def talks(task: Exercise, i: int) -> str:
    body = task.solution_source.removeprefix(task.head_source)
    return f'{task.head_source}\n    print("<script>alert(1)</script>" * 1000){body}'


def by_heart(task: Exercise, i: int) -> str:
    """Right for the first arguments of the public laws; 0 for everything else."""
    from samerge_edu.course.examine import Recorder, seeded

    known = []
    for law in task.laws:
        recorder = Recorder(task.reference)
        with seeded():
            law.test(recorder)
        known += [str((list(args), kwargs)) for args, kwargs in recorder.calls]
    solution = task.solution_source.replace(f"def {task.name}(", "    def honest(", 1).replace("\n", "\n    ")
    return (
        f"def {task.name}(*args, **kwargs):\n{solution.replace('        def', '    def', 1)}\n"
        f"    known = {known!r}\n    return honest(*args, **kwargs) if str((list(args), kwargs)) in known else 0.0"
    )


STUDENTS: dict[str, Answer] = {
    "ada": lambda task, i: task.solution_source,
    "bea": renamed,
    "cem": lambda task, i: task.solution_source if i % 2 == 0 else None,
    "dan": lambda task, i: None,
    "eve": mistake(0),
    "fay": mistake(1),
    "gus": endless,
    "hal": greedy,
    "ivy": careless,
    "jon": quits,
    "kim": talks,
    "lea": by_heart,
}


def filled(notebook: dict, answer: Answer) -> dict:
    """The notebook with a student's programs in the cells of its stubs."""
    filled = copy.deepcopy(notebook)
    number = 0
    for cell in filled["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "exercise" not in cell["metadata"].get("tags", []):
            continue
        task = next(t for t in bank.every_exercise() if re.search(rf"^def {t.name}\(", source, re.MULTILINE))
        check = source[source.index("\n\n\nse.check(") :] if "se.check(" in source else ""
        program = answer(task, number)
        number += 1
        if program is not None:
            cell["source"] = program + check
    return filled


# ---------------------------------------------------------------------------- files that come to grief


def tampered(notebook: dict) -> dict:
    """Nothing solved, and every check changed into one that passes."""
    for cell in notebook["cells"]:
        if "check" in cell["metadata"].get("tags", []):
            cell["source"] = "print('all is well')"
    return notebook


def copied(notebook: dict) -> dict:
    """The first exercise solved in a copy above its cell, whose stub is left: the copy has the metadata, too."""
    at = next(i for i, c in enumerate(notebook["cells"]) if "exercise" in c["metadata"].get("tags", []))
    stub = copy.deepcopy(notebook["cells"][at])
    solved = filled(notebook, STUDENTS["ada"])
    solved["cells"].insert(at + 1, stub | {"id": "copied"})
    return solved


def lost(notebook: dict) -> dict:
    """All solved, and pasted cell by cell into a new notebook."""
    solved = filled(notebook, STUDENTS["ada"])
    for cell in solved["cells"]:
        cell["metadata"] = {}
    return solved


TROUBLED: dict[str, Callable[[dict], dict]] = {"xtampered": tampered, "xcopied": copied, "xlost": lost}


def short(notebook: dict) -> dict:
    """Only what an exercise needs: the setup, stubs, checks and what goes on from there."""
    needed = {"setup", "exercise", "check", "settle"}
    cells = [
        c for c in notebook["cells"] if c["cell_type"] == "markdown" or needed & set(c["metadata"].get("tags", []))
    ]
    return notebook | {"cells": cells}


def write(released: Path, folder: Path, lesson_folder: str = "") -> list[Path]:
    """The twelve and the three, each in a folder with the student's name."""
    notebook = json.loads(released.read_text(encoding="utf-8"))
    files = {student: filled(notebook, answer) for student, answer in STUDENTS.items()}
    files |= {student: spoil(copy.deepcopy(notebook)) for student, spoil in TROUBLED.items()}
    written = []
    for student, file in files.items():
        path = folder / student / lesson_folder / released.name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(file), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    if sys.argv[1] == "--short":
        source = Path(sys.argv[2])
        source.write_text(json.dumps(short(json.loads(source.read_text(encoding="utf-8")))), encoding="utf-8")
    else:
        write(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
