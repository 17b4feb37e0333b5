"""The published CLIP experts: ViT-B/32 (also B/16 and L/14), full and LoRA, from the hub.

Experts are Hugging Face `CLIPVisionModel`s: the image tower *without* its projection. So theta_0 and the experts
have no `proj` here; the base's own stays in `suite.visual`, is used by `encode`, written by `streaming.merge_suite`.
Heads are text, embedded by the frozen text tower when a task is first asked for.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor

from ...forecast import check_fits
from ...lora import CONFIG, WEIGHTS, LoRA, dense, read_peft
from ...params import Params, add, structure
from ..suite import Suite
from .data import fetch, read
from .hub import convert_pickle, locate, open_safetensors, prefetch
from .manifest import MODELS, SUITES, TA8, TALL14, TALL20, WORKSHOP, base_assets, expert_assets
from .names import Renamed, build_clip, check_activation, from_hf, fused, hf_weight, image_tower, zero_shot_head

_CAPTIONS = Path(__file__).parent / "class_names.json"  # FusionBench's and OpenAI's, both MIT


@dataclass(repr=False)
class PublishedSuite(Suite):
    """A suite that also knows its base's file (`whole`: text tower, projection and all), `config` and `transform`."""

    whole: Params = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    transform: Callable = torch.as_tensor


@dataclass(frozen=True)
class Task:
    """One data set as a zero-shot classification task: "id" where an expert exists, "ood" where none does."""

    name: str
    kind: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]


class Heads(Mapping[str, Tensor]):
    """task -> (classes, dim), computed by the text tower when it is first asked for."""

    def __init__(self, clip, tasks: Mapping[str, Task]):
        self.clip, self.tasks, self.known = clip, tasks, {}
        self.tokenizer = open_clip.SimpleTokenizer(context_length=clip.context_length)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.known:
            task = self.tasks[name]
            self.known[name] = zero_shot_head(self.clip, self.tokenizer, task.classes, task.templates)
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)


def suite_tasks(tasks: Sequence[str] | str | int = WORKSHOP, ood: Sequence[str] = ()) -> dict[str, Task]:
    """The chosen tasks with their class names and templates.

    `tasks` are names, in a list or in a string with commas; 8, 14 and 20 stand for the literature's lists.
    """
    lists = {"8": TA8, "14": TALL14, "20": TALL20}
    if isinstance(tasks, int) and str(tasks) not in lists:
        raise ValueError(f"tasks: got {tasks}, expected 8, 14, 20 or names")
    names = lists.get(str(tasks)) or tuple(t.strip() for t in (tasks.split(",") if isinstance(tasks, str) else tasks))
    if unknown := [t for t in (*names, *ood) if t not in TALL20]:
        raise ValueError(f"task: got '{unknown[0]}', expected one of {', '.join(TALL20)}")
    captions = json.loads(_CAPTIONS.read_text(encoding="utf-8"))
    kinds = {t: "id" for t in names} | {t: "ood" for t in ood if t not in names}
    return {
        t: Task(t, kind, tuple(captions[t]["classes"]), tuple(captions[t]["templates"])) for t, kind in kinds.items()
    }


def suite_assets(model: str = "ViT-B-32", tasks: Sequence[str] | str | int = WORKSHOP, lora: bool = False) -> list:
    """Every file that `load_clip_vit` needs with these arguments, for `hub.prefetch`."""
    if model not in MODELS:
        raise ValueError(f"model: got '{model}', expected one of {', '.join(MODELS)}")
    return base_assets(model) + [a for task in suite_tasks(tasks) for a in expert_assets(model, task, lora)]


