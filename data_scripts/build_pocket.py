"""Rebuild the pocket suite from nothing: bases, experts, LoRA experts, metrics.

    python data_scripts/build_pocket.py [--device cuda] [--only experts,lora_r16] [--out DIR]

Everything is drawn and trained here; nothing is downloaded. Two CPU cores need about an hour, a GPU minutes.
Resumable: the long training of a base writes a checkpoint every 200 steps, and a file that exists with the
same recipe in its metadata is not made again. A new base removes what was fine-tuned from the old one.
Size: under 60 MB. Licence of the result: Apache-2.0.
"""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from open_clip.model import CLIP

from samerge_edu.doctor import bands, outside
from samerge_edu.files import LazyParams, save_params
from samerge_edu.lora import LoRA, write_peft
from samerge_edu.suites.pocket import suite as pocket
from samerge_edu.suites.pocket.captions import WordTokenizer
from samerge_edu.suites.pocket.tasks import ID_TASKS, TASKS, draw
from samerge_edu.suites.pocket.training import (
    MEAN,
    STD,
    all_captions,
    attach_lora,
    finetune,
    model_config,
    plain_attention,
    train_base,
    web_data,
    zero_shot_heads,
)

ARCHITECTURE = "open_clip ViT, 32x32 images, patch 8, width 160, 5 layers, 5 heads, GELU (not QuickGELU)"
RECIPES = {
    # the web, and how long to look at it: seed, images a task, share in a task's own style, epochs
    "base": {"seed": 0, "per_task": 20_000, "rare": 0.04, "epochs": 2.5, "lr": 1e-3, "batch": 256},
    "weak": {"seed": 2, "per_task": 6_000, "rare": 0.04, "epochs": 1.0, "lr": 1e-3, "batch": 256},
    "other": {"seed": 1, "per_task": 12_000, "rare": 0.04, "epochs": 1.5, "lr": 1e-3, "batch": 256},
    # fine-tuning: images of one task in its own style
    "expert": {"images": 6_000, "epochs": 3.0, "lr": 3e-4, "batch": 128},
    "lora": {"images": 6_000, "epochs": 3.0, "lr": 2e-3, "batch": 128},
}
HARDER = {"textures": {"images": 12_000, "epochs": 4.0}}  # what a task needs beyond the recipe to reach its band
WEAK_TASKS = ("signs", "land_cover")
FINE_TUNED = {"base": ("experts", "similar", "lora_r16", "lora_r4"), "weak": ("weak/experts",), "other": ("other",)}
STAGES = ("base", "experts", "similar", "lora_r16", "lora_r4", "weak", "other", "metrics")


