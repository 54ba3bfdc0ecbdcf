"""Shapes and colours of pictures and clips."""

import math
from collections.abc import Sequence

from picture_words import Thing
from PIL import ImageDraw

COLOURS = {
    "red": (214, 40, 40),
    "orange": (247, 127, 0),
    "yellow": (250, 210, 30),
    "green": (42, 150, 70),
    "blue": (30, 96, 210),
    "purple": (120, 60, 170),
    "pink": (245, 130, 190),
    "brown": (121, 76, 40),
}
BACKGROUNDS = {
    "white": (255, 255, 255),
    "grey": (176, 178, 184),
    "black": (16, 16, 20),
    "beige": (236, 219, 190),
    "turquoise": (120, 214, 205),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "diamond")


def outline(shape: str) -> list[tuple[float, float]]:
    """Return the corners of a shape around (0, 0). Circles are polygons with many corners."""
    turn = 2 * math.pi
    if shape in ("circle", "ring"):
        return [(math.cos(turn * i / 90), math.sin(turn * i / 90)) for i in range(90)]
    if shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if shape == "triangle":
        return [(0.0, -1.0), (1.0, 0.8), (-1.0, 0.8)]
    if shape == "diamond":
        return [(0.0, -1.15), (0.75, 0.0), (0.0, 1.15), (-0.75, 0.0)]
    if shape == "star":
        radii = [1.15 if i % 2 == 0 else 0.45 for i in range(10)]
        return [(r * math.sin(turn * i / 10), -r * math.cos(turn * i / 10)) for i, r in enumerate(radii)]
    if shape == "cross":
        arm = [(-0.32, -1.0), (0.32, -1.0), (0.32, -0.32)]
        return [point for quarter in range(4) for point in _rotated(arm, quarter)]
    angles = [turn * i / 90 for i in range(90)]  # heart
    return [
        (
            math.sin(a) ** 3,
            -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 16,
        )
        for a in angles
    ]


def _rotated(points: Sequence[tuple[float, float]], quarters: int) -> list[tuple[float, float]]:
    for _ in range(quarters):
        points = [(-y, x) for x, y in points]
    return list(points)


def draw(
    pen: ImageDraw.ImageDraw,
    thing: Thing,
    centre: tuple[float, float],
    radius: float,
    background: tuple[int, int, int],
    turn: float = 0.0,
) -> None:
    """Draw a thing. A ring has the background colour inside.

    Args:
        centre: x and y, in pixels.
        radius: scale of the unit circle, in pixels.
        background: colour inside a ring.
        turn: clockwise rotation, in radians.
    """
    cos, sin = math.cos(turn), math.sin(turn)

    def place(points: Sequence[tuple[float, float]], r: float) -> list[tuple[float, float]]:
        return [(centre[0] + r * (x * cos - y * sin), centre[1] + r * (x * sin + y * cos)) for x, y in points]

    pen.polygon(place(outline(thing.shape), radius), fill=COLOURS[thing.colour])
    if thing.shape == "ring":
        pen.polygon(place(outline("circle"), 0.55 * radius), fill=background)
