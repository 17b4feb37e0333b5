"""CLIP models: one architecture, two naming schemes, one trap, and class heads made of text.

Our names are open_clip's, for the image tower alone (`visual.` taken off). Hugging Face's `CLIPVisionModel`
holds the same tower under other names, with q, k and v apart:

    ours                                         Hugging Face
    transformer.resblocks.3.attn.in_proj_weight  encoder.layers.3.self_attn.{q,k,v}_proj.weight   joined along rows
    transformer.resblocks.3.mlp.c_fc.weight      encoder.layers.3.mlp.fc1.weight
    proj                      (width, dim)       visual_projection.weight (dim, width)            transposed

`proj` is part of open_clip's image tower, fine-tuned and merged with it. A `CLIPVisionModel` does not have
it: those experts share the base's, which then stays outside the merge (see clip_vit.py).

The trap: OpenAI's CLIP computes x * sigmoid(1.702 x), "QuickGELU", where most code computes the exact GELU.
The weights fit both and nothing fails, only the accuracy; so every loader here calls `check_activation`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from open_clip.model import CLIP
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...lora import LoRA
from ...params import Params, Structure, block_index, structure

# ---------------------------------------------------------------------------- names

_STEM = {  # ours -> Hugging Face's, outside the blocks
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",  # their spelling
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_PROJ, _HF_PROJ = "proj", "visual_projection.weight"
_HF_ELSEWHERE = ("text_model.", "text_projection.weight", "logit_scale")  # in a whole CLIPModel, not of its image tower
_HF_BUFFER = "embeddings.position_ids"


def hf_names(layers: int) -> dict[str, tuple[str, ...]]:
    """Our name -> Hugging Face's: one, or the three (q, k, v) that are joined along the rows; without `proj`.

    >>> hf_names(12)["transformer.resblocks.3.attn.in_proj_bias"][0]
    'encoder.layers.3.self_attn.q_proj.bias'
    """
    names: dict[str, tuple[str, ...]] = {ours: (theirs,) for ours, theirs in _STEM.items()}
    for i in range(layers):
        block, layer = f"transformer.resblocks.{i}", f"encoder.layers.{i}"
        for kind in ("weight", "bias"):
            names[f"{block}.attn.in_proj_{kind}"] = tuple(f"{layer}.self_attn.{x}_proj.{kind}" for x in "qkv")
            names |= {f"{block}.{ours}.{kind}": (f"{layer}.{theirs}.{kind}",) for ours, theirs in _BLOCK.items()}
    return names


class Renamed(Mapping[str, Tensor]):
    """A model seen under other names, tensor by tensor: name -> its names there, joined along the rows.

    Reads nothing until asked, so a lazy file stays lazy. A name in `transposed` is turned round.
    """

    def __init__(self, source: Params, names: Mapping[str, tuple[str, ...]], transposed: Sequence[str] = ()):
        self.source, self.names, self.transposed = source, dict(names), tuple(transposed)
        spec = structure(source)
        self.structure: Structure = {}
        for ours, theirs in self.names.items():
            shape, dtype = spec[theirs[0]]
            if len(theirs) > 1:
                shape = (sum(spec[t][0][0] for t in theirs), *shape[1:])
            self.structure[ours] = (shape[::-1] if ours in self.transposed else shape, dtype)

    def __getitem__(self, key: str) -> Tensor:
        parts = [self.source[theirs] for theirs in self.names[key]]
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        return tensor.T.contiguous() if key in self.transposed else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def path(self) -> Path | None:
        """The file behind it, if there is one."""
        return getattr(self.source, "path", None)


def image_tower(params: Params) -> Renamed:
    """The image tower of a whole open_clip state dict: the `visual.` tensors, without that prefix."""
    names = {k.removeprefix("visual."): (k,) for k in structure(params) if k.startswith("visual.")}
    if not names:
        raise ValueError(
            f"no image tower: expected keys that start with 'visual.', got '{next(iter(params), None)}', ..."
        )
    return Renamed(params, names)


def from_hf(params: Params) -> Renamed:
    """A Hugging Face CLIP vision model under our names, still lazy.

    Takes `CLIPVisionModel` and `CLIPVisionModelWithProjection`, with the prefix `vision_model.` (transformers
    < 5.6) or without, and the image tower of a whole `CLIPModel`; `proj` is there if `visual_projection` is.
    Raises ValueError for a key that is missing and for one that belongs to no CLIP.
    """
    there = {k for k in structure(params) if not k.startswith(_HF_ELSEWHERE)}
    prefix = "vision_model." if any(k.startswith("vision_model.") for k in there) else ""
    layers = {k.removeprefix(prefix).split(".")[2] for k in there if k.startswith(f"{prefix}encoder.layers.")}
    names = {ours: tuple(prefix + t for t in theirs) for ours, theirs in hf_names(len(layers)).items()}
    if _HF_PROJ in there:
        names[_PROJ] = (_HF_PROJ,)
    wanted = {t for theirs in names.values() for t in theirs}
    if missing := sorted(wanted - there):
        raise ValueError(f"not a CLIP vision model: missing key '{missing[0]}' ({len(missing)} missing in all)")
    if extra := sorted(there - wanted - {prefix + _HF_BUFFER}):
        raise ValueError(f"not a CLIP vision model: unknown key '{extra[0]}' ({len(extra)} unknown in all)")
    return Renamed(params, names, transposed=[_PROJ])


def to_hf(params: Params, prefix: str = "vision_model.") -> dict[str, Tensor]:
    """The way back: our image tower as a `CLIPVisionModelWithProjection` (or, without `proj`, `CLIPVisionModel`).

    `prefix` is "" for `CLIPVisionModel` of transformers >= 5.6. Raises ValueError for a key that is missing or unknown.
    """
    layers = {k.split(".")[2] for k in params if k.startswith("transformer.resblocks.")}
    names = hf_names(len(layers))
    if wrong := sorted(names.keys() ^ (set(params) - {_PROJ})):
        problem = "missing" if wrong[0] in names else "unknown"
        raise ValueError(
            f"not our CLIP image tower: {problem} key '{wrong[0]}' ({len(wrong)} missing or unknown in all)"
        )
    out = {}
    for ours, theirs in names.items():
        pieces = params[ours].chunk(len(theirs))
        out |= {prefix + name: piece.clone() for name, piece in zip(theirs, pieces, strict=True)}
    return out | ({_HF_PROJ: params[_PROJ].T.contiguous()} if _PROJ in params else {})


# ---------------------------------------------------------------------------- names of LoRA adapters


def hf_weight(module: str) -> str:
    """`vision_model.encoder.layers.0.self_attn.q_proj`, however wrapped, -> the weight's name in `hf_names`.

    Raises ValueError for a module of the text tower, whose layers have the same names.
    """
    if "text_model." in module:
        raise ValueError(f"'{module}' is of the text tower: this adapter changes more than the image tower")
    return module[max(0, module.find("encoder.layers.")) :] + ".weight"


def fused(adapter: Mapping[str, LoRA], layers: int) -> dict[str, LoRA]:
    """Adapters of q, k and v as one adapter of the fused projection, exactly.

        [s B_q A_q]       [B_q        ] [A_q]
        [s B_k A_k]  =  s [    B_k    ] [A_k]         rank r_q + r_k + r_v; each rank belongs to q, k or v alone
        [s B_v A_v]       [        B_v] [A_v]

    Where all share one A, as after `split`, it is [B_q; B_k; B_v] A again, of rank r. One that is missing (some
    adapters leave k alone) gets rows of zeros. Raises ValueError for a name that is no matrix of a CLIP image tower
    with so many layers.
    """
    out, used = {}, set()
    for ours, theirs in hf_names(layers).items():
        parts = {i: adapter[t] for i, t in enumerate(theirs) if t in adapter}
        used |= {theirs[i] for i in parts}
        if len(theirs) == 1 and parts:
            out[ours] = parts[0]
        elif parts:
            first = next(iter(parts.values()))
            scale, rows = first.scale, len(first.B)
            shared = all(torch.equal(part.A, first.A) for part in parts.values())
            A = first.A if shared else torch.cat([part.A for part in parts.values()])
            B, rank = A.new_zeros(rows * len(theirs), len(A)), 0
            for i, part in parts.items():
                B[i * rows : (i + 1) * rows, rank : rank + len(part.A)] = part.B * (part.scale / scale)
                rank += 0 if shared else len(part.A)
            out[ours] = LoRA(A, B, scale)
    if unknown := sorted(adapter.keys() - used):
        raise ValueError(f"the adapter has '{unknown[0]}', which a CLIP image tower of {layers} layers has not")
    return out


def split(adapter: Mapping[str, LoRA], prefix: str = "vision_model.") -> dict[str, LoRA]:
    """The way back: our adapter under Hugging Face's names, where q, k and v share the A of the fused projection.

    `lora.write_peft` then saves an adapter that PEFT loads into a `CLIPVisionModelWithProjection` (see `to_hf`).
    Raises ValueError for a name that is no matrix of our CLIP image tower.
    """
    names = hf_names(1 + max((block_index(key) or 0 for key in adapter), default=0))
    out = {}
    for ours, (A, B, scale) in adapter.items():
        if ours not in names:
            raise ValueError(f"the adapter has '{ours}', which is no matrix of a CLIP image tower")
        for name, rows in zip(names[ours], B.chunk(len(names[ours])), strict=True):
            out[prefix + name] = LoRA(A, rows, scale)
    return out


# ---------------------------------------------------------------------------- architecture


def build_clip(model_cfg: Mapping) -> CLIP:
    """open_clip's CLIP from the `model_cfg` of an `open_clip_config.json`: random weights, evaluation mode."""
    return CLIP(**json.loads(json.dumps(model_cfg))).eval()  # a copy: open_clip keeps what it is given


