"""Clips of the demo's world: a coloured shape that does two things in turn. Their features: small frames."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from clip_words import MOTIONS, Clip
from distinct import draw_distinct
from picture_words import Thing
from PIL import Image, ImageDraw
from shapes import BACKGROUNDS, COLOURS, draw

SHAPES = ("square", "triangle", "star", "cross", "heart", "diamond")
"""Those that one sees spin."""
SIZES = {"small": 0.08, "large": 0.15}
STEPS = 8
"""Frames of each of the two motions."""
PIXELS = 96
"""Width and height of a frame."""
THUMBNAIL = 16
"""Width and height of the frames that the features see."""
DISTANCE, TURN, GROWTH, SHRINKAGE = 0.32, math.pi, 1.7, 0.45
"""How far a thing moves (1 is the frame's width), how much it spins, and by how much its size is multiplied."""
MILLISECONDS, PAUSE = 90, 700
"""How long frames are shown, and the last one before the clip begins again."""
DIFFERENCES = 2
"""Any two clips differ in at least so many of their six attributes."""


@dataclass(frozen=True)
class Pose:
    """Where a thing is (1 is the frame's width), its size as a factor, its turn in radians, and whether one sees it."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    turn: float = 0.0
    visible: bool = True


def draw_scenes(count: int, seed: int) -> list[Clip]:
    """Draw distinct clips, in each of which two different things happen.

    Raises:
        ValueError: there is no room for so many.
    """
    tables = [SIZES, COLOURS, SHAPES, MOTIONS[0], MOTIONS[0], BACKGROUNDS]
    rows = draw_distinct(tables, count, seed, DIFFERENCES, lambda new: bool(new[3] != new[4]))
    return [Clip(Thing(*row[:3]), *row[3:]) for row in rows]


def move(pose: Pose, motion: str, done: float) -> Pose:
    """The pose when so much of a motion, from 0 to 1, is done."""
    if motion in ("right", "left"):
        return replace(pose, x=pose.x + (DISTANCE if motion == "right" else -DISTANCE) * done)
    if motion in ("down", "up"):
        return replace(pose, y=pose.y + (DISTANCE if motion == "down" else -DISTANCE) * done)
    if motion == "spin":
        return replace(pose, turn=pose.turn + TURN * done)
    if motion in ("grow", "shrink"):
        return replace(pose, scale=pose.scale * (GROWTH if motion == "grow" else SHRINKAGE) ** done)
    return replace(pose, visible=done == 1 or round(done * STEPS) % 4 in (0, 3))  # flash


def poses(clip: Clip) -> list[Pose]:
    """The pose in each frame; the whole path is in the middle of the picture."""
    path = [move(Pose(), clip.first, step / STEPS) for step in range(STEPS)]
    turning = move(Pose(), clip.first, 1)
    path += [move(turning, clip.second, step / STEPS) for step in range(STEPS + 1)]
    middle = [(min(values) + max(values)) / 2 for values in ([p.x for p in path], [p.y for p in path])]
    return [replace(p, x=p.x - middle[0] + 0.5, y=p.y - middle[1] + 0.5) for p in path]


def render(clip: Clip, generator: np.random.Generator) -> list[Image.Image]:
    """2 * STEPS + 1 frames of PIXELS x PIXELS, anti-aliased; place and size vary a little."""
    scale = 3 * PIXELS
    background = BACKGROUNDS[clip.background]
    radius = SIZES[clip.thing.size] * generator.uniform(0.95, 1.05)
    shift = generator.uniform(-0.015, 0.015, 2)
    frames = []
    for pose in poses(clip):
        frame = Image.new("RGB", (scale, scale), background)
        if pose.visible:
            centre = (scale * (pose.x + shift[0]), scale * (pose.y + shift[1]))
            draw(ImageDraw.Draw(frame), clip.thing, centre, scale * radius * pose.scale, background, pose.turn)
        frames.append(frame.resize((PIXELS, PIXELS), Image.Resampling.BOX))
    return frames


def features(frames: list[Image.Image]) -> np.ndarray:
    """What colour is where, and what changes when: the mean of small frames, and how each differs from it.

    Returns:
        ((1 + frames) * THUMBNAIL**2 * 3,) float32, colours from 0 to 1.
    """
    small = [frame.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX) for frame in frames]
    pixels = np.stack([np.asarray(frame, dtype=np.float32).ravel() for frame in small]) / 255
    mean = pixels.mean(0)
    return np.concatenate([mean, (pixels - mean).ravel()])


def save(clip: Clip, path: Path, generator: np.random.Generator) -> np.ndarray:
    """Write the clip as an animated WebP that repeats for ever.

    Returns:
        its features.
    """
    frames = render(clip, generator)
    shown = [MILLISECONDS] * (len(frames) - 1) + [PAUSE]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=shown, loop=0, lossless=True, method=0)
    return features(frames)
