"""`samerge-edu class handout`, and the check before handing in."""

import ast
import copy
import json

import pytest
from invented_class import STUDENTS, TROUBLED, filled
from typer.testing import CliRunner

from samerge_edu.cli import app
from samerge_edu.course import bank
from samerge_edu.course.classroom import before, handed_in
from samerge_edu.course.classroom.handout import ANSWERS, edition, exercises_in, for_nbgrader, handout
from samerge_edu.course.classroom.plans import PLANS
from samerge_edu.course.lessons import lessons

SEED = 20240611
every_lesson = pytest.mark.parametrize("number", lessons())


def original(number):
    return json.loads(lessons()[number].read_text(encoding="utf-8"))


def sources(notebook, kind=None):
    return ["".join(c["source"]) for c in notebook["cells"] if kind in (None, c["cell_type"])]


def released(source):
    """What nbgrader's generate_assignment makes of it; data_scripts/test_nbgrader.sh asks the real one."""
    notebook = copy.deepcopy(source)
    for cell in notebook["cells"]:
        lines, out, hidden = cell["source"].split("\n"), [], False
        for line in lines:
            if "BEGIN SOLUTION" in line:
                out.append('    raise NotImplementedError("your turn")')
            hidden = "BEGIN " in line or (hidden and "END " not in line)
            if not hidden and "END " not in line:
                out.append(line)
        cell["source"] = "\n".join(out)
    return notebook


# ---------------------------------------------------------------------------- plain


@every_lesson
def test_the_students_edition_gives_nothing_away(number):
    before_it = original(number)
    notebook = edition(before_it, "no", hints=True)
    text = "\n".join(sources(notebook))
    for task in bank.chapter(number).EXERCISES:
        body = task.solution_source.removeprefix(task.head_source).strip()
        assert task.stub_source in text
        assert body not in "\n".join(sources(notebook, "code"))
        assert all(f"Hint {n} of {len(task.hints)}" in text for n in range(1, len(task.hints) + 1))
    assert [word for word in ANSWERS if f"<summary>{word}</summary>" in text] == []
    assert all(not c["outputs"] and c["execution_count"] is None for c in notebook["cells"] if c["cell_type"] == "code")
    assert before_it == original(number), "the original is not changed"


@every_lesson
def test_the_solved_edition_solves_every_exercise_and_says_it_once(number):
    notebook = edition(original(number), "yes", hints=True)
    code = "\n".join(sources(notebook, "code"))
    for task in bank.chapter(number).EXERCISES:
        assert f'{task.solution_source}\n\n\nse.check("{task.id}", {task.name})' in code
    assert "your turn" not in code
    assert "<summary>Solution" not in "\n".join(sources(notebook))


def test_a_plan_reduces_the_notebooks_and_brings_its_own_lessons(tmp_path):
    name, plan = next(iter(PLANS.items()))
    written, _ = handout(tmp_path / "a", plan=name, solutions="yes")
    assert [path.name.partition("_")[0] for path in written] == sorted(plan.lessons)
    assert 0 < len(exercises_in(written)) < len(bank.every_exercise())
    whole, _ = handout(tmp_path / "b", [plan.lessons[0]], solutions="yes")
    assert len(written[0].read_text(encoding="utf-8")) < len(whole[0].read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match="plan: got 'nap'"):
        handout(tmp_path / "c", plan="nap")
    (other,) = [number for number in list(lessons())[-1:] if number not in plan.lessons] or ["77"]
    with pytest.raises(ValueError, match=f"lessons: got '{other}'"):
        handout(tmp_path / "c", [other], plan=name)


def test_the_exercises_that_were_set_are_named(tmp_path):
    written, _ = handout(tmp_path, ["00", "02"])
    assert exercises_in(written) == [task.id for number in ("00", "02") for task in bank.chapter(number).EXERCISES]


