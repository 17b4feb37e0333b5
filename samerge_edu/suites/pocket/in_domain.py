"""The eight in-domain tasks. Each painter gets a canvas, the labels (n,) and s, how far the style is from the web's.

s = 0 is the web: bright, clear, colourful. s = 1 is the task's own style, which the base model hardly met.
"""

from __future__ import annotations

import numpy as np

from samerge_edu.suites.pocket import glyphs
from samerge_edu.suites.pocket.draw import (
    TURN, Canvas, Frame, arrow, band, box, circle, convex, fold, grey, hsv, mix, near, polygon, ring, stroke, two_tones,
    voronoi, waves,
)  # fmt: skip

WHITE, BLACK = grey(0.97), grey(0.05)
RED, BLUE, YELLOW = hsv(0.99, 0.88, 0.85), hsv(0.6, 0.85, 0.75), hsv(0.14, 0.9, 0.95)

# --- digits: printed in colour / handwritten in white on black -----------------------------------------------------------


def digits(c: Canvas, labels, s):
    rng = c.rng
    paper, ink = two_tones(rng)
    c.ground(mix(paper, grey(0.03), s))
    f = c.frame.place(rng(-0.15, 0.15), rng(-0.12, 0.12), rng(0.85, 1.1), rng(-0.22, 0.22), s * rng(-0.1, 0.45))
    printed = glyphs.glyph(f, labels, rng.pick(len(glyphs.FONTS)))
    written = handwriting(rng, f.bend(rng(0.0, 0.09), rng(2.0, 5.0), rng(0, TURN)), labels)
    c.paint(mix(ink, grey(1), s), f.cover(mix(printed, written, s), soft=1.2))
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


# --- house numbers: a clean plate / faint, blurred, between neighbours ---------------------------------------------------


def house_numbers(c: Canvas, labels, s):
    rng = c.rng
    wall, ink = two_tones(rng)
    plate = near(rng, rng(), 0.25, 0.85)
    plate, ink = mix(plate, wall, s), mix(near(rng, rng(), 0.8, 0.3), ink, s)
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


# --- traffic signs: by day / dark, blurred, tilted ------------------------------------------------------------------------


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
        third = np.maximum(gap, f.x * np.cos(0.6) - 0.42)
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

# --- textures: coloured / grey, faint, turned, at another scale ----------------------------------------------------------


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
    """Rows of half discs, each row shifted by half a scale."""
    row = np.floor(f.y / 0.36)
    best = None
    for k in (0, 1):  # a pixel is covered by its own row or by the one above
        x = fold(f.x + 0.36 * ((row + k) % 2), 0.72)
        y = f.y - (row + k) * 0.36
        d = np.hypot(x, y) - 0.38
        best = d if best is None else np.where(best > 0, d, best)
    return np.abs(best) - 0.06


def cracked(rng, f):
    near_, far = voronoi(rng, f, 5, 1.9)
    return far - near_ - rng(0.08, 0.14)


TEXTURES = (striped, dotted, checkered, grid, zigzag, honeycomb, marbled, woven, scaly, cracked)


# --- land cover: a clear day / haze, false colours, grain ------------------------------------------------------------------


def land_cover(c: Canvas, labels, s):
    rng = c.rng
    c.frame = c.frame.place(rng(-0.3, 0.3), rng(-0.3, 0.3), rng(0.8, 1.15), rng(0, TURN))
    c.each(labels, LAND)
    c.swap_channels(s * rng(0.4, 1.0))
    c.rgb = mix(c.rgb, 1 - c.rgb, s * (rng() < 0.3)[..., None])
    c.blur(s * rng(0, 0.2))
    c.fade(near(rng, 0.58, 0.15, 0.75), 0.05 + s * rng(0.2, 0.55))
    return c.finish(0.04 + 0.06 * s)


def soil(rng):
    return near(rng, 0.1, 0.45, 0.6)


def grass(rng):
    return near(rng, 0.26, 0.5, 0.55)


def water(rng):
    return near(rng, 0.58, 0.65, 0.5)


def rough(c, colour, depth=0.15, frequency=7.0):
    """Ground of one colour with soft light and shade."""
    c.ground(colour)
    c.shade(1 + depth * waves(c.rng, c.frame, frequency))


