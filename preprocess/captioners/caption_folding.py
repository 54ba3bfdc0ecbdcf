"""Which captions of an item are new: spelling, case, punctuation and white space do not make another caption."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from preprocess.data.roles import Caption


def folded(text: str) -> str:
    """The form of a text in which captions are compared.

    >>> folded("A dog, running .") == folded("a  dog running")
    True
    """
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def one_line(text: str) -> str:
    """A text without line breaks, other control characters and superfluous white space.

    >>> one_line(" two\\n dogs ")
    'two dogs'
    """
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())


def fresh(texts: Iterable[str], known: Iterable[str], limit: int) -> list[str]:
    """The first `limit` texts that are neither empty, nor like each other, nor like a known one; on one line each.

    Args:
        texts: captions, the best first.
        known: captions that are there already, folded.
    """
    seen = {"", *known}
    kept: list[str] = []
    for text in texts:
        if len(kept) == limit:
            break
        if (fold := folded(text)) not in seen:
            seen.add(fold)
            kept.append(one_line(text))
    return kept


def known_captions(captions: Sequence[Caption]) -> dict[int, set[str]]:
    """Folded texts of each item that has any, by its row. Queries are left out: nothing may depend on them."""
    known: dict[int, set[str]] = {}
    for caption in captions:
        if caption.role != "query":
            known.setdefault(caption.item_row, set()).add(folded(caption.text))
    return known


def new_caption_ids(item_id: str, family: str, count: int, taken: set[str]) -> list[str]:
    """Names for `count` captions, none of which is taken; they are from then on.

    >>> new_caption_ids("a.jpg", "blip", 2, {"a.jpg#blip0"})
    ['a.jpg#blip1', 'a.jpg#blip2']
    """
    names: list[str] = []
    number = 0
    while len(names) < count:
        name = f"{item_id}#{family}{number}"
        if name not in taken:
            names.append(name)
        number += 1
    taken.update(names)
    return names
