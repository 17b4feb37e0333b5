"""The table of data sets, read from a local hub and from torchvision's own files."""

import io
import json
import re
import struct
from pathlib import Path

import pandas as pd
import pytest
import torch
from hub_server import HubServer
from PIL import Image
from tiny_hub import write_data

import samerge_edu
from samerge_edu.suites.published import data as data_module
from samerge_edu.suites.published.clip_vit import load_clip_vit, prefetch_suite
from samerge_edu.suites.published.data import DATA, balanced, fetch, parquet_files, read
from samerge_edu.suites.published.manifest import TALL20

CLASSES = json.loads((Path(samerge_edu.__path__[0]) / "suites/published/class_names.json").read_text(encoding="utf-8"))


@pytest.fixture
def served(tmp_path, monkeypatch):
    """MNIST, and two data sets in other formats: 5 images of each of 3 classes, in a hub of their own."""
    for number, task in enumerate(("mnist", "food101", "fer2013")):
        write_data(tmp_path / "served/datasets" / DATA[task].repo, task, classes=3, seed=number, per_class=5)
    for variable in ("SAMERGE_ASSETS", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with HubServer(tmp_path / "served") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_the_table_covers_the_tasks_and_says_what_they_cost():
    assert set(DATA) == set(TALL20) == set(CLASSES)
    for name, data in DATA.items():
        assert data.test_images >= len(CLASSES[name]["classes"]), name
        assert data.mb > 0, name
        assert data.licence, name
        assert "{split}" in data.files, name
    assert {n for n, d in DATA.items() if d.torchvision} == {"mnist", "svhn", "gtsrb", "dtd"}


def test_images_and_labels_come_back_as_they_were_written(served):
    images, labels = read("mnist", "test")
    images = list(images)
    assert [image.size for image in images] == [(32, 32)] * 15
    assert {image.mode for image in images} == {"RGB"}
    assert labels.tolist() == [0, 1, 2] * 5
    frame = pd.read_parquet(next((served.folder / "datasets/ylecun/mnist/mnist").glob("test-*")))
    first = Image.open(io.BytesIO(frame["image"][0]["bytes"]))
    assert images[0].tobytes() == first.tobytes()


def test_other_columns_splits_and_the_hubs_own_conversion(served):
    assert len(list(read("fer2013", "test")[0])) == 15  # columns jpg and cls, branch refs/convert/parquet
    assert any("refs" in path or "main" in path for _, path, _ in served.requests)
    assert read("food101", "test")[1].shape == (15,)  # its split is called validation
    asked = len(served.requests)
    assert read("food101", "test")[1].shape == (15,)
    assert len(served.requests) == asked  # here now: no network


def test_train_and_val_share_the_published_training_split(served):
    val, train, test = (torch.stack([_pixels(i) for i in read("mnist", s)[0]]) for s in ("val", "train", "test"))
    assert (len(val), len(train)) == (3, 12)
    assert read("mnist", "val")[1].tolist() == [0, 1, 2]  # some of each class, in whatever order the file is
    every = {tuple(x.flatten().tolist()) for x in torch.cat([val, train, test])}
    assert len(every) == 30  # no image in two splits


def _pixels(image):
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)


def test_a_part_of_a_test_set_gives_every_class_its_turn(served):
    assert read("mnist", "test", n=4)[1].bincount().tolist() == [2, 1, 1]
    assert read("mnist", "test", per_class=2)[1].bincount().tolist() == [2, 2, 2]
    images, labels = read("mnist", "test", per_class=2)
    assert len(list(images)) == len(labels) == 6
    by_class = torch.arange(3).repeat_interleave(4)  # a file sorted by class
    assert balanced(by_class, n=5).tolist() == [0, 1, 4, 5, 8]
    assert balanced(by_class, n=6, per_class=1).tolist() == [0, 4, 8]
    assert balanced(by_class).tolist() == list(range(12))
    assert balanced(torch.tensor([7, 7, 2]), n=2).tolist() == [0, 2]


