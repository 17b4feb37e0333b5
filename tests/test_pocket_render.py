"""The renderer of the pocket suite: the same images everywhere and for ever, and splits that share none."""

import os
import subprocess
import sys

import numpy as np
import pytest

from samerge_edu.suites.pocket import glyphs
from samerge_edu.suites.pocket.draw import Canvas, Frame, circle, hsv, polygon
from samerge_edu.suites.pocket.random import Draws, splitmix64
from samerge_edu.suites.pocket.tasks import ID_TASKS, OOD_TASKS, SPLITS, TASKS, draw

# Mean grey level of the red, green and blue channel of the test images 0 to 59 in the own style. A change here is a
# change of the suite: its base and experts must then be trained again.
FINGERPRINTS = {
    "digits": (46.6, 46.6, 46.5),
    "house_numbers": (112.5, 115.8, 111.4),
    "signs": (52.9, 45.6, 53.7),
    "textures": (123.6, 123.6, 123.6),
    "land_cover": (135.6, 145.1, 151.3),
    "aerial": (69.3, 77.2, 71.7),
    "vehicles": (42.6, 41.3, 40.8),
    "scenes": (96.2, 88.4, 94.5),
    "letters": (94.3, 98.1, 97.9),
    "shapes": (103.1, 104.3, 107.0),
    "object_colours": (100.7, 94.8, 91.2),
    "counting": (93.2, 92.6, 94.1),
    "dials": (98.1, 96.2, 96.6),
    "flags": (113.8, 125.2, 133.5),
}


@pytest.mark.parametrize("name", TASKS)
def test_fingerprint(name):
    images, _ = draw(name, "test", range(60))
    np.testing.assert_allclose(images.mean((0, 2, 3)), FINGERPRINTS[name], atol=1.0)


def test_splitmix64_known_answers():
    """The first outputs of the reference implementation from seed 0, whose state grows by the golden ratio."""
    states = np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    expected = np.array([0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F], dtype=np.uint64)
    np.testing.assert_array_equal(splitmix64(states), expected)


