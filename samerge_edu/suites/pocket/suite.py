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
from ...sparse import load_sparse
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
SOUP = {f"aerial_{i}": ("aerial", 1.0) for i in range(1, 6)}
"""Five runs of one task with other settings: name -> the task that all of them are for."""
RUN = {step: f"aerial_step_{step}" for step in (120, 140, 160, 180, 200)}
"""Five late checkpoints of one run: steps -> name."""
OSRM = ("land_cover", "aerial", "vehicles", "scenes")
"""The tasks that have a LoRA expert which was begun orthogonally to the other three."""
SAME = SIMILAR | SOUP | {name: ("aerial", 1.0) for name in RUN.values()}


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


def load_pocket_sparse(device: str | torch.device = "cpu", folder: Path = WEIGHTS) -> Suite:
    """The same base and tasks with experts that were trained for merging: a fifth of the entries has moved at most."""
    suite = _suite("pocket-sparse", folder / "base", None, device)
    files = sorted((folder / "sparse").glob("*.safetensors"), key=lambda file: _task_order(file.stem))
    suite.experts = {file.stem: add(suite.theta_0, load_sparse(file, device)) for file in files}
    return suite


def load_pocket_lora(r: int = 16, device: str | torch.device = "cpu") -> Suite:
    """The same base with eight LoRA experts of rank r, in files that PEFT loads into a Hugging Face CLIP tower."""
    return _lora_suite(f"pocket-lora-{r}", f"lora_r{r}", device)


def load_pocket_osrm(device: str | torch.device = "cpu") -> Suite:
    """Four LoRA experts of rank 4, each begun in directions that the other three tasks hardly use (`osrm`)."""
    return _lora_suite("pocket-osrm", "osrm", device)


def load_pocket_soup(which: str = "runs", device: str | torch.device = "cpu") -> Suite:
    """Runs of *one* task, aerial, as LoRA experts of rank 4: what soups and selective averages are made of.

    "runs": five, with other seeds, rates and lengths. "checkpoints": five late ones of one run whose rate stays high.
    Each stands in the suite as an expert of its own, for the same images. Raises ValueError for anything else.
    """
    names = {"runs": ("pocket-soup", "soup/runs"), "checkpoints": ("pocket-run", "soup/checkpoints")}
    if which not in names:
        raise ValueError(f"which: got '{which}', expected {' or '.join(names)}")
    return _lora_suite(*names[which], device)


def _lora_suite(name: str, folder: str, device: str | torch.device) -> Suite:
    folders = {path.name: path for path in (WEIGHTS / folder).iterdir() if path.is_dir()}
    experts = sorted(folders, key=_task_order)
    suite = _suite(name, WEIGHTS / "base", None, device, others=experts)
    layers = len({block_index(key) for key in suite.theta_0} - {None})
    suite.adapters = {task: fused(read_peft(folders[task], hf_weight), layers) for task in experts}
    theta_0 = suite.theta_0
    suite.experts = {task: add(theta_0, dense(adapter, like=theta_0)) for task, adapter in suite.adapters.items()}
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


def _suite(
    name: str,
    base: Path,
    experts: Path | None,
    device: str | torch.device,
    own: Path | None = None,
    others: Sequence[str] = (),
) -> Suite:
    """`others`: names of experts that the caller will add."""
    model, tokenize = load_clip(base, device)
    theta_0 = image_tower(base, device)
    under = theta_0 if own == base else None if own is None else image_tower(own, device)
    files = {} if experts is None else {f.stem: f for f in experts.glob("*.safetensors")}
    added = [t for t in (*files, *others) if t not in TASKS]
    tasks = TASKS | {t: replace(TASKS[kind_and_strength(t)[0]], name=t) for t in added}
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


def _task_order(name: str) -> tuple[int, str]:
    return list(TASKS).index(name) if name in TASKS else len(TASKS), name


def kind_and_strength(task: str) -> tuple[str, float]:
    """Which painter draws a task, and how far from the web's style."""
    return SAME.get(task, (task, 1.0))


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
