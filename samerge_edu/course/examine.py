"""Does a function keep the laws of its exercise? If not: the smallest failing case, and the likely mistake.

Every law is tried. Among the broken ones the case with the fewest numbers in it is shown. Then the mistakes
of the bank are put to the same laws, and after them the slips of a pen (slips.py): the one that answers *every*
case as the learner did is the mistake, and its hint is given. A function that keeps all laws must also leave its
inputs alone, and return what the rest of the notebook uses: a float is not a tensor of shape (), a mask is bool.
"""

import contextlib
import copy
import dis
import functools
import itertools
import linecache
import random
import re
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .exercise import Exercise
from .limits import OUT_OF_MEMORY, CannotFork
from .slips import slips

RTOL, ATOL = 1e-4, 1e-6
LONGEST = 400  # characters of one value, message or line that are told
MOST = 20  # items of a list or dictionary that are told
SLIP_SECONDS = 3.0  # to look for a slip: a hint must not cost the verdict its time
UNCHANGED = "your function leaves its inputs as they were"
RETURNS = "your function returns what its docstring says, type and dtype too"
BY_HAND = "Work this case out by hand, and compare each step with your code."
IN_PLACE = (
    "The values are right, but your function changes its arguments (`+=`, `sub_`, `x[...] = ...`), and with them the "
    "caller's. Make new tensors."
)


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
        self.kinds: list[Any] = []  # of what each call returned
        self.changed: tuple | None = None  # (call, arguments after it) of the first call that changed its inputs

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        given, given_by_name = copied(args), copied(kwargs)
        try:
            self.result = self.function(*given, **given_by_name)
        except (Exception, SystemExit) as e:
            self.raised = e
            raise
        self.kinds.append(kind_of(self.result))
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
        meaning = next((says for part, says in exercise.errors.items() if re.search(part, worst.error, re.DOTALL)), "")
        meaning = meaning or likely_mistake(exercise, trials)[1]
        return {**verdict, "verdict": "ERROR", "error": worst.error, "where": worst.where, "hint": meaning}
    verdict |= {"expected": text_of(worst.expected), "got": text_of(worst.got)}
    if exercise.to_mend is not None and all_alike(trials_of(exercise, exercise.to_mend), trials):
        return {**verdict, "verdict": "TODO", "hint": "This is one case that the program gets wrong. Why?"}
    key, hint = likely_mistake(exercise, trials)
    verdict |= {"verdict": "NOT YET", "mistake": key}
    if worst.law == RETURNS:
        hint = (
            f"The values are right: return {worst.expected}, as the docstring says, for the notebook goes on with it."
        )
    elif worst.law == UNCHANGED:
        hint = hint or IN_PLACE
    return {**verdict, "hint": hint or difference(worst.got, worst.expected)}


def try_laws(
    exercise: Exercise, function: Callable, report: Callable[[str], None] = lambda trying: None
) -> list[Trial]:
    """One trial for each law, in order, and a last one for its manners: inputs unchanged, and what it returns."""
    trials, recorders = [], []
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
                        note_kind(trial, exercise, recorder, e)
        recorders.append(recorder)
        trials.append(trial)
    return [*trials, manners(exercise, recorders)]


def manners(exercise: Exercise, recorders: list[Recorder]) -> Trial:
    """The first call that changed its inputs, or else the first that returned another kind of thing."""
    for recorder in recorders:
        if recorder.changed:
            before, after = recorder.changed
            return Trial(UNCHANGED, [before], expected=inputs(before), got=inputs(after))
    for recorder, wanted in zip(recorders, kinds_of_reference(exercise), strict=True):
        for call, kind, right in zip(recorder.calls, recorder.kinds, wanted, strict=False):
            if not serves_as(kind, right):
                return Trial(RETURNS, [call], expected=in_words(right), got=in_words(kind))
    return Trial(UNCHANGED, [])


@functools.cache
def kinds_of_reference(exercise: Exercise) -> list[list[Any]]:
    """What the reference returns in each call of each law, as `kind_of` says it."""
    recorders = [Recorder(exercise.reference) for _ in exercise.laws]
    for law, recorder in zip(exercise.laws, recorders, strict=True):
        with seeded():
            law.test(recorder)
    return [recorder.kinds for recorder in recorders]


def note_kind(trial: Trial, exercise: Exercise, recorder: Recorder, error: BaseException) -> None:
    """The values are right and the law cannot use them: another kind of thing came back, such as float masks."""
    with seeded():
        law = next(law for law in exercise.laws if law.says == trial.law)
        reference = Recorder(exercise.reference)
        law.test(reference)
    trial.expected, trial.got = in_words(reference.kinds[-1]), in_words(recorder.kinds[-1])
    if trial.kept:
        raise RuntimeError(f"exercise {exercise.id}: the law '{trial.law}' is broken itself") from error


