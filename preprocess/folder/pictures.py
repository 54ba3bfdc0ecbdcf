"""What pictures say of themselves: EXIF, IPTC, texts of PNG files and comments.

XMP is not read: Pillow needs another package for it. Cameras and programs write the same keywords as IPTC, too.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preprocess.folder.texts import clean, is_boilerplate, legible
from preprocess.folder.values import TAGS, TITLE, YEAR, fields_of, tags_of, year_of

if TYPE_CHECKING:
    from PIL.Image import Exif, Image

# numbers of EXIF's tags
DESCRIPTION, DATE, ARTIST = 0x010E, 0x0132, 0x013B
XP_TITLE, XP_COMMENT, XP_AUTHOR, XP_KEYWORDS, XP_SUBJECT = 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F
EXIF_FOLDER, ORIGINAL_DATE, USER_COMMENT = 0x8769, 0x9003, 0x9286
# records of IPTC
OBJECT_NAME, KEYWORDS, HEADLINE, CAPTION, CHARSET = (2, 5), (2, 25), (2, 105), (2, 120), (1, 90)
PNG_TEXTS = ("title", "headline", "caption", "description", "comment", "comments")
BOMB = "has too many pixels (Pillow's limit against decompression bombs); make it smaller"


def open_picture(path: str | Path) -> "Image | None":
    """Open a picture with Pillow; None for what is none.

    Raises:
        ValueError: it is one that encoders cannot read.
    """
    from PIL import Image, ImageFile

    try:
        image = Image.open(path)
    except Image.DecompressionBombError:
        raise ValueError(BOMB) from None
    except OSError as error:
        if error.errno is not None:  # of the system, not of the picture
            raise
        return None
    except Exception:  # damaged files raise whatever their readers stumble on
        return None
    if image.format == "EPS":
        raise ValueError("is a program for Ghostscript, which is not run; convert it to PNG")
    if isinstance(image, ImageFile.StubImageFile):
        raise ValueError(f"is a {image.format} file, which Pillow cannot read; convert it to PNG")
    return image


def picture_texts(image: "Image") -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Return the captions of a picture with their sources, in order, and its fields.

    Broken metadata say nothing; what was found before counts.
    """
    captions: list[tuple[str, str]] = []
    fields: dict[str, Any] = {}
    with contextlib.suppress(Exception):
        fields[YEAR] = _year(exif_of(image))
    for reader in (_exif, _iptc, _chunks):
        # readers of broken metadata raise struct.error, SyntaxError, TypeError …
        with contextlib.suppress(Exception):
            for source, name, text in reader(image):
                if source and clean(text):
                    captions.append((source, text))
                if name == TAGS:
                    fields[TAGS] = tags_of([*(fields.get(TAGS) or []), *(tags_of(text) or [])])
                elif name and name not in fields and not is_boilerplate(clean(text)):
                    fields[name] = text
    return captions, fields_of(fields.items())


def exif_of(image: "Image") -> "Exif":
    """A picture's EXIF. Of PNG files that have none before the pixels, Pillow would decode all pixels to look behind."""
    from PIL import Image

    return Image.Exif() if image.format == "PNG" and "exif" not in image.info else image.getexif()


def _year(exif: "Exif") -> int | None:
    """The year in which a picture was taken; where that is not said, the year of its last change."""
    taken = None
    with contextlib.suppress(Exception):
        taken = year_of(_ascii(exif.get_ifd(EXIF_FOLDER).get(ORIGINAL_DATE)))
    return taken or year_of(_ascii(exif.get(DATE)))


def _exif(image: "Image") -> Iterator[tuple[str, str, str]]:
    """Yield source, field and text; either of the first two may be empty."""
    exif = exif_of(image)
    inner: Mapping[int, Any] = {}
    with contextlib.suppress(Exception):
        inner = exif.get_ifd(EXIF_FOLDER)
    yield "exif", TITLE, _utf16(exif.get(XP_TITLE))
    yield "exif", "", _ascii(exif.get(DESCRIPTION))
    yield "exif", "", _utf16(exif.get(XP_SUBJECT))
    yield "exif", "", _utf16(exif.get(XP_COMMENT))
    yield "exif", "", _user_comment(inner.get(USER_COMMENT))
    yield "", "artist", clean(_ascii(exif.get(ARTIST)) or _utf16(exif.get(XP_AUTHOR)))
    yield "", TAGS, _utf16(exif.get(XP_KEYWORDS))


def _iptc(image: "Image") -> Iterator[tuple[str, str, str]]:
    from PIL import IptcImagePlugin

    found: Mapping[Any, Any] = IptcImagePlugin.getiptcinfo(image) or {}  # type: ignore[arg-type]

    def texts(record: tuple[int, int]) -> list[str]:
        values = found.get(record, [])
        return [legible(value) for value in (values if isinstance(values, list) else [values])]

    for name, record in ((TITLE, OBJECT_NAME), ("", HEADLINE), ("", CAPTION)):
        for text in texts(record):
            yield "iptc", name, text
    for text in texts(KEYWORDS):
        yield "", TAGS, text


def _chunks(image: "Image") -> Iterator[tuple[str, str, str]]:
    """Texts of PNG files, those before the pixels, and comments of GIF and JPEG files."""
    chunks = {str(name).lower(): value for name, value in image.info.items()}
    for name in PNG_TEXTS:
        value = chunks.get(name)
        text = legible(value) if isinstance(value, bytes) else value
        if isinstance(text, str):
            yield "tags", TITLE if name == TITLE else "", text
    if isinstance(chunks.get("author"), str):
        yield "", "artist", clean(chunks["author"])


def _ascii(value: Any) -> str:
    """Text of an EXIF tag, which Pillow reads as Latin-1 whatever it is."""
    if isinstance(value, bytes):
        return legible(value)
    if not isinstance(value, str):
        return ""
    try:
        return legible(value.encode("latin-1"))
    except UnicodeEncodeError:
        return value


def _utf16(value: Any) -> str:
    """Text of one of Windows' tags, XPTitle and others."""
    content = bytes(value) if isinstance(value, bytes | tuple) else b""
    return content.decode("utf-16-le", "replace").split("\0")[0]


def _user_comment(value: Any) -> str:
    """Text of the tag UserComment, whose first 8 bytes name its encoding."""
    if not isinstance(value, bytes):
        return _ascii(value)
    code, content = value[:8], value[8:]
    if code.startswith(b"UNICODE"):
        # the order of the bytes is the file's, but many programs do not keep to it: spaces and Latin letters tell
        little = sum(content[1::2]) <= sum(content[0::2])
        return content.decode("utf-16-le" if little else "utf-16-be", "replace").split("\0")[0]
    if code.startswith(b"JIS"):
        return content.decode("iso2022_jp", "replace")
    return legible(content if code[:5] in (b"ASCII", bytes(5)) else value)
