"""Slips of the pen: every program that differs from a solution in one place, and what to say about it.

    slips(half)   # half(x) = x / 2  ->  x * 2 "`*` stands where `/` belongs", x "a division is missing", ...

A learner whose answers equal those of such a program in *every* case has, as far as the laws can see, written
that program; the sentence names the place. examine.py asks the bank's own mistakes first: they know the lesson.
attack.py uses the same programs to ask whether the laws notice each of them.
"""

import ast
import copy
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import torch

SAID_OF_A_SLIP = "Your answers are those of a program in which"
WHAT_IS_RETURNED = "(what is returned)"

OPERATORS = {
    ast.Add: ("+", [ast.Sub]),
    ast.Sub: ("-", [ast.Add]),
    ast.Mult: ("*", [ast.Div, ast.Add]),
    ast.Div: ("/", [ast.Mult]),
    ast.FloorDiv: ("//", [ast.Div]),
    ast.Pow: ("**", [ast.Mult]),
    ast.MatMult: ("@", []),
    ast.BitAnd: ("&", [ast.BitOr]),
    ast.BitOr: ("|", [ast.BitAnd]),
    ast.BitXor: ("^", [ast.BitOr]),
}
COMPARISONS = {
    ast.Gt: (">", [ast.GtE, ast.Lt]),
    ast.GtE: (">=", [ast.Gt, ast.Lt]),
    ast.Lt: ("<", [ast.LtE, ast.Gt]),
    ast.LtE: ("<=", [ast.Lt, ast.Gt]),
    ast.Eq: ("==", [ast.NotEq]),
    ast.NotEq: ("!=", [ast.Eq]),
    ast.In: ("in", [ast.NotIn]),
    ast.NotIn: ("not in", [ast.In]),
}
SYMBOL: dict[type[ast.AST], str] = {kind: symbol for kind, (symbol, _) in (OPERATORS | COMPARISONS).items()}
OTHER_NAME = {  # of functions and methods
    "sum": ["mean"],
    "mean": ["sum"],
    "any": ["all"],
    "all": ["any"],
    "max": ["min"],
    "min": ["max"],
    "amax": ["amin"],
    "amin": ["amax"],
    "argmax": ["argmin"],
    "argmin": ["argmax"],
    "ceil": ["floor"],
    "floor": ["ceil"],
    "round": ["int"],
    "zeros": ["ones"],
    "ones": ["zeros"],
    "zeros_like": ["ones_like"],
    "ones_like": ["zeros_like"],
    "double": ["float"],
}
KEEP_THE_VALUE = {"clone", "contiguous", "detach", "float", "double", "tolist"}  # a slip is not to forget them
CONVERSIONS = {"float", "int", "bool", "list"}
MISSING = {  # what is lost when an operation is left out
    ast.Add: "a summand is missing",
    ast.Sub: "a subtraction is missing",
    ast.Mult: "a factor is missing",
    ast.Div: "a division is missing",
    ast.Pow: "a power is missing",
    ast.MatMult: "a matrix product is missing",
    ast.BitAnd: "one of two conditions is missing",
    ast.BitOr: "one of two conditions is missing",
}


class Slip(NamedTuple):
    function: Callable
    says: str
    line: str  # of the solution, as it is written
    change: str  # in short


@functools.cache
def slips(reference: FunctionType) -> tuple[Slip, ...]:
    """Every program that differs from the reference in one place, those that change what it returns last."""
    source = textwrap.dedent(inspect.getsource(reference))
    source = source[source.index(f"def {reference.__name__}") :]
    tree, lines = ast.parse(source), source.splitlines()
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    arguments = [a.arg for a in function.args.args]
    found = []
    for node in [n for statement in function.body[1:] for n in ast.walk(statement)]:  # the docstring stays
        for change, says, new in edits(node, arguments):
            line = lines[node.lineno - 1].strip() if isinstance(node, ast.expr) else ""
            found.append(Slip(put_in_place(tree, node, new), f"{SAID_OF_A_SLIP} {says}.", line, change))
    return (*found, *(_answering(reference, *way) for way in OTHER_ANSWERS))


