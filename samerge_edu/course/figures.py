"""Figures that can be read without eyes, and sliders that leave a picture behind.

figure   one picture and the sentence that reads it
explore  small multiples with a sentence each; where there is a live notebook, sliders that redraw
"""

import html
import io
import os
from collections.abc import Callable, Mapping, Sequence

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
from IPython import get_ipython
from IPython.display import Image, display
from matplotlib.figure import Figure

LARGE = 120_000  # bytes of a picture
NOTEBOOK_WIDTH = 1100  # pixels; anything wider is shrunk by the front-end, and its letters with it


def figure(fig: Figure, sentence: str) -> None:
    """Show `fig` as a PNG, print the sentence under it (it is the alternative text too), close the figure."""
    _show_png(_png(_pixels(fig)), sentence)
    _print_reading(sentence)


def explore(
    draw: Callable[..., Figure | tuple[Figure, str]],
    presets: Sequence[Mapping],
    says: Callable[..., str] | None = None,
    **sliders: tuple | list | bool,
) -> None:
    """First a still picture for each preset with its sentence; then, if the notebook is live, sliders.

    draw(**values) returns a figure whose title states the reading, and says(**values) the sentence, computed
    from the same data; or draw returns both, as the functions of samerge_edu.plots do, and `says` is left out.
    `presets` is a list of dictionaries of values. A slider is a tuple (low, high, step), a list of choices, or
    a bool. SAMERGE_STATIC=1 leaves the sliders out: tests and builds use it, because a stored widget cannot
    be seen when the notebook is opened again.

        se.explore(draw, presets=[{"lam": 0.3}, {"lam": 1.0}], says=says, lam=(0.0, 1.0, 0.05))
    """
    if not presets:
        raise ValueError("presets: got none, expected at least one dictionary of values")
    for values in presets:
        if values.keys() != sliders.keys():
            raise ValueError(f"presets: got {sorted(values)}, expected a value for each of {sorted(sliders)}")
    stills = [_drawn(draw, says, values) for values in presets]
    sentences = [sentence for _, sentence in stills]
    _show_png(_png(_side_by_side([pixels for pixels, _ in stills])), " ".join(sentences))
    for sentence in sentences:
        _print_reading(sentence)
    if is_live():
        display(controls(draw, presets[0], says, sliders))


def is_live() -> bool:
    """Is there a notebook, and nobody who asked for still pictures?"""
    return hasattr(get_ipython(), "kernel") and os.environ.get("SAMERGE_STATIC") != "1"


def controls(draw: Callable, values: Mapping, says: Callable | None, sliders: Mapping) -> ipywidgets.VBox:
    """Core widgets only (they work on ipywidgets 7.7 and 8, and on Colab): sliders, a picture, its sentence.

    The picture is an Image widget that `observe` redraws: no `interact` and no Output widget, which leave
    text in the saved notebook that no test can compare.
    """
    boxes = {name: _control(name, spec, values[name]) for name, spec in sliders.items()}
    picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%", align_self="flex-start"))
    reading = ipywidgets.HTML()

    def redraw(change=None) -> None:
        try:
            pixels, sentence = _drawn(draw, says, {name: box.value for name, box in boxes.items()})
            picture.value, reading.value = _png(pixels), html.escape(sentence)
        except Exception as e:  # an error inside a callback would go to a log that nobody reads
            reading.value = html.escape(f"This setting cannot be drawn. {type(e).__name__}: {e}")

    for box in boxes.values():
        box.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*boxes.values(), picture, reading])


def _control(name: str, spec: tuple | list | bool, value):
    wide = {"description": name, "style": {"description_width": "initial"}}
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(value=value, **wide)
    if isinstance(spec, list):
        return ipywidgets.Dropdown(options=spec, value=value, **wide)
    low, high, step = spec
    slider = ipywidgets.IntSlider if all(isinstance(n, int) for n in spec) else ipywidgets.FloatSlider
    return slider(value=value, min=low, max=high, step=step, continuous_update=False, **wide)


# ---------------------------------------------------------------------------- pictures as bytes


def _drawn(draw: Callable, says: Callable | None, values: Mapping) -> tuple[np.ndarray, str]:
    """Picture and sentence for one setting."""
    if says is None:
        fig, sentence = draw(**values)
        return _pixels(fig), sentence
    return _pixels(draw(**values)), says(**values)


def _pixels(fig: Figure) -> np.ndarray:
    """(height, width, 4) of a figure, which is closed: otherwise the notebook would show it a second time."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="rgba", dpi=fig.dpi)
    width, height = fig.canvas.get_width_height(physical=True)
    plt.close(fig)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8).reshape(height, width, 4)


def _side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """One picture on white: two in a row where both fit into a notebook at their own size, else one below the other."""
    columns = 2 if 2 * max(p.shape[1] for p in pictures) <= NOTEBOOK_WIDTH else 1
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    widths = [sum(p.shape[1] for p in row) for row in rows]
    heights = [max(p.shape[0] for p in row) for row in rows]
    sheet = np.full((sum(heights), max(widths), 4), 255, dtype=np.uint8)
    y = 0
    for row, height in zip(rows, heights, strict=True):
        x = 0
        for p in row:
            sheet[y : y + p.shape[0], x : x + p.shape[1]] = p
            x += p.shape[1]
        y += height
    return sheet


def _png(pixels: np.ndarray) -> bytes:
    """The file; in 256 colours where many little photographs would make it too large for a notebook."""
    buffer = io.BytesIO()
    plt.imsave(buffer, pixels, format="png")
    if buffer.tell() > LARGE:
        buffer = io.BytesIO()
        PIL.Image.fromarray(np.ascontiguousarray(pixels[..., :3])).quantize(256).save(buffer, format="png")
    return buffer.getvalue()


def _print_reading(sentence: str) -> None:
    """One line that starts with "Figure:": nbval compares its words, not its digits (notebooks/conftest.py)."""
    print("Figure:", " ".join(sentence.split()))


def _show_png(png: bytes, alternative_text: str) -> None:
    display(Image(data=png, format="png", metadata={"alt": alternative_text}))
