"""The scripts of data_scripts/ as modules, to be run by tests."""

import importlib.util
from pathlib import Path
from types import ModuleType

SCRIPTS = Path(__file__).parent.parent / "data_scripts"


def script(name: str) -> ModuleType:
    """A new module each time, so that what a test changes in it is gone with the test."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module