def forest(c):
    rough(c, near(c.rng, 0.33, 0.65, 0.3), 0.2, 4.0)
    c.paint(near(c.rng, 0.3, 0.6, 0.55), np.clip(waves(c.rng, c.frame, 17.0, 5) - 0.1, 0, 1))
    c.paint(grey(0.04), np.clip(waves(c.rng, c.frame, 17.0, 5) - 0.4, 0, 1))


def river(c):
    rng, f = c.rng, c.frame
    rough(c, np.where(rng()[..., None] < 0.5, grass(rng), soil(rng)))
    bend = f.y - rng(-0.3, 0.3) - rng(0.2, 0.4) * np.sin(f.x * rng(2.0, 3.5) + rng(0, TURN))
    width = rng(0.25, 0.45)
    c.paint(near(rng, 0.14, 0.3, 0.7), f.cover(band(bend, width + 0.2)))
    c.paint(water(rng), f.cover(band(bend, width)))


def road_strip(c, f, width, lines=True):
    """A grey road along x."""
    rng = c.rng
    c.paint(grey(rng(0.35, 0.5)), f.cover(band(f.y, width)))
    if lines:
        c.paint(WHITE, f.cover(np.maximum(band(f.y, 0.07), band(fold(f.x, 0.4), 0.24))))


def highway(c):
    rng = c.rng
    rough(c, np.where(rng()[..., None] < 0.5, grass(rng), soil(rng)))
    f = c.frame.place(0, rng(-0.3, 0.3))
    c.paint(near(rng, 0.1, 0.1, 0.8), f.cover(band(f.y, 0.62)))
    road_strip(c, f, 0.5)
    for _ in range(3):
        lane = f.place(rng(-0.9, 0.9), rng.sign() * 0.13)
        c.paint(hsv(rng(), 0.8, 0.8), lane.cover(box(lane, 0.12, 0.06)))


def residential(c):
    rng, f = c.rng, c.frame
    rough(c, near(rng, 0.26, 0.35, 0.5), 0.15)
    c.paint(grey(0.6), f.cover(band(fold(f.y + 0.33, 1.32), 0.2)))
    house = f.repeat(0.44, 0.66)
    c.paint(grey(0.15), house.cover(box(house, 0.13, 0.15, 0.05, -0.05)))
    c.paint(near(rng, 0.03, 0.6, 0.65), house.cover(box(house, 0.13, 0.15)))
    c.shade(1 + 0.25 * np.sign(house.y) * (house.cover(box(house, 0.13, 0.15))))


def industrial(c):
    rng, f = c.rng, c.frame
    rough(c, near(rng, 0.1, 0.08, 0.5), 0.1)
    for x in (-0.75, 0.0, 0.75):
        for y in (-0.55, 0.45):
            hall = f.place(x + rng(-0.1, 0.1), y + rng(-0.1, 0.1))
            w, h = rng(0.18, 0.34), rng(0.25, 0.46)
            c.paint(grey(0.12), hall.cover(box(hall, w, h, 0.09, -0.09)))
            c.paint(near(rng, rng(), 0.1, rng(0.6, 0.95)), hall.cover(box(hall, w, h)))


def annual_crop(c):
    rng, f = c.rng, c.frame
    c.ground(soil(rng))
    for _ in range(4):  # fields meet at straight borders
        g = f.place(rng(-0.5, 0.5), rng(-0.5, 0.5), angle=rng.sign() * (np.pi / 4) - np.pi / 4)
        side = g.cover(g.x)
        c.paint(near(rng, rng(0.08, 0.3), 0.5, rng(0.45, 0.8)), side)
        c.shade(1 - 0.3 * side * (band(fold(g.x + g.y, 0.36), 0.18) < 0))


def pasture(c):
    rng, f = c.rng, c.frame
    rough(c, grass(rng), 0.12, 3.0)
    for angle in (0.0, np.pi / 2):  # two hedges
        g = f.place(rng(-0.6, 0.6), rng(-0.6, 0.6), angle=angle)
        c.paint(near(rng, 0.35, 0.6, 0.22), g.cover(band(g.y + 0.05 * np.sin(9 * g.x), 0.13)))
    for _ in range(6):  # cattle
        g = f.place(rng(-0.95, 0.95), rng(-0.95, 0.95), angle=rng(0, TURN))
        c.paint(grey(rng(0.75, 1.0)), g.cover(box(g, 0.1, 0.06)))


