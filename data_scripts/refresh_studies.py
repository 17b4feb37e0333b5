"""Put the recorded studies into the pages: their tables between comments, their pictures beside the pages.

    samerge-edu study sparse --out demo/studies
    cp demo/studies/sparse.json samerge_edu/studies/
    python data_scripts/refresh_studies.py

Fills each <!-- study-NAME --> block in docs/ and draws docs/study-NAME.png. Seconds; measures nothing.
"""

import matplotlib.pyplot as plt
from refresh_readme import ROOT, fill, pages

from samerge_edu import plots
from samerge_edu.studies import QUESTIONS
from samerge_edu.studies.scale import recorded

SHOWN = ("storage", "scale", "more-experts", "sparse", "soup", "osrm")


def main() -> None:
    """The table and the picture of each recorded study."""
    plots.style()
    for name in SHOWN:
        record = recorded(name)
        fill(f"study-{name}", QUESTIONS[name].report(record), pages())
        figure, _ = QUESTIONS[name].figure(record)
        figure.savefig(ROOT / "docs" / f"study-{name}.png", metadata={"Software": None}, bbox_inches="tight")
        plt.close(figure)


if __name__ == "__main__":
    main()
