"""Sounds of the demo's world: three events in sequence. Their features are a small spectrogram.

Samples are float64 from -1 to 1, mono, at `RATE`.
"""

import wave
from itertools import permutations
from pathlib import Path

import numpy as np
from distinct import count_differences, draw_distinct
from sound_words import Event, Sound

RATE = 8000
"""Samples per second."""
PACES = {"fast": 0.3, "slow": 0.6}
"""Seconds of an event."""
PITCHES = {"low": 250.0, "middle": 700.0, "high": 1900.0}
"""Hertz."""
KINDS = ("tone", "rising", "falling", "noise", "beeps", "warble", "bell", "buzz")
PAUSE = 0.08
"""Seconds of silence between two events."""
FADE = 0.01
"""Seconds to fade an event in and out, which avoids clicks."""
VOLUME = 0.4
VARIATION = 0.05
"""Relative variation of lengths and pitches."""
DIFFERENCES = 2
"""Minimum number of attributes, of seven, in which any two sounds differ."""
WINDOW, HOP = 256, 128
"""Samples per spectrum, and between the starts of two spectra."""
BANDS, CELLS = 24, 36
"""Height and width of the spectrogram."""
FLOOR = 1e-4
"""Power that counts as silence."""
SECONDS = 3 * PACES["slow"] * (1 + VARIATION) + 2 * PAUSE
"""Length of the longest sound, which the spectrogram covers."""


def draw_scenes(count: int, seed: int) -> list[Sound]:
    """Draw distinct sounds, which differ in at least `DIFFERENCES` attributes. The events of a sound differ in kind.

    Raises:
        ValueError: there are not so many distinct sounds.
    """

    def settle(new: np.ndarray) -> bool:
        return len({*new[[1, 3, 5]].tolist()}) == 3

    def distance(found: np.ndarray, new: np.ndarray) -> np.ndarray:
        # the same events in another order count as one difference
        orders = [[*first, *second, *third, 6] for first, second, third in permutations(((0, 1), (2, 3), (4, 5)))]
        reordered = [count_differences(found, new[order]) + 1 for order in orders]
        return np.minimum(count_differences(found, new), np.minimum.reduce(reordered))

    rows = draw_distinct([*[PITCHES, KINDS] * 3, PACES], count, seed, DIFFERENCES, settle, distance)
    return [Sound(Event(*row[:2]), Event(*row[2:4]), Event(*row[4:6]), row[6]) for row in rows]


def synthesise(event: Event, pace: str, generator: np.random.Generator) -> np.ndarray:
    """Return the samples of one event. Length and pitch vary slightly."""
    length = PACES[pace] * generator.uniform(1 - VARIATION, 1 + VARIATION)
    pitch = PITCHES[event.pitch] * generator.uniform(1 - VARIATION, 1 + VARIATION)
    seconds = np.arange(round(RATE * length)) / RATE
    if event.kind == "noise":
        spectrum = np.fft.rfft(generator.standard_normal(len(seconds)))
        hertz = np.fft.rfftfreq(len(seconds), 1 / RATE)
        spectrum[(hertz < 0.7 * pitch) | (hertz > 1.4 * pitch)] = 0
        samples = np.fft.irfft(spectrum, len(seconds))
        samples /= np.abs(samples).max()
    else:
        ramp = seconds / length
        hertz = pitch * {
            "rising": 0.65 * 2.3**ramp,
            "falling": 0.65 * 2.3 ** (1 - ramp),
            "warble": 1 + 0.2 * np.sin(2 * np.pi * 9 * seconds),
        }.get(event.kind, np.ones_like(ramp))
        samples = np.sin(2 * np.pi * np.cumsum(hertz) / RATE)
        if event.kind == "beeps":
            samples *= np.clip(3 * np.sin(2 * np.pi * 12 * seconds), 0, 1)
        elif event.kind == "bell":
            samples *= np.exp(-5 * ramp)
        elif event.kind == "buzz":
            samples = 0.5 * np.sign(samples)
    envelope = np.minimum(1, np.minimum(seconds, seconds[::-1]) / FADE)
    return VOLUME * samples * envelope


def render(sound: Sound, generator: np.random.Generator) -> np.ndarray:
    """Return the events with pauses between them, (samples,)."""
    pause = np.zeros(round(RATE * PAUSE))
    first, second, third = (
        synthesise(event, sound.pace, generator) for event in (sound.first, sound.second, sound.third)
    )
    return np.concatenate([first, pause, second, pause, third])


def features(samples: np.ndarray) -> np.ndarray:
    """Return a spectrogram in decibels over pitch bands, (BANDS * CELLS,) float32."""
    padded = np.zeros(round(RATE * SECONDS) + WINDOW)
    padded[: len(samples)] = samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) ** 2 / WINDOW
    edges = np.geomspace(100, RATE / 2, BANDS + 1)
    band = np.digitize(np.fft.rfftfreq(WINDOW, 1 / RATE), edges) - 1
    cell = np.arange(len(frames)) * CELLS // len(frames)
    pooled = np.zeros((CELLS, BANDS))
    inside = (band >= 0) & (band < BANDS)
    np.add.at(pooled, (cell[:, None], band[inside][None]), power[:, inside])
    return (10 * np.log10(pooled + FLOOR)).ravel().astype(np.float32)


def save(sound: Sound, path: Path, generator: np.random.Generator) -> np.ndarray:
    """Write the sound as WAV, 16 bits, mono.

    Returns:
        Its features.
    """
    samples = render(sound, generator)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return features(samples)
