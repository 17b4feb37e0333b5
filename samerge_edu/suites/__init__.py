"""A base, its experts, their tasks and heads behind one interface, whatever the size of the models."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .load import load_suite, suite_names
    from .suite import Suite

HOME = {"Suite": "suite", "load_suite": "load", "suite_names": "load"}
__all__ = ["Suite", "load_suite", "suite_names"]


def __getattr__(name: str):
    """Import on first use (PEP 562): the published suites' manifest is read without torch."""
    if name not in HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{HOME[name]}"), name)
    globals()[name] = value
    return value
