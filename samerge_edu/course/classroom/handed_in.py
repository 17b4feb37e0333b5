"""A notebook that was handed in: its functions, found by name, whatever became of its cells' order and metadata.

Only what defines something is kept: imports, functions and classes, and names for written-out values (`N = 3`), for a
`lambda` or for another name. Nothing here runs any of it.
"""

import ast
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from ..bank import chapter, numbers
from ..exercise import Exercise

MOST_BYTES = 20 * 2**20
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Piece(NamedTuple):
    """One statement, and the name and text of the cell that it is from."""

    cell: str
    text: str
    statement: ast.stmt


class HandedIn(NamedTuple):
    lesson: str
    pieces: list[Piece]
    unread: dict[str, str]  # a function whose cell is no Python -> what is wrong with it


def cells_of(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook, with `source` as one text.

    Raises ValueError for a file that is too large, no JSON, or no notebook of version 4.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"got {size / 1e6:.0f} MB, expected a notebook of less than {MOST_BYTES / 1e6:.0f}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        return [
            cell | {"source": text if isinstance(text := cell["source"], str) else "".join(text)}
            for cell in content["cells"]
        ]
    except RecursionError:
        raise ValueError("got JSON that is nested too deeply, expected a notebook") from None
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"got no Jupyter notebook ({type(e).__name__}), expected a file that ends in .ipynb") from None


def read(path: Path) -> HandedIn:
    """What a notebook defines. Raises ValueError if it is no notebook, or none of the course."""
    sources = [cell["source"] for cell in cells_of(path) if cell.get("cell_type") == "code"]
    lesson = lesson_of(sources)
    tasks = {task.name: task for task in chapter(lesson).EXERCISES}
    pieces, unread = [], {}
    for number, source in enumerate(map(without_magics, sources), start=1):
        try:
            statements = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
            unread |= {name: shortly(e) for name in re.findall(r"^\s*def (\w+)", source, re.MULTILINE)}
            continue
        pieces += [Piece(f"<code cell {number}>", source, node) for node in statements if defines(node)]
    solved = {name_of(p.statement) for p in pieces} - {None}
    solved &= {name_of(p.statement) for p in pieces if not is_stub(p.statement, tasks)}
    pieces = [p for p in pieces if name_of(p.statement) not in solved or not is_stub(p.statement, tasks)]
    return HandedIn(lesson, pieces, {name: why for name, why in unread.items() if name not in solved})


def lesson_of(sources: list[str]) -> str:
    """Which notebook it is: se.start("03") says so, or the exercises that are checked, or else the functions."""
    text = "\n".join(sources)
    known = set(numbers())
    started = [n for n in re.findall(r"""\bstart\(\s*["'](\w+)["']""", text) if n in known]
    checked = [n for n in re.findall(r"""\b(?:check|settle)\(\s*["'](\w+)\.""", text) if n in known]
    defined = set(re.findall(r"^def (\w+)", text, re.MULTILINE))
    written = [n for n in sorted(known) for task in chapter(n).EXERCISES if task.name in defined]
    for found in (started, checked, written):
        if found:
            return Counter(found).most_common(1)[0][0]
    raise ValueError("got a notebook without any exercise of the course")


def without_magics(source: str) -> str:
    """`!pip` and `%time` are no Python; what stands behind them is left."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)


def defines(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign):
        return isinstance(node, DEFINITIONS)
    if not all(isinstance(target, ast.Name) for target in node.targets):
        return False
    if isinstance(node.value, (ast.Lambda, ast.Name)):
        return True
    try:
        ast.literal_eval(node.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # it would have to be computed
        return False
    return True


def name_of(node: ast.stmt) -> str | None:
    """The function that a statement defines."""
    if isinstance(node, ast.Assign):
        return node.targets[0].id if isinstance(node.targets[0], ast.Name) else None
    return node.name if isinstance(node, ast.FunctionDef) else None


def is_stub(node: ast.stmt, tasks: dict[str, Exercise]) -> bool:
    """Is it what the notebook handed out: `raise NotImplementedError`, or the program that is to be mended?"""
    if not isinstance(node, ast.FunctionDef) or node.name not in tasks:
        return False
    body = without_docstring(node)
    if len(body) == 1 and isinstance(body[0], ast.Raise) and "NotImplementedError" in ast.dump(body[0]):
        return True
    (stub,) = (n for n in ast.parse(tasks[node.name].stub_source).body if isinstance(n, ast.FunctionDef))
    return [ast.dump(line) for line in body] == [ast.dump(line) for line in without_docstring(stub)]


def without_docstring(node: ast.FunctionDef) -> list[ast.stmt]:
    head = node.body[0]
    return node.body[1:] if isinstance(head, ast.Expr) and isinstance(head.value, ast.Constant) else node.body


def shortly(error: BaseException) -> str:
    line = f", line {error.lineno} of its cell" if isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}: {getattr(error, 'msg', error)}{line}"
