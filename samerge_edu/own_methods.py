"""Methods that somebody else wrote, as rows of the leaderboard: from a file, or from an installed package.

    my_method.py:     def my_mean(taus): ...
                      METHODS = {"mine": my_mean}                     samerge-edu leaderboard --add my_method.py

    pyproject.toml:   [project.entry-points."samerge_edu.methods"]
                      mine = "my_package:my_mean"                     there whenever the package is installed

A row is a function taus -> tau_m, scaled by 1 as its published scale, or a `Method`, which says more. Each has to pass
`check_method` before anything is measured.
"""

import importlib.util
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path

from .contract import check_method, example_taus
from .methods import LORA_METHODS, METHODS, Checkpoints, Method

GROUP = "samerge_edu.methods"


def from_file(path: str | Path) -> dict[str, Method]:
    """The rows that a Python file names in its METHODS. The file is run, so it should be one of your own.

    Raises ValueError for a file that is not there, does not run, has no METHODS, or whose methods fail the checks.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: got no Python file, expected one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise ValueError(f"{path} does not run: {type(e).__name__}: {e}") from e
    rows = getattr(module, "METHODS", None)
    if not isinstance(rows, Mapping) or not rows:
        raise ValueError(f'{path}: got no METHODS, expected a line such as METHODS = {{"mine": my_function}}')
    return checked({name: row for name, row in rows.items() if METHODS.get(name) is not row}, str(path))


def from_packages() -> dict[str, Method]:
    """The rows that installed packages offer under the entry point group "samerge_edu.methods"."""
    return checked({point.name: point.load() for point in entry_points(group=GROUP)}, f"entry point group {GROUP}")


def checked(rows: Mapping[str, Callable | Method], where: str) -> dict[str, Method]:
    """The same as rows of a table. Raises ValueError for a name that is taken, and with the words of `check_method`.

    A recipe that needs a suite's architecture or data cannot be tried here, and is not.
    """
    found = {}
    for name, row in rows.items():
        if name.lower() in {taken.lower() for taken in [*METHODS, *LORA_METHODS]}:
            raise ValueError(f"{where}: the name '{name}' is taken; choose another")
        if not callable(row):
            raise ValueError(f"{where}, '{name}': got {row!r}, expected a function taus -> tau_m or a Method")
        if not isinstance(row, Method):
            row = Method(lambda suite, fn=row: fn, 1.0, "own", 0)
        try:
            merge = row.recipe(Checkpoints(example_taus()[0]))
        except ValueError:
            merge = None  # it asked for what only a suite has
        if merge is not None and not (report := check_method(merge, name)).ok:
            wrong = "; ".join(f"{what} {why}" for what, why in report.required.items() if why)
            raise ValueError(f"{where}, '{name}' is not ready: {wrong}")
        found[name] = row
    return found
