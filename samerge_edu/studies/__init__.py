"""What does each part of a method contribute? Take it away, or replace it, and measure again.

    samerge-edu ablate sa-merging | in-front | lwptv  [--suite pocket]
    samerge-edu ablate sa-lora --suite pocket-lora

One file a study says what is tried, as a table like `METHODS`: name -> recipe. What they share is in `ablation`.

Other questions have files of their own, each with a `run`, a `report` and a `figure`:

    samerge-edu study storage | scale | more-experts | sparse | soup | osrm
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from ..files import replace_file
from ..plots import style
from ..suites import load_suite
from ..suites.suite import Suite
from . import ablation, more_experts, osrm, scale, soup, sparse, storage
from .in_front import in_front_variants
from .in_front import report as in_front_report
from .lwptv import figures, lwptv_variants, on_pairs, published_lam, report
from .sa_lora import lora_variants
from .sa_merging import sa_variants

VARIANTS = {"sa-merging": sa_variants, "in-front": in_front_variants, "lwptv": lwptv_variants, "sa-lora": lora_variants}

QUESTIONS: dict[str, Any] = {
    "storage": storage,
    "scale": scale,
    "more-experts": more_experts,
    "sparse": sparse,
    "soup": soup,
    "osrm": osrm,
}
"""name -> module with run(n, n_jobs) -> Iterator[record], report(record) -> Markdown, figure(record)."""


def study(suite: Suite, method: str, n: int = 100, progress: bool = False) -> pd.DataFrame:
    """All rows of a method's ablation; the column `part` says which experiment they belong to.

    "subsets", every variant on three subsets of the experts. For LwPTV also Task Arithmetic with and without it on
    "pairs", each two of the suite's experts, and for the pocket suite on "similar", three pairs that draw nearly the
    same task by construction, and "weak", two experts of a base that saw little of the web.
    """
    variants = VARIANTS[method](suite)
    if method != "lwptv":
        return ablation.run(suite, variants, n=n, progress=progress)
    rows = [
        ablation.run(suite, variants, n=n, progress=progress, fixed={name: published_lam(name) for name in variants})
    ]
    others = {"pairs": suite}
    if suite.name == "pocket":
        close = load_suite("pocket-similar")  # the same base, so that pocket's own expert for signs is a third
        others["similar"] = replace(close, experts={"signs": suite.experts["signs"], **close.experts})
        others["weak"] = load_suite("pocket-weak")
    for part, other in others.items():
        pairs, variants = [list(two) for two in combinations(other.id_tasks, 2)], on_pairs()
        rows.append(ablation.run(other, variants, pairs, n, progress, dict.fromkeys(variants, 1.0), part))
    return pd.concat(rows, ignore_index=True)


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
