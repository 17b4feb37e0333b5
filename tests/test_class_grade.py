"""`samerge-edu class grade`: functions by name, one process a notebook, and notebooks that mean harm."""

import csv
import json
import os
import time
from pathlib import Path

import pytest
from invented_class import STUDENTS, filled
from typer.testing import CliRunner

from samerge_edu.cli import app
from samerge_edu.course import bank
from samerge_edu.course.classroom import alone, grade, handed_in
from samerge_edu.course.classroom.handout import edition
from samerge_edu.course.lessons import lessons

SEED = 11
STUDENT_EDITION = edition(json.loads(lessons()["01"].read_text(encoding="utf-8")), "no", True)
IDS = [task.id for task in bank.chapter("01").EXERCISES]
linux = pytest.mark.skipif(not alone.CAN_FORK, reason="the kernel's guards are Linux's")


def cell(source, **more):
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None} | more


def notebook(*sources):
    return {"cells": [cell('import torch\nimport samerge_edu as se\nlab = se.start("01")'), *map(cell, sources)]}


def found(tmp_path, content, seed=None, name="01_task_vectors.ipynb"):
    path = tmp_path / "who" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return alone.examined(path, seed, [tmp_path])


def verdicts(answer):
    return {row["exercise"]: row["verdict"] for row in answer["exercises"]}


def solution(id):
    return bank.exercise(id).solution_source


