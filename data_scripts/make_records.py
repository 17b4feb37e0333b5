"""Write docs/records.md, the published ViT-B/32 results by checkpoint family, from suites/published/numbers.py.

    python data_scripts/make_records.py

Every number is in numbers.py with its source; nothing in docs/records.md is written by hand.
"""

from itertools import groupby
from pathlib import Path
from statistics import mean
from textwrap import fill

from samerge_edu.suites.published.manifest import TA8
from samerge_edu.suites.published.numbers import PER_TASK, PUBLISHED, RECORDS

RECORDS_FILE = Path(__file__).parent.parent / "docs" / "records.md"

INTRODUCTION = """\
# Records: what is published for CLIP ViT-B/32

Top-1 averages over 8, 14 and 20 tasks, in percent, as far as public sources print them. **Compare within a family of
checkpoints only**: the same method on other experts differs by points. Nothing in this table was measured here; the
leaderboard was. As of 2026-11-24. Written by `data_scripts/make_records.py` from
`samerge_edu/suites/published/numbers.py`.

Families: TA, the Task Arithmetic authors' experts · FB, FusionBench's, on the hub · TALL, TALL-masks' experts, whose
DTD expert saw test images, which lifts its 8-task averages · the others trained their own.
Source kind: *paper*, read in the paper · *repository*, the authors' documentation or result files · *note*, somebody's
summary; the table itself was not read here · *log*, an openly logged research run without review.
"""


def main() -> None:
    """Write docs/records.md."""
    RECORDS_FILE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *records(), "", *readings(), ""])


def records() -> list[str]:
    """One table a family."""
    lines = []
    for family, rows in groupby(RECORDS, key=lambda record: record.family):
        lines += ["", f"## Family: {family}", "", "| method | year | needs | 8 | 14 | 20 | source kind | source |"]
        lines.append("|---|---|---|---|---|---|---|---|")
        for r in rows:
            numbers = " | ".join("" if x is None else f"{x:.1f}" for x in (r.eight, r.fourteen, r.twenty))
            lines.append(f"| {r.method} | {r.year} | {r.needs} | {numbers} | {r.kind} | {r.source} |")
    return lines[1:]


def readings() -> list[str]:
    """SA-Merging's printed tasks beside WUDI's, and how far two other methods of one average are apart on them."""
    wudi, sa = PER_TASK.values()
    iso_c, iso_cts = (
        dict(zip(TA8, p.tasks, strict=True)) for p in PUBLISHED if p.family == "FB" and p.method in ("Iso-C", "Iso-CTS")
    )
    first, second = PER_TASK
    lines = ["## Two readings of SA-Merging's row (an inference, not a fact)", ""]
    lines += [f"| task | {first} | {second} | difference | Iso-C minus Iso-CTS (FB) |", "|---|---|---|---|---|"]
    for task in sa:
        ours, other = sa[task] - wudi[task], iso_c[task] - iso_cts[task]
        lines.append(f"| {task} | {wudi[task]:.1f} | {sa[task]:.1f} | {ours:+.1f} | {other:+.1f} |")
    apart = [mean(abs(a[t] - b[t]) for t in sa) for a, b in ((sa, wudi), (iso_c, iso_cts))]
    side = "always in the same direction" if all(sa[t] > wudi[t] for t in sa) else "in both directions"
    return [
        *lines,
        "",
        fill(
            f"On these five tasks SA-Merging and WUDI are {apart[0]:.1f} points apart on average, {side}; Iso-C and "
            f"Iso-CTS, two methods of one author and of nearly one average, {apart[1]:.1f}. SA-Merging's authors call "
            "it modular. So the published row may be SA-Merging *in front of WUDI* and not, as the text reads "
            "literally, the plain sum of the pruned task vectors. Both readings are rows of the leaderboard, and "
            "`samerge-edu ablate in-front` puts it in front of six merges (ablations/in-front.md). What would "
            "decide: the authors' code, or the published experts on your own machine,",
            width=120,
            break_on_hyphens=False,
        ),
        "",
        '    samerge-edu leaderboard --suite vit-b-32 --methods "WUDI,SA-Merging + WUDI,SA-Merging"',
    ]


if __name__ == "__main__":
    main()
