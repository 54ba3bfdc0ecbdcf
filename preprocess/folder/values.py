"""Fields of items: which values of a stranger's metadata are kept, and under which name."""

import datetime
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from preprocess.folder.limits import FIELDS, LARGEST, LISTED, NAME_LETTERS, URL_LETTERS, VALUE_LETTERS
from preprocess.folder.texts import clean

OWN = ("item_id", "media", "modality", "split", "folder", "bytes", "modified")
"""Fields that the project gives a meaning. A stranger's field of such a name gets `_` behind it."""
CAPTIONS = ("caption", "captions", "text", "title", "description", "transcription")
"""Fields of metadata whose texts are captions. `title` is kept as a field, too."""
TITLE, TAGS, YEAR, URL = "title", "tags", "year", "url"
FIRST_YEAR, LAST_YEAR = 1800, 2199


def kept_value(value: Any) -> Any:
    """Return a value as a field may have it: a short text, a number, a truth value or a list of short texts; else None.

    >>> kept_value(" red "), kept_value(3), kept_value(True), kept_value(["a", "b"])
    ('red', 3, True, ['a', 'b'])
    >>> kept_value(float("nan")), kept_value({"a": 1}), kept_value("long " * 99), kept_value([1, 2]), kept_value("")
    (None, None, None, None, None)
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < LARGEST else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        texts = [_short(each) for each in value[: LISTED + 1]]
        return list(dict.fromkeys(texts)) if texts and len(texts) <= LISTED and all(texts) else None
    return _short(value) or None


def url_of(value: Any) -> str | None:
    """Return an address, which may be longer than other texts."""
    text = clean(value)
    return text if 0 < len(text) <= URL_LETTERS else None


def _short(value: Any) -> str:
    text = clean(value)
    return text if len(text) <= VALUE_LETTERS else ""


def year_of(value: Any) -> int | None:
    """Return the year that a date begins with.

    >>> year_of("2019:05:04 10:00:00"), year_of("1969"), year_of(2001), year_of("0000:00:00"), year_of("May 2019")
    (2019, 1969, 2001, None, None)
    """
    found = re.match(r"\s*(\d{4})(?!\d)", str(value)) if isinstance(value, str | int | datetime.date) else None
    return int(found[1]) if found and FIRST_YEAR <= int(found[1]) <= LAST_YEAR else None


def tags_of(value: Any) -> list[str] | None:
    """Return tags from a list, or from a text that separates them with `;` or `,`.

    >>> tags_of("dog; red, old"), tags_of(["a", "a", 3, ""]), tags_of(5)
    (['dog', 'red', 'old'], ['a'], None)
    """
    parts = re.split(r"[;,]", clean(value)) if isinstance(value, str) else value if isinstance(value, list) else []
    return kept_value([text for text in map(_short, parts) if text][:LISTED])


def fields_of(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Return the fields that are kept of a stranger's metadata, by the names that they get.

    >>> fields_of([("colour", "red"), ("split", "val"), ("year", "1999-01"), ("tags", "a, b"), ("bbox", [1, 2])])
    {'colour': 'red', 'split_': 'val', 'year': 1999, 'tags': ['a', 'b']}
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        shown = clean(name)
        if not shown or len(shown) > NAME_LETTERS or len(found) >= FIELDS:
            continue
        read: Callable[[Any], Any] = {YEAR: year_of, TAGS: tags_of, URL: url_of}.get(shown, kept_value)
        kept = read(value)
        if kept is not None:
            found.setdefault(f"{shown}_" if shown in OWN else shown, kept)
    return found


def captions_of(row: Mapping[Any, Any]) -> list[str]:
    """Return the captions in a row of metadata: the texts of the fields `CAPTIONS`, each one or a list.

    >>> captions_of({"description": "a dog", "caption": ["runs", 3], "colour": "red", "captions": "sits"})
    ['runs', 'sits', 'a dog']
    """
    values = (row.get(name) for name in CAPTIONS)
    each = (text for value in values for text in (value if isinstance(value, list) else [value]))
    return [text for text in map(clean, each) if text]


def metadata_fields(row: Mapping[Any, Any], without: Iterable[str] = ()) -> dict[str, Any]:
    """Return the fields in a row of metadata that are no captions.

    Args:
        without: further names that are no fields.
    """
    left_out = {*CAPTIONS, *without} - {TITLE}
    return fields_of((name, value) for name, value in row.items() if name not in left_out)
