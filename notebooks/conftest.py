"""How nbval compares the notebooks, and proof that it really ran them.

    SAMERGE_STATIC=1 pytest --nbval --nbval-current-env --nbval-cell-timeout=120 \\
        --nbval-sanitize-with notebooks/sanitize.cfg notebooks
"""

import contextlib
import json
import os
import re
from pathlib import Path

import pytest

# The kernels inherit these: still pictures, and the package of this checkout, installed or not.
os.environ["SAMERGE_STATIC"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])

SHORTEST = 1.0  # s: importing torch alone takes longer, so a faster notebook did nothing
cells_run: dict[str, int] = {}
seconds_run: dict[str, float] = {}


def pytest_collectstart(collector):
    """Warnings and formats that change without meaning are not compared; text on stdout is.

    sanitize.cfg says which words are replaced first. One rule needs code: in a sentence that reads a figure every
    number is replaced, because another CPU may differ in its last digit, and every set, {TSV-M, Iso-C}, since who is
    as good as the best within a stated width may differ by one (`plots.within`).
    """
    if hasattr(collector, "skip_compare"):  # nbval's collector of one notebook
        collector.skip_compare += ("stderr", "text/html", "application/javascript", "image/svg+xml")
        collector.sanitize_patterns[r"(?m)^Figure: .*$"] = without_numbers
        cells_run.setdefault(collector.nodeid, 0)


def without_numbers(line: re.Match) -> str:
    return re.sub(r"-?\d+(\.\d+)?", "NUMBER", re.sub(r"\{[^}]*\}", "SET", line.group()))


def pytest_collection_finish(session):
    """Notebook 12 is about models on a hub: here a miniature of them, served from this machine (tests/tiny_hub.py)."""
    if any(item.path.name.startswith("12_") for item in session.items):
        from tiny_hub import serve_tiny_clip  # takes seconds: only if it is needed

        served = contextlib.ExitStack()
        os.environ |= served.enter_context(serve_tiny_clip())
        session.config.add_cleanup(served.close)


def pytest_runtest_logreport(report):
    """Count the cells that nbval executed, and their time. With pytest-xdist too: reports come to one place."""
    file = report.nodeid.partition("::")[0]
    if report.when == "call" and file.endswith(".ipynb") and not report.skipped:
        cells_run[file] = cells_run.get(file, 0) + 1
        seconds_run[file] = seconds_run.get(file, 0.0) + report.duration


def not_really_run(root: Path) -> list[str]:
    """The ratchet: notebooks that executed fewer code cells than they have, or finished in under a second."""
    found = []
    for file, run in cells_run.items():
        cells = json.loads((root / file).read_text(encoding="utf-8"))["cells"]
        # A cell tagged nbval-skip belongs to a suite that has to be downloaded: nbval leaves it out.
        skipped = [c for c in cells if "nbval-skip" in c["metadata"].get("tags", [])]
        there = sum(c["cell_type"] == "code" for c in cells) - len(skipped)
        if run < there:
            found.append(f"{file}: executed {run} of {there} code cells")
        elif seconds_run.get(file, 0.0) < SHORTEST:
            found.append(f"{file}: finished in {seconds_run.get(file, 0.0):.2f} s, expected at least {SHORTEST:g} s")
    return found


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    option = session.config.option
    part_only = option.keyword or option.collectonly or any("::" in a for a in session.config.args)
    if hasattr(session.config, "workerinput") or part_only:
        return  # a worker of pytest-xdist sees its share only; `-k` and `::` ask for single cells
    if messages := not_really_run(session.config.rootpath):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("\n\nNot really run:\n  " + "\n  ".join(messages))


collect_ignore = ["src"]  # lessons in percent format: the notebooks are built from them
