"""Rebuild the pocket suite from nothing: bases, experts, LoRA experts, metrics.

    python data_scripts/build_pocket.py [--device cuda] [--only experts,lora_r16] [--out DIR]

Everything is drawn and trained here; nothing is downloaded. Two CPU cores need an hour or two, a GPU minutes.
Resumable: the long training of a base writes a checkpoint every 200 steps, and a file that exists with the
same recipe in its metadata is not made again. A new base removes what was fine-tuned from the old one.
Size: under 60 MB. Licence of the result: Apache-2.0.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from samerge_edu.doctor import bands, outside
from samerge_edu.osrm import orthogonal_starts
from samerge_edu.statistics import input_grams
from samerge_edu.suites.pocket import build
from samerge_edu.suites.pocket import suite as pocket
from samerge_edu.suites.pocket.tasks import ID_TASKS
from samerge_edu.suites.suite import Suite

WEAK_TASKS = ("signs", "land_cover")
STAGES = (
    *("base", "experts", "similar", "lora_r16", "lora_r4", "weak", "other", "second"),
    *("sparse", "soup", "osrm", "metrics"),
)


def orthogonal_to_others(suite: Suite, task: str, r: int) -> dict[str, Tensor]:
    """OSRM's A for a task: the directions that the inputs of the other tasks of `OSRM` use least, in the base."""
    images = build.OSRM["osrm"]
    others = [other for other in pocket.OSRM if other != task]
    grams = [input_grams(suite, suite.theta_0, other, n=images["images"], split=images["split"]) for other in others]
    return orthogonal_starts(grams, r)


def main(
    out: Annotated[Path, typer.Option(help="where the weights go")] = pocket.WEIGHTS,
    only: Annotated[str, typer.Option(help=f"some of {', '.join(STAGES)}")] = ",".join(STAGES),
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Rebuild the pocket suite: bases, experts, LoRA experts, metrics."""
    stages = only.split(",")
    if unknown := [s for s in stages if s not in STAGES]:
        raise typer.BadParameter(f"got '{unknown[0]}', expected some of {', '.join(STAGES)}")

    def base_of(name: str, folder: Path):
        try:
            return build.make_base(name, folder, out, device)
        except ValueError as e:  # a checkpoint of another recipe
            raise typer.BadParameter(str(e)) from e

    base = base_of("base", out / "base")
    for task in ID_TASKS:
        if "experts" in stages:
            build.make_expert(base, task, out / "experts" / f"{task}.safetensors")
        for r in (16, 4):
            if f"lora_r{r}" in stages:
                build.make_lora_expert(base, task, r, out / f"lora_r{r}" / task)
    if "similar" in stages:
        for name in pocket.SIMILAR:
            build.make_expert(base, name, out / "similar" / "experts" / f"{name}.safetensors", tau_in_int8=True)
    if "weak" in stages:
        weak = base_of("weak", out / "weak" / "base")
        for task in WEAK_TASKS:
            build.make_expert(weak, task, out / "weak" / "experts" / f"{task}.safetensors", tau_in_int8=True)
    if "other" in stages:
        other = base_of("other", out / "other" / "base")
        build.make_expert(other, "digits", out / "other" / "experts" / "digits.safetensors", tau_in_int8=True)
    if "second" in stages:
        base_of("second", out / "second" / "base")
    if "sparse" in stages:
        for task in ID_TASKS:
            build.make_sparse_expert(base, task, out / "sparse" / f"{task}.safetensors")
    if "soup" in stages:
        for name, change in build.RUNS.items():
            build.make_lora_expert(base, name, 4, out / "soup" / "runs" / name, change)
        build.make_checkpoints(base, pocket.RUN, 4, out / "soup" / "checkpoints")
    if "osrm" in stages:
        suite = pocket.load_pocket(device, out)
        for task in pocket.OSRM:
            starts = partial(orthogonal_to_others, suite, task, 4)
            build.make_lora_expert(base, task, 4, out / "osrm" / task, build.OSRM, starts)
    if "metrics" in stages:
        measured = bands(pocket.load_pocket(device, out))
        build.write_json(out / "metrics.json", {"bands": measured})
        for band in measured:
            print(f"{band['name']:50s} {band['value']:7.2f}  {'outside' if outside(band) else 'inside'}")


if __name__ == "__main__":
    typer.run(main)