def prefetch_suite(
    name: str = "vit-b-32",
    tasks: Sequence[str] | str | int = WORKSHOP,
    *,
    images: bool = False,
    dry_run: bool = False,
    to: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Print a suite's files with their sizes, then fetch and check them: see `hub.prefetch`.

    `images` adds the tasks' test images; `to` copies everything into a folder for machines without a network.
    Raises ValueError for a suite or task that does not exist, and what `hub.locate` raises.
    """
    if name not in SUITES:
        raise ValueError(f"suite: got '{name}', expected one of {', '.join(SUITES)}")
    model, lora = SUITES[name]
    prefetch(suite_assets(model, tasks, lora), dry_run, to, say)
    for task in suite_tasks(tasks) if images else ():
        fetch(task, "test", dry_run, to, say)


def load_clip_vit(
    tasks: Sequence[str] | str | int = WORKSHOP,
    ood: Sequence[str] = ("cifar10", "fashion_mnist"),
    *,
    model: str = "ViT-B-32",
    lora: bool = False,
    per_class: int | None = None,
    source: str = "hub",
    device: str | torch.device = "cpu",
) -> Suite:
    """A published suite: the base, one expert for each of `tasks`, and out-of-domain tasks without an expert.

    Args: `tasks`, names, or 8, 14 or 20 for the literature's lists (default: the four smallest of the eight);
    `ood`, tasks without an expert; `model`, "ViT-B-32", "ViT-B-16" or "ViT-L-14"; `lora`, LoRA experts instead of
    full ones; `per_class`, look at that many test images of each class at most, which `family` then says;
    `source`, "hub" or "torchvision", see `data.read`; `device`, where models and images live.

    Files that are not here are downloaded first (`hub.prefetch` shows sizes before). Experts are read lazily.
    Raises what `hub.locate` raises, and ValueError for an expert that does not fit the base or its activation.
    """
    assets = suite_assets(model, tasks, lora)
    chosen, device = suite_tasks(tasks, ood), torch.device(device)
    paths = {(a.repo, a.filename): locate(a) for a in assets}

    config_path, weights_path = (paths[a.repo, a.filename] for a in base_assets(model))
    config = json.loads(config_path.read_text(encoding="utf-8"))
    check_fits(2 * weights_path.stat().st_size, f"loading {model}", device)
    base = open_safetensors(weights_path, device)
    clip = build_clip(config["model_cfg"])
    check_activation(clip.visual, "quick_gelu" if config["model_cfg"].get("quick_gelu") else "gelu", config_path.name)
    clip.load_state_dict(dict(base.items()))
    clip.to(device).requires_grad_(False)

    names = [t for t, task in chosen.items() if task.kind == "id"]
    files = {t: [paths[a.repo, a.filename] for a in expert_assets(model, t, lora)] for t in names}
    theta_0 = without_proj(image_tower(base))
    layers = len(clip.visual.transformer.resblocks)
    adapters = {t: read_adapter(*files[t], layers) for t in names} if lora else {}
    experts = (
        {t: WithAdapter(theta_0, adapters[t]) for t in names}
        if lora
        else {t: read_expert(*files[t], clip.visual, device) for t in names}
    )

    transform = image_transform_v2(
        PreprocessCfg(size=clip.visual.image_size, **config["preprocess_cfg"]), is_train=False
    )
    family = MODELS[model].lora_family if lora else MODELS[model].family
    return PublishedSuite(
        whole=base,
        config=config,
        transform=transform,
        name=f"{model.lower()}{'-lora' if lora else ''}",
        family=family + (f", at most {per_class} test images of each class" if per_class else ""),
        theta_0=theta_0,
        experts=experts,
        tasks=chosen,
        heads=Heads(clip, chosen),
        visual=clip.visual,
        draw=partial(draw, transform=transform, size=clip.visual.image_size[0], per_class=per_class, source=source),
        logit_scale=clip.logit_scale.exp().item(),
        attention_heads=clip.visual.transformer.resblocks[0].attn.num_heads,
        adapters=adapters,
        device=device,
    )


# ---------------------------------------------------------------------------- experts


def without_proj(tower: Params) -> Renamed:
    """The image tower less its projection, which a Hugging Face expert does not have."""
    return Renamed(tower, {k: (k,) for k in tower if k != "proj"})


def read_expert(config: Path, weights: Path, visual: torch.nn.Module, device: torch.device | str = "cpu") -> Params:
    """A `CLIPVisionModel` from its two files, lazy, under our names; refused if its activation is another."""
    # transformers, too, takes QuickGELU where config.json does not say
    act = json.loads(config.read_text(encoding="utf-8")).get("hidden_act", "quick_gelu")
    check_activation(visual, act, config.parent.name)
    return without_proj(from_hf(open_safetensors(weights, device)))


def read_adapter(config: Path, weights: Path, layers: int) -> dict[str, LoRA]:
    """A LoRA adapter of a Hugging Face CLIP from its two files, under our names: see `lora.read_peft`, `names.fused`.

    KnOTS' adapters exist as pickles only: their tensors, and nothing else, are taken out (see `hub.convert_pickle`).
    """
    if weights.suffix == ".safetensors":
        return fused(read_peft(weights.parent, hf_weight), layers)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder, config.parent.name)
        folder.mkdir()
        shutil.copyfile(config, folder / CONFIG)
        convert_pickle(weights, folder / WEIGHTS)
        return fused(read_peft(folder, hf_weight), layers)


class WithAdapter(Mapping[str, Tensor]):
    """theta_0 + tau of a LoRA adapter, tensor by tensor, in theta_0's dtype."""

    def __init__(self, theta_0: Params, adapter: Mapping[str, LoRA]):
        self.theta_0, self.adapter, self.structure = theta_0, dict(adapter), structure(theta_0)

    def __getitem__(self, key: str) -> Tensor:
        base = self.theta_0[key]
        if key not in self.adapter:
            return base
        tau = dense({key: self.adapter[key]})[key].to(base.device)
        return add({key: base}, {key: tau})[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.structure)

    def __len__(self) -> int:
        return len(self.structure)


# ---------------------------------------------------------------------------- images


def draw(
    task: str, split: str, n: int | None, *, transform, size: int, per_class: int | None = None, source: str = "hub"
) -> tuple[Tensor, Tensor]:
    """(n, 3, size, size) images as the tower expects them, and labels (n,); refuses what would not fit in memory."""
    images, labels = read(task, split, n, per_class if split == "test" else None, source)
    check_fits(4 * 3 * size**2 * len(labels), f"{len(labels)} images of {task}", advice="give per_class or n")
    out = torch.empty(len(labels), 3, size, size)
    for i, image in enumerate(images):
        out[i] = transform(image)
    return out, labels


def streamed_accuracy(
    suite: PublishedSuite, theta: Params, task: str, per_class: int | None = None, source: str = "hub", batch: int = 256
) -> float:
    """Accuracy on a test split in percent, one batch of images in memory at a time: for test sets of any size."""
    images, labels = read(task, "test", per_class=per_class, source=source)
    theta, right = {k: theta[k] for k in theta}, 0
    for y in labels.split(batch):
        x = torch.stack([suite.transform(next(images)) for _ in y]).to(suite.device)
        right += (suite.encode(theta, x) @ suite.heads[task].T).argmax(dim=1).cpu().eq(y).sum().item()
    return 100 * right / len(labels)
