"""Items and captions from what was read: which captions an item has, and which fields."""

import datetime
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from preprocess.folder.contents import Contents
from preprocess.folder.limits import CAPTIONS, FIELDS
from preprocess.folder.listing import File
from preprocess.folder.names import name_words
from preprocess.folder.tables import Tables
from preprocess.folder.texts import clean, is_boilerplate

SOURCES = ("txt", "json", "metadata", "exif", "iptc", "tags", "name")
"""Where captions come from, in their order."""
SAID_BY_FILE = ("exif", "iptc", "tags")
"""Sources in which programs write texts of their own."""


def item_row(file: File, contents: Contents, tables: Tables, start: str) -> dict[str, Any]:
    """Return an item: the project's fields, then those of a sidecar, of tables and of the file itself.

    Args:
        start: the folder that is read, relative to the output.
    """
    folder = str(PurePosixPath(file.path).parent)
    row: dict[str, Any] = {
        "item_id": file.path,
        "media": Path(start, file.path).as_posix(),
        "modality": contents.kind,
        **({"folder": folder} if folder != "." else {}),
        "bytes": file.bytes,
    }
    modified = iso_time(file.modified)
    if modified:
        row["modified"] = modified
    own = len(row)
    for fields in (contents.fields, tables.fields.get(file.path, {}), contents.own_fields):
        for name, value in fields.items():
            if len(row) < own + FIELDS:
                row.setdefault(name, value)
    return row


def iso_time(nanoseconds: int) -> str | None:
    """Return a time in UTC, in seconds; None where the calendar has none.

    >>> iso_time(1_000_000_000 * 10**9), iso_time(10**30)
    ('2001-09-09T01:46:40Z', None)
    """
    try:
        moment = datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def caption_rows(file: File, contents: Contents, tables: Tables, names: str) -> list[dict[str, Any]]:
    """Return the captions of an item.

    Args:
        names: when the words of its path are one; see `FolderSettings`.
    """
    said = [*contents.captions, *(("metadata", text) for text in tables.captions.get(file.path, []))]
    said.sort(key=lambda each: SOURCES.index(each[0]))
    texts = distinct((source, text) for source, text in said if not _says_nothing(source, text, file))
    if names == "always" or (names == "auto" and not texts):
        texts = distinct([*texts, ("name", name_words(file.path))])
    return [
        {"item_id": file.path, "caption_id": f"{file.path}#{number}", "text": text, "source": source}
        for number, (source, text) in enumerate(texts[:CAPTIONS])
    ]


def _says_nothing(source: str, text: str, file: File) -> bool:
    """Whether a text is what programs write into every file, or the file's own name."""
    path, shown = PurePosixPath(file.path), clean(text)
    if (path.suffix and shown == path.name) or (shown == path.stem and not name_words(shown)):
        return True
    return source in SAID_BY_FILE and is_boilerplate(shown)


def distinct(texts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return sources and texts, cleaned, without empty ones and without later ones that differ in capitals only.

    >>> distinct([("txt", "A dog. "), ("exif", "a DOG."), ("exif", " "), ("tags", "a cat")])
    [('txt', 'A dog.'), ('tags', 'a cat')]
    """
    found: dict[str, tuple[str, str]] = {}
    for source, text in texts:
        shown = clean(text)
        if shown:
            found.setdefault(shown.casefold(), (source, shown))
    return list(found.values())
