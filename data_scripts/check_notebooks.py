"""Check notebooks for what does not belong into a commit, or would mislead a reader.

    python data_scripts/check_notebooks.py notebooks/*.ipynb

Prints one line for each problem and exits with 1 if there is any. Reads JSON only: no kernel, under a second.
Used by the pre-commit hook and by tests/test_notebooks_hygiene.py.
"""

import json
import re
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from samerge_edu import BRANCH, REPOSITORY  # noqa: E402 - only now is the package of this checkout on the path
from samerge_edu.course import bank  # noqa: E402
from samerge_edu.course.start import FOLDED, SETUP  # noqa: E402

LARGEST_OUTPUT = 200_000  # bytes
LONGEST_CELL = 20  # lines of code that a learner has to take in at once
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/])/(?:home|root|Users|work|tmp|opt|usr|content|var|mnt)/\w|\b[A-Z]:\\(?:Users|Windows|Temp|Program)"
)
SHELL_LINE = re.compile(r"^\s*(?:!|%pip|%cd|%%bash)", re.MULTILINE)
EXERCISE_CALL = re.compile(r'se\.(?:check|settle|hint)\("([^"]*)"')
ASKED = re.compile(r'se\.(?:check|quiz)\("([^"]*)"')
QUIZ_CALL = re.compile(r'se\.(?:quiz|answer)\("([^"]*)"')


def problems(path: Path) -> list[str]:
    """Everything that is wrong with one notebook, in words."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebook["cells"]
    found = about_the_file(path, notebook, cells) + about_headings(cells)
    for number, cell in enumerate(cells):
        found += [f"cell {number}: {problem}" for problem in about_a_cell(cell)]
    return found


def about_the_file(path: Path, notebook: dict, cells: list[dict]) -> list[str]:
    found = []
    if "widgets" in notebook["metadata"]:
        found.append("metadata.widgets is there: GitHub may refuse the file")
    kernel = notebook["metadata"].get("kernelspec", {}).get("name")
    if kernel != "python3":
        found.append(f"kernelspec: got {kernel}, expected python3")
    link = f"{REPOSITORY.removeprefix('https://github.com/')}/blob/{BRANCH}/notebooks/{path.name})"
    if link not in source_of(cells[0]):
        found.append(f"the badge in the first cell does not open this file on the branch {BRANCH}")
    code = [c for c in cells if c["cell_type"] == "code"]
    if source_of(code[0]) != SETUP.strip():
        found.append("the first code cell is not the setup cell that all notebooks share")
    if any(code[0]["metadata"].get(key) != value for key, value in FOLDED.items()):
        found.append("the setup cell is not folded away")
    number = path.name.partition("_")[0]  # 02, 02b
    if f'se.start("{number}")' not in source_of(code[1]):
        found.append(f'the second code cell does not call se.start("{number}")')
    if [c["execution_count"] for c in code] != list(range(1, len(code) + 1)):
        found.append("the code cells were not executed once each, from top to bottom")
    asked = Counter(id for c in code for id in ASKED.findall(source_of(c)))
    found += [f"'{id}' is asked {times} times" for id, times in asked.items() if times > 1]
    return found


def about_headings(cells: list[dict]) -> list[str]:
    """One title, and no level left out on the way down: screen readers navigate by them."""
    levels = []
    for cell in cells:
        if cell["cell_type"] == "markdown":
            without_code = re.sub(r"```.*?```", "", source_of(cell), flags=re.DOTALL)
            levels += [len(hashes) for hashes in re.findall(r"^(#{1,6}) ", without_code, re.MULTILINE)]
    found = (
        [] if levels[:1] == [1] and levels.count(1) == 1 else ["expected one heading of level 1, the title, at the top"]
    )
    for above, below in pairwise(levels):
        if below > above + 1:
            found.append(f"a heading of level {below} follows one of level {above}")
    return found


def about_a_cell(cell: dict) -> list[str]:
    source = source_of(cell)
    found = [f"absolute path {match.group()}..." for match in ABSOLUTE_PATH.finditer(source)]
    if cell["cell_type"] != "code":
        return found
    if SHELL_LINE.search(source):
        found.append("a shell line: it works neither on Windows nor in nbval")
    for call, ids in (
        (EXERCISE_CALL, {e.id for e in bank.every_exercise()}),
        (QUIZ_CALL, {q.id for q in bank.every_quiz()}),
    ):
        found += [f"'{id}' is not in the bank" for id in call.findall(source) if id not in ids]
    tags = set(cell["metadata"].get("tags", []))
    lines = [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
    if len(lines) > LONGEST_CELL and not tags & {"setup", "exercise"}:
        found.append(f"{len(lines)} lines of code, expected at most {LONGEST_CELL}")
    return found + about_outputs(cell["outputs"], may_raise="raises-exception" in tags)


def about_outputs(outputs: list[dict], may_raise: bool) -> list[str]:
    found = []
    for output in outputs:
        if len(json.dumps(output)) > LARGEST_OUTPUT:
            found.append(
                f"an output of {len(json.dumps(output)) // 1000} kB, expected at most {LARGEST_OUTPUT // 1000}"
            )
        if output["output_type"] == "error" and not may_raise:
            found.append(f"an error output: {output['ename']}")
        if output.get("name") == "stderr":
            found.append(f"something on stderr: {words_of(output)[:60]!r}")
        if match := ABSOLUTE_PATH.search(words_of(output)):
            found.append(f"absolute path {match.group()}... in an output")
        data = output.get("data", {})
        if "application/vnd.jupyter.widget-view+json" in data:
            found.append("a stored widget, which cannot be seen when the file is opened: build with SAMERGE_STATIC=1")
        page = "".join(data.get("text/html", []))
        if "image/png" in data or "<img" in re.sub(r'<img alt="[^"]+"', "", page):
            found.append("a picture without alternative text: use se.figure or se.explore")
    return found


def source_of(cell: dict) -> str:
    return "".join(cell["source"])


def words_of(output: dict) -> str:
    return "".join(output.get("text", [])) + "".join(output.get("data", {}).get("text/plain", []))


if __name__ == "__main__":
    messages = [f"{name}: {problem}" for name in sys.argv[1:] for problem in problems(Path(name))]
    print("\n".join(messages) or f"{len(sys.argv) - 1} notebooks, no problem")
    sys.exit(bool(messages))
