"""check, settle and hint as a learner meets them, in a child process and in a thread."""

import os
import random
import sys
import time

import numpy as np
import psutil
import pytest
import torch

import samerge_edu as se
from samerge_edu.course import bank, limits, verdicts
from samerge_edu.course.examine import UNCHANGED, copied, count, examine, same, text_of
from samerge_edu.course.limits import run_limited
from samerge_edu.lora import LoRA

child = pytest.param(True, id="child", marks=pytest.mark.skipif(sys.platform != "linux", reason="fork is Linux only"))
both_paths = pytest.mark.parametrize("can_fork", [child, pytest.param(False, id="thread")], indirect=True)


@pytest.fixture
def can_fork(request, monkeypatch):
    monkeypatch.setattr(limits, "CAN_FORK", request.param)
    return request.param


@pytest.fixture
def soon(monkeypatch):
    """Exercise 01.2 with half a second of patience."""
    monkeypatch.setattr(bank.exercise("01.2"), "seconds", 0.5)


def right(theta_0, tau, lam=1.0):
    return {k: theta_0[k] + lam * tau[k] for k in theta_0}


def without_base(theta_0, tau, lam=1.0):
    return {k: lam * tau[k] for k in theta_0}


def stub(theta_0, tau, lam=1.0):
    raise NotImplementedError


def for_ever(theta_0, tau, lam=1.0):
    while True:
        pass


def for_ever_and_stubborn(theta_0, tau, lam=1.0):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            pass


def without_bound(theta_0, tau, lam=1.0):
    hoard = []
    while True:
        hoard.append([0] * 1_000_000)
        time.sleep(0.001)


# ---------------------------------------------------------------------------- verdicts


@both_paths
def test_pass(can_fork, capsys):
    se.check("01.2", right)
    assert capsys.readouterr().out == "✓ 01.2  PASS  5/5 public checks\n"


@both_paths
def test_todo(can_fork, capsys):
    se.check("01.2", stub)
    assert capsys.readouterr().out.startswith("01.2  TODO  write add in place of")


@both_paths
def test_not_yet_shows_law_case_expected_got_and_the_hint_of_this_mistake(can_fork, capsys):
    se.check("01.2", without_base)
    assert capsys.readouterr().out.splitlines() == [
        "✗ 01.2  NOT YET  1/5 public checks",
        "  law       lam = 1 is the default",
        "  case      add({'w': [1, 2, -1]}, {'w': [0.5, -1, 4]})",
        "  expected  {'w': [1.5, 1, 3]}",
        "  got       {'w': [0.5, -1, 4]}",
        "  hint      The base is missing: theta is theta_0 plus the scaled update.",
    ]


@both_paths
def test_error_shows_type_message_and_line(can_fork, capsys):
    def adds_dictionaries(theta_0, tau, lam=1.0):
        scaled = {k: lam * tau[k] for k in tau}
        return theta_0 + scaled

    se.check("01.2", adds_dictionaries)
    out = capsys.readouterr().out
    assert "01.2  ERROR  TypeError: unsupported operand type(s) for +: 'dict' and 'dict'" in out
    assert "at        line 3:  return theta_0 + scaled" in out


@both_paths
def test_what_torch_has_not_implemented_is_an_error_and_not_to_do(can_fork, capsys):
    def of_a_kind_that_torch_cannot_add(theta_0, tau, lam=1.0):
        return {k: torch.empty(2, device="meta").tolist() for k in theta_0}

    def asks_torch(theta_0, tau, lam=1.0):
        return torch.nn.Module()(theta_0)

    for function, line in (
        (of_a_kind_that_torch_cannot_add, "line 2"),
        (asks_torch, "return torch.nn.Module()(theta_0)"),
    ):
        se.check("01.2", function)
        out = capsys.readouterr().out
        assert out.startswith("! 01.2  ERROR  NotImplementedError: "), out
        assert line in out


@both_paths
def test_a_question_to_the_keyboard_is_an_error(can_fork, monkeypatch, capsys):
    def asks(theta_0, tau, lam=1.0):
        return {k: float(input("lam?")) * tau[k] for k in tau}

    ask = input
    se.check("01.2", asks)
    out = capsys.readouterr().out
    assert "01.2  ERROR  EOFError: input() waits for a keyboard, and a check has none: use the arguments" in out
    assert input is ask


