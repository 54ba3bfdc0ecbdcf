"""What one file is, and what it and the texts beside it say. This runs in worker processes."""

import os
import stat
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from cart_fairseq.base.reading import PACKED
from preprocess.folder.listing import looks_like_medium
from preprocess.folder.pictures import open_picture, picture_texts
from preprocess.folder.sidecars import read_sidecar
from preprocess.folder.tracks import track_tags, track_texts
from preprocess.media.kind import AUDIO, VIDEO, kind_of
from preprocess.media.reading import MediaError

HEAD = 1024
TABLES_BEGIN = (b"PAR1", b"ARROW1")
"""First bytes of Parquet and Arrow files."""
TEXT_CONTROLS = b"\t\n\r\f\x1b"
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of photos in a container of videos, whose tiles FFmpeg takes for a video."""


class Job(NamedTuple):
    """A file to read.

    Attributes:
        root: the folder that is read.
        path: of the file, below it.
        sidecars: paths of the texts beside it, below the folder.
    """

    root: str
    path: str
    sidecars: tuple[str, ...]


class Contents(NamedTuple):
    """What a file is and says.

    Attributes:
        kind: `image`, `audio` or `video`; None for what is no medium, or cannot be used.
        captions: source and text, of sidecars and of the file itself; unfiltered.
        fields: of a JSON sidecar.
        own_fields: of the file itself.
        problems: path and reason: what cannot be used.
        is_final: whether another run would find the same. False after errors of the system.
    """

    kind: str | None = None
    captions: list[tuple[str, str]] = []
    fields: dict[str, Any] = {}
    own_fields: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    is_final: bool = True


def read_contents(job: Job) -> Contents:
    """Read a file, and if it is a medium the texts beside it."""
    path = Path(job.root, job.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that are broken, and of large pictures
        try:
            kind, captions, own = _read_medium(path)
        except OSError as error:
            return _unusable(job.path, _system_error(error), is_final=False)
        except ValueError as error:
            return _unusable(job.path, str(error).removeprefix(f"{path}: "))
        if kind is None:
            return Contents()
        fields: dict[str, Any] = {}
        problems: list[tuple[str, str]] = []
        beside: list[tuple[str, str]] = []
        is_final = True
        for sidecar in job.sidecars:
            place = Path(job.root, sidecar)
            try:
                texts, more = read_sidecar(place)
            except OSError as error:
                problems.append((sidecar, _system_error(error)))
                is_final = False
            except ValueError as error:
                problems.append((sidecar, str(error).removeprefix(f"{place}: ")))
            else:
                beside += texts
                fields |= more
    return Contents(kind, beside + captions, fields, own, problems, is_final)


def _unusable(path: str, reason: str, is_final: bool = True) -> Contents:
    """The contents of a file that is no medium; if its ending says that it should be one, that is a problem."""
    return Contents(problems=[(path, reason)] if looks_like_medium(path) else [], is_final=is_final)


def _system_error(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "vanished while the folder was read; run the command again"
    return f"cannot be read ({error.strerror}); give the same command again"


def _read_medium(path: Path) -> tuple[str | None, list[tuple[str, str]], dict[str, Any]]:
    """Return kind, captions and fields of a medium.

    Raises:
        ValueError: the file is no medium, or one that cannot be used.
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("no plain file")
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head:
        raise ValueError("is empty; replace it")
    if is_archive(head):
        raise ValueError("is an archive, not a picture, sound or video; unpack it")
    if is_text(head):
        if b"<svg" in head:
            raise ValueError("is an SVG drawing, which Pillow cannot read; convert it to PNG")
        raise ValueError("is a text, not a picture, sound or video; replace it")
    image = open_picture(path)
    if image is not None:
        with image:
            return kind_of(path), *picture_texts(image)
    try:
        kind = kind_of(path, (AUDIO, VIDEO))
    except MediaError:
        raise ValueError("damaged, or of a format that cannot be read; replace or convert it") from None
    if kind == VIDEO and head[4:8] == b"ftyp" and head[8:12] in HEIC:
        raise ValueError("is a HEIC photo, which Pillow cannot read; convert it to JPEG")
    return kind, *track_texts(track_tags(path))


def is_archive(head: bytes) -> bool:
    """Whether a file begins as an archive or table. FFmpeg takes one with pictures in it for a video.

    >>> is_archive(b"PK\\x03\\x04..."), is_archive(bytes(257) + b"ustar"), is_archive(b"GIF89a")
    (True, True, False)
    """
    return head[257:262] == b"ustar" or head.startswith((*PACKED, *TABLES_BEGIN))


def is_text(head: bytes) -> bool:
    r"""Whether a file begins as a text: UTF-8 without control characters. FFmpeg takes some texts for sounds.

    >>> is_text(b"<html>"), is_text("dögs".encode()[:2]), is_text(bytes(4)), is_text(b"GIF89a\xff")
    (True, True, False, False)
    """
    if any(byte < 32 and byte not in TEXT_CONTROLS for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.end == len(head)
    return True
