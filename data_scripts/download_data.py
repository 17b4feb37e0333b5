"""Download test (or training) images of the published tasks, or only say what that would be.

    python data_scripts/download_data.py --dry-run --tasks 8              sizes and licences, nothing is fetched
    python data_scripts/download_data.py                                  mnist, svhn, eurosat, gtsrb: about 0.2 GB
    python data_scripts/download_data.py --tasks mnist --split train      what finetune_expert.py needs

Licences differ by data set and are printed; several allow research only. SUN397's test split is by far the largest
(about 7 GB, of 8.7 GB for all eight tasks). Minutes: those of your network. A second call fetches only what is
missing.
"""

import argparse
import sys
from pathlib import Path

from samerge_edu.suites.published.clip_vit import suite_tasks
from samerge_edu.suites.published.data import fetch, read
from samerge_edu.suites.published.manifest import WORKSHOP


def main() -> None:
    """Parse the options and fetch; a mistake or a failed download ends with one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tasks", default=",".join(WORKSHOP), help="names with commas, or 8, 14, 20 (default: %(default)s)"
    )
    parser.add_argument("--split", default="test", choices=["train", "val", "test"], help="val is a tenth of train")
    parser.add_argument("--source", default="hub", choices=["hub", "torchvision"])
    parser.add_argument("--dry-run", action="store_true", help="print sizes and fetch nothing")
    parser.add_argument("--to", type=Path, metavar="DIR", help="also copy everything into a folder")
    options = parser.parse_args()
    try:
        for task in suite_tasks(options.tasks):
            if options.source == "torchvision" and not options.dry_run:
                print(f"{task}: {len(read(task, options.split, source='torchvision')[1])} images by torchvision")
            else:
                fetch(task, options.split, options.dry_run, options.to)
    except (OSError, ValueError) as e:
        sys.exit(f"download_data: {e}")


if __name__ == "__main__":
    main()
