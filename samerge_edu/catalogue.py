"""What there is to choose from, read off the source: scales, needs, knobs and papers, without importing torch.

`samerge-edu methods` answers at once because nothing here runs a method: the table in
`methods.py` is literal, and so are the signatures in `transforms/` and `merges/`.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from . import names

HERE = Path(__file__).parent
FROM_THE_RECIPE = ("score", "merge", "generator", "flow", "theta_0", "progress", "shuffle")
"""Arguments that a recipe fills in itself, or that are no number and no word: no knobs."""
BUILT = {"sa": "sa_merging", "knots_ties": "knots", "sa_ranks": "sa_lora"}
"""Functions of `methods` that build a step from the suite."""


@cache
def method_rows() -> dict[str, dict]:
    """Name -> {"lam", "paper", "year", "needs", "per_tensor", "lora", "steps", "knobs": {..}} of every method."""
    rows = {}
    tree = ast.parse((HERE / "methods.py").read_text(encoding="utf-8"))
    lora = {name for table in _assigned(tree, "LORA_METHODS") for name, _ in _table(table, "Method")}
    for name, call in _table(tree, "Method"):
        row = dict(zip(("recipe", "lam", "paper", "year"), call.args, strict=False))
        row |= {k.arg: k.value for k in call.keywords if k.arg}
        steps = _steps(row.pop("recipe"))
        row.pop("repair", None), row.pop("beside", None)  # functions, too
        row = {"needs": "none", "per_tensor": False} | {key: ast.literal_eval(value) for key, value in row.items()}
        row |= {"lora": name in lora, "steps": [step for step, _ in steps], "knobs": named_knobs(steps)}
        rows[name] = row
    return rows


def named_knobs(steps: Sequence[tuple[str, Mapping[str, object]]]) -> dict[str, object]:
    """The knobs of a row by the names one sets them by: a knob that two steps have is called `step_knob`.

    >>> named_knobs([("dare", {"density": 0.5}), ("ties", {"density": 0.2, "reduce": "mean"})])
    {'dare_density': 0.5, 'ties_density': 0.2, 'reduce': 'mean'}
    """
    shared = Counter(knob for _, knobs in steps for knob in knobs)
    return {
        f"{step}_{knob}" if shared[knob] > 1 else knob: default
        for step, knobs in steps
        for knob, default in knobs.items()
    }


@cache
def suite_rows() -> dict[str, str]:
    """Name -> what it is, of every suite that `load_suite` knows."""
    downloaded = names.published()
    return {
        n: "published experts, downloaded first" if n in downloaded else "comes with the package"
        for n in names.suites()
    }


# ---------------------------------------------------------------------------- reading source


def _table(tree: ast.AST, call: str) -> Iterator[tuple[str, ast.Call]]:
    """The entries `"name": call(...)` of all dictionaries in a module, in order."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Call) and _called(value) == call:
                    yield str(key.value), value


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _assigned(tree: ast.Module, name: str) -> list[ast.Dict]:
    """The dictionaries that a module assigns to a name."""
    found = []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if any(isinstance(t, ast.Name) and t.id == name for t in targets) and isinstance(value, ast.Dict):
            found.append(value)
    return found


def _steps(recipe: ast.AST) -> list[tuple[str, dict[str, object]]]:
    """The methods that a recipe names, in reading order, each with its knobs as the recipe sets them."""
    partials = [n for n in ast.walk(recipe) if isinstance(n, ast.Call) and _called(n) == "partial"]
    set_there = {id(n.args[0]): {k.arg: _value(k.value) for k in n.keywords} for n in partials}
    calls = [n for n in ast.walk(recipe) if isinstance(n, ast.Call) and _called(n) in BUILT]
    set_there |= {id(n.func): {k.arg: _value(k.value) for k in n.keywords} for n in calls}  # sa(suite, p=0.02)
    inner = {id(k.value) for n in partials for k in n.keywords}  # partial(lines, merge=task_arithmetic) is one step
    named = [n for n in ast.walk(recipe) if isinstance(n, ast.Name) and id(n) not in inner]
    steps = []
    for node in sorted(named, key=lambda n: (n.lineno, n.col_offset)):
        name = BUILT.get(node.id, node.id)
        if name in _functions():
            mine = set_there.get(id(node), {})
            steps.append((name, {knob: mine.get(knob, default) for knob, default in _signature(name).items()}))
    return steps


@cache
def _functions() -> dict[str, ast.FunctionDef]:
    """Every public function of `transforms/` and `merges/`."""
    files = [*(HERE / "transforms").glob("*.py"), *(HERE / "merges").glob("*.py")]
    bodies = [ast.parse(file.read_text(encoding="utf-8")).body for file in sorted(files)]
    return {f.name: f for body in bodies for f in body if isinstance(f, ast.FunctionDef) and f.name[0] != "_"}


def _signature(name: str) -> dict[str, object]:
    """Knob -> default of one method, without what the recipe fills in."""
    a = _functions()[name].args
    with_default = list(zip(a.args[len(a.args) - len(a.defaults) :], a.defaults, strict=True))
    with_default += [(arg, d) for arg, d in zip(a.kwonlyargs, a.kw_defaults, strict=True) if d is not None]
    return {arg.arg: _value(d) for arg, d in with_default if arg.arg not in FROM_THE_RECIPE}


def _value(default: ast.AST) -> object:
    try:
        return ast.literal_eval(default)
    except ValueError:  # a name such as math.inf or another function: shown as it is written
        return ast.unparse(default)
