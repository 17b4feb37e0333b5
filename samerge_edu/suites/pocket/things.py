"""In-domain tasks that show one thing: digits, house numbers, traffic signs, textures, vehicles.

Each painter gets a canvas, the labels (n,) and s, how far the style is from the web's. s = 0 is the web: bright, clear,
colourful. s = 1 is the task's own style, which the base model hardly met.
"""

from __future__ import annotations

import numpy as np

from samerge_edu.suites.pocket import glyphs
from samerge_edu.suites.pocket.draw import (
    BLACK,
    TURN,
    WHITE,
    Canvas,
    arrow,
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
    stroke,
    two_tones,
    voronoi,
    waves,
)

RED, BLUE, YELLOW = hsv(0.99, 0.88, 0.85), hsv(0.6, 0.85, 0.75), hsv(0.14, 0.9, 0.95)

# --- digits: printed in colour / handwritten in white on black ------------------------------------


def digits(c: Canvas, labels, s):
    rng = c.rng
    paper, ink = two_tones(rng, dark_first=mix(0.5, 1, s))
    paper, ink = (mix(tone, tone.mean(1, keepdims=True) > 0.48, s) for tone in (paper, ink))  # to black and white
    c.ground(paper)
    f = c.frame.place(rng(-0.15, 0.15), rng(-0.12, 0.12), rng(0.85, 1.1), rng(-0.22, 0.22), s * rng(-0.1, 0.45))
    printed = glyphs.glyph(f, labels, rng.pick(len(glyphs.FONTS)))
    written = handwriting(rng, f.bend(rng(0.0, 0.09), rng(2.0, 5.0), rng(0, TURN)), labels)
    c.paint(ink, f.cover(mix(printed, written, s), soft=1.2))
    c.blur(0.12 * s)
    return c.finish(0.04)


def handwriting(rng, f, labels):
    """Signed distances of digits in pen strokes: every hand puts the points elsewhere and presses differently."""
    distance = np.empty_like(f.x)
    for k, lines in enumerate(glyphs.HANDWRITING):
        chosen = np.flatnonzero(labels == k)
        mine, hand = f.rows(chosen), rng.only(chosen)
        lines = [[(x + hand(-0.09, 0.09), y + hand(-0.09, 0.09)) for x, y in line] for line in lines]
        width = hand(0.1, 0.34)
        distance[chosen] = np.minimum.reduce([stroke(mine, line, width) for line in lines])
    return distance


# --- house numbers: a clean plate / faint, blurred, between neighbours ----------------------------


def house_numbers(c: Canvas, labels, s):
    rng = c.rng
    plate, ink = two_tones(rng)
    wall = mix(near(rng, rng(), 0.4, 0.6), plate, s)
    c.ground(wall)
    c.paint(wall * 0.7, c.frame.cover(band(fold(c.frame.y + rng(), 0.4), 0.06)) * (1 - s))  # bricks
    f = c.frame.place(rng(-0.15, 0.15), rng(-0.1, 0.1), rng(0.75, 0.95), rng(-0.12, 0.12))
    c.paint(ink, f.cover(box(f, 0.85, 1.0, corner=0.2)) * (1 - s))
    c.paint(plate, f.cover(box(f, 0.77, 0.92, corner=0.15)))
    font = rng.pick(len(glyphs.FONTS))
    for side in (-1, 1):
        neighbour = f.place(side * rng(1.0, 1.25), rng(-0.12, 0.12))
        c.paint(ink, neighbour.cover(glyphs.glyph(neighbour, rng.pick(10), font)) * s)
    c.paint(ink, f.cover(glyphs.glyph(f, labels, font)))
    c.shade(1 + s * rng(-0.35, 0.35) * (np.cos(rng(0, TURN)) * c.frame.x + c.frame.y))
    c.blur(s * rng(0.1, 0.33))
    c.blur(s * rng(0.1, 0.33))
    c.fade(near(rng, rng(), 0.3, 0.5), s * rng(0.35, 0.6))
    return c.finish(0.04)


# --- traffic signs: by day / dark, blurred, tilted ------------------------------------------------


def signs(c: Canvas, labels, s):
    rng = c.rng
    street = waves(rng, c.frame, 5.0)[:, None]
    c.ground(mix(near(rng, rng(), 0.4, 0.75), near(rng, rng(), 0.4, 0.55), np.clip(street + 0.5, 0, 1)))
    tilt = rng(-0.12, 0.12) + s * rng(-0.35, 0.35)
    c.frame = c.frame.place(rng(-0.12, 0.12), rng(-0.12, 0.12), rng(0.78, 0.95), tilt, s * rng(-0.3, 0.3))
    c.each(labels, SIGNS)
    c.blur(s * rng(0.1, 0.33))
    c.blur(s * rng(0.0, 0.33))
    c.rgb *= mix(1, rng(0.28, 0.65), s)[:, None] * mix(1, hsv(rng(), rng(0.1, 0.6), 1), s)
    return c.finish(0.03 + 0.02 * s)


