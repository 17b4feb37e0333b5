"""Download test (or training) images of the published tasks, or only say what that would be.

    python data_scripts/download_data.py --dry-run --tasks 8              sizes and licences, nothing is fetched
    python data_scripts/download_data.py                                  mnist, svhn, eurosat, gtsrb: about 0.2 GB
    python data_scripts/download_data.py --tasks mnist --split train      what finetune_expert.py needs

Licences differ by data set and are printed; several allow research only. SUN397's test split is by far the largest
(about 7 GB, of 8.8 GB for all eight tasks). Minutes: those of your network. A second call fetches only what is
missing.
"""

import argparse
import sys

from samerge_edu.data import DATA, read, sizes_on_hub
from samerge_edu.suites.manifest import WORKSHOP
from samerge_edu.suites.vit_b_32 import suite_tasks


def main() -> None:
    """Parse the options and fetch; a mistake or a failed download ends with one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tasks", default=",".join(WORKSHOP), help="names with commas, or 8, 14, 20 (default: %(default)s)"
    )
    parser.add_argument("--split", default="test", choices=["train", "test"])
    parser.add_argument("--source", default="hub", choices=["hub", "torchvision"])
    parser.add_argument("--dry-run", action="store_true", help="print sizes and fetch nothing")
    options = parser.parse_args()
    try:
        for task in suite_tasks(options.tasks):
            print(f"{size(task, options.split):>16}  {task}  [{DATA[task].licence}]", flush=True)
            if not options.dry_run:
                images, labels = read(task, options.split, source=options.source)
                print(f"{'':>16}  {len(labels)} images, the first is {next(images).size}", flush=True)
    except (OSError, ValueError) as e:
        sys.exit(f"download_data: {e}")


def size(task: str, split: str) -> str:
    """The hub's own number where it answers; else the table's, which knows test splits only."""
    try:
        return f"{sum(sizes_on_hub(task, split).values()) / 1e6:.1f} MB"
    except Exception:  # no network, a proxy, a hub that is busy
        return f"about {DATA[task].mb} MB" if split == "test" else "size unknown"


if __name__ == "__main__":
    main()
