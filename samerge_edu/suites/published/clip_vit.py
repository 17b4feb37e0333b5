"""The published CLIP experts: ViT-B/32 (also B/16 and L/14), full and LoRA, from the hub.

Experts are Hugging Face `CLIPVisionModel`s: the image tower *without* its projection. So theta_0 and the experts
have no `proj` here; the base's own stays in `suite.visual`, is used by `encode`, written by `streaming.merge_suite`.
Heads are text, embedded by the frozen text tower when a task is first asked for.
"""

import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize
from torchvision.transforms.functional import pil_to_tensor

from ...forecast import check_fits, free_memory
from ...lora import CONFIG, WEIGHTS, LoRA, dense, read_peft
from ...params import Params, add, structure
from ..suite import Suite
from .data import check_can_read, fetch, read
from .hub import convert_pickle, locate, open_safetensors, prefetch
from .manifest import MODELS, OOD, SUITES, WARNINGS, WORKSHOP, base_assets, expert_assets, task_names
from .names import Renamed, build_clip, check_activation, from_hf, fused, hf_weight, image_tower, zero_shot_head

KEPT = 0.25
"""The share of the free memory that the bytes of one split may take, to be kept for the next pass."""

_CAPTIONS = Path(__file__).parent / "class_names.json"  # FusionBench's and OpenAI's, both MIT