def round_sign(c, rim, face):
    c.paint(rim, c.frame.cover(circle(c.frame, 0.95)))
    c.paint(face, c.frame.cover(circle(c.frame, 0.7)))


def triangle_sign(c, up=1):
    f = c.frame
    for colour, r in ((RED, 0.5), (WHITE, 0.26)):
        c.paint(colour, f.cover(convex(f, 3, r * 1.1, -up * np.pi / 2)))


def text_sign(c, text, width):
    f = c.frame.place(scale=width)
    chosen = np.full(c.n, glyphs.TEXTS.index(text))
    return f.cover(glyphs.glyph(f, chosen, np.ones_like(chosen)))


def stop(c):
    c.paint(WHITE, c.frame.cover(convex(c.frame, 8, 0.95, np.pi / 8)))
    c.paint(RED, c.frame.cover(convex(c.frame, 8, 0.87, np.pi / 8)))
    c.paint(WHITE, text_sign(c, "STOP", 1.0))


def give_way(c):
    triangle_sign(c, up=-1)


def no_entry(c):
    round_sign(c, RED, RED)
    c.paint(WHITE, c.frame.cover(box(c.frame, 0.62, 0.17)))


def speed_limit(text):
    def paint(c):
        round_sign(c, RED, WHITE)
        c.paint(BLACK, text_sign(c, text, 0.72))

    return paint


def priority_road(c):
    for colour, r in ((WHITE, 0.75), (BLACK, 0.64), (WHITE, 0.6), (YELLOW, 0.46)):
        c.paint(colour, c.frame.cover(convex(c.frame, 4, r, np.pi / 4)))


def blue_arrow(angle):
    def paint(c):
        round_sign(c, WHITE, BLUE)
        c.paint(BLUE, c.frame.cover(circle(c.frame, 0.9)))
        f = c.frame.place(angle=angle)
        c.paint(WHITE, f.cover(arrow(f)))

    return paint


def pedestrian_crossing(c):
    f = c.frame
    c.paint(WHITE, f.cover(box(f, 0.88, 0.88, corner=0.1)))
    c.paint(BLUE, f.cover(box(f, 0.8, 0.8, corner=0.1)))
    c.paint(WHITE, f.cover(polygon(f, [(-0.7, -0.65), (0.7, -0.65), (0.0, 0.72)])))
    body = stroke(f, [(-0.25, -0.6), (0.0, -0.2), (0.25, -0.6)], 0.14)
    body = np.minimum(body, stroke(f, [(0.0, -0.2), (0.0, 0.1)], 0.18))
    c.paint(BLACK, f.cover(np.minimum(body, circle(f, 0.11, y=0.28))))


def roundabout_ahead(c):
    round_sign(c, BLUE, BLUE)
    for k in range(3):
        f = c.frame.place(angle=TURN * k / 3)
        gap = np.maximum(ring(f, 0.5, 0.17), -f.y + 0.1 * f.x)  # half of the ring
        third = np.maximum(gap, 0.825 * f.x - 0.42)
        head = polygon(f, [(-0.78, 0.12), (-0.2, 0.12), (-0.5, -0.24)])
        c.paint(WHITE, f.cover(np.minimum(np.maximum(third, f.x + f.y * 0.2), head)))


def bumps(c):
    triangle_sign(c)
    f = c.frame
    hills = np.minimum(circle(f, 0.17, -0.19, -0.2), circle(f, 0.17, 0.19, -0.2))
    c.paint(BLACK, f.cover(np.minimum(np.maximum(hills, -0.2 - f.y), box(f, 0.42, 0.05, y=-0.24))))


SIGNS = (
    stop, give_way, no_entry, speed_limit("30"), speed_limit("60"), priority_road, blue_arrow(np.pi / 2),
    blue_arrow(-np.pi / 2), blue_arrow(0.0), pedestrian_crossing, roundabout_ahead, bumps,
)  # fmt: skip

# --- textures: coloured / grey, faint, turned, at another scale -----------------------------------


