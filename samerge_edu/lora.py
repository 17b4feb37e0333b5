"""LoRA experts: two thin matrices per layer, tau = s B A (Hu et al., ICLR 2022, arXiv:2106.09685).

    adapter = read_peft(folder)          dict[str, LoRA], keyed by the weight that a layer's update belongs to
    tau = dense(adapter)                 from here on every method works unchanged

The factors are no coordinates: (B M^-1, M A) gives the same tau for any invertible M (a *gauge*). What is
computed from tau does not depend on M; what is computed from A and B one by one does.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .files import LazyParams, save_params
from .params import Params, structure, working


class LoRA(NamedTuple):
    """One layer's update tau = scale * B A, of rank r at most."""

    A: Tensor  # (r, in)
    B: Tensor  # (out, r)
    scale: float  # s = alpha / r, or alpha / sqrt(r) in rsLoRA


Adapter = Mapping[str, LoRA]
"""An expert: name of a weight in the base's state dict -> its update."""


def dense(adapter: Adapter, like: Params | None = None) -> dict[str, Tensor]:
    """The task vector of a LoRA expert.

        tau[key] = s B A                                            (out, in) = (out, r) (r, in)

    `like`, a base model, adds zeros for the tensors that have no adapter, so that the result has the base's
    names and order and may be added to it. Half precision is multiplied in, and returned as, float32.
    Raises ValueError for factors that do not fit each other, or `like`; names the key.

    >>> dense({"w": LoRA(A=torch.tensor([[1.0, 2.0]]), B=torch.tensor([[3.0], [0.0]]), scale=0.5)})["w"]
    tensor([[1.5000, 3.0000],
            [0.0000, 0.0000]])
    """
    check_adapters([adapter])
    tau = {key: scale * (working(B) @ working(A)) for key, (A, B, scale) in adapter.items()}
    if like is None:
        return tau
    base = structure(like)
    for key, update in tau.items():
        if key not in base:
            raise ValueError(f"adapter, key '{key}': there is no such tensor in the base")
        if tuple(update.shape) != base[key][0]:
            raise ValueError(f"adapter, key '{key}': got shape {tuple(update.shape)}, expected {base[key][0]}")
    return {key: tau[key] if key in tau else torch.zeros_like(working(like[key])) for key in like}


def check_adapters(adapters: Sequence[Adapter], same_rank: bool = False) -> None:
    """Raise ValueError unless the adapters have the same keys and, key by key, the same (out, in).

    Ranks may differ from adapter to adapter unless `same_rank`. Also names a pair of factors that do not fit.
    """
    if isinstance(adapters, Mapping):
        raise ValueError("got one adapter, expected a list of them: put it in brackets")
    if not adapters:
        raise ValueError("got 0 adapters, expected at least 1")
    if not adapters[0]:
        raise ValueError("adapter 0 has no layers")
    for n, adapter in enumerate(adapters):
        if different := sorted(adapters[0].keys() ^ adapter.keys()):
            has = "missing" if different[0] in adapters[0] else "extra"
            raise ValueError(f"adapter {n}: {has} key '{different[0]}' ({len(different)} differ in all)")
        for key, (A, B, _) in adapter.items():
            if A.ndim != 2 or B.ndim != 2 or A.shape[0] != B.shape[1]:
                raise ValueError(
                    f"adapter {n}, key '{key}': got A {tuple(A.shape)} and B {tuple(B.shape)}, "
                    "expected (r, in) and (out, r)"
                )
            got, expected = (B.shape[0], A.shape[1]), (adapters[0][key].B.shape[0], adapters[0][key].A.shape[1])
            if got != expected:
                raise ValueError(f"adapter {n}, key '{key}': got an update of shape {got}, expected {expected}")
            if same_rank and len(A) != len(adapters[0][key].A):
                raise ValueError(f"adapter {n}, key '{key}': got rank {len(A)}, expected {len(adapters[0][key].A)}")
            if not (A.sum(dtype=torch.float32) + B.sum(dtype=torch.float32)).isfinite():
                raise ValueError(f"adapter {n}, key '{key}': got NaN or infinity, expected finite numbers")


# ---------------------------------------------------------------------------- PEFT's files

WEIGHTS, CONFIG, PREFIX = "adapter_model.safetensors", "adapter_config.json", "base_model.model."


def weight_of(module: str) -> str:
    """The weight that PEFT's module name stands for: `x` -> `x.weight`; a bare parameter keeps its name.

    open_clip's fused attention projection is such a parameter: "attn.in_proj_weight" belongs to no module.
    """
    return module if module.endswith("_weight") else f"{module}.weight"


