"""Which cells of a notebook do some others need? Read from the code, nothing is run.

A cell needs the cell that last set each name it uses, and those that changed the name's value since: x[0] = 1,
x.append(1), or a call of a function that does so.
"""

import ast
import builtins
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

MUTATORS = {"append", "extend", "insert", "remove", "pop", "clear", "update", "setdefault", "add", "sort", "reverse"}


@dataclass
class Names:
    """What a cell does with the names of the notebook. `later`: what its functions use when they are called."""

    sets: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    uses: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    functions: dict[str, "Names"] = field(default_factory=dict)  # the functions defined here -> what a call does
    imports: set[str] = field(default_factory=set)  # of `sets`; se.add(...) does not change se


def names(source: str) -> Names:
    """Read one cell.

    >>> cell = names("y = f(x)\\nrows.append(y)\\ndef g(a): return a + b")
    >>> sorted(cell.sets), sorted(cell.uses), cell.changes, cell.later
    (['g', 'y'], ['f', 'rows', 'x'], {'rows'}, {'b'})
    """
    reader = _Reader()
    for statement in ast.parse(source).body:
        reader.visit(statement)
    return reader.found


def needed(sources: Sequence[str], kept: Iterable[int]) -> set[int]:
    """The kept cells, and all that they need. `sources`: the code cells, in order; `kept`: places among them.

    >>> sorted(needed(["x = 1", "y = 2", "x += 1", "print(x)"], {3}))
    [0, 2, 3]
    """
    cells = with_calls([names(source) for source in sources])
    found: set[int] = set()
    waiting = list(kept)
    while waiting:
        i = waiting.pop()
        if i not in found:
            found.add(i)
            waiting += {j for name in cells[i].uses | cells[i].later for j in _providers(cells, name, i)}
    return found


def undefined(sources: Sequence[str]) -> list[str]:
    """Names that are used before any cell above has set them: "cell 3: tau_sum". What pyflakes does for one file."""
    cells, known, missing = [names(source) for source in sources], set(), []
    for i, cell in enumerate(cells):
        missing += [f"cell {i}: {name}" for name in sorted(cell.uses - known)]
        known |= cell.sets
        missing += [f"cell {i}: {name}" for name in sorted(cell.later - set().union(*(c.sets for c in cells)))]
    return missing


def with_calls(cells: list[Names]) -> list[Names]:
    """A cell that names a function does what the function does: uses what it uses, changes what it changes."""
    functions: dict[str, Names] = {}
    for cell in cells:
        functions |= cell.functions
        for name in _reached(cell.uses | cell.later, functions):
            cell.later |= functions[name].uses
            cell.changes |= functions[name].changes
    return cells


def _reached(used: set[str], functions: dict[str, Names]) -> Iterator[str]:
    """The functions that are used, and those that they use."""
    seen, waiting = set(), [name for name in used if name in functions]
    while waiting:
        if (name := waiting.pop()) not in seen:
            seen.add(name)
            yield name
            waiting += [other for other in functions[name].uses if other in functions]


def _providers(cells: list[Names], name: str, i: int) -> Iterator[int]:
    """Before cell i: where the name was last set, and changed since. A function may wait for a later cell."""
    setters = [j for j in range(i) if name in cells[j].sets]
    if not setters:
        yield from (j for j in range(i + 1, len(cells)) if name in cells[j].sets and name not in cells[i].uses)
        return
    yield setters[-1]
    if name not in cells[setters[-1]].imports:
        yield from (j for j in range(setters[-1] + 1, i) if name in cells[j].changes)


class _Reader(ast.NodeVisitor):
    """Goes through code in the order in which it runs."""

    def __init__(self, local: Iterable[str] = ()) -> None:
        self.found, self.local = Names(), set(local)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.local:
            return
        if isinstance(node.ctx, ast.Load):
            if node.id not in self.found.sets and not hasattr(builtins, node.id):
                self.found.uses.add(node.id)
        else:
            self.found.sets.add(node.id)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._stored(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        self._change(node.target)

    def visit_For(self, node: ast.For) -> None:
        for part in (node.iter, node.target, *node.body, *node.orelse):
            self.visit(part)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.found.sets.add(node.name)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """x.append(y) and x.mul_(2) change x."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and (node.func.attr in MUTATORS or node.func.attr.endswith("_")):
            self._change(node.func.value)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.found.imports |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        self.found.sets |= self.found.imports

    visit_ImportFrom = visit_Import

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        inside = self._body(node.args, node.body, node.decorator_list)
        self.found.functions[node.name] = inside
        self.found.sets.add(node.name)
        self.found.later.discard(node.name)  # it may call itself

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._body(node.args, [node.body], [])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in (*node.bases, *node.decorator_list):
            self.visit(part)
        self._body(ast.arguments([], [], None, [], [], None, []), node.body, [])
        self.found.sets.add(node.name)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        """Its variables are its own."""
        before = set(self.local)
        for part in node.generators:
            self.visit(part.iter)
            self.local |= {n.id for n in ast.walk(part.target) if isinstance(n, ast.Name)}
            for condition in part.ifs:
                self.visit(condition)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.visit(part)
        self.local = before

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def _stored(self, target: ast.expr) -> None:
        if isinstance(target, ast.Subscript | ast.Attribute):
            self._change(target)
        else:
            self.visit(target)

    def _change(self, target: ast.expr) -> None:
        """The value behind the first name of `x.y[0]` is another one now."""
        if isinstance(target, ast.Subscript):
            self.visit(target.slice)
        while isinstance(target, ast.Subscript | ast.Attribute):
            target = target.value
        if isinstance(target, ast.Name) and target.id not in self.local:
            self.visit_Name(ast.Name(target.id, ast.Load()))
            self.found.changes.add(target.id)

    def _body(self, arguments: ast.arguments, body: list, decorators: list) -> Names:
        """Defaults and decorators are used now; what the body uses and does not set itself, when it is called."""
        for part in (*decorators, *arguments.defaults, *filter(None, arguments.kw_defaults)):
            self.visit(part)
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        own = {argument.arg for argument in every if argument}
        own |= {
            n.id for part in body for n in ast.walk(part) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        own |= {n.name for part in body for n in ast.walk(part) if isinstance(n, ast.FunctionDef)}
        reader = _Reader(self.local | own)
        for part in body:
            reader.visit(part)
        inside = reader.found
        inside.uses |= inside.later
        self.found.later |= inside.uses - self.found.sets
        return inside
