"""`samerge-edu class report`, and se.progress."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

import samerge_edu as se
from samerge_edu.cli import app
from samerge_edu.course import bank
from samerge_edu.course.classroom import grade, report

TASKS = bank.chapter("01").EXERCISES


def row(student, id, verdict, misconception="", note=""):
    task = bank.exercise(id) if id else None
    about = {"student": student, "lesson": id[:2], "exercise": id, "verdict": verdict, "misconception": misconception}
    points = (
        {"points": task.importance if verdict == "PASS" else 0, "of": task.importance}
        if task
        else {"points": 0, "of": 0}
    )
    return {"passed": 1, "total": 2, "seconds": 0.1, "file": "f", "note": note} | about | points


ROWS = [
    row("Zoe Secret", "01.1", "PASS"),
    row("Zoe Secret", "01.2", "NOT YET", "base_forgotten"),
    row("Yan Hidden", "01.1", "PASS"),
    row("Yan Hidden", "01.2", "NOT YET", "base_forgotten"),
    row("Xi <i>Li</i>", "01.1", "TODO"),
    row("Xi <i>Li</i>", "01.2", "ERROR"),
    row("Will Lost", "", "UNREADABLE", note="<b>no</b> notebook"),
]


@pytest.fixture
def grades(tmp_path):
    grade.write_csv([r | {"says": ""} for r in ROWS], tmp_path / "grades.csv")
    return tmp_path / "grades.csv"


class Page(HTMLParser):
    """What a page holds: its tags, and what is shown of each."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.words.append(data)


def test_a_bar_for_each_exercise_and_the_hardest_is_named(grades):
    text = report.page(report.read(grades))
    bars = re.findall(r"<svg.*?</svg>", text)
    assert len(bars) == 2
    assert "<title>Exercise 01.1: 2 solved, 1 not begun, of 3</title>" in bars[0]
    assert "<title>Exercise 01.2: 2 wrong, 1 with an error, of 3</title>" in bars[1]
    widths = [float(w) for w in re.findall(r"width='([\d.]+)' height='18'", bars[0])]
    assert widths == [400.0, 200.0]
    assert "Fewest solved 01.2, Back to a model: 0 %" in text


def test_the_misconceptions_come_with_the_hint_of_the_bank(grades):
    text = report.page(report.read(grades))
    items = re.findall(r"<li>(.*?)</li>", text)
    (known,) = (m.hint for m in bank.exercise("01.2").mistakes if m.key == "base_forgotten")
    assert "<b>01.2 base forgotten</b>, 2 times" in items[0]
    assert known in items[0]
    assert report.OTHER in items[1]
    assert "Only the update is scaled, never the base." in items[1], "the second hint, where the bank has no own"


def test_names_are_numbers_unless_asked_for_and_nothing_is_markup(grades):
    text = report.page(report.read(grades))
    assert [name for name in ("Zoe", "Yan", "Xi ", "Will") if name in text] == []
    assert {f"Student {n}" for n in (1, 2, 3, 4)} <= set(re.findall(r"Student \d", text))
    named = report.page(report.read(grades), names=True)
    assert "Zoe Secret" in named
    assert "Xi &lt;i&gt;Li&lt;/i&gt;" in named
    assert "<i>" not in named
    assert "<b>no</b>" not in named
    assert "&lt;b&gt;no&lt;/b&gt; notebook" in named


def test_pseudonyms_are_no_alphabetical_list_and_stay_the_same():
    students = [f"s{n:02}" for n in range(20)]
    called = report.pseudonyms(students)
    assert called == report.pseudonyms(students[::-1])
    assert list(called.values()) != sorted(called.values()) or list(called) != students
    assert len(set(called.values())) == 20


def test_the_page_is_one_file_without_scripts_or_links(grades):
    page = Page(report.page(report.read(grades)))
    assert set(page.tags) & {"script", "link", "img", "a", "iframe", "object"} == set()
    assert [name for name, _ in page.attributes if name in ("src", "href") or name.startswith("on")] == []
    assert "url(" not in report.STYLE


def test_the_command_and_what_it_refuses(grades, tmp_path):
    run = CliRunner().invoke
    good = run(app, ["class", "report", str(grades), "--out", str(tmp_path / "r.html")])
    assert good.exit_code == 0, good.output
    assert "Student 1" in (tmp_path / "r.html").read_text(encoding="utf-8")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (tmp_path / "empty.csv").write_text(",".join(grade.COLUMNS) + "\n", encoding="utf-8")
    with grades.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(["s", "01", "01.1", "GREAT", 1, 1, "", 0, 0, 0, "", ""])
    for table, says in {"other": "got no column", "empty": "got no row", "grades": "got the verdict 'GREAT'"}.items():
        result = run(app, ["class", "report", str(tmp_path / f"{table}.csv"), "--out", str(tmp_path / "x.html")])
        assert result.exit_code == 2
        assert says in result.output


# ---------------------------------------------------------------------------- progress


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMERGE_PROGRESS", str(tmp_path / "deep" / "progress.json"))
    return tmp_path / "deep" / "progress.json"


def solved():
    """A learner's own function, which passes 01.2."""
    return lambda theta_0, tau, lam=1.0: {k: theta_0[k] + lam * tau[k] for k in theta_0}


def test_nothing_is_kept_before_it_is_asked_for(file, capsys):
    file.parent.mkdir()
    se.check("01.2", solved())
    se.progress()
    assert list(file.parent.iterdir()) == []
    assert "nothing is kept: se.progress(keep=True)" in capsys.readouterr().out


def test_what_passes_is_kept_with_its_day_and_nothing_else(file, capsys):
    se.progress(keep=True)
    se.check("01.2", solved())
    se.check("01.1", lambda theta_0, thetas: [])
    se.check("01.3", bank.exercise("01.3").reference)  # what settle puts in the place of an unsolved one
    noted = json.loads(file.read_text(encoding="utf-8"))
    assert list(noted) == ["solved"]
    assert list(noted["solved"]) == ["01.2"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", noted["solved"]["01.2"])
    capsys.readouterr()
    se.progress()
    said = capsys.readouterr().out
    assert f"01   1 of {len(TASKS)}   ✓01.2 01.1" in said
    assert str(file) in said


def test_keeping_changes_no_output(file, capsys):
    se.check("01.2", solved())
    without = capsys.readouterr().out
    se.progress(keep=True)
    capsys.readouterr()
    se.check("01.2", solved())
    assert capsys.readouterr().out == without


def test_it_is_deleted_on_request_and_a_broken_file_breaks_nothing(file, capsys):
    se.progress(keep=True)
    file.write_text("[not json", encoding="utf-8")
    se.check("01.2", solved())
    assert "01.2" in json.loads(file.read_text(encoding="utf-8"))["solved"]
    se.progress(forget=True)
    assert not file.exists()
    assert list(file.parent.iterdir()) == []
    se.progress(forget=True)


def test_a_place_that_cannot_be_written_is_told_and_stops_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("SAMERGE_PROGRESS", str(tmp_path / "file" / "progress.json"))
    se.progress(keep=True)
    se.check("01.2", solved())
    said = capsys.readouterr().out
    assert "could not be kept or shown" in said
    assert "01.2  PASS" in said
