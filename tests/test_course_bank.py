"""Every exercise in the bank keeps its promises, and the audit would say so if it did not."""

import pytest
import torch

from samerge_edu.course import bank
from samerge_edu.course.audit import audit, audit_one
from samerge_edu.course.exercise import Exercise, Quiz


@pytest.mark.parametrize("exercise", bank.every_exercise(), ids=lambda e: e.id)
def test_reference_passes_stub_is_todo_and_every_mistake_gets_its_own_hint(exercise):
    row = audit_one(exercise)
    assert row.problems == []
    assert row.caught == len(exercise.mistakes) >= 4


@pytest.mark.parametrize("number", bank.numbers())
def test_ids_belong_to_their_notebook_and_count_up(number):
    chapter = bank.chapter(number)
    assert [e.id for e in chapter.EXERCISES] == [f"{number}.{i + 1}" for i in range(len(chapter.EXERCISES))]
    assert [q.id for q in chapter.QUIZZES] == [f"{number}.q{i + 1}" for i in range(len(chapter.QUIZZES))]
    for exercise in chapter.EXERCISES:
        assert 1 <= exercise.difficulty <= 5
        assert 1 <= exercise.importance <= 5
        assert exercise.minutes > 0


@pytest.mark.parametrize("quiz", bank.every_quiz(), ids=lambda q: q.id)
def test_every_option_of_a_quiz_has_feedback_of_its_own(quiz):
    assert len(quiz.options) >= 3
    assert len({option.feedback for option in quiz.options.values()}) == len(quiz.options)


def flawed_exercise(**changes) -> Exercise:
    """A sound exercise, unless a change makes it a flawed one."""
    exercise = Exercise("99.1", "Scale", goal="", minutes=1, difficulty=1, importance=1, hints=["Multiply."])

    @exercise.solution
    def scale(matrix, factor=2.0):
        """factor * matrix"""
        return factor * matrix

    wide, square = torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    matrix = square if changes.get("square") else wide

    @exercise.law("the default")
    def _(scale):
        return scale(matrix), 2 * matrix

    if not changes.get("default_only"):

        @exercise.law("factor 3")
        def _(scale):
            return scale(matrix, factor=3.0), 3 * matrix

    mistakes = {
        "forgot": lambda matrix, factor=2.0: matrix,
        "added": lambda matrix, factor=2.0: matrix + factor,
        "squared": lambda matrix, factor=2.0: factor * matrix**2,
        "negated": lambda matrix, factor=2.0: -factor * matrix,
    }
    for name, function in (mistakes | changes.get("mistakes", {})).items():
        function.__name__ = name
        exercise.mistake(changes.get("hint", f"hint of {name}"))(function)
    return exercise


def test_the_audit_finds_nothing_in_a_sound_exercise():
    assert audit_one(flawed_exercise()).problems == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"square": True}, "square"),
        ({"default_only": True}, "no law passes factor"),
        ({"hint": "the same for all"}, "share one hint"),
        ({"mistakes": {"right_after_all": lambda matrix, factor=2.0: matrix * factor}}, "right_after_all: got PASS"),
        ({"mistakes": {"twin": lambda matrix, factor=2.0: matrix + 0}}, "twin: got NOT YET, hint of forgot"),
        ({"mistakes": {"raises": lambda matrix, factor=2.0: matrix @ matrix}}, "raises: got ERROR"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_audit_finds_each_flaw(changes, complaint):
    problems = audit_one(flawed_exercise(**changes)).problems
    assert any(complaint in p for p in problems), problems


def test_the_audit_finds_a_solution_that_cannot_stand_alone():
    exercise = flawed_exercise()

    @exercise.solution
    def scale(matrix, factor=2.0):
        """factor * matrix"""
        return factor * bank_only(matrix)

    def bank_only(matrix):
        return matrix

    assert any("by itself: got ERROR" in p for p in audit_one(exercise).problems)


def test_the_audit_prints_a_line_for_each_exercise_and_says_whether_all_is_well(capsys):
    assert audit() is True
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [e.id for e in bank.every_exercise()]
    assert lines[-1].endswith("0 exercises with problems")


def test_unknown_ids_are_answered_with_those_that_exist():
    with pytest.raises(KeyError, match=r"no exercise '01\.99' in notebook 01, there are 01\.1, 01\.2"):
        bank.exercise("01.99")
    with pytest.raises(KeyError, match="no exercises for notebook '77', there are 00, 01"):
        bank.quiz("77.q1")


def test_a_quiz_whose_right_answer_is_no_option_is_refused():
    with pytest.raises(ValueError, match="got right='c', expected one of"):
        Quiz("99.q1", "?", right="c", a=("1", "no"), b=("2", "yes"))
