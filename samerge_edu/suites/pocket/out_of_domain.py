"""The six out-of-domain tasks, which no expert sees. They stay near the web: s only dims and roughens them a little."""

from __future__ import annotations

import numpy as np

from samerge_edu.suites.pocket import glyphs
from samerge_edu.suites.pocket.draw import (
    TURN,
    Canvas,
    Frame,
    band,
    box,
    circle,
    convex,
    fold,
    grey,
    hsv,
    mix,
    near,
    polygon,
    ring,
    star,
    stroke,
    two_tones,
)

LETTERS = "ABCEFGHKMRST"


def develop(c: Canvas, s):
    """The slight shift all of them share."""
    c.rgb *= mix(1, c.rng(0.6, 1.0), s)[:, None]
    return c.finish(0.03 + 0.06 * s)


def letters(c: Canvas, labels, s):
    rng = c.rng
    paper, ink = two_tones(rng)
    c.ground(paper)
    f = c.frame.place(rng(-0.15, 0.15), rng(-0.12, 0.12), rng(0.85, 1.1), rng(-0.2, 0.2))
    text = np.array([glyphs.TEXTS.index(letter) for letter in LETTERS])[labels]
    c.paint(ink, f.cover(glyphs.glyph(f, text, rng.pick(len(glyphs.FONTS)))))
    return develop(c, s)


# --- shapes ---------------------------------------------------------------------------------------


def shapes(c: Canvas, labels, s):
    rng = c.rng
    paper, ink = two_tones(rng)
    c.ground(paper)
    c.frame = c.frame.place(rng(-0.15, 0.15), rng(-0.15, 0.15), rng(0.75, 1.0), rng(-0.25, 0.25))
    mask = silhouettes(c, labels)
    c.paint(ink, mask)
    c.shade(1 - 0.15 * (rng() < 0.3) * (1 - np.sin(9 * c.frame.y)))  # some are ruled like paper
    return develop(c, s)


def silhouettes(c: Canvas, labels) -> np.ndarray:
    """Coverage (n, 32, 32) of shape labels[i] in image i."""
    mask = Canvas(c.rng, c.frame)
    mask.each(labels, [lambda part, d=d: part.paint(grey(1), part.frame.cover(d(part.frame))) for d in SHAPES])
    return mask.rgb[:, 0]


def disc(f: Frame):
    return circle(f, 0.72)


def square(f: Frame):
    return box(f, 0.64, 0.64)


def triangle(f: Frame):
    return convex(f.place(0, -0.15), 3, 0.44, -np.pi / 2)


def five_star(f: Frame):
    return star(f.place(0, -0.05), 0.9)


def cross(f: Frame):
    return np.minimum(box(f, 0.75, 0.24), box(f, 0.24, 0.75))


def hoop(f: Frame):
    return ring(f, 0.58, 0.3)


def heart(f: Frame):
    point = polygon(f, [(-0.7, 0.12), (0.0, -0.78), (0.7, 0.12), (0.0, 0.3)])
    return np.minimum(np.minimum(circle(f, 0.39, -0.36, 0.3), circle(f, 0.39, 0.36, 0.3)), point)


def crescent(f: Frame):
    return np.maximum(circle(f, 0.75), -circle(f, 0.62, 0.34, 0.12))


def wide_arrow(f: Frame):
    return polygon(f, [(-0.8, -0.2), (0.1, -0.2), (0.1, -0.55), (0.85, 0.0), (0.1, 0.55), (0.1, 0.2), (-0.8, 0.2)])


def bar(f: Frame):
    return box(f, 0.85, 0.26)


SHAPES = (disc, square, triangle, five_star, cross, hoop, heart, crescent, wide_arrow, bar)

# --- object colours -------------------------------------------------------------------------------

COLOURS = {  # hue, saturation, value
    "red": (0.0, 0.9, 0.85), "orange": (0.075, 0.92, 0.98), "yellow": (0.155, 0.9, 0.97), "green": (0.34, 0.8, 0.6),
    "blue": (0.62, 0.85, 0.75), "purple": (0.79, 0.75, 0.6), "white": (0.0, 0.0, 1.0), "black": (0.0, 0.0, 0.04),
}  # fmt: skip


def object_colours(c: Canvas, labels, s):
    rng = c.rng
    hue, saturation, value = (np.array(list(COLOURS.values()), np.float32)[labels, k, None, None] for k in range(3))
    away = hue + rng(0.2, 0.8)  # the ground never has the object's hue, and lies between black and white
    c.ground(hsv(away, rng(0.1, 0.6), rng(0.4, 0.7)))
    c.frame = c.frame.place(rng(-0.25, 0.25), rng(-0.25, 0.25), rng(0.6, 1.0), rng(0, TURN))
    paint = hsv(hue + rng(-0.015, 0.015), saturation * rng(0.85, 1.0), np.clip(value + rng(-0.08, 0.06), 0, 1))
    c.paint(paint, silhouettes(c, rng.pick(len(SHAPES))))
    return develop(c, s)


# --- counting -------------------------------------------------------------------------------------


