"""What an exercise consists of: a solution, laws that any right answer keeps, and the mistakes people make.

A law is a function of the learner's function that returns (got, expected). A mistake is a whole wrong
solution with the hint that belongs to it. Nothing links a law to a mistake: a learner whose outputs equal
those of a mistake has made that mistake (examine.py).

    halve = Exercise("99.1", "Halve", goal="Return half of x.", minutes=1, difficulty=1, importance=1,
                     hints=["What is half of 4?"])

    @halve.solution
    def half(x):
        "x / 2"
        return x / 2

    @halve.law("half of 4 is 2")
    def _(half):
        return half(4), 2

    @halve.mistake("You doubled instead of halving.")
    def doubled(x):
        return x * 2

An exercise of the kind "repair" hands out a program with bugs in it, in place of an empty stub; its mistakes
are the mends that stop half way:

    @halve.broken
    def broken_half(x):
        "x / 2"
        return x // 2
"""

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType
from typing import NamedTuple


class Law(NamedTuple):
    says: str
    test: Callable  # learner's function -> (got, expected)


SHAPES = "RuntimeError: .*(size|shape|dimension)"  # how torch says that two tensors do not fit

KINDS = {  # what an exercise asks for
    "write": "a program whose formula or recipe the text gives",
    "decide": "a program whose cases the learner has to settle",
    "design": "a program of which only the wanted property is given",
    "predict": "a number or a rule that is then compared with what is measured",
    "repair": "the mend of a program that is wrong",
}


class Mistake(NamedTuple):
    key: str  # the function's name
    function: Callable
    hint: str


@dataclass(eq=False)
class Exercise:
    """One exercise. `hints` go from cheap to dear; `difficulty` and `importance` from 1 to 5; `kind` is in KINDS.

    `seconds` limits one check, all laws together: the wall-clock time after which it is stopped.
    `errors` explains what a raw error means in this lesson: a pattern of its text, such as SHAPES -> a sentence.
    """

    id: str
    title: str
    goal: str
    minutes: int
    difficulty: int
    importance: int
    hints: list[str]
    kind: str = "write"
    seconds: float = 10.0
    errors: dict[str, str] = field(default_factory=dict)
    reference: FunctionType = field(init=False, repr=False)  # what @exercise.solution decorates
    to_mend: FunctionType | None = None
    laws: list[Law] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)

    def solution(self, function: FunctionType) -> FunctionType:
        """Decorator: this function is the reference; its name, signature and docstring make the stub."""
        self.reference = function
        return function

    def broken(self, function: FunctionType) -> FunctionType:
        """Decorator: this program, under the reference's name, is handed out to be mended (kind "repair")."""
        self.to_mend = function
        return function

    def law(self, says: str) -> Callable:
        """Decorator of a function `(learner's function) -> (got, expected)`; put small cases first."""

        def register(test: Callable) -> Callable:
            self.laws.append(Law(says, test))
            return test

        return register

    def mistake(self, hint: str) -> Callable:
        """Decorator of a wrong solution; its name is the misconception's key, `hint` what to say about it."""

        def register(function: FunctionType) -> FunctionType:
            self.mistakes.append(Mistake(function.__name__, function, hint))
            return function

        return register

    @property
    def name(self) -> str:
        """The name of the function that the learner writes."""
        return self.reference.__name__

    @property
    def solution_source(self) -> str:
        """The reference as it can be pasted into a notebook: without its decorator."""
        return _source(self.reference)

    @property
    def stub_source(self) -> str:
        """Signature and docstring of the reference, and a body that says whose turn it is; or what is to be mended."""
        if self.to_mend is not None:
            return _source(self.to_mend).replace(f"def {self.to_mend.__name__}(", f"def {self.name}(", 1)
        return f'{self.head_source}\n    raise NotImplementedError("your turn")'

    @property
    def head_source(self) -> str:
        """Signature and docstring of the reference."""
        source = self.solution_source
        (function,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
        head = function.body[0]  # the docstring
        if not (isinstance(head, ast.Expr) and isinstance(head.value, ast.Constant)):
            raise ValueError(f"exercise {self.id}: the solution has no docstring, expected one with the shapes")
        return "\n".join(source.splitlines()[: head.end_lineno])


def _source(function: FunctionType) -> str:
    """A function as it can be pasted into a notebook: without its decorator."""
    source = textwrap.dedent(inspect.getsource(function))
    return source[source.index(f"def {function.__name__}") :].rstrip()


class OpenTask(NamedTuple):
    """A task without a check, at the end of a notebook: a question, and what a good answer has."""

    id: str
    title: str
    question: str
    good: list[str]  # what a reader, or a teacher, looks for in an answer


class Option(NamedTuple):
    text: str
    feedback: str


class Quiz:
    """A question with lettered options, each with its own feedback.

    Quiz("99.q1", "What is half of 4?", right="b", a=("1", "That is a quarter."), b=("2", "Yes."))
    """

    def __init__(self, id: str, question: str, right: str, **options: tuple[str, str]):
        if right not in options:
            raise ValueError(f"quiz {id}: got right='{right}', expected one of {sorted(options)}")
        self.id, self.question, self.right = id, question, right
        self.options = {letter: Option(*option) for letter, option in options.items()}
