"""Does a function keep the laws of its exercise? If not: the smallest failing case, and the likely mistake.

Every law is tried. Among the broken ones the case with the fewest numbers in it is shown. Then the mistakes
of the bank are put to the same laws: the one that answers the failing case as the learner did, and agrees
with the learner on most other cases, is the likely mistake, and its hint is given.
"""

import contextlib
import copy
import dis
import functools
import itertools
import linecache
import random
import traceback
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .exercise import Exercise
from .limits import OUT_OF_MEMORY, CannotFork

RTOL, ATOL = 1e-4, 1e-6
LONGEST = 400  # characters of one value, message or line that are told
MOST = 20  # items of a list or dictionary that are told
UNCHANGED = "your function leaves its inputs as they were"


@dataclass
class Trial:
    """One law put to one function."""

    law: str
    calls: list[tuple[tuple, dict]]
    got: Any = None
    expected: Any = None
    error: str = ""  # type and message, when the function itself raised
    where: str = ""  # the line that raised
    todo: bool = False  # it came to a `raise NotImplementedError`

    @property
    def kept(self) -> bool:
        return not self.error and same(self.got, self.expected)

    @property
    def size(self) -> int:
        return sum(count(call) for call in self.calls)


class Recorder:
    """Stands for the learner's function: passes copies of the arguments on and remembers every call."""

    def __init__(self, function: Callable):
        self.function, self.calls, self.result, self.raised = function, [], None, None
        self.changed: tuple | None = None  # (call, arguments after it) of the first call that changed its inputs

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        given, given_by_name = copied(args), copied(kwargs)
        try:
            self.result = self.function(*given, **given_by_name)
        except (Exception, SystemExit) as e:
            self.raised = e
            raise
        if self.changed is None and not same((given, given_by_name), (args, kwargs)):
            self.changed = ((args, kwargs), (given, given_by_name))
        return self.result


def examine(exercise: Exercise, function: Callable, report: Callable[[str], None] = lambda trying: None) -> dict:
    """The verdict on a function, as words only: "verdict" is PASS, TODO, NOT YET or ERROR.

    `report` hears of each law before it is tried, so that a watcher knows which one never came back.
    """
    trials = try_laws(exercise, function, report)
    broken = [t for t in trials if not t.kept]
    verdict = {"passed": len(trials) - len(broken), "total": len(trials)}
    if not broken:
        return {**verdict, "verdict": "PASS"}
    if any(t.todo for t in trials):
        return {**verdict, "verdict": "TODO"}
    worst = min(broken, key=lambda t: t.size)
    verdict |= {"law": worst.law, "case": ", ".join(called(exercise.name, call) for call in worst.calls)}
    if worst.error:
        return {**verdict, "verdict": "ERROR", "error": worst.error, "where": worst.where}
    key, hint = likely_mistake(exercise, trials, trials.index(worst))
    verdict |= {"expected": text_of(worst.expected), "got": text_of(worst.got), "mistake": key}
    return {**verdict, "verdict": "NOT YET", "hint": hint or difference(worst.got, worst.expected)}


def try_laws(
    exercise: Exercise, function: Callable, report: Callable[[str], None] = lambda trying: None
) -> list[Trial]:
    """One trial for each law, in order, and a last one for the inputs, which no function may change."""
    trials, changed = [], None
    for law in exercise.laws:
        report(law.says)
        recorder = Recorder(function)
        trial = Trial(law.says, recorder.calls)
        with seeded():
            try:
                trial.got, trial.expected = law.test(recorder)
            except (Exception, SystemExit) as e:
                if recorder.raised is not None:
                    note_error(trial, recorder.raised, function)
                else:  # what came back was so unlike an answer that the law could not read it
                    args, kwargs = recorder.calls[-1]
                    trial.got, trial.expected = recorder.result, exercise.reference(*copied(args), **copied(kwargs))
                    if trial.kept:
                        raise RuntimeError(f"exercise {exercise.id}: the law '{law.says}' is broken itself") from e
        changed = changed or recorder.changed
        trials.append(trial)
    last = Trial(UNCHANGED, [changed[0]] if changed else [])
    if changed:
        before, after = changed
        last.expected, last.got = inputs(before), inputs(after)
    return [*trials, last]


def likely_mistake(exercise: Exercise, trials: list[Trial], failing: int) -> tuple[str | None, str]:
    """(key, hint) of the mistake in the bank that answers as the learner did, or (None, "")."""
    best, most = (None, ""), 0
    for mistake, theirs in zip(exercise.mistakes, trials_of_mistakes(exercise), strict=True):
        if alike(theirs[failing], trials[failing]):
            agreeing = sum(alike(a, b) for a, b in zip(theirs, trials, strict=True))
            if agreeing > most:
                best, most = (mistake.key, mistake.hint), agreeing
    return best


@functools.cache
def trials_of_mistakes(exercise: Exercise) -> list[list[Trial]]:
    """How each mistake of the bank answers the laws: always the same, so it is worked out once."""
    return [try_laws(exercise, mistake.function) for mistake in exercise.mistakes]


def alike(a: Trial, b: Trial) -> bool:
    """Did two functions answer this law in the same way, right or wrong?"""
    return a.error == b.error and same(a.got, b.got) and same(a.expected, b.expected)


# ---------------------------------------------------------------------------- comparing