def test_folds_can_be_chosen():
    def folds(solutions, hints):
        text = "\n".join(sources(edition(original("01"), solutions, hints)))
        return "<summary>Solution" in text, "<summary>Hint" in text

    assert folds("folded", True) == (True, True)
    assert folds("folded", False) == (True, False)
    assert folds("no", True) == (False, True)
    assert folds("no", False) == (False, False)


def test_the_command_writes_both_editions_and_writes_nothing_over(tmp_path):
    run = CliRunner().invoke
    result = run(app, ["class", "handout", str(tmp_path / "h"), "--lessons", "01,02b", "--hints", "no"])
    assert result.exit_code == 0, result.output
    names = sorted(path.relative_to(tmp_path / "h").as_posix() for path in (tmp_path / "h").rglob("*.ipynb"))
    assert names == [
        f"{kind}/{name}.ipynb" for kind in ("solution", "student") for name in ("01_task_vectors", "02b_catalogue")
    ]
    assert "Hint 1" not in (tmp_path / "h" / "student" / "01_task_vectors.ipynb").read_text(encoding="utf-8")
    again = run(app, ["class", "handout", str(tmp_path / "h"), "--lessons", "01"])
    assert again.exit_code == 2
    assert "is there already" in again.output


def test_the_solved_edition_alone(tmp_path):
    written, _ = handout(tmp_path, ["00"], solutions="yes")
    assert [path.parent.name for path in written] == ["solution"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--lessons", "77"], "lessons: got '77', expected some of 00, 01"),
        (["--format", "word"], "got 'word', 'no', expected one of plain, nbgrader"),
        (["--solutions", "all"], "got 'plain', 'all'"),
        (["--format", "nbgrader", "--solutions", "yes"], "it takes the solutions out itself"),
        (["--hints", "some"], "hints: got 'some', expected yes or no"),
        (["--seed", "-1"], "seed: got -1"),
    ],
)
def test_a_slip_in_a_call_ends_before_anything_is_written(tmp_path, arguments, says):
    result = CliRunner().invoke(app, ["class", "handout", str(tmp_path / "h"), *arguments])
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert not (tmp_path / "h").exists()


# ---------------------------------------------------------------------------- nbgrader


@every_lesson
def test_every_exercise_has_its_two_cells(number):
    notebook = for_nbgrader(original(number), SEED)
    marked = [c for c in notebook["cells"] if "nbgrader" in c["metadata"]]
    ids = [c["metadata"]["nbgrader"]["grade_id"] for c in marked]
    tasks = bank.chapter(number).EXERCISES
    assert ids == [id for t in tasks for id in (t.id.replace(".", "-"), t.id.replace(".", "-") + "-check")]
    assert len({c["id"] for c in notebook["cells"]}) == len(notebook["cells"])
    for task, solution, check in zip(tasks, marked[::2], marked[1::2], strict=True):
        assert solution["metadata"]["nbgrader"] | {"grade_id": ""} == {
            "schema_version": 3, "grade_id": "", "solution": True, "locked": False, "grade": False, "task": False,
        }  # fmt: skip
        assert check["metadata"]["nbgrader"] | {"grade_id": ""} == {
            "schema_version": 3, "grade_id": "", "solution": False, "locked": True, "grade": True, "task": False,
            "points": task.importance,
        }  # fmt: skip
        names = {}
        exec(compile(ast.parse(f"import torch\n{solution['source']}"), "<cell>", "exec"), names)
        assert names[task.name].__doc__ == task.reference.__doc__
        assert f'se.check("{task.id}", {task.name}, seed={SEED}, must_pass=True)' in check["source"]
        assert "raises-exception" in check["metadata"]["tags"], "a wrong answer must not stop `Run All`"


