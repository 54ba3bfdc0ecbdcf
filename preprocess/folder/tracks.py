"""What sounds and videos say of themselves: tags of ID3, Vorbis, MP4, Matroska, RIFF, as FFmpeg reads them."""

import contextlib
from pathlib import Path
from typing import Any

from preprocess.folder.texts import clean, is_boilerplate, legible
from preprocess.folder.values import TAGS, TITLE, YEAR, fields_of, year_of
from preprocess.media.containers import opened

FIELDS = (TITLE, "artist", "album", "genre")
DATES = ("date", "year", "originaldate", "tdrc", "tyer")
COMMENTS = ("description", "synopsis", "comment")
KEYWORDS = ("keywords", "keyword", "tags")


def track_tags(path: str | Path) -> dict[str, str]:
    """Return the tags of a file, and of its tracks (where Ogg has them); names are in small letters.

    A file that FFmpeg cannot read has none: libsndfile reads some that it does not.
    """
    found: dict[str, str] = {}
    with contextlib.suppress(Exception), opened(path) as container:
        for tags in (container.metadata, *(stream.metadata for stream in container.streams)):
            for name, value in tags.items():
                text = clean(legible(str(value).encode("utf-8", "surrogateescape")))
                if text:
                    found.setdefault(clean(name).lower(), text)
    return found


def track_texts(tags: dict[str, str]) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Return the captions that tags are, with their source, and the fields.

    One caption is the title, one the title with artist and album: these alone are the same for many.

    >>> track_texts({"title": "Help!", "artist": "The Beatles", "date": "1965-08-06", "encoder": "Lavf61"})
    ([('tags', 'Help!'), ('tags', 'Help!, The Beatles')], {'title': 'Help!', 'artist': 'The Beatles', 'year': 1965})
    """
    fields = {name: tags[name] for name in FIELDS if name in tags and not is_boilerplate(tags[name])}
    if "artist" not in fields and "album_artist" in tags:
        fields["artist"] = tags["album_artist"]
    named = [fields[name] for name in (TITLE, "artist", "album") if name in fields]
    captions = [fields[TITLE]] if TITLE in fields else []
    captions += [", ".join(named)] if named else []
    captions += [tags[name] for name in COMMENTS if name in tags]
    year = next((year for year in (year_of(tags.get(name)) for name in DATES) if year), None)
    keywords = next((tags[name] for name in KEYWORDS if name in tags), None)
    kept = fields_of([*fields.items(), (YEAR, year), (TAGS, keywords)])
    return [("tags", text) for text in captions], kept
