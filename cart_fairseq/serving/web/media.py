"""The media files of items, by the id of the item alone; and uploaded files."""

import asyncio
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from starlette.responses import FileResponse

from cart_fairseq.base.files import inside
from cart_fairseq.base.media_types import HEAD, suffix_of, type_of_content, type_of_name
from cart_fairseq.serving.errors import Refusal

UNKNOWN = "application/octet-stream"
POLICY = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox"
"""For a picture that is opened as a page: an SVG runs no script."""
BLOCK = 1 << 20


class MediaFolder:
    """The folder whose files may be served.

    Args:
        root: the folder; None: no media.
        base: the folder that the items' ``media`` are relative to; None: ``root``.
    """

    def __init__(self, root: str | Path | None, base: str | Path | None = None):
        self.root = root
        self.base = base

    def url(self, item_id: str, record: dict[str, Any]) -> str | None:
        """Return the address of an item's file, without the host; None if it has none."""
        if self.root is None or not isinstance(record.get("media"), str):
            return None
        return f"/media/{quote(item_id, safe='')}"

    def response(self, record: dict[str, Any]) -> FileResponse:
        """Return an item's file, or the range of it that the request asks for.

        Raises:
            Refusal: 404, the item has no file, or none in the folder.
        """
        media = record.get("media")
        path = inside(self.root, media, self.base) if self.root is not None and isinstance(media, str) else None
        if path is None:
            raise Refusal(404, "item_id", "the item has no file that is served", "check --media-root and its `media`")
        try:
            with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                found = os.fstat(file.fileno())
                head = file.read(HEAD) if stat.S_ISREG(found.st_mode) else b""
        except OSError:
            raise Refusal(404, "item_id", "the item's file is missing", "check --media-root and its `media`") from None
        if not stat.S_ISREG(found.st_mode):
            raise Refusal(404, "item_id", "the item's `media` is no file", "check --media-root and its `media`")
        kind = type_of_content(head) or type_of_name(path.suffix)
        headers = {"content-security-policy": POLICY, "cache-control": "private, max-age=3600"}
        if kind is None:
            headers["content-disposition"] = "attachment"
        return FileResponse(path, headers=headers, media_type=kind or UNKNOWN, stat_result=found)


class Readable(Protocol):
    """An uploaded file."""

    async def read(self, size: int = -1) -> bytes:
        """Read up to so many bytes."""


async def keep_upload(upload: Readable, folder: Path) -> Path:
    """Copy an uploaded file into a folder, under a name of ours with the ending of its content.

    Raises:
        Refusal: it is empty, or of no kind that is known here.
    """
    block = await upload.read(BLOCK)
    kind = type_of_content(block[:HEAD])
    if kind is None:
        found = "an empty file" if not block else "a file that is no picture, sound or video known here"
        raise Refusal(422, "media", found, "send a PNG, JPEG, GIF, WebP, TIFF, WAV, MP3, Ogg, FLAC, MP4 or WebM file")
    file, name = tempfile.mkstemp(suffix_of(kind), "upload-", folder)
    path = Path(name)
    try:
        with open(file, "wb") as out:
            while block:
                await asyncio.to_thread(out.write, block)
                block = await upload.read(BLOCK)
        _refuse_disguise(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _refuse_disguise(path: Path) -> None:
    """Refuse an ID3 tag before anything but sound: readers of media look behind it, and a list could name other files.

    Raises:
        Refusal: there is such a tag.
    """
    with open(path, "rb") as file:
        head = file.read(10)
        if head[:3] != b"ID3":
            return
        size = sum(byte << 7 * place for place, byte in enumerate(head[:5:-1]))
        file.seek(10 + size)
        behind = file.read(4)
    if behind[:1] not in (b"\xff", b"\0") and behind != b"fLaC":
        raise Refusal(422, "media", "a file that begins with a tag and is no sound", "send an MP3 file")