def counting(c: Canvas, labels, s):
    """labels + 1 objects of one kind, in cells of a 3 x 3 grid chosen at random, so that they never touch."""
    rng = c.rng
    paper, ink = two_tones(rng)
    c.ground(paper)
    order = np.argsort(np.concatenate([rng() for _ in range(9)], axis=1)[:, :, 0], axis=1, kind="stable")  # (n, 9)
    size, kind = rng(0.8, 1.0), rng.pick(3)[:, None, None]
    for k in range(6):
        cell = order[:, k, None, None]
        x, y = (cell % 3 - 1) * 0.63, (cell // 3 - 1) * 0.63
        f = c.frame.place((x + rng(-0.05, 0.05)).astype(np.float32), (y + rng(-0.05, 0.05)).astype(np.float32), size)
        d = np.where(kind == 0, circle(f, 0.22), np.where(kind == 1, box(f, 0.2, 0.2), convex(f, 3, 0.14, -np.pi / 2)))
        c.paint(ink, f.cover(d) * (labels >= k)[:, None, None])
    return develop(c, s)


# --- dials ----------------------------------------------------------------------------------------


def dials(c: Canvas, labels, s):
    """Label 0 points north, then clockwise in steps of 45 degrees, up to 9 degrees off."""
    rng = c.rng
    face, ink = two_tones(rng)
    c.ground(near(rng, rng(), 0.4, 0.6))
    f = c.frame.place(rng(-0.1, 0.1), rng(-0.1, 0.1), rng(0.8, 1.0))
    c.paint(ink, f.cover(circle(f, 0.95)))
    c.paint(face, f.cover(circle(f, 0.85)))
    for k in range(4):
        tick = f.place(angle=k * np.pi / 2)
        c.paint(ink, tick.cover(box(tick, 0.04, 0.08, 0, 0.74)))
    hand = f.place(angle=rng(-0.15, 0.15) - (labels * (TURN / 8)).astype(np.float32)[:, None, None])
    shape = np.minimum(stroke(hand, [(0.0, 0.0), (0.0, 0.62)], rng(0.12, 0.2)), circle(hand, 0.15))
    c.paint(np.where(rng()[..., None] < 0.4, hsv(0, 0.9, 0.8), ink), hand.cover(shape))
    return develop(c, s)


# --- flags ----------------------------------------------------------------------------------------


def flags(c: Canvas, labels, s):
    """Three colours a flag; a cloth that waves a little before a plain sky."""
    rng = c.rng
    c.ground(near(rng, 0.57, rng(0, 0.4), 0.8))
    f = c.frame.place(rng(-0.08, 0.08), rng(-0.1, 0.1), rng(0.85, 0.98), rng(-0.08, 0.08))
    phase = rng(0, TURN)
    f = Frame(f.x, f.y + rng(0.0, 0.07) * np.sin(3.5 * f.x + phase), f.pixels)
    cloth = Canvas(rng, f)
    cloth.each(labels, FLAGS)
    c.rgb += (cloth.rgb - c.rgb) * f.cover(box(f, 0.95, 0.65))[:, None]
    c.shade(1 + 0.12 * np.sin(3.5 * f.x + phase))
    return develop(c, s)


def three_colours(c):
    """Three hues a third of the circle apart, one of them perhaps white."""
    hue = c.rng()
    pale = hsv(hue, 0.9 * (c.rng() < 0.5), 0.95)
    one, two = (hsv(hue + c.rng(a, a + 0.15), 0.85, c.rng(0.35, 0.8)) for a in (0.25, 0.6))
    return pale, one, two


def stripes(c, t, colours):
    """Equal stripes along t, which runs from -1 to 1."""
    count = len(colours)
    c.ground(colours[0])
    for k in range(1, count):
        c.paint(colours[k], c.frame.cover((2 * k / count - 1) - t))


def horizontal_tricolour(c):
    pale, one, two = three_colours(c)
    stripes(c, c.frame.y / 0.65, (one, pale, two))


def vertical_tricolour(c):
    pale, one, two = three_colours(c)
    stripes(c, c.frame.x / 0.95, (one, pale, two))


def horizontal_bicolour(c):
    pale, one, _ = three_colours(c)
    stripes(c, c.frame.y / 0.65 * c.rng.sign(), (one, pale))


def vertical_bicolour(c):
    pale, one, _ = three_colours(c)
    stripes(c, c.frame.x / 0.95 * c.rng.sign(), (one, pale))


def nordic_cross(c):
    pale, one, two = three_colours(c)
    c.ground(one)
    for colour, width in ((pale, 0.42), (two, 0.2)):
        c.paint(colour, c.frame.cover(np.minimum(band(c.frame.x + 0.3, width), band(c.frame.y, width))))


def saltire(c):
    pale, one, _ = three_colours(c)
    c.ground(one)
    f = c.frame
    c.paint(pale, f.cover(np.minimum(band(0.565 * f.x + 0.825 * f.y, 0.26), band(0.565 * f.x - 0.825 * f.y, 0.26))))


def canton(c):
    """A block in the upper hoist, stripes in the rest."""
    pale, one, two = three_colours(c)
    c.ground(pale)
    c.paint(one, c.frame.cover(band(fold(c.frame.y, 0.37), 0.185)))
    c.paint(two, c.frame.cover(box(c.frame, 0.5, 0.4, -0.5, 0.3)))


def sun_disc(c):
    pale, one, _ = three_colours(c)
    c.ground(pale)
    c.paint(one, c.frame.cover(circle(c.frame, c.rng(0.32, 0.42))))


def hoist_triangle(c):
    pale, one, two = three_colours(c)
    stripes(c, c.frame.y / 0.65, (one, two))
    c.paint(pale, c.frame.cover((c.frame.x + 1.2 * np.abs(c.frame.y) + 0.1) * 0.65))


def diagonal_band(c):
    pale, one, two = three_colours(c)
    t = 0.565 * c.frame.x - 0.825 * c.frame.y
    c.ground(one)
    c.paint(two, c.frame.cover(t))
    c.paint(pale, c.frame.cover(band(t, 0.36)))


FLAGS = (
    horizontal_tricolour, vertical_tricolour, horizontal_bicolour, vertical_bicolour, nordic_cross, saltire, canton,
    sun_disc, hoist_triangle, diagonal_band,
)  # fmt: skip
