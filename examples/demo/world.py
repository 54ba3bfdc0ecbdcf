"""A small world drawn by this program: two coloured shapes a picture, described in words (step 1 of `make demo`).

    python examples/demo/world.py OUT [--items 1200] [--seed 1]

OUT gets `media/*.png`, `embeddings.npy` (principal components of the pixels), `items.jsonl` and `captions.jsonl`, in the
formats that every other data set has. No item has a split: all of them compete for every query, and all are trained
on; what is held out is the phrasing of the queries (`phrasings.py`).
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from phrasings import TEST, TRAIN, VALID, Scene, Thing, captions
from PIL import Image, ImageDraw
from sklearn.decomposition import PCA

from cart_fairseq.files import replacing, run_script

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
SIZES = {"small": 0.11, "large": 0.2}
RELATIONS = ("left", "above", "inside")
CENTRES = {"left": ((0.27, 0.5), (0.73, 0.5)), "above": ((0.5, 0.27), (0.5, 0.73)), "inside": ((0.5, 0.5), (0.5, 0.5))}
PIXELS = 128
"""Width and height of a picture."""
INSIDE_SCALE = (1.1, 1.75)
"""A small thing inside a large one: how much both grow, so that both stay visible."""
DIFFERENCES = 3
"""Any two scenes differ in at least so many of their eight attributes."""
TRAIN_CAPTIONS, VALID_QUERIES, TEST_QUERIES = 6, 200, 600


def draw_scenes(count: int, seed: int) -> list[Scene]:
    """Draw distinct scenes: colours differ within a scene, and every two scenes in at least `DIFFERENCES` attributes.

    What is inside something is small, and what it is inside of is large.

    Raises:
        ValueError: there is no room for so many scenes.
    """
    generator = np.random.default_rng(seed)
    tables = [list(SIZES), list(COLOURS), list(SHAPES)] * 2 + [list(RELATIONS), list(BACKGROUNDS)]
    found = np.empty((0, len(tables)), dtype=np.int64)
    for _ in range(200 * count):
        if len(found) == count:
            break
        new = np.array([generator.integers(len(table)) for table in tables])
        if RELATIONS[new[6]] == "inside":
            new[[0, 3]] = list(SIZES).index("small"), list(SIZES).index("large")
        swapped = new[[3, 4, 5, 0, 1, 2, 6, 7]]
        # the same two things the other way round differ in one attribute only: their order
        apart = np.minimum((found != new).sum(1), (found != swapped).sum(1) + 1)
        if new[1] != new[4] and (apart >= DIFFERENCES).all():
            found = np.vstack([found, new])
    if len(found) < count:
        raise ValueError(f"--items is {count}; this world has room for about {len(found)} scenes that differ enough")
    words = [[table[value] for table, value in zip(tables, row, strict=True)] for row in found]
    return [Scene(Thing(*row[:3]), Thing(*row[3:6]), row[6], row[7]) for row in words]


def outline(shape: str) -> list[tuple[float, float]]:
    """Corners of a shape around (0, 0) within the unit circle; a circle has many."""
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

        def place(points: Sequence[tuple[float, float]], r: float, cx: float, cy: float) -> list[tuple[float, float]]:
            return [(scale * (cx + r * px), scale * (cy + r * py)) for px, py in points]

        cx, cy = x + shift[0], y + shift[1]
        pen.polygon(place(outline(thing.shape), radius, cx, cy), fill=COLOURS[thing.colour])
        if thing.shape == "ring":
            pen.polygon(place(outline("circle"), 0.55 * radius, cx, cy), fill=background)
    return picture.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS)


def embed(pictures: Sequence[Image.Image], components: int = 192, seed: int = 0) -> np.ndarray:
    """Principal components of small thumbnails: what colour is where, and in which form.

    Returns:
        (N, components) float32, fewer where there are fewer pictures.
    """
    pixels = np.stack([np.asarray(p.resize((24, 24), Image.Resampling.BOX), dtype=np.float32) for p in pictures])
    flat = pixels.reshape(len(pictures), -1) / 255
    pca = PCA(min(components, *flat.shape), svd_solver="randomized", random_state=seed)
    return pca.fit_transform(flat).astype(np.float32)


def write_lines(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write one JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_world(output: str | Path, items: int, seed: int) -> None:
    """Write pictures, embeddings, items and captions into a folder, atomically."""
    generator = np.random.default_rng((seed, 1))
    scenes = draw_scenes(items, seed)
    names = [f"scene-{row:04d}" for row in range(items)]
    rows = []
    measured = generator.permutation(items)
    valid, test = set(measured[:VALID_QUERIES].tolist()), set(measured[-TEST_QUERIES:].tolist())
    with replacing(output, directory=True) as new:
        (new / "media").mkdir()
        pictures = []
        for row, (name, scene) in enumerate(zip(names, scenes, strict=True)):
            pictures.append(render(scene, generator))
            pictures[-1].save(new / "media" / f"{name}.png", optimize=True)
            texts = [(text, "train", "train") for text in captions(scene, TRAIN, TRAIN_CAPTIONS, generator)]
            if row in valid:
                texts += [(text, "query", "valid") for text in captions(scene, VALID, 1, generator)]
            if row in test:
                texts += [(text, "query", "test") for text in captions(scene, TEST, 1, generator)]
            for number, (text, role, split) in enumerate(texts):
                caption_id = f"{name}#{number}"
                rows.append({"item_id": name, "caption_id": caption_id, "text": text, "role": role, "split": split})
        np.save(new / "embeddings.npy", embed(pictures, seed=seed), allow_pickle=False)
        media = [{"item_id": name, "modality": "image", "media": f"media/{name}.png"} for name in names]
        write_lines(new / "items.jsonl", media)
        write_lines(new / "captions.jsonl", rows)
    counts = {split: sum(row["split"] == split for row in rows) for split in ("train", "valid", "test")}
    print(
        f"{items:,} pictures in {output}, {counts['train']:,} training captions, "
        f"{counts['valid']:,} valid and {counts['test']:,} test queries in other phrasings"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and draw the world."""
    parser = argparse.ArgumentParser(description="Draw the demo's pictures and describe them.")
    parser.add_argument("output", help="folder to write; one that exists is replaced")
    parser.add_argument("--items", type=int, default=1200, help="how many pictures (default: 1200)")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives another world (default: 1)")
    args = parser.parse_args(argv)
    if args.items < 1:
        parser.error(f"--items is {args.items}; draw at least 1")
    make_world(args.output, args.items, args.seed)


if __name__ == "__main__":
    run_script(main)
