"""Write the notebooks of a plan, cut down to what it shows, and how to prove that they run.

    python data_scripts/reduce_lessons.py --plan workshop-90 --to build/plans/workshop-90
    SAMERGE_STATIC=1 pytest --nbval --nbval-current-env --nbval-cell-timeout=400 \\
        --nbval-sanitize-with notebooks/sanitize.cfg build/plans/workshop-90

The second command executes them and compares what they print with the whole lessons' outputs; notebooks/conftest.py,
which says what is compared, is put beside them. tests/test_plans.py looks only at names, in seconds.
"""

import argparse
import json
import shutil
from pathlib import Path

from samerge_edu.course.classroom.plans import PLANS, reduced

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", required=True, choices=list(PLANS))
    parser.add_argument("--to", type=Path, required=True, help="folder for the notebooks; made if it does not exist")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    for lesson in PLANS[arguments.plan].lessons:
        (path,) = NOTEBOOKS.glob(f"{lesson}_*.ipynb")
        whole = json.loads(path.read_text(encoding="utf-8"))
        small = reduced(whole, arguments.plan, lesson)
        (arguments.to / path.name).write_text(json.dumps(small, indent=1) + "\n", encoding="utf-8")
        print(f"{path.name}: {len(small['cells'])} of {len(whole['cells'])} cells")
    shutil.copy(NOTEBOOKS / "conftest.py", arguments.to)


if __name__ == "__main__":
    main()
