"""The leaderboard: every method, at the scale its paper publishes and at the scale chosen on validation.

run(suite, methods)  ->  record, a dictionary that is JSON already
table(record)        ->  the same as a pandas table
write(record, ...)   ->  CSV, JSON and PNG files, all of them or none
"""

import ctypes
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from .beforehand import check_writable
from .ensembles.ensemble import measure
from .evaluate import as_good, choose_lam, provenance, scores, summary
from .files import share
from .methods import DATA_METHODS, LORA_METHODS, METHODS, SEED, Method
from .params import Params, add, task_vectors
from .suites import Suite, load_suite
from .sweep import sweep
from .sweep.journal import Journal

Result = TypeVar("Result")

VAL_IMAGES = 100
"""Validation images a task for the choice of each scale: seven scales tried cost less than one test run."""

COLUMNS = (
    "method", "needs", "lam", "lam_from", "lam_low", "lam_high", "id_avg", "id_worst", "ood_avg", "h", "normalised",
    "seconds", "peak_mb", "density", "images", "transductive", "task_id", "router", "stored_mb",
)  # fmt: skip
"""Keys of a row, in the order of the columns of the CSV file. `seconds` holds adapting and merging; `images` are those
of each task that the method looks at, `transductive` says whether they are the test images themselves; `task_id` and
`router` what is asked for at test time; `stored_mb` millions of bytes that are kept beside one model."""

PRINTED = {
    "lam": ("lam", 5, 2), "lam_from": ("from", 6, 0), "id_avg": ("ID", 5, 1), "id_worst": ("worst", 5, 1),
    "ood_avg": ("OOD", 5, 1), "h": ("H", 5, 1), "normalised": ("norm.", 5, 1), "seconds": ("sec.", 5, 1),
}  # fmt: skip
"""Key in a row -> heading, width and decimals on the screen: with the method's name 80 columns, as a terminal has."""

NAME = 80 - sum(width + 1 for _, width, _ in PRINTED.values())

BESIDE = {"asks": ("asks for", 8, 0), "stored_mb": ("MB", 5, 1)}
"""Two more columns on the screen, where some method keeps something beside the model: a wider table."""


# ---------------------------------------------------------------------------- run


def run(
    suite: Suite,
    methods: Mapping[str, Method] = METHODS,
    progress: bool = False,
    each: Callable[[dict, list[dict]], None] = lambda record, rows: None,
    n_jobs: int = 1,
    again: Mapping[str, Any] | None = None,
    engine: str = "loky",
    journal: Journal | None = None,
) -> dict:
    """Merge the suite's experts by every method and measure each result on every task.

    Two rows a method: its published scale (`lam_from` "paper") and the one that `choose_lam` finds on the ID
    tasks' validation images ("validation"; the scales from `lam_low` to `lam_high` were `as_good`).
    Accuracies are those of the test split. The record is

        {"suite", "versions", "reference": {"zero_shot": {...}, "experts": {...}}, "rows": [{"method", ...}, ...]}

    where `versions` also holds what is needed to run it again: command, commit, device, precision, threads and seed.
    `each(record, rows)` is called with what is new, whenever something is: a row of reference, or a method's two.
    So a run that is stopped has shown, and may have written, all that was finished.

    The work is a `sweep` of small jobs, `n_jobs` at a time on an `engine`. For that the suite must be one that
    `load_suite` gives, with `again` as its arguments, and the methods rows of this package's tables: each process
    loads them for itself. The numbers are the same to the last bit wherever a job runs; with `again` the `journal` may
    know them from an earlier run. Rows are handed over as they finish, and stand in the record in the table's order.
    """
    if again is None:
        n_jobs, engine, journal = 1, "loky", None
    if again is None or (n_jobs == 1 and engine == "loky"):
        experts = {task: dict(suite.experts[task]) for task in suite.id_tasks}  # read once, used by all
        work = partial(_measure, (suite, methods, experts, task_vectors(suite.theta_0, list(experts.values()))))
    else:
        work = partial(_in_another_process, tuple(sorted(again.items())))
    # the experts at home first: what they reach there is part of every row
    at_home: list[dict[str, Any]] = [{"expert": task, "tasks": [task]} for task in suite.id_tasks]
    abroad: list[dict[str, Any]] = [{"expert": task, "tasks": suite.ood_tasks} for task in suite.id_tasks]
    jobs = [*at_home, {"expert": None, "tasks": None}, *abroad, *({"method": name} for name in methods)]
    record: dict[str, Any] = {
        "suite": suite.name,
        "versions": provenance(suite.device) | {"seed": SEED, "n_jobs": n_jobs, "engine": engine},
        "reference": {},
        "rows": [],
    }
    own: dict[str, float] = {}
    runs: dict[str, Mapping[str, float]] = {}
    finished: dict[int, list[dict]] = {}

    def new_rows(number: int, result: Any) -> list[dict]:
        """The rows that one more result completes, which are now in the record, too."""
        job = jobs[number]
        if "method" in job:
            finished[number] = [row | summary(suite, row["per_task"], own) for row in result]
            record["rows"] = [row for i in sorted(finished) for row in finished[i]]
            return finished[number]
        if job["expert"] is None:
            zero_shot = summary(suite, result, own) | {"per_task": result}
            record["reference"] = {"zero_shot": zero_shot} | record["reference"]
            return reference_rows(record)[:1]
        runs[job["expert"]] = result
        if len(runs) < len(abroad):
            return []
        together = own | {task: mean(run[task] for run in runs.values()) for task in suite.ood_tasks}
        record["reference"]["experts"] = summary(suite, together, own) | {"per_task": together}
        return reference_rows(record)[-1:]

    early: dict[int, Any] = {}
    with tqdm(total=len(jobs), disable=None if progress else True, leave=False, unit="job") as bar:
        for number, result in sweep(work, jobs, n_jobs, engine, journal):
            bar.set_description(str(jobs[number].get("method") or jobs[number].get("expert") or "zero-shot"))
            bar.update()
            if number < len(at_home):
                own |= result
            else:
                early[number] = result
            for i in sorted(early) if len(own) == len(at_home) else []:
                if rows := new_rows(i, early.pop(i)):
                    each(record, rows)
    return record


