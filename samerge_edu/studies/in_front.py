"""SA-Merging in front of other merges: what does pruning cost where directions are solved for? `ablation.run` runs it.

    samerge-edu ablate in-front

Five tasks of SA-Merging's published vision table follow WUDI's row closely (docs/records.md), and its authors call it
modular: the table may be SA-Merging in front of WUDI and not a plain sum. That is an inference. What it would be worth
here is measured: each merge alone, and after pruning at three rates.
"""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import mean, stdev

import pandas as pd

from ..merges.actmat import actmat
from ..merges.iso import iso_c
from ..merges.task_arithmetic import task_arithmetic
from ..merges.tsv_m import tsv_m
from ..merges.wudi import wudi_optimum
from ..methods import sa
from ..params import Params, pipe
from ..suites.suite import Suite
from .ablation import Recipe

RATES = (0.2, 0.05, 0.02)
"""p, the share pruned in each of T = 10 rounds: 11, 60 and 82 % of the entries are left. 0.2 is the paper's."""

MERGES: dict[str, Recipe] = {
    "TA": task_arithmetic,
    "WUDI (optimum)": wudi_optimum,
    "WUDI (optimum, every matrix)": partial(wudi_optimum, scope="matrices"),
    "TSV-M": tsv_m,
    "Iso-C": iso_c,
    "ACTMat": actmat,
}


def in_front_variants(suite: Suite) -> dict[str, Recipe]:
    """Every merge alone and behind SA-Merging at each rate; "TA", the plain sum, is what all are compared with."""
    variants = dict(MERGES)
    for p in RATES:
        masked = remembered(sa(suite, p=p))
        variants |= {f"SA, p = {p} + {name}": pipe(masked, merge) for name, merge in MERGES.items()}
    return variants


Transform = Callable[[Sequence[Params]], Sequence[Params]]


def remembered(transform: Transform) -> Transform:
    """The transform, computed once for the experts that it saw last: six merges look at the same pruned ones."""
    last: list = [None, None]

    def once(taus: Sequence[Params]) -> Sequence[Params]:
        if last[0] is not taus:
            last[:] = [taus, transform(taus)]
        return last[1]

    return once


def report(rows: pd.DataFrame) -> str:
    """Markdown: each merge alone, and what SA-Merging in front of it changes, mean (spread) over the subsets."""
    rows = rows[rows.lam_from == "validation"]
    at_home = zip(rows.per_task, rows.tasks, strict=True)  # the subset's own tasks come first in per_task
    rows = rows.assign(worst=[min(list(per_task.values())[:n]) for per_task, n in at_home])
    by_variant = dict(list(rows.set_index("left_out").groupby("variant")[["id_avg", "worst", "ood_avg"]]))
    out = []
    for key, heading in (("id_avg", "ID average"), ("worst", "Worst ID task"), ("ood_avg", "OOD average")):
        out += [f"\n| {heading} of | alone | {' | '.join(f'p = {p}' for p in RATES)} |"]
        out += ["|---|---|" + "---|" * len(RATES)]
        for name in MERGES:
            alone = by_variant[name][key]
            changes = [(by_variant[f"SA, p = {p} + {name}"][key] - alone).tolist() for p in RATES]
            cells = [f"{mean(c):+.1f}" + (f" ({stdev(c):.1f})" if len(c) > 1 else "") for c in changes]
            out.append(f"| {name} | {alone.mean():.1f} | {' | '.join(cells)} |")
    return "\n".join([*out, ""]).lstrip()
