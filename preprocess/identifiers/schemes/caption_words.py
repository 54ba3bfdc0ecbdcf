"""Words of captions as values of identifiers, and which caption an identifier comes from."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.data.inputs import read_captions
from preprocess.data.roles import Caption, resolve, trainable

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
END = 0
"""The value of the places after a caption's last word."""


def words_of(caption: str) -> list[str]:
    """The words of a caption: runs of letters and digits, in Unicode's form NFKC and case folded.

    >>> words_of("A dog's ball – two BALLS!")
    ['a', "dog's", 'ball', 'two', 'balls']
    """
    return WORD.findall(unicodedata.normalize("NFKC", caption).casefold())


def most_frequent_words(captions: Iterable[str], size: int) -> list[str]:
    """At most `size` different words of captions, the most frequent first, equally frequent ones in alphabetical order.

    >>> most_frequent_words(["a red ball", "a blue ball", "a cat"], 3)
    ['a', 'ball', 'blue']
    """
    counts = Counter(word for caption in captions for word in words_of(caption))
    return sorted(counts, key=lambda word: (-counts[word], word))[:size]


def caption_codes(captions: Sequence[str], words: Sequence[str], length: int) -> NDArray[np.int32]:
    """The first `length` known words of each caption.

    Args:
        captions: N texts.
        words: the vocabulary.
        length: L. Words that are not in the vocabulary are left out and take no place.

    Returns:
        (N, L) int32: 1 + the word's place in `words`; END after the last word.

    >>> caption_codes(["a red ball", "a tall ball"], ["a", "ball", "red"], 4).tolist()
    [[1, 3, 2, 0], [1, 2, 0, 0]]
    """
    value = {word: number for number, word in enumerate(words, start=1)}
    codes = np.full((len(captions), length), END, dtype=np.int32)
    for row, caption in enumerate(captions):
        known = [value[word] for word in words_of(caption) if word in value][:length]
        codes[row, : len(known)] = known
    return codes


def to_tensor(words: Sequence[str]) -> NDArray[np.uint8]:
    """The words one a line, as UTF-8 bytes: a vocabulary in a file of tensors."""
    return np.frombuffer("\n".join(words).encode(), dtype=np.uint8)


def from_tensor(tensor: NDArray[np.uint8]) -> list[str]:
    """The inverse of `to_tensor`.

    >>> from_tensor(to_tensor(["a", "ball"]))
    ['a', 'ball']
    """
    return tensor.tobytes().decode().split("\n")


def item_captions(path: str | Path, items: Sequence[dict[str, Any]], seed: int) -> list[str]:
    """The caption that each item's identifier comes from: its first `index` caption, else its first `train` caption.

    Captions that measure are not used: neither those of the role `query` nor, where there are no valid queries, those that
    `binarize` holds out with the same seed.

    Args:
        path: captions.jsonl.
        items: the rows of items.jsonl.
        seed: of the captions held out.

    Returns:
        A caption for each row.

    Raises:
        ValueError: the file is damaged, an item has no such caption, or there is no word in any of them.
    """
    ids = [item["item_id"] for item in items]
    row_of = {item_id: row for row, item_id in enumerate(ids)}
    captions = resolve(read_captions(path, items), row_of, [item.get("split") for item in items], str(path))
    chosen: dict[int, str] = {}
    for caption in by_rank(trainable(captions, "include", None, seed)):
        chosen.setdefault(caption.item_row, caption.text)
    missing = next((ids[row] for row in range(len(ids)) if row not in chosen), None)
    if missing is not None:
        raise ValueError(
            f"{path}: item {missing!r} has no caption of the role index or train ({len(ids) - len(chosen)} of {len(ids)} "
            "items have none); generate captions with preprocess.generate_captions, or use another --scheme"
        )
    if not any(map(words_of, chosen.values())):
        raise ValueError(
            f"{path}: no caption of the role index or train has a word; write words of letters or digits, or use another "
            "--scheme"
        )
    return [chosen[row] for row in range(len(ids))]


def by_rank(captions: Iterable[Caption]) -> list[Caption]:
    """Captions in the order in which they are chosen: `index` before `train`, otherwise as in the file."""
    return sorted(captions, key=lambda caption: caption.role != "index")