def _measure(
    loaded: tuple,
    *,
    method: str | None = None,
    expert: str | None = None,
    tasks: Sequence[str] | None = None,
) -> Any:
    """One job: the rows of a method; or the accuracies of an expert, or of the base, on some tasks or all of them."""
    suite, methods, experts, taus = loaded
    if method is not None:
        return rows_of(suite, method, methods[method], taus)
    return scores(suite, suite.theta_0 if expert is None else experts[expert], tasks=tasks)


def _in_another_process(again: tuple[tuple[str, Any], ...], **job: Any) -> Any:
    return _measure(_loaded_once(again), **job)


@cache
def _loaded_once(again: tuple[tuple[str, Any], ...]) -> tuple:
    suite = load_suite(**dict(again))
    experts = {task: dict(suite.experts[task]) for task in suite.id_tasks}
    rows = {**METHODS, **LORA_METHODS, **DATA_METHODS}
    return suite, rows, experts, task_vectors(suite.theta_0, list(experts.values()))


def rows_of(suite: Suite, name: str, method: Method, taus: Sequence[Params]) -> list[dict]:
    """The two rows of one method, without `summary`: merged once, measured at the published and the chosen scale."""
    tau_m, seconds, peak_mb = measured(lambda: method.recipe(suite)(taus), suite.device)
    about: dict[str, Any] = {"method": name, "needs": method.all_needs}
    about |= {"images": method.images, "transductive": method.transductive}
    about |= {"task_id": method.task_id, "router": method.router}
    cost = {"peak_mb": peak_mb, "density": density(tau_m)}
    rows, found = [], {}
    chosen, curve = choose_lam(suite, tau_m, n=VAL_IMAGES)
    for lam, lam_from, low, high in [
        (method.lam, "paper", method.lam, method.lam),
        (chosen, "validation", *as_good(curve)),
    ]:
        if lam not in found:
            found[lam] = _scored(suite, method, add(suite.theta_0, tau_m, lam))
        per_task, stored_mb, more = found[lam]
        scale = {"lam": lam, "lam_from": lam_from, "lam_low": low, "lam_high": high}
        cost |= {"seconds": seconds + more, "stored_mb": stored_mb}
        rows.append(about | scale | cost | {"per_task": per_task})
    return rows


def _scored(suite: Suite, method: Method, theta: Params) -> tuple[dict[str, float], float, float]:
    """(accuracy of each task, millions of bytes beside the merged model, seconds to make what they hold)."""
    if method.beside is not None:
        ensemble, seconds, _ = measured(partial(method.beside, suite, theta), suite.device)
        return measure(suite, ensemble).per_task, ensemble.megabytes, seconds
    if method.repair is not None:
        repair, seconds, _ = measured(partial(method.repair, suite, theta), suite.device)
        kept = [x for bottleneck in repair.values() if isinstance(bottleneck, tuple) for x in bottleneck]
        return scores(suite, theta, repair=repair), sum(x.nbytes for x in kept) / 1e6, seconds
    return scores(suite, theta), 0.0, 0.0


def density(tau_m: Params) -> float:
    """Share of the merged update's entries that are not zero.

    >>> density({"w": torch.tensor([[0.0, 2.0], [0.0, -1.0]]), "b": torch.tensor([0.0])})
    0.4
    """
    return sum(int(tau_m[k].count_nonzero()) for k in tau_m) / sum(tau_m[k].numel() for k in tau_m)


