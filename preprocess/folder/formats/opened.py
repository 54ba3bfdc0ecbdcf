"""Opens what `read_folder` is given: a folder of media as it is, files of a data set by unpacking them."""

import sys
from pathlib import Path
from typing import NamedTuple

from preprocess.data.output import Output
from preprocess.folder.formats.clip_retrieval import is_clip_retrieval
from preprocess.folder.formats.sources import described, packed_files
from preprocess.folder.formats.unpack import is_unpacked, unpack
from preprocess.folder.listing import File, Listing, list_folder, looks_like_medium


class Source(NamedTuple):
    """A folder of media.

    Attributes:
        folder: the folder.
        listing: what lies below it, and what could not be unpacked.
    """

    folder: Path
    listing: Listing


def media_folder(output: Path) -> Path:
    """Where media are unpacked, for lists that are written to `output`."""
    return output.with_name(f"{output.name}.media")


def open_source(given: Path, out: Output) -> Source:
    """Return the folder of media, unpacked beside `out` where they are packed.

    Args:
        given: a folder, or a packed file.
        out: the lists to be written.

    Raises:
        ValueError: the folder cannot be read, holds embeddings in place of media, or there is no room to unpack.
    """
    media = media_folder(out.path)
    if given.is_dir():
        root, listing = given, list_folder(given, (out.path, out.work, media))
    else:
        status = given.stat()
        root, listing = given.parent, Listing([File(given.name, status.st_size, status.st_mtime_ns)], [], 0)
    is_loose = any(looks_like_medium(file.path) for file in listing.files)
    if not is_loose and is_clip_retrieval(given):
        raise ValueError(
            f"{given}: holds embeddings of clip-retrieval, no media; give it to preprocess.build_identifiers --embeddings"
        )
    packed = packed_files(root, listing)
    if packed and is_loose and not is_unpacked(media):
        print(
            f"note: {given}: holds {described(packed)} beside media; they are passed over; give a folder with them alone "
            "to unpack them",
            file=sys.stderr,
        )
    elif packed:
        unpacked = unpack(root, packed, media)
        found = list_folder(media, ())
        skipped = sorted({*listing.skipped, *found.skipped, *unpacked.skipped})
        return Source(media, Listing(found.files, skipped, found.others))
    return Source(given, listing)