@dataclass(repr=False)
class PublishedSuite(Suite):
    """A suite that also knows its base's file (`whole`: text tower, projection and all), its `config`, its images.

    Images wait as bytes, (n, 3, H, W), on the CPU; `ready` makes a batch of them what the tower expects, on the device.
    So eight tasks of 25 images a class are 2.7 GB beside a GPU instead of 10.6 on it. A split whose bytes would take
    more than `KEPT` of the free memory is not kept but read anew at each pass, one batch in memory at a time.
    """

    whole: Params = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    to_size: Callable[[Image], Image] = lambda image: image
    normalise: Callable[[Tensor], Tensor] = lambda x: x
    per_class: int | None = None
    image_size: tuple[int, int] = (224, 224)

    def labels(self, task: str, split: str = "test", n: int | None = None) -> Tensor:
        """The labels (n,) alone: no image is decoded."""
        return self._read(task, split, n)[1]

    def images(self, task: str, split: str = "test", n: int | None = None) -> tuple[Tensor, Tensor]:
        """(n, 3, H, W) images ready for the tower and (n,) labels, on the device. Refuses what would not fit there."""
        size = 4 * 3 * self.image_size[0] ** 2 * len(self.labels(task, split, n))
        check_fits(size, f"the images of {task} at once", self.device, advice="give per_class or n")
        x, y = zip(*self.batches(task, split, n), strict=True)
        return torch.cat([self.ready(batch) for batch in x]), torch.cat(y).to(self.device)

    def features(
        self, theta: Params, tasks: Sequence[str], split: str = "test", n: int | None = None
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """As `Suite.features`, but task by task and batch by batch: for test sets of any size."""
        theta = {k: theta[k].to(self.device, torch.float32) for k in theta}  # from disk once, not once a batch
        for task in tasks:
            z, y = zip(*((self.encode(theta, x), y) for x, y in self.batches(task, split, n)), strict=True)
            yield task, torch.cat(z), torch.cat(y).to(self.device)

    def ready(self, images: Tensor) -> Tensor:
        """Bytes -> what the tower expects, on the device: exactly the base's own preprocessing."""
        images = images.to(self.device)
        return self.normalise(images.float() / 255) if images.dtype == torch.uint8 else images

    def batches(
        self, task: str, split: str = "test", n: int | None = None, batch: int = 100
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(bytes, labels) of a split, on the CPU, one batch at a time."""
        key = task, split, n
        if key not in self._images:
            images, labels = self._read(*key)
            pixels = (pil_to_tensor(self.to_size(image)) for image in images)
            size = 3 * self.image_size[0] ** 2 * len(labels)
            if size > KEPT * free_memory():
                for y in labels.split(batch):
                    yield torch.stack([next(pixels) for _ in y]), y
                return
            out = torch.empty(len(labels), 3, *self.image_size, dtype=torch.uint8)
            for i, image in enumerate(pixels):
                out[i] = image
            self._images[key] = out, labels
        yield from zip(*(x.split(batch) for x in self._images[key]), strict=True)

    def _read(self, task: str, split: str, n: int | None) -> tuple[Iterator[Image], Tensor]:
        if task not in self.tasks:
            raise ValueError(f"task: got '{task}', expected one of {', '.join(self.tasks)}")
        return self.draw(task, split, n, per_class=None if split == "train" else self.per_class)


@dataclass(frozen=True)
class Task:
    """One data set as a zero-shot classification task: "id" where an expert exists, "ood" where none does."""

    name: str
    kind: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]


class Heads(Mapping[str, Tensor]):
    """task -> (classes, dim), computed by the text tower when it is first asked for."""

    def __init__(self, clip: CLIP, tasks: Mapping[str, Task]):
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
    names, ood = task_names(tasks), task_names(ood)
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
    ood: Sequence[str] | str = (),
    val: bool = False,
    dry_run: bool = False,
    to: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Print a suite's files with their sizes, then fetch and check them: see `hub.prefetch`.

    `images` adds the tasks' test images, `ood` those of tasks without an expert, `val` the
    training splits, of which a tenth is validation. `to` copies everything into a folder for machines without a
    network. What is known to be wrong with a file is said. Raises ImportError, before anything is fetched, where the
    images could not be read; ValueError for a suite or task that does not exist, and what `hub.locate` raises.
    """
    if name not in SUITES:
        raise ValueError(f"suite: got '{name}', expected one of {', '.join(SUITES)}")
    model, lora = SUITES[name]
    assets, chosen = suite_assets(model, tasks, lora), suite_tasks(tasks, task_names(ood))
    at_home = [t for t, task in chosen.items() if task.kind == "id"]
    splits = [(t, "test") for t in chosen if images or t not in at_home] + [(t, "val") for t in at_home if val]
    if splits and not dry_run:
        check_can_read()
    for warning in known_problems(assets):
        say(warning)
    prefetch(assets, dry_run, to, say)
    for task, split in splits:
        fetch(task, split, dry_run, to, say)


def known_problems(assets: Sequence) -> list[str]:
    """One sentence for each of the files that the manifest warns of."""
    return [
        f"warning: {repo} is {WARNINGS[repo]}" for repo in dict.fromkeys(a.repo for a in assets) if repo in WARNINGS
    ]


def load_clip_vit(
    tasks: Sequence[str] | str | int = WORKSHOP,
    ood: Sequence[str] = OOD,
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
    full ones; `per_class`, look at that many test and validation images of each class at most, which `family` then
    says;
    `source`, "hub" or "torchvision", see `data.read`; `device`, where models and images live.

    Files that are not here are downloaded first (`hub.prefetch` shows sizes before). Experts are read lazily.
    Raises what `hub.locate` raises, and ValueError for an expert that does not fit the base or its activation.
    """
    assets = suite_assets(model, tasks, lora)
    if source == "hub":
        check_can_read()
    for warning in known_problems(assets):
        warnings.warn(warning, stacklevel=2)
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

    to_size, normalise = preprocessing(config["preprocess_cfg"], clip.visual.image_size)
    m = MODELS[model]
    family, validation = (m.lora_family, m.lora_validation) if lora else (m.family, m.validation)
    return PublishedSuite(
        whole=base,
        config=config,
        to_size=to_size,
        normalise=normalise,
        per_class=per_class,
        image_size=clip.visual.image_size,
        name=f"{model.lower()}{'-lora' if lora else ''}",
        family=family + (f", at most {per_class} images of each class" if per_class else ""),
        validation=validation,
        theta_0=theta_0,
        experts=experts,
        tasks=chosen,
        heads=Heads(clip, chosen),
        visual=clip.visual,
        draw=partial(read, source=source),
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


def preprocessing(config: Mapping, size: tuple[int, int]) -> tuple[Compose, Normalize]:
    """open_clip's preprocessing in two halves: on the picture (size, crop, RGB), and on its numbers in [0, 1]."""
    *on_picture, _to_tensor, normalise = image_transform_v2(
        PreprocessCfg(size=size, **config), is_train=False
    ).transforms
    if not isinstance(normalise, Normalize):
        raise ValueError(f"preprocessing: got {type(normalise).__name__} as open_clip's last step, expected Normalize")
    return Compose(on_picture), normalise
