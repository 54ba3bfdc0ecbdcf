"""Sounds as encoders and captioners take them: mono samples at a rate.

soundfile reads them, else PyAV; both come with the extra `[media]` and are imported when first needed.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.media.containers import opened
from preprocess.media.reading import REPLACE, MediaError, reading, refuse_late

LEAST_RATE, MOST_SECONDS, MOST_SAMPLES = 1000, 7200, 7200 * 48000
"""Bounds of a sound: samples a second, seconds, and samples of a channel. A small file may else fill the memory."""
LOUDEST = 2.0**31
"""Largest sample, as of a file whose samples are whole numbers of 32 bits in place of shares of full scale."""
BLOCK = 1 << 16
"""Samples that are read at a time."""


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
            raise MediaError(f"{path}: the sound is empty; {REPLACE}")
        if not np.isfinite(mono).all():
            raise MediaError(f"{path}: samples that are NaN or infinite; write the file again or leave it out")
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
            raise MediaError(f"{path}: has no audio track; {REPLACE}")
        rate = container.streams.audio[0].rate
        to_float = av.AudioResampler(format="fltp", rate=rate)
        blocks: Iterator[Any] = (
            part.to_ndarray().T for frame in container.decode(audio=0) for part in to_float.resample(frame)
        )
        return joined_sound(path, blocks, rate), rate
