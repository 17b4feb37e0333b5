"""Jobs side by side give what they give one after another; an error ends the sweep and is the job's own."""

import math
import os
import sys
import time
from functools import partial

import pytest
import torch
from small_jobs import job as small_job
from small_jobs import solved

from samerge_edu import leaderboard
from samerge_edu.sweep import cores, sweep
from samerge_edu.sweep.journal import Journal


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


def test_an_error_says_in_which_job(tmp_path):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - math's own words differ between versions
        list(sweep(job, [{"x": -1.0}]))
    assert "in job 0: {'x': -1.0}" not in getattr(caught.value, "__notes__", []), "here there is a traceback"
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        list(sweep(job, [{"x": -1.0}], n_jobs=2))
    assert caught.value.__notes__ == ["in job 0: {'x': -1.0}"]


def test_a_killed_worker_is_one_line_and_what_had_finished_is_kept(tmp_path):
    journal = Journal(tmp_path / "j.jsonl", {})
    with pytest.raises(ChildProcessError, match="a worker process was killed"):
        list(sweep(small_job, [{"x": 4.0}, {"x": 1.0, "die_unless": "never"}], n_jobs=2, journal=journal))
    assert list(sweep(small_job, [{"x": 4.0}], journal=Journal(tmp_path / "j.jsonl", {}))) == [(0, 2.0)]


def test_a_job_that_never_ends_is_given_up():
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="no job finished within 1 seconds"):
        list(sweep(small_job, [{"x": 4.0}, {"x": 1.0, "nap": 60.0}], n_jobs=2, limit=1.0))
    assert time.monotonic() - start < 50


def test_a_sweep_goes_on_where_it_was(tmp_path):
    calls = []

    def work(x):
        calls.append(x)
        if x == 2.0:
            raise KeyboardInterrupt
        return math.sqrt(x)

    jobs = [{"x": float(i)} for i in range(4)]
    journal = tmp_path / "deep" / "j.jsonl"
    with pytest.raises(KeyboardInterrupt):
        list(sweep(work, jobs, journal=Journal(journal, {"recipe": 1})))
    assert calls == [0.0, 1.0, 2.0]
    assert dict(sweep(small_job, jobs, journal=Journal(journal, {"recipe": 1}))) == {i: math.sqrt(i) for i in range(4)}
    calls.clear()
    again = [*sweep(lambda x: calls.append(x), jobs, journal=Journal(journal, {"recipe": 1}))]
    assert again == [(i, math.sqrt(i)) for i in range(4)], "the same to the last bit"
    assert calls == []
    list(sweep(lambda x: calls.append(x), jobs, journal=Journal(journal, {"recipe": 2})))
    assert calls == [0.0, 1.0, 2.0, 3.0], "a changed recipe has other keys"


@pytest.mark.parametrize("engine", ["lokey", "dask", "dask:", "dask:here", "ray"])
def test_engines_that_do_not_exist(engine):
    with pytest.raises(ValueError, match=f"engine: got '{engine}', expected loky, dask:local, dask:tcp"):
        list(sweep(job, JOBS, engine=engine))


def test_an_engine_that_is_not_installed_says_what_to_install(monkeypatch):
    for name, line in [
        ("distributed", r'pip install "samerge-edu\[cluster\]"'),
        ("ray.util.joblib", "pip install ray"),
    ]:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=line):
            list(sweep(job, JOBS, engine="dask:local" if name == "distributed" else "ray:auto"))


def test_bad_numbers_of_jobs():
    with pytest.raises(ValueError, match="n_jobs: got 0, expected at least 1"):
        list(sweep(job, JOBS, n_jobs=0))
    assert cores() >= 1


def test_a_model_measured_in_another_process_has_the_same_accuracies():
    """Of the pocket suite, which each process loads for itself."""
    again = (("device", "cpu"), ("name", "pocket"))
    jobs = [{"expert": task, "tasks": [task, "letters"]} for task in ("digits", "signs")]
    work = partial(leaderboard._in_another_process, again)
    here, there = dict(sweep(work, jobs)), dict(sweep(work, jobs, n_jobs=2))
    assert here == there
    assert list(here[1]) == ["signs", "letters"]
    assert here[0] != here[1]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_job_rounds_alike_wherever_it_runs_and_however_many_threads_this_process_has(threads):
    jobs, before = [{"N": 1}, {"N": 3}], torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert dict(sweep(solved, jobs)) == dict(sweep(solved, jobs, n_jobs=2))
        assert [count for *_, count in dict(sweep(job, JOBS)).values()] == [1] * len(JOBS)
        with pytest.raises(ValueError, match=r"math domain error|expected a nonnegative input"):
            list(sweep(job, [{"x": -1.0}]))
        for _ in sweep(job, JOBS):
            assert torch.get_num_threads() == threads, "between the jobs they are the caller's"
    finally:
        torch.set_num_threads(before)
