"""The table of suites: name -> what loads it."""

from collections.abc import Callable
from functools import partial

from .suite import Suite


def load_suite(name: str = "pocket", **options) -> Suite:
    """A suite by its name: "pocket" needs nothing, the published ones are downloaded first.

    Raises ValueError that lists the names that exist.
    """
    loaders = _loaders()
    if name not in loaders:
        raise ValueError(f"suite: got '{name}', expected one of {', '.join(loaders)}")
    return loaders[name](**options)


def suite_names() -> list[str]:
    return list(_loaders())


def _loaders() -> dict[str, Callable[..., Suite]]:
    from .pocket.suite import (
        load_pocket,
        load_pocket_lora,
        load_pocket_osrm,
        load_pocket_pair,
        load_pocket_soup,
        load_pocket_sparse,
    )
    from .published.clip_vit import load_clip_vit
    from .published.manifest import SUITES

    published = {name: partial(load_clip_vit, model=model, lora=lora) for name, (model, lora) in SUITES.items()}
    return {
        "pocket": load_pocket,
        "pocket-lora": lambda **options: load_pocket_lora(r=16, **options),
        "pocket-lora-4": lambda **options: load_pocket_lora(r=4, **options),
        "pocket-weak": lambda **options: load_pocket_pair("weak", **options),
        "pocket-similar": lambda **options: load_pocket_pair("similar", **options),
        "pocket-other": lambda **options: load_pocket_pair("other", **options),
        "pocket-sparse": load_pocket_sparse,
        "pocket-osrm": load_pocket_osrm,
        "pocket-soup": lambda **options: load_pocket_soup("runs", **options),
        "pocket-run": lambda **options: load_pocket_soup("checkpoints", **options),
        **published,
    }
