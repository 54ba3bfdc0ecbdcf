"""Texts of strangers: made clean for captions, and told apart from what cameras and programs write by themselves."""

import re
import unicodedata
from typing import Any

from cart_fairseq.base.checks import is_encodable
from preprocess.folder.limits import CAPTION_LETTERS

MAKERS = (
    "olympus|samsung|minolta|konica minolta|kodak|sony|nikon|canon|fujifilm|casio|panasonic|pentax|ricoh|medion|hp|"
    "sanyo|vivitar|jenoptik|premier|benq|digimax|acer|agfaphoto|rollei|toshiba|polaroid"
)
BOILERPLATE = re.compile(
    rf"(?:{MAKERS})?\W*(?:digital (?:still )?camera|dsc|picture)?"
    r"|exif[_ ]jpeg.*|jpeg|dcf?im?|my beautiful picture|screen ?shot|untitled|unknown(?: artist| album| title)?|"
    r"(?:audio)?track \d+|default|none|null|n/?a|no (?:title|comment|description)|various artists|"
    r"(?:image )?(?:created|made|generated|edited|encoded|processed|produced|rendered|converted|captured|exported|"
    r"downloaded|optimi[sz]ed|compressed|written|recorded|scanned|ripped) (?:with|by|in|using|from|on|at)\b.*|"
    r"file (?:source|written by).*|creator: .*|handmade software.*|applemark|lead technologies.*|"
    r"acd systems.*|intel\(r\) jpeg.*|jpeg encoder.*|.*\bjpegmini\b.*|lav[fc]\d.*|x264 .*|vid:\w+|"
    r"(?:adobe )?(?:photoshop|lightroom|imageready|illustrator|premiere|after effects)\b[\w .()]*|(?:the )?gimp\b[\w .]*|"
    r"(?:image|graphics)magick\b.*|(?:picasa|paint\.net|snapseed|instagram|audacity|inkscape|matplotlib)\b[\w .,:/()]*|"
    r"processing .*|hdrtoken.*|oznor|oznorww?o?|cof|sdr|dav|hdr|mde|rhdr",
    re.IGNORECASE,
)
"""Texts that cameras, telephones and programs write into every file."""
IDENTIFIER = re.compile(r"(?:\W*[0-9a-f]{6,}\W*)+", re.IGNORECASE)


def clean(value: Any) -> str:
    r"""Return a text on one line, without control characters and spaces around it; empty for what is no text.

    >>> clean(" a dog\n\x00 barks "), clean(3), clean("\ud83d")
    ('a dog barks', '', '')
    """
    if not isinstance(value, str) or not is_encodable(value):
        return ""
    begin = value[: 4 * CAPTION_LETTERS]  # what is cut off need not be looked at
    spaced = "".join(" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in begin)
    return " ".join(spaced.replace("\ufeff", "").split())[:CAPTION_LETTERS].rstrip()


def legible(content: bytes) -> str:
    r"""Decode a text whose encoding nobody noted: UTF-8, else Windows' western encoding.

    >>> legible("Café".encode()), legible(b"Caf\xe9"), legible(b"Rome\x00\x00")
    ('Café', 'Café', 'Rome')
    """
    content = content.rstrip(b"\0")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def is_boilerplate(text: str) -> bool:
    """Whether a text that a file has in itself says nothing of what it shows.

    >>> [is_boilerplate(text) for text in ("OLYMPUS DIGITAL CAMERA", "2019-05-04", "Created with GIMP", "00000A2C 00000B1F")]
    [True, True, True, True]
    >>> [is_boilerplate(text) for text in ("Canon of Pachelbel", "a digital camera on a desk", "Sony building", "Rome")]
    [False, False, False, False]
    """
    letters = sum(letter.isalpha() for letter in text)
    wide = any(letter.isalpha() and not (letter.islower() or letter.isupper()) for letter in text)  # a word in one
    if letters < 2 and not wide:
        return True
    if BOILERPLATE.fullmatch(text.strip()):
        return True
    return IDENTIFIER.fullmatch(text) is not None and any(letter.isdigit() for letter in text)