def main(
    out: Annotated[Path, typer.Option(help="where the weights go")] = pocket.WEIGHTS,
    only: Annotated[str, typer.Option(help=f"some of {', '.join(STAGES)}")] = ",".join(STAGES),
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Rebuild the pocket suite: bases, experts, LoRA experts, metrics."""
    stages = only.split(",")
    if unknown := [s for s in stages if s not in STAGES]:
        raise typer.BadParameter(f"got '{unknown[0]}', expected some of {', '.join(STAGES)}")
    base = make_base("base", out / "base", out, device)
    for task in ID_TASKS:
        if "experts" in stages:
            make_expert(base, task, out / "experts" / f"{task}.safetensors")
        for r in (16, 4):
            if f"lora_r{r}" in stages:
                make_lora_expert(base, task, r, out / f"lora_r{r}" / task)
    if "similar" in stages:
        for name in pocket.SIMILAR:
            make_expert(base, name, out / "similar" / "experts" / f"{name}.safetensors")
    if "weak" in stages:
        weak = make_base("weak", out / "weak" / "base", out, device)
        for task in WEAK_TASKS:
            make_expert(weak, task, out / "weak" / "experts" / f"{task}.safetensors")
    digits = out / "other" / "experts" / "digits.safetensors"
    if "other" in stages and not up_to_date(digits, RECIPES["expert"]):
        other = make_base("other", Path("work") / "other_base", out, device)  # not shipped: only its expert is
        make_expert(other, "digits", digits)
    if "metrics" in stages:
        measured = bands(pocket.load_pocket(device, out))
        write_json(out / "metrics.json", {"bands": measured})
        for band in measured:
            print(f"{band['name']:50s} {band['value']:7.2f}  {'outside' if outside(band) else 'inside'}")


def make_base(name: str, folder: Path, out: Path, device: str):
    """(model, tokenizer) of a base, trained unless it is there already. `out` is where its experts are."""
    recipe = RECIPES[name]
    tokenize = WordTokenizer.of_captions(all_captions())
    torch.manual_seed(recipe["seed"])
    config = model_config(tokenize.vocab_size)
    weights = folder / "open_clip_model.safetensors"
    if not up_to_date(weights, recipe):
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "training.ckpt"
        resume = torch.load(checkpoint, weights_only=True, map_location="cpu") if checkpoint.exists() else None
        if resume and resume.pop("recipe", None) != recipe:
            raise typer.BadParameter(
                f"{checkpoint.name} in {folder} is of another recipe: delete it, or go back to that one"
            )

        def save(step: int, state: dict) -> None:
            torch.save(state | {"recipe": recipe}, half_written := checkpoint.with_suffix(".part"))
            os.replace(half_written, checkpoint)  # an interruption leaves the old checkpoint, never half of one

        images, rows = web_data(recipe["per_task"], recipe["rare"], recipe["seed"])
        with plain_attention():
            model = train_base(
                CLIP(**config).to(device), tokenize, images, rows,
                epochs=recipe["epochs"], lr=recipe["lr"], batch=recipe["batch"], seed=recipe["seed"],
                save=save, resume=resume,
            )  # fmt: skip
        preprocess = {"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
        write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})
        write_json(folder / "vocabulary.json", tokenize.words)
        reached = {task: zero_shot_accuracy(model, model.visual, tokenize, task) for task in TASKS}
        for stale in FINE_TUNED[name]:
            if (out / stale).exists():
                shutil.rmtree(out / stale)
        save_params(weights, half(model.state_dict()), metadata(recipe, reached))
        checkpoint.unlink(missing_ok=True)
    return pocket.load_clip(folder, device)


def make_expert(base, task: str, file: Path) -> None:
    """A full fine-tuning of the base's image tower on one task, unless it is there already."""
    recipe = RECIPES["expert"] | HARDER.get(task, {})
    if not up_to_date(file, recipe):
        visual = copy.deepcopy(base[0].visual)
        reached = fit(visual, base, task, recipe, label=f"expert {task}")
        file.parent.mkdir(parents=True, exist_ok=True)
        save_params(file, half(visual.state_dict()), metadata(recipe, {task: reached}))


def make_lora_expert(base, task: str, r: int, folder: Path) -> None:
    """A LoRA of rank r on the attention and MLP matrices, in PEFT's format, unless it is there already."""
    recipe = RECIPES["lora"] | HARDER.get(task, {}) | {"r": r, "alpha": r}
    if not up_to_date(folder / "adapter_model.safetensors", recipe):
        visual = copy.deepcopy(base[0].visual)
        updates = attach_lora(visual, r, recipe["alpha"], seed=ID_TASKS.index(task))
        reached = fit(visual, base, task, recipe, label=f"LoRA r={r} {task}")
        folder.mkdir(parents=True, exist_ok=True)
        adapter = {k: LoRA(u.A.detach().half(), u.B.detach().half(), u.scale) for k, u in updates.items()}
        write_peft(folder, adapter, base_model="samerge_edu pocket base", metadata=metadata(recipe, {task: reached}))


def fit(visual, base, task: str, recipe: dict, label: str) -> float:
    """Fine-tune the tower in place; returns the accuracy that it reaches on the task's test split, in percent."""
    model, tokenize = base
    kind, strength = pocket.kind_and_strength(task)
    classes, templates = TASKS[kind].classes, TASKS[kind].templates
    images, labels = draw(kind, "train", np.arange(recipe["images"]), strength=strength)
    with plain_attention():
        finetune(
            visual, zero_shot_heads(model, tokenize, classes, templates), model.logit_scale.exp().item(),
            torch.from_numpy(images), torch.from_numpy(labels),
            epochs=recipe["epochs"], lr=recipe["lr"], batch=recipe["batch"], seed=0, label=label,
        )  # fmt: skip
    return zero_shot_accuracy(model, visual, tokenize, task)


def zero_shot_accuracy(model, visual, tokenize, task: str) -> float:
    """Test accuracy in percent of an image tower against the zero-shot heads of the model."""
    kind, _ = pocket.kind_and_strength(task)
    heads = zero_shot_heads(model, tokenize, TASKS[kind].classes, TASKS[kind].templates)
    images, labels = pocket.draw_normalised(task, "test")
    with torch.inference_mode():
        predicted = (visual(images.to(heads.device)) @ heads.T).argmax(dim=-1).cpu()
    return round(100 * (predicted == labels).double().mean().item(), 2)


def half(state: dict) -> dict:
    return {k: v.detach().half() for k, v in state.items() if v.is_floating_point()}


def metadata(recipe: dict, reached: dict[str, float]) -> dict[str, str]:
    return {
        "architecture": ARCHITECTURE,
        "recipe": json.dumps(recipe, sort_keys=True),
        "test_accuracy": json.dumps(reached),
        "command": " ".join(["python", "data_scripts/build_pocket.py"]),
        "torch": torch.__version__,
        "licence": "Apache-2.0",
    }


def up_to_date(file: Path, recipe: dict) -> bool:
    return file.exists() and LazyParams(file).metadata.get("recipe") == json.dumps(recipe, sort_keys=True)


def write_json(file: Path, content) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