def test_several_files_are_read_in_order_and_all_of_them_are_needed(served, monkeypatch, tmp_path):
    folder = served.folder / "datasets/ylecun/mnist/mnist"
    whole = folder / "test-00000-of-00001.parquet"
    images, expected = read("mnist", "test")
    expected_pixels = [_pixels(i) for i in images]
    frame = pd.read_parquet(whole)
    frame.iloc[:7].to_parquet(folder / "test-00000-of-00002.parquet")
    frame.iloc[7:].reset_index(drop=True).to_parquet(folder / "test-00001-of-00002.parquet")
    whole.unlink()
    monkeypatch.setenv("SAMERGE_ASSETS", str(served.folder))
    images, labels = read("mnist", "test")
    assert labels.tolist() == expected.tolist()
    assert all(torch.equal(_pixels(a), b) for a, b in zip(images, expected_pixels, strict=True))
    (folder / "test-00001-of-00002.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="mnist: got 1 of its 2 parquet files"):
        read("mnist", "test")


def test_fetch_prints_the_hubs_own_size_and_packs_for_machines_without_a_network(served, tmp_path, monkeypatch):
    lines = []
    size = next((served.folder / "datasets/ylecun/mnist/mnist").glob("test-*")).stat().st_size
    assert fetch("mnist", "test", dry_run=True, say=lines.append) == []
    assert lines == [f"{f'{size / 1e6:.1f} MB':>16}  images    mnist, test  [CC BY-SA 3.0]"]
    assert not list((tmp_path / "cache").rglob("*.parquet"))
    for task in ("mnist", "fer2013"):
        fetch(task, "test", to=tmp_path / "stick", say=lines.append)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "another machine"))
    monkeypatch.setenv("SAMERGE_ASSETS", str(tmp_path / "stick"))
    assert read("mnist", "test")[1].shape == read("fer2013", "test")[1].shape == (15,)
    fetch("food101", "test", dry_run=True, say=lines.append)
    assert lines[-1].split() == ["about", "1300", "MB", "images", "food101,", "test", "[none", "stated]"]


def test_damage_is_noticed(served, monkeypatch):
    served.faults["test-00000-of-00001.parquet"] = ["corrupt"]
    with pytest.raises(ValueError, match=r"test-00000-of-00001.parquet: got sha256"):
        parquet_files("mnist", "test")
    assert len(parquet_files("mnist", "test")) == 1  # the second time it is well
    monkeypatch.setenv("SAMERGE_ASSETS", str(served.folder))
    file = next((served.folder / "datasets/ylecun/mnist/mnist").glob("test-*"))
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"test-00000-of-00001.parquet: column 'label' could not be read"):
        read("mnist", "test")


@pytest.mark.parametrize("faults", [["cut", "cut"], ["429"] * 3, ["500", "down"], ["truncate"]], ids="-".join)
def test_trouble_that_passes_ends_in_the_right_file(served, monkeypatch, faults):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    served.faults["test-00000-of-00001.parquet"] = faults
    there = next((served.folder / "datasets/ylecun/mnist/mnist").glob("test-*"))
    assert parquet_files("mnist", "test")[0].read_bytes() == there.read_bytes()
    assert served.faults["test-00000-of-00001.parquet"] == []


def test_trouble_that_stays_is_said_plainly_and_leaves_no_half_file(served, monkeypatch, tmp_path):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for fault, message in {"truncate": "came incomplete", "429": "keeps answering 'too many requests'"}.items():
        served.faults["test-00000-of-00001.parquet"] = [fault] * 100
        with pytest.raises(OSError, match=rf"datasets/ylecun/mnist/mnist/test-\*.parquet.*{message}"):
            parquet_files("mnist", "test")
    assert not list((tmp_path / "cache").rglob("snapshots/*/*/*.parquet"))


def test_a_file_without_the_expected_column_says_so(served, monkeypatch):
    file = next((served.folder / "datasets/ylecun/mnist/mnist").glob("test-*"))
    pd.read_parquet(file).rename(columns={"label": "digit"}).to_parquet(file)
    monkeypatch.setenv("SAMERGE_ASSETS", str(served.folder))
    with pytest.raises(ValueError, match="column 'label' could not be read"):
        read("mnist", "test")