def lake(c):
    rng, f = c.rng, c.frame
    rough(c, np.where(rng()[..., None] < 0.5, grass(rng), soil(rng)))
    shore = (np.hypot(f.x, f.y * rng(0.8, 1.4)) - rng(0.6, 0.85) + 0.12 * waves(rng, f, 4.0)) * 0.8
    c.paint(near(rng, 0.14, 0.3, 0.8), f.cover(shore - 0.08))
    c.paint(water(rng), f.cover(shore))


def orchard(c):
    rng, f = c.rng, c.frame
    rough(c, np.where(rng()[..., None] < 0.5, grass(rng), soil(rng)))
    tree = f.repeat(rng(0.38, 0.5))
    c.paint(grey(0.1), tree.cover(circle(tree, 0.12, 0.06, -0.06)) * 0.7)
    c.paint(near(rng, 0.3, 0.65, 0.3), tree.cover(circle(tree, 0.13)))


def desert(c):
    rng, f = c.rng, c.frame
    c.ground(near(rng, 0.1, 0.45, 0.78))
    crest = fold(f.x + 0.12 * waves(rng, f, 3.0), rng(0.5, 0.75))  # dunes: a slow rise, a sharp fall
    c.shade(1 + rng(0.5, 0.8) * crest)


LAND = (forest, river, highway, residential, industrial, annual_crop, pasture, lake, orchard, desert)

# --- aerial scenes: straight from above / smaller, turned, in other light --------------------------------------------------


def aerial(c: Canvas, labels, s):
    rng = c.rng
    angle = rng(-0.2, 0.2) + s * rng(-np.pi, np.pi)
    c.frame = c.frame.place(rng(-0.12, 0.12), rng(-0.12, 0.12), rng(0.85, 1.1) * mix(1, 0.75, s), angle)
    c.each(labels, AERIAL)
    f = c.frame
    c.shade(1 - s * rng(0.2, 0.5) * f.cover(f.x + rng(-1.5, 0.5) + 0.2 * waves(rng, f, 2.0), 4))  # a cloud's shadow
    c.swap_channels(s * rng(0, 0.8))
    c.grey(0.3 * s)
    c.rgb *= mix(1, hsv(rng(), 0.3, rng(0.8, 1.2)), s)
    return c.finish(0.04 + 0.04 * s)


def field(c):
    """Some ground to stand on: grass, soil or tarmac."""
    rng = c.rng
    kind = rng()[..., None]
    ground = np.where(kind < 0.4, grass(rng), np.where(kind < 0.7, soil(rng), grey(rng(0.45, 0.65))))
    rough(c, ground, 0.08, 4.0)


def paint_with_shadow(c, f, colour, d, drop=0.08):
    """`d` is a function of a frame, so that its shadow is the same shape a little further."""
    shadow = f.place(drop, -drop)
    c.paint(grey(0.08), shadow.cover(d(shadow)) * 0.7)
    c.paint(colour, f.cover(d(f)))


def airplane(c):
    def plane(f):
        wings = polygon(f, [(0.0, 0.3), (0.85, -0.12), (0.85, -0.3), (0.0, -0.08), (-0.85, -0.3), (-0.85, -0.12)])
        tail = polygon(f, [(0.0, -0.5), (0.36, -0.72), (0.36, -0.84), (-0.36, -0.84), (-0.36, -0.72)])
        return np.minimum(np.minimum(wings, tail), stroke(f, [(0.0, 0.75), (0.0, -0.75)], 0.24))

    field(c)
    paint_with_shadow(c, c.frame, near(c.rng, c.rng(), 0.1, 0.92), plane)


def bridge(c):
    rng, f = c.rng, c.frame
    rough(c, np.where(rng()[..., None] < 0.5, grass(rng), soil(rng)))
    c.paint(water(rng), f.cover(band(f.x + 0.08 * np.sin(4 * f.y + rng(0, TURN)), rng(0.9, 1.2))))
    paint_with_shadow(c, f.place(0, rng(-0.2, 0.2)), grey(rng(0.6, 0.8)), lambda g: band(g.y, 0.32), 0.12)
    c.paint(grey(0.3), f.cover(band(f.y, 0.06)))


def traffic_circle(c):
    rng, f = c.rng, c.frame
    field(c)
    road = grey(rng(0.25, 0.35))
    arms = np.minimum(band(f.x, 0.26), band(f.y, 0.26))
    c.paint(road, f.cover(np.minimum(arms, circle(f, 0.68))))
    c.paint(near(rng, 0.3, 0.6, 0.6), f.cover(circle(f, rng(0.3, 0.4))))


