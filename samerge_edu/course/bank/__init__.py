"""The bank: one file a notebook (ex00.py, ex01.py, ...), each ending with its EXERCISES, QUIZZES and OPEN tasks."""

import pkgutil
from importlib import import_module
from types import ModuleType

from ..exercise import Exercise, OpenTask, Quiz


def numbers() -> list[str]:
    """Numbers of the notebooks that have a bank file: ['00', '01', ...]."""
    return sorted(m.name.removeprefix("ex") for m in pkgutil.iter_modules(__path__) if m.name.startswith("ex"))


def chapter(number: str) -> ModuleType:
    """The bank file of one notebook. Raises KeyError if there is none."""
    if number not in numbers():
        raise KeyError(f"no exercises for notebook '{number}', there are {', '.join(numbers())}")
    return import_module(f"{__name__}.ex{number}")


def exercise(id: str) -> Exercise:
    """The exercise with this id, such as "01.2". Raises KeyError with the ids there are."""
    return _find(id, chapter(_number(id)).EXERCISES, "exercise")


def quiz(id: str) -> Quiz:
    """The quiz question with this id, such as "01.q1". Raises KeyError with the ids there are."""
    return _find(id, chapter(_number(id)).QUIZZES, "quiz")


def open_task(id: str) -> OpenTask:
    """The open task with this id, such as "01.open". Raises KeyError with the ids there are."""
    return _find(id, open_tasks(_number(id)), "open task")


def open_tasks(number: str) -> list[OpenTask]:
    return getattr(chapter(number), "OPEN", [])


def every_exercise() -> list[Exercise]:
    return [e for number in numbers() for e in chapter(number).EXERCISES]


def every_quiz() -> list[Quiz]:
    return [q for number in numbers() for q in chapter(number).QUIZZES]


def _number(id: str) -> str:
    return str(id).partition(".")[0]


def _find(id: str, items: list, what: str):
    for item in items:
        if item.id == id:
            return item
    raise KeyError(f"no {what} '{id}' in notebook {_number(id)}, there are {', '.join(i.id for i in items)}")
