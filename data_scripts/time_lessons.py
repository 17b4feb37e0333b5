"""Measure how long the sections of the lessons run, for the plans: samerge_edu/course/classroom/seconds.json.

    python data_scripts/time_lessons.py           all lessons
    python data_scripts/time_lessons.py 00 01     two of them, the others stay as they are

Executes the notebooks as they are committed, on whatever machine this is, and keeps the seconds of each section of
level 2 ("" is what stands before the first one). About ten minutes for all of them on two cores; no download.
"""

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from run_notebook import execute, models_of  # noqa: E402 - only now are this checkout's tests and package on the path

from samerge_edu.course.classroom.plans import SECONDS, places  # noqa: E402
from samerge_edu.course.lessons import lessons  # noqa: E402


def seconds_of(notebook: nbformat.NotebookNode) -> dict[str, float]:
    """Seconds of each section of an executed notebook, from the times that its kernel reported."""
    totals: dict[str, float] = {}
    for cell, place in zip(notebook.cells, places(notebook), strict=True):
        times = cell.metadata.get("execution", {})
        if cell.cell_type == "code":
            began, ended = (datetime.fromisoformat(times[f"iopub.{s}"]) for s in ("status.busy", "status.idle"))
            totals[place.section] = totals.get(place.section, 0.0) + (ended - began).total_seconds()
    return {section: round(seconds, 1) for section, seconds in totals.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="numbers such as 00 01; all of them if none is given")
    arguments = parser.parse_args()
    notebooks = lessons()
    if unknown := set(arguments.lessons) - notebooks.keys():
        parser.error(f"no lesson {', '.join(sorted(unknown))}, there are {', '.join(notebooks)}")
    known = json.loads(SECONDS.read_text(encoding="utf-8")) if SECONDS.exists() else {}
    for number in arguments.lessons or notebooks:
        notebook = nbformat.read(notebooks[number], as_version=4)
        with models_of(number):
            execute(notebook, notebooks[number].parent, record_timing=True)
        known[number] = seconds_of(notebook)
        print(f"{number}: {sum(known[number].values()):.0f} s")
        SECONDS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
