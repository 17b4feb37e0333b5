"""A whole lesson: built, run by learners in three states, compared by nbval, and proof that nbval really ran it."""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from data_scripts import build_notebooks, export_notebooks, notebook_cells
from data_scripts.check_notebooks import problems
from data_scripts.solve_notebooks import solved
from samerge_edu.course import bank

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "tests" / "demo_lesson" / "01_demo.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the demo lesson, built, and with nbval's configuration."""
    folder = tmp_path_factory.mktemp("notebooks")
    for name in ("conftest.py", "sanitize.cfg"):
        shutil.copy(ROOT / "notebooks" / name, folder)
    return folder


@pytest.fixture(scope="module")
def demo(folder):
    """The demo lesson with every exercise empty, executed."""
    notebook = executed(build_notebooks.assemble(DEMO), folder)
    nbformat.write(notebook, folder / "01_demo.ipynb")
    return notebook


def executed(notebook, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMERGE_STATIC", "1")
        build_notebooks.execute(notebook, folder)
    return notebook


def done(notebook, ids: set[str]):
    """The notebook after a learner has solved these exercises."""
    return solved(copy.deepcopy(notebook), ids)


def words(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def outputs_of_the_lesson(notebook) -> list:
    """What every learner should see: all outputs but those of the exercises themselves, and of the free memory."""
    return [
        cell.outputs
        for cell in notebook.cells
        if cell.cell_type == "code" and not {"exercise", "settle", "setup"} & set(cell.metadata.get("tags", []))
    ]


def test_run_all_works_in_every_state_and_later_numbers_are_the_same(demo, folder):
    """All exercises empty; half done, with one right and one wrong answer; all done."""
    half = done(build_notebooks.assemble(DEMO), {"01.1"})
    [cell] = [c for c in half.cells if 'se.check("01.2"' in c.source]
    cell.source = cell.source.replace('raise NotImplementedError("your turn")', "return tau")
    all_done = done(build_notebooks.assemble(DEMO), {"01.1", "01.2"})
    for notebook in (half, all_done):
        executed(notebook, folder)
    for notebook, verdicts in ((demo, ["TODO", "TODO"]), (half, ["PASS", "NOT YET"]), (all_done, ["PASS", "PASS"])):
        checks = [words(c) for c in notebook.cells if "exercise" in c.metadata.get("tags", [])]
        assert [text.split("  ")[1].strip() for text in checks] == verdicts
    assert "merged: [1.5, 2.0, 4.0]" in str(outputs_of_the_lesson(demo))
    assert outputs_of_the_lesson(demo) == outputs_of_the_lesson(half) == outputs_of_the_lesson(all_done)


def test_the_built_notebook_is_clean_and_building_again_changes_nothing(demo, folder):
    assert problems(folder / "01_demo.ipynb") == []
    again = build_notebooks.assemble(DEMO)
    assert [(c.id, c.source, c.metadata) for c in again.cells] == [(c.id, c.source, c.metadata) for c in demo.cells]


def test_exercises_and_quizzes_become_their_cells(demo):
    tags = [c.metadata.get("tags", ["-"])[0] for c in demo.cells if c.cell_type == "code"]
    assert tags == ["setup", "setup", "exercise", "settle", "exercise", "settle", "-", "-", "quiz"]
    text = "\n".join(c.source for c in demo.cells if c.cell_type == "markdown")
    assert text.count("<details>") == text.count("</details>") == 2 * 4 + 1  # hints and solutions, one answer
    assert bank.exercise("01.2").solution_source in text


def test_each_cell_has_its_place_on_a_slide(demo):
    kinds = [(c.source.partition("\n")[0][:12], c.metadata.slideshow.slide_type) for c in demo.cells]
    assert [kind for _, kind in kinds[:3]] == ["slide", "skip", "skip"]
    assert {kind for line, kind in kinds if line.startswith("## ")} == {"slide"}
    assert {kind for line, kind in kinds if line.startswith("### ")} == {"subslide"}
    assert {kind for line, kind in kinds if line.startswith("<details>")} == {"-"}
    assert {c.metadata.slideshow.slide_type for c in demo.cells if "settle" in c.metadata.get("tags", [])} == {"skip"}


def test_an_exported_page_has_pictures_with_their_words_and_breaks_long_lines(demo, folder):
    page = export_notebooks.page(folder / "01_demo.ipynb")
    assert page.count('<img alt="At lam = ') == 2
    assert "pre-wrap" in page.partition("</head>")[0]
    assert "find_spec" not in page
    assert "Lesson 01 on this computer" in page


def test_an_open_task_becomes_a_question_a_place_to_write_and_what_a_good_answer_has():
    task = bank.open_task("01.open")
    question, place, good = notebook_cells.open_cells(task)
    assert question.source.startswith(f"## An open task: {task.title}")
    assert task.question in question.source
    assert "write your answer" in place.source
    assert all(f"* {point}" in good.source for point in task.good)
    assert {c.cell_type for c in (question, place, good)} == {"markdown"}


def test_a_lesson_needs_a_title(tmp_path):
    lesson = tmp_path / "99_untitled.py"
    lesson.write_text("# %%\n1 + 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"99_untitled.py: expected a first cell that is text and starts with '# '"):
        build_notebooks.assemble(lesson)


# ---------------------------------------------------------------------------- nbval


SLEEP = ("import time; time.sleep(1.1)", "")
VALUE, PERCENT = "print('norm = 4.72 ✓')", "print('base = 48.1 % ✓')"
PICTURE = (
    "from samerge_edu.course.figures import Picture, Shown\n"
    "display(Shown([Picture(b'', 1, 'at 0.30, best'), Picture(b'', 1, 'b')]))"
)
CASES = {  # name -> cells (source, stored output), does nbval accept them?
    "same": ([SLEEP, ("print('a')", "a\n")], True),
    "another_word": ([SLEEP, ("print('a')", "b\n")], False),
    "another_digit_inside_its_band": ([SLEEP, (VALUE, "norm = 4.71 ✓\n")], True),
    "another_percentage_inside_its_band": ([SLEEP, (PERCENT, "base = 48.0 % ✓\n")], True),
    "another_unit": ([SLEEP, (PERCENT, "base = 48.0 points ✓\n")], True),
    "another_quantity": ([SLEEP, (PERCENT, "merge = 48.0 % ✓\n")], False),
    "outside": ([SLEEP, (VALUE, "norm = 4.91 ✗\n  OUTSIDE 4.60 to 4.80\n")], False),
    "no_band": ([SLEEP, (VALUE, "norm = 4.72 (no band recorded for x)\n")], False),
    "an_exact_number": ([SLEEP, ("print('a = 1.5 b')", "a = 1.6 b\n")], False),
    "words_of_a_picture": ([SLEEP, (PICTURE, "Figure: at 0.35, worst\nFigure: b")], False),
    "digits_of_a_picture": ([SLEEP, (PICTURE, "Figure: at 0.35, best\nFigure: b")], True),
    "digits_of_a_figure": ([SLEEP, ("print('Figure: best at 0.30')", "Figure: best at 0.35\n")], True),
    "words_of_a_figure": ([SLEEP, ("print('Figure: best at 0.30')", "Figure: worst at 0.30\n")], False),
    "number_elsewhere": ([SLEEP, ("print('best at 0.30')", "best at 0.35\n")], False),
    "place_and_memory": ([SLEEP, ("print('Lesson 01 on Binder: 1.0 GB')", "Lesson 01 on Colab: 2.0 GB\n")], True),
    "warning": ([SLEEP, ("import sys; print('careful', file=sys.stderr)", "")], True),
    "too_fast": ([("print('a')", "a\n")], True),
    "half_run": ([SLEEP, ("print('a')", "a\n")], True),
}


@pytest.fixture(scope="module")
def nbval(demo, folder) -> str:
    """What one run of nbval says about the demo lesson and all small notebooks; one cell of half_run is skipped."""
    for name, (cells, _) in CASES.items():
        nbformat.write(small(*cells), folder / f"{name}.ipynb")
    with (folder / "conftest.py").open("a", encoding="utf-8") as conftest:
        conftest.write("\n\ndef pytest_runtest_setup(item):\n")
        conftest.write("    if item.nodeid == 'half_run.ipynb::Cell 1':\n        pytest.skip('not today')\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)]
    command += ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=120", "-q", "-rA", "--tb=no", "--color=no"]
    command += ["--nbval-sanitize-with", str(folder / "sanitize.cfg"), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout


def small(*cells: tuple[str, str]) -> nbformat.NotebookNode:
    """A notebook of (source, stored output) cells."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for count, (source, text) in enumerate(cells, start=1):
        outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
        if source == PICTURE:
            outputs = [nbformat.v4.new_output("display_data", data={"text/plain": text, "text/html": "<img alt='x'>"})]
        notebook.cells.append(nbformat.v4.new_code_cell(source, execution_count=count, outputs=outputs))
    return notebook


def test_strict_nbval_passes_on_the_built_lesson(nbval):
    assert nbval.count("PASSED 01_demo.ipynb::Cell") == 9
    assert "FAILED 01_demo.ipynb" not in nbval


@pytest.mark.parametrize("name", CASES)
def test_what_strict_nbval_compares(name, nbval):
    _, accepted = CASES[name]
    assert f"PASSED {name}.ipynb::Cell 0\n" in nbval
    assert (f"FAILED {name}.ipynb::Cell 1" in nbval) is not accepted


def test_the_ratchet_names_notebooks_that_were_not_really_run_and_no_others(nbval):
    _, _, complaints = nbval.partition("Not really run:\n")
    found = re.findall(r"^  (\w+\.ipynb: .*)", complaints, flags=re.MULTILINE)  # pytest's own report follows
    assert len(found) == 2
    assert found[0].startswith("half_run.ipynb: executed 1 of 2 code cells")
    assert found[1].startswith("too_fast.ipynb: finished in 0.")


def test_the_ratchet_alone_fails_a_run(folder):
    """Otherwise a run without a failing cell would be green."""
    nbformat.write(small(("print('a')", "a\n")), folder / "alone.ipynb")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)]
    command += ["--nbval", "--nbval-current-env", "-q", str(folder / "alone.ipynb")]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "1 passed" in result.stdout
    assert result.returncode == 1
