"""The words of a file's name and folders, for media that nothing else describes."""

import re
import unicodedata
from itertools import groupby
from pathlib import PurePosixPath

PHRASES = re.compile(
    r"whatsapp[ _-]+(?:image|video|audio|ptt|animated gifs?|stickers?|voice notes?|documents?)"
    r"(?:[ _-]+\d{4}-\d\d-\d\d[ _]+at[ _]+[\d.:]+(?:[ _]*[ap]m)?)?"
    r"|screen[ _-]?(?:shot|recording)s?(?:[ _-]+\d{4}-\d\d-\d\d[ _]+at[ _]+[\d.:]+(?:[ _]*[ap]m)?)?"
    r"|pxl_\d{8}_\d+(?:\.(?:mp|portrait|night|pano|longexposure|ts|vb)\b)?(?:-\w+)?"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    re.IGNORECASE,
)
"""What telephones call files, and UUIDs."""
CAMERA = frozenset(
    """
    img dsc dscf dscn dscim pxl vid mov mvi mvimg gopr gp gx gh gl dji wa sam cimg pict hpim kimg imgp imag dcim dcp
    burst pano aud ptt fb ic lrv thm mah sany stp edr ndc jd dscs unnamed untitled
    """.split()  # noqa: SIM905
)
"""Words with which cameras and telephones begin names."""
GENERIC = frozenset(
    """
    image images photo photos picture pictures pic pics video videos audio audios sound sounds clip clips file files
    media camera roll scan scans copy new folder data train valid val test all misc other download downloads received
    temp tmp upload uploads canon nikon apple android sony msdcf olymp pana frame frames output out sample samples final
    recording voice track audiotrack jpg jpeg png gif webp wav mp flac ogg mkv avi tiff heic edited thumb thumbnail
    """.split()  # noqa: SIM905
)
"""Words that say nothing where no others stand beside them."""


HEX = re.compile(r"[0-9a-f]+", re.IGNORECASE)


def name_words(path: str) -> str:
    """Return the words of a path in lower case; empty if it has none of sense.

    Words end at separators, at digits and where small letters are followed by a capital. Left out are numbers, strings
    like hashes, what cameras and telephones write, and single letters.

    >>> name_words("holiday/2019 Rome/blue_doorOfHouse-2.jpg")
    'holiday rome blue door of house'
    >>> name_words("DCIM/100CANON/IMG_1234.JPG"), name_words("a/d41d8cd98f00b204e9800998ecf8427e.png")
    ('', '')
    """
    whole = PurePosixPath(unicodedata.normalize("NFC", path))
    stem = whole.stem if 1 < len(whole.suffix) <= 6 else whole.name
    words: list[str] = []
    for part in (*whole.parts[:-1], stem):
        for token in _tokens(PHRASES.sub(" ", part)):
            for word in _words(token):
                if word not in CAMERA and not _is_letter(word) and words[-1:] != [word]:
                    words.append(word)
    return " ".join(words) if not GENERIC.issuperset(words) else ""


def _kind(letter: str) -> str:
    """Return what a character is in a name: `L`, a letter or an accent; `N`, a digit; empty for a separator."""
    return {"L": "L", "M": "L", "N": "N"}.get(unicodedata.category(letter)[0], "")


def _tokens(text: str) -> list[list[str]]:
    """Return what separators divide, each as runs of letters and of digits.

    >>> _tokens("blue_door2b")
    [['blue'], ['door', '2', 'b']]
    """
    tokens: list[list[str]] = [[]]
    for kind, run in groupby(text, _kind):
        if kind:
            tokens[-1].append("".join(run))
        else:
            tokens.append([])
    return [token for token in tokens if token]


def _words(runs: list[str]) -> list[str]:
    """Return the words of a token in lower case: none if it is like a hash or a random name.

    >>> [_words(token) for token in _tokens("d41d8cd98f dQw4w9WgXcQ cafe2020 doorOfHouse2 HTTPServer")]
    [[], [], ['cafe'], ['door', 'of', 'house'], ['http', 'server']]
    """
    words = [word for run in runs if _kind(run[0]) == "L" for word in _parts(run)]
    is_hex = sum(map(len, runs)) >= 6 and HEX.fullmatch("".join(runs)) is not None
    is_random = len(runs) >= 4 and sum(map(len, words)) < 3 * len(words)
    return [] if len(runs) >= 3 and (is_hex or is_random) else words


def _parts(run: str) -> list[str]:
    """Split letters before the capitals that begin words."""
    starts = [0]
    for place in range(1, len(run)):
        before, here, after = run[place - 1], run[place], run[place + 1 : place + 2]
        if here.isupper() and (before.islower() or (before.isupper() and after.islower())):
            starts.append(place)
    return [run[start:end].lower() for start, end in zip(starts, [*starts[1:], len(run)])]


def _is_letter(word: str) -> bool:
    """Whether a word is a single letter of an alphabet; one of Chinese or Japanese is a word."""
    return len(word) == 1 and word.upper() != word
