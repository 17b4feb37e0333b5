"""Put the recorded studies of docs/beyond.md into the page: tables between comments, pictures beside it.

    samerge-edu study storage --out samerge_edu/studies      measures, and leaves storage.json there
    python data_scripts/refresh_beyond.py

Seconds; measures nothing and downloads nothing.
"""

import matplotlib.pyplot as plt
from refresh_readme import ROOT, fill

from samerge_edu import plots
from samerge_edu.studies import storage

PAGE = ROOT / "docs" / "beyond.md"


def main() -> None:
    """The table and the picture of "What a megabyte buys"."""
    record = storage.recorded()
    fill("storage", storage.report(record), [PAGE])
    with plt.rc_context():
        plots.style()
        figure, _ = storage.figure(record)
        figure.savefig(ROOT / "docs" / "beyond.png", metadata={"Software": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