def put_in_place(tree: ast.Module, old: ast.AST, new: ast.AST) -> Callable:
    """The function of `tree` with `new` where `old` stands. The tree itself stays."""
    twins: dict[int, Any] = {}
    twin = copy.deepcopy(tree, twins)
    _Replace(twins[id(old)], new).visit(twin)
    cell: dict[str, Any] = {"torch": torch}
    (name,) = (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    exec(compile(ast.fix_missing_locations(twin), f"<{name}>", "exec"), cell)
    return cell[name]


def edits(node: ast.AST, arguments: list[str]) -> Iterator[tuple[str, str, ast.AST]]:
    """(change, what to say about it, what stands in the node's place)."""
    if isinstance(node, ast.BinOp):
        kind = type(node.op)
        for other in OPERATORS.get(kind, ("", []))[1]:
            symbols = f"`{SYMBOL[other]}` stands where `{SYMBOL[kind]}` belongs"
            yield f"{SYMBOL[kind]} -> {SYMBOL[other]}", symbols, ast.BinOp(node.left, other(), node.right)
        if kind in MISSING:
            yield f"{SYMBOL[kind]} left alone", MISSING[kind], node.left
            yield f"{SYMBOL[kind]} right alone", MISSING[kind], node.right
        if kind in (ast.Sub, ast.Div, ast.MatMult, ast.Pow):
            says = f"the two sides of `{SYMBOL[kind]}` are exchanged"
            yield f"{SYMBOL[kind]} exchanged", says, ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        kind = type(node.ops[0])
        for other in COMPARISONS.get(kind, ("", []))[1]:
            says = f"`{SYMBOL[other]}` stands where `{SYMBOL[kind]}` belongs"
            new = ast.Compare(node.left, [other()], node.comparators)
            yield f"{SYMBOL[kind]} -> {SYMBOL[other]}", says, new
    elif isinstance(node, ast.UnaryOp):
        symbol = {ast.USub: "-", ast.Invert: "~", ast.Not: "not"}.get(type(node.op), "+")
        yield f"{symbol} dropped", f"a `{symbol}` is missing", node.operand
    elif isinstance(node, ast.BoolOp):
        other = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield "and <-> or", "`and` and `or` are exchanged", ast.BoolOp(other, node.values)
        for i in range(len(node.values)):
            rest = node.values[:i] + node.values[i + 1 :]
            new = ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0]
            yield f"condition {i + 1} dropped", "one of the conditions is missing", new
    elif isinstance(node, ast.IfExp):
        yield "if exchanged", "the two cases of an `if` are exchanged", ast.IfExp(node.test, node.orelse, node.body)
        yield "always if", "one case of an `if` is used always", node.body
        yield "always else", "one case of an `if` is used always", node.orelse
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and type(node.value) is not bool:
        for other in other_numbers(node.value):
            yield f"{node.value} -> {other}", f"{other} stands where another number belongs", ast.Constant(other)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield f"{node.value} -> {not node.value}", "True and False are exchanged", ast.Constant(not node.value)
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield ".T dropped", "a matrix is not transposed", node.value
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield (
            "if dropped",
            "a condition on what is looked at is missing",
            ast.comprehension(node.target, node.iter, [], 0),
        )
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        yield "slice dropped", "the whole is taken where a part belongs", node.value
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in arguments:
        for other in arguments:
            if other != node.id:
                yield (
                    f"{node.id} -> {other}",
                    f"`{other}` stands where `{node.id}` belongs",
                    ast.Name(other, ast.Load()),
                )
    elif isinstance(node, ast.Call):
        yield from edits_of_call(node)


