"""A table of grades -> one page about the class: where it fails, at which misconception, and what would have helped.

The page is a single file: drawn in SVG, no script, nothing to fetch. Students are numbered unless names are asked for;
the numbers follow a shuffled order, so that they are not the places in an alphabetical list.
"""

import csv
import html
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..bank import exercise
from ..exercise import Exercise
from .alone import MISSING, UNREADABLE
from .grade import COLUMNS

SOLVED = "PASS"
OTHER = "an answer that the bank does not know"
KINDS = {  # verdict -> what the page calls it, its colour (Okabe and Ito: told apart by everybody) and its pattern
    "PASS": ("solved", "#0072b2"),
    "NOT YET": ("wrong", "#e69f00"),
    "ERROR": ("with an error", "#d55e00"),
    "TODO": ("not begun", "#bbbbbb"),
    MISSING: ("not in the notebook", "#777777"),
}
MOST_COMMON = 12  # misconceptions that are listed


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table that `class grade` wrote. Raises ValueError for another table, or an empty one."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := set(COLUMNS) - set(reader.fieldnames or []):
            raise ValueError(f"{path}: got no column {', '.join(sorted(missing))}; expected what `class grade` writes")
        rows = [row for row in reader]
    if not rows:
        raise ValueError(f"{path}: got no row, expected one a student and exercise")
    if unknown := {row["verdict"] for row in rows} - {*KINDS, UNREADABLE}:
        raise ValueError(f"{path}: got the verdict {sorted(unknown)[0]!r}, expected one of {', '.join(KINDS)}")
    return rows


def pseudonyms(students: Sequence[str], seed: int = 0) -> dict[str, str]:
    """Student -> "Student 07". The order is drawn: it says nothing about the names."""
    order = sorted(set(students))
    random.Random(seed).shuffle(order)
    width = len(str(len(order)))
    return {student: f"Student {number:0{width}}" for number, student in enumerate(order, start=1)}


def page(rows: Sequence[dict[str, str]], names: bool = False) -> str:
    """The whole page. `names`: call the students by their names, in place of numbers."""
    graded = [row for row in rows if row["verdict"] != UNREADABLE]
    students = list(dict.fromkeys(row["student"] for row in rows))
    called = {student: student for student in students} if names else pseudonyms(students)
    tasks = [exercise(id) for id in sorted({row["exercise"] for row in graded})]
    unread = [row for row in rows if row["verdict"] == UNREADABLE]
    parts = [
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>How the class did</title>\n<style>{STYLE}</style></head><body><main>",
        "<h1>How the class did</h1>",
        f"<p>{_count(len(students), 'student')}, {_count(len(tasks), 'exercise')}. {_headline(graded, tasks)}</p>",
        "<h2>Exercise by exercise</h2>",
        *(_bar(task, [row for row in graded if row["exercise"] == task.id]) for task in tasks),
        _legend(),
        "<h2>What was misunderstood</h2>",
        _misconceptions(graded),
        "<h2>Student by student</h2>",
        _table(graded, tasks, called),
    ]
    if unread:
        parts += ["<h2>What could not be read</h2><ul>"]
        parts += [f"<li>{_text(called[row['student']])}: {_text(row['note'])}</li>" for row in unread]
        parts += ["</ul>"]
    parts += [f"<p class='small'>{PRIVACY if not names else ''} A point for each step of an exercise's importance.</p>"]
    return "\n".join([*parts, "</main></body></html>\n"])


PRIVACY = "Names are replaced by numbers in a drawn order; misconceptions are those of the course's bank."


def _headline(graded: list[dict], tasks: list[Exercise]) -> str:
    """The exercise that the fewest of those solved who handed it in."""
    if not tasks:
        return "No notebook could be graded."
    share = {task.id: _share([row for row in graded if row["exercise"] == task.id]) for task in tasks}
    hardest = min(tasks, key=lambda task: share[task.id])
    return f"Fewest solved {hardest.id}, {_text(hardest.title)}: {100 * share[hardest.id]:.0f} %."


def _share(rows: list[dict]) -> float:
    return sum(row["verdict"] == SOLVED for row in rows) / len(rows)


