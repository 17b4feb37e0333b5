"""Which module of a package imports which: read from the source, imports inside functions included."""

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path


def imports(package: Path) -> dict[str, set[str]]:
    """module -> the package's modules that it imports, names without the package's own: "merges.ties" -> {"params"}.

    `from .suite import Suite` is an import of `suite`; `from . import hub` of `hub`; of the package's root, of "".
    """
    modules = {_name(file, package): file for file in package.rglob("*.py")}
    found: dict[str, set[str]] = {name: set() for name in modules}
    for name, file in modules.items():
        here = name.split(".") if name else []
        if file.name != "__init__.py":
            here = here[:-1]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for target in _targets(node, here, package.name):
                if target in modules and target != name:
                    found[name].add(target)
    return found


def _targets(node: ast.AST, here: list[str], package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [a.name.removeprefix(package).lstrip(".") for a in node.names if a.name.split(".")[0] == package]
    if not isinstance(node, ast.ImportFrom):
        return []
    if node.level:
        base = here[: len(here) - node.level + 1]
    elif node.module and node.module.split(".")[0] == package:
        base = []
    else:
        return []
    base = [*base, *((node.module or "").removeprefix(package if not node.level else "").strip(".").split("."))]
    base = [part for part in base if part]
    # a name may be a module of that package or something inside the module: what is no module is dropped by the caller
    return [".".join([*base, a.name]) for a in node.names] + [".".join(base)]


def _name(file: Path, package: Path) -> str:
    parts = file.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as e:
        return list(e.args[1])
    return []
