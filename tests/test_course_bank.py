"""Every exercise in the bank keeps its promises, and the audit would say so if it did not."""

import re
from pathlib import Path

import pytest
import torch

from samerge_edu.course import bank
from samerge_edu.course.attack import EQUIVALENT, NONE, OWN, SLIP, attack, attack_one
from samerge_edu.course.audit import audit, audit_one
from samerge_edu.course.exercise import KINDS, Exercise, Quiz
from samerge_edu.course.slips import slips

SOURCES = Path(__file__).resolve().parents[1] / "notebooks" / "src"
NOT_YET: set[str] = set()


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


def test_the_right_option_is_not_the_longest_more_often_than_chance():
    longest = [max(q.options, key=lambda letter: len(q.options[letter].text)) == q.right for q in bank.every_quiz()]
    assert sum(longest) <= sum(1 / len(q.options) for q in bank.every_quiz())


@pytest.mark.parametrize("quiz", [q for q in bank.every_quiz() if q.id[:2] not in NOT_YET], ids=lambda q: q.id)
def test_the_options_of_a_quiz_are_of_similar_length(quiz):
    lengths = [len(option.text) for option in quiz.options.values()]
    assert max(lengths) <= 1.3 * min(lengths)


def test_no_letter_is_right_in_more_than_half_of_the_quizzes():
    right = [q.right for q in bank.every_quiz()]
    assert max(map(right.count, "abcd")) <= len(right) / 2


@pytest.mark.parametrize("number", bank.numbers())
def test_exercises_quizzes_and_the_open_task_come_in_the_order_of_the_text(number):
    [source] = SOURCES.glob(f"{number}_*.py")
    marks = re.findall(r"^# (EXERCISE|QUIZ|OPEN) (\S+)$", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    chapter = bank.chapter(number)
    assert [id for what, id in marks if what == "EXERCISE"] == [e.id for e in chapter.EXERCISES]
    assert [id for what, id in marks if what == "QUIZ"] == [q.id for q in chapter.QUIZZES]
    assert [id for what, id in marks if what == "OPEN"] == [t.id for t in bank.open_tasks(number)]


@pytest.mark.parametrize("number", [n for n in bank.numbers() if n not in NOT_YET])
def test_half_of_the_exercises_ask_for_more_than_a_formula_and_one_task_is_open(number):
    kinds = [e.kind for e in bank.chapter(number).EXERCISES]
    assert set(kinds) <= KINDS.keys()
    assert sum(kind != "write" for kind in kinds) >= len(kinds) / 2
    [task] = bank.open_tasks(number)
    assert task.id == f"{number}.open"
    assert len(task.good) >= 3


@pytest.mark.parametrize("exercise", [e for e in bank.every_exercise() if e.kind == "repair"], ids=lambda e: e.id)
def test_what_is_to_be_mended_runs_keeps_some_laws_and_half_a_mend_is_told_so(exercise):
    assert exercise.to_mend is not None
    assert "NotImplementedError" not in exercise.stub_source
    halves = [m for m in exercise.mistakes if re.search(r"mended|right now|safe now", m.hint)]
    assert len(halves) >= 2


def test_an_exercise_hands_out_a_broken_program_exactly_if_it_is_a_repair():
    assert all((e.to_mend is not None) == (e.kind == "repair") for e in bank.every_exercise())


# ---------------------------------------------------------------------------- the attack


@pytest.mark.parametrize("exercise", [e for e in bank.every_exercise() if e.id[:2] not in NOT_YET], ids=lambda e: e.id)
def test_every_small_change_of_a_solution_is_noticed_and_gets_a_hint(exercise):
    result = attack_one(exercise)
    assert [(s.line, s.change) for s in result.survivors] == []
    assert result.hints[NONE] <= 0.1 * result.caught


def test_every_explained_survivor_still_exists():
    there = {(e.id, s.line, s.change) for e in bank.every_exercise() for s in slips(e.reference)}
    assert EQUIVALENT.keys() <= there


def test_the_attack_tells_the_hints_apart():
    result = attack_one(flawed_exercise())
    assert result.hints[OWN] >= 2  # `added` and `negated` are in this bank
    assert result.hints[SLIP] >= 1


def flawed_exercise_without_a_sign() -> Exercise:
    """A law that holds for |x| as well as for x."""
    exercise = Exercise("99.2", "Size", goal="", minutes=1, difficulty=1, importance=1, hints=["?"])

    @exercise.solution
    def size(x):
        """|x|"""
        return x.abs()

    @exercise.law("a positive number")
    def _(size):
        return size(torch.tensor([2.0])), torch.tensor([2.0])

    return exercise


def test_a_missing_abs_that_no_law_notices_survives_the_attack(capsys):
    assert attack([flawed_exercise_without_a_sign()]) is False
    assert "PASSED   return x.abs()   [.abs() dropped]" in capsys.readouterr().out


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
