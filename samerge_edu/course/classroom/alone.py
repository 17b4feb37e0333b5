"""Examine what one notebook handed in, in a process made for it: doors closed (course/doors.py), within limits.

All exercises of the notebook are done in one process. If one of them never ends, eats the memory or crashes it, the
process is stopped there and the others are done in another. Nothing that a notebook says is trusted here: not that it
is a notebook, and not what comes back from its process.
"""

import ast
import json
import linecache
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from types import CodeType
from typing import Any

import torch

from ..bank import chapter, numbers
from ..doors import close_all
from ..draws import drawn
from ..examine import examine, kinds_of_reference, shortened, trials_of
from ..exercise import Exercise
from ..limits import CAN_FORK, MEGABYTES, run_limited
from ..slips import slips
from ..verdicts import SIGNS, why_stopped
from .handed_in import HandedIn, Piece, name_of, read, shortly

BETWEEN, WHOLE = 12.0, 180.0  # seconds for one exercise, and for a whole notebook
BEGIN = "its imports and definitions"
MISSING, UNREADABLE = "MISSING", "UNREADABLE"
VERDICTS = (*SIGNS, MISSING, UNREADABLE)
LONGEST = 1000


def examined(path: Path, seed: int | None = None, unreadable: Sequence[Path] = ()) -> dict:
    """{"lesson", "exercises": one dictionary each, "note"} of one notebook, or {"problem": why there is none."""
    stopped: dict[str, str] = {}
    begun = time.monotonic()
    while True:
        if CAN_FORK:
            job = partial(_work, path, seed, stopped, unreadable)
            found = run_limited(job, WHOLE, between=BETWEEN, alone=True)
        else:
            found = _in_an_interpreter(path, seed, stopped, unreadable)
        if "stopped" not in found:
            return _trusted(found)
        at, why = str(found.get("trying", "")), found["stopped"]
        if at in stopped or at.partition(".")[0] not in numbers() or time.monotonic() - begun > WHOLE:
            why = {"time": "it takes too long", "memory": f"it asks for more than {MEGABYTES} MB"}.get(
                why, "it crashed"
            )
            return {"problem": f"stopped at {at if at == BEGIN else 'an exercise'}: {why}"}
        stopped[at] = why


@cache
def warm(lesson: str, seed: int | None) -> None:
    """Work out here, once, what the process of every notebook of this lesson is going to ask of the bank."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wrong programs do what torch warns of
        for task in map(partial(asked, seed), chapter(lesson).EXERCISES):
            kinds_of_reference(task)
            for wrong in (*task.mistakes, *slips(task.reference)):
                trials_of(task, wrong.function)


def asked(seed: int | None, task: Exercise) -> Exercise:
    return task if seed is None else drawn(task, seed)


# ---------------------------------------------------------------------------- inside the process


def _work(path: Path, seed: int | None, stopped: dict[str, str], unreadable: Sequence[Path], report: Callable) -> dict:
    """Read, close the doors, define, examine."""
    report(BEGIN)
    _silence()
    try:
        handed_in = read(path)
    except (ValueError, OSError) as e:
        return {"problem": shortened(str(e))}
    close_all(unreadable)
    names, failed = _defined(handed_in)
    rows = []
    for task in chapter(handed_in.lesson).EXERCISES:
        task = asked(seed, task)
        report(task.id)
        begin = time.perf_counter()
        row = _verdict(task, names, handed_in, stopped)
        if row["verdict"] != "PASS":
            names[task.name] = task.reference  # as se.settle does for the cells behind
        rows.append({"exercise": task.id, "seconds": round(time.perf_counter() - begin, 3)} | row)
    return {"lesson": handed_in.lesson, "exercises": rows, "note": shortened("; ".join(failed))}


def _silence() -> None:
    """What is written past Python's own stdout goes nowhere."""
    if CAN_FORK:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)


