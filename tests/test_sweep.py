"""Jobs side by side give what they give one after another; an error ends the sweep and is the job's own."""

import math
import os

import pytest
import torch

from samerge_edu import leaderboard
from samerge_edu.evaluate import scores
from samerge_edu.suites import load_suite
from samerge_edu.sweep import cores, sweep


def job(x: float, y: float = 0.0) -> tuple[float, int, int]:
    return math.sqrt(x) + y, os.getpid(), torch.get_num_threads()


JOBS = [{"x": float(i), "y": i / 3} for i in range(7)]


def test_the_same_results_in_this_process_and_in_others():
    here = dict(sweep(job, JOBS))
    there = dict(sweep(job, JOBS, n_jobs=2))
    assert list(here) == list(range(7))
    assert there.keys() == here.keys()
    assert [there[i][0] for i in range(7)] == [here[i][0] for i in range(7)]
    assert {pid for _, pid, _ in here.values()} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid, _ in there.values()}
    assert {threads for _, _, threads in there.values()} == {1}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_job_that_raises_ends_the_sweep_with_its_error(n_jobs):
    with pytest.raises(ValueError, match=r"math domain error|expected a nonnegative input"):
        list(sweep(job, [{"x": 1.0}, {"x": -1.0}], n_jobs))


def test_bad_numbers_of_jobs():
    with pytest.raises(ValueError, match="n_jobs: got 0, expected at least 1"):
        list(sweep(job, JOBS, n_jobs=0))
    assert cores() >= 1


def test_a_model_measured_in_another_process_has_the_same_accuracies():
    """Of the pocket suite, which each process loads for itself."""
    again = (("device", "cpu"), ("name", "pocket"))
    jobs = [{"again": again, "task": task} for task in ("digits", "signs")]
    there = dict(sweep(leaderboard._in_another_process, jobs, n_jobs=2))
    suite = load_suite("pocket")
    here = scores(suite, suite.experts["signs"], tasks=["signs", *suite.ood_tasks])
    assert there[1].keys() == here.keys()
    assert list(there[1].values()) == pytest.approx(list(here.values()), abs=0.21)  # one image of 500
    assert there[0] != there[1]
