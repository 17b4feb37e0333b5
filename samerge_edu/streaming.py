"""Merge models that do not fit in memory: read a tensor of each, merge it, write it, forget it.

    for each tensor k:    tau_n[k] = theta_n[k] - theta_0[k]    n = 1..N          N + 1 tensors read
                          theta[k] = theta_0[k] + lam * merge(tau_1[k]..tau_N[k])  written at once

so the peak is about (N + 2) times the *largest tensor*, whatever the number of layers. That is possible because a
safetensors file is a table of contents followed by the tensors' bytes: the contents are known before the first
tensor is.
"""

import importlib.metadata
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from .files import check_contents, fingerprint, replace_file, write_safetensors
from .forecast import check_fits, forecast
from .params import Params, add, check_finite, check_lam, lazy_task_vectors, structure
from .suites.suite import Suite


def merge_to_file(
    theta_0: Params,
    thetas: Sequence[Params],
    merge: Callable[[Sequence[Params]], Params],
    out: str | Path,
    *,
    lam: float,
    per_tensor: bool,
    recipe: str,
    prefix: str = "",
    keep: Params | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[str], None] = lambda key: None,
) -> Path:
    """Write theta_0 + lam * merge(taus) as a safetensors file, holding as little as the method allows.

    Args: `theta_0` and `thetas`, best lazy (`LazyParams`, `names.from_hf`); `merge`, taus -> tau_m; `lam`, its scale;
    `per_tensor`, whether the method treats each tensor on its own: then it is called as `merge([{k: tau_n[k]}, ...])`
    key by key; otherwise once, with lazy task vectors, and its result is held whole. A global method called per
    tensor gives another method's result, so there is no default. `recipe` names the method in the file's metadata;
    `prefix` stands before each merged name in the file; `keep`, tensors that are copied unchanged (a text tower)
    under their own names; `device`, where the arithmetic is done.

    The metadata holds recipe, lam, the sha256 of every input and the versions. The file appears in one piece, at
    the end: an interrupted run leaves the old file, or none. Raises ValueError for models that do not fit together,
    for what would make no readable file (a recipe that is no text, a name twice), and for NaN or infinity in the
    result; MemoryError with the numbers before loading what cannot fit.
    """
    keep, out = {} if keep is None else keep, Path(out)
    thetas = thetas if isinstance(thetas, Mapping) else list(thetas)  # one model alone is refused below
    contents = {prefix + k: s for k, s in structure(theta_0).items()}
    if twice := sorted(contents.keys() & structure(keep).keys()):
        raise ValueError(f"keep: got '{twice[0]}', which is a merged tensor's name too ({len(twice)} in all)")
    contents |= structure(keep)
    check_contents(contents, metadata(recipe, lam, []))
    tensors = merged_tensors(theta_0, thetas, merge, lam=lam, per_tensor=per_tensor, device=device, progress=progress)
    named = ((prefix + key, theta) for key, theta in tensors(structure(theta_0)))
    kept = ((key, keep[key]) for key in structure(keep))
    inputs = [fingerprint(model) for model in (theta_0, *thetas)]
    write_safetensors(out, contents, chain(named, kept), metadata(recipe, lam, inputs))
    return out


def merged_tensors(
    theta_0: Params,
    thetas: Sequence[Params],
    merge: Callable[[Sequence[Params]], Params],
    *,
    lam: float,
    per_tensor: bool,
    device: str | torch.device = "cpu",
    progress: Callable[[str], None] = lambda key: None,
) -> Callable[[Iterable[str]], Iterator[tuple[str, Tensor]]]:
    """keys -> (key, theta[key]), made one after the other: what `merge_to_file` writes.

    A global method is run here and now; a method per tensor when its tensor is asked for. Raises as `merge_to_file`.
    """
    taus = lazy_task_vectors(theta_0, thetas)
    plan = forecast([theta_0, *thetas], per_tensor, device)
    advice = "" if per_tensor else "the method looks at all tensors at once"
    check_fits(plan.needs[plan.streamed], f"merging {len(thetas)} experts", device, advice)
    check_lam(lam)

    on_device = [_On(tau, device) for tau in taus]
    whole = {} if per_tensor else merge(on_device)

    def tensors(keys: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        for key in keys:
            if per_tensor:
                pieces = [{key: tau[key]} for tau in on_device]
                check_finite(pieces, what="expert")
                tau_m = {key: merge(pieces)[key]}
            else:
                tau_m = {key: whole[key]}
            theta = add({key: theta_0[key].to(device)}, tau_m, lam)[key]
            if not theta.isfinite().all():
                raise ValueError(f"'{key}': got NaN or infinity in the merged model, expected finite numbers")
            progress(key)
            yield key, theta

    return tensors


def metadata(recipe: str, lam: float, inputs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What a merged file says about itself: recipe, scale, what went in, with which versions."""
    about = {"format": "pt", "recipe": recipe, "lam": repr(lam), "versions": json.dumps(_versions())}
    return about | {"inputs": json.dumps(list(inputs))}


def merge_suite(
    suite: Suite,
    merge: Callable[[Sequence[Params]], Params],
    out: str | Path,
    *,
    lam: float,
    per_tensor: bool,
    recipe: str,
    progress: Callable[[str], None] = lambda key: None,
) -> Path:
    """Merge a suite's experts into a file: see `merge_to_file`.

    For a published suite the file is a whole CLIP, and an `open_clip_config.json` is written beside it, so that the
    folder loads in open_clip as `create_model_and_transforms("local-dir:FOLDER")`, with the right activation and
    preprocessing. For transformers: `names.to_hf(names.image_tower(load_params(file)))`. Of pocket it is the tower
    alone.
    Raises ValueError for a folder whose configuration is another model's, and as `merge_to_file`.
    """
    from .suites.published.clip_vit import PublishedSuite  # loads open_clip, which models of one's own do not need
    from .suites.published.names import Renamed

    out, published = Path(out), suite if isinstance(suite, PublishedSuite) else None
    beside = out.with_name("open_clip_config.json")
    if published and beside.exists() and json.loads(beside.read_text(encoding="utf-8")) != published.config:
        raise ValueError(f"{beside} is another model's: choose a folder of its own for {out.name}")
    merged = {f"visual.{k}" for k in suite.theta_0}  # with the prefix: both towers have a "positional_embedding"
    keep = Renamed(published.whole, {k: (k,) for k in published.whole if k not in merged}) if published else None
    merge_to_file(
        suite.theta_0,
        list(suite.experts.values()),
        merge,
        out,
        lam=lam,
        per_tensor=per_tensor,
        recipe=f"{recipe} on {suite.name}: {', '.join(suite.experts)}; {suite.family}",
        prefix="visual." if published else "",
        keep=keep,
        device=suite.device,
        progress=progress,
    )
    if published:
        config = json.dumps(published.config, indent=2) + "\n"
        replace_file(beside, lambda part: part.write_text(config, encoding="utf-8"))
    return out


class _On(Mapping[str, Tensor]):
    """A task vector whose tensors arrive on a device when they are read."""

    def __init__(self, tau: Params, device: str | torch.device):
        self.tau, self.device, self.structure = tau, device, structure(tau)

    def __getitem__(self, key: str) -> Tensor:
        return self.tau[key].to(self.device)

    def __iter__(self):
        return iter(self.structure)

    def __len__(self) -> int:
        return len(self.structure)


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "safetensors")}