def read_peft(folder: str | Path, weight_of: Callable[[str], str] = weight_of) -> dict[str, LoRA]:
    """Read an adapter that PEFT, or `write_peft`, has saved: adapter_config.json, adapter_model.safetensors.

    `weight_of` maps a module's name in the file to a weight's name in the base (default: add ".weight").
    scale = lora_alpha / r, or lora_alpha / sqrt(r) if the configuration says `use_rslora`; `rank_pattern` and
    `alpha_pattern` are honoured. Raises FileNotFoundError for a missing file and ValueError for what is not
    tau = s B A: other adapter types, DoRA, trained biases, `modules_to_save`, transposed layers, stray tensors,
    a rank that contradicts the configuration.
    """
    folder = Path(folder)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    refused = {
        "peft_type": (config.get("peft_type", "LORA") != "LORA", "only LORA is tau = s B A"),
        "use_dora": (bool(config.get("use_dora")), "DoRA rescales the base's columns too, so it is no s B A"),
        "bias": (config.get("bias", "none") != "none", "trained biases would be lost"),
        "lora_bias": (bool(config.get("lora_bias")), "trained biases would be lost"),
        "fan_in_fan_out": (bool(config.get("fan_in_fan_out")), "transposed weights are not supported"),
        "modules_to_save": (bool(config.get("modules_to_save")), "fully trained modules would be lost"),
    }
    for field, (wrong, why) in refused.items():
        if wrong:
            raise ValueError(f"{folder.name}/{CONFIG}: got {field} = {config[field]!r}; {why}")

    tensors = LazyParams(folder / WEIGHTS)
    adapter = {}
    for name in tensors:
        module, part, _ = name.removeprefix(PREFIX).rpartition(".lora_A.weight")
        if not part:
            if not name.endswith(".lora_B.weight"):
                raise ValueError(f"{folder.name}/{WEIGHTS}: got tensor '{name}', expected lora_A and lora_B only")
            continue
        if (other := name.replace(".lora_A.", ".lora_B.")) not in tensors:
            raise ValueError(f"{folder.name}/{WEIGHTS}: got '{name}' without its lora_B")
        A, B = tensors[name], tensors[other]
        r = _of_module(config, "r", "rank_pattern", module)
        alpha = _of_module(config, "lora_alpha", "alpha_pattern", module)
        if len(A) != r:
            raise ValueError(f"{folder.name}: module '{module}' has rank {len(A)} in the file, {r} in {CONFIG}")
        adapter[weight_of(module)] = LoRA(A, B, alpha / (math.sqrt(r) if config.get("use_rslora") else r))
    if 2 * len(adapter) != len(tensors):
        raise ValueError(f"{folder.name}/{WEIGHTS}: got {len(tensors)} tensors, expected a lora_A for each lora_B")
    check_adapters([adapter])
    return adapter


def _of_module(config: dict, field: str, patterns: str, module: str) -> float:
    """A module's own rank or alpha if a pattern names it (by the end of its name), else the common one."""
    for pattern, value in (config.get(patterns) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return config[field]


def write_peft(
    folder: str | Path, adapter: Adapter, base_model: str = "", metadata: Mapping[str, str] | None = None
) -> None:
    """Save an adapter as PEFT does, in the factors' dtype; `read_peft` gets the same adapter back.

    Ranks and scales that differ from the first layer's go into `rank_pattern` and `alpha_pattern`. The scale is
    always written as lora_alpha / r, with lora_alpha = scale * r. `base_model` is a name for people to read;
    `metadata` goes into the tensors' file.
    """
    check_adapters([adapter])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    modules = {key.removesuffix(".weight"): lora for key, lora in adapter.items()}
    ranks = {module: len(lora.A) for module, lora in modules.items()}
    alphas = {module: lora.scale * len(lora.A) for module, lora in modules.items()}
    r, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    config = {
        "peft_type": "LORA", "base_model_name_or_path": base_model, "inference_mode": True, "bias": "none",
        "r": r, "lora_alpha": alpha, "lora_dropout": 0.0, "use_rslora": False, "use_dora": False,
        "fan_in_fan_out": False, "modules_to_save": None, "target_modules": sorted(modules),
        "rank_pattern": {re.escape(module): value for module, value in ranks.items() if value != r},
        "alpha_pattern": {re.escape(module): value for module, value in alphas.items() if value != alpha},
    }  # fmt: skip
    tensors = {}
    for module, (A, B, _) in modules.items():
        tensors |= {f"{PREFIX}{module}.lora_A.weight": A, f"{PREFIX}{module}.lora_B.weight": B}
    save_params(folder / WEIGHTS, tensors, metadata)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
