"""Train the pocket CLIP, and fine-tune experts from it: everything the suite's weights come from.

The loss is CLIP's: match each image with its caption against all other captions. With about 150 distinct
captions in the world there is no need to hope that good negatives fall into the batch: every image is
compared with *all* captions at once. It is the same contrastive loss with all negatives present, and it
trains several times faster.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import numpy as np
import torch
from open_clip.model import CLIP
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from tqdm.auto import tqdm

from .tasks import TASKS, draw

MEAN, STD = 0.5, 0.25  # of an 8-bit image divided by 255, all three channels


def model_config(vocab_size: int, width: int = 160, layers: int = 5, patch_size: int = 8) -> dict:
    """open_clip's model_cfg: a ViT image tower with GELU (open_clip's default) and a two-layer text tower."""
    return {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": 32, "layers": layers, "width": width, "head_width": 32, "patch_size": patch_size,
        },
        "text_cfg": {"context_length": 16, "vocab_size": vocab_size, "width": 128, "heads": 4, "layers": 2},
    }  # fmt: skip


def normalise(images: np.ndarray | Tensor) -> Tensor:
    """uint8 (n, 3, 32, 32) to the floats that the tower expects; equal to open_clip's own preprocessing."""
    return (torch.as_tensor(images).float() / 255 - MEAN) / STD


def all_captions() -> list[str]:
    """Every caption of the world: each class of each task in each template, and each task's generic ones."""
    return [template.format(name) for t in TASKS.values() for template in t.templates for name in t.classes] + [
        t.generic for t in TASKS.values()
    ]


def caption_bank() -> list[list[str]]:
    """One row a meaning, all its wordings in it: first every class, task by task, then every generic caption."""
    rows = [[template.format(name) for template in t.templates] for t in TASKS.values() for name in t.classes]
    return rows + [[t.generic] for t in TASKS.values()]


def web_data(
    per_task: int, rare: float, seed: int, wrong: float = 0.08, incomplete: float = 0.15
) -> tuple[Tensor, Tensor]:
    """The noisy web: (images uint8, rows of the caption bank) of all tasks in web style.

    `rare` of the in-domain images are in a task's own style, at random strength: the base meets those
    styles, but seldom. `wrong` of the captions belong to some other image, and `incomplete` of them name
    only the kind of thing ("a traffic sign").
    """
    generator = torch.Generator().manual_seed(seed)
    classes = sum(len(t.classes) for t in TASKS.values())
    images, rows, first_row = [], [], 0
    for number, (name, task) in enumerate(tqdm(TASKS.items(), desc="drawing the web", unit="task")):
        odd = round(per_task * rare) if task.kind == "id" else 0
        parts = [draw(name, "web", range(per_task - odd), "web")]
        if odd:
            half = odd // 2
            parts.append(draw(name, "web", range(per_task, per_task + half), "own", strength=0.5))
            parts.append(draw(name, "web", range(per_task + half, per_task + odd), "own", strength=1.0))
        labels = torch.from_numpy(np.concatenate([p[1] for p in parts])) + first_row
        luck = torch.rand(len(labels), generator=generator)
        anything = torch.randint(classes, labels.shape, generator=generator)
        labels = torch.where(luck < wrong, anything, labels)
        labels = torch.where((luck >= wrong) & (luck < wrong + incomplete), classes + number, labels)
        images.append(np.concatenate([p[0] for p in parts]))
        rows.append(labels)
        first_row += len(task.classes)
    return torch.from_numpy(np.concatenate(images)), torch.cat(rows)