def measured(work: Callable[[], Result], device: torch.device) -> tuple[Result, float, float | None]:
    """(result, wall seconds, peak memory in MiB that the work needed beyond what was in use before).

    On CUDA the peak is that of PyTorch's allocator. On Linux it is the growth of the process's resident memory to
    its high-water mark, which the kernel keeps and lets us reset; freed memory is handed back first, so that the
    work cannot hide in it. Elsewhere nothing exact is at hand and the peak is None.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before, start = torch.cuda.memory_allocated(device), time.perf_counter()
        result = work()
        torch.cuda.synchronize(device)
        return result, time.perf_counter() - start, (torch.cuda.max_memory_allocated(device) - before) / 2**20
    before = _resident_mib("VmRSS") if _reset_resident_peak() else None
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    return result, seconds, None if before is None else _resident_mib("VmHWM") - before


def _reset_resident_peak() -> bool:
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except (OSError, AttributeError, TypeError):  # no Linux, no glibc, or a container that forbids it
        return False
    return True


def _resident_mib(field: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1024


# ---------------------------------------------------------------------------- out


def reference_rows(record: Mapping) -> list[dict]:
    """The base and the experts as rows."""
    names = {"zero_shot": "zero-shot", "experts": "experts (one a task)"}
    return [{"method": names[kind], "needs": ""} | row for kind, row in record["reference"].items()]


def table(record: Mapping) -> pd.DataFrame:
    """The record as a table: reference rows first, then one line for each method and scale."""
    return pd.DataFrame([*reference_rows(record), *record["rows"]]).reindex(columns=list(COLUMNS))


def text(record: Mapping) -> str:
    """The table as it is printed, 80 columns wide, or 95 if a method keeps something beside the model."""
    beside = any(row.get("stored_mb") for row in record["rows"])
    rows = [*reference_rows(record), *record["rows"]]
    return "\n".join([heading(beside), *(line(row, beside) for row in rows)])


def heading(beside: bool = False) -> str:
    """The first line of the printed table; `beside`: with what is kept beside the model."""
    columns = PRINTED | BESIDE if beside else PRINTED
    return f"{'method':<{NAME}}" + "".join(f" {name:>{width}}" for name, width, _ in columns.values())


def line(row: Mapping, beside: bool = False) -> str:
    """One row as it is printed: percentages with one decimal, blanks where a number makes no sense.

    What a method needs stands behind its name where it needs more than the experts; a name too long for its column
    is cut, since a terminal would break the whole line. `beside`: with what is kept beside the model; what is asked
    for at test time then has a column of its own.
    """
    needs = row.get("needs") or "none"
    if beside:
        needs, _, asks = needs.partition(", ")
        row = {**row, "asks": asks or None}
    name = f"{row['method']}" + ("" if needs == "none" else f" ({needs})")
    cells = [name if len(name) <= NAME else f"{name[: NAME - 1]}…"]
    for key, (_, width, decimals) in (PRINTED | BESIDE if beside else PRINTED).items():
        value = row.get(key)
        if value is None or isinstance(value, str):
            shown = "valid." if value == "validation" else value or ""
        else:
            shown = f"{value:.{decimals}f}"
        cells.append(f"{shown:>{width}}")
    return f"{cells[0]:<{NAME}} " + " ".join(cells[1:])


def write(record: Mapping, csv: Path | None = None, json_file: Path | None = None, png: Path | None = None) -> None:
    """Write the files that are named. Each is finished beside its place and then moved there: never half of one."""
    check_writable([csv, json_file, png])
    finished: list[tuple[Path, Path]] = []
    try:
        for path, save in [(csv, _save_csv), (json_file, _save_json), (png, _save_png)]:
            if path is not None:
                handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
                os.close(handle)
                finished.append((Path(part), path))
                save(record, Path(part))
        for part, path in finished:
            share(part)
            os.replace(part, path)
    finally:
        for part, _ in finished:
            part.unlink(missing_ok=True)


def _save_csv(record: Mapping, path: Path) -> None:
    per_task = pd.DataFrame([row["per_task"] for row in [*record["reference"].values(), *record["rows"]]])
    pd.concat([table(record), per_task.add_prefix("acc_")], axis=1).to_csv(path, index=False, float_format="%.6g")


def _save_json(record: Mapping, path: Path) -> None:
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _save_png(record: Mapping, path: Path) -> None:
    """Two pictures, one below the other: ID against OOD, and the worst ID task against the average."""
    import matplotlib.pyplot as plt

    from . import plots

    pictures = []
    with plt.rc_context():
        plots.style()
        for draw in (plots.id_ood, plots.worst_average):
            figure, _ = draw(record)
            with io.BytesIO() as png:
                figure.savefig(png, format="png")
                png.seek(0)
                pictures.append(plt.imread(png, format="png"))
            plt.close(figure)
    width = max(picture.shape[1] for picture in pictures)
    pad = [((0, 0), (0, width - picture.shape[1]), (0, 0)) for picture in pictures]
    below = [np.pad(picture, p, constant_values=1) for picture, p in zip(pictures, pad, strict=True)]
    plt.imsave(path, np.concatenate(below), format="png")
