"""Images, sounds and videos as encoders and captioners take them: RGB pictures, mono samples, frames.

Pillow reads images and animations, soundfile (else PyAV) sounds, PyAV videos; all of them come with the extra `[media]`
and are imported when first needed. Whatever is wrong with a file becomes a `MediaError` that names it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.reading import unreadable
from preprocess.data.containers import opened

if TYPE_CHECKING:
    from PIL.Image import Image

ANIMATIONS = (".gif", ".webp", ".apng", ".png")
"""Suffixes of files whose frames Pillow reads."""
LEAST_RATE, MOST_SECONDS, MOST_SAMPLES = 1000, 7200, 7200 * 48000
"""Bounds of a sound: samples a second, seconds, and samples of a channel. A small file may else fill the memory."""
LOUDEST = 2.0**31
"""Largest sample, as of a file whose samples are whole numbers of 32 bits in place of shares of full scale."""
BLOCK = 1 << 16
"""Samples that are read at a time."""

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Let reading media inside end with a ValueError that takes longer; None: however long it takes."""
    token = _deadline.set(math.inf if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def refuse_late() -> None:
    """Raise ValueError if reading takes longer than :func:`within` allows; called for each frame or block."""
    if time.monotonic() > _deadline.get():
        raise ValueError("it takes too long to read")


class MediaError(ValueError):
    """A media file is missing, damaged or has not what is asked for; the message names it and the remedy."""


def refuse_missing(path: str | Path, remedy: str) -> None:
    """Refuse a path without a file.

    Args:
        remedy: what is missing, and what to do.

    Raises:
        MediaError: there is nothing, or something else than a file, or the system refuses the path.
    """
    path = Path(path)
    try:
        if path.is_file():
            return
        found = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else None
    except OSError as error:  # such as a name that is too long, or a folder that may not be entered
        raise MediaError(str(unreadable(path, error))) from None
    raise MediaError(f"{path}: {found}; give a file" if found else f"{path}: no such {remedy}")


@contextmanager
def reading(path: str | Path, kind: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a `MediaError` that names the file.

    Args:
        path: the file.
        kind: image, audio or video, for the message.
    """
    refuse_missing(path, f"{kind} file; check the item's media path, which is relative to its list")
    try:
        yield
    except ImportError as error:
        raise MediaError(
            f"{path}: reading {kind} files needs {error.name}; pip install 'cart-fairseq[media]'"
        ) from None
    except MediaError:
        raise
    # Decoders of damaged files raise whatever they stumble on: OSError, ValueError, SyntaxError, struct.error …
    except Exception as error:
        raise damaged(path, kind, error) from None


def damaged(path: str | Path, kind: str, error: Exception) -> MediaError:
    """The error for a file that its library cannot read."""
    found = " ".join(str(error).split()) or type(error).__name__
    return MediaError(f"{path}: not a readable {kind} file ({found}); replace the file or leave the item out")


def load_image(path: str | Path) -> Image:
    """Read an image upright (as its EXIF orientation says), as `to_rgb` gives it; of an animation the first frame.

    Raises:
        MediaError: the file is missing, damaged or no image.
    """
    with reading(path, "image"):
        from PIL import Image, ImageOps

        with Image.open(path) as image:
            if image.format == "EPS":
                raise MediaError(f"{path}: is a program for Ghostscript, which is not run; convert it to PNG")
            return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image) -> Image:
    """An image in RGB, its transparent parts on white as on a page, 16-bit and real-valued grey scaled to 8 bits.

    Pillow's own conversion shows the colours behind transparent parts, often black, and cuts grey off at 255.

    Raises:
        ValueError: a value is not finite.
    """
    from PIL import Image as images

    if image.mode == "F":
        image = images.fromarray(_bytes_of(np.asarray(image)))
    deep: Any = image.getextrema() if image.mode == "I" else None  # what 16-bit files are to older Pillows
    if image.mode.startswith("I;16") or (deep and deep[1] > 255):
        grey = np.asarray(image).astype(np.int64)
        image = images.fromarray(np.clip(grey // 257, 0, 255).astype(np.uint8))
    if not {"A", "a"}.isdisjoint(image.getbands()) or "transparency" in image.info:
        shown = image.convert("RGBA")
        return images.alpha_composite(images.new("RGBA", image.size, "white"), shown).convert("RGB")
    return image.convert("RGB")


def _bytes_of(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Real-valued grey as bytes. White is 1, 255 or 65535; other ranges go from the least to the greatest value."""
    if not np.isfinite(grey).all():
        raise ValueError("it has values that are no finite numbers")
    least, most = float(grey.min()), float(grey.max())
    scales = [white for white in (1.0, 255.0, 65535.0) if least >= 0 and most <= white]
    if scales:
        return np.round(grey * (255 / scales[0])).astype(np.uint8)
    width: float = most - least
    return np.round((grey - least) * (255 / width if width else 0.0)).astype(np.uint8)


def load_audio(path: str | Path, rate: int) -> NDArray[np.float32]:
    """Read a sound: an audio file, or the first audio track of a video file.

    Args:
        path: what libsndfile reads (WAV, FLAC, Ogg, MP3 …), else what FFmpeg does (M4A, WebM, MP4 …).
        rate: samples a second of the result, resampled by soxr.

    Returns:
        (samples,) float32, the mean of the channels, full scale 1.

    Raises:
        MediaError: the file is missing, damaged, has no sound, is longer than two hours, or has values that are no samples.
    """
    with reading(path, "audio"):
        import soundfile
        import soxr

        try:
            with soundfile.SoundFile(path) as file:
                found_rate = file.samplerate
                mono = joined_sound(path, file.blocks(BLOCK, dtype="float32", always_2d=True), found_rate)
        except soundfile.LibsndfileError:
            mono, found_rate = decode_audio(path)
        if not len(mono):
            raise MediaError(f"{path}: the sound is empty; replace the file or leave the item out")
        if not np.isfinite(mono).all():
            raise MediaError(f"{path}: samples that are NaN or infinite; write the file again or leave the item out")
        loudest = float(np.abs(mono).max())
        if loudest > LOUDEST:
            raise MediaError(f"{path}: samples of up to {loudest:.3g}, where full scale is 1; write the file again")
        samples = mono if found_rate == rate else soxr.resample(mono, found_rate, rate)
        return np.ascontiguousarray(samples, dtype=np.float32)


def joined_sound(path: str | Path, blocks: Iterable[NDArray[np.float32]], rate: int) -> NDArray[np.float32]:
    """The mean of the channels of blocks (samples, channels) at a rate: (samples,) float32.

    Raises:
        MediaError: the rate is none of a sound, or the sound is too long.
    """
    if rate < LEAST_RATE:
        raise MediaError(f"{path}: has {rate:,} samples a second, which is no rate of a sound; write the file again")
    parts, count = [np.empty(0, dtype=np.float32)], 0
    for block in blocks:
        refuse_late()
        count += len(block)
        if count > min(MOST_SECONDS * rate, MOST_SAMPLES):
            raise MediaError(f"{path}: is longer than {MOST_SECONDS // 3600} hours; cut it into shorter sounds")
        parts.append(block.mean(axis=1))
    return np.concatenate(parts)


def decode_audio(path: str | Path) -> tuple[NDArray[np.float32], int]:
    """The first audio track of a file by FFmpeg: (samples,) float32, the mean of the channels, and their rate."""
    import av

    with opened(path) as container:
        if not container.streams.audio:
            raise MediaError(f"{path}: has no audio track; give a file with sound or leave the item out")
        rate = container.streams.audio[0].rate
        to_float = av.AudioResampler(format="fltp", rate=rate)
        blocks: Iterator[Any] = (
            part.to_ndarray().T for frame in container.decode(audio=0) for part in to_float.resample(frame)
        )
        return joined_sound(path, blocks, rate), rate


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
        raise MediaError(f"{path}: no frame could be decoded; replace the file or leave the item out")
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
            raise MediaError(f"{path}: has no video track; give a video or leave the item out")
        stream = container.streams.video[0]
        stamps = []
        for packet in container.demux(stream):
            refuse_late()
            if packet.size:
                stamps.append(packet.pts if packet.pts is not None else packet.dts)
        known = np.sort(np.array([stamp for stamp in stamps if stamp is not None], dtype=np.int64))
        starts = known.astype(np.float64) * float(stream.time_base or 0)
    if not len(starts):
        raise MediaError(f"{path}: has no frames with times; convert it with ffmpeg or leave the item out")
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