@contextmanager
def plain_attention() -> Generator[None]:
    """Attention written out, for training on a CPU: there the fused kernel's backward is 3x slower than the rest."""

    def attention(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        logits = (q * (scale or q.shape[-1] ** -0.5)) @ k.transpose(-1, -2)
        return (logits if attn_mask is None else logits + attn_mask).softmax(-1, dtype=logits.dtype) @ v

    fused = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attention  # ty: ignore[invalid-assignment]  to be another one is the point
    try:
        yield
    finally:
        F.scaled_dot_product_attention = fused


def warmup_cosine(step: int, steps: int, warmup: float = 0.05, final: float = 0.0) -> float:
    """Learning-rate factor: linear rise over the first 5 % of the steps, then half a cosine down to `final`."""
    rise = max(1, round(warmup * steps))
    fallen = 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
    return (step + 1) / rise if step < rise else final + (1 - final) * fallen


def train_base(
    model: CLIP,
    tokenize: Callable,
    images: Tensor,
    rows: Tensor,
    *,
    epochs: float,
    lr: float,
    seed: int,
    batch: int = 512,
    weight_decay: float = 0.05,
    save: Callable[[int, dict], None] = lambda step, state: None,
    resume: dict | None = None,
) -> CLIP:
    """Contrastive training on (images, rows of the caption bank), bf16 where the device is fast at it.

    `save(step, state)` is called every 200 steps; give its last `state` as `resume` to go on from there.
    """
    device = next(model.parameters()).device
    steps = round(epochs * len(images) / batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
    generator = torch.Generator().manual_seed(seed)
    bank = [tokenize(wordings) for wordings in caption_bank()]
    start = 0
    if resume is not None:
        model.load_state_dict(resume["model"])
        optimizer.load_state_dict(resume["optimizer"])
        generator.set_state(resume["generator"])
        start = resume["step"]
    model.train()
    bar = tqdm(range(start, steps), initial=start, total=steps, desc="training the base", unit="step", mininterval=5)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = lr * warmup_cosine(step, steps)
        pick = torch.randint(len(images), (batch,), generator=generator)
        x, y = normalise(images[pick]).to(device), rows[pick].to(device)
        wording = torch.rand(len(bank), generator=generator)
        captions = torch.stack([row[int(u * len(row))] for row, u in zip(bank, wording, strict=True)]).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            image_features = model.encode_image(x, normalize=True)
            text_features = model.encode_text(captions, normalize=True)
            logits = model.logit_scale.exp() * image_features @ text_features.T
        loss = F.cross_entropy(logits.float(), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))  # as in CLIP
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if (step + 1) % 200 == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            save(step + 1, state | {"generator": generator.get_state(), "step": step + 1})
    return model.eval()


def zero_shot_heads(model: CLIP, tokenize: Callable, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """(classes, dim): embed every template of a class, average, bring to length 1. As CLIP does."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        heads = [
            model.encode_text(tokenize([t.format(name) for t in templates]).to(device), normalize=True).mean(dim=0)
            for name in classes
        ]
        return F.normalize(torch.stack(heads), dim=-1)


class LoRAUpdate(nn.Module):
    """W + (alpha / r) B A, as a parametrization of a frozen weight W (Hu et al., 2022, arXiv:2106.09685)."""

    def __init__(self, weight: Tensor, A: Tensor, alpha: float):
        super().__init__()
        out_features, r = len(weight), len(A)
        self.A = nn.Parameter(A.to(weight, copy=True))
        self.B = nn.Parameter(weight.new_zeros(out_features, r))  # zero, so that training starts at the base
        self.scale = alpha / r

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.B @ self.A)


def attach_lora(
    visual: VisionTransformer, r: int, alpha: float, seed: int, starts: Mapping[str, Tensor] = MappingProxyType({})
) -> dict[str, LoRAUpdate]:
    """Freeze the image tower and put a LoRA on q/k/v (fused), attention output and both MLP matrices of each block.

    A (r, in) is drawn, uniformly from +- 1 / sqrt(in), unless `starts` has one for this weight (`osrm`).
    """
    generator = torch.Generator().manual_seed(seed)
    visual.requires_grad_(False)
    updates = {}
    for i in range(len(visual.transformer.resblocks)):
        for part, name in [
            ("attn", "in_proj_weight"),
            ("attn.out_proj", "weight"),
            ("mlp.c_fc", "weight"),
            ("mlp.c_proj", "weight"),
        ]:
            path = f"transformer.resblocks.{i}.{part}"
            owner = visual.get_submodule(path)
            weight = getattr(owner, name)
            drawn = 2 * torch.rand(r, weight.shape[1], generator=generator) - 1  # on the CPU: the same everywhere
            A = starts.get(f"{path}.{name}", drawn * weight.shape[1] ** -0.5)
            update = LoRAUpdate(weight, A, alpha)
            parametrize.register_parametrization(owner, name, update)
            updates[f"{path}.{name}"] = update
    return updates


def finetune(
    visual: nn.Module,
    heads: Tensor,
    logit_scale: float,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: float,
    lr: float,
    seed: int,
    batch: int = 128,
    weight_decay: float = 0.0,
    shrink: float = 0.0,
    final: float = 0.0,
    save: Callable[[int], None] = lambda step: None,
    label: str = "fine-tuning",
) -> nn.Module:
    """Fine-tune the image tower against frozen zero-shot heads (classes, dim): what makes an expert.

    Trains whatever requires a gradient, in place, with AdamW and a cosine schedule, as the published
    experts were made (arXiv:2212.04089). The rate falls to `final` times lr: 1 keeps it where it is. With `shrink`
    each step ends with a proximal one of shrink * rate * |tau|_1, which pulls every entry towards where it began, and
    leaves it there unless the task pulls harder: see `pull_back`. `save(step)` is called after each step, for whoever
    keeps checkpoints.
    """
    device = next(visual.parameters()).device
    trainable = [p for p in visual.parameters() if p.requires_grad]
    starts = [p.detach().clone() for p in trainable] if shrink else []
    optimizer = torch.optim.AdamW(trainable, lr, weight_decay=weight_decay, fused=True)
    generator = torch.Generator().manual_seed(seed)
    steps = round(epochs * len(images) / batch)
    order = torch.cat([torch.randperm(len(images), generator=generator) for _ in range(math.ceil(epochs))])
    visual.train()
    for step in tqdm(range(steps), desc=label, unit="step", leave=False):
        rate = lr * warmup_cosine(step, steps, final=final)
        for group in optimizer.param_groups:
            group["lr"] = rate
        pick = order[step * batch : (step + 1) * batch]
        x, y = normalise(images[pick]).to(device), labels[pick].to(device)
        with torch.autocast(device.type, torch.bfloat16):
            logits = logit_scale * F.normalize(visual(x), dim=-1) @ heads.T
        loss = F.cross_entropy(logits.float(), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        if shrink:
            pull_back(trainable, starts, shrink * rate)
        save(step + 1)
    return visual.eval()


@torch.no_grad()
def pull_back(params: Sequence[Tensor], starts: Sequence[Tensor], by: float) -> None:
    """The proximal step of by * |tau|_1, in place: tau <- sign(tau) * max(|tau| - by, 0), with tau = param - start."""
    for param, start in zip(params, starts, strict=True):
        param.copy_(start + F.softshrink(param - start, by))
