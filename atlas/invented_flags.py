"""Flags of countries that do not exist: fields of stripes, crosses and checks; discs, stars, emblems on them."""

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

HEIGHT_PX, WIDTH_PX = 96, 128
OVERSAMPLING = 3
W, H = WIDTH_PX * OVERSAMPLING, HEIGHT_PX * OVERSAMPLING
COLOURS = [
    (206, 17, 38), (178, 24, 43), (237, 41, 57), (255, 99, 25), (245, 166, 35), (252, 209, 22), (255, 236, 120),
    (0, 122, 61), (20, 90, 50), (95, 180, 60), (0, 158, 130), (0, 160, 220), (117, 190, 240), (0, 85, 164),
    (0, 40, 104), (40, 30, 90), (120, 40, 140), (200, 90, 150), (110, 60, 30), (0, 0, 0), (60, 64, 70),
    (255, 255, 255), (255, 255, 255), (240, 232, 210),
]  # fmt: skip
JITTER = 14
Colour = tuple[int, int, int]
Draw = ImageDraw.ImageDraw


def invent_flag(rng: random.Random) -> np.ndarray:
    """A flag, anti-aliased: uint8 [96, 128, 3]."""
    colours = _palette(rng)
    image = Image.new("RGB", (W, H), colours[0])
    draw = ImageDraw.Draw(image)
    rng.choice(FIELDS)(rng, draw, colours)
    if rng.random() < 0.4:
        rng.choice(OVERLAYS)(rng, draw, colours)
    for _ in range(rng.choices((0, 1, 2), (0.25, 0.6, 0.15))[0]):
        _charge(rng, draw, colours)
    return np.asarray(image.reduce(OVERSAMPLING))


def _palette(rng: random.Random) -> list[Colour]:
    """Five colours of which the first four differ clearly."""
    found: list[Colour] = []
    while len(found) < 5:
        red, green, blue = (part + rng.randint(-JITTER, JITTER) for part in rng.choice(COLOURS))
        colour = (min(255, max(0, red)), min(255, max(0, green)), min(255, max(0, blue)))
        if all(sum(abs(a - b) for a, b in zip(colour, other, strict=True)) > 120 for other in found):
            found.append(colour)
    return found


def _edges(rng: random.Random, num: int) -> list[float]:
    """`num` + 1 positions from 0 to 1, equal or of a random rhythm."""
    sizes = [1.0] * num if rng.random() < 0.65 else [rng.choice((1, 1, 2, 3)) for _ in range(num)]
    total, edges = sum(sizes), [0.0]
    for size in sizes:
        edges.append(edges[-1] + size / total)
    return edges


