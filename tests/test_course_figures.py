"""figure and explore: a picture, its sentence, and sliders that redraw it."""

import base64
import io
from html.parser import HTMLParser

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
from IPython.core.interactiveshell import InteractiveShell

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


class Seen(HTMLParser):
    """What a page shows: pictures with their alternative text, and the words that a screen reader passes over."""

    def __init__(self, page: str):
        super().__init__()
        self.pictures: list[tuple[str, PIL.Image.Image]] = []
        self.hidden: list[str] = []
        self.inside_hidden = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.inside_hidden = attributes.get("aria-hidden") == "true"
        if tag == "img":
            kind, _, data = attributes["src"].partition(",")
            assert kind == "data:image/png;base64"
            self.pictures.append((attributes["alt"], PIL.Image.open(io.BytesIO(base64.b64decode(data)))))

    def handle_data(self, data):
        assert self.inside_hidden or not data.strip(), "said twice to a screen reader"
        if data.strip():
            self.hidden.append(data)


def test_figure_shows_a_png_with_its_sentence_as_alternative_text_and_below(shown, capsys):
    se.figure(draw(1.0), 'The "slope"\nis 1 < 2.')
    [output] = shown
    seen = Seen(output._repr_html_())
    [(alt, picture)] = seen.pictures
    assert (alt, seen.hidden) == ('The "slope" is 1 < 2.', ['The "slope" is 1 < 2.'])
    assert picture.size == (300, 200)
    assert repr(output) == 'Figure: The "slope" is 1 < 2.'
    assert capsys.readouterr().out == ""
    assert plt.get_fignums() == []


def test_in_a_notebook_a_figure_is_html_and_its_words(monkeypatch):
    shell = InteractiveShell.instance()
    published = []
    monkeypatch.setattr(shell.display_pub, "publish", lambda data, metadata=None, **kwargs: published.append(data))
    se.figure(draw(1.0), "The slope is 1.")
    InteractiveShell.clear_instance()
    [data] = published
    assert data.keys() == {"text/plain", "text/html"}
    assert data["text/plain"] == "Figure: The slope is 1."


@pytest.mark.parametrize(
    ("title", "left"), [("The slope\nis 1.", ""), ("The slope", ""), ("A map", "A map"), ("", "")], ids=str
)
def test_a_title_that_repeats_the_sentence_is_left_out(shown, title, left):
    fig = draw(1.0)
    if title:
        fig.suptitle(title)
    se.figure(fig, "The slope is 1.")
    assert fig.get_suptitle() == left


def test_explore_first_shows_all_presets_each_with_its_sentence(shown, capsys):
    se.explore(draw, presets=[{"lam": 0.0}, {"lam": 0.5}, {"lam": 1.0}], says=says, lam=(0.0, 1.0, 0.1))
    [output] = shown  # no notebook here, so no sliders
    sentences = [f"The slope is {v}." for v in ("0.00", "0.50", "1.00")]
    assert [alt for alt, _ in Seen(output._repr_html_()).pictures] == sentences
    assert len({picture.tobytes() for _, picture in Seen(output._repr_html_()).pictures}) == 3
    assert repr(output).splitlines() == [f"Figure: {sentence}" for sentence in sentences]
    assert plt.get_fignums() == []


def test_draw_may_return_its_own_sentence(shown):
    se.explore(lambda lam: (draw(lam), f"Slope {lam}."), presets=[{"lam": 0.25}], lam=(0.0, 1.0, 0.1))
    assert repr(shown[0]) == "Figure: Slope 0.25."


def test_a_live_notebook_gets_sliders_that_change_picture_and_sentence(shown, live):
    se.explore(draw, presets=[{"lam": 0.2, "bold": False}], says=says, lam=(0.0, 1.0, 0.1), bold=False)
    box = shown[1]
    slider, check, picture = box.children
    assert (type(slider), type(check)) == (ipywidgets.FloatSlider, ipywidgets.Checkbox)
    assert slider.continuous_update is False

    def now():
        [(alt, png)] = Seen(picture.value).pictures
        return alt, png.tobytes()

    at_first = now()
    assert at_first[0] == "The slope is 0.20."
    slider.value = 0.9
    changed = now()
    assert changed[0] == "The slope is 0.90."
    assert changed[1] != at_first[1]
    check.value = True
    assert now()[1] != changed[1]
    assert plt.get_fignums() == []


def test_static_leaves_the_sliders_out(shown, live, monkeypatch):
    monkeypatch.setenv("SAMERGE_STATIC", "1")
    se.explore(draw, presets=[{"lam": 0.2}], says=says, lam=(0.0, 1.0, 0.1))
    assert len(shown) == 1


def test_an_error_while_a_slider_moves_is_shown_and_the_next_move_works(shown, live):
    def fragile(n):
        return draw(1.0 / n)

    se.explore(fragile, presets=[{"n": 2}], says=lambda n: f"<{n}>", n=(0, 3, 1))
    slider, picture = shown[1].children
    assert type(slider) is ipywidgets.IntSlider
    assert 'alt="&lt;2&gt;"' in picture.value
    slider.value = 0
    assert picture.value.startswith("This setting cannot be drawn. ZeroDivisionError")
    slider.value = 1
    assert 'alt="&lt;1&gt;"' in picture.value


def test_a_list_becomes_a_dropdown(live):
    box = figures.controls(lambda m: draw(len(m)), {"m": "b"}, lambda m: m, {"m": ["a", "b"]})
    assert (type(box.children[0]), box.children[0].value) == (ipywidgets.Dropdown, "b")


def test_presets_must_name_every_slider():
    with pytest.raises(ValueError, match=r"presets: got \['lam'\], expected a value for each of \['bold', 'lam'\]"):
        se.explore(draw, presets=[{"lam": 0.2}], says=says, lam=(0.0, 1.0, 0.1), bold=True)
    with pytest.raises(ValueError, match="presets: got none"):
        se.explore(draw, presets=[], says=says, lam=(0.0, 1.0, 0.1))


def test_a_picture_too_large_for_a_notebook_is_stored_in_256_colours():
    noise = np.random.default_rng(0).integers(0, 256, (250, 300, 3), dtype=np.uint8)

    def picture(large):
        fig = plt.figure(figsize=(3, 2.5), dpi=100)
        fig.figimage(noise)
        return PIL.Image.open(io.BytesIO(figures.drawn(fig, "Noise.", large).png))

    few, many = picture(10**6), picture(10**5)
    assert (few.mode, many.mode) == ("RGBA", "P")
    assert few.size == many.size == (300, 250)
    error = np.abs(np.asarray(many.convert("RGB"), dtype=int) - np.asarray(few.convert("RGB"), dtype=int))
    assert error.mean() < 25  # of 255; a random palette is off by 85


def test_the_file_does_not_name_the_version_that_made_it():
    assert b"Software" not in figures.drawn(draw(1.0), "A line.").png
