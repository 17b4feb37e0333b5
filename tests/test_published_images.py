"""Images of the published suites: exactly open_clip's preprocessing, and few of them in memory at a time."""

import gc
import math
import weakref

import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from tiny_hub import PREPROCESS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typer.testing import CliRunner

from samerge_edu import cli, leaderboard
from samerge_edu.evaluate import accuracy, choose_lam, scores
from samerge_edu.params import add, task_vectors
from samerge_edu.suites.published import clip_vit, data
from samerge_edu.suites.published.clip_vit import load_clip_vit, preprocessing

TASKS = ("mnist", "eurosat", "gtsrb")


@pytest.fixture
def suite(hub):
    return load_clip_vit(TASKS, ("cifar10",), model="ViT-tiny")


@pytest.mark.parametrize("size", [(32, 32), (50, 33), (20, 64), (224, 224)])
def test_bytes_and_what_is_made_of_them_are_open_clips_preprocessing(suite, size):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    image = Image.fromarray(pixels.numpy())
    transform = image_transform_v2(PreprocessCfg(size=(32, 32), **PREPROCESS), is_train=False)
    to_size, _ = preprocessing(PREPROCESS, (32, 32))
    as_bytes = clip_vit.pil_to_tensor(to_size(image))
    assert as_bytes.dtype == torch.uint8
    assert torch.equal(suite.ready(as_bytes[None])[0], transform(image))
    assert torch.equal(suite.ready(transform(image)[None])[0], transform(image))  # what is ready stays as it is


def test_another_last_step_is_refused(monkeypatch):
    class Other:
        transforms = ("resize", "to tensor", "something new")

    monkeypatch.setattr(clip_vit, "image_transform_v2", lambda *a, **k: Other)
    with pytest.raises(ValueError, match="got str as open_clip's last step, expected Normalize"):
        preprocessing(PREPROCESS, (32, 32))


# ---------------------------------------------------------------------------- how many are alive


