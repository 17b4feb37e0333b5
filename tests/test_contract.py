"""`se.check_method`: what it says of good and of bad methods."""

import subprocess
import sys

import pytest
import torch

import samerge_edu as se
from samerge_edu.contract import REQUIRED


def mean(taus):
    return {k: sum(t[k] for t in taus) / len(taus) for k in taus[0]}


def in_place(taus):
    for t in taus:
        for x in t.values():
            x *= 2
    return mean(taus)


def global_dice(taus):
    return {k: x * (torch.rand(x.shape) < 0.5) for k, x in mean(taus).items()}


def needs_more(taus, density):
    return mean(taus)


def other_names(taus):
    return {k + ".merged": x for k, x in mean(taus).items()}


def doubles(taus):
    return {k: x.double() for k, x in mean(taus).items()}


def nan(taus):
    return {k: x / 0 for k, x in mean(taus).items()}


def falls(taus):
    raise RuntimeError("no such luck")


def test_a_good_method_passes_everything():
    report = se.check_method(se.average)
    assert report.ok
    assert not any(report.others.values())
    assert str(report).startswith("average: ready for the leaderboard")
    assert "yes  The order of the experts does not matter." in str(report)
    assert se.check_method(se.ties).ok


def test_a_sum_in_16_bits_is_no_reason_to_refuse_but_it_is_said():
    report = se.check_method(mean)
    assert report.ok
    assert [what for what, why in report.others.items() if why] == [
        "16-bit task vectors are merged in float32 and come back in 16 bits; 32 and 64 bits stay what they are."
    ]


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (in_place, "no   The task vectors given are not changed."),
        (global_dice, "whatever the global random state"),
        (needs_more, "missing a required argument: 'density'"),
        (other_names, "names that differ"),
        (doubles, "torch.float64), expected ((12, 4), torch.float32)"),
        (nan, "got NaN or infinity"),
        (falls, "RuntimeError: no such luck"),
    ],
)
def test_each_bad_method_is_told_what_is_wrong(fn, words):
    report = se.check_method(fn)
    assert not report.ok
    assert "NOT YET" in str(report)
    assert words in str(report)


def test_a_method_may_depend_on_the_order_of_the_experts():
    report = se.check_method(lambda taus: {k: 1.0 * x for k, x in taus[0].items()}, name="first")
    assert report.ok
    assert report.others["The order of the experts does not matter."]


def test_every_required_check_fails_for_something():
    seen = {
        what
        for fn in (in_place, global_dice, needs_more, nan)
        for what, why in se.check_method(fn).required.items()
        if why
    }
    assert len(seen) == len(REQUIRED)


def test_without_assertions_nothing_is_said_to_hold():
    program = "import samerge_edu as se; print(se.check_method(lambda taus: {}))"
    done = subprocess.run([sys.executable, "-O", "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("got python -O, which skips assertions, expected Python without it")
