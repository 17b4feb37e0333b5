"""What 1, 4, 16, ... images of each task buy: measure every point of samerge_edu/studies/data.py, and keep them.

    python data_scripts/measure_images.py            about a quarter of an hour on two busy cores

Writes samerge_edu/studies/data.json after each point; a second call goes on where the first was stopped. To measure
anew, delete the file. Then puts table and figure into docs/data.md. Nothing is downloaded.
"""

import json

from refresh_readme import ROOT, fill

from samerge_edu.course.drawings.d10 import LINES, against_images
from samerge_edu.evaluate import provenance
from samerge_edu.params import task_vectors
from samerge_edu.studies import data
from samerge_edu.suites import load_suite


def main() -> None:
    suite = load_suite("pocket")
    taus = task_vectors(suite.theta_0, [dict(suite.experts[task]) for task in suite.id_tasks])
    record = {"suite": suite.name, "test_images": data.TEST_IMAGES, "versions": provenance(), "rows": []}
    record |= {"rates": {}, "sure": []}
    if data.FILE.exists():
        record |= data.recorded()
    for part, entry in data.points(suite, taus, record):
        if part == "rates":  # of fine-tuning, on validation images: {learning rate: accuracy}
            record[part] |= entry
        else:
            record[part].append(entry)
        data.FILE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(part, {key: value for key, value in entry.items() if key != "per_task"}, flush=True)
    fill("data", data.table(record), [ROOT / "docs" / "data.md"])
    figure, _ = against_images(record["rows"], ["Average", "TSV-M"], LINES)
    figure.savefig(ROOT / "docs" / "data.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
