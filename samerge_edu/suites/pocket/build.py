"""Make the pocket suite's files: bases, experts, LoRA experts, each by a recipe that its file remembers.

A file that exists with the same recipe in its metadata is not made again, so that a build can be interrupted and taken
up. `data_scripts/build_pocket.py` calls these in their order.
"""

import copy
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from ...files import LazyParams, save_params
from ...int8 import rounded, save_int8
from ...lora import WEIGHTS as LORA_FILE
from ...lora import LoRA, write_peft
from ...params import Params, add, task_vectors
from ...sparse import load_sparse, save_sparse
from ...transforms.trim import trim
from ..published.names import split
from . import suite as pocket
from .captions import WordTokenizer
from .tasks import ID_TASKS, TASKS, draw
from .training import (
    MEAN,
    STD,
    LoRAUpdate,
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
    # fine-tuning for somebody who merges: 350 steps, each with a proximal L1 step towards the base
    "sparse": {"images": 8_000, "epochs": 5.6, "lr": 3e-4, "batch": 128, "shrink": 0.2, "keep": 0.2},
}
HARDER: dict[str, dict[str, Any]] = {
    "textures": {"images": 12_000, "epochs": 4.0}
}  # what a task needs beyond the recipe to reach its band
Base = tuple[CLIP, WordTokenizer]
RUNS: dict[str, dict[str, Any]] = {  # of one task, with other settings: what a soup is made of
    "aerial_1": {"seed": 1},
    "aerial_2": {"seed": 2, "lr": 1e-3},
    "aerial_3": {"seed": 3, "lr": 4e-3},
    "aerial_4": {"seed": 4, "epochs": 5.0},
    "aerial_5": {"seed": 5, "lr": 1.2e-2},
}
ONE_RUN: dict[str, Any] = {
    "seed": 6,
    "images": 6_400,
    "epochs": 4.0,
    "lr": 4e-3,
    "final": 1.0,
}  # 200 steps, the rate stays high
OSRM = {"osrm": {"images": 100, "split": "val", "of": "the other tasks"}}
FINE_TUNED = {
    "base": ("experts", "similar", "lora_r16", "lora_r4", "sparse", "soup", "osrm"),
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


def make_lora_expert(
    base: Base,
    task: str,
    r: int,
    folder: Path,
    change: Mapping[str, Any] = MappingProxyType({}),
    starts: Callable[[], Mapping[str, Tensor]] = dict,
) -> None:
    """A LoRA of rank r on the attention and MLP matrices, in a file that PEFT loads, unless it is there already.

    `change`: what is other than in the recipe of all. `starts()`: the A that some matrices begin with.
    """
    kind, _ = pocket.kind_and_strength(task)
    recipe = RECIPES["lora"] | HARDER.get(task, {}) | {"r": r, "alpha": r} | dict(change)
    if not up_to_date(folder / LORA_FILE, recipe):
        visual = copy.deepcopy(base[0].visual)
        updates = attach_lora(visual, r, recipe["alpha"], recipe.get("seed", ID_TASKS.index(kind)), starts())
        reached = fit(visual, base, task, recipe, label=f"LoRA r={r} {folder.name}")
        write_lora(folder, updates, recipe, {task: reached})


def make_checkpoints(base: Base, names: Mapping[int, str], r: int, folder: Path) -> None:
    """Checkpoints of one LoRA run, after the steps that are the keys of `names`, unless they are all there already."""
    task = pocket.kind_and_strength(names[max(names)])[0]
    recipe = RECIPES["lora"] | {"r": r, "alpha": r} | ONE_RUN
    if all(up_to_date(folder / name / LORA_FILE, recipe | {"step": step}) for step, name in names.items()):
        return
    visual = copy.deepcopy(base[0].visual)
    updates = attach_lora(visual, r, recipe["alpha"], recipe["seed"])

    def save(step: int) -> None:
        if step in names:
            with torch.no_grad():
                reached = zero_shot_accuracy(base[0], visual.eval(), base[1], task)
            visual.train()
            write_lora(folder / names[step], updates, recipe | {"step": step}, {task: reached})

    fit(visual, base, task, recipe, f"one run of {task}", save)


def make_sparse_expert(base: Base, task: str, file: Path) -> None:
    """An expert whose task vector is mostly zeros, stored as such, unless it is there already.

    What the proximal steps have left below the largest entries is cut at the end: it carries nothing of the task.
    """
    recipe = RECIPES["sparse"]
    if not up_to_date(file, recipe):
        visual = copy.deepcopy(base[0].visual)
        theta_0 = {k: v.clone() for k, v in visual.state_dict().items()}
        trained = fit(visual, base, task, recipe, label=f"sparse {task}")
        tau = trim(task_vectors(theta_0, [visual.state_dict()]), recipe["keep"])[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        save_sparse(file, tau, metadata(recipe, {task: trained}))
        visual.load_state_dict(add(theta_0, load_sparse(file)))
        save_sparse(file, tau, metadata(recipe, {task: zero_shot_accuracy(base[0], visual, base[1], task)}))


def write_lora(folder: Path, updates: Mapping[str, LoRAUpdate], recipe: dict, reached: dict[str, float]) -> None:
    """The factors as they are now, in 16 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    adapter = {k: LoRA(u.A.detach().half(), u.B.detach().half(), u.scale) for k, u in updates.items()}
    write_peft(folder, split(adapter), base_model="samerge_edu pocket base", metadata=metadata(recipe, reached))


def fit(
    visual: nn.Module,
    base: Base,
    task: str,
    recipe: dict,
    label: str,
    save: Callable[[int], None] = lambda step: None,
) -> float:
    """Fine-tune the tower in place; returns the accuracy that it reaches on the task's test split, in percent."""
    model, tokenize = base
    kind, strength = pocket.kind_and_strength(task)
    classes, templates = TASKS[kind].classes, TASKS[kind].templates
    images, labels = draw(kind, "train", np.arange(recipe["images"]), strength=strength)
    with plain_attention():
        finetune(
            visual, zero_shot_heads(model, tokenize, classes, templates), model.logit_scale.exp().item(),
            torch.from_numpy(images), torch.from_numpy(labels),
            epochs=recipe["epochs"], lr=recipe["lr"], batch=recipe["batch"], seed=recipe.get("seed", 0),
            shrink=recipe.get("shrink", 0.0), final=recipe.get("final", 0.0), save=save, label=label,
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