def test_what_is_not_there_is_said_plainly(served, monkeypatch):
    with pytest.raises(ValueError, match="data set: got 'imagenet', expected one of sun397"):
        read("imagenet", "test")
    with pytest.raises(ValueError, match="split: got 'dev', expected train, val or test"):
        read("mnist", "dev")
    with pytest.raises(ValueError, match="source: got 'kaggle', expected hub or torchvision"):
        read("mnist", "test", source="kaggle")
    with pytest.raises(ValueError, match=re.escape("'eurosat' is read from the hub only; torchvision has")):
        read("eurosat", "test", source="torchvision")
    with pytest.raises(FileNotFoundError, match=r"has no repository 'datasets/tanganke/eurosat'"):
        read("eurosat", "test")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(
        OSError, match=r"mnist, its test split, could not be fetched: .* does not answer.*SAMERGE_ASSETS"
    ):
        read("mnist", "test")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"eurosat: its test split is not on this machine and HF_HUB_OFFLINE"):
        read("eurosat", "test")


def test_without_pyarrow_nothing_is_fetched(served, monkeypatch):
    monkeypatch.setattr(data_module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        read("mnist", "test")
    with pytest.raises(ImportError, match="pip install pyarrow"):
        fetch("mnist", "test", say=lambda line: None)
    assert {method for method, path, _ in served.requests if "api" not in path} <= {"HEAD"}
    with pytest.raises(ImportError, match="pip install pyarrow"):
        prefetch_suite("vit-tiny", images=True, say=lambda line: None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        load_clip_vit(model="ViT-tiny")
    assert not any("tiny-clip" in path for _, path, _ in served.requests)


# ---------------------------------------------------------------------------- torchvision


def test_mnist_from_its_own_files(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMERGE_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in [("train", 30), ("t10k", 6)]:
        pixels = torch.arange(count * 28 * 28).remainder(251).byte()
        labels = torch.arange(count).remainder(10).byte()
        images = struct.pack(">IIII", 2051, count, 28, 28) + bytes(pixels.tolist())
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + bytes(labels.tolist()))
    images, labels = read("mnist", "test", source="torchvision")
    images = list(images)
    assert labels.tolist() == list(range(6))
    assert (images[0].size, images[0].mode) == ((28, 28), "RGB")
    assert images[0].getpixel((3, 0)) == (3, 3, 3)
    assert read("mnist", "val", source="torchvision")[1].tolist() == list(range(10))
    assert len(read("mnist", "train", source="torchvision")[1]) == 20


def test_dtd_from_its_own_files(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMERGE_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    root = tmp_path / "dtd" / "dtd"
    names = CLASSES["dtd"]["classes"]
    (root / "labels").mkdir(parents=True)
    lines = []
    for i, name in enumerate(names):
        folder = root / "images" / name.replace(" ", "-")
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / "x.png")
        lines.append(f"{folder.name}/x.png")
    (root / "labels" / "test1.txt").write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")
    images, labels = read("dtd", "test", source="torchvision")
    # torchvision numbers the classes as our captions do: image i is the colour i
    assert [image.getpixel((0, 0))[0] for image in images] == labels.tolist()
    assert sorted(labels.tolist()) == list(range(47))


def test_gtsrb_from_its_own_files(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMERGE_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "gtsrb" / "GTSRB" / "Final_Test" / "Images"
    folder.mkdir(parents=True)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for i, label in enumerate((14, 2, 42)):
        Image.new("RGB", (5, 5), (label, 0, 0)).save(folder / f"{i:05}.ppm")
        rows.append(f"{i:05}.ppm;5;5;0;0;5;5;{label}")
    (tmp_path / "gtsrb" / "GT-final_test.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    images, labels = read("gtsrb", "test", source="torchvision")
    assert labels.tolist() == [14, 2, 42] == [image.getpixel((0, 0))[0] for image in images]
