"""Attack the bank: does some law notice every small mistake, and does the learner get a hint that is right for it?

`samerge-edu course --attack`. Each solution is changed in one place (slips.py: operators, comparisons, constants,
dimensions, a missing `abs`, rounding, one variable read in place of another, the dtype or type of what is returned).
Every changed program is examined like a learner's. One that passes must be in EQUIVALENT with the reason why no check
can, or should, tell it from the solution.

The examination knows the slips too, and names them; so a hint is no surprise here. What is asked is whether it is
the right one: the bank's own hint if there is one, and none that is about another mistake. How often a hint would be
given without the slips is printed as well.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .bank import every_exercise
from .examine import BY_HAND, examine
from .exercise import Exercise
from .slips import OF_FORM, SAID_OF_A_SLIP, WHAT_IS_RETURNED, Slip, slips

OWN, SLIP, SHAPE, ERROR, NONE = "hint of the bank", "hint of a slip", "type or shape", "error explained", "no hint"

# (exercise, line of the solution, change): why it is as good as the solution
EQUIVALENT: dict[tuple[str, str, str], str] = {}


@dataclass
class Result:
    """What became of the changed programs of one exercise."""

    exercise: Exercise
    hints: Counter = field(default_factory=Counter)  # of those that were caught
    unhinted: list[Slip] = field(default_factory=list)
    equivalent: list[Slip] = field(default_factory=list)
    survivors: list[Slip] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def caught(self) -> int:
        return self.hints.total()


def attack(exercises: Iterable[Exercise] | None = None, verbose: bool = False) -> bool:
    """Print a line for each exercise, and what survived; True if every changed program was caught or explained."""
    results = [attack_one(e) for e in (every_exercise() if exercises is None else exercises)]
    print(f"{'id':<6} {'caught':>9}  {'equivalent':>10}  {'with a hint':>11}  {'seconds':>7}  title")
    for r in results:
        tried = r.caught + len(r.survivors)
        hinted = r.caught - r.hints[NONE]
        print(
            f"{r.exercise.id:<6} {r.caught:>4}/{tried:<4}  {len(r.equivalent):>10}  {hinted:>11}  {r.seconds:>7.2f}  "
            f"{r.exercise.title}"
        )
        for slip in r.survivors:
            print(f"       PASSED   {slip.line}   [{slip.change}]")
        for slip in r.unhinted if verbose else []:
            print(f"       NO HINT  {slip.line}   [{slip.change}]")
    hints = sum((r.hints for r in results), Counter())
    caught, survived = hints.total(), sum(len(r.survivors) for r in results)
    share = 100 * (caught - hints[NONE]) / max(1, caught)
    print(f"{caught} of {caught + survived} changed programs caught, {share:.1f} % with a hint of their own:")
    print("  " + ", ".join(f"{hints[kind]} {kind}" for kind in (OWN, SLIP, SHAPE, ERROR, NONE)))
    print(f"  without the slips: {100 * (caught - hints[NONE] - hints[SLIP]) / max(1, caught):.1f} %")
    return survived == 0


def attack_one(exercise: Exercise) -> Result:
    """Examine every changed program of one exercise."""
    start, result = time.perf_counter(), Result(exercise)
    for slip in slips(exercise.reference):
        verdict = examine(exercise, slip.function)
        if verdict["verdict"] == "PASS":
            explained = (exercise.id, slip.line, slip.change) in EQUIVALENT or form_is_the_same(slip)
            (result.equivalent if explained else result.survivors).append(slip)
        else:
            kind = kind_of_hint(verdict)
            result.hints[kind] += 1
            if kind == NONE:
                result.unhinted.append(slip)
    result.seconds = time.perf_counter() - start
    return result


def kind_of_hint(verdict: dict) -> str:
    """Where the hint of a verdict comes from, and so whether it is about this very program."""
    if verdict.get("mistake"):
        return OWN
    hint = verdict.get("hint", "")
    if verdict["verdict"] == "TODO":  # the program that was to be mended: it says so
        return OWN
    if hint.startswith(SAID_OF_A_SLIP):
        return SLIP
    if verdict["verdict"] == "ERROR":
        return ERROR if hint else NONE
    return NONE if hint == BY_HAND else SHAPE


def form_is_the_same(slip: Slip) -> bool:
    """Another type was asked of a result that has it already: a tuple of a tuple, rows and columns of a vector."""
    return slip.line == WHAT_IS_RETURNED and slip.change in OF_FORM
