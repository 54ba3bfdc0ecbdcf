"""Names of unpacked files: plain, inside their folder and unique, whatever a stranger called them."""

from preprocess.folder.limits import PART_BYTES, PATH_PARTS
from preprocess.folder.listing import LEFT_BEHIND, composed

FALLBACK = "item"


class SafeNames:
    """Gives each sample of a packed file one name below the folder of that file."""

    def __init__(self) -> None:
        self._names: dict[object, str] = {}
        self._taken: set[str] = set()

    def of(self, sample: object, name: str) -> str:
        """Return the name of a sample.

        Args:
            sample: what identifies it.
            name: the name that it would like; used when it is asked for the first time.

        >>> names = SafeNames()
        >>> names.of(1, "a/b c.d"), names.of(2, "A/B_C.D"), names.of(1, "other"), names.of(3, "/.../*?")
        ('a/b_c.d', 'A/B_C.D-2', 'a/b_c.d', 'item')
        """
        if sample not in self._names:
            begin = shown = plain_path(name)
            number = 1
            while shown.casefold() in self._taken:  # some file systems do not tell capitals apart
                number += 1
                shown = f"{begin}-{number}"
            self._taken.add(shown.casefold())
            self._names[sample] = shown
        return self._names[sample]


def plain_path(name: str) -> str:
    r"""Return a path of letters, digits, `-`, `_` and, in its last part, dots.

    Folders have no dots and files have an ending, so none gets the name of the other.

    >>> plain_path("../x/./a.b/c.d"), plain_path("C:\\dög.1"), plain_path("..")
    ('x/a_b/c.d', 'C/dög.1', 'item')
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part.strip(". ")]
    *folders, last = parts[-PATH_PARTS:] or [""]
    plain = [plain_part(part).replace(".", "_") for part in folders]
    return "/".join([*(part for part in plain if part), plain_part(last) or FALLBACK])


def plain_part(text: str) -> str:
    """Return a part of a path without anything that a file system or a shell gives a meaning."""
    kept = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in composed(text))
    cut = kept.encode("utf-8", "ignore")[:PART_BYTES].decode("utf-8", "ignore").strip("._")
    return f"{cut}_" if cut.lower() in LEFT_BEHIND else cut


def is_passed_over(name: str) -> bool:
    """Whether a path has a hidden part, or one that a system left behind.

    >>> is_passed_over("./a/b.jpg"), is_passed_over("a/._b.jpg"), is_passed_over("__MACOSX/b.jpg")
    (False, True, True)
    """
    parts = [part for part in name.split("/") if part not in (".", "..")]
    return any(part.startswith(".") or part.lower() in LEFT_BEHIND for part in parts)
