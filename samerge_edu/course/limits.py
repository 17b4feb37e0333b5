"""Run a learner's function so that it can neither hang the kernel nor eat the memory.

On Linux (and so on Colab and Binder) the work is done in a forked child: it sees everything the learner
defined, is killed when its time is over, with all processes that it started, cannot allocate more than its share,
and answers in lines of JSON.
Elsewhere fork is unsafe or missing, so a thread does the work and is told to stop from outside; that
reaches Python loops, but neither a single library call that takes for ever nor a bare `except:` that goes
on: such a thread is left behind.
"""

import builtins
import contextlib
import ctypes
import faulthandler
import gc
import io
import json
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import torch

CAN_FORK = sys.platform.startswith("linux")
MEGABYTES = 2048  # that a check may allocate beyond what the kernel holds already
OUT_OF_MEMORY = f"stopped: it asked for more than {MEGABYTES} MB"
PRINTED = 300  # characters of the learner's own prints that are passed on
ANSWER = 4 * 2**20  # bytes that a child may answer: more is no answer

Job = Callable[[Callable[[str], None]], dict]
"""A job gets `report`, to say what it is about to try, and returns a dictionary that JSON can hold."""


class CannotFork(Exception):
    """torch refuses autograd in a child whose parent has used it on a GPU: the job needs the thread."""


def run_limited(
    job: Job, seconds: float = 10.0, megabytes: int = MEGABYTES, between: float | None = None, alone: bool = False
) -> dict:
    """job's result with the key "printed" added, or {"stopped": "time" | "memory" | "crash", "trying": ...}.

    `seconds` is wall-clock time; `megabytes` is the memory that the job may take. A job of several parts may report
    each part, and have `between` seconds from one report to the next (`seconds` stays the limit of all). With `alone`
    the child has nothing open that this process has, and the job never runs in this process: raises OSError or
    CannotFork instead.
    """
    between = seconds if between is None else between
    if CAN_FORK or alone:
        try:
            return _in_a_child(job, seconds, megabytes, between, alone)
        except (CannotFork, OSError):  # OSError: no room for another process
            if alone:
                raise
    return _in_a_thread(job, seconds, megabytes, between)


@contextlib.contextmanager
def no_keyboard() -> Generator[None]:
    """`input()` is an error, instead of a question that nobody sees."""

    def refuse(prompt: object = "") -> str:
        raise EOFError("input() waits for a keyboard, and a check has none: use the arguments")

    ask = builtins.input
    builtins.input = refuse  # ty: ignore[invalid-assignment]  to be another one is the point
    try:
        yield
    finally:
        builtins.input = ask


# ---------------------------------------------------------------------------- a forked child


def _in_a_child(job: Job, seconds: float, megabytes: int, between: float, alone: bool) -> dict:
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    with warnings.catch_warnings():  # Python 3.12 warns of fork beside threads; the child uses none of them
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _answer(job, write_end, megabytes, alone)  # never returns
    os.close(write_end)
    try:
        lines, in_time = _read_lines(read_end, seconds, between)
    finally:  # also when the learner interrupts the kernel
        os.close(read_end)
        for kill in (os.killpg, os.kill):  # the child's whole group, and the child, should it not have one yet
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    result = lines[-1] if lines else {}
    if "trying" not in result and result:
        if result.get("stopped") == "fork":
            raise CannotFork
        return result
    return {"stopped": "crash" if in_time else "time", "trying": result.get("trying", "")}


def _answer(job: Job, write_end: int, megabytes: int, alone: bool) -> None:
    """The child's whole life: limits, job, one line of JSON for each step, exit."""
    try:
        os.setsid()  # the leader of a group of its own, to which every process belongs that it starts
        faulthandler.disable()  # a crash is told in one line by the parent
        gc.freeze()  # nothing of the kernel's (sockets, files) may be finalised here
        if alone:
            os.closerange(3, write_end)
            os.closerange(write_end + 1, os.sysconf("SC_OPEN_MAX"))
        torch.set_num_threads(1)  # torch's thread pool does not survive a fork: with two threads it hangs
        printed = io.StringIO()
        with (
            open(write_end, "w", encoding="utf-8") as pipe,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            no_keyboard(),
        ):

            def send(message: dict) -> None:
                pipe.write(json.dumps(message) + "\n")
                pipe.flush()

            with _memory_limit(megabytes):
                try:
                    result = job(lambda trying: send({"trying": trying}))
                except CannotFork:
                    result = {"stopped": "fork"}
            send({**result, "printed": printed.getvalue()[:PRINTED]})
    finally:
        os._exit(0)  # no clean-up of what belongs to the parent


@contextlib.contextmanager
def _memory_limit(megabytes: int):
    import resource  # not on Windows

    held = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = held + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))  # room again, to report what happened


def _read_lines(read_end: int, seconds: float, between: float) -> tuple[list[dict], bool]:
    """Everything the child wrote, and whether it came to its end within the time.

    The end is its last line. To wait until nobody can write would mean to wait for the processes that it started.
    """
    end, text = time.monotonic() + seconds, b""
    deadline = min(end, time.monotonic() + between)
    while (left := deadline - time.monotonic()) > 0:
        if select.select([read_end], [], [], left)[0]:
            chunk = os.read(read_end, 65536)
            text += chunk
            deadline = min(end, time.monotonic() + between)
            lines = _parsed(text) if text.endswith(b"\n") else []
            if not chunk or len(text) > ANSWER or (lines and "printed" in lines[-1]):
                return _parsed(text), True
    return _parsed(text), False


def _parsed(text: bytes) -> list[dict]:
    """The complete lines, up to the first that is no dictionary in JSON: the job itself may write into the pipe."""
    lines = []
    with contextlib.suppress(ValueError, RecursionError):
        for line in text.decode("utf-8", errors="replace").split("\n")[:-1]:
            message = json.loads(line)
            if not isinstance(message, dict):
                break
            lines.append(message)
    return lines


# ---------------------------------------------------------------------------- a thread, where fork is missing


class Stopped(BaseException):
    """Thrown into the learner's thread. Not an Exception, so that `except Exception: pass` does not eat it."""


def _in_a_thread(job: Job, seconds: float, megabytes: int, between: float) -> dict:
    trying, results, printed, reported = [""], [], io.StringIO(), [time.monotonic()]

    def report(part: str) -> None:
        trying.append(part)
        reported.append(time.monotonic())

    def work() -> None:
        with contextlib.suppress(Stopped):
            results.append(job(report))

    this_process = psutil.Process()
    held = this_process.memory_info().vms
    deadline, why = time.monotonic() + seconds, None
    worker = threading.Thread(target=work, daemon=True)
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), no_keyboard():
        worker.start()
        try:
            while worker.is_alive() and why is None:
                worker.join(0.02)
                if time.monotonic() > min(deadline, reported[-1] + between):
                    why = "time"
                elif this_process.memory_info().vms - held > megabytes * 2**20:
                    why = "memory"
        except BaseException:  # the learner interrupts the kernel
            _throw_stopped_into(worker)
            raise
        if worker.is_alive():
            _throw_stopped_into(worker)  # once: a second one could strike on the way out, where nobody catches it
            worker.join(5)  # it may have much memory to give back
    if results:
        return {**results[0], "printed": printed.getvalue()[:PRINTED]}
    return {"stopped": why or "crash", "trying": trying[-1]}


def _throw_stopped_into(thread: threading.Thread) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Stopped))