class Largest(TorchDispatchMode):
    """The largest tensor of floats, and of bytes, in image's shape that any operation has made, in images."""

    def __init__(self, size: int):
        super().__init__()
        self.one, self.floats, self.bytes = 3 * size * size, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.ndim == 4 and x.shape[1] == 3:
                kind = "bytes" if x.dtype == torch.uint8 else "floats"
                setattr(self, kind, max(getattr(self, kind), math.prod(x.shape) // self.one))
        return out


@pytest.fixture
def alive(monkeypatch):
    """alive["most"]: how many decoded pictures there were at once; they are decoded as the data set gives them."""
    count = {"now": 0, "most": 0, "in all": 0}

    def gone():
        count["now"] -= 1

    def watched(*arguments, **options):
        images, labels = data.read(*arguments, **options)

        def each():
            for image in images:
                count["now"] += 1
                count["in all"] += 1
                count["most"] = max(count["most"], count["now"])
                weakref.finalize(image, gone)
                yield image

        return each(), labels

    monkeypatch.setattr(clip_vit, "read", watched)
    return count


def test_tasks_are_encoded_one_after_the_other_in_batches(hub, alive, monkeypatch):
    suite = load_clip_vit(TASKS, ("cifar10",), model="ViT-tiny")
    sizes = {task: len(suite.labels(task)) for task in suite.tasks}
    assert sizes == {"mnist": 80, "eurosat": 80, "gtsrb": 344, "cifar10": 80}
    with Largest(32) as seen:
        first = scores(suite, suite.theta_0)
    assert seen.floats == 100  # a batch, not the 584 images of all tasks, nor the 344 of one
    assert seen.bytes == 344  # what is kept: one split after the other, a byte a number
    assert {key[0]: x.dtype for key, (x, _) in suite._images.items()} == dict.fromkeys(suite.tasks, torch.uint8)
    assert {x.device.type for x, _ in suite._images.values()} == {"cpu"}
    gc.collect()
    assert alive["most"] <= 2
    decoded = alive["in all"]
    assert scores(suite, suite.theta_0) == first
    assert alive["in all"] == decoded  # kept


def test_what_would_fill_the_memory_is_streamed_and_gives_the_same(hub, alive, monkeypatch):
    kept = load_clip_vit(TASKS, (), model="ViT-tiny")
    streamed = load_clip_vit(TASKS, (), model="ViT-tiny")
    expected = scores(kept, kept.experts["mnist"])
    monkeypatch.setattr(clip_vit, "free_memory", lambda: 100 * 3 * 32 * 32 / clip_vit.KEPT)
    with Largest(32) as seen:
        assert scores(streamed, streamed.experts["mnist"]) == expected
    assert {key[0] for key in streamed._images} == {"mnist", "eurosat"}  # gtsrb's 344 images are more than 100
    assert max(seen.floats, seen.bytes) == 100
    assert alive["most"] <= 2
    monkeypatch.setattr("samerge_edu.forecast.free_memory", lambda device: 1e6)
    with pytest.raises(MemoryError, match=r"the images of gtsrb at once needs .* give per_class or n"):
        streamed.images("gtsrb")


def test_an_expert_is_read_from_disk_once_a_pass(hub):
    suite, reads = load_clip_vit(TASKS, (), model="ViT-tiny"), []

    class Counting(dict):
        def __getitem__(self, key):
            reads.append(key)
            return super().__getitem__(key)

    scores(suite, Counting(suite.experts["mnist"]))
    assert len(reads) == len(suite.theta_0)


# ---------------------------------------------------------------------------- per class


def test_per_class_caps_test_and_validation_and_nothing_else(hub):
    suite = load_clip_vit(TASKS, ("cifar10",), model="ViT-tiny", per_class=2)
    assert suite.labels("mnist").bincount().tolist() == [2] * 10
    assert len(suite.images("gtsrb")[1]) == 86
    assert len(suite.labels("mnist", "val")) == 10  # of 8 a class in train, each 10th is validation: one
    assert len(load_clip_vit(TASKS, (), model="ViT-tiny", per_class=1).labels("mnist", "val")) == 10
    assert len(suite.labels("mnist", "train")) == 70
    assert suite.family.endswith("at most 2 images of each class")
    assert "of no use" in suite.validation
    with pytest.raises(ValueError, match="task: got 'dtd', expected one of mnist, eurosat"):
        suite.labels("dtd")
    with pytest.raises(ValueError, match="split: got 'dev'"):
        suite.images("mnist", "dev")


def test_val_is_capped(hub, monkeypatch):
    asked = []

    def watched(task, split, n=None, per_class=None, source="hub"):
        asked.append((split, per_class))
        return data.read(task, split, n, per_class, source)

    monkeypatch.setattr(clip_vit, "read", watched)
    suite = load_clip_vit(("mnist",), (), model="ViT-tiny", per_class=3)
    tau = task_vectors(suite.theta_0, [dict(suite.experts["mnist"])])[0]
    lam, _ = choose_lam(suite, tau, grid=(0.3, 1.0))
    accuracy(suite, add(suite.theta_0, tau, lam), "mnist")
    suite.labels("mnist", "train")
    assert set(asked) == {("val", 3), ("test", 3), ("train", None)}


def test_the_leaderboard_takes_per_class_and_says_what_validation_is_worth(hub, monkeypatch):
    seen = []
    monkeypatch.setattr(leaderboard, "run", lambda suite, *a, **k: seen.append(suite) or {})
    monkeypatch.setattr(leaderboard, "write", lambda *a: None)
    result = CliRunner().invoke(cli.app, ["leaderboard", "--suite", "vit-tiny", "--per-class", "5"])
    assert result.exit_code == 0, result.output
    assert seen[0].per_class == 5
    assert "at most 5 images of each class\nvalidation: of no use: the miniature's experts were trained on it" in (
        result.stdout
    )
    refused = CliRunner().invoke(cli.app, ["leaderboard", "--per-class", "5"])
    assert refused.exit_code == 2
    assert "--per-class: the images of 'pocket' are fixed; a choice have vit-b-32" in refused.stderr


def test_a_leaderboard_of_a_published_suite(hub):
    result = CliRunner().invoke(
        cli.app, ["leaderboard", "--suite", "vit-tiny", "--per-class", "4", "--methods", "Average"]
    )
    assert result.exit_code == 0, result.output
    assert "Average" in result.stdout


# ---------------------------------------------------------------------------- the offline classroom


def test_a_classroom_without_a_network_has_all_that_a_lesson_reads(hub, tmp_path, monkeypatch):
    stick = str(tmp_path / "stick")
    words = ["prefetch", "--suite", "vit-tiny", "--tasks", "mnist,eurosat", "--to", stick]
    result = CliRunner().invoke(cli.app, [*words, "--images", "--val", "--ood", "default"])
    assert result.exit_code == 0, result.output
    shown = [line.split("images    ")[1].split("  [")[0] for line in result.stdout.splitlines() if " images " in line]
    training = "training split (a tenth of it is validation)"
    assert shown == [
        *(f"{task}, test" for task in ("mnist", "eurosat", "cifar10", "fashion_mnist")),
        *(f"{task}, {training}" for task in ("mnist", "eurosat")),
    ]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "another machine"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SAMERGE_ASSETS", stick)
    suite = load_clip_vit("mnist,eurosat", model="ViT-tiny")
    assert set(scores(suite, suite.theta_0)) == {"mnist", "eurosat", "cifar10", "fashion_mnist"}
    assert len(scores(suite, suite.theta_0, "val", ["mnist", "eurosat"])) == 2
    mistyped = CliRunner().invoke(cli.app, ["prefetch", "--suite", "vit-tiny", "--ood", "cifar"])
    assert mistyped.exit_code == 2
    assert "task: got 'cifar'" in mistyped.stderr
