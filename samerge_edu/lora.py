"""LoRA experts: two thin matrices per layer, tau = s B A (Hu et al., ICLR 2022, arXiv:2106.09685).

    adapter = read_peft(folder)          dict[str, LoRA], keyed by the weight that a layer's update belongs to
    tau = dense(adapter)                 from here on every method works unchanged

The factors are no coordinates: (B M^-1, M A) gives the same tau for any invertible M (a *gauge*). What is
computed from tau does not depend on M; what is computed from A and B one by one does.
"""

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import regex  # open_clip brings it: unlike re it can be told to give up
import torch
from torch import Tensor

from .files import LazyParams, replace_file, save_params
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


def check_adapters(adapters: Sequence[Adapter], same_rank: bool = False) -> list[Adapter]:
    """The adapters as a list; raises ValueError unless they have the same keys and, key by key, the same (out, in).

    Ranks may differ from adapter to adapter unless `same_rank`. Also names a pair of factors that do not fit, a scale
    that is no finite number, and the factor that holds NaN or infinity.
    """
    if isinstance(adapters, Mapping):
        raise ValueError("got one adapter, expected a list of them: put it in brackets")
    adapters = list(adapters)
    if not adapters:
        raise ValueError("got 0 adapters, expected at least 1")
    if not adapters[0]:
        raise ValueError("adapter 0 has no layers")
    for n, adapter in enumerate(adapters):
        if different := sorted(adapters[0].keys() ^ adapter.keys()):
            has = "missing" if different[0] in adapters[0] else "extra"
            raise ValueError(f"adapter {n}: {has} key '{different[0]}' ({len(different)} differ in all)")
        for key, (A, B, scale) in adapter.items():
            structure({"A": A, "B": B})  # tensors at all?
            if A.ndim != 2 or B.ndim != 2 or A.shape[0] != B.shape[1]:
                raise ValueError(
                    f"adapter {n}, key '{key}': got A {tuple(A.shape)} and B {tuple(B.shape)}, "
                    "expected (r, in) and (out, r)"
                )
            if A.dtype != B.dtype or not A.is_floating_point():
                raise ValueError(f"adapter {n}, key '{key}': got A {A.dtype} and B {B.dtype}, expected one float type")
            if not _is_number(scale):
                raise ValueError(f"adapter {n}, key '{key}': got scale {scale!r}, expected a finite number")
            got, expected = (B.shape[0], A.shape[1]), (adapters[0][key].B.shape[0], adapters[0][key].A.shape[1])
            if got != expected:
                raise ValueError(f"adapter {n}, key '{key}': got an update of shape {got}, expected {expected}")
            if same_rank and len(A) != len(adapters[0][key].A):
                raise ValueError(f"adapter {n}, key '{key}': got rank {len(A)}, expected {len(adapters[0][key].A)}")
            for name, factor in (("A", A), ("B", B)):
                if not factor.isfinite().all():
                    raise ValueError(
                        f"adapter {n}, key '{key}': got NaN or infinity in {name}, expected finite numbers"
                    )
    return adapters


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e308


# ---------------------------------------------------------------------------- PEFT's files

WEIGHTS, CONFIG, PREFIX = "adapter_model.safetensors", "adapter_config.json", "base_model.model."

