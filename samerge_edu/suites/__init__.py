"""A base, its experts, their tasks and heads behind one interface, whatever the size of the models."""

from .load import load_suite, suite_names
from .suite import Suite

__all__ = ["Suite", "load_suite", "suite_names"]