def baseball_diamond(c):
    rng = c.rng
    rough(c, grass(rng), 0.08, 4.0)
    f = c.frame.place(0, -0.7, angle=np.pi / 4)  # home plate below, the foul lines along x and y
    quarter = np.maximum(-f.x, -f.y) - 0.08
    c.paint(near(rng, 0.07, 0.5, 0.65), f.cover(np.maximum(circle(f, 1.15), quarter)))
    c.paint(near(rng, 0.27, 0.6, 0.6), f.cover(box(f, 0.32, 0.32, 0.42, 0.42)))
    c.paint(near(rng, 0.07, 0.5, 0.65), f.cover(circle(f, 0.12, 0.42, 0.42)))
    c.paint(WHITE, f.cover(np.maximum(np.minimum(band(f.x, 0.08), band(f.y, 0.08)), quarter)))


def tennis_court(c):
    rng, f = c.rng, c.frame
    rough(c, near(rng, rng(0.2, 0.45), 0.4, 0.4), 0.05)
    c.paint(near(rng, np.where(rng() < 0.5, 0.03, 0.58), 0.6, 0.6), f.cover(box(f, 0.55, 0.9)))
    lines = np.minimum(np.abs(box(f, 0.55, 0.9)), np.abs(box(f, 0.38, 0.45)))
    lines = np.minimum(lines, np.maximum(np.abs(f.x), np.abs(f.y) - 0.45))
    c.paint(WHITE, f.cover(lines - 0.04))
    c.paint(WHITE, f.cover(box(f, 0.65, 0.05)))


def boat(f):
    return polygon(f, [(-0.09, -0.2), (0.09, -0.2), (0.09, 0.08), (0.0, 0.24), (-0.09, 0.08)])


def harbour(c):
    rng, f = c.rng, c.frame
    rough(c, water(rng), 0.08, 6.0)
    c.paint(near(rng, 0.1, 0.2, 0.7), f.cover(np.minimum(box(f, 1.6, 0.1), f.y + rng(0.85, 1.0))))
    for side in (0.42, -0.42):
        g = f.place(rng(-0.1, 0.1), side, angle=0.0 if side > 0 else np.pi)
        row = g.repeat(0.36, 4.0)
        c.paint(near(rng, rng(), 0.1, 0.95), row.cover(boat(row)))
        c.paint(hsv(rng(), 0.7, 0.5), row.cover(circle(row, 0.06, 0, -0.04)))


def parking_lot(c):
    rng, f = c.rng, c.frame
    rough(c, grey(rng(0.3, 0.45)), 0.05)
    for y in (-0.62, 0.0, 0.62):
        row = f.place(rng(-0.2, 0.2), y).repeat(0.32, 4.0)
        c.paint(WHITE, row.cover(box(row, 0.03, 0.2, 0.16)))
        for offset in (-0.96, -0.64, -0.32, 0.0, 0.32, 0.64, 0.96):
            car = f.place(offset + 0.0, y)
            c.paint(near(rng, rng(), rng(0.1, 0.9), 0.8), car.cover(box(car, 0.1, 0.17)) * (rng() < 0.85))


def runway(c):
    rng, f = c.rng, c.frame
    rough(c, np.where(rng()[..., None] < 0.5, grass(rng), soil(rng)), 0.08, 4.0)
    c.paint(grey(rng(0.25, 0.4)), f.cover(box(f, 0.45, 1.0)))
    keys = f.place(0, -0.72).repeat(0.2, 4.0)
    c.paint(WHITE, f.cover(box(f, 0.38, 3.0)) * keys.cover(box(keys, 0.05, 0.16)))
    c.paint(WHITE, f.cover(np.maximum(np.maximum(band(f.x, 0.09), band(fold(f.y, 0.45), 0.25)), -0.35 - f.y)))


def storage_tanks(c):
    rng = c.rng
    field(c)
    for x in (-0.5, 0.5):
        for y in (-0.5, 0.5):
            f = c.frame.place(x + rng(-0.06, 0.06), y + rng(-0.06, 0.06), rng(0.75, 1.05))
            paint_with_shadow(c, f, grey(rng(0.75, 0.98)), lambda g: circle(g, 0.38), 0.12)
            c.paint(grey(0.5), f.cover(ring(f, 0.26, 0.06)))


