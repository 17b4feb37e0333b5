"""Figures that can be read without eyes, and sliders that leave a picture behind.

figure   one picture and the sentence that reads it
explore  small multiples with a sentence each; where there is a live notebook, sliders that redraw

A picture is shown as HTML, `<img alt="...">`, because that is what JupyterLab, Colab, VS Code and exported pages all
hand on to a screen reader; the alternative text in the metadata of a plain PNG output is lost in most of them. The
sentence stands under the picture once: a screen reader is given it with the picture and passes the line below over.
"""

import base64
import html
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import PIL.Image
from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure

LARGE = 120_000  # bytes of the pictures of one output


@dataclass(frozen=True)
class Picture:
    """A drawn figure: the file, how wide it is, and the sentence that reads it."""

    png: bytes
    width: int  # pixels
    sentence: str

    def html(self) -> str:
        """The picture with the sentence under it. As wide as drawn, so that two small ones stand side by side."""
        words, data = html.escape(self.sentence), base64.b64encode(self.png).decode("ascii")
        return (
            '<figure style="display: inline-block; vertical-align: top; margin: 0 1em 1em 0; max-width: 100%">'
            f'<img alt="{words}" src="data:image/png;base64,{data}" style="max-width: 100%">'
            f'<figcaption aria-hidden="true" style="max-width: {self.width}px">{words}</figcaption>'
            "</figure>"
        )


class Shown(list[Picture]):
    """Pictures, as a notebook shows them; where there is only text, their sentences.

    Each starts with "Figure:": nbval compares the words of such lines, not their digits (notebooks/conftest.py).
    """

    def __repr__(self) -> str:
        return "\n".join(f"Figure: {picture.sentence}" for picture in self)

    def _repr_html_(self) -> str:
        return "\n".join(picture.html() for picture in self)


def figure(fig: Figure, sentence: str) -> None:
    """Show `fig` with the sentence that reads it, which is its alternative text, too; close the figure."""
    display(Shown([drawn(fig, sentence)]))


def explore(
    draw: Callable[..., Figure | tuple[Figure, str]],
    presets: Sequence[Mapping],
    says: Callable[..., str] | None = None,
    **sliders: tuple | list | bool,
) -> None:
    """First a still picture for each preset with its sentence; then, if the notebook is live, sliders.

    draw(**values) returns a figure, and says(**values) the sentence that reads it, computed from the same data; or
    draw returns both, as the functions of samerge_edu.plots do, and `says` is left out. `presets` is a list of
    dictionaries of values. A slider is a tuple (low, high, step), a list of choices, or
    a bool. SAMERGE_STATIC=1 leaves the sliders out: tests and builds use it, because a stored widget cannot
    be seen when the notebook is opened again.

        se.explore(draw, presets=[{"lam": 0.3}, {"lam": 1.0}], says=says, lam=(0.0, 1.0, 0.05))
    """
    if not presets:
        raise ValueError("presets: got none, expected at least one dictionary of values")
    for values in presets:
        if values.keys() != sliders.keys():
            raise ValueError(f"presets: got {sorted(values)}, expected a value for each of {sorted(sliders)}")
    display(Shown(drawn(*_figure(draw, says, values), LARGE // len(presets)) for values in presets))
    if is_live():
        display(controls(draw, presets[0], says, sliders))


def is_live() -> bool:
    """Is there a notebook, and nobody who asked for still pictures?"""
    return hasattr(get_ipython(), "kernel") and os.environ.get("SAMERGE_STATIC") != "1"


def controls(draw: Callable, values: Mapping, says: Callable | None, sliders: Mapping) -> ipywidgets.VBox:
    """Core widgets only (they work on ipywidgets 7.7 and 8, and on Colab): sliders, a picture with its sentence.

    The picture is HTML that `observe` replaces: no `interact` and no Output widget, which leave text in the saved
    notebook that no test can compare, and no Image widget, which has no alternative text.
    """
    boxes = {name: _control(name, spec, values[name]) for name, spec in sliders.items()}
    picture = ipywidgets.HTML()

    def redraw(change: object = None) -> None:
        try:
            picture.value = drawn(*_figure(draw, says, {name: box.value for name, box in boxes.items()})).html()
        except Exception as e:  # an error inside a callback would go to a log that nobody reads
            picture.value = html.escape(f"This setting cannot be drawn. {type(e).__name__}: {e}")

    for box in boxes.values():
        box.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*boxes.values(), picture])


def _control(name: str, spec: tuple | list | bool, value: object) -> Any:
    wide = {"description": name, "style": {"description_width": "initial"}}
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(value=value, **wide)
    if isinstance(spec, list):
        return ipywidgets.Dropdown(options=spec, value=value, **wide)
    low, high, step = spec
    slider = ipywidgets.IntSlider if all(isinstance(n, int) for n in spec) else ipywidgets.FloatSlider
    return slider(value=value, min=low, max=high, step=step, continuous_update=False, **wide)


# ---------------------------------------------------------------------------- from a figure to a picture


def _figure(draw: Callable, says: Callable | None, values: Mapping) -> tuple[Figure, str]:
    """Figure and sentence for one setting."""
    return draw(**values) if says is None else (draw(**values), says(**values))


def drawn(fig: Figure, sentence: str, large: int = LARGE) -> Picture:
    """The picture of a figure, which is closed: otherwise the notebook would show it a second time.

    A title that says what the sentence says is left out (`plots.titled` writes it for files, where no sentence stands
    below). In 256 colours where many little photographs would make the file too large for a notebook.
    """
    sentence = " ".join(sentence.split())
    if (title := " ".join(fig.get_suptitle().split())) and title in sentence:
        fig.suptitle("")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=fig.dpi, metadata={"Software": None})  # the same file for every version
    plt.close(fig)
    size, picture = buffer.tell(), PIL.Image.open(buffer)
    if size > large:
        buffer = io.BytesIO()
        picture.convert("RGB").quantize(256).save(buffer, format="png")
    return Picture(buffer.getvalue(), picture.width, sentence)
