"""Which captions of an item are new. Captions that differ in case, punctuation or white space only count as equal."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from preprocess.data.roles import Caption


def folded(text: str) -> str:
    """Return the form of a text that is used to compare captions.

    >>> folded("A dog, running .") == folded("a  dog running")
    True
    """
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def one_line(text: str) -> str:
    """Return a text without control characters such as line breaks, and with single spaces.

    >>> one_line(" two\\n dogs ")
    'two dogs'
    """
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())


def fresh(texts: Iterable[str], known: Iterable[str], limit: int) -> list[str]:
    """Return the first `limit` texts that are not empty and differ from each other and from the known ones.

    Args:
        texts: captions, the best first.
        known: the captions that exist, folded.
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
    """Return row of an item -> its folded captions. Queries are left out, because nothing may depend on them."""
    known: dict[int, set[str]] = {}
    for caption in captions:
        if caption.role != "query":
            known.setdefault(caption.item_row, set()).add(folded(caption.text))
    return known


def new_caption_ids(item_id: str, family: str, count: int, taken: set[str]) -> list[str]:
    """Return ids for `count` captions that are not in `taken`, and add them to it.

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