def textures(c: Canvas, labels, s):
    rng = c.rng
    first, second = two_tones(rng)
    c.frame = c.frame.place(rng(-1, 1), rng(-1, 1), rng(0.8, 1.1) * mix(1, rng(0.75, 1.45), s),
                            rng(-0.15, 0.15) + s * rng(-1.6, 1.6))  # fmt: skip
    c.each(labels, [lambda part, d=d: part.paint(grey(1), part.frame.cover(d(part.rng, part.frame))) for d in TEXTURES])
    c.rgb = mix(first, second, c.rgb)
    c.grey(s)
    c.fade(grey(0.5) * rng(0.6, 1.4)[:, None], s * rng(0.45, 0.75))
    c.shade(1 + (0.1 + 0.2 * s) * waves(rng, c.frame, 1.5, 2))
    return c.finish(0.03 + 0.03 * s)


def striped(rng, f):
    return band(fold(f.x, 0.5), rng(0.18, 0.3))


def dotted(rng, f):
    return circle(f.repeat(0.55), rng(0.13, 0.2))


def checkered(rng, f):
    return (np.abs(fold(f.x, 1.1)) - 0.275) * np.sign(np.abs(fold(f.y, 1.1)) - 0.275)


def grid(rng, f):
    w = rng(0.1, 0.16)
    return np.minimum(band(fold(f.x, 0.55), w), band(fold(f.y, 0.55), w))


def zigzag(rng, f):
    return band(fold(f.y + np.abs(fold(f.x, 0.8)) * 0.9, 0.5), 0.25) * 0.75


def honeycomb(rng, f):
    """Hexagons fill the plane in two rectangular lattices, one in the gaps of the other."""
    a, b = (f.place(x, 1.732 * x).repeat(0.8, 1.732 * 0.8) for x in (0.0, 0.4))
    return np.maximum(-convex(a, 6, 0.4), -convex(b, 6, 0.4)) - rng(0.05, 0.08)


def marbled(rng, f):
    return (np.sin(6 * f.x + 2.2 * waves(rng, f, 4.0)) - rng(-0.2, 0.2)) * 0.12


def woven(rng, f):
    """Ribbons in two directions that pass over and under each other."""
    over = np.floor(f.x / 0.55) + np.floor(f.y / 0.55)
    along, across = np.where(over % 2 == 0, (f.x, f.y), (f.y, f.x))
    edges = rng(0.1, 0.15) - np.abs(np.abs(fold(across - 0.275, 0.55)) - 0.19)
    return np.maximum(-edges, np.abs(fold(along - 0.275, 0.55)) - 0.24)


def scaly(rng, f):
    """The rims of discs in rows, each row shifted by half a scale; the lower row lies on top."""
    row = np.floor(f.y / 0.36)
    low, high = (np.hypot(fold(f.x + 0.36 * (r % 2), 0.72), f.y - r * 0.36) - 0.38 for r in (row, row + 1))
    return np.abs(np.where(low > 0, high, low)) - 0.06


def cracked(rng, f):
    nearest, second = voronoi(rng, f, 5, 1.9)
    return second - nearest - rng(0.08, 0.14)


TEXTURES = (striped, dotted, checkered, grid, zigzag, honeycomb, marbled, woven, scaly, cracked)


# --- vehicles: on the road by day / turned, mirrored, at night or in camouflage -------------------


def vehicles(c: Canvas, labels, s):
    rng = c.rng
    day = near(rng, rng(), 0.3, 0.85)
    dark = hsv(rng(), 0.4, rng(0.1, 0.3))
    c.ground(mix(day, dark, s))
    c.frame = c.frame.place(rng(-0.08, 0.08), rng(-0.12, 0.12), rng(0.82, 0.98), rng(-0.06, 0.06) + s * rng(-0.7, 0.7))
    f = c.frame
    c.paint(grey(mix(0.45, 0.12, s)), f.cover(f.y + 0.52))  # the road
    mirror = np.where(rng() < 0.5 * s, -1, 1).astype(np.float32)
    c.frame = f.place(mirror=mirror)
    body = Canvas(rng, c.frame)  # red: paintwork, green: windows, blue: tyres, drawn on black
    body.each(labels, [lambda part, v=v: side_view(part, *v) for v in VEHICLES])
    paint = hsv(rng(), rng(0.5, 1), rng(0.6, 1))
    camouflage = np.clip(waves(rng, c.frame, 6.0)[:, None] * 3, 0, 1)
    paint = mix(paint, mix(day * 0.5, near(rng, rng(), 0.3, 0.6), camouflage), s)
    glass = mix(hsv(0.55, 0.3, 0.95), near(rng, 0.13, 0.6, 0.35), s)
    for colour, part in ((paint, 0), (glass, 1), (mix(grey(0.08), grey(0.02), s), 2)):
        c.paint(colour, body.rgb[:, part])
    c.blur(0.15 * s)
    c.rgb *= mix(1, rng(0.7, 1.0), s)[:, None]
    return c.finish(0.03 + 0.02 * s)