def same(a: Any, b: Any) -> bool:
    """Equal up to rounding: numbers and tensors by value and shape, containers item by item."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if is_numeric(a) and is_numeric(b):
        a, b = as_tensor(a), as_tensor(b)
        return a.shape == b.shape and torch.allclose(a, b, rtol=RTOL, atol=ATOL, equal_nan=True)
    return a is b or (type(a) is type(b) and bool(a == b))


def is_numeric(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.number, np.ndarray, torch.Tensor))


def as_tensor(value: Any) -> torch.Tensor:
    return torch.as_tensor(value).detach().cpu().double()


def difference(got: Any, expected: Any) -> str:
    """What to say when no mistake of the bank fits: the first thing that differs."""
    if got is None:
        return "Your function returns None: is a `return` missing at its end?"
    kinds = [next((k for k in (Mapping, list, tuple) if isinstance(v, k)), type(v)) for v in (got, expected)]
    if kinds[0] is not kinds[1] and not (is_numeric(got) and is_numeric(expected)):
        return f"Your function returns a {type(got).__name__}, expected is a {type(expected).__name__}."
    if isinstance(expected, Mapping) and got.keys() != expected.keys():
        return f"The names differ: you return {sorted(map(str, got))}, expected are {sorted(map(str, expected))}."
    if isinstance(expected, (list, tuple)) and len(got) != len(expected):
        return f"You return {len(got)} items, expected are {len(expected)}."
    if is_numeric(expected):
        a, b = as_tensor(got), as_tensor(expected)
        if a.shape != b.shape:
            return f"The shape is {tuple(a.shape)}, expected is {tuple(b.shape)}."
        if b.any() and same(a, -b):
            return "Every number has the wrong sign."
    return "Work this case out by hand, and compare each step with your code."


# ---------------------------------------------------------------------------- calling


@contextlib.contextmanager
def seeded():
    """The same random numbers for every function, and the notebook's own generators left as they were."""
    state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)


def copied(value: Any) -> Any:
    """A copy of the data in the arguments; functions, models and generators are passed on as they are."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [copied(v) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return copy.copy(value) if isinstance(value, np.ndarray) else value


def count(value: Any) -> int:
    """How many numbers are in it: the measure of a small case."""
    if isinstance(value, Mapping):
        return sum(count(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return sum(count(v) for v in value)
    return as_tensor(value).numel() if is_numeric(value) else 1


def note_error(trial: Trial, error: BaseException, function: Callable) -> None:
    """Write type, message and line into the trial, as text: a kept traceback would keep the memory too."""
    text = str(error)
    if "fork-based multiprocessing" in text:
        raise CannotFork from error
    out_of_memory = isinstance(error, MemoryError) or "allocate memory" in text
    trial.todo = isinstance(error, NotImplementedError) and raised_by(error, function)
    trial.error = f"{type(error).__name__}: {shortened(text)}" if not out_of_memory else OUT_OF_MEMORY
    code = getattr(function, "__code__", None)
    for frame in traceback.extract_tb(error.__traceback__):
        if code is not None and frame.filename == code.co_filename:
            line = frame.line or linecache.getline(frame.filename, frame.lineno).strip()
            trial.where = f"line {frame.lineno - code.co_firstlineno + 1}:  {shortened(line)}"


def raised_by(error: BaseException, function: Callable) -> bool:
    """Is it a `raise` in the learner's own code? torch raises NotImplementedError, too, and so does `input()`."""
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    written_here = code.co_filename == getattr(getattr(function, "__code__", None), "co_filename", None)
    return written_here and code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


# ---------------------------------------------------------------------------- telling


def called(name: str, call: tuple[tuple, dict]) -> str:
    return f"{name}({inputs(call)})"


def inputs(call: tuple[tuple, dict]) -> str:
    args, kwargs = call
    return ", ".join([*map(text_of, args), *(f"{k}={text_of(v)}" for k, v in kwargs.items())])


def text_of(value: Any) -> str:
    """In plain letters and never long: small tensors as nested lists, large ones as shape and first entries."""
    return shortened(written(value))


def shortened(text: str, most: int = LONGEST) -> str:
    """The beginning of a long text, and how long it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def written(value: Any) -> str:
    """`text_of`, which cuts what is too long here."""
    if isinstance(value, torch.Tensor):
        if value.numel() <= 12:
            return text_of(value.tolist())
        return f"tensor{tuple(value.shape)} that starts {text_of(value.flatten()[:3].tolist())}"
    if isinstance(value, np.ndarray):
        return text_of(torch.as_tensor(value))
    if hasattr(value, "_fields"):  # a named tuple, such as a LoRA layer
        return f"{type(value).__name__}({inputs(((), value._asdict()))})"
    if isinstance(value, Mapping):
        return "{" + first_few([f"'{k}': {text_of(v)}" for k, v in itertools.islice(value.items(), MOST)], value) + "}"
    if isinstance(value, (list, tuple)):
        left, right = "[]" if isinstance(value, list) else "()"
        return left + first_few([text_of(v) for v in value[:MOST]], value) + right
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, torch.Generator):
        return "generator"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return value if isinstance(value, str) else repr(value)


def first_few(items: list[str], of: Sized) -> str:
    return ", ".join([*items, *([f"... ({len(of)} items)"] if len(of) > len(items) else [])])
