"""What does each part of a method contribute? Take it away, or replace it, and measure again.

    samerge-edu ablate sa-merging | in-front | lwptv  [--suite pocket]
    samerge-edu ablate sa-lora --suite pocket-lora

One file a study says what is tried, as a table like `METHODS`: name -> recipe. What they share is in `ablation`.

Other questions have files of their own, each with a `run`, a `report` and a `figure`:

    samerge-edu study storage | scale | more-experts | sparse | soup | osrm
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from tqdm import tqdm

from ..files import replace_file
from ..plots import style
from ..suites.suite import Suite
from ..sweep import sweep
from ..sweep.journal import Journal
from . import ablation, more_experts, osrm, scale, soup, sparse, storage
from .in_front import in_front_variants
from .in_front import report as in_front_report
from .lwptv import figures, lwptv_variants, on_pairs, published_lam, report
from .sa_lora import lora_variants
from .sa_merging import sa_variants
from .scale import loaded

VARIANTS = {"sa-merging": sa_variants, "in-front": in_front_variants, "lwptv": lwptv_variants, "sa-lora": lora_variants}

QUESTIONS: dict[str, Any] = {
    "storage": storage,
    "scale": scale,
    "more-experts": more_experts,
    "sparse": sparse,
    "soup": soup,
    "osrm": osrm,
}
"""name -> module with run(n, n_jobs, engine, journal) -> Iterator[record], report(record) -> Markdown, figure(record).

A study is a `sweep` of small jobs: names and numbers go in, rows come out, and the record grows in the jobs' order.
"""


def study(
    suite: str,
    method: str,
    n: int = 100,
    progress: bool = False,
    n_jobs: int = 1,
    engine: str = "loky",
    journal: Journal | None = None,
) -> pd.DataFrame:
    """All rows of a method's ablation of a suite; the column `part` says which experiment they belong to.

    "subsets", every variant on three subsets of the experts. For LwPTV also Task Arithmetic with and without it on
    "pairs", each two of the suite's experts, and for the pocket suite on "similar", three pairs that draw nearly the
    same task by construction, and "weak", two experts of a base that saw little of the web. The merges are the jobs of
    a `sweep`, and the rows are the same wherever they run.
    """
    found: dict[int, list[dict]] = {}
    jobs = merges_of(suite, method, n)
    with tqdm(total=len(jobs), disable=not progress, leave=False, unit="merge") as bar:
        for number, rows in sweep(merge, jobs, n_jobs, engine, journal):
            bar.set_description("{part}: {variant}".format(**jobs[number]))
            bar.update()
            found[number] = rows
    return pd.DataFrame([row for i in sorted(found) for row in found[i]])


def merges_of(suite: str, method: str, n: int) -> list[dict]:
    """The jobs of an ablation, `merge`'s arguments: what travels is the name of a variant, and its recipe stays."""
    lwptv = method == "lwptv"
    parts = ["subsets", *(["pairs"] if lwptv else []), *(["similar", "weak"] if lwptv and suite == "pocket" else [])]
    jobs = []
    for part in parts:
        tasks, variants = loaded_part(suite, part).id_tasks, recipes(suite, method, part)
        for some in ablation.subsets(tasks) if part == "subsets" else map(list, combinations(tasks, 2)):
            for variant in variants:
                published = published_lam(variant) if part == "subsets" else 1.0
                job = {"suite": suite, "method": method, "part": part, "tasks": some, "variant": variant, "n": n}
                jobs.append(job | {"fixed": published if lwptv else None})
    return jobs


def merge(
    suite: str, method: str, part: str, tasks: Sequence[str], variant: str, n: int, fixed: float | None
) -> list[dict]:
    """`ablation.rows_of` of one variant and subset, by their names."""
    return ablation.rows_of(
        loaded_subset(suite, part, tuple(tasks)), variant, recipes(suite, method, part)[variant], n, fixed, part
    )


def loaded_part(suite: str, part: str) -> Suite:
    """The experts that a part of a study is about."""
    if part == "similar":  # the same base, so that pocket's own expert for signs is a third
        close = loaded("pocket-similar")
        return replace(close, experts={"signs": loaded(suite).experts["signs"], **close.experts})
    return loaded("pocket-weak" if part == "weak" else suite)


@lru_cache(maxsize=1)  # the jobs come subset by subset
def loaded_subset(suite: str, part: str, tasks: tuple[str, ...]) -> ablation.Subset:
    return ablation.subset(loaded_part(suite, part), tasks)


@cache
def recipes(suite: str, method: str, part: str) -> Mapping[str, ablation.Recipe]:
    return VARIANTS[method](loaded(suite)) if part == "subsets" else on_pairs()


def write_json(record: Mapping, folder: Path, name: str) -> None:
    """NAME.json, what was measured, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded(record), indent=1) + "\n"
    replace_file(folder / f"{name}.json", lambda part: part.write_text(text, encoding="utf-8"))


def rounded(value: object) -> object:
    """A record with its numbers to four digits after the point: a quarter of the size."""
    if isinstance(value, Mapping):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def write_tables(record: Mapping, folder: Path, name: str) -> None:
    """NAME.md, its tables, and NAME.png, its picture, into a folder."""
    (folder / f"{name}.md").write_text(QUESTIONS[name].report(record), encoding="utf-8")
    with plt.rc_context():
        style()
        fig, _ = QUESTIONS[name].figure(record)
        fig.savefig(folder / f"{name}.png", bbox_inches="tight")
        plt.close(fig)


def write(rows: pd.DataFrame, gains: pd.DataFrame, reference: str, folder: Path, name: str) -> None:
    """What `ablation.write` writes, and for whole studies of LwPTV and in-front their tables and pictures."""
    whole_study = name == "lwptv" and (rows.lam_from == "fixed").any()  # and not one `run` of its variants
    ablation.write(rows, gains, reference, folder, name, figures(rows) if whole_study else {})
    if whole_study:
        (folder / f"{name}-tables.md").write_text(report(rows), encoding="utf-8")
    if name == "in-front":
        (folder / f"{name}-tables.md").write_text(in_front_report(rows), encoding="utf-8")
