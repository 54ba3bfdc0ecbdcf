"""Clips of the demo's world: a coloured shape with two motions in sequence. Their features are small frames."""

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
"""The shapes whose rotation is visible."""
SIZES = {"small": 0.08, "large": 0.15}
STEPS = 8
"""Frames of each of the two motions."""
PIXELS = 96
"""Width and height of a frame."""
THUMBNAIL = 16
"""Width and height of the frames from which features are computed."""
DISTANCE, TURN, GROWTH, SHRINKAGE = 0.32, math.pi, 1.7, 0.45
"""Distance of a movement (1 is the frame's width), angle of a spin, and factors of the size."""
MILLISECONDS, PAUSE = 90, 700
"""Duration of a frame, and of the last one before the clip repeats."""
DIFFERENCES = 2
"""Minimum number of attributes, of six, in which any two clips differ."""


@dataclass(frozen=True)
class Pose:
    """Position of a thing (1 is the frame's width), factor of its size, rotation in radians, and visibility."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    turn: float = 0.0
    visible: bool = True


def draw_scenes(count: int, seed: int) -> list[Clip]:
    """Draw distinct clips. The two motions of a clip differ.

    Raises:
        ValueError: there are not so many distinct clips.
    """
    tables = [SIZES, COLOURS, SHAPES, MOTIONS[0], MOTIONS[0], BACKGROUNDS]
    rows = draw_distinct(tables, count, seed, DIFFERENCES, lambda new: bool(new[3] != new[4]))
    return [Clip(Thing(*row[:3]), *row[3:]) for row in rows]


def move(pose: Pose, motion: str, done: float) -> Pose:
    """Return the pose when the fraction `done`, from 0 to 1, of a motion is complete."""
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
    """Return the pose in each frame. The path is centred in the frame."""
    path = [move(Pose(), clip.first, step / STEPS) for step in range(STEPS)]
    turning = move(Pose(), clip.first, 1)
    path += [move(turning, clip.second, step / STEPS) for step in range(STEPS + 1)]
    middle = [(min(values) + max(values)) / 2 for values in ([p.x for p in path], [p.y for p in path])]
    return [replace(p, x=p.x - middle[0] + 0.5, y=p.y - middle[1] + 0.5) for p in path]


def render(clip: Clip, generator: np.random.Generator) -> list[Image.Image]:
    """Return 2 * STEPS + 1 frames of PIXELS x PIXELS, anti-aliased. Position and size vary slightly."""
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
    """Compute features: the mean of small frames, and the difference of each frame from it.

    Returns:
        ((1 + frames) * THUMBNAIL**2 * 3,) float32, colours from 0 to 1.
    """
    small = [frame.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX) for frame in frames]
    pixels = np.stack([np.asarray(frame, dtype=np.float32).ravel() for frame in small]) / 255
    mean = pixels.mean(0)
    return np.concatenate([mean, (pixels - mean).ravel()])


def save(clip: Clip, path: Path, generator: np.random.Generator) -> np.ndarray:
    """Write the clip as an animated WebP that repeats endlessly.

    Returns:
        Its features.
    """
    frames = render(clip, generator)
    shown = [MILLISECONDS] * (len(frames) - 1) + [PAUSE]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=shown, loop=0, lossless=True, method=0)
    return features(frames)
