"""What matching two networks is worth: measure every part of samerge_edu/studies/alignment.py, and keep it.

    python data_scripts/measure_alignment.py         about five minutes on a busy core

Writes samerge_edu/studies/alignment.json after each part; a second call goes on where the first was stopped. To measure
anew, delete the file. Then puts tables and figures into docs/beyond.md. Nothing is downloaded.
"""

import json

import matplotlib.pyplot as plt
from refresh_readme import ROOT, fill

from samerge_edu import plots
from samerge_edu.evaluate import provenance
from samerge_edu.studies import alignment
from samerge_edu.suites import load_suite


def main() -> None:
    suite = load_suite("pocket")
    record = {"suite": suite.name, "versions": provenance()}
    if alignment.FILE.exists():
        record |= alignment.recorded()
    for part, rows in alignment.points(suite, record):
        record[part] = rows
        alignment.FILE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(part, json.dumps(rows), flush=True)
    page = ROOT / "docs" / "beyond.md"
    for name, block in alignment.tables(record).items():
        fill(f"alignment-{name}", block, [page])
    plots.style()
    for name, (figure, _) in {
        "two-beginnings": plots.two_beginnings(record["widths"], record["lines"]),
        "second-release": plots.carried(record["release"]),
    }.items():
        figure.savefig(ROOT / "docs" / f"{name}.png", metadata={"Software": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