@both_paths
def test_a_huge_answer_is_told_in_short(can_fork, capsys):
    def sesquipedalian(theta_0, tau, lam=1.0):
        return "x" * 5_000_000

    def endless(theta_0, tau, lam=1.0):
        return [[0] * 3] * 300

    def lists_of_names(theta_0, tau, lam=1.0):
        return dict.fromkeys(range(300), 1)

    def shouts(theta_0, tau, lam=1.0):
        raise ValueError("y" * 5_000_000)

    for function, told in (
        (sesquipedalian, "x... (5000000 characters)"),
        (endless, "[0, 0, 0], ... (300 items)]"),
        (lists_of_names, "... (300 items)}"),
        (shouts, "y... (5000000 characters)"),
    ):
        se.check("01.2", function)
        out = capsys.readouterr().out
        assert told in out
        assert len(out) < 2000


@both_paths
def test_what_the_learner_prints_is_passed_on_but_not_without_end(can_fork, capsys):
    def chatty(theta_0, tau, lam=1.0):
        print("lam is", lam)
        return right(theta_0, tau, lam)

    se.check("01.2", chatty)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["✓ 01.2  PASS  5/5 public checks", "  printed   lam is 0.0", "  printed   lam is 1.0"]
    assert len(lines) <= 6


def test_a_mistake_that_is_in_no_bank_gets_a_hint_about_the_difference(capsys):
    for function, hint in (
        (lambda theta_0, tau, lam=1.0: None, "returns None"),
        (lambda theta_0, tau, lam=1.0: [1], "returns a list, expected is a dict"),
        (lambda theta_0, tau, lam=1.0: {"v": tau["w"]} if "w" in tau else {}, "names differ"),
        (lambda theta_0, tau, lam=1.0: {k: 17.0 * v for k, v in theta_0.items()}, "by hand"),
    ):
        se.check("01.2", function)
        assert hint in capsys.readouterr().out


def test_hints_about_shape_number_of_items_and_what_is_inside():
    for function, id, hint in (
        (lambda tau_hat, gamma: gamma[None], "02.4", "The shape is (1, 1), expected is (1,)."),
        (lambda theta_0, thetas: [], "01.1", "You return 0 items, expected are 1."),
        (lambda theta_0, thetas: [{"v": torch.zeros(3)}], "01.1", "The names differ"),
        (lambda theta_0, thetas: [{k: v[:1] for k, v in theta_0.items()}] * len(thetas), "01.1", "The shape is (1,)"),
    ):
        assert hint in examine(bank.exercise(id), function)["hint"]


def test_a_sign_that_is_turned_round_everywhere_is_a_slip():
    turn = bank.exercise("02.4").reference
    hint = examine(bank.exercise("02.4"), lambda tau_hat, gamma: -turn(tau_hat, gamma))["hint"]
    assert hint == "Your answers are those of a program in which every sign is turned round."


def test_a_broken_program_is_todo_until_it_is_touched(capsys):
    task = bank.exercise("00.2")
    se.check("00.2", task.to_mend)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "00.2  TODO  find what is wrong in average, mend it, and run this cell again"
    assert any(line.startswith("  expected  ") for line in lines)
    half = {m.key: m for m in task.mistakes}["added_into_the_first"]
    verdict = examine(task, half.function)
    assert (verdict["verdict"], verdict["hint"]) == ("NOT YET", half.hint)


def test_a_raw_error_gets_a_sentence_of_the_lesson_where_it_knows_the_cause(capsys):
    se.check("06.5", lambda method, random: sum(r >= method for r in random) / len(random))
    out = capsys.readouterr().out
    assert "06.5  ERROR  ZeroDivisionError" in out
    assert "  hint      There may be no random mask at all." in out
    se.check("06.5", lambda method, random: {}["unknown"])
    assert "hint" not in capsys.readouterr().out


def test_inputs_that_are_changed_are_noticed_although_every_value_is_right():
    def tidies_up(theta_0, tau, lam=1.0):
        result = right(theta_0, tau, lam)
        tau["w"].zero_()
        return result

    verdict = examine(bank.exercise("01.2"), tidies_up)
    assert (verdict["verdict"], verdict["law"], verdict["passed"]) == ("NOT YET", UNCHANGED, 4)


def test_the_smallest_broken_case_is_shown_not_the_first():
    def wrong_for_two_tensors(thetas):
        return bank.exercise("00.2").reference(thetas) if len(thetas[0]) == 1 else {}

    verdict = examine(bank.exercise("00.2"), wrong_for_two_tensors)
    assert verdict["law"] == "the average of one model is that model"


