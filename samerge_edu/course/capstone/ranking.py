"""Measure what was handed in, and rank a class.

`submit` is for the author, who may look as often as it takes: on validation images. The class's table is made once, by
whoever teaches: on test images, and with `exam=N` on test images that nobody has drawn before.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...evaluate import WIDTH, as_good, choose_lam, scores, summary
from ...files import load_params
from ...methods import METHODS, Method
from ...params import Params, add, task_vectors
from ...suites.suite import Suite
from .alone import MEGABYTES, SECONDS
from .submission import Submission, read

LANDMARKS = ("Average", "Task Arithmetic", "TIES", "TSV-M")
"""Rows of the package that a class's table shows for comparison. They have no rank."""


# ---------------------------------------------------------------------------- one submission


def merge(submission: Submission, suite_name: str = "pocket") -> tuple[dict, dict[str, torch.Tensor] | None]:
    """(what was found, tau_m): the submission's merge in a process of its own; tau_m is None if a check failed."""
    command = [sys.executable, "-m", f"{__package__}.alone", str(submission.path.resolve()), suite_name]
    root = str(Path(__file__).parents[3])  # the child finds this package, whatever folder it works in
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [*command, folder], env=environment, capture_output=True, text=True, timeout=SECONDS + 120
            )
            found = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            found = {"stopped": "time"}
        except (IndexError, json.JSONDecodeError):  # the child died before its line
            found = {"stopped": "crash", "printed": done.stderr[-300:]}
        tau_m = None
        if not problems(found):
            tau_m = load_params(Path(folder) / "tau_m.safetensors")
    return found, tau_m


def problems(found: Mapping) -> list[str]:
    """Why a submission cannot be measured; empty if it can."""
    if stopped := found.get("stopped"):
        why = {"time": f"more than {SECONDS:g} seconds", "memory": f"more than {MEGABYTES} MB"}
        words = " ".join(str(found.get("printed", "")).split())
        trying = found.get("trying") or "to start"
        return [f"stopped: {why.get(stopped, stopped)}, while trying {trying} {words}".strip()]
    return [f"not so: {what} ({seen})" for what, seen in found["checks"].items() if seen]


def report(submission: Submission, found: Mapping) -> str:
    """The checks in words, as `samerge-edu submit` prints them."""
    lines = [f"{submission.name}, by {submission.author}; needs {submission.needs}, lam = {submission.lam:g}"]
    for what, seen in found.get("checks", {}).items():
        lines.append(f"  {'NO ' if seen else 'yes'}  {what}{f' ({seen})' if seen else ''}")
    lines += ["  for your information:"] if found.get("holds") else []
    lines += [f"  {'no ' if seen else 'yes'}  {what}" for what, seen in found.get("holds", {}).items()]
    lines += [f"  {problem}" for problem in problems(found) if found.get("stopped")]
    return "\n".join(lines)


def measure(
    suite: Suite, tau_m: Params, lam: float, experts: Mapping[str, float], split: str, n: int | None
) -> list[dict]:
    """Two rows, as the leaderboard has them: at the author's scale, and at the one that validation images choose.

    `experts` is each expert's accuracy on its own task; `n` images a task of `split` are looked at.
    """
    chosen, curve = choose_lam(suite, tau_m, n=n)
    rows = []
    for scale, lam_from, low, high in ((lam, "paper", lam, lam), (chosen, "validation", *as_good(curve))):
        per_task = scores(suite, add(suite.theta_0, tau_m, scale), split, n=n)
        about = {"lam": scale, "lam_from": lam_from, "lam_low": low, "lam_high": high}
        rows.append(about | summary(suite, per_task, experts) | {"per_task": per_task})
    return rows


def own_accuracy(suite: Suite, split: str, n: int | None) -> dict[str, float]:
    """Each expert on its own task: what 100 % normalised accuracy means."""
    return {task: scores(suite, suite.experts[task], split, [task], n)[task] for task in suite.id_tasks}


# ---------------------------------------------------------------------------- the class


