"""The pocket suite: a small CLIP and its experts, shipped with the package. Nothing is downloaded.

Models are files of 16 bits, except for the experts of the small suites, which are task vectors in int8, and the second
release of the base, which is int8 as a whole (`int8`).
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP
from torch import Tensor

from ...files import LazyParams, load_params
from ...int8 import LazyInt8
from ...lora import dense, read_peft
from ...params import Params, add, block_index, check_same_structure, structure
from ..published.names import build_clip, fused, hf_weight
from ..suite import Suite
from .captions import WordTokenizer
from .scanned import REAL_DIGITS, real_digits
from .tasks import TASKS, draw
from .training import normalise, zero_shot_heads

WEIGHTS = Path(__file__).parent / "weights"
FAMILY = "pocket"
SIZES = {"train": 6000, "val": 200, "test": 500}  # images a task, when no number is given
INT8 = "open_clip_model_int8.safetensors"
OTHER_BASES = ("other", "second")
SIMILAR = {"signs_noon": ("signs", 0.6), "signs_dusk": ("signs", 0.9)}
"""Two tasks that are nearly the same: name -> (task, strength of its own style)."""


def load_pocket(device: str | torch.device = "cpu", folder: Path = WEIGHTS) -> Suite:
    """The base and its eight full experts; from another `folder`, those that were built into it."""
    return _suite("pocket", folder / "base", folder / "experts", device)


def load_pocket_pair(which: str, device: str | torch.device = "cpu") -> Suite:
    """Small suites for one question each.

    "weak": a base that saw little of the web, and two experts; "similar": two experts of nearly the same
    task; "other": an expert that was fine-tuned from another initialisation, beside the suite's own base (the base
    that it does belong to is `load_pocket_base("other")`).
    """
    base = {"weak": "weak/base", "similar": "base", "other": "base"}[which]
    own = {"other": "other/base"}.get(which, base)
    return _suite(f"pocket-{which}", WEIGHTS / base, WEIGHTS / which / "experts", device, own=WEIGHTS / own)


def load_pocket_base(which: str, device: str | torch.device = "cpu") -> Suite:
    """A base of another training, with its own text tower and heads, and the experts that were fine-tuned from it.

    "other": another beginning and less of the web, and an expert for digits; "second": a second release, another
    beginning and more of the web, without experts. Raises ValueError for any other name.
    """
    if which not in OTHER_BASES:
        raise ValueError(f"base: got '{which}', expected one of {', '.join(OTHER_BASES)}")
    base, experts = WEIGHTS / which / "base", WEIGHTS / which / "experts"
    return _suite(f"pocket-{which}-base", base, experts if experts.is_dir() else None, device, own=base)


def load_pocket_lora(r: int = 16, device: str | torch.device = "cpu") -> Suite:
    """The same base with eight LoRA experts of rank r, in files that PEFT loads into a Hugging Face CLIP tower."""
    suite = _suite(f"pocket-lora-{r}", WEIGHTS / "base", None, device)
    folders = sorted((WEIGHTS / f"lora_r{r}").iterdir(), key=lambda folder: list(TASKS).index(folder.name))
    layers = len({block_index(key) for key in suite.theta_0} - {None})
    suite.adapters = {folder.name: fused(read_peft(folder, hf_weight), layers) for folder in folders}
    theta_0 = suite.theta_0
    suite.experts = {name: add(theta_0, dense(adapter, like=theta_0)) for name, adapter in suite.adapters.items()}
    return suite


def load_clip(folder: Path, device: str | torch.device = "cpu") -> tuple[CLIP, WordTokenizer]:
    """(open_clip model, tokenizer) of one of the shipped bases, loaded as any local CLIP is."""
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLogger().level))
    if (folder / INT8).is_file():
        model = build_clip(json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"])
        model.load_state_dict(LazyInt8(folder / INT8).read_all())
        model.to(device)
    else:
        model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}", device=str(device))
    words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    return model.eval(), WordTokenizer(words)


def image_tower(folder: Path, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """The image tower of one of the shipped bases, float32, without the prefix "visual."."""
    if (folder / INT8).is_file():
        full = LazyInt8(folder / INT8, device).read_all()
    else:
        full = load_params(folder / "open_clip_model.safetensors", device)
    return {k.removeprefix("visual."): v.float() for k, v in full.items() if k.startswith("visual.")}


class OnBase(Mapping[str, Tensor]):
    """theta_0 + tau of a file in int8, added tensor by tensor when asked for: an expert of a small suite."""

    fresh = True

    def __init__(self, theta_0: Params, tau: LazyInt8):
        self.theta_0, self.tau, self.metadata, self.structure = theta_0, tau, tau.metadata, structure(theta_0)
        check_same_structure([theta_0, tau], what="model")

    def __getitem__(self, key: str) -> Tensor:
        return self.theta_0[key] + self.tau[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.structure)

    def __len__(self) -> int:
        return len(self.structure)


def _expert(file: Path, own: Params | None, device: str | torch.device) -> Params:
    """A file's model; with `own`, its base in memory, the file holds the task vector."""
    return LazyParams(file, device, torch.float32) if own is None else OnBase(own, LazyInt8(file, device))


def _suite(name: str, base: Path, experts: Path | None, device: str | torch.device, own: Path | None = None) -> Suite:
    model, tokenize = load_clip(base, device)
    theta_0 = image_tower(base, device)
    under = theta_0 if own == base else None if own is None else image_tower(own, device)
    files = {} if experts is None else {f.stem: f for f in experts.glob("*.safetensors")}
    tasks = TASKS | {t: replace(TASKS[kind_and_strength(t)[0]], name=t) for t in files if t not in TASKS}
    tasks |= {REAL_DIGITS.name: REAL_DIGITS}
    return Suite(
        name=name,
        family=FAMILY,
        theta_0=theta_0,
        experts={t: _expert(files[t], under, device) for t in sorted(files, key=_task_order)},
        tasks=tasks,
        heads={t.name: zero_shot_heads(model, tokenize, t.classes, t.templates) for t in tasks.values()},
        visual=model.visual,
        draw=draw_normalised,
        logit_scale=model.logit_scale.exp().item(),
        attention_heads=model.visual.transformer.resblocks[0].attn.num_heads,
        device=torch.device(device),
        read=lambda captions: text_features(model, tokenize, captions),
    )


def text_features(model: CLIP, tokenize: WordTokenizer, captions: Sequence[str]) -> Tensor:
    """(n, dim): each caption through the text tower, brought to length 1."""
    with torch.inference_mode():
        return model.encode_text(tokenize(list(captions)).to(model.logit_scale.device), normalize=True)


def _task_order(name: str) -> int:
    return list(TASKS).index(name) if name in TASKS else len(TASKS)


def kind_and_strength(task: str) -> tuple[str, float]:
    """Which painter draws a task, and how far from the web's style."""
    return SIMILAR.get(task, (task, 1.0))


def draw_normalised(task: str, split: str, n: int | None = None) -> tuple[Tensor, Tensor]:
    """(images, labels) of a task in its own style."""
    if task == REAL_DIGITS.name:
        images, labels = real_digits(split, n)
        return normalise(images), torch.from_numpy(labels)
    kind, strength = kind_and_strength(task)
    images, labels = draw(kind, split, np.arange(n or SIZES[split]), strength=strength)
    return normalise(images), torch.from_numpy(labels)


def read_metrics(folder: Path = WEIGHTS) -> Mapping:
    """What the build measured: seeds, bands and accuracies."""
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