def _bar(task: Exercise, rows: list[dict]) -> str:
    """One bar: of those who handed the notebook in, how many solved it, and what became of the others."""
    counts = Counter(row["verdict"] for row in rows)
    said = ", ".join(f"{counts[kind]} {KINDS[kind][0]}" for kind in KINDS if counts[kind])
    x, pieces = 0.0, []
    for kind, (_, colour) in KINDS.items():
        width = 600 * counts[kind] / len(rows)
        if width:
            pieces.append(f"<rect x='{x:.1f}' y='0' width='{width:.1f}' height='18' fill='{colour}'/>")
        x += width
    return (
        f"<figure><figcaption><b>{task.id}</b> {_text(task.title)}: {said}</figcaption>"
        f"<svg role='img' viewBox='0 0 600 18' preserveAspectRatio='none'>"
        f"<title>Exercise {task.id}: {said}, of {len(rows)}</title>{''.join(pieces)}</svg></figure>"
    )


def _legend() -> str:
    squares = (f"<span class='key' style='background:{colour}'></span>{says}" for says, colour in KINDS.values())
    return f"<p class='small'>{' &nbsp; '.join(squares)}</p>"


def _misconceptions(graded: list[dict]) -> str:
    """The most frequent ones, with the bank's hint; behind them what it does not know, with the exercise's hint."""
    counts = Counter(
        (row["exercise"], row["misconception"]) for row in graded if row["verdict"] in ("NOT YET", "ERROR")
    )
    if not counts:
        return "<p>Nothing: every answer that was begun is right.</p>"
    items = []
    known_first = sorted(counts.items(), key=lambda item: (not item[0][1], -item[1]))
    for (id, key), n in known_first[:MOST_COMMON]:
        task = exercise(id)
        hint = next((m.hint for m in task.mistakes if m.key == key), None)
        what = key.replace("_", " ") if hint else OTHER
        says = f"Hint: {hint}" if hint else f"The exercise's second hint: {task.hints[min(1, len(task.hints) - 1)]}"
        items.append(f"<li><b>{id} {_text(what)}</b>, {_count(n, 'time')}. {_code(says)}</li>")
    return f"<ol>{''.join(items)}</ol>"


def _table(graded: list[dict], tasks: list[Exercise], called: dict[str, str]) -> str:
    by = {(row["student"], row["exercise"]): row for row in graded}
    head = "".join(f"<th scope='col'>{task.id}</th>" for task in tasks)
    lines = []
    for student in sorted(called, key=lambda student: called[student]):
        cells = [by.get((student, task.id)) for task in tasks]
        if not any(cells):
            continue
        shown = "".join(f"<td>{SIGNS[row['verdict']] if row else ''}</td>" for row in cells)
        points, of = (sum(int(float(row[key])) for row in cells if row) for key in ("points", "of"))
        lines.append(f"<tr><th scope='row'>{_text(called[student])}</th>{shown}<td>{points} of {of}</td></tr>")
    signs = ", ".join(f"{sign} {KINDS[kind][0]}" for kind, sign in SIGNS.items())
    return (
        f"<div class='wide'><table><tr><th scope='col'>who</th>{head}<th scope='col'>points</th></tr>"
        f"{''.join(lines)}</table></div><p class='small'>{signs}; empty: the notebook was not handed in</p>"
    )


SIGNS = {"PASS": "✓", "NOT YET": "✗", "ERROR": "!", "TODO": "·", MISSING: "?"}


def _text(words: str) -> str:
    return html.escape(words)


def _code(words: str) -> str:
    """`code` in backticks as <code>; the hints are ours, and escaped all the same."""
    pieces = html.escape(words).split("`")
    return "".join(f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces))


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:0} main{max-width:52rem;margin:2rem auto;padding:0 1rem}
figure{margin:.6rem 0} figcaption{font-size:.95rem} svg{display:block;width:100%;height:18px}
.small{font-size:.85rem} .key{display:inline-block;width:.9em;height:.9em;margin-right:.4em}
.wide{overflow-x:auto} table{border-collapse:collapse} td,th{padding:.1rem .5rem;text-align:center}
th[scope=row]{text-align:left;white-space:nowrap} tr+tr{border-top:1px solid #8886} li{margin:.4rem 0}
"""
