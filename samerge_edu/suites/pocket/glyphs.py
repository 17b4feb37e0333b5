"""Digits, letters and short words from the fonts that matplotlib ships, as signed distances."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from samerge_edu.suites.pocket.draw import Frame, polygon

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "STIXGeneralBol", "STIXGeneral",
)  # fmt: skip
TEXTS = (*"0123456789ABCEFGHKMRST", "30", "60", "STOP")
GRID, HALF = 40, 0.75  # samples along an edge of [-1, 1]; half the larger side of a glyph


def glyph(f: Frame, text: np.ndarray, font: np.ndarray) -> np.ndarray:
    """Signed distances (n, 32, 32) of TEXTS[text] in FONTS[font], both (n,) integers."""
    u = np.clip((f.x + 1) * (0.5 * (GRID - 1)), 0, GRID - 1.01)
    v = np.clip((f.y + 1) * (0.5 * (GRID - 1)), 0, GRID - 1.01)
    i, j = u.astype(np.int64), v.astype(np.int64)
    at = ((font * len(TEXTS) + text)[:, None, None] * GRID + j) * GRID + i
    u, v, flat = u - i, v - j, atlas()
    low = flat[at] * (1 - u) + flat[at + 1] * u
    high = flat[at + GRID] * (1 - u) + flat[at + GRID + 1] * u
    return (low * (1 - v) + high * v).astype(np.float32)


@cache
def atlas() -> np.ndarray:
    """All glyphs in all fonts, (fonts * texts * GRID * GRID,) float32; about a second, once in a process."""
    return np.stack([distances(text, font) for font in FONTS for text in TEXTS]).reshape(-1)


def distances(text: str, font: str) -> np.ndarray:
    """Signed distance (GRID, GRID) to the outline, centred, with its larger side from -HALF to HALF."""
    file = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    loops = TextPath((0, 0), text, size=100, prop=FontProperties(fname=file)).to_polygons(closed_only=True)
    points = np.concatenate(loops)
    middle, side = (points.max(0) + points.min(0)) / 2, (points.max(0) - points.min(0)).max()

    x, y = np.meshgrid(*[np.linspace(-1, 1, GRID, dtype=np.float32)] * 2)
    d = [polygon(Frame(x, y, 1), corners((loop - middle) * (2 * HALF / side))) for loop in loops]
    inside = np.prod(np.sign(d), axis=0)  # inside an odd number of loops: the hole of an 8 is inside two
    return inside * np.min(np.abs(d), axis=0)


def corners(loop: np.ndarray) -> list[tuple[float, float]]:
    """The points of a closed loop (k, 2), each once."""
    repeated = np.isclose(loop, np.roll(loop, 1, axis=0), atol=1e-6).all(1)
    return [(float(x), float(y)) for x, y in loop[~repeated]]


# Digits as a hand would write them: strokes through points in [-1, 1].
HANDWRITING = (
    [[(0.0, 0.8), (-0.38, 0.5), (-0.48, 0.0), (-0.36, -0.55), (0.0, -0.8), (0.38, -0.5), (0.48, 0.0),
      (0.36, 0.55), (0.0, 0.8)]],
    [[(-0.22, 0.5), (0.06, 0.8), (0.02, -0.8)]],
    [[(-0.48, 0.42), (-0.25, 0.78), (0.25, 0.78), (0.46, 0.42), (0.25, 0.0), (-0.5, -0.75), (0.55, -0.72)]],
    [[(-0.45, 0.66), (-0.05, 0.8), (0.4, 0.55), (0.3, 0.2), (-0.1, 0.05), (0.4, -0.18), (0.46, -0.55),
      (0.05, -0.8), (-0.5, -0.62)]],
    [[(-0.15, 0.8), (-0.5, -0.12), (0.55, -0.12)], [(0.28, 0.45), (0.2, -0.8)]],
    [[(0.48, 0.76), (-0.36, 0.74), (-0.42, 0.1), (0.1, 0.2), (0.48, -0.15), (0.4, -0.6), (-0.05, -0.8),
      (-0.5, -0.6)]],
    [[(0.3, 0.8), (-0.2, 0.45), (-0.44, -0.15), (-0.35, -0.65), (0.08, -0.8), (0.45, -0.5), (0.3, -0.1),
      (-0.1, -0.05), (-0.4, -0.35)]],
    [[(-0.5, 0.74), (0.5, 0.76), (0.08, -0.1), (-0.12, -0.8)]],
    [[(0.36, 0.52), (0.0, 0.8), (-0.36, 0.52), (-0.2, 0.16), (0.3, -0.2), (0.4, -0.55), (0.0, -0.8),
      (-0.4, -0.55), (-0.28, -0.18), (0.24, 0.16), (0.36, 0.52)]],
    [[(0.4, 0.36), (0.08, 0.05), (-0.3, 0.1), (-0.43, 0.45), (-0.1, 0.8), (0.3, 0.7), (0.42, 0.3),
      (0.3, -0.3), (0.12, -0.8)]],
)  # fmt: skip