def _defined(handed_in: HandedIn) -> tuple[dict[str, Any], list[str]]:
    """What the notebook's definitions give, and what went wrong with some of them."""
    import samerge_edu

    names: dict[str, Any] = {"__name__": "notebook", "torch": torch, "se": samerge_edu}
    failed = []
    for piece in handed_in.pieces:
        try:
            exec(_compiled(piece), names)
        except BaseException as e:  # whatever it raises, the others are to be examined
            if not isinstance(piece.statement, ast.Assign):  # another name for something that was computed
                failed.append(f"{first_line(piece)}: {shortened(shortly(e), 120)}")
    return names, failed


def first_line(piece: Piece) -> str:
    return piece.text.splitlines()[piece.statement.lineno - 1].strip()[:60]


def _compiled(piece: Piece) -> CodeType:
    linecache.cache[piece.cell] = (len(piece.text), None, piece.text.splitlines(keepends=True), piece.cell)
    return compile(ast.Module([piece.statement], []), piece.cell, "exec")


def _verdict(task: Exercise, names: dict[str, Any], handed_in: HandedIn, stopped: dict[str, str]) -> dict:
    if task.id in stopped:
        return {"verdict": "ERROR", "error": why_stopped(stopped[task.id], task)}
    if task.name in handed_in.unread:
        return {"verdict": "ERROR", "error": handed_in.unread[task.name]}
    if task.name not in {name_of(piece.statement) for piece in handed_in.pieces} or task.name not in names:
        return {"verdict": MISSING, "hint": f"No cell defines {task.name}."}
    if not callable(names[task.name]):
        return {"verdict": "ERROR", "error": f"got {type(names[task.name]).__name__}, expected a function {task.name}"}
    return examine(task, names[task.name])


# ---------------------------------------------------------------------------- outside of it


def _trusted(found: dict) -> dict:
    """The answer with nothing in it but what belongs there: the process may have been made to write anything."""
    if "problem" in found:
        return {"problem": shortened(str(found["problem"]))}
    lesson, rows = found.get("lesson"), found.get("exercises")
    if lesson not in numbers() or not isinstance(rows, list):
        return {"problem": "its process answered nonsense"}
    tasks = {task.id: task for task in chapter(lesson).EXERCISES}
    clean = []
    for row in rows:
        task = tasks.pop(row.get("exercise", ""), None) if isinstance(row, dict) else None
        if task is None or row.get("verdict") not in VERDICTS:
            return {"problem": "its process answered nonsense"}
        mistake = row.get("mistake") if row.get("mistake") in {m.key for m in task.mistakes} else None
        words = ("law", "case", "error", "where", "expected", "got", "hint")
        clean.append(
            {"exercise": task.id, "verdict": row["verdict"], "mistake": mistake, "seconds": _number(row.get("seconds"))}
            | {key: int(_number(row.get(key))) for key in ("passed", "total")}
            | {key: shortened(row[key], LONGEST) for key in words if isinstance(row.get(key), str)}
        )
    if tasks:
        return {"problem": "its process answered nonsense"}
    return {"lesson": lesson, "exercises": clean, "note": shortened(str(found.get("note", "")))}


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e6 else 0.0


# ---------------------------------------------------------------------------- where fork is missing


def _in_an_interpreter(path: Path, seed: int | None, stopped: dict[str, str], unreadable: Sequence[Path]) -> dict:
    """The same in a new interpreter: slower by the import of torch."""
    question = json.dumps([str(path), seed, stopped, [str(folder) for folder in unreadable]])
    root = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-m", f"{__package__}.alone", question]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=WHOLE + 60)
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"stopped": "time"}
    except (IndexError, ValueError, RecursionError):
        return {"stopped": "crash"}
    return answer if isinstance(answer, dict) else {"stopped": "crash"}


def main() -> None:
    path, seed, stopped, unreadable = json.loads(sys.argv[1])
    job = partial(_work, Path(path), seed, stopped, [Path(folder) for folder in unreadable])
    answer = run_limited(job, WHOLE, between=BETWEEN)
    print("\n" + json.dumps(answer), flush=True)
    os._exit(0)  # a thread that could not be stopped is left behind here


if __name__ == "__main__":
    main()
