"""Three plans for a room: what is shown, said and done at each stop, in how many minutes; and notebooks cut down to it.

The plans are data, in plans.toml: copy one there to make your own. A stop names sections and exercises of a lesson by
their headings and ids, so that a plan survives an edit of the lesson; tests/test_plans.py says which name is gone.
"""

import copy
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .. import bank, reading_time
from ..start import FOLDED
from .needs import needed

FILE, SECONDS = (Path(__file__).with_name(name) for name in ("plans.toml", "seconds.json"))
MINUTES_A_QUIZ = 2.0  # think, vote, hear why


@dataclass(frozen=True)
class Stop:
    """One stop: some sections of a lesson, by heading ("" is what stands before the first), and what is done there.

    Without a lesson it is a stop for the people: arrival, a break, a question. `rest`: all that no other stop of the
    plan has of this lesson. `home`: not in the room, and not among the plan's minutes.
    """

    minutes: int
    say: str
    wrong: str = ""
    title: str = ""
    lesson: str = ""
    sections: tuple[str, ...] = ()
    exercises: tuple[str, ...] = ()
    quizzes: tuple[str, ...] = ()
    rest: bool = False
    home: bool = False
    week: int = 0


@dataclass(frozen=True)
class Plan:
    """A plan: for whom, how long in the room, and its stops in order."""

    name: str
    title: str
    audience: str
    minutes: int
    stops: tuple[Stop, ...]

    @property
    def lessons(self) -> list[str]:
        """The numbers of the lessons that it uses, in order of their first stop."""
        return list(dict.fromkeys(stop.lesson for stop in self.stops if stop.lesson))

    def of(self, lesson: str) -> list[Stop]:
        """Its stops in one lesson."""
        return [stop for stop in self.stops if stop.lesson == lesson]


def _plan(name: str, data: dict[str, Any]) -> Plan:
    stops: list[dict[str, Any]] = [
        {k: tuple(v) if isinstance(v, list) else v for k, v in stop.items()} for stop in data.pop("stop")
    ]
    return Plan(name=name, stops=tuple(Stop(**stop) for stop in stops), **data)


PLANS = {name: _plan(name, data) for name, data in tomllib.loads(FILE.read_text(encoding="utf-8")).items()}


def plan_named(name: str) -> Plan:
    """A plan by its name.

    Raises:
        ValueError: no plan has this name.
    """
    if name not in PLANS:
        raise ValueError(f"plan: got '{name}', expected one of {', '.join(PLANS)}")
    return PLANS[name]


# ---------------------------------------------------------------------------- where a cell stands


class Place(NamedTuple):
    """Where a cell stands: under which headings, in which exercise or quiz ("" if none)."""

    section: str  # heading of level 2
    part: str  # heading of level 3, if it is no exercise
    exercise: str
    quiz: str


def places(notebook: dict) -> list[Place]:
    """The place of each cell of a lesson. An exercise is its text, stub, hints and settle; a quiz takes its answer."""
    found, section, part, exercise, quiz, settled = [], "", "", "", "", False
    for cell in notebook["cells"]:
        text, tags = source(cell), cell["metadata"].get("tags", [])
        headings = re.findall(r"^(###?) (.*)", text, re.MULTILINE) if cell["cell_type"] == "markdown" else []
        heading = next((h for level in ("##", "###") for h in headings if h[0] == level), None)
        begins = re.match(r"### Exercise ([\w.]+):", text)
        answer = cell["cell_type"] == "markdown" and text.startswith("<details>")
        exercise = "" if settled or (exercise and heading) else exercise
        exercise = "" if exercise and not answer and not {"exercise", "settle"} & set(tags) else exercise
        quiz = quiz if quiz and answer else ""
        if begins:
            exercise = begins[1]
        elif heading:
            section, part = (heading[1], "") if heading[0] == "##" else (section, heading[1])
        elif "quiz" in tags:
            quiz = re.findall(r'se\.quiz\("([^"]+)"\)', text)[0]
        settled = "settle" in tags
        found.append(Place(section, part, exercise, quiz))
    return found


def source(cell: dict) -> str:
    """A cell's text, whether the file holds it whole or in lines."""
    return "".join(cell["source"])


# ---------------------------------------------------------------------------- minutes


def chosen(notebook: dict, stop: Stop, plan: Plan) -> list[int]:
    """The cells that a stop shows: its sections, and of their exercises and quizzes only those that it names."""
    others = [other for other in plan.of(stop.lesson) if not other.rest]
    taken = {i for other in others if stop.rest for i in chosen(notebook, other, plan)}
    kept = []
    for i, place in enumerate(places(notebook)):
        if stop.rest:
            keep = i not in taken
        elif place.exercise or place.quiz:
            keep = place.exercise in stop.exercises or place.quiz in stop.quizzes
        else:
            keep = place.section in stop.sections or bool(place.part and place.part in stop.sections)
        if keep and "setup" not in notebook["cells"][i]["metadata"].get("tags", []):
            kept.append(i)
    return kept