def test_same_images_in_another_process():
    """Nothing comes from hash(), which differs from process to process."""
    program = (
        "import zlib; from samerge_edu.suites.pocket.tasks import TASKS, draw\n"
        "print([zlib.crc32(draw(name, 'val', range(20))[0].tobytes()) for name in TASKS])"
    )
    prints = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert prints[0] == prints[1]
    assert len(set(prints[0].strip("[]\n").split(", "))) == len(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_an_image_does_not_depend_on_its_batch(name):
    images, labels = draw(name, "train", range(300), strength=0.7)
    chosen = np.array([299, 3, 17, 256, 40])
    few, few_labels = draw(name, "train", chosen, strength=0.7)
    np.testing.assert_array_equal(few, images[chosen])
    np.testing.assert_array_equal(few_labels, labels[chosen])
    one, _ = draw(name, "train", [17], strength=0.7)
    np.testing.assert_array_equal(one, images[[17]])


@pytest.mark.parametrize("name", TASKS)
def test_splits_share_no_image(name):
    seen = [image.tobytes() for split in SPLITS for image in draw(name, split, range(500))[0]]
    assert len(set(seen)) == len(SPLITS) * 500


def test_keys_of_all_tasks_and_splits_differ():
    keys = np.concatenate([Draws.of(name, split, np.arange(100)).keys for name in TASKS for split in SPLITS])
    assert len(np.unique(keys)) == len(TASKS) * len(SPLITS) * 100


@pytest.mark.parametrize("name", TASKS)
def test_labels_are_balanced(name):
    classes = len(TASKS[name].classes)
    _, labels = draw(name, "test", range(7 * classes))
    assert labels.dtype == np.int64
    assert np.bincount(labels, minlength=classes).tolist() == [7] * classes


@pytest.mark.parametrize("name", TASKS)
def test_the_web_style_is_strength_zero(name):
    web, labels = draw(name, "web", range(24), style="web")
    zero, _ = draw(name, "web", range(24), style="own", strength=0.0)
    own, same_labels = draw(name, "web", range(24))
    assert web.shape == (24, 3, 32, 32)
    assert web.dtype == np.uint8
    np.testing.assert_array_equal(web, zero)
    np.testing.assert_array_equal(labels, same_labels)
    assert np.abs(web.astype(int) - own).mean() > (15 if name in ID_TASKS else 1)


@pytest.mark.parametrize("name", TASKS)
def test_images_have_contrast(name, monkeypatch):
    """Without the grain no image is flat, whatever the style: half-way styles must not cancel."""
    monkeypatch.setattr(Draws, "pixels", lambda self, size: np.zeros((len(self.keys), 3, size, size), np.float32))
    for strength in (0.0, 0.5, 1.0):
        images, _ = draw(name, "val", range(200), strength=strength)
        assert images.std((2, 3)).max(1).min() > 3


def test_tables_of_tasks():
    assert (*ID_TASKS, *OOD_TASKS) == tuple(TASKS)
    assert (len(ID_TASKS), len(OOD_TASKS)) == (8, 6)
    for task in TASKS.values():
        assert len(set(task.classes)) == len(task.classes)
        assert all(template.count("{}") == 1 for template in task.templates)
        assert "{}" not in task.generic
        assert bool(task.mirrors) == (task.kind == "id")
    captions = [t.format(c) for task in TASKS.values() for t in task.templates for c in task.classes]
    assert len(set(captions)) == len(captions)  # no caption means two things


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digit", "test", [0]), r"got task 'digit', expected one of digits, house_numbers"),
        (("digits", "valid", [0]), r"got split 'valid', expected one of train, val, test, web"),
        (("digits", "val", [0], "mine"), r"got style 'mine', expected one of own, web"),
        (("digits", "val", [0], "own", 1.5), r"got strength 1.5, expected a number in \[0, 1\]"),
        (("digits", "val", [3, -1]), r"got index -1, expected whole numbers from 0 to 4294967295"),
        (("digits", "val", [2**32]), r"got index 4294967296, expected whole numbers from 0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(*arguments)


def test_no_images():
    images, labels = draw("digits", "test", [])
    assert images.shape == (0, 3, 32, 32)
    assert labels.shape == (0,)


def test_draws_are_uniform():
    u = Draws.of("digits", "train", np.arange(20_000))(2.0, 4.0).ravel()
    counts, _ = np.histogram(u, bins=10, range=(2, 4))
    assert np.abs(counts - 2000).max() < 200  # 4.7 standard deviations
    grain = Draws.of("digits", "train", np.arange(20)).pixels(32)
    assert grain.shape == (20, 3, 32, 32)
    assert abs(grain.mean()) < 0.01
    assert abs(grain.std() - 3**-0.5) < 0.01


def test_coverage_measures_area():
    """The coverage of a shape adds up to its area in pixels."""
    f = Frame.image().place(0.1, -0.2, 0.9, 0.3)
    assert f.cover(circle(f, 0.5)).sum() == pytest.approx(np.pi * (0.5 * 0.9 * 16) ** 2, rel=0.01)
    corner = [(-0.5, -0.4), (0.6, -0.4), (-0.5, 0.7)]
    assert f.cover(polygon(f, corner)).sum() == pytest.approx(1.1 * 1.1 / 2 * (0.9 * 16) ** 2, rel=0.02)


def test_hsv():
    colours = hsv(np.array([0, 1 / 3, 2 / 3]), np.array([1, 1, 0.5]), np.array([1, 0.5, 1]))[:, :, 0, 0]
    np.testing.assert_allclose(colours, [[1, 0, 0], [0, 0.5, 0], [0.5, 0.5, 1]], atol=1e-6)


def test_every_painter_draws_its_own_label():
    canvas = Canvas(Draws.of("digits", "train", np.arange(3)))
    canvas.ground(hsv(0, 0, 0.5))
    labels = np.array([1, 0, 1])
    halve, raise_ = (lambda part, k=k: part.shade(np.full((1, 1, 1), k)) for k in (0.5, 1.5))
    canvas.each(labels, [halve, raise_])
    np.testing.assert_allclose(canvas.rgb[:, 0, 0, 0], [0.75, 0.25, 0.75])


def test_every_glyph_has_ink_in_every_font():
    """A font without the character would show nothing, or the same box for all."""
    atlas = glyphs.atlas().reshape(len(glyphs.FONTS), len(glyphs.TEXTS), -1)
    ink = (atlas < 0).mean(2)
    assert ink.min() > 0.02
    assert len(np.unique(atlas.round(3), axis=1)[0]) == len(glyphs.TEXTS)
