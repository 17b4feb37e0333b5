"""The committed notebooks are clean, and every rule of the checker bites."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from nbval.plugin import get_sanitize_patterns

from data_scripts import build_notebooks
from data_scripts.check_notebooks import problems
from samerge_edu import TAG

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LESSONS = sorted((ROOT / "notebooks" / "src").glob("[0-9][0-9]*_*.py"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


@each_notebook
def test_no_problem_in_a_committed_notebook(path):
    assert problems(path) == []


def test_every_notebook_has_its_lesson_and_every_lesson_its_notebook():
    assert [p.stem for p in NOTEBOOKS] == [p.stem for p in LESSONS]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda p: p.stem)
def test_a_notebook_is_what_its_lesson_says(lesson):
    """Out of date? python data_scripts/build_notebooks.py"""
    committed = json.loads((ROOT / "notebooks" / f"{lesson.stem}.ipynb").read_text(encoding="utf-8"))
    assert ["".join(c["source"]) for c in committed["cells"]] == [
        c.source for c in build_notebooks.assemble(lesson).cells
    ]


@each_notebook
def test_every_exercise_of_the_bank_is_in_its_notebook(path):
    from samerge_edu.course import bank

    text = path.read_text(encoding="utf-8")
    if (number := path.name.partition("_")[0]) in bank.numbers():
        ids = [item.id for item in (*bank.chapter(number).EXERCISES, *bank.chapter(number).QUIZZES)]
        assert [id for id in ids if f'\\"{id}\\"' not in text] == []


def test_nbval_reads_every_rule_of_the_sanitizer():
    """A `replace:` with nothing after it makes its rule disappear without a word."""
    text = (ROOT / "notebooks" / "sanitize.cfg").read_text(encoding="utf-8")
    rules = [line for line in text.splitlines() if line.startswith("regex:")]
    assert len(get_sanitize_patterns(text)) == len(rules) == 8


# ---------------------------------------------------------------------------- the checker bites


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The demo lesson as if executed: no kernel, two outputs written by hand."""
    lesson = ROOT / "tests" / "demo_lesson" / "01_demo.py"
    notebook = json.loads(json.dumps(build_notebooks.assemble(lesson)))
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    for count, cell in enumerate(code, start=1):
        cell["execution_count"] = count
    code[-2]["outputs"] = [
        {
            "output_type": "display_data",
            "data": {"text/html": '<figure><img alt="The slope is 1." src="data:image/png;base64,iVBO"></figure>'},
            "metadata": {},
        },
        {"output_type": "stream", "name": "stdout", "text": "the slope: 1\n"},
    ]
    return notebook


def written(notebook: dict, folder: Path) -> Path:
    path = folder / "01_demo.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def test_the_clean_notebook_has_no_problem(clean, tmp_path):
    assert problems(written(clean, tmp_path)) == []


def code_cells(notebook):
    return [c for c in notebook["cells"] if c["cell_type"] == "code"]


def add_widgets(nb):
    nb["metadata"]["widgets"] = {}


def other_kernel(nb):
    nb["metadata"]["kernelspec"]["name"] = "my-env"


def other_badge(nb):
    nb["cells"][0]["source"] = nb["cells"][0]["source"].replace("01_demo", "02_demo")


def badge_of_a_tag(nb):
    nb["cells"][0]["source"] = nb["cells"][0]["source"].replace("/blob/main/", f"/blob/{TAG}/")


def changed_setup(nb):
    code_cells(nb)[0]["source"] += "\nimport os"


def unfolded_setup(nb):
    code_cells(nb)[0]["metadata"]["jupyter"]["source_hidden"] = False


def other_lesson(nb):
    code_cells(nb)[1]["source"] = 'lab = se.start("02")'


def out_of_order(nb):
    code_cells(nb)[3]["execution_count"] = 17


def heading_skipped(nb):
    nb["cells"][3]["source"] = "#### Deep"


def two_titles(nb):
    nb["cells"][3]["source"] = "# Again"


def path_in_source(nb):
    code_cells(nb)[-1]["source"] = 'open("/home/me/data.csv")'


def path_in_output(nb):
    code_cells(nb)[-2]["outputs"][1]["text"] = "read C:\\Users\\me"


def shell_line(nb):
    code_cells(nb)[-1]["source"] = "!pip install x"


def unknown_exercise(nb):
    code_cells(nb)[-1]["source"] = 'se.check("01.99", add)'


def unknown_quiz(nb):
    code_cells(nb)[-1]["source"] = 'se.quiz("01.q99")'


def asked_again(nb):
    first = next(c for c in code_cells(nb) if "se.check(" in c["source"])
    code_cells(nb)[-1]["source"] = first["source"]


def long_cell(nb):
    code_cells(nb)[-1]["source"] = "x = 1\n" * 21


def huge_output(nb):
    code_cells(nb)[-2]["outputs"][0]["data"]["text/html"] = "A" * 200_001


def error_output(nb):
    code_cells(nb)[-2]["outputs"].append({"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []})


def warning_output(nb):
    code_cells(nb)[-2]["outputs"].append({"output_type": "stream", "name": "stderr", "text": "careful"})


def stored_widget(nb):
    code_cells(nb)[-2]["outputs"][0]["data"]["application/vnd.jupyter.widget-view+json"] = {}


def plain_png(nb):
    code_cells(nb)[-2]["outputs"][0]["data"]["image/png"] = "iVBORw0KGgo="


def picture_without_words(nb):
    data = code_cells(nb)[-2]["outputs"][0]["data"]
    data["text/html"] = data["text/html"].replace("The slope is 1.", "")


def second_picture_without_words(nb):
    code_cells(nb)[-2]["outputs"][0]["data"]["text/html"] += '<img src="data:image/png;base64,iVBO">'


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (add_widgets, "metadata.widgets"),
        (other_kernel, "kernelspec: got my-env"),
        (other_badge, "badge"),
        (badge_of_a_tag, "badge"),
        (changed_setup, "not the setup cell"),
        (unfolded_setup, "not folded away"),
        (other_lesson, 'does not call se.start("01")'),
        (out_of_order, "not executed once each"),
        (heading_skipped, "level 4 follows one of level 1"),
        (two_titles, "one heading of level 1"),
        (path_in_source, "absolute path /home/m"),
        (path_in_output, "absolute path C:\\Users"),
        (shell_line, "shell line"),
        (unknown_exercise, "'01.99' is not in the bank"),
        (unknown_quiz, "'01.q99' is not in the bank"),
        (asked_again, "is asked 2 times"),
        (long_cell, "21 lines of code"),
        (huge_output, "an output of 200 kB"),
        (error_output, "an error output: ValueError"),
        (warning_output, "stderr"),
        (stored_widget, "a stored widget"),
        (plain_png, "a picture without alternative text"),
        (picture_without_words, "a picture without alternative text"),
        (second_picture_without_words, "a picture without alternative text"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_rule_finds_what_it_is_for(spoil, complaint, clean, tmp_path):
    notebook = copy.deepcopy(clean)
    spoil(notebook)
    found = problems(written(notebook, tmp_path))
    assert any(complaint in problem for problem in found), found


def test_the_command_prints_the_problems_and_fails(clean, tmp_path):
    notebook = copy.deepcopy(clean)
    add_widgets(notebook)
    command = [sys.executable, ROOT / "data_scripts" / "check_notebooks.py", written(notebook, tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "")
    assert "01_demo.ipynb: metadata.widgets is there" in result.stdout
