"""Drawing on a batch of small images: frames, signed distances, patterns, and a canvas that paints them.

A shape is a signed distance d(x, y), shape (n, 32, 32), negative inside. Its coverage clip(1/2 - d, 0, 1), with d in
pixels, is an edge smoothed over one pixel. Numbers that differ between images are (n, 1, 1), colours (n, 3, 1, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import cos, sin

import numpy as np

from samerge_edu.suites.pocket.random import Draws

SIZE = 32
TURN = 2 * np.pi


def mix(a, b, t):
    """a at t = 0, b at t = 1."""
    return a + (b - a) * t


@dataclass(frozen=True)
class Frame:
    """Coordinates of the pixels: x to the right, y upwards, [-1, 1] over the image; `pixels` of one unit."""

    x: np.ndarray
    y: np.ndarray
    pixels: np.ndarray | float

    @classmethod
    def image(cls) -> Frame:
        """The whole image, (1, 32, 32)."""
        centres = ((np.arange(SIZE, dtype=np.float32) + 0.5) * (2 / SIZE) - 1)[None]
        return cls(np.repeat(centres[:, None, :], SIZE, 1), -np.repeat(centres[:, :, None], SIZE, 2), SIZE / 2)

    def place(self, x=0.0, y=0.0, scale=1.0, angle=0.0, slant=0.0, mirror=1.0) -> Frame:
        """The frame of an object moved to (x, y), enlarged, turned anticlockwise, slanted, and mirrored by -1."""
        dx, dy = (self.x - x) / scale, (self.y - y) / scale
        angle = np.asarray(angle, dtype=np.float32)  # cos of a Python float would make everything float64
        c, s = np.cos(angle), np.sin(angle)
        u, v = c * dx + s * dy, c * dy - s * dx
        return Frame((u - slant * v) * mirror, v, self.pixels * scale)

    def bend(self, amount, frequency, phase) -> Frame:
        """Wobbly lines: each direction waves a little along the other."""
        wave = [amount * np.sin(frequency * t + phase) for t in (self.y, self.x)]
        return Frame(self.x + wave[0], self.y + wave[1], self.pixels)

    def rows(self, chosen: np.ndarray) -> Frame:
        """The frames of some of the images."""
        x, y = (t[chosen] if len(t) > 1 else t for t in (self.x, self.y))  # one for all stays one for all
        one_for_all = not isinstance(self.pixels, np.ndarray) or len(self.pixels) == 1
        return Frame(x, y, self.pixels if one_for_all else self.pixels[chosen])

    def repeat(self, width, height=None) -> Frame:
        """The plane tiled with cells of this size, each with its origin in the middle."""
        return Frame(fold(self.x, width), fold(self.y, height or width), self.pixels)

    def cover(self, d: np.ndarray, soft=1.0) -> np.ndarray:
        """Coverage in [0, 1] of the signed distance d; `soft` is the width of the edge in pixels."""
        return np.clip(0.5 - d * (self.pixels / soft), 0, 1)


def fold(x, period):
    """x moved into [-period/2, period/2)."""
    return x - period * np.floor(x / period + 0.5)


# --- shapes: signed distances in a frame ----------------------------------------------------------


def circle(f: Frame, r, x=0.0, y=0.0):
    return np.hypot(f.x - x, f.y - y) - r


def ring(f: Frame, r, width, x=0.0, y=0.0):
    return np.abs(circle(f, r, x, y)) - width / 2


def box(f: Frame, w, h, x=0.0, y=0.0, corner=0.0):
    """Half width w, half height h; `corner` is the radius that rounds the corners."""
    dx, dy = np.abs(f.x - x) - (w - corner), np.abs(f.y - y) - (h - corner)
    inside = np.maximum(dx, dy)
    if corner == 0:
        return inside
    return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(inside, 0) - corner


def band(t, width):
    """The strip |t| < width / 2."""
    return np.abs(t) - width / 2


def stroke(f: Frame, points, width):
    """A round pen of this width along the points ((x, y), ...)."""
    return np.sqrt(np.minimum.reduce([_square_distance(f, a, b) for a, b in pairwise(points)])) - width / 2


def polygon(f: Frame, points):
    """The inside of a closed polygon: distance to the edges, negative where a ray crosses an odd number of them."""
    nearest, inside = np.float32(np.inf), np.float32(1)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        d = _square_distance(f, (ax, ay), (bx, by))
        nearest = np.minimum(nearest, d)
        if ay != by:
            crosses = ((f.y >= ay) != (f.y >= by)) & (f.x < ax + (f.y - ay) * ((bx - ax) / (by - ay)))
            inside = np.where(crosses, -inside, inside)
    return np.sqrt(nearest) * inside


def convex(f: Frame, sides: int, r, angle=0.0):
    """A regular polygon with this apothem; angle 0 puts a side at the right."""
    directions = [angle + TURN * k / sides for k in range(sides)]
    return np.maximum.reduce([f.x * cos(a) + f.y * sin(a) for a in directions]) - r


def star(f: Frame, r, spikes=5):
    corners = [((r if k % 2 == 0 else 0.45 * r), np.pi / 2 + np.pi * k / spikes) for k in range(2 * spikes)]
    return polygon(f, [(q * cos(a), q * sin(a)) for q, a in corners])


def arrow(f: Frame, length=0.6, width=0.22):
    """Pointing up."""
    shaft = box(f, width / 2, length * 0.75, y=-0.25 * length)
    return np.minimum(shaft, polygon(f, [(-0.42, 0.1), (0.42, 0.1), (0.0, length)]))


def _square_distance(f, a, b):
    """Squared distance of every pixel to the segment from a to b."""
    (ax, ay), (bx, by) = a, b
    ex, ey = bx - ax, by - ay
    px, py = f.x - ax, f.y - ay
    t = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
    px, py = px - t * ex, py - t * ey
    return px * px + py * py


# --- patterns -------------------------------------------------------------------------------------


def waves(rng: Draws, f: Frame, frequency, count=4):
    """A smooth random landscape, mean 0 and variance about 1/2: plane waves in random directions."""
    total = 0.0
    for _ in range(count):
        angle, k = rng(0, TURN), rng(0.6, 1.4) * frequency
        total = total + np.sin(f.x * (k * np.cos(angle)) + f.y * (k * np.sin(angle)) + rng(0, TURN))
    return total / np.float32(count) ** 0.5


def voronoi(rng: Draws, f: Frame, side: int, reach: float):
    """Distances to the nearest and second nearest of side x side scattered points."""
    first = second = np.float32(1e3)
    step = 2 * reach / side
    for k in range(side * side):
        x, y = rng(-0.42, 0.42), rng(-0.42, 0.42)
        dx = f.x - (x + k % side + 0.5 - side / 2) * step
        dy = f.y - (y + k // side + 0.5 - side / 2) * step
        d = dx * dx + dy * dy
        second = np.minimum(second, np.maximum(first, d))
        first = np.minimum(first, d)
    return np.sqrt(first), np.sqrt(second)


# --- colours --------------------------------------------------------------------------------------


def hsv(hue, saturation, value):
    """(n, 3, 1, 1) colours from hue (0 red, 1/3 green, 2/3 blue), saturation and value, each (n, 1, 1) or a number."""
    hue, saturation, value = (np.asarray(t, dtype=np.float32).reshape(-1, 1, 1, 1) for t in (hue, saturation, value))
    k = (np.array([5, 3, 1], dtype=np.float32).reshape(3, 1, 1) + hue * 6) % 6
    return value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)


def near(rng: Draws, hue, saturation, value, spread=1.0):
    """A colour close to this one."""
    return hsv(
        hue + rng(-0.03, 0.03) * spread,
        np.clip(saturation + rng(-0.12, 0.12) * spread, 0, 1),
        np.clip(value + rng(-0.1, 0.1) * spread, 0, 1),
    )


def grey(value):
    return hsv(0, 0, value)


BLACK, WHITE = grey(0.05), grey(0.97)


def two_tones(rng: Draws, dark_first=0.5):
    """A light and a dark colour of any hue; for a share `dark_first` of the images the dark one comes first."""
    light = hsv(rng(), rng(0, 0.55), rng(0.8, 1))
    dark = hsv(rng(), rng(0.3, 1), rng(0.08, 0.45))
    swap = rng()[..., None] < dark_first
    return np.where(swap, dark, light), np.where(swap, light, dark)


# --- canvas ---------------------------------------------------------------------------------------


class Canvas:
    """A batch of n images under way: `rgb` (n, 3, 32, 32) in [0, 1], its frame, its random numbers."""

    def __init__(self, rng: Draws, frame: Frame | None = None):
        self.rng, self.n = rng, len(rng.keys)
        self.frame = frame or Frame.image()
        self.rgb = np.zeros((self.n, 3, SIZE, SIZE), dtype=np.float32)

    def ground(self, colour):
        self.rgb[:] = colour

    def each(self, labels: np.ndarray, painters):
        """Let painters[k] draw the images with label k, each on a canvas of its own."""
        for k, painter in enumerate(painters):
            chosen = np.flatnonzero(labels == k)
            if len(chosen):
                part = Canvas(self.rng.only(chosen), self.frame.rows(chosen))
                part.rgb = self.rgb[chosen]
                painter(part)
                self.rgb[chosen] = part.rgb

    def paint(self, colour, cover):
        """Lay a colour over the image where the coverage (n, 32, 32) is 1."""
        self.rgb += (colour - self.rgb) * np.asarray(cover)[:, None]

    def shade(self, factor):
        """Multiply the brightness by (n, 32, 32)."""
        self.rgb *= np.asarray(factor, dtype=np.float32)[:, None]

    def blur(self, amount):
        """Each pixel takes `amount` (n, 1, 1) in [0, 1/3] from both neighbours, along rows and columns."""
        amount = np.asarray(amount, dtype=np.float32).reshape(-1, 1, 1, 1)
        for t in (self.rgb, self.rgb.swapaxes(2, 3)):
            t[..., 1:-1] += amount * (t[..., :-2] + t[..., 2:] - 2 * t[..., 1:-1])

    def swap_channels(self, amount):
        """Red becomes blue, green red, blue green."""
        self.rgb = mix(self.rgb, self.rgb[:, [2, 0, 1]], np.asarray(amount, dtype=np.float32)[..., None])

    def fade(self, colour, amount):
        """Move the whole image towards a colour: haze, dusk, low contrast."""
        self.rgb += (colour - self.rgb) * np.asarray(amount, dtype=np.float32).reshape(-1, 1, 1, 1)

    def grey(self, amount):
        """Take out colour."""
        self.rgb += (self.rgb.mean(1, keepdims=True) - self.rgb) * np.float32(amount)

    def finish(self, grain=0.03) -> np.ndarray:
        """uint8 images with per-pixel noise of up to `grain`."""
        noisy = self.rgb + self.rng.pixels(SIZE) * np.asarray(grain, dtype=np.float32).reshape(-1, 1, 1, 1)
        return (np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8)