def intersection(c):
    rng = c.rng
    field(c)
    f = c.frame.place(rng(-0.15, 0.15), rng(-0.15, 0.15))
    c.paint(grey(rng(0.25, 0.35)), f.cover(np.minimum(band(f.x, 0.52), band(f.y, 0.52))))
    for g in (f, f.place(angle=np.pi / 2)):
        c.paint(WHITE, g.cover(np.maximum(band(g.y, 0.07), 0.42 - np.abs(g.x))))
        car = g.place(rng(-0.9, 0.9), rng.sign() * 0.14)
        c.paint(hsv(rng(), 0.8, 0.8), car.cover(box(car, 0.13, 0.07)))


AERIAL = (
    airplane, bridge, traffic_circle, baseball_diamond, tennis_court, harbour, parking_lot, runway, storage_tanks,
    intersection,
)  # fmt: skip

# --- vehicles: on the road by day / turned, mirrored, at night or in camouflage --------------------------------------------


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


SEDAN = (
    [[(-0.95, -0.4), (0.95, -0.4), (0.95, -0.1), (0.5, 0.0), (0.25, 0.35), (-0.4, 0.35), (-0.62, 0.0), (-0.95, -0.02)]],
    [[(-0.48, 0.02), (-0.32, 0.26), (-0.1, 0.26), (-0.1, 0.02)], [(0.0, 0.02), (0.0, 0.26), (0.2, 0.26), (0.36, 0.02)]],
    [(-0.55, 0.2), (0.55, 0.2)],
)
HATCHBACK = (
    [[(-0.72, -0.4), (0.78, -0.4), (0.78, -0.08), (0.48, 0.05), (0.2, 0.48), (-0.6, 0.48), (-0.75, 0.0)]],
    [[(-0.58, 0.08), (-0.5, 0.36), (-0.24, 0.36), (-0.24, 0.08)], [(-0.12, 0.08), (-0.12, 0.36), (0.14, 0.36), (0.32, 0.08)]],
    [(-0.42, 0.22), (0.45, 0.22)],
)
PICKUP = (
    [[(-0.95, -0.4), (0.95, -0.4), (0.95, -0.02), (0.58, 0.04), (0.35, 0.45), (-0.08, 0.45), (-0.12, 0.02), (-0.95, 0.02)]],
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
)  # fmt: skip
CONVERTIBLE = (
    [[(-0.95, -0.4), (0.95, -0.4), (0.95, -0.14), (0.35, -0.02), (-0.35, -0.02), (-0.4, 0.1), (-0.95, 0.04)],
     [(0.3, -0.05), (0.1, 0.3), (0.18, 0.3), (0.42, -0.05)]],
    [[(-0.22, -0.05), (-0.22, 0.2), (-0.1, 0.28), (0.0, 0.2), (0.0, -0.05)]],
    [(-0.55, 0.2), (0.55, 0.2)],
)  # fmt: skip
TRACTOR = (
    [block(-0.1, -0.28, 0.85, 0.08), [(-0.65, -0.2), (0.05, -0.2), (0.05, 0.08), (-0.05, 0.72), (-0.62, 0.72)],
     block(0.5, 0.0, 0.6, 0.45)],
    [[(-0.5, 0.14), (-0.5, 0.56), (-0.16, 0.56), (-0.08, 0.14)]],
    [(-0.42, 0.42), (0.66, 0.24)],
)  # fmt: skip
VEHICLES = (SEDAN, HATCHBACK, PICKUP, VAN, BUS, LORRY, CONVERTIBLE, TRACTOR)

# --- scenes: a fine day / fog, dusk or sepia, partly hidden ----------------------------------------------------------------


def scenes(c: Canvas, labels, s):
    rng = c.rng
    c.frame = c.frame.place(rng(-0.3, 0.3), rng(-0.12, 0.12), rng(0.9, 1.15), rng(-0.05, 0.05) + s * rng(-0.15, 0.15))
    c.each(labels, SCENES)
    c.grey(0.75 * s)
    light = np.where(rng()[..., None] < 0.5, near(rng, 0.08, 0.45, 0.8), near(rng, 0.7, 0.45, 0.6))  # sepia or dusk
    c.rgb *= mix(1, light, s)
    c.fade(near(rng, rng(), 0.1, 0.65), s * rng(0.1, 0.45))
    post = Frame.image().place(rng(-1, 1), 0, 1, rng(-0.4, 0.4))
    c.paint(grey(rng(0.05, 0.9)), post.cover(band(post.x, rng(0.2, 0.4))) * s)
    c.blur(s * rng(0, 0.2))
    return c.finish(0.03 + 0.04 * s)


