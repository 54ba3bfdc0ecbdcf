"""Features that need no weights, no network and no GPU: colours and edges, motion, spectrum.

A row has 1600 dimensions for every modality, so that one catalogue may mix them. Blocks that a file has nothing for
are zero: sounds have no picture blocks, images no motion.

=======  ==========  ====================================================================================
columns  of          what
=======  ==========  ====================================================================================
64       pictures    histogram of RGB, 4 bins a channel, interpolated
192      pictures    layout: mean RGB in 8 x 8 cells
680      pictures    orientations of edges (8, unsigned) in 1, 2 x 2, 4 x 4 and 8 x 8 cells
200      videos      change between frames: where (8 x 8 cells), when (8 stretches), and in which of 8
                     directions edges move (4 x 4 cells)
464      sounds      64 mel bands in dB: mean, deviation, change from frame to frame, means of 4 stretches;
                     histogram of loudness
=======  ==========  ====================================================================================

Pictures are scaled to 128 x 128 pixels. The picture blocks of a video are means over its frames. There is no text side.
To reduce the rows by PCA use `build_identifiers --pca`: its bundle keeps the components for items added later.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from preprocess.encoders.base import FRAMES, Encoder, EncoderSettings, Reader, Tensors
from preprocess.media.frames import load_frames
from preprocess.media.images import load_image
from preprocess.media.reading import reading
from preprocess.media.sounds import load_audio

Floats = NDArray[np.float32]

SIDE, COLOURS, LAYOUT, ORIENTATIONS, GRIDS = 128, 4, 8, 8, (1, 2, 4, 8)
FAINT = 0.002
"""Mean gradient, of pixels from 0 to 1, below which edges fade instead of being scaled to full length."""
STRETCHES, DIRECTION_GRID = 8, 4
RATE, WINDOW, HOP, BANDS, SOUND_STRETCHES, LOUDNESS = 16000, 512, 160, 64, 4, 16
FLOOR = -80.0
"""Decibels below full scale that count as silence."""
BLOCK = 4096
"""Frames of a sound in memory at a time."""

PICTURE = COLOURS**3 + 3 * LAYOUT**2 + ORIENTATIONS * sum(grid**2 for grid in GRIDS)
MOTION = LAYOUT**2 + STRETCHES + ORIENTATIONS * DIRECTION_GRID**2
SOUND = BANDS * (3 + SOUND_STRETCHES) + LOUDNESS
DIMENSION = PICTURE + MOTION + SOUND


def pixels_of(image: Any) -> Floats:
    """(128, 128, 3) float32 from 0 to 1 of an RGB image of any size."""
    from PIL import Image

    values = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    return values / np.float32(255)


def cells(values: Floats, grid: int) -> Floats:
    """(128, 128, C) -> (grid * grid, C) means of square cells, row by row."""
    size = SIDE // grid
    return values.reshape(grid, size, grid, size, -1).mean(axis=(1, 3)).reshape(grid * grid, -1)


def memberships(positions: Floats, bins: int, circular: bool) -> Floats:
    """Linear interpolation between neighbouring bins.

    Args:
        positions: (...), in bins: from 0 to `bins` of a circle, else to `bins` - 1.

    Returns:
        (..., bins) weights, which sum to 1.

    >>> memberships(np.float32([0.25, 2.0]), 3, circular=False).tolist()
    [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]
    """
    distance = np.abs(positions[..., None] - np.arange(bins, dtype=np.float32))
    if circular:
        distance = np.minimum(distance, bins - distance)
    return np.maximum(0, 1 - distance)


def gradient(grey: Floats) -> tuple[Floats, Floats]:
    """Change of (128, 128) values down and to the right, a pixel."""
    down, right = np.gradient(grey)
    return np.asarray(down, dtype=np.float32), np.asarray(right, dtype=np.float32)


def oriented(weights: Floats, angles: Floats, turn: float) -> Floats:
    """(128, 128) weights shared out among eight angles of a circle of `turn` radians: (128, 128, 8)."""
    positions = (angles % turn) * (ORIENTATIONS / turn)
    return weights[..., None] * memberships(positions, ORIENTATIONS, circular=True)


def picture_features(pixels: Floats) -> Floats:
    """(128, 128, 3) -> (936,) float32: colours, layout, edges; each of them of length 1 at most."""
    flat = memberships(pixels.reshape(-1, 3) * (COLOURS - 1), COLOURS, circular=False)
    red_green = (flat[:, 0, :, None] * flat[:, 1, None, :]).reshape(len(flat), -1)
    colours = np.sqrt((red_green.T @ flat[:, 2]).ravel() / len(flat))
    layout = (cells(pixels, LAYOUT) * 2 - 1).ravel() / np.sqrt(3 * LAYOUT**2)
    down, right = gradient(pixels.mean(axis=-1))
    edges = oriented(np.hypot(down, right), np.arctan2(down, right), np.pi)
    levels = [cells(edges, grid).ravel() / grid**2 for grid in GRIDS]  # shares of the mean gradient
    levels = [np.sqrt(level / max(FAINT, float(level.sum())) / len(GRIDS)) for level in levels]
    return np.concatenate([colours, layout, *levels])


def motion_features(frames: Sequence[Floats]) -> Floats:
    """(128, 128, 3) each -> (200,) float32: where, when and in which direction they differ from one to the next.

    Roots of means, zero where nothing moves. Of one frame all are zero.
    """
    grey = [frame.mean(axis=-1) for frame in frames]
    if len(grey) < 2:
        return np.zeros(MOTION, dtype=np.float32)
    where, when = np.zeros(LAYOUT**2, dtype=np.float32), []
    directions = np.zeros((DIRECTION_GRID**2, ORIENTATIONS), dtype=np.float32)
    for before, after in itertools.pairwise(grey):
        change = after - before
        down, right = gradient((before + after) / 2)
        # where brightness rises, what moves goes against the gradient
        angles = np.arctan2(-change * down, -change * right)
        moving = np.abs(change) * (np.hypot(down, right) > 0)
        where += cells(np.abs(change)[..., None], LAYOUT).ravel() / (len(grey) - 1)
        directions += cells(oriented(moving, angles, 2 * np.pi), DIRECTION_GRID) / (len(grey) - 1)
        when.append(float(np.abs(change).mean()))
    stretches = np.interp(np.linspace(0, 1, STRETCHES), np.linspace(0, 1, len(when)), when)
    parts = [where / len(where), stretches / STRETCHES, directions.ravel() / len(directions)]
    return np.sqrt(np.concatenate(parts)).astype(np.float32)


def mel_filters() -> Floats:
    """(257, 64) float32: triangles of equal width on the mel scale, 2595 log10(1 + f / 700), from 0 to 8000 Hz."""
    edges = 700 * (10 ** (np.linspace(0, np.log10(1 + RATE / 2 / 700), BANDS + 2)) - 1)
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def levels_of(samples: Floats) -> Floats:
    """(samples,) at 16 kHz -> (frames, 64) float32: each mel band's level from 0 (-80 dB or less) to 1 (full scale).

    Windows of 32 ms are centred on every 10 ms from the beginning on, with silence around the sound.
    """
    padded = np.pad(samples, WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    shape, filters = np.hanning(WINDOW).astype(np.float32), mel_filters()
    levels = np.empty((len(windows), BANDS), dtype=np.float32)
    for start in range(0, len(windows), BLOCK):
        spectra = np.fft.rfft(windows[start : start + BLOCK] * shape) / (shape.sum() / 2)
        decibels = 10 * np.log10(np.abs(spectra) ** 2 @ filters + 1e-12)
        levels[start : start + BLOCK] = np.clip(1 - decibels / FLOOR, 0, 1)
    return levels


def sound_features(samples: Floats) -> Floats:
    """(samples,) at 16 kHz -> (464,) float32: statistics of mel bands; of silence only the loudness is not zero."""
    levels = levels_of(samples)
    ends = np.linspace(0, len(levels), SOUND_STRETCHES + 1).astype(int)
    # of fewer frames than stretches some stand for two
    stretches = [levels[min(start, end - 1) : end].mean(axis=0) for start, end in zip(ends, np.maximum(1, ends[1:]))]
    change = np.abs(np.diff(levels, axis=0)).mean(axis=0) if len(levels) > 1 else np.zeros(BANDS, dtype=np.float32)
    statistics = np.concatenate([levels.mean(axis=0), levels.std(axis=0), change, *stretches]) / np.sqrt(BANDS)
    loudness = memberships(levels.max(axis=1) * (LOUDNESS - 1), LOUDNESS, circular=False).mean(axis=0)
    return np.concatenate([statistics, np.sqrt(loudness)]).astype(np.float32)


def row(picture: Floats | None = None, motion: Floats | None = None, sound: Floats | None = None) -> Tensors:
    """`features` (1, 1600) float32, zero where there is nothing."""
    parts = [(picture, PICTURE), (motion, MOTION), (sound, SOUND)]
    values = [np.zeros(size, dtype=np.float32) if part is None else part for part, size in parts]
    return {"features": torch.from_numpy(np.concatenate(values).astype(np.float32))[None]}


@dataclasses.dataclass(frozen=True)
class PlainReader(Reader):
    """All of the work: features are computed where files are read, in as many processes as read."""

    def __call__(self, modality: str, path: str | Path) -> Tensors:
        """The features of one file."""
        with reading(path, modality):
            if modality == "audio":
                return self.sound(load_audio(path, RATE))
            return self.pictures([load_image(path)] if modality == "image" else load_frames(path, self.frames))

    def pictures(self, images: Sequence[Any]) -> Tensors:
        """The features of an image, or of the frames of a video."""
        frames = [pixels_of(image) for image in images]
        picture = np.mean([picture_features(frame) for frame in frames], axis=0)
        return row(picture=picture, motion=motion_features(frames))

    def sound(self, samples: NDArray[np.float32]) -> Tensors:
        """The features of a sound."""
        return row(sound=sound_features(samples))


class PlainEncoder(Encoder):
    """Gives the reader's features length 1."""

    def __init__(self, settings: EncoderSettings):
        reader = PlainReader(frames=settings.frames or FRAMES)
        super().__init__(torch.nn.Identity(), reader, ("image", "audio", "video"), DIMENSION, settings)

    def media_features(self, modality: str, inputs: Tensors) -> torch.Tensor:
        """What the reader computed."""
        return inputs["features"]

    def text_features(self, texts: list[str], searched: str) -> torch.Tensor:
        """Refused: there is no text side."""
        raise ValueError("encoder plain: has no text side; choose another encoder for texts")

    def check(self, modality: str) -> None:
        """Refuse texts."""
        if modality == "text":
            self.text_features([], modality)
        super().check(modality)


def load(name: str, settings: EncoderSettings) -> PlainEncoder:
    """The encoder; there is nothing to load.

    Raises:
        ValueError: a model is named.
    """
    if name:
        raise ValueError(f"encoder 'plain:{name}': has no weights, so it takes no name; write plain")
    return PlainEncoder(settings)
