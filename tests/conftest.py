"""What pytest leaves alone: the demo lesson is the source of a notebook, not a module with doctests."""

collect_ignore = ["demo_lesson", "mutate.py", "benchmarks"]
