"""Small real media files: a picture, a sound or a clip for every number, written by the libraries that read them."""

from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

COLOURS = ("red", "green", "blue", "yellow", "grey", "white")
RGB = {
    "red": (220, 30, 30),
    "green": (30, 180, 60),
    "blue": (40, 60, 220),
    "yellow": (230, 210, 40),
    "grey": (120, 120, 120),
    "white": (250, 250, 250),
}
SIZE, RATE, FRAMES = 32, 16000, 6


def colours_of(number: int) -> tuple[str, str]:
    """Colours of the upper and the lower half of picture `number`, different for each of the first 36."""
    return COLOURS[number % 6], COLOURS[(number + number // 6) % 6]


def describe(number: int, count: int = 5) -> list[str]:
    """Texts about what `write_media` writes for a number."""
    above, below = colours_of(number)
    forms = (
        "{} above {}",
        "a {} half over a {} half",
        "first {}, then {}",
        "something {} on something {}",
        "{} and {}",
    )
    return [f"{form.format(above, below)}, number {number}".capitalize() for form in forms[:count]]


def picture(number: int, step: int = 0) -> Image.Image:
    """Two coloured halves; the border between them moves with `step`."""
    pixels = np.empty((SIZE, SIZE, 3), dtype=np.uint8)
    above, below = colours_of(number)
    border = SIZE // 2 + step
    pixels[:border], pixels[border:] = RGB[above], RGB[below]
    return Image.fromarray(pixels)


def write_media(path: Path, number: int) -> None:
    """Write picture, sound or clip `number`, in the format that the suffix names (.jpg, .png, .wav, .mp4, .avi)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".wav":
        seconds = np.arange(RATE // 2) / RATE
        tones = [np.sin(2 * np.pi * 200 * (1 + COLOURS.index(colour)) * seconds) for colour in colours_of(number)]
        soundfile.write(path, np.concatenate(tones).astype(np.float32) / 2, RATE)
    elif path.suffix in (".mp4", ".avi"):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=FRAMES)
            stream.width = stream.height = SIZE
            stream.pix_fmt = "yuv420p"
            for step in range(FRAMES):
                container.mux(stream.encode(av.VideoFrame.from_image(picture(number, step))))
            container.mux(stream.encode())
    else:
        picture(number).save(path)


def write_animation(path: Path) -> None:
    """Write a GIF of three pictures."""
    first, *others = picture(1), picture(8), picture(15)
    first.save(path, save_all=True, append_images=others, duration=200)


def write_clip_with_sound(path: Path) -> None:
    """Write a clip of one second with a tone."""
    with av.open(str(path), "w") as container:
        seen = container.add_stream("mpeg4", rate=FRAMES)
        seen.width = seen.height = SIZE
        seen.pix_fmt = "yuv420p"
        heard = container.add_stream("aac", rate=RATE, layout="mono")
        for step in range(FRAMES):
            container.mux(seen.encode(av.VideoFrame.from_image(picture(2, step))))
        container.mux(seen.encode())
        tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32) / 2
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.rate = RATE
        container.mux(heard.encode(frame))
        container.mux(heard.encode())
