"""A folder of notebooks -> a table with one row a student and exercise, and a page of feedback for each student.

    FOLDER/ada/01_task_vectors.ipynb        the first folder is the student; what is between does not matter
    FOLDER/01_task_vectors_ada.ipynb        or what the file's name has beside the lesson's

No nbgrader is needed: notebooks from Colab, from a mail, with copied cells and without metadata are all the same.
"""

import csv
import hashlib
import html
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from ...sweep import sweep
from ..bank import exercise, numbers
from ..lessons import lessons
from ..verdicts import SIGNS, in_words
from .alone import MISSING, UNREADABLE, examined, warm

COLUMNS = (
    *("student", "lesson", "exercise", "verdict", "passed", "total", "misconception", "seconds", "points", "of"),
    *("file", "note"),
)
BEST_FIRST = ("PASS", "NOT YET", "ERROR", "TODO", MISSING, UNREADABLE)
LONGEST_NAME = 80
FORMULA = tuple("=+-@\t\r")  # how a cell begins that a spreadsheet would work out


def notebooks(folder: Path) -> list[tuple[str, Path]]:
    """(student, file) of every notebook below a folder, lesson by lesson. Raises ValueError if there is none.

    Hidden folders, and with them checkpoints, are left out.
    """
    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder}")
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*.ipynb"))]
    files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    if not files:
        raise ValueError(f"{folder}: got no notebook, expected STUDENT/NN_lesson.ipynb or NN_lesson_STUDENT.ipynb")
    return [(student_of(path), folder / path) for path in sorted(files, key=lambda path: (lesson_in(path), path))]


def student_of(path: Path) -> str:
    """The first folder of a path, or else what the file's name has beside the lesson's."""
    if len(path.parts) > 1:
        return path.parts[0][:LONGEST_NAME]
    name = path.stem
    for lesson in lessons().values():
        name = name.replace(lesson.stem, "")
    return (name.strip("_- ") or path.stem)[:LONGEST_NAME]


def lesson_in(path: Path) -> str:
    """The number of the lesson in a file's name, "" if there is none."""
    found = re.search(r"(?<![0-9A-Za-z])(\d\d[a-z]?)_", path.name)
    return found[1] if found and found[1] in numbers() else ""


def grade(folder: Path, seed: int | None = None, jobs: int = 1) -> Iterator[tuple[str, Path, dict]]:
    """(student, file, what was found: alone.examined) of each notebook, as they finish; `jobs` at a time."""
    handed_in = notebooks(folder)
    work = [{"file": str(path), "seed": seed, "folder": str(folder)} for _, path in handed_in]
    for number, found in sweep(_one, work, jobs):
        yield *handed_in[number], found


def _one(file: str, seed: int | None, folder: str) -> dict:
    """What is found in one notebook. The bank's own part of the work is done before, once for each lesson."""
    if lesson := lesson_in(Path(file)):
        warm(lesson, seed)
    return examined(Path(file), seed, [Path(folder)])


def rows(graded: Iterable[tuple[str, Path, dict]], folder: Path, only: Collection[str] = ()) -> list[dict]:
    """One row a student and exercise, sorted; of two files with one lesson the better answer counts.

    `only`: the ids of exercises that were set, where it was not all of them.
    """
    best: dict[tuple[str, str, str], dict] = {}
    for student, path, found in graded:
        file = path.relative_to(folder).as_posix()
        for row in _rows_of(found):
            if only and row["exercise"] and row["exercise"] not in only:
                continue
            row |= {"student": student, "file": file}
            key = (student, row["lesson"], row["exercise"] or file)
            if key not in best or _rank(row) < _rank(best[key]):
                best[key] = row
    return [best[key] for key in sorted(best)]


