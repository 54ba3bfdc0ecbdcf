"""Pictures, sounds and videos as parts of an HTML page, up to a bound on its size."""

import html
from pathlib import Path
from typing import Any

from cart_fairseq.base.files import inside
from cart_fairseq.base.media_types import MEDIA_TYPES
from preprocess.inspection.html import data_uri, medium


class MediaShelf:
    """Hands out the media of items as HTML; what would exceed the bounds, or is not there, comes as words.

    Attributes:
        embedded, missing, left_out: how many media are part of the page, were not found, and were left out: too large for
            it, of a kind that browsers do not show, or outside of the folder.

    Args:
        folder: what the items' `media` are relative to, or None: then nothing is shown.
        file_bytes: a larger file is left out.
        total_bytes: no more bytes of files than this in all; the page has 4/3 of it, because it holds them as text.
        within: only files in this folder are shown; None: `folder`.
    """

    def __init__(self, folder: Path | None, file_bytes: int, total_bytes: int, within: Path | None = None):
        self.folder = folder
        self.within = folder if within is None else within
        self.file_bytes = file_bytes
        self.room = total_bytes
        self.embedded = self.missing = self.left_out = 0
        self._shown: dict[str, str] = {}

    def show(self, item: dict[str, Any], description: str) -> str:
        """HTML of an item's picture or player, a note in its place, or nothing where the item names no media."""
        media = item.get("media")
        if self.folder is None or not isinstance(media, str):
            return ""
        if media not in self._shown:
            self._shown[media] = self._read(media, description)
        return self._shown[media]

    def _read(self, media: str, description: str) -> str:
        assert self.folder is not None
        assert self.within is not None
        name, path = html.escape(Path(media).name), inside(self.within, media, self.folder)
        if path is None:
            self.left_out += 1
            return f'<p class="note">{name}: outside of the media folder</p>'
        if path.suffix.lower() not in MEDIA_TYPES:
            self.left_out += 1
            return f'<p class="note">{name}: browsers do not show this kind</p>'
        if not path.is_file():
            self.missing += 1
            return f'<p class="note">{name}: not found</p>'
        size = path.stat().st_size
        if size > min(self.file_bytes, self.room):
            self.left_out += 1
            return f'<p class="note">{name}: {size / 2**20:.1f} MiB, left out</p>'
        self.room -= size
        self.embedded += 1
        return medium(data_uri(path), description)