def minutes_needed(notebook: dict, stop: Stop, plan: Plan) -> float:
    """What a stop takes, measured: its text read, its exercises' minutes, its quizzes, and the kernel's work."""
    at = places(notebook)
    shown = chosen(notebook, stop, plan)
    plain = [notebook["cells"][i] for i in shown if not (at[i].exercise or at[i].quiz)]
    texts, codes = ([source(cell) for cell in plain if cell["cell_type"] == kind] for kind in ("markdown", "code"))
    exercises = {at[i].exercise for i in shown} - {""}
    quizzes = {at[i].quiz for i in shown} - {""}
    seconds = json.loads(SECONDS.read_text(encoding="utf-8"))[stop.lesson]
    runs = sum(seconds.get(section, 0.0) for section in {at[i].section for i in shown})
    done = sum(bank.exercise(id).minutes for id in exercises)
    return reading_time.exact_minutes(texts, codes) + done + MINUTES_A_QUIZ * len(quizzes) + runs / 60


# ---------------------------------------------------------------------------- the reduced notebook


def reduced(notebook: dict, plan: str, lesson: str) -> dict:
    """A copy of a lesson with what a plan shows of it, and what that needs to run; outputs and ids are kept.

    A cell that is there only because others need it is folded, under a line that says so. An exercise that is not in
    the plan, but whose function is needed, becomes its solution.

    Args:
        notebook: the lesson as notebooks/ has it (a dict, or nbformat's NotebookNode); not changed.
        plan: a name in PLANS.
        lesson: a number that the plan uses, "02b".

    Raises:
        ValueError: no such plan, or the plan does not use this lesson.
    """
    its = plan_named(plan)
    if lesson not in its.lessons:
        raise ValueError(f"lesson: got '{lesson}', expected one of plan {plan}: {', '.join(its.lessons)}")
    cells, at = copy.deepcopy(notebook["cells"]), places(notebook)
    shown = {i for stop in its.of(lesson) for i in chosen(notebook, stop, its)} | {0}
    shown |= {i for i, cell in enumerate(cells) if "setup" in cell["metadata"].get("tags", [])}
    code = [i for i, cell in enumerate(cells) if cell["cell_type"] == "code"]
    kept = needed([source(cells[i]) for i in code], [k for k, i in enumerate(code) if i in shown])
    keep = shown | {code[k] for k in kept}

    cells[0]["source"] = _opening(source(cells[0]), its, lesson)
    new: list[dict] = []
    skipped = None  # the section, or exercise, whose needed cells are being collected
    for i in sorted(keep):
        if i not in shown:
            if (at[i].section, at[i].exercise) != skipped:
                skipped = at[i].section, at[i].exercise
                new.append(_note(cells[0], f"given-{i:03d}", at[i]))
            if at[i].exercise and "settle" in cells[i]["metadata"].get("tags", []):
                continue  # the solution stands in its stub's place
            cells[i] = _given(cells[i], at[i].exercise)
        else:
            skipped = None
        new.append(cells[i])
    smaller = copy.copy(notebook)
    smaller["cells"] = new
    return smaller


def _opening(first: str, plan: Plan, lesson: str) -> str:
    """The title and the goals; in place of the badges, which open the whole lesson, and of its minutes, the plan's."""
    heading, _, rest = first.partition("\n")
    paragraphs = [p for p in rest.strip().split("\n\n") if not p.startswith(("[![", "**Needs**"))]
    room = sum(stop.minutes for stop in plan.of(lesson) if not stop.home)
    line = f"*{plan.title}: {room} minutes of it here. What is left out stands in the whole lesson {lesson}.*"
    return "\n\n".join([heading, line, *paragraphs])


def _note(like: dict, id: str, place: Place) -> dict:
    """A line above cells of a section, or the solution of an exercise, that the plan leaves out."""
    note = {key: value for key, value in copy.deepcopy(like).items() if key != "id"}
    where = f'The section "{place.section}"' if place.section else "The opening"
    text = f"*{where} is left out; of its code, what is needed below: run it.*"
    if place.exercise:
        text = f"*Exercise {place.exercise} is left out; its function is needed below: run it.*"
    note |= {"source": text, "id": id}
    note["metadata"] = {"slideshow": {"slide_type": "skip"}, "tags": ["given"]}
    return note


def _given(cell: dict, exercise: str) -> dict:
    """A cell that is needed and not shown, folded away; an exercise's stub becomes its solution."""
    cell["metadata"] = {**cell["metadata"], "jupyter": FOLDED["jupyter"], "tags": ["given"]}
    if exercise:
        cell["source"], cell["outputs"] = bank.exercise(exercise).solution_source, []
    return cell


def stated(stops: Sequence[Stop]) -> int:
    """Minutes in the room."""
    return sum(stop.minutes for stop in stops if not stop.home)