def sky(c):
    """Blue, white or red, paler towards the horizon at y = 0."""
    rng = c.rng
    c.ground(near(rng, np.where(rng() < 0.75, 0.57, 0.05), rng(0.2, 0.6), 0.85))
    c.fade(grey(0.97), np.zeros((c.n, 1, 1)))
    c.paint(grey(0.97), np.clip(0.8 - c.frame.y, 0, 1) * 0.6)


def ground(c, colour, horizon=0.0, depth=0.08):
    f = c.frame
    c.paint(colour, f.cover(f.y - horizon))
    c.shade(1 + depth * waves(c.rng, f, 8.0) * (f.y < horizon))


def beach(c):
    rng, f = c.rng, c.frame
    sky(c)
    ground(c, near(rng, 0.56, 0.6, 0.65), 0.15)
    edge = f.y + rng(0.25, 0.45) + rng(-0.35, 0.35) * f.x + 0.05 * np.sin(6 * f.x + rng(0, TURN))
    c.paint(WHITE, f.cover(edge - 0.1))
    c.paint(near(rng, 0.12, 0.35, 0.85), f.cover(edge))
    g = f.place(rng(-0.5, 0.5), -0.45)  # a sunshade
    c.paint(grey(0.2), g.cover(box(g, 0.04, 0.25)))
    c.paint(hsv(rng(), 0.9, 0.9), g.cover(np.maximum(circle(g, 0.34, 0, 0.15), 0.2 - g.y)))


def mountain(c):
    rng = c.rng
    sky(c)
    for x, top in ((-0.5, 0.6), (0.6, 0.5), (0.05, 0.85)):
        f = c.frame.place(x + rng(-0.15, 0.15), top + rng(-0.12, 0.12))
        slope = (np.abs(f.x) * rng(1.1, 1.5) + f.y + 0.05 * np.sin(14 * f.x + rng(0, TURN))) * 0.6
        c.paint(near(rng, 0.65, 0.2, 0.4), f.cover(slope))
        c.paint(WHITE, f.cover(np.maximum(slope, -0.3 - f.y + 0.08 * np.sin(12 * f.x))))
    ground(c, near(rng, 0.3, 0.4, 0.4), -0.65)


def city_skyline(c):
    rng, f = c.rng, c.frame
    sky(c)
    tone = near(rng, rng(), 0.2, 0.4)
    for k in range(6):
        g = f.place(-1.1 + 0.44 * k + rng(-0.05, 0.05))
        top, front = rng(-0.1, 0.85), tone * rng(0.6, 1.2)[..., None]
        tower = box(g, 0.21, (top + 1.6) / 2, 0, (top - 1.6) / 2)
        c.paint(front, g.cover(tower))
        window = g.repeat(0.19, 0.25)
        c.paint(hsv(0.14, 0.6, 0.95), window.cover(box(window, 0.05, 0.07)) * g.cover(tower + 0.04))


def woods(c):
    rng, f = c.rng, c.frame
    c.ground(near(rng, 0.3, 0.55, 0.5))
    c.paint(near(rng, 0.33, 0.6, 0.25), np.clip(waves(rng, f, 11.0, 5) * 1.5 + f.y, 0, 1))
    ground(c, near(rng, 0.12, 0.5, 0.35), -0.7)
    for k in range(4):
        g = f.place(-0.9 + 0.6 * k + rng(-0.18, 0.18), 0, angle=rng(-0.08, 0.08))
        c.paint(near(rng, 0.07, 0.5, 0.22), g.cover(np.maximum(band(g.x, rng(0.1, 0.22)), -0.85 - g.y)))


