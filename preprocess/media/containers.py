"""Media files by FFmpeg, which read no other file and no address, whatever a stranger wrote into them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOTHING = {"protocol_whitelist": "none"}
"""FFmpeg may open nothing by itself: what a playlist names, be it a file or an address, is not read."""
PLAYLISTS = (b"#EXTM3U", b"ffconcat version")


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """Open a file for reading with PyAV, as an input container.

    FFmpeg is given the open file, not its name, because it would take a name such as `concat:a|b` for an address.

    Raises:
        ValueError: the file is a playlist, which leads to other files.
    """
    import av

    with open(path, "rb") as file:
        if file.read(64).lstrip(b"\xef\xbb\xbf \r\n").startswith(PLAYLISTS):
            raise ValueError("a playlist of other files, which are not followed")
        file.seek(0)
        # texts that are not UTF-8, as in older AVI and WAV files, keep their bytes and stop nothing
        with av.open(file, options=NOTHING, metadata_errors="surrogateescape") as container:
            yield container