# ---------------------------------------------------------------------------- what is found


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The class of twelve, graded by the command."""
    folder = tmp_path_factory.mktemp("class")
    for student, answer in STUDENTS.items():
        if student == "gus":
            continue  # ten seconds of an endless loop: there is a shorter one below
        path = folder / "handed_in" / student / "anything" / "01_task_vectors.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(filled(STUDENT_EDITION, answer)), encoding="utf-8")
    command = ["class", "grade", str(folder / "handed_in"), "--out", str(folder / "grades.csv"), "--seed", str(SEED)]
    result = CliRunner().invoke(app, [*command, "--jobs", "1", "--feedback", "markdown"])
    assert result.exit_code == 0, result.output
    with (folder / "grades.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return folder, rows


def of(table, student):
    return {row["exercise"]: row for row in table[1] if row["student"] == student}


def test_one_row_a_student_and_exercise(table):
    assert [(row["student"], row["exercise"]) for row in table[1]] == sorted(
        (student, id) for student in STUDENTS if student != "gus" for id in IDS
    )
    assert list(table[1][0]) == list(grade.COLUMNS)


@pytest.mark.parametrize("student", ["ada", "bea", "kim"])
def test_right_answers_pass_whatever_they_are_written_like(table, student):
    for id, row in of(table, student).items():
        assert (row["verdict"], row["passed"]) == ("PASS", row["total"])
        assert row["points"] == row["of"] == str(bank.exercise(id).importance)


def test_half_and_empty(table):
    assert [row["verdict"] for row in of(table, "cem").values()] == ["PASS", "TODO", "PASS", "TODO", "PASS"]
    assert {row["verdict"] for row in of(table, "dan").values()} == {"TODO"}
    assert {row["points"] for row in of(table, "dan").values()} == {"0"}


@pytest.mark.parametrize(("student", "which"), [("eve", 0), ("fay", 1)])
def test_a_misconception_has_its_name(table, student, which):
    for id, row in of(table, student).items():
        if row["verdict"] != "PASS":  # a mistake that needs what a student's cell does not have
            assert row["misconception"] == bank.exercise(id).mistakes[which].key
    assert sum(row["verdict"] == "NOT YET" for row in of(table, student).values()) >= 4


def test_one_greedy_function_costs_its_own_points_only(table):
    assert [row["verdict"] for row in of(table, "hal").values()] == ["PASS", "ERROR", "PASS", "PASS", "PASS"]


def test_errors_exits_and_answers_by_heart(table):
    assert {row["verdict"] for row in of(table, "ivy").values()} == {"ERROR", "NOT YET"}
    assert {row["verdict"] for row in of(table, "jon").values()} == {"ERROR"}
    assert "PASS" not in {row["verdict"] for row in of(table, "lea").values()}


def test_without_a_seed_answers_by_heart_pass(tmp_path):
    content = filled(STUDENT_EDITION, STUDENTS["lea"])
    assert "PASS" in verdicts(found(tmp_path, content)).values()


def test_feedback_says_what_check_would_and_nothing_in_it_is_markup(table, tmp_path):
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (table[0] / "grades_feedback").glob("*.md")}
    assert set(pages) == set(STUDENTS) - {"gus"}
    assert "## 01.1 The task vector: NOT YET, 0 of 5 points" in pages["eve"]
    assert bank.exercise("01.1").mistakes[0].hint in pages["eve"]
    assert "21 of 22 points" not in pages["ada"]
    spoken = [{"says": "<script>x</script>", "exercise": "01.1", "verdict": "ERROR", "points": 0, "of": 5}]
    html = grade.page("<b>me</b>", spoken)
    assert "<script>" not in html
    assert "<b>" not in html
    assert "    <script>x</script>" in grade.markdown("me", spoken), "an indented block"


def test_copied_cells_lost_metadata_magics_and_a_broken_cell_do_not_matter(tmp_path):
    stub = bank.exercise("01.1").stub_source
    answer = found(
        tmp_path,
        notebook(
            f"%matplotlib inline\n!pip list\n{solution('01.1')}",
            stub,  # the copy that was left empty
            "def add(theta_0, tau, lam=1.0:\n    pass",
            solution("01.5").replace("def length_of_sum", "def mine") + "\n\nlength_of_sum = mine",
            "raise RuntimeError('no definition: it is not run')",
        ),
    )
    assert verdicts(answer) == {
        "01.1": "PASS",
        "01.2": "ERROR",
        "01.3": "MISSING",
        "01.4": "MISSING",
        "01.5": "PASS",
    }
    (broken,) = (row for row in answer["exercises"] if row["exercise"] == "01.2")
    assert "SyntaxError" in broken["error"]


def test_the_last_definition_counts_and_an_import_that_fails_is_told(tmp_path):
    wrong = solution("01.1").replace("-", "+")
    assert verdicts(found(tmp_path, notebook(solution("01.1"), wrong)))["01.1"] == "NOT YET"
    answer = found(tmp_path, notebook(wrong, f"import not_installed_anywhere\n{solution('01.1')}"))
    assert verdicts(answer)["01.1"] == "PASS"
    assert "import not_installed_anywhere: ModuleNotFoundError" in answer["note"]


def test_an_unsolved_function_is_the_reference_for_those_behind_it_as_in_the_notebook(tmp_path):
    calls_it = solution("01.2").replace("    return", "    task_vectors(theta_0, [theta_0])\n    return")
    assert verdicts(found(tmp_path, notebook(bank.exercise("01.1").stub_source, calls_it)))["01.2"] == "PASS"


def test_which_lesson_and_whose(tmp_path):
    read = handed_in.lesson_of
    assert read(['lab = se.start("03")', 'se.check("01.1", f)']) == "03"
    assert read(['se.check("01.1", f)', 'se.check("02b.1", f)', "x = se.settle('02b.2', x)"]) == "02b"
    assert read(["def keep_best(scores, k):\n    pass"]) == "03"
    with pytest.raises(ValueError, match="without any exercise"):
        read(["print(1)"])
    for path, student in {
        "ada/01_task_vectors.ipynb": "ada",
        "Ada L_123_file/x/01.ipynb": "Ada L_123_file",
        "01_task_vectors_ada.ipynb": "ada",
        "ada-01_task_vectors.ipynb": "ada",
        "whatever.ipynb": "whatever",
    }.items():
        assert grade.student_of(Path(path)) == student


def test_of_two_files_the_better_answer_counts(tmp_path):
    def answer(verdict, passed):
        row = {"exercise": "01.1", "verdict": verdict, "passed": passed, "total": 4, "seconds": 0.1, "mistake": None}
        return {"lesson": "01", "exercises": [row], "note": ""}

    graded = [("a", tmp_path / "1.ipynb", answer("NOT YET", 3)), ("a", tmp_path / "2.ipynb", answer("PASS", 4))]
    for order in (graded, graded[::-1]):
        ((row),) = grade.rows(order, tmp_path)
        assert (row["verdict"], row["file"]) == ("PASS", "2.ipynb")


def test_only_what_was_set_is_graded(tmp_path):
    answer = found(tmp_path, notebook(*map(solution, IDS)))
    graded = [("a", tmp_path / "1.ipynb", answer), ("b", tmp_path / "2.ipynb", {"problem": "no"})]
    assert [row["exercise"] for row in grade.rows(graded, tmp_path, ["01.3", "01.1"])] == ["01.1", "01.3", ""]
    assert len(grade.rows(graded, tmp_path)) == len(IDS) + 1


def test_no_cell_of_the_table_is_a_formula(tmp_path):
    row = dict.fromkeys(grade.COLUMNS, 0) | {"student": "=HYPERLINK(1)", "note": "@x", "file": "-a"}
    grade.write_csv([row], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()[1].startswith("'=HYPERLINK(1)")
    assert "'@x" in (tmp_path / "t.csv").read_text(encoding="utf-8")


# ---------------------------------------------------------------------------- harm


def harmful(id, body):
    head = bank.exercise(id).head_source
    return head + "\n" + "\n".join(f"    {line}" for line in body.splitlines())


def caught(tmp_path, body, id="01.1"):
    """The verdict on a function with this body, after making sure that its neighbours were graded."""
    answer = found(tmp_path, notebook(harmful(id, body), *(solution(other) for other in IDS if other != id)))
    rows = {row["exercise"]: row for row in answer["exercises"]}
    assert {row["verdict"] for other, row in rows.items() if other != id} == {"PASS"}
    return rows[id]


def test_an_endless_loop_is_stopped_and_the_others_are_graded(tmp_path, monkeypatch):
    monkeypatch.setattr(alone, "BETWEEN", 2.0)
    start = time.monotonic()
    assert "does a loop never end?" in caught(tmp_path, "while True: pass")["error"]
    assert time.monotonic() - start < 30


def test_memory_is_limited(tmp_path):
    assert "more than 2048 MB" in caught(tmp_path, "return [0] * 10**10")["error"]


@pytest.mark.parametrize(
    "body",
    [
        "import os\nos._exit(0)",
        "raise KeyboardInterrupt",
        "import sys\nsys.exit(1)",
        "raise SystemExit",
        "import ctypes\nctypes.string_at(0)",
    ],
)
def test_an_exit_ends_one_exercise(tmp_path, body):
    assert caught(tmp_path, body)["verdict"] == "ERROR"


@pytest.mark.parametrize(
    "body",
    [
        "import os\nos.remove(TREASURE)",
        "import shutil\nshutil.rmtree(FOLDER)",
        "open(TREASURE, 'w').write('x')",
        "import os\nos.write(os.open(TREASURE, os.O_WRONLY | os.O_TRUNC), b'x')",
        "import os\nos.rename(TREASURE, TREASURE + '2')",
        "import pathlib\npathlib.Path(TREASURE).unlink()",
        "open(TREASURE).read()",  # another student's work
        "import subprocess\nsubprocess.run(['rm', '-r', FOLDER])",
        "import os\nos.system('rm -r ' + FOLDER)",
        "import os\nos.fork()",
        "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
        "import ctypes\nctypes.CDLL(None).unlink(TREASURE.encode())",
        "import socket\nsocket.create_connection(('127.0.0.1', 9))",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')",
    ],
)
def test_files_processes_and_the_network_are_closed(tmp_path, body):
    (tmp_path / "treasure").mkdir()
    treasure = tmp_path / "treasure" / "gold.txt"
    treasure.write_text("gold", encoding="utf-8")
    body = body.replace("TREASURE", repr(str(treasure))).replace("FOLDER", repr(str(treasure.parent)))
    row = caught(tmp_path, body)
    assert row["verdict"] == "ERROR"
    assert "closed" in row["error"]
    assert treasure.read_text(encoding="utf-8") == "gold"
    assert [path.name for path in treasure.parent.iterdir()] == ["gold.txt"]


@linux
def test_beneath_python_the_kernel_keeps_the_files(tmp_path):
    """The same doors, for a library that does not ask Python: here the audit events are left out."""
    from samerge_edu.course import doors
    from samerge_edu.course.limits import run_limited

    treasure = tmp_path / "gold.txt"
    treasure.write_text("gold", encoding="utf-8")

    def job(report):
        doors._ask_the_kernel()
        errors = []
        for attempt in (treasure.unlink, lambda: treasure.write_text("x"), lambda: (tmp_path / "new").mkdir()):
            try:
                attempt()
            except OSError as e:
                errors.append(type(e).__name__)
        return {"errors": errors}

    if not (answer := run_limited(job, alone=True))["errors"]:
        pytest.skip("this kernel has no Landlock")
    assert answer["errors"] == ["PermissionError"] * 3
    assert treasure.read_text(encoding="utf-8") == "gold"


def test_definitions_are_run_behind_closed_doors_too(tmp_path):
    treasure = tmp_path / "gold.txt"
    treasure.write_text("gold", encoding="utf-8")
    evil = f"import os\ndef f(x=os.remove({str(treasure)!r})):\n    pass"
    answer = found(tmp_path, notebook(evil, solution("01.1")))
    assert verdicts(answer)["01.1"] == "PASS"
    assert "closed" in answer["note"]
    assert treasure.exists()


def test_huge_output_is_cut_and_goes_nowhere(tmp_path, capfd):
    body = "import os\nprint('x' * 10**7)\nos.write(1, b'loud')\nos.write(2, b'loud')\nreturn 0"
    row = caught(tmp_path, body)
    assert max(len(str(value)) for value in row.values()) <= 1100
    assert "loud" not in "".join(capfd.readouterr())


@linux
@pytest.mark.parametrize("line", ["b'garbage' + end", "b'[' * 100_000 + end", "b'[1, 2]' + end", "b'x' * 10_000_000"])
def test_what_is_written_into_the_pipe_is_not_believed(tmp_path, line):
    read_end, write_end = os.pipe()  # stands for what this process has open: a table, a worker's pipe
    os.set_blocking(read_end, False)
    write = f"import os\nend = bytes([10])\nfor fd in range(3, 99):\n    try: os.write(fd, {line})"
    write += "\n    except OSError: pass"
    answer = found(tmp_path, notebook(harmful("01.1", f"{write}\nreturn []")))
    assert "PASS" not in {row["verdict"] for row in answer.get("exercises", [])}
    with pytest.raises(BlockingIOError):
        os.read(read_end, 1)
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize(
    "forged",
    [
        {"lesson": "01", "exercises": []},
        {"lesson": "99", "exercises": []},
        {"lesson": "01", "exercises": [{"exercise": id, "verdict": "PASS"} for id in IDS] * 2},
        {"lesson": "01", "exercises": [{"exercise": id, "verdict": "<script>"} for id in IDS]},
        {},
    ],
)
def test_an_answer_with_another_form_is_nonsense(forged):
    assert alone._trusted(forged) == {"problem": "its process answered nonsense"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[" * 200_000, "no|deeply"),
        ("{}", "no Jupyter notebook"),
        ("\x00\x01", "no Jupyter notebook"),
        ('{"cells": 3}', "no Jupyter notebook"),
        ('{"cells": [3]}', "no Jupyter notebook"),
        ('{"cells": [{"source": [["deep"]]}]}', "no Jupyter notebook"),
        ('{"cells": []}', "without any exercise"),
    ],
)
def test_what_is_no_notebook_is_a_row_that_says_so(tmp_path, content, says):
    answer = found(tmp_path, content)
    assert set(answer) == {"problem"}
    ((row),) = grade.rows([("who", tmp_path / "01.ipynb", answer)], tmp_path)
    assert row["verdict"] == "UNREADABLE"
    assert any(part in row["note"] for part in says.split("|"))


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "01_x.ipynb"
    with path.open("wb") as file:
        file.truncate(handed_in.MOST_BYTES + 1)
    assert "expected a notebook of less than" in alone.examined(path)["problem"]


def test_deeply_nested_python_is_the_fault_of_one_cell(tmp_path):
    deep = "def add(theta_0, tau, lam=1.0):\n    return " + "(" * 5000 + ")" * 5000
    assert verdicts(found(tmp_path, notebook(deep, solution("01.1"))))["01.1"] == "PASS"


def test_where_fork_is_missing_an_interpreter_does_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(alone, "CAN_FORK", False)
    answer = found(tmp_path, notebook(solution("01.1"), harmful("01.2", "import os\nos.remove('/nothing')")), seed=3)
    assert verdicts(answer)["01.1"] == "PASS"
    (closed,) = (row for row in answer["exercises"] if row["exercise"] == "01.2")
    assert "closed" in closed["error"]


def test_bad_calls_end_with_one_line(tmp_path):
    for command, says in {
        ("class", "grade", str(tmp_path)): "got no notebook, expected STUDENT/NN_lesson.ipynb",
        ("class", "grade", str(tmp_path / "none")): "no such folder",
        ("class", "grade", str(tmp_path), "--feedback", "pdf"): "got 'pdf', expected one of html, markdown, no",
        ("class", "grade", str(tmp_path), "--seed", "-1"): "seed: got -1",
        ("class", "grade", str(tmp_path), "--exercises", "01.77"): "no exercise '01.77' in notebook 01",
        ("class", "grade", str(tmp_path), "--out", str(tmp_path)): "it is a folder",
    }.items():
        result = CliRunner().invoke(app, [*command])
        assert result.exit_code == 2
        assert says in result.output
    assert os.listdir(tmp_path) == []