def _rows_of(found: Mapping) -> list[dict]:
    if "problem" in found:
        nothing = dict.fromkeys(("passed", "total", "seconds", "points", "of"), 0)
        about = {"lesson": "", "exercise": "", "verdict": UNREADABLE, "misconception": "", "note": found["problem"]}
        return [nothing | about | {"says": found["problem"]}]
    made = []
    for answer in found["exercises"]:
        task = exercise(answer["exercise"])
        right = answer["verdict"] == "PASS"
        made.append(
            {
                "lesson": found["lesson"],
                "misconception": answer["mistake"] or "",
                "points": task.importance if right else 0,
                "of": task.importance,
                "note": found["note"],
                "says": _says(answer),
            }
            | {key: answer[key] for key in ("exercise", "verdict", "passed", "total", "seconds")}
        )
    return made


def _rank(row: Mapping) -> tuple[int, int]:
    return BEST_FIRST.index(row["verdict"]), -row["passed"]


def _says(answer: Mapping) -> str:
    """What `check` would print; a function that is missing has nothing to check."""
    if answer["verdict"] in SIGNS:
        return in_words(exercise(answer["exercise"]), dict(answer) | {"seed": None})
    return f"{answer['exercise']}  {answer['verdict']}  {answer.get('hint', '')}"


def write_csv(table: list[dict], out: Path) -> None:
    """The table, for pandas and for spreadsheets: what would begin a formula there gets a ' in front."""
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in table:
            cells = [row[column] for column in COLUMNS]
            writer.writerow([f"'{c}" if isinstance(c, str) and c.startswith(FORMULA) else c for c in cells])


# ---------------------------------------------------------------------------- feedback


def write_feedback(table: list[dict], folder: Path, form: str = "html") -> list[Path]:
    """A page for each student. `form` is "html" or "markdown"."""
    if form not in PAGES:
        raise ValueError(f"feedback: got '{form}', expected one of {', '.join(PAGES)}")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for student in sorted({row["student"] for row in table}):
        own = [row for row in table if row["student"] == student]
        ending, page = PAGES[form]
        written.append(folder / f"{file_name(student)}.{ending}")
        written[-1].write_text(page(student, own), encoding="utf-8")
    return written


def file_name(student: str) -> str:
    """Letters, digits and - of a name; where something is lost, a few more letters keep two students apart."""
    kept = re.sub(r"[^\w-]+", "_", student)
    return kept if kept == student else f"{kept}-{hashlib.sha256(student.encode()).hexdigest()[:6]}"


def sentence(row: Mapping) -> str:
    if row["verdict"] == UNREADABLE:
        return f"{row['file']} could not be read"
    return (
        f"{row['exercise']} {exercise(row['exercise']).title}: {row['verdict']}, {row['points']} of {row['of']} points"
    )


def total(own: list[dict]) -> str:
    return f"{sum(row['points'] for row in own)} of {sum(row['of'] for row in own)} points"


def markdown(student: str, own: list[dict]) -> str:
    """Whatever a student wrote stands in an indented block, where nothing of it is Markdown."""
    parts = [f"# Feedback\n\n    {student}\n\n{total(own)}\n"]
    for row in own:
        block = "\n".join(f"    {line}" for line in row["says"].splitlines())
        parts.append(f"## {sentence(row) if row['exercise'] else 'A file that could not be read'}\n\n{block}\n")
    return "\n".join(parts)


def page(student: str, own: list[dict]) -> str:
    """The same in HTML, without a script, a picture or a link."""
    parts = [
        "<!doctype html>\n<html lang='en'><meta charset='utf-8'>",
        f"<title>Feedback</title>\n<style>{STYLE}</style>",
        f"<h1>Feedback</h1>\n<p>{html.escape(student)}: {total(own)}</p>",
    ]
    for row in own:
        parts.append(f"<h2>{html.escape(sentence(row))}</h2>\n<pre>{html.escape(row['says'])}</pre>")
    return "\n".join(parts) + "\n</html>\n"


PAGES = {"html": ("html", page), "markdown": ("md", markdown)}
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50em;margin:2em auto;padding:0 1em;color-scheme:light dark}"
    "h2{font-size:1.1em;margin-bottom:.2em} pre{white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid;"
    "padding-left:1em}"
)
