"""Jobs on a real Dask scheduler with real workers: what goes wrong ends in one line or in right results.

One cluster for all tests, which use it up: a worker is killed on the way, at the end the scheduler.
"""

import _thread
import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_jobs import job, solved

from samerge_edu.sweep import cluster, sweep
from samerge_edu.sweep.journal import Journal

distributed = pytest.importorskip("distributed")
# sockets that a killed scheduler leaves behind are closed late
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

TESTS = Path(__file__).parent
JOBS = [{"x": float(i)} for i in range(8)]
RIGHT = {i: math.sqrt(i) for i in range(8)}


def start(program, *words, first_on_path="", **environment):
    paths = [first_on_path, str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | environment
    environment.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, "-m", f"distributed.cli.dask_{program}", *map(str, words), "--no-dashboard"]
    return subprocess.Popen(command, cwd=TESTS, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def running(folder, workers, scheduler=(), worker=()):
    """(address, scheduler, workers) of a cluster of real processes."""
    file = folder / "scheduler.json"
    head = start("scheduler", "--host", "127.0.0.1", "--port", 0, "--scheduler-file", file, **dict(scheduler))
    hands = []
    try:
        while not file.exists():
            assert head.poll() is None
            time.sleep(0.1)
        knobs = ("--scheduler-file", file, "--nthreads", 1, "--no-nanny", "--local-directory", folder)
        hands = [start("worker", *knobs, **dict(worker)) for _ in range(workers)]
        with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
            address = client.scheduler.address
        yield address, head, hands
    finally:
        for process in (head, *hands):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    with running(tmp_path_factory.mktemp("dask"), 3) as (address, head, hands):
        yield f"dask:{address}", head, hands


def test_the_same_results_as_here(dask):
    assert dict(sweep(job, JOBS, engine=dask[0])) == dict(sweep(job, JOBS)) == RIGHT


def test_a_worker_rounds_as_we_do(dask):
    """These workers have as many threads of torch as the machine has cores; a job has one."""
    jobs = [{"N": N} for N in (1, 2, 3)]
    assert dict(sweep(solved, jobs, engine=dask[0])) == dict(sweep(solved, jobs))


def test_a_job_that_raises_ends_the_sweep_with_its_error_and_the_finished_are_kept(dask, tmp_path):
    journal = Journal(tmp_path / "j", {})
    with pytest.raises(ValueError, match=r"math domain error|expected a nonnegative input") as caught:
        list(sweep(job, [*JOBS, {"x": -1.0, "nap": 1.0}], engine=dask[0], journal=journal))
    assert caught.value.__notes__ == ["in job 8: {'x': -1.0, 'nap': 1.0}"]
    assert all(each in journal for each in JOBS)


def test_a_job_that_never_ends_is_given_up(dask, tmp_path):
    journal = Journal(tmp_path / "j", {})
    with pytest.raises(TimeoutError, match="no job finished within 1 seconds; what had finished is kept"):
        list(sweep(job, [*JOBS, {"x": 1.0, "nap": 6.0}], engine=dask[0], journal=journal, limit=1.0))
    assert all(each in journal for each in JOBS)


def waiting(address):
    """How many tasks a scheduler knows of, waiting or running."""
    with distributed.Client(address.removeprefix("dask:"), set_as_default=False) as client:
        return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def test_ctrl_c_takes_back_the_waiting_jobs_and_the_next_sweep_goes_on(dask, tmp_path):
    begun = tmp_path / "begun"
    jobs = [*JOBS, *({"x": 1.0, "nap": 2.0 + i / 100, "sign": str(begun)} for i in range(30))]
    journal, results = Journal(tmp_path / "j", {}), {}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `make test &` lets its children ignore it
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for i, result in sweep(job, jobs, engine=dask[0], journal=journal):
            results[i] = result
            if len(results) == len(JOBS):
                assert waiting(dask[0]) >= 20, "there is something to take back"
                threading.Timer(0.1, _thread.interrupt_main).start()
    assert all(jobs[i] in journal for i in results)
    assert waiting(dask[0]) == 0
    running = begun.read_text(encoding="utf-8").count("\n")
    assert 1 <= running <= 2 * len(dask[2])
    time.sleep(3.0)  # longer than a nap: a worker would have taken the next
    assert begun.read_text(encoding="utf-8").count("\n") == running
    assert dict(sweep(job, jobs[:9], engine=dask[0], journal=Journal(tmp_path / "j", {}))) == RIGHT | {8: 1.0}


def test_a_killed_worker_costs_nothing_but_time(dask, tmp_path):
    jobs = [*JOBS, {"x": 9.0, "die_unless": str(tmp_path / "died once")}]
    assert dict(sweep(job, jobs, engine=dask[0])) == RIGHT | {8: 3.0}
    assert [hand.poll() for hand in dask[2]].count(None) == 2


def test_a_worker_with_other_versions_is_named(dask, monkeypatch):
    mine = cluster.installed()
    monkeypatch.setattr(cluster, "installed", lambda: mine | {"libraries": mine["libraries"] | {"torch": "1.0"}})
    with pytest.raises(
        ConnectionError, match=r"has other versions: torch 2\S+ there, 1.0 here: install the same there"
    ):
        list(sweep(job, JOBS, engine=dask[0]))


def test_a_killed_scheduler_is_one_line_and_what_had_finished_is_kept(dask, tmp_path, monkeypatch):
    """The last test on this cluster."""
    engine, head, _ = dask
    journal = Journal(tmp_path / "j", {})
    with pytest.raises(ConnectionError, match="is gone; what had finished is kept"):  # noqa: PT012
        for i, _ in sweep(job, [*JOBS, {"x": 1.0, "nap": 30.0}], engine=engine, journal=journal):
            if i == 0:
                head.kill()
    assert JOBS[0] in journal
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    with pytest.raises(ConnectionError, match=r"no scheduler answers at tcp://127\.0\.0\.1:.*dask scheduler"):
        list(sweep(job, JOBS, engine=engine))


def test_a_scheduler_without_the_package_is_told_what_to_install(tmp_path):
    """It would make the sweep wait for ever. Here a package of the same name stands in the way of ours."""
    (tmp_path / "other" / "samerge_edu").mkdir(parents=True)
    code = "raise ModuleNotFoundError(\"No module named 'samerge_edu'\")"
    (tmp_path / "other" / "samerge_edu" / "__init__.py").write_text(code, encoding="utf-8")
    with running(tmp_path, 1, scheduler={"first_on_path": str(tmp_path / "other")}.items()) as (address, _, _):
        with pytest.raises(ConnectionError) as caught:
            list(sweep(job, JOBS, engine=f"dask:{address}"))
    assert f"scheduler {address} cannot import samerge_edu (No module named 'samerge_edu')" in str(caught.value)
    assert 'pip install "samerge-edu[cluster]==' in str(caught.value)
