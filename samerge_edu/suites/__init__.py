"""A base, its experts, their tasks and heads behind one interface, whatever the size of the models."""

from .suite import Suite, load_suite, suite_names

__all__ = ["Suite", "load_suite", "suite_names"]