def examined(suite: Suite, exam: int) -> Suite:
    """The suite with other test images: those from 500 * exam on, which no file holds and no other exam draws.

    An image is a function of its number, so that a number nobody has heard of before is a test nobody has seen.
    Exam 0 is the test split that everybody has. Raises ValueError for a suite that is not drawn.
    """
    if not 0 <= exam < 8_000_000:
        raise ValueError(f"exam: got {exam}, expected a whole number from 0 to 7999999")
    if exam == 0:
        return suite
    from ...suites.pocket.suite import SIZES, kind_and_strength, normalise
    from ...suites.pocket.tasks import draw

    if suite.family != "pocket":
        raise ValueError(f"exam: the test images of '{suite.name}' are files; expected a pocket suite, or exam 0")

    def other(task: str, split: str, n: int | None = None):
        start = SIZES["test"] * exam if split == "test" else 0
        kind, strength = kind_and_strength(task)
        images, labels = draw(kind, split, start + np.arange(n or SIZES[split]), strength=strength)
        return normalise(images), torch.from_numpy(labels)

    return replace(suite, draw=other, _images={})


def class_table(
    suite: Suite,
    submissions: Sequence[Submission],
    n: int | None = None,
    landmarks: Sequence[str] = LANDMARKS,
    each: Callable[[Mapping], None] = lambda row: None,
) -> list[dict]:
    """One row a submission, best H first, landmarks among them; those that cannot be measured last, with the reason.

    H is that of the scale chosen on validation images. `rank`: 1 and the number of submissions whose H is more than
    WIDTH above; images cannot tell closer ones apart, so they share a rank.
    """
    experts, rows = own_accuracy(suite, "test", n), []
    taus = [dict(tau) for tau in task_vectors(suite.theta_0, [suite.experts[task] for task in suite.id_tasks])]
    for name in landmarks:
        method: Method = METHODS[name]
        at = measure(suite, method.recipe(suite)(taus), method.lam, experts, "test", n)
        rows.append(_row({"method": name, "author": "", "needs": method.all_needs, "file": ""}, at))
        each(rows[-1])
    for submission in submissions:
        about = {"method": submission.name, "author": submission.author, "needs": submission.needs}
        about["file"] = submission.path.name
        found, tau_m = merge(submission, suite.name)
        if tau_m is None:
            rows.append(about | {"problem": "; ".join(problems(found))})
        else:
            at = measure(suite, tau_m, submission.lam, experts, "test", n)
            rows.append(_row(about | {"seconds": found["seconds"]}, at))
        each(rows[-1])
    return ranked(rows)


def _row(about: Mapping, at: Sequence[Mapping]) -> dict:
    published, chosen = at
    return {**about, **chosen, "lam_published": published["lam"], "h_published": published["h"]}


def ranked(rows: Sequence[Mapping]) -> list[dict]:
    """Sorted by H, with the key `rank` for those with an author; rows with a problem last."""
    good = sorted((row for row in rows if "problem" not in row), key=lambda row: -row["h"])
    handed_in = [row for row in good if row["author"]]
    for row in good:
        rank = 1 + sum(other["h"] > row["h"] + WIDTH for other in handed_in) if row["author"] else None
        good[good.index(row)] = {**row, "rank": rank}
    return [dict(row) for row in good] + [dict(row) for row in rows if "problem" in row]


def folder(path: str | Path) -> tuple[list[Submission], list[dict]]:
    """(the submissions of a folder, rows for the files that are none), in the order of their names.

    Raises ValueError for a folder without any Python file.
    """
    files = sorted(file for file in Path(path).glob("*.py") if not file.name.startswith("_"))
    if not files:
        raise ValueError(f"{path}: got no file that ends in .py, expected submissions")
    good, bad = [], []
    for file in files:
        try:
            good.append(read(file))
        except ValueError as e:
            bad.append({"method": file.stem, "author": "?", "needs": "?", "file": file.name, "problem": str(e)})
    return good, bad


def text(rows: Sequence[Mapping]) -> str:
    """The class's table as it is printed, 80 columns wide."""
    lines = [f"rank {'method':<17} {'author':<13} {'needs':<10} {'lam':>5} {'ID':>5} {'OOD':>5} {'H':>5} {'sec.':>6}"]
    for row in rows:
        line = f"{row.get('rank') or '':>4} {row['method'][:17]:<17} {row['author'][:13]:<13} {row['needs'][:10]:<10} "
        if "problem" in row:
            lines.append(f"{line}{row['file']}: {row['problem']}")
            continue
        line += f"{row['lam']:5.2f} {row['id_avg']:5.1f} {row['ood_avg']:5.1f} {row['h']:5.1f}"
        lines.append(line + (f" {row['seconds']:6.1f}" if "seconds" in row else ""))
    return "\n".join(lines)
