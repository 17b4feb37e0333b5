"""Accuracy of the base, the experts and merged files on real test images, beside the published numbers.

    python data_scripts/evaluate_suite.py                                 zero-shot and experts, four tasks
    python data_scripts/evaluate_suite.py --files merged.safetensors      and merges made by `samerge-edu merge`
    python data_scripts/evaluate_suite.py --tasks 8 --device cuda         everything; without --per-class the whole sets

Downloads what is missing: 2.0 GB of models and 0.2 GB of images for the four tasks, 3.4 and 8.7 GB for eight
(licences: see download_experts.py and download_data.py). One expert and one batch of images are in memory at a
time. Minutes are printed; on a T4 we expect a few for the four tasks, which nobody has measured yet.
"""

import argparse
import sys
import time
from pathlib import Path

from samerge_edu.evaluate import scores
from samerge_edu.suites.published.clip_vit import load_clip_vit, without_proj
from samerge_edu.suites.published.hub import open_safetensors
from samerge_edu.suites.published.manifest import MODELS, WORKSHOP
from samerge_edu.suites.published.names import image_tower
from samerge_edu.suites.published.numbers import PUBLISHED


def main() -> None:
    """Parse the options, evaluate, print one row a model; a mistake or a failed download ends with one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32", choices=MODELS)
    parser.add_argument(
        "--tasks", default=",".join(WORKSHOP), help="names with commas, or 8, 14, 20 (default: %(default)s)"
    )
    parser.add_argument("--lora", action="store_true", help="LoRA experts instead of full ones")
    parser.add_argument("--files", nargs="*", default=[], type=Path, help="merged models")
    parser.add_argument("--per-class", type=int, help="at most so many test images of each class")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    try:
        evaluate(options)
    except (OSError, ValueError, MemoryError) as e:
        sys.exit(f"evaluate_suite: {e}")


def evaluate(options: argparse.Namespace) -> None:
    """Print the table, row by row as it is measured."""
    suite = load_clip_vit(
        options.tasks,
        (),
        model=options.model,
        lora=options.lora,
        per_class=options.per_class,
        device=options.device,
    )
    tasks, start = list(suite.tasks), time.perf_counter()
    print(
        f"{suite.family}{'' if options.per_class else ', whole test sets'}\n{'':<28}"
        + "".join(f"{t[:9]:>10}" for t in [*tasks, "mean"])
    )

    def row(name: str, accuracies: list[float]) -> None:
        print(
            f"{name:<28}" + "".join(f"{a:10.1f}" for a in [*accuracies, sum(accuracies) / len(accuracies)]), flush=True
        )

    models = {"zero-shot": suite.theta_0}
    models |= {f.name: without_proj(image_tower(open_safetensors(f, options.device))) for f in options.files}
    for name, theta in models.items():
        row(name, list(scores(suite, theta, tasks=tasks).values()))
    row("experts, each on its own", [scores(suite, suite.experts[t], tasks=[t])[t] for t in tasks])
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes on {options.device}")
    if options.model == "ViT-B-32" and not options.lora and any(p.on(tasks) is not None for p in PUBLISHED):
        print("\npublished, mean over the same tasks (compare within a family only):")
        for p in PUBLISHED:
            if (mean := p.on(tasks)) is not None:
                print(f"  {p.method:<18}{p.family:<6}{mean:6.1f}   {p.source}")


if __name__ == "__main__":
    main()