@every_lesson
def test_what_is_released_has_neither_solution_nor_seed(number):
    notebook = released(for_nbgrader(original(number), SEED))
    text = "\n".join(sources(notebook))
    assert str(SEED) not in text
    for task in bank.chapter(number).EXERCISES:
        assert task.solution_source not in text
        assert f"{task.head_source}\n    raise NotImplementedError" in text
        if task.to_mend is not None:
            assert f"```python\n{task.stub_source}\n```" in text, "the program to be mended is in the text"


def test_a_seed_is_drawn_and_told(tmp_path):
    result = CliRunner().invoke(app, ["class", "handout", str(tmp_path), "--lessons", "00", "--format", "nbgrader"])
    assert result.exit_code == 0, result.output
    seed = result.output.split("--seed ")[1].split("`")[0]
    notebook = (tmp_path / "source" / "00_start_here" / "00_start_here.ipynb").read_text(encoding="utf-8")
    assert notebook.count(f"seed={seed}, must_pass") == len(bank.chapter("00").EXERCISES)
    assert "code_stub" in (tmp_path / "nbgrader_config.py").read_text(encoding="utf-8")


# ---------------------------------------------------------------------------- before handing in


RELEASED = released(for_nbgrader(original("01"), SEED))


def said(tmp_path, notebook):
    path = tmp_path / "01_task_vectors.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return before.problems(path)


@pytest.mark.parametrize("student", ["ada", "bea", "cem", "dan"])
def test_a_sound_file_has_no_problem(tmp_path, student):
    notebook = filled(RELEASED, STUDENTS[student])
    assert said(tmp_path, notebook) == []


@pytest.mark.parametrize(
    ("student", "cause", "n"),
    [
        ("xtampered", "tampered: 01.1: the check was changed", 5),
        ("xcopied", "copied cell: 2 cells are '01-1'", 1),
        ("xlost", "lost metadata: no cell has nbgrader's", 1),
    ],
)
def test_the_cause_is_named(tmp_path, student, cause, n):
    problems = said(tmp_path, TROUBLED[student](copy.deepcopy(RELEASED)))
    assert problems[0].startswith(cause)
    assert len(problems) == n


def test_one_cell_that_lost_its_metadata_was_emptied_or_is_no_python(tmp_path):
    marked = [i for i, c in enumerate(RELEASED["cells"]) if "nbgrader" in c["metadata"]]
    lost, emptied, broken = (copy.deepcopy(RELEASED) for _ in range(3))
    lost["cells"][marked[3]]["metadata"] = {}
    (only,) = said(tmp_path, lost)
    assert only.startswith("lost metadata: 01.2: the cell of the check is gone")
    emptied["cells"][marked[0]]["source"] = "pass"
    assert said(tmp_path, emptied)[0].startswith("tampered: 01.1: its cell no longer defines task_vectors")
    broken["cells"][marked[0]]["source"] = "def task_vectors(:\n    pass"
    assert "SyntaxError" in said(tmp_path, broken)[-1]


def test_the_command_says_it_with_its_exit_code(tmp_path):
    path = tmp_path / "01_task_vectors.ipynb"
    path.write_text(json.dumps(RELEASED), encoding="utf-8")
    good = CliRunner().invoke(app, ["class", "check-submission", str(path)])
    assert (good.exit_code, "nothing is in nbgrader's way" in good.output) == (0, True)
    path.write_text(json.dumps(TROUBLED["xlost"](copy.deepcopy(RELEASED))), encoding="utf-8")
    bad = CliRunner().invoke(app, ["class", "check-submission", str(path)])
    assert (bad.exit_code, "lost metadata" in bad.output) == (1, True)
    path.write_text("[]", encoding="utf-8")
    assert CliRunner().invoke(app, ["class", "check-submission", str(path)]).exit_code == 2


def test_a_stub_of_nbgrader_is_a_stub():
    task = bank.exercise("01.1")
    (node,) = ast.parse(f"{task.head_source}\n    # YOUR CODE HERE\n    raise NotImplementedError()").body
    assert handed_in.is_stub(node, {task.name: task})
