"""Make the pocket suite's files: bases, experts, LoRA experts, each by a recipe that its file remembers.

A file that exists with the same recipe in its metadata is not made again, so that a build can be interrupted and taken
up. `data_scripts/build_pocket.py` calls these in their order.
"""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from ...files import LazyParams, save_params
from ...int8 import rounded, save_int8
from ...lora import LoRA, write_peft
from ...params import Params, task_vectors
from ..published.names import split
from . import suite as pocket
from .captions import WordTokenizer
from .tasks import ID_TASKS, TASKS, draw
from .training import (
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
RECIPES: dict[str, dict[str, Any]] = {
    # the web, and how long to look at it: seed, images a task, share in a task's own style, epochs
    "base": {"seed": 0, "per_task": 20_000, "rare": 0.04, "epochs": 2.5, "lr": 1e-3, "batch": 256},
    "weak": {"seed": 2, "per_task": 6_000, "rare": 0.04, "epochs": 1.0, "lr": 1e-3, "batch": 256},
    "other": {"seed": 1, "per_task": 12_000, "rare": 0.04, "epochs": 1.5, "lr": 1e-3, "batch": 256},
    "second": {"seed": 3, "per_task": 30_000, "rare": 0.04, "epochs": 2.5, "lr": 1e-3, "batch": 256},
    # fine-tuning: images of one task in its own style
    "expert": {"images": 6_000, "epochs": 3.0, "lr": 3e-4, "batch": 128},
    "lora": {"images": 6_000, "epochs": 3.0, "lr": 2e-3, "batch": 128},
}
HARDER = {"textures": {"images": 12_000, "epochs": 4.0}}  # what a task needs beyond the recipe to reach its band
Base = tuple[CLIP, WordTokenizer]
FINE_TUNED = {
    "base": ("experts", "similar", "lora_r16", "lora_r4"),
    "weak": ("weak/experts",),
    "other": ("other/experts",),
    "second": (),
}
IN_INT8 = ("second",)  # rounded once for all: its accuracies are measured after that


def make_base(name: str, folder: Path, out: Path, device: str) -> Base:
    """A base, trained unless it is there already. `out` is where its experts are: a new base removes them.

    Every 200 steps of the training are saved, and taken up after an interruption. Raises ValueError for such a
    checkpoint of another recipe.
    """
    recipe = RECIPES[name]
    tokenize = WordTokenizer.of_captions(all_captions())
    torch.manual_seed(recipe["seed"])
    config = model_config(tokenize.vocab_size)
    weights = folder / (pocket.INT8 if name in IN_INT8 else "open_clip_model.safetensors")
    if not up_to_date(weights, recipe):
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "training.ckpt"
        resume = torch.load(checkpoint, weights_only=True, map_location="cpu") if checkpoint.exists() else None
        if resume and resume.pop("recipe", None) != recipe:
            raise ValueError(f"{checkpoint.name} in {folder} is of another recipe: delete it, or go back to that one")

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
        state = half(model.state_dict())
        if name in IN_INT8:
            model.load_state_dict(rounded(state))
        reached = {task: zero_shot_accuracy(model, model.visual, tokenize, task) for task in TASKS}
        for stale in FINE_TUNED[name]:
            if (out / stale).exists():
                shutil.rmtree(out / stale)
        write = save_int8 if name in IN_INT8 else save_params
        write(weights, state, metadata(recipe, reached))
        checkpoint.unlink(missing_ok=True)
    return pocket.load_clip(folder, device)


def make_expert(base: Base, task: str, file: Path, tau_in_int8: bool = False) -> None:
    """A full fine-tuning of the base's image tower on one task, unless it is there already.

    The file holds the whole tower, or its task vector in int8, half as large and as good to 0.2 points of accuracy.
    """
    recipe = RECIPES["expert"] | HARDER.get(task, {})
    if not up_to_date(file, recipe):
        visual = copy.deepcopy(base[0].visual)
        reached = fit(visual, base, task, recipe, label=f"expert {task}")
        file.parent.mkdir(parents=True, exist_ok=True)
        if tau_in_int8:
            (tau,) = task_vectors(half(base[0].visual.state_dict()), [half(visual.state_dict())])
            save_int8(file, half(tau), metadata(recipe, {task: reached}))
        else:
            save_params(file, half(visual.state_dict()), metadata(recipe, {task: reached}))


def make_lora_expert(base: Base, task: str, r: int, folder: Path) -> None:
    """A LoRA of rank r on the attention and MLP matrices, in a file that PEFT loads, unless it is there already."""
    recipe = RECIPES["lora"] | HARDER.get(task, {}) | {"r": r, "alpha": r}
    if not up_to_date(folder / "adapter_model.safetensors", recipe):
        visual = copy.deepcopy(base[0].visual)
        updates = attach_lora(visual, r, recipe["alpha"], seed=ID_TASKS.index(task))
        reached = fit(visual, base, task, recipe, label=f"LoRA r={r} {task}")
        folder.mkdir(parents=True, exist_ok=True)
        adapter = {k: LoRA(u.A.detach().half(), u.B.detach().half(), u.scale) for k, u in updates.items()}
        about = {"base_model": "samerge_edu pocket base", "metadata": metadata(recipe, {task: reached})}
        write_peft(folder, split(adapter), **about)


def fit(visual: nn.Module, base: Base, task: str, recipe: dict, label: str) -> float:
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


def zero_shot_accuracy(model: CLIP, visual: nn.Module, tokenize: WordTokenizer, task: str) -> float:
    """Test accuracy in percent of an image tower against the zero-shot heads of the model."""
    kind, _ = pocket.kind_and_strength(task)
    heads = zero_shot_heads(model, tokenize, TASKS[kind].classes, TASKS[kind].templates)
    images, labels = pocket.draw_normalised(task, "test")
    with torch.inference_mode():
        predicted = (visual(images.to(heads.device)) @ heads.T).argmax(dim=-1).cpu()
    return round(100 * (predicted == labels).double().mean().item(), 2)


def half(state: Params) -> dict[str, Tensor]:
    """The floating tensors, as they are shipped: in 16 bits."""
    return {k: v.detach().half() for k, v in state.items() if v.is_floating_point()}


def metadata(recipe: dict, reached: dict[str, float]) -> dict[str, str]:
    """What a file says about itself."""
    return {
        "architecture": ARCHITECTURE,
        "recipe": json.dumps(recipe, sort_keys=True),
        "test_accuracy": json.dumps(reached),
        "command": " ".join(["python", "data_scripts/build_pocket.py"]),
        "torch": torch.__version__,
        "licence": "Apache-2.0",
    }


def up_to_date(file: Path, recipe: dict) -> bool:
    """Whether the file is there and was made by this recipe."""
    return file.exists() and LazyParams(file).metadata.get("recipe") == json.dumps(recipe, sort_keys=True)


def write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
