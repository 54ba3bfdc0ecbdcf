"""Images as encoders and captioners take them: upright, in RGB. Pillow reads them; it comes with the extra `[media]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from preprocess.media.reading import MediaError, reading

if TYPE_CHECKING:
    from PIL.Image import Image


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
