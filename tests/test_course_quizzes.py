"""quiz and answer print plain text and never raise."""

import pytest

import samerge_edu as se
from samerge_edu.course import bank


def test_a_quiz_prints_its_question_and_every_option(capsys):
    se.quiz("01.q1")
    text = " ".join(capsys.readouterr().out.split())
    question = bank.quiz("01.q1")
    assert text.startswith(f"01.q1 {question.question}")
    for letter, option in question.options.items():
        assert f"{letter}) {option.text}" in text


@pytest.mark.parametrize("letter", ["a", "b", "c"])
def test_each_option_gets_its_own_feedback_and_only_one_is_right(letter, capsys):
    se.answer("01.q1", letter)
    text = " ".join(capsys.readouterr().out.split())
    sign, verdict = ("✓", "RIGHT") if letter == "b" else ("✗", "NOT YET")
    assert text == f"{sign} 01.q1 {verdict} {bank.quiz('01.q1').options[letter].feedback}"


def test_an_answer_may_be_written_in_capitals_and_with_blanks(capsys):
    se.answer("01.q1", " B ")
    assert "RIGHT" in capsys.readouterr().out


@pytest.mark.parametrize("letter", ["?", "", "z", None, 3, "ab"])
def test_no_answer_yet_is_todo(letter, capsys):
    se.answer("01.q1", letter)
    assert capsys.readouterr().out == '01.q1  TODO  choose one of a, b, c in se.answer("01.q1", "...")\n'


@pytest.mark.parametrize("id", ["01.q9", "77.q1", None])
def test_unknown_quizzes_are_reported_not_raised(id, capsys):
    se.quiz(id)
    se.answer(id, "a")
    assert capsys.readouterr().out.count("ERROR") == 2


def test_no_line_is_too_long_for_a_narrow_window(capsys):
    for question in bank.every_quiz():
        se.quiz(question.id)
        for letter in question.options:
            se.answer(question.id, letter)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 88
