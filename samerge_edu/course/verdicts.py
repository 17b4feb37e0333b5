"""check, settle, hint: what a learner calls. They print, and never raise, unless a grader wants them to."""

from collections.abc import Callable

from .bank import exercise
from .draws import drawn
from .examine import examine, shortened
from .exercise import Exercise
from .limits import OUT_OF_MEMORY, run_limited
from .progress import remember

SIGNS = {"PASS": "✓ ", "NOT YET": "✗ ", "ERROR": "! ", "TODO": ""}  # seen from afar, and without colour
LONGEST_LINE = 1000  # characters
_last: dict[str, tuple[Callable, dict]] = {}  # exercise -> the function checked last, and its verdict
_hints_given: dict[str, int] = {}


def check(id: str, function: Callable, seed: int | None = None, must_pass: bool = False) -> None:
    """Print whether `function` keeps the laws of exercise `id`: TODO, PASS, NOT YET or ERROR.

    Public checks: every law is in samerge_edu/course/bank, nothing is hidden. A function that takes longer
    than the exercise allows (10 s of wall-clock time, unless it says otherwise) or that asks for more than
    2048 MB is stopped, and the kernel lives on. With a `seed` (a whole number from 0 on) other shapes and numbers are
    asked as well, where draws.py can draw some.

    It never raises, so that a notebook runs to its end. A grader sets `must_pass`: then all but PASS is an
    AssertionError that says the same.
    """
    try:
        verdict = verdict_on(id, function, seed)
        said, passed = in_words(exercise(id), verdict), verdict["verdict"] == "PASS"
    except Exception as e:  # a check that breaks must not break the notebook; it says that it is to blame
        said, passed = f"{id}  ERROR  the check itself could not run. {type(e).__name__}: {e}", False
    if must_pass and not passed:
        raise AssertionError(said)
    print(said)


def settle(id: str, function: Callable) -> Callable:
    """`function` if it passes its check, else the reference, and a line that says which. Never raises."""
    try:
        if not (_last.get(id) and _last[id][0] is function):
            verdict_on(id, function)
        verdict = _last[id][1]["verdict"]
        if verdict == "PASS":
            print(f"{id}  your {exercise(id).name} is used from here on")
            return function
        print(f"{id}  the reference {exercise(id).name} is used from here on (yours: {verdict})")
        return exercise(id).reference
    except Exception as e:
        print(f"{id}  ERROR  nothing was settled. {type(e).__name__}: {e}")
        return function


def hint(id: str) -> None:
    """Print the next hint of an exercise, from cheap to dear."""
    try:
        hints = exercise(id).hints
    except KeyError as e:
        print(f"{id}  ERROR  {e.args[0]}")
        return
    given = _hints_given.get(id, 0)
    if given == len(hints):
        print(f"{id}  that was the last hint; the solution is folded below the exercise")
        return
    _hints_given[id] = given + 1
    print(f"{id}  hint {given + 1} of {len(hints)}: {hints[given]}")


def verdict_on(id: str, function: Callable, seed: int | None = None) -> dict:
    """Examine a function within its limits and remember the verdict."""
    task = exercise(id) if seed is None else drawn(exercise(id), seed)
    if callable(function):
        verdict = run_limited(lambda report: examine(task, function, report), task.seconds)
    else:
        error = f"got {type(function).__name__}, expected your function {task.name}"
        verdict = {"verdict": "ERROR", "error": error}
    if "stopped" in verdict:
        verdict = {"verdict": "ERROR", "error": why_stopped(verdict["stopped"], task), "law": verdict["trying"]}
    if verdict["verdict"] == "PASS" and function is not task.reference:
        remember(id)
    if seed is not None:
        return verdict | {"seed": seed}  # settle asks for the public verdict
    _last[id] = (function, verdict)
    return verdict


def why_stopped(reason: str, task: Exercise) -> str:
    return {
        "time": f"stopped after {task.seconds:g} s: does a loop never end?",
        "memory": OUT_OF_MEMORY,
        "crash": "stopped: it crashed Python; your notebook is safe",
    }[reason]


def in_words(task: Exercise, verdict: dict) -> str:
    """The lines that `check` prints."""
    kind, work = verdict["verdict"], f"write {task.name} in place of `raise NotImplementedError`"
    if task.to_mend is not None and "law" in verdict:
        work = f"find what is wrong in {task.name}, mend it"
    says = {
        "TODO": f"{work}, and run this cell again",
        "ERROR": verdict.get("error"),
    }.get(kind, f"{verdict.get('passed')}/{verdict.get('total')} {'public ' if 'seed' not in verdict else ''}checks")
    lines = [f"{SIGNS[kind]}{task.id}  {kind}  {says}"]
    for label, key in (
        ("law", "law"),
        ("case", "case"),
        ("at", "where"),
        ("expected", "expected"),
        ("got", "got"),
        ("hint", "hint"),
    ):
        if verdict.get(key):
            lines.append(f"  {label:<9} {shortened(verdict[key], LONGEST_LINE)}")
    if verdict.get("printed"):
        printed = verdict["printed"].strip().splitlines()[:5]
        lines += [f"  {'printed':<9} {line}" for line in printed]
    return "\n".join(lines)