@pytest.mark.parametrize("bad", [None, 3, "add", lambda: 1, print, int], ids=str)
def test_check_and_settle_never_raise(bad, capsys):
    se.check("01.2", bad)
    assert se.settle("01.2", bad) is bank.exercise("01.2").reference
    assert "PASS" not in capsys.readouterr().out


@pytest.mark.parametrize("id", ["01.99", "77.1", "", None, 3])
def test_unknown_exercises_are_reported_not_raised(id, capsys):
    se.check(id, right)
    assert se.settle(id, right) is right
    se.hint(id)
    assert capsys.readouterr().out.count("ERROR") == 3


def test_a_check_that_breaks_itself_says_so(monkeypatch, capsys):
    def broken(*args):
        raise OSError("no more processes")

    monkeypatch.setattr(verdicts, "run_limited", broken)
    se.check("01.2", right)
    assert capsys.readouterr().out.startswith("01.2  ERROR  the check itself could not run. OSError")


# ---------------------------------------------------------------------------- settle and hint


def test_settle_returns_the_learners_function_only_if_it_passes(capsys):
    assert se.settle("01.2", right) is right
    assert se.settle("01.2", without_base) is bank.exercise("01.2").reference
    assert se.settle("01.2", stub) is bank.exercise("01.2").reference
    assert capsys.readouterr().out.splitlines() == [
        "01.2  your add is used from here on",
        "01.2  the reference add is used from here on (yours: NOT YET)",
        "01.2  the reference add is used from here on (yours: TODO)",
    ]


def test_settle_does_not_wait_a_second_time_for_a_loop_that_check_has_stopped(soon, capsys):
    se.check("01.2", for_ever)
    start = time.monotonic()
    assert se.settle("01.2", for_ever) is bank.exercise("01.2").reference
    assert time.monotonic() - start < 0.3


def test_hints_go_from_cheap_to_dear_and_end(monkeypatch, capsys):
    monkeypatch.setattr(verdicts, "_hints_given", {})
    hints = bank.exercise("01.2").hints
    for _ in range(len(hints) + 1):
        se.hint("01.2")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"01.2  hint 1 of {len(hints)}: {hints[0]}"
    assert lines[-2].endswith(hints[-1])
    assert "last hint" in lines[-1]


# ---------------------------------------------------------------------------- limits


@both_paths
@pytest.mark.parametrize("loop", [for_ever, for_ever_and_stubborn])
def test_an_endless_loop_is_stopped_and_the_law_is_named(can_fork, soon, loop, capsys):
    start = time.monotonic()
    se.check("01.2", loop)
    assert time.monotonic() - start < 5
    assert capsys.readouterr().out.splitlines() == [
        "! 01.2  ERROR  stopped after 0.5 s: does a loop never end?",
        "  law       lam = 0 gives the base",
    ]


@both_paths
def test_allocation_without_bound_is_stopped(can_fork, monkeypatch, capsys):
    monkeypatch.setattr(bank.exercise("01.2"), "seconds", 60.0)  # on a busy machine 2048 MB take their time
    se.check("01.2", without_bound)
    assert capsys.readouterr().out.startswith("! 01.2  ERROR  stopped: it asked for more than 2048 MB\n")


@pytest.mark.skipif(sys.platform != "linux", reason="fork is Linux only")
@pytest.mark.parametrize(
    ("crash", "words"),
    [
        (lambda theta_0, tau, lam=1.0: torch.zeros(10**12), "asked for more than 2048 MB"),
        (lambda theta_0, tau, lam=1.0: os._exit(3), "it crashed Python; your notebook is safe"),
        (lambda theta_0, tau, lam=1.0: os.kill(os.getpid(), 11), "it crashed Python; your notebook is safe"),
        (lambda theta_0, tau, lam=1.0: sys.exit(3), "SystemExit: 3"),
    ],
    ids=["one huge tensor", "exit", "segmentation fault", "sys.exit"],
)
def test_crashes_stay_in_the_child(crash, words, capsys):
    se.check("01.2", crash)
    assert words in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="fork is Linux only")