def dunes(c):
    rng, f = c.rng, c.frame
    sky(c)
    for y in (0.15, -0.2, -0.6):
        g = f.place(rng(-1, 1), y + rng(-0.1, 0.1))
        c.paint(near(rng, 0.1, 0.5, 0.8), g.cover(g.y - 0.22 * np.abs(np.sin(1.7 * g.x)) + 0.1))
        c.paint(near(rng, 0.08, 0.6, 0.45), g.cover(np.maximum(g.y - 0.22 * np.abs(np.sin(1.7 * g.x)) + 0.1,
                                                               -np.sin(3.4 * g.x) * 0.3)) * 0.7)  # fmt: skip
    g = f.place(rng(-0.7, 0.7), -0.35, rng(0.8, 1.1))  # a cactus
    cactus = np.minimum(stroke(g, [(0.0, -0.3), (0.0, 0.4)], 0.16), stroke(g, [(0.0, -0.05), (0.24, 0.0), (0.24, 0.25)], 0.12))
    c.paint(near(rng, 0.35, 0.6, 0.35), g.cover(np.minimum(cactus, stroke(g, [(0.0, 0.0), (-0.24, 0.05), (-0.24, 0.3)], 0.12))))


def road(c):
    rng, f = c.rng, c.frame
    sky(c)
    ground(c, np.where(rng()[..., None] < 0.5, grass(rng), soil(rng)), 0.1)
    middle = f.x - rng(-0.3, 0.3) * (0.1 - f.y)
    width = np.clip(0.1 - f.y, 0, 2)
    below = f.y - 0.1
    c.paint(grey(rng(0.3, 0.4)), f.cover(np.maximum(np.abs(middle) - 0.75 * width - 0.03, below)))
    c.paint(WHITE, f.cover(np.maximum(np.abs(middle) - 0.1 * width, np.maximum(below, np.sin(18 * np.sqrt(width + 0.1)) * 0.2))))


def crop_field(c):
    """Furrows that meet at a point on the horizon."""
    rng, f = c.rng, c.frame
    sky(c)
    ground(c, near(rng, rng(0.12, 0.28), 0.55, 0.7), 0.15)
    furrow = np.sin(9 * (f.x - rng(-0.5, 0.5)) / (0.35 - np.minimum(f.y, 0.15)))
    c.paint(near(rng, 0.1, 0.6, 0.35), np.clip(0.5 + 1.5 * furrow, 0, 1) * f.cover(f.y - 0.13))


def night_sky(c):
    rng, f = c.rng, c.frame
    c.ground(near(rng, 0.66, 0.6, 0.2))
    for _ in range(9):
        c.paint(WHITE, f.cover(circle(f, rng(0.03, 0.07), rng(-1.1, 1.1), rng(-0.4, 1.0))))
    x, y = rng(-0.6, 0.6), rng(0.2, 0.6)
    c.paint(hsv(0.14, 0.3, 1), f.cover(np.maximum(circle(f, 0.3, x, y), -circle(f, 0.3, x + 0.17, y + 0.08))))
    c.paint(grey(0.04), f.cover(f.y + 0.7 + 0.12 * waves(rng, f, 4.0)))


def lakeside(c):
    """Hills above, and their picture upside down in the water."""
    rng, f = c.rng, c.frame
    sky(c)
    up = np.abs(f.y + 0.05)
    hill = (up - 0.35 - 0.22 * np.sin(f.x * rng(2.0, 3.5) + rng(0, TURN))) * 0.8
    c.paint(near(rng, 0.35, 0.45, 0.4), f.cover(hill))
    mirror = f.cover(f.y + 0.05)
    c.paint(near(rng, 0.58, 0.5, 0.55), mirror * 0.5)
    c.paint(grey(0.95), mirror * np.clip(np.sin(f.y * 26) - 0.4, 0, 1) * 0.5)
    c.paint(grey(0.12), f.cover(band(f.y + 0.05, 0.06)))


def village(c):
    rng, f = c.rng, c.frame
    sky(c)
    ground(c, grass(rng), 0.0)
    for x in (-0.62, 0.55, -0.05):
        g = f.place(x + rng(-0.1, 0.1), -0.3 + rng(-0.15, 0.15), rng(0.85, 1.1))
        c.paint(near(rng, 0.1, 0.2, 0.9), g.cover(box(g, 0.28, 0.24)))
        c.paint(near(rng, 0.02, 0.7, 0.6), g.cover(polygon(g, [(-0.38, 0.22), (0.38, 0.22), (0.0, 0.62)])))
        c.paint(grey(0.2), g.cover(box(g, 0.08, 0.13, 0, -0.11)))


SCENES = (beach, mountain, city_skyline, woods, dunes, road, crop_field, night_sky, lakeside, village)
