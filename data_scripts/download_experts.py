"""Download the published experts of a real CLIP, or only say what that would be.

    python data_scripts/download_experts.py --dry-run                     sizes and licences, nothing is fetched
    python data_scripts/download_experts.py                               ViT-B/32, four tasks: about 2.0 GB
    python data_scripts/download_experts.py --lora                        the same four as LoRA: about 0.6 GB
    python data_scripts/download_experts.py --tasks 8 --to usb            all eight (3.4 GB), and a copy to carry

Base: OpenAI's CLIP (MIT). Experts: FusionBench's (no licence stated); LoRA: KnOTS' (none stated). Minutes: those
of your network; on Colab's about 1 per GB. A second call fetches only what is missing. `--to DIR` makes a folder
for machines without a network: set SAMERGE_ASSETS=DIR there. A mirror: set HF_ENDPOINT.
"""

import argparse
import sys
from pathlib import Path

from samerge_edu.suites.published.clip_vit import suite_assets
from samerge_edu.suites.published.hub import prefetch
from samerge_edu.suites.published.manifest import MODELS, WORKSHOP


def main() -> None:
    """Parse the options and fetch; a mistake or a failed download ends with one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32", choices=MODELS)
    parser.add_argument(
        "--tasks", default=",".join(WORKSHOP), help="names with commas, or 8, 14, 20 (default: %(default)s)"
    )
    parser.add_argument("--lora", action="store_true", help="LoRA experts instead of full ones")
    parser.add_argument("--dry-run", action="store_true", help="print sizes and fetch nothing")
    parser.add_argument("--to", type=Path, metavar="DIR", help="also copy everything into a folder")
    options = parser.parse_args()
    try:
        prefetch(suite_assets(options.model, options.tasks, options.lora), options.dry_run, options.to)
    except (OSError, ValueError) as e:
        sys.exit(f"download_experts: {e}")


if __name__ == "__main__":
    main()
