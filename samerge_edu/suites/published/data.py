"""Real data sets: one table, two ways to read, no class per data set.

    DATA["mnist"]                     where it is, how large its test split is, its licence
    read("mnist", "test", n=100)      labels and images, decoded; the same number of each class, as far as that goes

The hub's parquet copies are the default: they are the splits FusionBench's experts were trained and tested on, and
they come with a mirror, a cache and an offline mode (see suites/hub.py). `source="torchvision"` reads the data sets'
own files through torchvision where it has the same split.

"train" and "val" share the published training split: of each class the 1st, 11th, 21st, ... image is validation.
"""

import fnmatch
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from huggingface_hub import HfApi, snapshot_download
from PIL import Image
from torch import Tensor

from .hub import ADVICE, cache_folder, check_reachable, download, endpoint, offline, pack, verify
from .manifest import Asset


@dataclass(frozen=True)
class Data:
    """One data set. `test_images` and `mb` (10^6 bytes of the test split, about) say what a full run costs."""

    repo: str
    test_images: int
    mb: float
    licence: str
    files: str = "data/{split}-*-of-*.parquet"
    revision: str = "main"
    splits: tuple[str, str] = ("train", "test")
    columns: tuple[str, str] = ("image", "label")
    torchvision: tuple[str, dict, dict] | None = None  # class, its arguments for train, and for test


_SPLIT = ({"split": "train"}, {"split": "test"})
_TRAIN = ({"train": True}, {"train": False})
_CONVERTED = ("default/{split}/*.parquet", "refs/convert/parquet")  # the hub's own conversion of other formats
_RESEARCH = "research use only"
_NONE = "none stated"

DATA: dict[str, Data] = {
    # the eight tasks
    "sun397": Data("tanganke/sun397", 19850, 7300, _RESEARCH),
    "stanford-cars": Data("tanganke/stanford_cars", 8041, 980, _RESEARCH),
    "resisc45": Data("tanganke/resisc45", 6300, 100, _NONE),
    # not by torchvision: it has no test split, and its 27,000 images are mostly the experts' training images
    "eurosat": Data("tanganke/eurosat", 2700, 9, "MIT"),
    "svhn": Data(
        "ufldl-stanford/svhn", 26032, 47, "non-commercial", "cropped_digits/{split}-*", torchvision=("SVHN", *_SPLIT)
    ),
    "gtsrb": Data("tanganke/gtsrb", 12630, 109, "CC0", torchvision=("GTSRB", *_SPLIT)),
    "mnist": Data("ylecun/mnist", 10000, 3, "CC BY-SA 3.0", "mnist/{split}-*", torchvision=("MNIST", *_TRAIN)),
    "dtd": Data("tanganke/dtd", 1880, 200, _RESEARCH, torchvision=("DTD", *_SPLIT)),
    # six and six more; any that no chosen expert was trained on serves as out-of-domain
    "oxford_flowers102": Data("dpdl-benchmark/oxford_flowers102", 6149, 260, _NONE),
    "pcam": Data("1aurent/PatchCamelyon", 32768, 800, "CC0", *_CONVERTED),
    "fer2013": Data("clip-benchmark/wds_fer2013", 7178, 13, _RESEARCH, *_CONVERTED, columns=("jpg", "cls")),
    "oxford-iiit-pet": Data("timm/oxford-iiit-pet", 3669, 400, "CC BY-SA 4.0"),
    "stl10": Data("tanganke/stl10", 8000, 150, _NONE),
    "cifar100": Data("tanganke/cifar100", 10000, 24, _NONE),
    "cifar10": Data("tanganke/cifar10", 10000, 24, _NONE),
    "food101": Data("ethz/food101", 25250, 1300, _NONE, splits=("train", "validation")),
    "fashion_mnist": Data("zalando-datasets/fashion_mnist", 10000, 5, "MIT", "fashion_mnist/{split}-*"),
    "emnist_letters": Data("tanganke/emnist_letters", 14800, 5, "public domain"),
    "kmnist": Data("tanganke/kmnist", 10000, 4, "CC BY-SA 4.0"),
    "rendered-sst2": Data("nateraw/rendered-sst2", 1821, 10, _NONE, *_CONVERTED),
}


