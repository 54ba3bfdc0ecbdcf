"""Which files below a folder hold packed media."""

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from cart_fairseq.base.reading import read_json
from preprocess.folder.formats import archives, rows
from preprocess.folder.formats.pieces import Damaged, Piece, Problem, unpacking
from preprocess.folder.formats.safe_names import SafeNames
from preprocess.folder.listing import ARCHIVES, ARROW, PACKED, File, Listing, looks_like_medium

LOOKED_AT = 100
"""Members of a tar file among which a medium must be, for it to be a data set."""
CACHES = re.compile(r"(?:cache|tmp|indices).*\.arrow", re.IGNORECASE)
"""Names of files in which `datasets` keeps results that can be made again."""
STATE = "state.json"
"""What `save_to_disk` says of the files beside it."""
OF = re.compile(r"-of-\d+$")
"""End of the names of shards, which says how many there are; it would change the names of all when one comes."""


class Packed(NamedTuple):
    """A file with media in it.

    Attributes:
        file: the file.
        name: of the folder that it is unpacked to.
    """

    file: File
    name: str


def packed_files(root: Path, listing: Listing) -> list[Packed]:
    """Return the files with media in them, in order, each with a name of its own.

    Args:
        root: the folder that was listed.
        listing: what lies below it.
    """
    names = SafeNames()
    found = [file for file in _known(root, listing.files) if _holds_media(root / file.path)]
    return [Packed(file, names.of(file.path, _folder_name(file.path))) for file in found]


def _known(root: Path, files: Sequence[File]) -> Iterator[File]:
    """Yield the files whose names are those of archives or tables; where `datasets` lists its files, only these."""
    listed: dict[str, set[str] | None] = {}
    for file in files:
        name = posixpath.basename(file.path)
        if file.is_table or ending_of(name) is None or CACHES.fullmatch(name):
            continue
        if name.lower().endswith(ARROW):
            folder = posixpath.dirname(file.path)
            if folder not in listed:
                listed[folder] = _listed(root / folder / STATE)
            of_state = listed[folder]
            if of_state is not None and name not in of_state:
                continue
        yield file


def _listed(state: Path) -> set[str] | None:
    """The files that `save_to_disk` names; None where it does not."""
    try:
        return {each["filename"] for each in read_json(state)["_data_files"]}
    except (ValueError, LookupError, TypeError):
        return None


def ending_of(name: str) -> str | None:
    """Return the ending of a packed file; None for other files.

    >>> ending_of("a/00000.tar"), ending_of("a.TAR.GZ"), ending_of("a.zip"), ending_of("a.parquet")
    ('.tar', '.tar.gz', None, '.parquet')
    """
    return next((ending for ending in PACKED if name.lower().endswith(ending)), None)


def pieces_of(path: Path) -> Iterator[Piece | Problem]:
    """Yield what is in a packed file.

    Raises:
        Damaged: it cannot be read on from here.
    """
    read: Callable[[Path], Iterator[Piece | Problem]]
    read = archives.tar_pieces if ending_of(path.name) in ARCHIVES else rows.row_pieces
    with unpacking():
        yield from read(path)


def _holds_media(path: Path) -> bool:
    """Whether a file holds media. A damaged one does, so that it is named; a table without media does not."""
    try:
        with unpacking():
            if ending_of(path.name) not in ARCHIVES:
                return bool(rows.media_columns(rows.schema_of(path)))
            begin = islice(archives.tar_pieces(path), LOOKED_AT)
            return any(isinstance(each, Piece) and looks_like_medium(f"a{each.ending}") for each in begin)
    except Damaged:
        return True


def _folder_name(path: str) -> str:
    """The name of the folder for a file: its path in one part, without the number of shards.

    >>> _folder_name("data/train-00000-of-00002.parquet"), _folder_name("00000.tar"), _folder_name("train/data.arrow")
    ('data-train-00000', '00000', 'train-data')
    """
    stem = path[: -len(ending_of(path) or "")]
    return OF.sub("", stem).replace("/", "-").replace(".", "-")


def described(packed: Sequence[Packed]) -> str:
    """Say which files these are.

    >>> described([Packed(File("a.tar", 1, 0), "a"), Packed(File("b.tar", 1, 0), "b")])
    '2 files of media (a.tar …)'
    """
    more = " …" if len(packed) > 1 else ""
    return f"{len(packed):,} file{'s' * (len(packed) > 1)} of media ({json.dumps(packed[0].file.path)[1:-1]}{more})"