def likely_mistake(exercise: Exercise, trials: list[Trial]) -> tuple[str | None, str]:
    """(key, hint) of the mistake that answers every case as the learner did, or (None, "")."""
    for mistake in exercise.mistakes:
        if all_alike(trials_of(exercise, mistake.function), trials):
            return mistake.key, mistake.hint
    started = time.monotonic()
    for slip in slips(exercise.reference):
        if time.monotonic() - started > SLIP_SECONDS:
            break
        if all_alike(trials_of(exercise, slip.function), trials):
            return None, slip.says
    return None, ""


@functools.cache
def trials_of(exercise: Exercise, function: Callable) -> list[Trial]:
    """How a function of the bank answers the laws: always the same, so it is worked out once."""
    return try_laws(exercise, function)


def all_alike(theirs: list[Trial], trials: list[Trial]) -> bool:
    """Did two functions answer every case alike? What *kind* of thing they return is another question."""
    *laws, last = trials
    *their_laws, their_last = theirs
    return has_changed(last) == has_changed(their_last) and all(map(alike, their_laws, laws))


def has_changed(manner: Trial) -> bool:
    """Did the function change its inputs?"""
    return manner.law == UNCHANGED and bool(manner.calls)


def alike(a: Trial, b: Trial) -> bool:
    """Did two functions answer this law in the same way, right or wrong?"""
    return a.error == b.error and same(a.got, b.got) and same(a.expected, b.expected)


# ---------------------------------------------------------------------------- kinds


def kind_of(value: Any) -> Any:
    """What the rest of a notebook relies on: "float", "bool tensor of shape (2, 3)", ["float", "float"]."""
    if isinstance(value, torch.Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        whole = not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool
        return f"{'integer' if whole else kind} tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return {key: kind_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [kind_of(v) for v in value] if isinstance(value, list) else tuple(kind_of(v) for v in value)
    if isinstance(value, (float, int)) and not isinstance(value, bool):  # NumPy's float64 is a float
        return "float" if isinstance(value, float) else "int"
    return type(value).__name__


def serves_as(kind: Any, right: Any) -> bool:
    """Can the notebook go on with it? An int is as good as a float; a list is no tuple."""
    if isinstance(right, dict):
        return (
            isinstance(kind, dict) and kind.keys() == right.keys() and all(serves_as(kind[k], right[k]) for k in right)
        )
    if isinstance(right, (list, tuple)):
        return type(kind) is type(right) and len(kind) == len(right) and all(map(serves_as, kind, right))
    return kind == right or (kind, right) == ("int", "float")


def in_words(kind: Any) -> str:
    if isinstance(kind, dict):
        return "a dict of " + " and ".join(sorted({in_words(v) for v in kind.values()}))
    if isinstance(kind, list):
        return f"a list of {len(kind)}: " + " and ".join(dict.fromkeys(map(in_words, kind)))
    if isinstance(kind, tuple):
        return "a tuple (" + ", ".join(map(in_words, kind)) + ")"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


# ---------------------------------------------------------------------------- comparing


def same(a: Any, b: Any, rtol: float = RTOL, atol: float = ATOL) -> bool:
    """Equal up to rounding: numbers and tensors by value and shape, containers item by item."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k], rtol, atol) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y, rtol, atol) for x, y in zip(a, b, strict=True))
    if is_numeric(a) and is_numeric(b):
        a, b = as_tensor(a), as_tensor(b)
        return a.shape == b.shape and torch.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
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
    if isinstance(expected, (Mapping, list, tuple)):
        keys = expected.keys() if isinstance(expected, Mapping) else range(len(expected))
        return next((difference(got[k], expected[k]) for k in keys if not same(got[k], expected[k])), BY_HAND)
    if is_numeric(expected):
        a, b = as_tensor(got), as_tensor(expected)
        if a.shape != b.shape:
            return f"The shape is {tuple(a.shape)}, expected is {tuple(b.shape)}."
    return BY_HAND


# ---------------------------------------------------------------------------- calling


@contextlib.contextmanager
def seeded() -> Generator[None]:
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
        if code is not None and frame.filename == code.co_filename and frame.lineno:
            line = frame.line or linecache.getline(frame.filename, frame.lineno).strip()
            trial.where = f"line {frame.lineno - code.co_firstlineno + 1}:  {shortened(line)}"


def raised_by(error: BaseException, function: Callable) -> bool:
    """Is it a `raise` in the learner's own code? torch raises NotImplementedError, too, and so does `input()`."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
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