KINDS: dict[str, Callable[[Any], bool]] = {
    "true or false": lambda x: isinstance(x, bool),
    "a whole number >= 1": lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= 1,
    "a finite number": _is_number,
    "text": lambda x: isinstance(x, str),
    "names": lambda x: isinstance(x, str) or (isinstance(x, list) and all(isinstance(name, str) for name in x)),
    "whole numbers": lambda x: all(type(i) is int for i in (x if isinstance(x, list) else [x])),
    "a list": lambda x: isinstance(x, list),
    "a table": lambda x: isinstance(x, dict),
    "ranks by name": lambda x: isinstance(x, dict) and all(map(KINDS["a whole number >= 1"], x.values())),
    "numbers by name": lambda x: isinstance(x, dict) and all(map(_is_number, x.values())),
}
FIELDS = {  # of adapter_config.json, and what PEFT writes there
    "true or false": (
        *("use_rslora", "inference_mode", "ensure_weight_tying"),
        *("use_dora", "lora_bias", "fan_in_fan_out", "use_qalora"),
    ),
    "a whole number >= 1": ("r", "qalora_group_size"),
    "a finite number": ("lora_alpha", "lora_dropout"),
    "text": ("base_model_name_or_path", "revision", "task_type", "peft_version", "megatron_core"),
    "names": ("target_modules", "exclude_modules", "layers_pattern", "modules_to_save", "target_parameters"),
    "whole numbers": ("layers_to_transform", "alora_invocation_tokens"),
    "a list": ("layer_replication",),
    "a table": ("auto_mapping", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config"),
    "ranks by name": ("rank_pattern",),
    "numbers by name": ("alpha_pattern",),
}
KIND_OF = {field: kind for kind, fields in FIELDS.items() for field in fields}
REFUSED = {  # fields that change what the factors mean, if they are set; so does every field that is not in FIELDS
    "use_dora": "DoRA rescales the base's columns too, so it is no s B A",
    "lora_bias": "trained biases would be lost",
    "fan_in_fan_out": "transposed weights are not supported",
    "use_qalora": "the factors are made for a quantised base",
    "modules_to_save": "fully trained modules would be lost",
    "trainable_token_indices": "trained tokens would be lost",
    "alora_invocation_tokens": "an activated LoRA acts on some tokens only",
    "layer_replication": "the adapter is of a model with more layers than the base",
    "target_parameters": "the factors of bare parameters have no names of their own",
}
PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva", "mica")
"""Values of `init_lora_weights` that leave the base alone. The others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) take their
start off the base: the update is then s B A - s B0 A0, and the file does not hold the start."""


def weight_of(module: str) -> str:
    """The weight that PEFT's module name stands for: `x` -> `x.weight`."""
    return f"{module}.weight"


def read_peft(folder: str | Path, weight_of: Callable[[str], str] = weight_of) -> dict[str, LoRA]:
    """Read an adapter that PEFT, or `write_peft`, has saved: adapter_config.json, adapter_model.safetensors.

    `weight_of` maps a module's name in the file to a weight's name in the base (default: add ".weight"). Of
    torch's `nn.MultiheadAttention`, `x`, PEFT adapts `x.in_proj_weight` and `x.out_proj.weight`.
    scale = lora_alpha / r, or lora_alpha / sqrt(r) if the configuration says `use_rslora`; `rank_pattern` and
    `alpha_pattern` are honoured. Raises FileNotFoundError for a missing file and ValueError, with the file's name,
    for what is not tau = s B A: other adapter types, a start that is not B A = 0 (PiSSA and others), DoRA, trained
    biases, `modules_to_save`, transposed or replicated layers, any set field that is not known here, stray tensors,
    a rank that contradicts the configuration; and for fields of a wrong type, NaN and infinity.
    """
    folder = Path(folder)
    config = _read_config(folder)
    tensors = LazyParams(folder / WEIGHTS)
    pair = (".lora_A.weight", ".lora_B.weight")
    if strays := [name for name in (*tensors, *tensors.buffers) if not name.endswith(pair)]:
        raise ValueError(f"{folder.name}/{WEIGHTS}: got tensor '{strays[0]}', expected lora_A and lora_B only")
    if tensors.buffers:
        raise ValueError(f"{folder.name}/{WEIGHTS}: got integers in '{tensors.buffers[0]}', expected floating numbers")
    tensors = tensors.read_all()
    modules = {name.removesuffix(".lora_A.weight"): name for name in tensors if name.endswith(".lora_A.weight")}
    if alone := [name for module, name in modules.items() if f"{module}.lora_B.weight" not in tensors]:
        raise ValueError(f"{folder.name}/{WEIGHTS}: got '{alone[0]}' without its lora_B")
    if 2 * len(modules) != len(tensors):
        raise ValueError(f"{folder.name}/{WEIGHTS}: got {len(tensors)} tensors, expected a lora_A for each lora_B")

    adapter, source, patience = {}, {}, Patience(seconds=2)
    for prefixed, name in modules.items():
        module, A, B = prefixed.removeprefix(PREFIX), tensors[name], tensors[f"{prefixed}.lora_B.weight"]
        attention, inner, _ = module.rpartition(OUT_PROJ)  # the module that r and alpha are looked up for
        r = _of_module(config, "r", "rank_pattern", attention if inner else module, folder, patience)
        alpha = _of_module(config, "lora_alpha", "alpha_pattern", attention if inner else module, folder, patience)
        if len(A) != r:
            raise ValueError(f"{folder.name}: module '{module}' has rank {len(A)} in the file, {r} in {CONFIG}")
        if inner:
            weight = weight_of(f"{attention}.out_proj")
        elif prefixed + OUT_PROJ in modules:
            weight = weight_of(module).removesuffix(".weight") + ".in_proj_weight"
        else:
            weight = weight_of(module)
        if weight in adapter:
            raise ValueError(f"{folder.name}: modules '{source[weight]}' and '{module}' are both '{weight}' here")
        adapter[weight], source[weight] = LoRA(A, B, alpha / (math.sqrt(r) if config.get("use_rslora") else r)), module
    try:
        check_adapters([adapter])
    except ValueError as e:
        raise ValueError(f"{folder.name}/{WEIGHTS}: {e}") from e
    return adapter


OUT_PROJ = ".base_layer.out_proj"  # what PEFT calls the second half of an nn.MultiheadAttention that it has wrapped


def _read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json, if every field in it is one that leaves tau = s B A."""
    file = f"{folder.name}/{CONFIG}"
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{file} is not readable as JSON: {e}") from e
    if not isinstance(config, dict):
        raise ValueError(f"{file}: got a {type(config).__name__}, expected a table of fields")
    for field in ("peft_type", "r", "lora_alpha"):
        if config.get(field) is None:
            raise ValueError(f"{file}: missing field '{field}'")
    known = {*KIND_OF, "peft_type", "bias", "init_lora_weights"}
    for field, value in config.items():
        expected = None
        if field == "peft_type" and value != "LORA":
            expected = "only LORA is tau = s B A"
        elif field == "bias" and value not in ("none", None):
            expected = "trained biases would be lost"
        elif field == "init_lora_weights" and not (isinstance(value, bool | str | None) and value in PLAIN_STARTS):
            expected = "such a start is taken off the base, so the update is no s B A; let PEFT convert it when saving"
        elif field in KIND_OF and value is not None and not KINDS[KIND_OF[field]](value):
            expected = f"expected {KIND_OF[field]}"
        elif (field in REFUSED or field not in known) and not _is_unset(value):
            expected = REFUSED.get(field, "it is not known here, and may make the update something else than s B A")
        if expected:
            raise ValueError(f"{file}: got {field} = {_short(value)}; {expected}")
    return config


def _is_unset(value: object) -> bool:
    return value is None or value is False or value in ([], {})


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:76]} ..."


class Patience:
    """Seconds that are left for regular expressions out of a stranger's file: some would match for years."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds

    def match(self, pattern: str, text: str) -> bool:
        return regex.match(pattern, text, timeout=max(0.001, self.end - time.monotonic())) is not None


def _of_module(
    config: Mapping[str, Any], field: str, patterns: str, module: str, folder: Path, patience: Patience
) -> float:
    """A module's own rank or alpha if a pattern names it (by the end of its name), else the common one."""
    for pattern, value in (config.get(patterns) or {}).items():
        try:
            if patience.match(rf"(.*\.)?({pattern})$", module):
                return value
        except (regex.error, TimeoutError, RecursionError, MemoryError, OverflowError) as e:
            problem = "takes too long" if isinstance(e, TimeoutError) else f"is no regular expression ({e})"
            raise ValueError(f"{folder.name}/{CONFIG}: {patterns}: {_short(pattern)} {problem}") from e
    return config[field]


def write_peft(
    folder: str | Path, adapter: Adapter, base_model: str = "", metadata: Mapping[str, str] | None = None
) -> None:
    """Save an adapter as PEFT does, in the factors' dtype; `read_peft` gets the same adapter back, PEFT the same model.

    Where ranks or scales differ, all go into `rank_pattern` and `alpha_pattern`. The scale is always written as
    lora_alpha / r, with lora_alpha = scale * r. `base_model` is a name for people to read; `metadata` goes into the
    tensors' file. PEFT adapts both weights of an `nn.MultiheadAttention` or none, at one rank and scale: raises
    ValueError for `x.in_proj_weight` without such an `x.out_proj.weight`.

    Limits: PEFT up to 0.21 adds the update of such an out_proj twice (its pull request 3774). Files for those
    versions need q, k and v apart: `suites.published.names.split` makes them of a CLIP tower's adapter.
    """
    (adapter,) = check_adapters([adapter])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors, ranks, alphas = {}, {}, {}
    for key, (A, B, scale) in adapter.items():
        module, attention = key.removesuffix(".weight"), key.removesuffix(".in_proj_weight")
        if attention != key:
            other = adapter.get(f"{attention}.out_proj.weight")
            if other is None or (len(other.A), other.scale) != (len(A), scale):
                raise ValueError(f"'{key}': PEFT needs '{attention}.out_proj.weight' beside it, at this rank and scale")
            module = attention
        elif (attention := key.removesuffix(".out_proj.weight")) != key and f"{attention}.in_proj_weight" in adapter:
            module = attention + OUT_PROJ
        tensors |= {f"{PREFIX}{module}.lora_A.weight": A, f"{PREFIX}{module}.lora_B.weight": B}
        target = module.removesuffix(OUT_PROJ)
        ranks[target], alphas[target] = len(A), scale * len(A)
    config = {
        "peft_type": "LORA", "base_model_name_or_path": base_model, "inference_mode": True, "bias": "none",
        "r": next(iter(ranks.values())), "lora_alpha": next(iter(alphas.values())), "lora_dropout": 0.0,
        "use_rslora": False, "use_dora": False, "fan_in_fan_out": False, "modules_to_save": None,
        "target_modules": sorted(ranks), "rank_pattern": _patterns(ranks), "alpha_pattern": _patterns(alphas),
    }  # fmt: skip
    save_params(folder / WEIGHTS, tensors, metadata)
    replace_file(folder / CONFIG, lambda part: part.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8"))


def _patterns(of_module: Mapping[str, float]) -> dict[str, float]:
    """name -> value, where they differ. The first that matches the end of a name counts, so long names go first."""
    if len(set(of_module.values())) == 1:
        return {}
    return {re.escape(module): of_module[module] for module in sorted(of_module, key=len, reverse=True)}