def activation(tower: nn.Module) -> str:
    """The activation that a built tower computes: "quick_gelu" or "gelu"."""
    return "quick_gelu" if any(isinstance(m, QuickGELU) for m in tower.modules()) else "gelu"


def check_activation(tower: nn.Module, weights: str, where: str) -> None:
    """Refuse weights trained with another activation than the tower computes.

    `weights` is what the weights' own configuration says: `hidden_act` of a Hugging Face `config.json`,
    "quick_gelu" or "gelu" for `quick_gelu` true or false in an `open_clip_config.json`. The tensors
    themselves cannot tell: the two differ by no shape and no name.
    """
    if activation(tower) != weights:
        raise ValueError(
            f"{where}: got weights trained with '{weights}', expected '{activation(tower)}', as this model computes; "
            "OpenAI's CLIP needs the architecture 'ViT-B-32-quickgelu', not 'ViT-B-32'"
        )


# ---------------------------------------------------------------------------- heads


@torch.no_grad()
def zero_shot_head(
    model: CLIP,
    tokenizer: Callable[[list[str]], Tensor],
    classes: Sequence[str],
    templates: Sequence[str],
    batch: int = 64,
) -> Tensor:
    """Class heads from captions (Radford et al., 2021, arXiv:2103.00020, 3.1.4): (classes, dim), rows of norm 1.

        w_c = normalise( mean over templates t of normalise( text(t with c in it) ) )

    `templates` hold one `{}` for the class name. Logits are exp(logit_scale) * features @ w.T.
    """
    captions = [template.format(name) for name in classes for template in templates]
    device = model.logit_scale.device
    features = [
        model.encode_text(tokenizer(captions[i : i + batch]).to(device)) for i in range(0, len(captions), batch)
    ]
    features = normalize(torch.cat(features), dim=-1).unflatten(0, (len(classes), len(templates)))
    return normalize(features.mean(dim=1), dim=-1)
