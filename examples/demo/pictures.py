"""Pictures of the demo's world: two coloured shapes each. Their features: colours of small thumbnails."""

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
"""Width and height of what the features see."""
INSIDE_SCALE = (1.1, 1.75)
"""A small thing inside a large one: how much both grow, so that both stay visible."""
DIFFERENCES = 3
"""Any two scenes differ in at least so many of their eight attributes."""


def draw_scenes(count: int, seed: int) -> list[Scene]:
    """Draw distinct scenes: colours differ within a scene, and every two scenes in at least `DIFFERENCES` attributes.

    What is inside something is small, and what it is inside of is large.

    Raises:
        ValueError: there is no room for so many scenes.
    """
    tables = [list(SIZES), list(COLOURS), list(SHAPES)] * 2 + [list(RELATIONS), list(BACKGROUNDS)]

    def settle(new: np.ndarray) -> bool:
        if RELATIONS[new[6]] == "inside":
            new[[0, 3]] = list(SIZES).index("small"), list(SIZES).index("large")
        return bool(new[1] != new[4])

    def distance(found: np.ndarray, new: np.ndarray) -> np.ndarray:
        # the same two things the other way round differ in one attribute only: their order
        swapped = new[[3, 4, 5, 0, 1, 2, 6, 7]]
        return np.minimum(count_differences(found, new), count_differences(found, swapped) + 1)

    rows = draw_distinct(tables, count, seed, DIFFERENCES, settle, distance)
    return [Scene(Thing(*row[:3]), Thing(*row[3:6]), row[6], row[7]) for row in rows]


def render(scene: Scene, generator: np.random.Generator) -> Image.Image:
    """A picture of PIXELS x PIXELS, anti-aliased; places and sizes vary a little."""
    scale = 4 * PIXELS
    background = BACKGROUNDS[scene.background]
    picture = Image.new("RGB", (scale, scale), background)
    pen = ImageDraw.Draw(picture)
    things = list(zip((scene.first, scene.second), CENTRES[scene.relation], INSIDE_SCALE, strict=True))
    for thing, (x, y), inside in reversed(things):  # what is inside is drawn last
        radius = SIZES[thing.size] * generator.uniform(0.95, 1.05) * (inside if scene.relation == "inside" else 1)
        shift = generator.uniform(-0.015, 0.015, 2)
        draw(pen, thing, (scale * (x + shift[0]), scale * (y + shift[1])), scale * radius, background)
    return picture.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS)


def features(picture: Image.Image) -> np.ndarray:
    """What colour is where: the pixels of a thumbnail, (THUMBNAIL * THUMBNAIL * 3,) float32 from 0 to 1."""
    small = picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel() / 255


def save(scene: Scene, path: Path, generator: np.random.Generator) -> np.ndarray:
    """Write the scene's picture as PNG.

    Returns:
        its features.
    """
    picture = render(scene, generator)
    picture.save(path)
    return features(picture)
