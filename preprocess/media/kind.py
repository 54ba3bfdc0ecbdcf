"""What kind of medium a file is, by its content."""

from collections.abc import Collection
from pathlib import Path

from preprocess.media.containers import opened
from preprocess.media.reading import REPLACE, MediaError, refuse_missing

IMAGE, AUDIO, VIDEO = "image", "audio", "video"
NO_MEDIA = ("tty", "bin", "xbin", "adf", "idf", "image2", "subtitles", "srt", "webvtt", "ass")
"""Formats by which FFmpeg reads texts, drawings of letters, and whatever is named like a picture or `.bin`."""
SINGLE_PICTURE = "_pipe"
"""End of the names of FFmpeg's readers of pictures, such as `png_pipe`, which take damaged ones that Pillow refuses."""
ANIMATED = ("GIF", "PNG", "WEBP")
"""Pillow's formats whose frames follow in time. Those of a TIFF are pages, of a photo's MPO previews."""


def kind_of(
    path: str | Path, accepted: Collection[str] = (IMAGE, AUDIO, VIDEO), preferred: Collection[str] = ()
) -> str:
    """Return ``image``, ``audio`` or ``video``.

    A file that can be several, such as a video with sound, is the first of video, image and audio that is preferred, else
    the first that is accepted.

    Args:
        path: the file.
        accepted: kinds that may be answered.
        preferred: kinds that are answered before the others, where they are accepted.

    Raises:
        MediaError: the file is missing, of none of these kinds, or a picture of too many pixels.
    """
    path = Path(path)
    refuse_missing(path, "file; check the path")
    found = _kinds(path)
    for kind in sorted((VIDEO, IMAGE, AUDIO), key=lambda kind: kind not in preferred):
        if kind in found and kind in accepted:
            return kind
    if found:
        wanted = " or ".join(kind for kind in (IMAGE, AUDIO, VIDEO) if kind in accepted)
        raise MediaError(f"{path}: is of kind {' or '.join(sorted(found))}, where {wanted} is accepted; {REPLACE}")
    raise MediaError(f"{path}: is neither a picture nor a sound nor a video that can be read; give another file")


def _kinds(path: Path) -> set[str]:
    """All kinds that a file can be; an animation is an image and a video."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return {IMAGE, VIDEO} if image.format in ANIMATED and getattr(image, "n_frames", 1) > 1 else {IMAGE}
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise MediaError(f"{path}: has more than {most:,} pixels; make the picture smaller") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        pass
    try:
        import soundfile

        soundfile.info(str(path))
        return {AUDIO}
    except (ImportError, RuntimeError):
        pass
    try:
        with opened(path) as container:
            if container.format.name in NO_MEDIA or container.format.name.endswith(SINGLE_PICTURE):
                return set()
            return {kind for kind in (VIDEO, AUDIO) if any(stream.type == kind for stream in container.streams)}
    # FFmpeg's errors of foreign files have many types: EOFError, OSError, ValueError, or FFmpegError itself
    except Exception:
        return set()
