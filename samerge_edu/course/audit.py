"""Prove the bank of exercises, and print the proof as a table.

For every exercise: the reference passes, also when its printed source stands alone; the stub is TODO; each
mistake is NOT YET with its own hint; and the laws are worth something (a parameter off its default, a matrix
that is not square).
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from .bank import every_exercise
from .examine import Recorder, examine, seeded
from .exercise import Exercise

FEWEST_MISTAKES = 4


@dataclass
class Row:
    """What the audit found out about one exercise."""

    exercise: Exercise
    caught: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def audit() -> bool:
    """Print one line for each exercise; True if there is no problem anywhere."""
    rows = [audit_one(e) for e in every_exercise()]
    print(f"{'id':<6} {'laws':>4}  {'mistakes caught':<16} {'seconds':>7}  title")
    for row in rows:
        caught = f"{row.caught}/{len(row.exercise.mistakes)}"
        print(
            f"{row.exercise.id:<6} {len(row.exercise.laws):>4}  {caught:<16} {row.seconds:>7.2f}  {row.exercise.title}"
        )
        for problem in row.problems:
            print(f"       PROBLEM  {problem}")
    broken = sum(bool(row.problems) for row in rows)
    mistakes = sum(len(row.exercise.mistakes) for row in rows)
    print(f"{len(rows)} exercises, {mistakes} mistakes, {broken} exercises with problems")
    return broken == 0


def audit_one(exercise: Exercise) -> Row:
    """Every promise that the bank makes about one exercise, tried out."""
    start, row = time.perf_counter(), Row(exercise)
    say = row.problems.append
    for what, function, expected in (
        ("reference", exercise.reference, "PASS"),
        ("printed solution, run by itself", defined_by(exercise.solution_source, exercise.name), "PASS"),
        ("stub", defined_by(exercise.stub_source, exercise.name), "TODO"),
    ):
        verdict = examine(exercise, function)
        if verdict["verdict"] != expected:
            say(f"{what}: got {verdict['verdict']}, expected {expected} {verdict.get('error', verdict.get('law', ''))}")
    for mistake in exercise.mistakes:
        verdict = examine(exercise, mistake.function)
        if verdict["verdict"] == "NOT YET" and verdict["mistake"] == mistake.key:
            row.caught += 1
        else:
            say(f"{mistake.key}: got {verdict['verdict']}, hint of {verdict.get('mistake')}, expected its own hint")
    if len(exercise.mistakes) < FEWEST_MISTAKES:
        say(f"{len(exercise.mistakes)} mistakes, expected at least {FEWEST_MISTAKES}")
    if len({m.hint for m in exercise.mistakes}) < len(exercise.mistakes):
        say("two mistakes share one hint")
    if not exercise.hints:
        say("no hints")
    for problem in weak_laws(exercise):
        say(problem)
    row.seconds = time.perf_counter() - start
    return row


def defined_by(source: str, name: str) -> Callable:
    """The function that a cell with this source would define, in a notebook that imported torch only."""
    cell: dict[str, Any] = {"torch": torch}
    exec(source, cell)
    return cell[name]


def weak_laws(exercise: Exercise) -> list[str]:
    """Defaults that no law ever leaves, and matrices that are always square."""
    signature, calls = inspect.signature(exercise.reference), []
    for law in exercise.laws:
        recorder = Recorder(exercise.reference)
        with seeded():
            law.test(recorder)
        calls += [signature.bind(*args, **kwargs).arguments for args, kwargs in recorder.calls]
    problems = []
    for name, parameter in signature.parameters.items():
        if parameter.default is not parameter.empty and not any(
            name in call and call[name] != parameter.default for call in calls
        ):
            problems.append(f"no law passes {name} other than its default {parameter.default!r}")
    matrices = [t for t in tensors(calls) if t.dim() == 2]
    if (
        "(N, N)" not in (exercise.reference.__doc__ or "")
        and matrices
        and all(t.shape[0] == t.shape[1] for t in matrices)
    ):
        problems.append("every matrix in the laws is square")
    return problems


def tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in tensors(v)] if isinstance(value, (list, tuple)) else []
