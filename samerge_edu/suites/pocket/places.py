"""In-domain tasks that show a place: land cover and aerial scenes from above, landscapes from the ground.

Each painter gets a canvas, the labels (n,) and s, how far the style is from the web's. s = 0 is the web: bright, clear,
colourful. s = 1 is the task's own style, which the base model hardly met.
"""

from __future__ import annotations

import numpy as np

from samerge_edu.suites.pocket.draw import (
    TURN,
    WHITE,
    Canvas,
    Frame,
    band,
    box,
    circle,
    fold,
    grey,
    hsv,
    mix,
    near,
    polygon,
    ring,
    stroke,
    waves,
)

# --- land cover: a clear day / haze, false colours, grain -----------------------------------------


def land_cover(c: Canvas, labels, s):
    rng = c.rng
    c.frame = c.frame.place(rng(-0.3, 0.3), rng(-0.3, 0.3), rng(0.8, 1.15), rng(0, TURN))
    c.each(labels, LAND)
    c.swap_channels(s * rng(0.4, 1.0))
    c.rgb = np.where((rng() < 0.3 * s)[..., None], 1 - c.rgb, c.rgb)  # some are negatives
    c.blur(s * rng(0, 0.2))
    c.fade(near(rng, 0.58, 0.15, 0.75), 0.05 + s * rng(0.2, 0.55))
    return c.finish(0.04 + 0.06 * s)


def soil(rng):
    return near(rng, 0.1, 0.45, 0.6)


def grass(rng):
    return near(rng, 0.26, 0.5, 0.55)


def grass_or_soil(rng):
    return np.where(rng()[..., None] < 0.5, grass(rng), soil(rng))


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
    rough(c, grass_or_soil(rng))
    bend = f.y - rng(-0.3, 0.3) - rng(0.2, 0.4) * np.sin(f.x * rng(2.0, 3.5) + rng(0, TURN))
    width = rng(0.25, 0.45)
    c.paint(near(rng, 0.14, 0.3, 0.7), f.cover(band(bend, width + 0.2)))
    c.paint(water(rng), f.cover(band(bend, width)))


def highway(c):
    rng = c.rng
    rough(c, grass_or_soil(rng))
    f = c.frame.place(0, rng(-0.3, 0.3))
    c.paint(near(rng, 0.1, 0.1, 0.8), f.cover(band(f.y, 0.62)))
    c.paint(grey(rng(0.35, 0.5)), f.cover(band(f.y, 0.5)))
    c.paint(WHITE, f.cover(np.maximum(band(f.y, 0.07), band(fold(f.x, 0.4), 0.24))))
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
    rough(c, grass_or_soil(rng))
    shore = (np.hypot(f.x, f.y * rng(0.8, 1.4)) - rng(0.6, 0.85) + 0.12 * waves(rng, f, 4.0)) * 0.8
    c.paint(near(rng, 0.14, 0.3, 0.8), f.cover(shore - 0.08))
    c.paint(water(rng), f.cover(shore))


def orchard(c):
    rng, f = c.rng, c.frame
    rough(c, grass_or_soil(rng))
    tree = f.repeat(rng(0.38, 0.5))
    c.paint(grey(0.1), tree.cover(circle(tree, 0.12, 0.06, -0.06)) * 0.7)
    c.paint(near(rng, 0.3, 0.65, 0.3), tree.cover(circle(tree, 0.13)))


def desert(c):
    rng, f = c.rng, c.frame
    c.ground(near(rng, 0.1, 0.45, 0.78))
    crest = fold(f.x + 0.12 * waves(rng, f, 3.0), rng(0.5, 0.75))  # dunes: a slow rise, a sharp fall
    c.shade(1 + rng(0.5, 0.8) * crest)


LAND = (forest, river, highway, residential, industrial, annual_crop, pasture, lake, orchard, desert)

# --- aerial scenes: straight from above / smaller, turned, in other light -------------------------


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
    rough(c, grass_or_soil(rng))
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
            car = f.place(offset, y)
            c.paint(near(rng, rng(), rng(0.1, 0.9), 0.8), car.cover(box(car, 0.1, 0.17)) * (rng() < 0.85))


def runway(c):
    rng, f = c.rng, c.frame
    rough(c, grass_or_soil(rng), 0.08, 4.0)
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

# --- scenes: a fine day / fog, dusk or sepia, partly hidden ---------------------------------------


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
        dune = g.y - 0.22 * np.abs(np.sin(1.7 * g.x)) + 0.1
        lee = np.maximum(dune, -0.3 * np.sin(3.4 * g.x))  # the side away from the sun
        c.paint(near(rng, 0.1, 0.5, 0.8), g.cover(dune))
        c.paint(near(rng, 0.08, 0.6, 0.45), g.cover(lee) * 0.7)
    g = f.place(rng(-0.7, 0.7), -0.35, rng(0.8, 1.1))
    trunk = stroke(g, [(0.0, -0.3), (0.0, 0.4)], 0.16)
    arms = stroke(g, [(-0.24, 0.3), (-0.24, 0.05), (0.0, 0.0), (0.24, 0.0), (0.24, 0.25)], 0.12)
    c.paint(near(rng, 0.35, 0.6, 0.35), g.cover(np.minimum(trunk, arms)))  # a cactus


def road(c):
    rng, f = c.rng, c.frame
    sky(c)
    ground(c, grass_or_soil(rng), 0.1)
    below = 0.1 - f.y  # the road widens with the distance below the horizon
    middle = np.abs(f.x - rng(-0.3, 0.3) * below)
    c.paint(grey(rng(0.3, 0.4)), f.cover(np.maximum(middle - 0.75 * below - 0.03, -below)))
    dashes = 0.2 * np.sin(18 * np.sqrt(np.maximum(below, 0) + 0.1))
    c.paint(WHITE, f.cover(np.maximum(np.maximum(middle - 0.1 * below, -below), dashes)))


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
