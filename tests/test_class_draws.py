"""check(..., seed=): other shapes and numbers, which right answers stand and learned-by-heart ones do not."""

import pytest
import torch

import samerge_edu as se
from samerge_edu.course import bank
from samerge_edu.course.attack import EQUIVALENT
from samerge_edu.course.draws import CASES, DRAWS, NOT_DRAWN, drawn
from samerge_edu.course.examine import Recorder, examine, seeded, try_laws
from samerge_edu.course.slips import slips
from samerge_edu.course.verdicts import verdict_on

EXERCISES = bank.every_exercise()
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)


def test_every_exercise_has_a_draw_or_a_reason_to_have_none():
    assert sorted([*DRAWS, *NOT_DRAWN]) == sorted(e.id for e in EXERCISES)


@each
def test_the_solution_passes_with_any_seed_and_so_does_every_program_that_is_as_good(exercise):
    named = {(line, change) for id, line, change in EQUIVALENT if id == exercise.id}
    as_good = [s.function for s in slips(exercise.reference) if (s.line, s.change) in named] if named else []
    as_good = [f for f in as_good if all(t.kept for t in try_laws(exercise, f))]
    for seed in (2**40,):
        assert examine(drawn(exercise, seed), exercise.reference)["verdict"] == "PASS"
        assert [t for f in as_good for t in try_laws(drawn(exercise, seed), f) if not t.kept] == []


@each
def test_a_mistake_keeps_its_own_hint_with_a_seed(exercise):
    for mistake in exercise.mistakes[:2]:
        verdict = examine(drawn(exercise, 1), mistake.function)
        assert (verdict["verdict"], verdict["mistake"]) == ("NOT YET", mistake.key)


def by_heart(exercise):
    """A function that knows the public cases, and nothing else."""
    known = []
    for law in exercise.laws:
        recorder = Recorder(exercise.reference)
        with seeded():
            law.test(recorder)
        known += [str(call) for call in recorder.calls]

    def function(*args, **kwargs):
        return exercise.reference(*args, **kwargs) if str((args, kwargs)) in known else 0.0

    return function


@pytest.mark.parametrize("id", ["00.3", "01.2", "03.1", "09.2", "13.4"])
def test_what_was_learned_by_heart_passes_the_public_laws_only(id):
    exercise = bank.exercise(id)
    function = by_heart(exercise)
    assert examine(exercise, function)["verdict"] == "PASS"
    verdict = examine(drawn(exercise, 3), function)
    assert verdict["verdict"] == "NOT YET"
    assert verdict["total"] - verdict["passed"] >= CASES
    assert "other shapes and numbers" in verdict["law"]


def test_two_seeds_ask_two_things_and_one_seed_always_the_same():
    def asked(seed):
        calls = []

        def solution(theta_0, thetas):
            calls.append([tuple(theta_0["w"].shape), theta_0["w"].flatten()[0].item()])
            return [{k: theta[k] - theta_0[k] for k in theta_0} for theta in thetas]

        for law in drawn(bank.exercise("01.1"), seed).laws[-CASES:]:
            law.test(solution)
        return calls

    assert asked(5) == asked(5)
    assert asked(5) != asked(6)
    assert len({shape for seed in range(4) for shape, _ in asked(seed)}) > 2


def test_check_says_so_and_settle_does_not_listen_to_it(capsys):
    add = bank.exercise("01.2").reference
    se.check("01.2", add)
    se.check("01.2", add, seed=4)
    said = capsys.readouterr().out
    assert "01.2  PASS  5/5 public checks" in said
    assert "01.2  PASS  8/8 checks" in said
    heart = by_heart(bank.exercise("01.2"))
    se.check("01.2", heart)
    se.check("01.2", heart, seed=4)
    assert se.settle("01.2", heart) is heart
    se.check("01.2", add, seed=-1)
    assert "seed: got -1, expected a whole number from 0 on" in capsys.readouterr().out


def test_for_a_grader_all_but_pass_is_an_assertion_error(capsys):
    se.check("01.2", bank.exercise("01.2").reference, seed=4, must_pass=True)
    with pytest.raises(AssertionError, match=r"01\.2  NOT YET"):
        se.check("01.2", lambda theta_0, tau, lam=1.0: theta_0, must_pass=True)
    with pytest.raises(AssertionError, match="the check itself could not run"):
        se.check("99.9", torch.add, must_pass=True)


def test_exercises_that_cannot_be_drawn_stay_as_they_are():
    for id in NOT_DRAWN:
        assert len(drawn(bank.exercise(id), 1).laws) == len(bank.exercise(id).laws)
        assert verdict_on(id, bank.exercise(id).reference, seed=1)["verdict"] == "PASS"