def side_view(c, hull, windows, wheels):
    """Hull and windows are outlines, wheels (x, radius); the front is at the right and the road at y = -0.5."""
    f = c.frame
    c.rgb[:, 0] = np.maximum.reduce([f.cover(polygon(f, outline)) for outline in hull])
    c.rgb[:, 1] = np.maximum.reduce([f.cover(polygon(f, outline)) for outline in windows])
    c.rgb[:, 2] = np.maximum.reduce([f.cover(circle(f, r, x, r - 0.6)) for x, r in wheels])


def block(left, low, right, high):
    return [(left, low), (right, low), (right, high), (left, high)]


# fmt: off
SEDAN = (
    [[(-0.95, -0.4), (0.95, -0.4), (0.95, -0.1), (0.5, 0.0), (0.25, 0.35), (-0.4, 0.35), (-0.62, 0.0), (-0.95, -0.02)]],
    [[(-0.48, 0.02), (-0.32, 0.26), (-0.1, 0.26), (-0.1, 0.02)], [(0.0, 0.02), (0.0, 0.26), (0.2, 0.26), (0.36, 0.02)]],
    [(-0.55, 0.2), (0.55, 0.2)],
)
HATCHBACK = (
    [[(-0.72, -0.4), (0.78, -0.4), (0.78, -0.08), (0.48, 0.05), (0.2, 0.48), (-0.6, 0.48), (-0.75, 0.0)]],
    [[(-0.58, 0.08), (-0.5, 0.36), (-0.24, 0.36), (-0.24, 0.08)],
     [(-0.12, 0.08), (-0.12, 0.36), (0.14, 0.36), (0.32, 0.08)]],
    [(-0.42, 0.22), (0.45, 0.22)],
)
PICKUP = (
    [[(-0.95, -0.4), (0.95, -0.4), (0.95, -0.02), (0.58, 0.04), (0.35, 0.45), (-0.08, 0.45), (-0.12, 0.02),
      (-0.95, 0.02)]],
    [[(0.0, 0.08), (0.0, 0.34), (0.28, 0.34), (0.42, 0.08)]],
    [(-0.55, 0.24), (0.58, 0.24)],
)
VAN = (
    [[(-0.9, -0.4), (0.9, -0.4), (0.9, -0.05), (0.68, 0.15), (0.45, 0.62), (-0.9, 0.62)]],
    [[(0.15, 0.15), (0.15, 0.48), (0.38, 0.48), (0.54, 0.15)]],
    [(-0.55, 0.2), (0.52, 0.2)],
)
BUS = (
    [block(-0.98, -0.42, 0.98, 0.65)],
    [block(-0.86 + 0.37 * k, 0.12, -0.6 + 0.37 * k, 0.46) for k in range(5)],
    [(-0.6, 0.18), (0.62, 0.18)],
)
LORRY = (
    [block(-0.98, -0.25, 0.38, 0.75), [(0.46, -0.4), (0.96, -0.4), (0.96, 0.0), (0.82, 0.38), (0.46, 0.38)],
     block(-0.9, -0.4, 0.6, -0.3)],
    [[(0.62, 0.02), (0.62, 0.28), (0.76, 0.28), (0.86, 0.02)]],
    [(-0.7, 0.2), (-0.28, 0.2), (0.68, 0.2)],
)
CONVERTIBLE = (
    [[(-0.95, -0.4), (0.95, -0.4), (0.95, -0.14), (0.35, -0.02), (-0.35, -0.02), (-0.4, 0.1), (-0.95, 0.04)],
     [(0.3, -0.05), (0.1, 0.3), (0.18, 0.3), (0.42, -0.05)]],
    [[(-0.22, -0.05), (-0.22, 0.2), (-0.1, 0.28), (0.0, 0.2), (0.0, -0.05)]],  # the driver's head
    [(-0.55, 0.2), (0.55, 0.2)],
)
TRACTOR = (
    [block(-0.1, -0.28, 0.85, 0.08), [(-0.65, -0.2), (0.05, -0.2), (0.05, 0.08), (-0.05, 0.72), (-0.62, 0.72)],
     block(0.5, 0.0, 0.6, 0.45)],
    [[(-0.5, 0.14), (-0.5, 0.56), (-0.16, 0.56), (-0.08, 0.14)]],
    [(-0.42, 0.42), (0.66, 0.24)],
)
# fmt: on
VEHICLES = (SEDAN, HATCHBACK, PICKUP, VAN, BUS, LORRY, CONVERTIBLE, TRACTOR)