def test_torch_works_in_the_child_after_the_parent_used_several_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        a = torch.ones(300, 300)
        torch.ones(10**6).sum()  # starts the parent's thread pool, which no child inherits

        def job(report):
            w = torch.ones(300, 300, requires_grad=True)
            (w @ a).relu().sum().backward()
            return {"sum": torch.ones(10**6).sum().item(), "svd": len(torch.linalg.svdvals(a)), "grad": len(w.grad)}

        assert run_limited(job, seconds=30) == {"sum": 1e6, "svd": 300, "grad": 300, "printed": ""}
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="fork is Linux only")
def test_autograd_that_torch_refuses_in_a_child_is_done_in_the_thread(capsys):
    """What a GPU kernel does after its first backward pass; the message is torch's own."""
    parent = os.getpid()

    def needs_autograd(theta_0, tau, lam=1.0):
        if os.getpid() != parent:
            raise RuntimeError(
                "Unable to handle autograd's threading in combination with fork-based multiprocessing. See https://..."
            )
        return right(theta_0, tau, lam)

    se.check("01.2", needs_autograd)
    assert capsys.readouterr().out == "✓ 01.2  PASS  5/5 public checks\n"


@both_paths
def test_a_check_leaves_the_notebooks_random_numbers_alone(can_fork):
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(7)
    expected = (random.random(), np.random.rand(), torch.rand(1).item())
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(7)
    se.check("00.1", bank.exercise("00.1").reference)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="fork is Linux only")
@pytest.mark.parametrize("way", ["answers", "never comes back", "crashes"])
def test_no_grandchild_is_left_behind_nor_waited_for(soon, way, tmp_path):
    seen = tmp_path / "pid"

    def starts_programs(theta_0, tau, lam=1.0):
        if not seen.exists():
            seen.write_text("started", encoding="utf-8")
            if (grandchild := os.fork()) == 0:  # it holds what the child holds, the way back to us too
                time.sleep(60)
                os._exit(0)
            seen.write_text(str(grandchild), encoding="utf-8")
            if way == "crashes":
                os._exit(3)
        while way == "never comes back":
            pass
        return right(theta_0, tau, lam)

    start = time.monotonic()
    verdict = verdicts.verdict_on("01.2", starts_programs)
    assert time.monotonic() - start < 5
    assert verdict["verdict"] == ("PASS" if way == "answers" else "ERROR")
    grandchild = int(seen.read_text(encoding="utf-8"))
    for _ in range(100):
        if not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.02)
    pytest.fail(f"{way}: the program that the check started is alive")


def test_no_child_is_left_behind(soon):
    if sys.platform != "linux":
        pytest.skip("fork is Linux only")
    se.check("01.2", for_ever)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# ---------------------------------------------------------------------------- comparing and telling


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1.0, 1.0 + 1e-6, True),
        (1.0, 1.01, False),
        (torch.tensor([1.0, 2.0]), torch.tensor([1, 2]), True),
        (torch.tensor([1.0, 2.0]), np.array([1.0, 2.0]), True),
        (torch.tensor([1.0, 2.0]), [1.0, 2.0], False),
        (torch.tensor([[1.0, 2.0]]), torch.tensor([1.0, 2.0]), False),
        (torch.tensor(2.0), 2, True),
        (float("nan"), 1.0, False),
        ({"a": 1, "b": [2, 3]}, {"b": (2, 3), "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, 2], [1, 2, 3], False),
        ("x", "x", True),
        (None, 0, False),
    ],
)
def test_same(a, b, expected):
    assert same(a, b) is expected
    assert same(b, a) is expected


def test_named_tuples_such_as_lora_layers_are_copied_compared_counted_and_told_by_their_fields():
    layer = LoRA(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]), scale=0.5)
    twin = copied(layer)
    assert isinstance(twin, LoRA)
    assert same(twin, layer)
    twin.A[0] = 9.0
    assert not same(twin, layer)
    assert layer.A[0, 0] == 1.0
    assert count(layer) == 4
    assert text_of(layer) == "LoRA(A=[[1, 2]], B=[[3]], scale=0.5)"


def test_cases_are_told_in_plain_letters():
    assert text_of({"w": torch.tensor([[1.0, -0.5]])}) == "{'w': [[1, -0.5]]}"
    assert text_of(torch.zeros(3, 7)) == "tensor(3, 7) that starts [0, 0, 0]"
    assert text_of(list(range(21))).endswith("18, 19, ... (21 items)]")
    assert text_of(tuple(range(20))).endswith("18, 19)")
    assert text_of("z" * 400) == "z" * 400
    assert text_of("z" * 401) == "z" * 400 + "... (401 characters)"
    assert text_of((1 / 3, True, torch.Generator(), right)) == "(0.3333, True, generator, right)"
