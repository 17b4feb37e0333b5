"""The published suite in miniature, in exactly its format: the folder that `hub_server.HubServer` serves.

A base in open_clip's format, Hugging Face experts of its image tower without the projection, LoRA adapters as
pickles with KnOTS' names, and data sets as parquet under the names of the real ones. The images are noisy
prototypes, one a class; the experts are trained on them for a few seconds, so that merging them means something.
"""

import atexit
import contextlib
import functools
import io
import json
import tempfile
from pathlib import Path

import pandas as pd
import torch
from hub_server import HubServer
from PIL import Image
from safetensors.torch import save_file
from torch.func import functional_call
from torch.nn.functional import cross_entropy, interpolate, normalize

from samerge_edu.suites.published.clip_vit import Heads, suite_tasks
from samerge_edu.suites.published.data import DATA, _pattern
from samerge_edu.suites.published.manifest import MODELS, WORKSHOP
from samerge_edu.suites.published.names import build_clip, to_hf

TINY = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "head_width": 16, "patch_size": 8, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic", "resize_mode": "shortest"}


def make_tiny_hub(folder: Path, tasks=WORKSHOP, ood=("cifar10", "fashion_mnist"), steps: int = 40) -> Path:
    """Fill an empty folder; about 5 seconds for four experts on one core. A folder that is there is left alone."""
    folder = Path(folder)
    if (folder / "samerge-edu").is_dir():
        return folder
    torch.manual_seed(0)
    clip = build_clip(TINY)
    base = folder / MODELS["ViT-tiny"].base
    base.mkdir(parents=True)
    save_file(clip.state_dict(), base / "open_clip_model.safetensors", metadata={"format": "pt"})
    config = {"model_cfg": TINY, "preprocess_cfg": PREPROCESS}
    (base / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")

    chosen = suite_tasks(tasks, ood)
    heads = Heads(clip, chosen)
    for number, (name, task) in enumerate(chosen.items()):
        images, labels = write_data(folder / "datasets" / DATA[name].repo, name, len(task.classes), seed=number)
        if task.kind == "id":
            write_expert(folder, name, clip, train(clip, heads[name], images, labels, steps))
    return folder


def write_data(repo: Path, task: str, classes: int, seed: int, per_class: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Parquet files of both splits; returns the training images as the tower sees them, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    prototypes = interpolate(torch.rand(classes, 3, 6, 6, generator=generator), size=32, mode="bicubic").clamp(0, 1)
    for split in (0, 1):
        labels = torch.arange(classes).repeat(per_class)
        images = (prototypes[labels] + 0.08 * torch.randn(len(labels), 3, 32, 32, generator=generator)).clamp(0, 1)
        rows = []
        for image in (images * 255).round().byte().permute(0, 2, 3, 1).numpy():
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": None})
        file = repo / _pattern(task, ("train", "test")[split]).replace("-*", "-00000-of-00001", 1).replace("-of-*", "")
        file.parent.mkdir(parents=True, exist_ok=True)
        image, label = DATA[task].columns
        pd.DataFrame({image: rows, label: labels.numpy()}).to_parquet(file)
        if split == 0:
            train = (images.clone() - 0.5) / 0.25, labels.clone()
    return train


def train(clip, head, images, labels, steps: int) -> dict[str, torch.Tensor]:
    """A few Adam steps of the image tower against frozen heads: the published recipe in small."""
    theta = {k: v.clone().requires_grad_() for k, v in clip.visual.state_dict().items() if k != "proj"}
    optimizer = torch.optim.Adam(theta.values(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = torch.randint(len(labels), (40,), generator=generator)
        features = normalize(functional_call(clip.visual, theta, (images[batch],)), dim=-1)
        loss = cross_entropy(20 * features @ head.T, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {k: v.detach() for k, v in theta.items()}


def write_expert(folder: Path, task: str, clip, theta: dict[str, torch.Tensor], rank: int = 4, alpha: int = 8) -> None:
    """The expert as a `CLIPVisionModel`, and its attention update cut to `rank` as a LoRA adapter with scale 2."""
    repo = folder / MODELS["ViT-tiny"].expert.format(task=task)
    repo.mkdir(parents=True)
    save_file(to_hf(theta), repo / "model.safetensors", metadata={"format": "pt"})
    (repo / "config.json").write_text(json.dumps({"hidden_act": "quick_gelu"}), encoding="utf-8")

    base = to_hf({k: v for k, v in clip.visual.state_dict().items() if k != "proj"})
    factors = {}
    for key, value in to_hf(theta).items():
        if "self_attn" in key and key.endswith("weight"):
            U, S, V = torch.linalg.svd(value - base[key], full_matrices=False)
            name = f"base_model.model.{key.removesuffix('.weight')}"
            factors[f"{name}.lora_B.weight"] = U[:, :rank] * S[:rank].sqrt() * rank / alpha
            factors[f"{name}.lora_A.weight"] = S[:rank].sqrt()[:, None] * V[:rank]
    repo = folder / MODELS["ViT-tiny"].lora.format(task=task)
    repo.mkdir(parents=True)
    torch.save({k: v.contiguous() for k, v in factors.items()}, repo / "adapter_model.bin")
    about = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none", "modules_to_save": None}
    (repo / "adapter_config.json").write_text(json.dumps(about), encoding="utf-8")


@functools.cache
def tiny_hub_folder() -> Path:
    """One folder for all tests of a run; removed with the process."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return make_tiny_hub(Path(folder.name))


@contextlib.contextmanager
def serve_tiny_clip():
    """The variables under which notebook 12 finds this miniature in the place of ViT-B/32, while it is served."""
    with tempfile.TemporaryDirectory() as cache, HubServer(tiny_hub_folder()) as hub:
        where = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": cache, "HF_HUB_OFFLINE": "0", "SAMERGE_ASSETS": ""}
        yield where | {"SAMERGE_CLIP": "vit-tiny", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