def edits_of_call(node: ast.Call) -> Iterator[tuple[str, str, ast.AST]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    for other in OTHER_NAME.get(name, []):
        if isinstance(node.func, ast.Attribute):
            func = ast.Attribute(node.func.value, other, ast.Load())
        else:
            func = ast.parse(other, mode="eval").body
        says = f"`{other}` stands where `{name}` belongs"
        yield f"{name} -> {other}", says, ast.Call(func, node.args, node.keywords)
    if isinstance(node.func, ast.Attribute) and not node.args and name not in KEEP_THE_VALUE:
        if not isinstance(node.func.value, ast.Name) or node.func.value.id not in ("torch", "math"):
            yield f".{name}() dropped", f"`{name}` is missing", node.func.value
    if isinstance(node.func, ast.Name) and name in CONVERSIONS and len(node.args) == 1:
        yield f"{name}() dropped", f"the result is not made a `{name}`", node.args[0]
    if (
        isinstance(node.func, ast.Name)
        and name in ("round", "abs", "set", "sorted", "reversed")
        and len(node.args) == 1
    ):
        yield f"{name}() dropped", f"`{name}` is missing", node.args[0]
    for i, keyword in enumerate(node.keywords):
        if keyword.arg in ("dim", "keepdim", "largest", "generator", "full_matrices"):
            rest = node.keywords[:i] + node.keywords[i + 1 :]
            yield f"{keyword.arg}= dropped", f"`{keyword.arg}=` is missing", ast.Call(node.func, node.args, rest)
    if name == "topk" and not any(k.arg == "largest" for k in node.keywords):
        smallest = ast.keyword("largest", ast.Constant(False))
        says = "the smallest are taken where the largest belong"
        yield "topk smallest", says, ast.Call(node.func, node.args, [*node.keywords, smallest])


def other_numbers(value: float) -> Sequence[float]:
    if isinstance(value, int):
        return {0: [1], 1: [0, 2], 2: [1, 3]}.get(value, [value + 1])
    return [2 * value] if value else [1.0]


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


# ---------------------------------------------------------------------------- the answer in another form


def _each(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`change` put to every tensor or number of a result."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_each(item, change) for item in value)
    return change(torch.as_tensor(value)).item() if isinstance(value, (int, float)) else value


def _zero_dim(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_zero_dim(item) for item in value)
    return torch.as_tensor(value) if isinstance(value, (bool, int, float)) else value


def _other_dtype(t: torch.Tensor) -> torch.Tensor:
    return t.float() if t.dtype == torch.bool else t.double() if t.dtype == torch.float32 else t.float()


def _transposed(t: torch.Tensor) -> torch.Tensor:
    return t.mT if t.dim() >= 2 else t


OTHER_ANSWERS: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("negated", "every sign is turned round", lambda v: _each(v, lambda t: ~t if t.dtype == torch.bool else -t)),
    ("absolute", "an absolute value is taken that does not belong", lambda v: _each(v, torch.abs)),
    ("doubled", "everything is twice as large", lambda v: _each(v, lambda t: 2 * t)),
    ("transposed", "rows and columns are exchanged", lambda v: _each(v, _transposed)),
    ("0-dim tensor", "a tensor stands where a number belongs", _zero_dim),
    ("other dtype", "another dtype is returned", lambda v: _each(v, _other_dtype) if not isinstance(v, float) else v),
    (
        "as list",
        "a list stands where a tensor or a tuple belongs",
        lambda v: v if isinstance(v, (float, int)) else list(v),
    ),
    (
        "as tuple",
        "a tuple stands where another thing belongs",
        lambda v: v if isinstance(v, (float, int, dict)) else tuple(v),
    ),
    ("as float", "a float stands where an int belongs", lambda v: float(v) if isinstance(v, int) else v),
]


OF_FORM = ("transposed", "0-dim tensor", "other dtype", "as list", "as tuple", "as float")


def _answering(reference: Callable, change: str, says: str, way: Callable[[Any], Any]) -> Slip:
    @functools.wraps(reference)
    def answer(*args, **kwargs):
        return way(reference(*args, **kwargs))

    return Slip(answer, f"{SAID_OF_A_SLIP} {says}.", WHAT_IS_RETURNED, change)
