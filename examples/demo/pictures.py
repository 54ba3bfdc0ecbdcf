"""Pictures of the demo's world, each with two coloured shapes. Their features are the colours of thumbnails."""

from pathlib import Path

import numpy as np
from distinct import count_differences, draw_distinct
from picture_words import Scene, Thing
from PIL import Image, ImageDraw
from shapes import BACKGROUNDS, COLOURS, SHAPES, draw

SIZES = {"small": 0.11, "large": 0.2}
RELATIONS = ("left", "above", "inside")
CENTRES = {"left": ((0.27, 0.5), (0.73, 0.5)), "above": ((0.5, 0.27), (0.5, 0.73)), "inside": ((0.5, 0.5), (0.5, 0.5))}
PIXELS = 128
"""Width and height of a picture."""
THUMBNAIL = 24
"""Width and height of the thumbnails."""
INSIDE_SCALE = (1.1, 1.75)
"""Factors of the sizes of a small thing inside a large one, so that both are visible."""
DIFFERENCES = 3
"""Minimum number of attributes, of eight, in which any two scenes differ."""


def draw_scenes(count: int, seed: int) -> list[Scene]:
    """Draw distinct scenes, which differ in at least `DIFFERENCES` attributes.

    The two things of a scene differ in colour. If one is inside the other, it is small and the other is large.

    Raises:
        ValueError: there are not so many distinct scenes.
    """
    tables = [list(SIZES), list(COLOURS), list(SHAPES)] * 2 + [list(RELATIONS), list(BACKGROUNDS)]

    def settle(new: np.ndarray) -> bool:
        if RELATIONS[new[6]] == "inside":
            new[[0, 3]] = list(SIZES).index("small"), list(SIZES).index("large")
        return bool(new[1] != new[4])

    def distance(found: np.ndarray, new: np.ndarray) -> np.ndarray:
        # the same two things in the other order count as one difference
        swapped = new[[3, 4, 5, 0, 1, 2, 6, 7]]
        return np.minimum(count_differences(found, new), count_differences(found, swapped) + 1)

    rows = draw_distinct(tables, count, seed, DIFFERENCES, settle, distance)
    return [Scene(Thing(*row[:3]), Thing(*row[3:6]), row[6], row[7]) for row in rows]


def render(scene: Scene, generator: np.random.Generator) -> Image.Image:
    """Return a picture of PIXELS x PIXELS, anti-aliased. Positions and sizes vary slightly."""
    scale = 4 * PIXELS
    background = BACKGROUNDS[scene.background]
    picture = Image.new("RGB", (scale, scale), background)
    pen = ImageDraw.Draw(picture)
    things = list(zip((scene.first, scene.second), CENTRES[scene.relation], INSIDE_SCALE, strict=True))
    for thing, (x, y), inside in reversed(things):  # the inner thing is drawn last
        radius = SIZES[thing.size] * generator.uniform(0.95, 1.05) * (inside if scene.relation == "inside" else 1)
        shift = generator.uniform(-0.015, 0.015, 2)
        draw(pen, thing, (scale * (x + shift[0]), scale * (y + shift[1])), scale * radius, background)
    return picture.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS)


def features(picture: Image.Image) -> np.ndarray:
    """Return the pixels of a thumbnail, (THUMBNAIL * THUMBNAIL * 3,) float32 from 0 to 1."""
    small = picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel() / 255


def save(scene: Scene, path: Path, generator: np.random.Generator) -> np.ndarray:
    """Write the scene's picture as PNG.

    Returns:
        Its features.
    """
    picture = render(scene, generator)
    picture.save(path)
    return features(picture)
