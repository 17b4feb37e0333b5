"""figure and explore: a picture, its sentence, and sliders that redraw it."""

import io

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest

import samerge_edu as se
from samerge_edu.course import figures

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ipywidgets")


@pytest.fixture
def shown(monkeypatch):
    """Everything that is displayed."""
    things = []
    monkeypatch.setattr(figures, "display", things.append)
    return things


@pytest.fixture
def live(monkeypatch):
    monkeypatch.delenv("SAMERGE_STATIC", raising=False)
    monkeypatch.setattr(figures, "get_ipython", lambda: type("Shell", (), {"kernel": object()})())


def draw(lam, bold=False):
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.plot([0, 1], [0, lam], linewidth=4 if bold else 1)
    return fig


def says(lam, bold=False):
    return f"The slope\nis {lam:.2f}."


def size(png: bytes) -> tuple[int, int]:
    """(width, height) from the header of a PNG file."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def test_figure_shows_a_png_with_alternative_text_and_prints_it(shown, capsys):
    se.figure(draw(1.0), "The slope is 1.")
    [image] = shown
    assert size(image.data)[0] > 100
    assert image.metadata["alt"] == "The slope is 1."
    assert capsys.readouterr().out == "Figure: The slope is 1.\n"
    assert plt.get_fignums() == []


def test_explore_first_shows_all_presets_in_one_picture(shown, capsys):
    se.explore(draw, presets=[{"lam": 0.0}, {"lam": 0.5}, {"lam": 1.0}], says=says, lam=(0.0, 1.0, 0.1))
    [image] = shown  # no notebook here, so no sliders
    one = figures._pixels(draw(lam=0.0)).shape
    assert size(image.data) == (2 * one[1], 2 * one[0])  # two in a row
    assert capsys.readouterr().out == "".join(f"Figure: The slope is {v}.\n" for v in ("0.00", "0.50", "1.00"))
    assert plt.get_fignums() == []


def test_draw_may_return_its_own_sentence(shown, capsys):
    se.explore(lambda lam: (draw(lam), f"Slope {lam}."), presets=[{"lam": 0.25}], lam=(0.0, 1.0, 0.1))
    assert capsys.readouterr().out == "Figure: Slope 0.25.\n"


def test_a_live_notebook_gets_sliders_that_change_picture_and_sentence(shown, live, capsys):
    se.explore(draw, presets=[{"lam": 0.2, "bold": False}], says=says, lam=(0.0, 1.0, 0.1), bold=False)
    box = shown[1]
    slider, check, picture, reading = box.children
    assert (type(slider), type(check)) == (ipywidgets.FloatSlider, ipywidgets.Checkbox)
    assert slider.continuous_update is False
    before = picture.value
    assert size(before) > (100, 100)
    assert "0.20" in reading.value
    slider.value = 0.9
    changed = picture.value
    assert changed != before
    assert "0.90" in reading.value
    check.value = True
    assert picture.value != changed
    assert plt.get_fignums() == []


def test_static_leaves_the_sliders_out(shown, live, monkeypatch, capsys):
    monkeypatch.setenv("SAMERGE_STATIC", "1")
    se.explore(draw, presets=[{"lam": 0.2}], says=says, lam=(0.0, 1.0, 0.1))
    assert len(shown) == 1


def test_an_error_while_a_slider_moves_is_shown_and_the_next_move_works(shown, live, capsys):
    def fragile(n):
        return draw(1.0 / n)

    se.explore(fragile, presets=[{"n": 2}], says=lambda n: f"<{n}>", n=(0, 3, 1))
    slider, _, reading = shown[1].children
    assert type(slider) is ipywidgets.IntSlider
    assert reading.value == "&lt;2&gt;"
    slider.value = 0
    assert "ZeroDivisionError" in reading.value
    slider.value = 1
    assert reading.value == "&lt;1&gt;"


def test_a_list_becomes_a_dropdown(live):
    box = figures.controls(lambda m: draw(len(m)), {"m": "b"}, lambda m: m, {"m": ["a", "b"]})
    assert (type(box.children[0]), box.children[0].value) == (ipywidgets.Dropdown, "b")


def test_presets_must_name_every_slider():
    with pytest.raises(ValueError, match=r"presets: got \['lam'\], expected a value for each of \['bold', 'lam'\]"):
        se.explore(draw, presets=[{"lam": 0.2}], says=says, lam=(0.0, 1.0, 0.1), bold=True)
    with pytest.raises(ValueError, match="presets: got none"):
        se.explore(draw, presets=[], says=says, lam=(0.0, 1.0, 0.1))


def test_wide_pictures_are_stacked():
    wide = np.zeros((2, figures.NOTEBOOK_WIDTH // 2 + 1, 4), dtype=np.uint8)
    assert figures._side_by_side([wide, wide]).shape == (4, wide.shape[1], 4)
    assert figures._side_by_side([wide[:, :-1], wide[:, :-1]]).shape == (2, 2 * (wide.shape[1] - 1), 4)


def test_pictures_of_different_sizes_are_laid_on_white():
    red = np.zeros((2, 3, 4), dtype=np.uint8)
    sheet = figures._side_by_side([red, np.zeros((4, 1, 4), dtype=np.uint8), red])
    assert sheet.shape == (6, 4, 4)
    assert sheet[3, 0].tolist() == [255] * 4
    assert sheet[:2, :3].max() == 0
    assert sheet[4:, :3].max() == 0


def test_a_picture_too_large_for_a_notebook_is_stored_in_256_colours():
    noise = np.random.default_rng(0).integers(0, 256, (250, 300, 4), dtype=np.uint8)
    noise[..., 3] = 255
    few, many = (PIL.Image.open(io.BytesIO(figures._png(picture))) for picture in (noise[:100, :100], noise))
    assert (few.mode, many.mode) == ("RGBA", "P")
    assert few.size == (100, 100)
    assert many.size == (300, 250)
    error = np.abs(np.asarray(many.convert("RGB"), dtype=int) - noise[..., :3])
    assert error.mean() < 25  # of 255; a random palette is off by 85