def _stripes(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    num = rng.choice((2, 2, 3, 3, 3, 4, 5, 7, 9))
    edges, vertical = _edges(rng, num), rng.random() < 0.4
    used = colours[: rng.randint(2, 4)]
    for i in range(num):
        start, end = edges[i], edges[i + 1]
        box = (start * W, 0, end * W, H) if vertical else (0, start * H, W, end * H)
        draw.rectangle(box, fill=used[i % len(used)])


def _cross(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    x, width = rng.choice((0.36, 0.5)) * W, rng.uniform(0.1, 0.26) * H
    for colour, half in ((colours[1], width / 2), (colours[2], width / 4))[: rng.randint(1, 2)]:
        draw.rectangle((x - half, 0, x + half, H), fill=colour)
        draw.rectangle((0, H / 2 - half, W, H / 2 + half), fill=colour)


def _saltire(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    if rng.random() < 0.5:
        draw.polygon([(0, 0), (W, 0), (W / 2, H / 2)], fill=colours[2])
        draw.polygon([(0, H), (W, H), (W / 2, H / 2)], fill=colours[2])
    width = int(rng.uniform(0.1, 0.25) * H)
    draw.line((0, 0, W, H), fill=colours[1], width=width)
    draw.line((0, H, W, 0), fill=colours[1], width=width)


def _diagonal(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    rising = rng.random() < 0.5
    draw.polygon([(0, 0), (W, 0), (0, H)] if rising else [(0, 0), (W, 0), (W, H)], fill=colours[1])
    if rng.random() < 0.6:
        ends = (0, H, W, 0) if rising else (0, 0, W, H)
        draw.line(ends, fill=colours[2], width=int(rng.uniform(0.1, 0.3) * H))


def _quarters(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    used = [colours[1], colours[2], colours[2] if rng.random() < 0.5 else colours[3], colours[1]]
    for i, colour in enumerate([colours[0], *used[:3]]):
        left, top = (i % 2) * W / 2, (i // 2) * H / 2
        draw.rectangle((left, top, left + W / 2, top + H / 2), fill=colour)


def _chequers(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    columns, rows = rng.choice(((4, 3), (6, 4), (8, 6), (5, 5), (3, 2)))
    for i in range(columns):
        for j in range(rows):
            if (i + j) % 2:
                box = (i * W / columns, j * H / rows, (i + 1) * W / columns, (j + 1) * H / rows)
                draw.rectangle(box, fill=colours[1])


def _rays(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    num, x, y = rng.choice((6, 8, 12, 16)), rng.choice((0.0, 0.35, 0.5)) * W, rng.choice((0.5, 1.0)) * H
    for i in range(num):
        angles = (2 * math.pi * i / num, 2 * math.pi * (i + 0.5) / num)
        draw.polygon([(x, y), *((x + 2 * W * math.cos(a), y + 2 * W * math.sin(a)) for a in angles)], fill=colours[1])


def _border(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    edge = rng.uniform(0.07, 0.18) * H
    draw.rectangle((edge, edge, W - edge, H - edge), fill=colours[1])


def _waves(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    num, swing, turns = rng.choice((2, 3, 5)), rng.uniform(0.03, 0.08) * H, rng.choice((1, 2, 3))
    for i in range(num):
        top = (i + 1) * H / (num + 1)
        line = [(x, top + swing * math.sin(turns * 2 * math.pi * x / W)) for x in range(0, W + 8, 8)]
        draw.polygon([*line, (W + 8, H), (0, H)], fill=colours[(i + 1) % 4])


def _plain(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    """One colour; what is on it tells the flag."""
    for _ in range(rng.randint(1, 2)):
        _charge(rng, draw, colours)


def _hoist_triangle(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    depth = rng.uniform(0.25, 0.6) * W
    draw.polygon([(0, 0), (depth, H / 2), (0, H)], fill=colours[3])
    if rng.random() < 0.3:
        draw.polygon([(0, 0.2 * H), (0.6 * depth, H / 2), (0, 0.8 * H)], fill=colours[4])


def _canton(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    width, height = rng.uniform(0.3, 0.5) * W, rng.uniform(0.35, 0.55) * H
    draw.rectangle((0, 0, width, height), fill=colours[3])
    rng.choice(SHAPES)(rng, draw, (width / 2, height / 2, min(width, height) * 0.36), colours[4], colours[3])


def _hoist_band(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    draw.rectangle((0, 0, rng.uniform(0.18, 0.4) * W, H), fill=colours[3])


def _lozenge(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    reach = rng.uniform(0.6, 0.95)
    tips = [(W / 2, H / 2 * (1 - reach)), (W / 2 * (1 + reach), H / 2), (W / 2, H / 2 * (1 + reach))]
    draw.polygon([*tips, (W / 2 * (1 - reach), H / 2)], fill=colours[3])


def _fimbriation(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    y, half = rng.choice((0.33, 0.5, 0.67)) * H, rng.uniform(0.02, 0.06) * H
    draw.rectangle((0, y - half, W, y + half), fill=colours[3])


FIELDS: list[Callable] = [
    _stripes, _stripes, _stripes, _stripes, _cross, _saltire, _diagonal, _quarters, _chequers, _rays, _border, _waves,
    _plain, _plain,
]  # fmt: skip
OVERLAYS: list[Callable] = [_hoist_triangle, _hoist_triangle, _canton, _canton, _hoist_band, _lozenge, _fimbriation]

Place = tuple[float, float, float]  # centre and radius, px


def _charge(rng: random.Random, draw: Draw, colours: list[Colour]) -> None:
    """One thing or several alike, in the middle, at the hoist, in a corner or in a row."""
    radius = rng.uniform(0.12, 0.34) * H
    x, y = rng.choice(((0.5, 0.5), (0.5, 0.5), (0.28, 0.5), (0.22, 0.28), (0.72, 0.5), (0.75, 0.72)))
    shape, colour, behind = rng.choice(SHAPES), rng.choice(colours[2:]), rng.choice(colours[:2])
    arrangement = rng.random()
    if arrangement < 0.62:
        shape(rng, draw, (x * W, y * H, radius), colour, behind)
        return
    num, small, seed = rng.choice((2, 3, 4, 5, 6, 8)), radius * 0.4, rng.random()
    for i in range(num):
        angle = 2 * math.pi * i / num - math.pi / 2
        in_row = ((i + 1) / (num + 1) * W, y * H)
        in_ring = (x * W + radius * math.cos(angle), y * H + radius * math.sin(angle))
        centre = in_row if arrangement < 0.8 else in_ring
        shape(random.Random(seed), draw, (*centre, small), colour, behind)


def _disc(rng: random.Random, draw: Draw, place: Place, colour: Colour, behind: Colour) -> None:
    x, y, r = place
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    if rng.random() < 0.3:
        _star(rng, draw, (x, y, r * 0.75), behind, colour)


def _ring(rng: random.Random, draw: Draw, place: Place, colour: Colour, behind: Colour) -> None:
    x, y, r = place
    draw.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=max(3, int(r * rng.uniform(0.15, 0.4))))


def _star(rng: random.Random, draw: Draw, place: Place, colour: Colour, behind: Colour) -> None:
    points, depth = rng.choice((4, 5, 5, 5, 6, 7, 8, 12)), rng.uniform(0.35, 0.6)
    _polar(draw, place, [1.0, depth] * points, colour)


def _sun(rng: random.Random, draw: Draw, place: Place, colour: Colour, behind: Colour) -> None:
    _polar(draw, place, [1.0, 0.65] * rng.choice((10, 14, 18)), colour)
    x, y, r = place
    draw.ellipse((x - r * 0.55, y - r * 0.55, x + r * 0.55, y + r * 0.55), fill=behind)
    draw.ellipse((x - r * 0.45, y - r * 0.45, x + r * 0.45, y + r * 0.45), fill=colour)


def _crescent(rng: random.Random, draw: Draw, place: Place, colour: Colour, behind: Colour) -> None:
    x, y, r = place
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    draw.ellipse((x - r * 0.5, y - r * 0.8, x + r * 1.1, y + r * 0.8), fill=behind)
    if rng.random() < 0.6:
        _star(rng, draw, (x + r * 0.45, y, r * 0.4), colour, behind)


def _plus(rng: random.Random, draw: Draw, place: Place, colour: Colour, behind: Colour) -> None:
    (x, y, r), arm = place, rng.uniform(0.2, 0.4)
    draw.rectangle((x - r, y - r * arm, x + r, y + r * arm), fill=colour)
    draw.rectangle((x - r * arm, y - r, x + r * arm, y + r), fill=colour)


def _triangle(rng: random.Random, draw: Draw, place: Place, colour: Colour, behind: Colour) -> None:
    _polar(draw, place, [1.0] * rng.choice((3, 4, 6)), colour)


def _emblem(rng: random.Random, draw: Draw, place: Place, colour: Colour, behind: Colour) -> None:
    """A blot that is the same left and right: at this size it looks like a coat of arms, a bird or a leaf."""
    half = [rng.uniform(0.25, 1.0) for _ in range(rng.randint(5, 11))]
    _polar(draw, place, [half[0], *half[1:], *reversed(half[1:])], colour)
    if rng.random() < 0.6:
        inner = [radius * rng.uniform(0.3, 0.6) for radius in half]
        _polar(draw, place, [inner[0], *inner[1:], *reversed(inner[1:])], behind)


def _shield(rng: random.Random, draw: Draw, place: Place, colour: Colour, behind: Colour) -> None:
    x, y, r = place
    left, right = x - 0.8 * r, x + 0.8 * r
    draw.polygon([(left, y - r), (right, y - r), (right, y), (x, y + r), (left, y)], fill=colour)
    draw.rectangle((left, y - 0.35 * r, right, y - 0.05 * r), fill=behind)


def _polar(draw: Draw, place: Place, radii: list[float], colour: Colour) -> None:
    """A polygon around the place, from the top clockwise; radii are shares of the place's radius."""
    x, y, r = place
    step = 2 * math.pi / len(radii)
    tips = [
        (x + r * radius * math.sin(i * step), y - r * radius * math.cos(i * step)) for i, radius in enumerate(radii)
    ]
    draw.polygon(tips, fill=colour)


SHAPES: list[Callable] = [_disc, _ring, _star, _star, _sun, _crescent, _plus, _triangle, _emblem, _emblem, _shield]
