"""What a file hands in: a name, an author, which data the method needs, a scale, and the method.

    NAME, AUTHOR = "Plain mean", "Ada Example"
    NEEDS = "none"    # or "unlabelled", "labelled": images of the validation split
    LAM = 1.0         # the scale that you publish: theta = theta_0 + LAM * tau_m

    def method(taus):
        return {key: sum(tau[key] for tau in taus) / len(taus) for key in taus[0]}

Behind `taus` a method may ask by name for `theta_0`, for `flow` (the path strength of a model, notebook 04), and for
`validation`, if NEEDS says so. There is nothing else to ask for: no test image, and no suite to draw one from.
"""

import ast
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NEEDS = ("none", "unlabelled", "labelled")
MAY_ASK = ("theta_0", "flow", "validation")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Submission:
    """The head of a file that was handed in. `asks` are the method's arguments after `taus`."""

    path: Path
    name: str
    author: str
    needs: str
    lam: float
    asks: tuple[str, ...]


def read(path: str | Path) -> Submission:
    """The head of a submission. The file is parsed and not run: whose code it is, is no matter here.

    Raises ValueError, with what is expected, for a file that is missing or no Python, for a NAME, AUTHOR, NEEDS, LAM or
    `method` that is missing or of another kind, and for data that is asked for and not declared.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as e:
        raise ValueError(f"{path.name} is no Python: {e}") from e
    head = _constants(tree)
    for key, kinds in {"NAME": str, "AUTHOR": str, "NEEDS": str, "LAM": (int, float)}.items():
        if key not in head or not isinstance(head[key], kinds) or isinstance(head[key], bool):
            expected = "a number above 0" if key == "LAM" else "a word in quotes"
            raise ValueError(f"{path.name}: {key}: got {head.get(key)!r}, expected {key} = {expected}")
    if not head["NAME"].strip() or not head["AUTHOR"].strip():
        raise ValueError(f"{path.name}: NAME and AUTHOR: got an empty one, expected words")
    if head["NEEDS"] not in NEEDS:
        raise ValueError(f"{path.name}: NEEDS: got '{head['NEEDS']}', expected one of {', '.join(NEEDS)}")
    if not 0 < head["LAM"] < float("inf"):
        raise ValueError(f"{path.name}: LAM: got {head['LAM']}, expected a number above 0")
    asks = _asks(tree, path.name)
    if ("validation" in asks) != (head["NEEDS"] != "none"):
        what = "asks for validation images" if "validation" in asks else "does not ask for `validation`"
        raise ValueError(f"{path.name}: NEEDS says '{head['NEEDS']}', and `method` {what}")
    return Submission(path, head["NAME"], head["AUTHOR"], head["NEEDS"], float(head["LAM"]), asks)


def _constants(tree: ast.Module) -> dict[str, Any]:
    """What the file assigns to a name at its top, where it is written out: A = 1, and A, B = 1, 2."""
    found: dict[str, Any] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        try:
            value = ast.literal_eval(node.value)
        except ValueError:  # computed: nothing of ours
            continue
        target = node.targets[0]
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        values = value if isinstance(target, ast.Tuple) and isinstance(value, tuple) else [value]
        found |= {n.id: v for n, v in zip(names, values, strict=False) if isinstance(n, ast.Name)}
    return found


def _asks(tree: ast.Module, name: str) -> tuple[str, ...]:
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "method"]
    assigned = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    if not functions and any(isinstance(t, ast.Name) and t.id == "method" for t in assigned):
        return ()  # method = se.pipe(transform, merge)
    if not functions:
        raise ValueError(f"{name}: got no function `method`, expected def method(taus): ...")
    a = functions[-1].args
    args = [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    free = len(a.posonlyargs) + len(a.args) - len(a.defaults)  # without a default
    needless = {arg.arg for arg in (*a.posonlyargs, *a.args)[free:]} - set(MAY_ASK)
    needless |= {arg.arg for arg, d in zip(a.kwonlyargs, a.kw_defaults, strict=True) if d is not None} - set(MAY_ASK)
    asks = [arg for arg in args[1:] if arg not in needless]
    if not args or a.posonlyargs[1:] or (unknown := [arg for arg in asks if arg not in MAY_ASK]):
        got = f"`{unknown[0]}`" if args and not a.posonlyargs[1:] else "something else"
        raise ValueError(f"{name}: method: got {got}, expected taus and then any of {', '.join(MAY_ASK)}")
    return tuple(asks)


def new(folder: str | Path) -> list[Path]:
    """Copy what a learner begins with: a submission that runs, the report's template and the rubric.

    Raises ValueError for a file that is there already: nobody's work is written over.
    """
    folder = Path(folder)
    begin = {"my_method.py": "my_method.py.txt", "report.md": "template.md", "rubric.md": "rubric.md"}
    if there := [name for name in begin if (folder / name).exists()]:
        raise ValueError(f"{folder / there[0]} is there already: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(HERE / source, folder / name)) for name, source in begin.items()]