def read(
    task: str, split: str, n: int | None = None, per_class: int | None = None, source: str = "hub"
) -> tuple[Iterator[Image.Image], Tensor]:
    """(images in RGB, labels (n,)) of a data set, in the order of its file, fetched first if needed.

    Images come one by one, decoded when asked for: a large test set need not fit in memory.

    `n` takes n images in all, `per_class` at most that many of each class: the first of each class in the file's
    order, so that a file sorted by class gives all of them a turn. Without either: the whole split.
    Raises ValueError for a task, split or source that does not exist; FileNotFoundError and OSError as `hub.locate`.
    """
    if task not in DATA:
        raise ValueError(f"data set: got '{task}', expected one of {', '.join(DATA)}")
    if split not in ("train", "val", "test"):
        raise ValueError(f"split: got '{split}', expected train, val or test")
    if source not in ("hub", "torchvision"):
        raise ValueError(f"source: got '{source}', expected hub or torchvision")
    labels, image_at = (_from_hub if source == "hub" else _from_torchvision)(task, split)
    positions = torch.arange(len(labels))
    if split != "test":
        is_val = turns(labels) % 10 == 0
        positions = positions[is_val if split == "val" else ~is_val]
    chosen = positions[balanced(labels[positions], n, per_class)]
    return (image.convert("RGB") for image in image_at(chosen.tolist())), labels[chosen]


def balanced(labels: Tensor, n: int | None = None, per_class: int | None = None) -> Tensor:
    """Positions of a class-balanced part, in increasing order: the first of every class, then the second, ...

    >>> balanced(torch.tensor([0, 0, 0, 0, 1, 1, 2]), n=4)
    tensor([0, 1, 4, 6])
    >>> balanced(torch.tensor([0, 0, 0, 0, 1, 1, 2]), per_class=2)
    tensor([0, 1, 4, 5, 6])
    """
    turn = turns(labels)
    order = torch.argsort(turn, stable=True)
    if per_class is not None:
        order = order[turn[order] < per_class]
    return order[:n].sort().values


def turns(labels: Tensor) -> Tensor:
    """How many of its class came before each image.

    >>> turns(torch.tensor([5, 5, 2, 5, 2]))
    tensor([0, 1, 0, 2, 1])
    """
    turn = torch.empty_like(labels)
    for c in labels.unique():
        here = labels == c
        turn[here] = torch.arange(int(here.sum()))
    return turn


# ---------------------------------------------------------------------------- the hub's parquet copies


def parquet_files(task: str, split: str) -> list[Path]:
    """The parquet files of a split, from the SAMERGE_ASSETS folder, the hub's cache, or the hub."""
    data, pattern = DATA[task], _pattern(task, split)
    if assets := os.environ.get("SAMERGE_ASSETS"):
        folder = Path(assets) / "datasets" / data.repo
        if files := sorted(folder.glob(pattern)):
            for file in files:  # by SHA256SUMS, where the folder has one
                name = file.relative_to(folder).as_posix()
                verify(Asset(f"datasets/{data.repo}", name, data.mb, data.licence, ""), file)
            return _complete(files, task)
    check_can_read()  # before it is fetched
    options: dict[str, Any] = {"repo_type": "dataset", "revision": data.revision, "allow_patterns": pattern}
    options |= {"cache_dir": cache_folder(), "endpoint": endpoint()}
    try:  # what is here needs no network, though the hub would be asked whether there is something newer
        if files := sorted(Path(snapshot_download(data.repo, local_files_only=True, **options)).glob(pattern)):
            return _complete(files, task)
    except FileNotFoundError:
        pass
    if offline():
        raise FileNotFoundError(f"{task}: its {split} split is not on this machine and HF_HUB_OFFLINE is set; {ADVICE}")
    asset = Asset(f"datasets/{data.repo}", pattern, data.mb, data.licence, "")

    check_reachable(f"{task}, its {split} split,")

    def get(**force: bool) -> list[Path]:
        return sorted(Path(snapshot_download(data.repo, **options, **force)).glob(pattern))

    files = download(asset, get)
    if not files:
        raise FileNotFoundError(f"'datasets/{data.repo}' has no file '{pattern}'")
    return _complete(files, task)


