"""Frames of videos and animations as encoders and captioners take them: RGB images.

PyAV reads videos, Pillow animations; both come with the extra `[media]` and are imported when first needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from preprocess.media.containers import opened
from preprocess.media.images import to_rgb
from preprocess.media.reading import REPLACE, MediaError, reading, refuse_late

if TYPE_CHECKING:
    from PIL.Image import Image

ANIMATIONS = (".gif", ".webp", ".apng", ".png")
"""Suffixes of files whose frames Pillow reads."""


def load_frames(path: str | Path, count: int) -> list[Image]:
    """Read frames of a video evenly: those shown in the middle of `count` stretches of equal length.

    A video of fewer frames gives some of them several times; one frame is asked from the middle of the video.

    Args:
        path: a video file, or an animated GIF, WebP or PNG.
        count: how many frames, at least 1.

    Returns:
        `count` RGB images, in order of time.

    Raises:
        MediaError: the file is missing, damaged or has no pictures.
    """
    return load_frames_at(path, ((np.arange(count) + 0.5) / count).tolist())


def load_frames_at(path: str | Path, positions: Sequence[float], seconds: bool = False) -> list[Image]:
    """Read the frames that are shown at certain times of a video.

    Args:
        path: as of `load_frames`.
        positions: in any order; shares of the video's length from 0 to 1 or, with `seconds`, seconds from its start.
            Times after the end give the last frame.

    Returns:
        One RGB image a position.
    """
    with reading(path, "video"):
        animation = Path(path).suffix.lower() in ANIMATIONS
        order = np.argsort(positions, kind="stable")
        rising = np.asarray(positions, dtype=np.float64)[order]
        shown = animation_frames(path, rising, seconds) if animation else video_frames(path, rising, seconds)
        return [shown[rank] for rank in np.argsort(order)]


def video_frames(path: str | Path, positions: NDArray[np.float64], seconds: bool) -> list[Image]:
    """`load_frames_at` of a video, at rising positions; everything before the last one is decoded."""
    starts, end = frame_times(path)
    times = starts[0] + positions * (1 if seconds else end - starts[0])
    shown: list[Image] = []
    with opened(path) as container:
        last = None
        for frame in container.decode(video=0):
            refuse_late()
            while last is not None and len(shown) < len(times) and times[len(shown)] < frame.time:
                shown.append(last.to_image())
            if len(shown) == len(times):
                break
            last = frame
    if last is None:
        raise MediaError(f"{path}: no frame could be decoded; {REPLACE}")
    return shown + [last.to_image() for _ in times[len(shown) :]]


def video_seconds(path: str | Path) -> float:
    """Length of a video in seconds, from its first frame to the end of its last.

    Raises:
        MediaError: as `load_frames`.
    """
    with reading(path, "video"):
        if Path(path).suffix.lower() in ANIMATIONS:
            return float(animation_ends(path)[-1])
        starts, end = frame_times(path)
        return float(end - starts[0])


def frame_times(path: str | Path) -> tuple[NDArray[np.float64], float]:
    """Seconds at which each frame of a video begins, rising, and at which the last one ends.

    Read from the packets without decoding, because what headers say of length and number of frames is often missing
    and, in files that were cut off, wrong.
    """
    with opened(path) as container:
        if not container.streams.video:
            raise MediaError(f"{path}: has no video track; {REPLACE}")
        stream = container.streams.video[0]
        stamps = []
        for packet in container.demux(stream):
            refuse_late()
            if packet.size:
                stamps.append(packet.pts if packet.pts is not None else packet.dts)
        known = np.sort(np.array([stamp for stamp in stamps if stamp is not None], dtype=np.int64))
        starts = known.astype(np.float64) * float(stream.time_base or 0)
    if not len(starts):
        raise MediaError(f"{path}: has no frames with times; convert it with ffmpeg or leave it out")
    length = float(np.median(np.diff(starts))) if len(starts) > 1 else 0.0
    return starts, float(starts[-1]) + length


def animation_ends(path: str | Path) -> NDArray[np.float64]:
    """Seconds at which each frame of an animated image ends; frames without a duration count a tenth of a second."""
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        durations: list[Any] = []
        for frame in ImageSequence.Iterator(image):
            refuse_late()
            frame.load()  # the durations of WebP are known only then
            durations.append(frame.info.get("duration") or 100)
    return np.cumsum(durations) / 1000.0


def animation_frames(path: str | Path, positions: NDArray[np.float64], seconds: bool) -> list[Image]:
    """`load_frames_at` of an animated image, at rising positions."""
    from PIL import Image

    ends = animation_ends(path)
    times = positions * (1 if seconds else ends[-1])
    wanted = np.minimum(np.searchsorted(ends, times, side="right"), len(ends) - 1).tolist()
    shown = []
    with Image.open(path) as image:
        for index in range(wanted[-1] + 1):
            refuse_late()
            image.seek(index)
            image.load()
            shown += [to_rgb(image) for _ in range(wanted.count(index))]
    return shown
