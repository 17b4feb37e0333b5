"""Put measured tables and pictures into the pages: the leaderboard, the suite's bands, an ablation, the contact sheet.

    make demo && samerge-edu ablate sa-merging --out docs/ablations
    python data_scripts/refresh_readme.py

Reads demo/leaderboard.{json,png}, docs/ablations/sa-merging.csv and the suite's weights, writes docs/*.png and, in the
page that has it, each block between <!-- NAME --> and <!-- /NAME -->. Nothing there is written by hand. Takes half a
minute; downloads nothing. The README's picture holds no numbers: it is draw_picture.py's.
"""

import datetime
import json
import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import typer

from samerge_edu import doctor, plots
from samerge_edu.suites import load_suite
from samerge_edu.suites.pocket.tasks import draw

ROOT = Path(__file__).parent.parent
SHOWN = ("lam", "id_avg", "id_gain", "id_spread", "ood_avg", "ood_gain", "ood_spread")  # of an ablation's columns


def main() -> None:
    """Refresh README.md and docs/ from the last `make demo` and the shipped weights."""
    demo = ROOT / "demo" / "leaderboard.json"
    record = json.loads(demo.read_text(encoding="utf-8"))
    made = datetime.date.fromtimestamp(demo.stat().st_mtime)
    docs = ROOT / "docs"
    shutil.copyfile(ROOT / "demo" / "leaderboard.png", docs / "leaderboard.png")
    suite = load_suite("pocket")
    plots.style()
    figure, _ = plots.contact_sheet(suite, n=6, web=lambda task, n: draw(task, "web", range(n), "web")[0])
    figure.savefig(docs / "contact_sheet.png", dpi=90)
    plt.close(figure)

    fill("leaderboard", leaderboard_block(record, made), pages())
    fill("bands", bands_block(), pages())
    fill("sa-merging", ablation_block(docs / "ablations" / "sa-merging.csv"), pages())


def pages() -> list[Path]:
    """README.md and all of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def fill(name: str, block: str, pages: list[Path]) -> None:
    """Replace what stands between <!-- name --> and <!-- /name -->, in the one page that has them."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    found = [page for page in pages if re.search(pattern, page.read_text(encoding="utf-8"), flags=re.DOTALL)]
    if len(found) != 1:
        got = ", ".join(page.name for page in found) or "none"
        raise ValueError(f"<!-- {name} --> ... <!-- /{name} -->: got {got}, expected one page that has it")
    text = re.sub(pattern, lambda m: m[1] + block + m[2], found[0].read_text(encoding="utf-8"), flags=re.DOTALL)
    found[0].write_text(text, encoding="utf-8")


def leaderboard_block(record: dict, made: datetime.date) -> str:
    """The leaderboard as a Markdown table: the published scale in one column, the validated one in the others."""
    reference = record["reference"]
    header = "| method | needs | lam (validated) | ID avg | worst | OOD avg | H | normalised | ID at published lam |"
    lines = [header, "|---|---|---|---|---|---|---|---|---|"]
    for name, row in [("*zero-shot*", reference["zero_shot"]), ("*experts, one a task*", reference["experts"])]:
        lines.append(f"| {name} | | | {_accuracies(row)} | |")
    published = {row["method"]: row for row in record["rows"] if row["lam_from"] == "paper"}
    for row in record["rows"]:
        if row["lam_from"] == "validation":
            paper = published[row["method"]]
            lines.append(
                f"| {row['method']} | {row['needs']} | {row['lam']:g} | {_accuracies(row)} "
                f"| {paper['id_avg']:.1f} at {paper['lam']:g} |"
            )
    versions = record["versions"]
    source = f"Made by `make demo` on {made}: torch {versions.get('torch', '?')}, {versions.get('device', 'cpu')}."
    return "\n".join([*lines, "", source, ""])


def ablation_block(file: Path) -> str:
    """An ablation's table; the random masks in a single row, from lowest to highest mean."""
    gains = pd.read_csv(file)
    gains["group"] = gains.variant.str.replace(r"^random mask \d+$", "random mask, each seed", regex=True)
    header = "| variant | median lam | ID avg | gain | spread | OOD avg | gain | spread |"
    lines = [header, "|---|---|---|---|---|---|---|---|"]
    for name, rows in gains.groupby("group", sort=False):
        cells = [_range(rows[c], 2 if c == "lam" else 1) for c in SHOWN]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _range(values: pd.Series, decimals: int) -> str:
    low, high = f"{values.min():.{decimals}f}", f"{values.max():.{decimals}f}"
    return low if low == high else f"{low} to {high}"


def _accuracies(row: dict) -> str:
    return " | ".join(f"{row[key]:.1f}" for key in ("id_avg", "id_worst", "ood_avg", "h", "normalised"))


def bands_block() -> str:
    """The acceptance bands as they were measured when the suite was built."""
    lines = ["| what | band | measured | |", "|---|---|---|---|"]
    for band in doctor.recorded_bands() or []:
        verdict = ("missed" if doctor.is_target(band) else "outside") if doctor.outside(band) else "inside"
        name = band["name"].replace("|", "\\|")  # a bar would end the cell
        lines.append(f"| {name} | {band['low']:.3g} to {band['high']:.3g} | {band['value']:.2f} | {verdict} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    typer.run(main)