def _pattern(task: str, split: str) -> str:
    pattern = DATA[task].files.format(split=DATA[task].splits[split == "test"])
    return pattern if pattern.endswith(".parquet") else pattern + ".parquet"


def _complete(files: list[Path], task: str) -> list[Path]:
    """All parts of `test-00003-of-00018.parquet`, or an error."""
    if "-of-" in files[0].name and len(files) != (n := int(files[0].name.split("-of-")[1][:5])):
        raise FileNotFoundError(f"{task}: got {len(files)} of its {n} parquet files; fetch it again")
    return files


def fetch(
    task: str, split: str, dry_run: bool = False, to: str | Path | None = None, say: Callable[[str], None] = print
) -> list[Path]:
    """Print the size and licence of a split's files, then fetch and check them, and copy them into a folder `to`.

    The size is the hub's own where it answers, else the table's, which knows test splits only.
    """
    data = DATA[task]
    try:
        about = HfApi(endpoint=endpoint()).dataset_info(
            data.repo, revision=data.revision, files_metadata=True, timeout=5
        )
        there = [f.size or 0 for f in about.siblings or [] if fnmatch.fnmatch(f.rfilename, _pattern(task, split))]
        size = f"{sum(there) / 1e6:.1f} MB"
    except Exception:  # no network, a proxy, a hub that is busy
        size = f"about {data.mb} MB" if split == "test" else "size unknown"
    name = "test" if split == "test" else "training split (a tenth of it is validation)"
    say(f"{size:>16}  {'images':8}  {task}, {name}  [{data.licence}]")
    if dry_run:
        return []
    files, depth = parquet_files(task, split), 1 + _pattern(task, split).count("/")
    if to:
        return pack({"/".join(["datasets", data.repo, *f.parts[-depth:]]): f for f in files}, Path(to))
    return files


def _from_hub(task: str, split: str) -> tuple[Tensor, Callable[[list[int]], Iterator[Image.Image]]]:
    image, label = DATA[task].columns
    files = parquet_files(task, split)
    labels = [torch.tensor(_columns(f, [label])[label].to_numpy().astype("int64")) for f in files]

    def image_at(positions: list[int]) -> Iterator[Image.Image]:
        start = 0
        for file, here in zip(files, labels, strict=True):  # one file in memory at a time
            inside = [p - start for p in positions if start <= p < start + len(here)]
            if inside:
                column = _columns(file, [image])[image]
                yield from (Image.open(BytesIO(column.iloc[p]["bytes"])) for p in inside)
            start += len(here)

    return torch.cat(labels), image_at


def check_can_read() -> None:
    """Raise ImportError if parquet files could not be read: before gigabytes are fetched, not after."""
    if find_spec("pyarrow") is None:
        raise ImportError("the hub's data sets are parquet files: pip install pyarrow (Colab has it)")


def _columns(file: Path, columns: list[str]) -> pd.DataFrame:
    check_can_read()
    try:
        return pd.read_parquet(file, columns=columns)
    except ValueError as e:  # pyarrow's own errors are ValueErrors: no such column, no parquet file, half of one
        raise ValueError(f"{file.name}: column '{columns[0]}' could not be read: {str(e).splitlines()[0]}") from e


# ---------------------------------------------------------------------------- the data sets' own files


def _from_torchvision(task: str, split: str) -> tuple[Tensor, Callable[[list[int]], Iterator[Image.Image]]]:
    from torchvision import datasets

    if (known := DATA[task].torchvision) is None:
        with_it = ", ".join(name for name, data in DATA.items() if data.torchvision)
        raise ValueError(f"'{task}' is read from the hub only; torchvision has the same split for {with_it}")
    name, *arguments = known
    root = os.environ.get("SAMERGE_DATA", cache_folder().parent / "torchvision")
    data = getattr(datasets, name)(root, download=not offline(), **arguments[split == "test"])
    found = next((getattr(data, a) for a in ("targets", "labels", "_labels") if hasattr(data, a)), None)
    labels = torch.as_tensor([y for _, y in data._samples] if found is None else found)
    return labels.long(), lambda positions: (data[p][0] for p in positions)
