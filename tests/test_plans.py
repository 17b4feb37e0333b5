"""The plans: every name in them exists, no stop is shorter than what it holds, what is left of a notebook can run."""

import copy
import json
import re
from functools import cache
from pathlib import Path

import pytest
from run_notebook import ROOT

from samerge_edu.course import bank
from samerge_edu.course.classroom.needs import names, needed, undefined
from samerge_edu.course.classroom.plans import (
    PLANS,
    SECONDS,
    chosen,
    minutes_needed,
    places,
    plan_named,
    reduced,
    source,
    stated,
)

NOTEBOOKS = {path.name.partition("_")[0]: path for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
LESSONS = [(plan.name, lesson) for plan in PLANS.values() for lesson in plan.lessons]
each_lesson = pytest.mark.parametrize(("plan", "lesson"), LESSONS)


@cache
def notebook(lesson: str) -> dict:
    """Read once: nothing here may change it."""
    return json.loads(NOTEBOOKS[lesson].read_text(encoding="utf-8"))


def code(cells: list[dict]) -> list[str]:
    return [source(cell) for cell in cells if cell["cell_type"] == "code"]


# ---------------------------------------------------------------------------- the data


def test_the_three_plans():
    assert {plan.name: plan.minutes for plan in PLANS.values()} == {
        "workshop-90": 90, "half-day": 240, "semester": 14 * 90,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"plan: got 'hour', expected one of workshop-90, half-day, semester"):
        plan_named("hour")


@pytest.mark.parametrize("plan", PLANS.values(), ids=lambda p: p.name)
def test_the_minutes_add_up(plan):
    assert stated(plan.stops) == plan.minutes
    for week in {stop.week for stop in plan.stops} - {0}:
        assert stated([stop for stop in plan.stops if stop.week == week]) == 90, f"week {week}"


@each_lesson
def test_every_name_in_a_plan_exists_and_is_used_once(plan, lesson):
    at, stops = places(notebook(lesson)), [stop for stop in PLANS[plan].of(lesson) if not stop.rest]
    sections = [section for stop in stops for section in stop.sections]
    assert set(sections) <= {p.section for p in at} | {p.part for p in at}
    exercises, quizzes = ([id for stop in stops for id in getattr(stop, k)] for k in ("exercises", "quizzes"))
    assert len({*sections, *exercises, *quizzes}) == len(sections) + len(exercises) + len(quizzes)
    for stop in stops:
        of_its_sections = {p for p in at if p.section in stop.sections or p.part in stop.sections}
        assert set(stop.exercises) <= {p.exercise for p in of_its_sections}
        assert set(stop.quizzes) <= {p.quiz for p in of_its_sections}


@each_lesson
def test_a_stop_is_as_long_as_what_it_holds(plan, lesson):
    """Measured: reading, the exercises' minutes, the kernel's seconds. Changed a lesson? Change the stop's minutes."""
    for stop in PLANS[plan].of(lesson):
        needs = minutes_needed(notebook(lesson), stop, PLANS[plan])
        assert needs <= stop.minutes <= 1.25 * needs + 11, (stop.sections, stop.minutes, round(needs, 1))


def test_every_stop_says_something():
    for plan in PLANS.values():
        for stop in plan.stops:
            assert len(stop.say) > 20
            assert stop.wrong or stop.home or stop.title == "Break"
            assert bool(stop.lesson) != bool(stop.title)
            assert bool(stop.sections) == bool(stop.lesson and not stop.rest)


def test_a_semester_visits_every_lesson_and_leaves_out_nothing():
    """A new lesson? Give it a stop in plans.toml, and measure it: python data_scripts/time_lessons.py NN."""
    assert PLANS["semester"].lessons == list(NOTEBOOKS)
    assert json.loads(SECONDS.read_text(encoding="utf-8")).keys() == NOTEBOOKS.keys()
    for lesson in NOTEBOOKS:
        stops = PLANS["semester"].of(lesson)
        cells = sorted(i for stop in stops for i in chosen(notebook(lesson), stop, PLANS["semester"]))
        assert cells == [
            i for i, c in enumerate(notebook(lesson)["cells"]) if "setup" not in c["metadata"].get("tags", [])
        ]


# ---------------------------------------------------------------------------- where a cell stands


def test_places_of_exercises_and_quizzes():
    at, cells = places(notebook("01")), notebook("01")["cells"]
    for i, place in enumerate(at):
        if "exercise" in (tags := cells[i]["metadata"].get("tags", [])) or "settle" in tags:
            assert f'"{place.exercise}"' in source(cells[i])
    assert [id for id in dict.fromkeys(p.exercise for p in at) if id] == [e.id for e in bank.chapter("01").EXERCISES]
    solutions = [i for i, cell in enumerate(cells) if "<summary>Solution</summary>" in source(cell)]
    assert all(at[i].exercise for i in solutions)
    assert at[cells.index(next(c for c in cells if source(c).startswith("taus = task_vectors")))].exercise == ""


# ---------------------------------------------------------------------------- what a cell needs


@pytest.mark.parametrize(
    ("sources", "kept", "expected"),
    [
        (["x = 1", "y = x", "print(y)"], {2}, {0, 1, 2}),
        (["x = 1", "x = 2", "print(x)"], {2}, {1, 2}),
        (["rows = []", "rows.append(1)", "print(rows)"], {2}, {0, 1, 2}),
        (["t = {}", "t['a'] = 1", "b = 2", "print(t)"], {3}, {0, 1, 3}),
        (["r = {}", "def enter(v):\n    r['v'] = v", "enter(1)", "print(r)"], {3}, {0, 1, 2, 3}),
        (["a = 1", "def f():\n    return a", "def g():\n    return f()", "g()"], {3}, {0, 1, 2, 3}),
        (["a = 1", "b = [a for a in range(3)]", "print(b)"], {2}, {1, 2}),
        (["f = 1", "g = lambda f: f", "g(2)"], {2}, {1, 2}),
        (["def f():\n    return late", "late = 1", "f()"], {2}, {0, 1, 2}),
        (["import torch.nn as nn", "from a import b as c", "c(nn)"], {2}, {0, 1, 2}),
        (["x = 1", "x += 1", "print(x)"], {2}, {0, 1, 2}),
        (["import torch", "torch.add(1)", "torch.zeros(1)"], {2}, {0, 2}),
        (["w = 1", "class A:\n    v = w", "A()"], {2}, {0, 1, 2}),
    ],
)
def test_what_a_cell_needs(sources, kept, expected):
    assert needed(sources, kept) == expected


def test_undefined_names_are_seen():
    assert undefined(["x = y", "def f():\n    return z", "try:\n    1\nexcept ValueError as e:\n    print(e)"]) == [
        "cell 0: y", "cell 1: z",
    ]  # fmt: skip
    assert undefined(["def f():\n    return z", "z = 1"]) == []
    assert names("for i, (a, b) in pairs: print(a)").sets == {"i", "a", "b"}


@pytest.mark.parametrize("lesson", NOTEBOOKS)
def test_the_whole_lessons_define_what_they_use(lesson):
    assert undefined(code(notebook(lesson)["cells"])) == []


# ---------------------------------------------------------------------------- the reduced notebooks


@each_lesson
def test_a_reduced_notebook_defines_what_it_uses(plan, lesson):
    whole = notebook(lesson)
    before = copy.deepcopy(whole)
    small = reduced(whole, plan, lesson)
    assert whole == before
    assert undefined(code(small["cells"])) == []
    assert [source(c) for c in small["cells"][1:3]] == [source(c) for c in whole["cells"][1:3]], "the setup cells"
    ids = [cell["id"] for cell in small["cells"]]
    assert len(set(ids)) == len(ids)
    asked = {id for text in code(small["cells"]) for id in re.findall(r'se\.check\("([^"]+)"', text)}
    stops = PLANS[plan].of(lesson)
    if not any(stop.rest for stop in stops):
        assert asked == {id for stop in stops for id in stop.exercises}
        assert len(small["cells"]) < len(whole["cells"])


def test_an_exercise_that_is_needed_and_not_asked_is_given():
    """The workshop leaves out 02.2, whose trim the toy needs."""
    small = reduced(notebook("02"), "workshop-90", "02")
    given = [cell for cell in small["cells"] if "given" in cell["metadata"].get("tags", [])]
    (trim,) = (cell for cell in given if source(cell) == bank.exercise("02.2").solution_source)
    assert trim["metadata"]["jupyter"]["source_hidden"]
    assert not any("colab" in source(cell) for cell in small["cells"] if cell["cell_type"] == "markdown")


def test_what_is_there_only_for_others_is_folded_under_a_line_that_says_so():
    small = reduced(notebook("01"), "workshop-90", "01")["cells"]
    lines = [
        i
        for i, cell in enumerate(small)
        if cell["cell_type"] == "markdown" and "given" in cell["metadata"].get("tags", [])
    ]
    assert [source(small[i]) for i in lines] == [
        "*The opening is left out; of its code, what is needed below: run it.*",
        "*Exercise 01.2 is left out; its function is needed below: run it.*",
    ]
    assert all(small[i + 1]["metadata"]["tags"] == ["given"] for i in lines)


def test_a_lesson_that_the_plan_does_not_use():
    with pytest.raises(ValueError, match=r"lesson: got '09', expected one of plan workshop-90: 00, 01, 02"):
        reduced(notebook("09"), "workshop-90", "09")


# ---------------------------------------------------------------------------- the page


def test_the_page_says_what_the_data_say():
    """Out of date? python data_scripts/write_plans.py"""
    from data_script import script

    page = Path(ROOT / "docs" / "teaching_plans.md").read_text(encoding="utf-8")
    assert page == script("write_plans").page()
