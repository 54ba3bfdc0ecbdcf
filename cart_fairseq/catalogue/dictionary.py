"""Reads fairseq's dictionary files without fairseq: a word and its count a line, after four special symbols."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cart_fairseq.catalogue.errors import CatalogueError

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
BOS, PAD, EOS, UNK = range(len(SPECIALS))


def read_words(path: Path) -> dict[str, int]:
    """Read a mapping of word to symbol, including the special symbols.

    Raises:
        CatalogueError: the file cannot be read, or a line is not a word and its count.
    """
    words = {word: symbol for symbol, word in enumerate(SPECIALS)}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(
            f"{path}: cannot be read ({error}); make it again with python -m preprocess.binarize"
        ) from None
    for number, line in enumerate(lines[:-1] if not lines[-1] else lines, start=1):
        word, _, count = line.rstrip().removesuffix(" #fairseq:overwrite").rpartition(" ")
        if not word or not count.isdigit():
            raise CatalogueError(
                f"{path}, row {number}: found {line[:60]!r}, not a word and its count; make it again with "
                "python -m preprocess.binarize"
            )
        words[word] = len(SPECIALS) + number - 1
    return words


def count_symbols(path: Path) -> int:
    """Return the number of symbols of a dictionary, with the special ones.

    Raises:
        CatalogueError: see :func:`read_words`.
    """
    return max(read_words(path).values()) + 1


def check_size(positions: Sequence[tuple[str, int]], entry: Mapping[str, Any] | None) -> None:
    """Check that ``dict.id.txt`` has a line for each value of each position: a wrong size would fill the memory.

    Args:
        positions: name and size of each.
        entry: the manifest's entry of the file; None if it lists none.

    Raises:
        ValueError: the file has another size.
    """
    expected = 0
    for name, size in positions:
        digits, first = 1, 0
        while first < size:
            last = min(size, 10**digits)
            expected += (last - first) * (len(f"<{name}_> 1\n".encode()) + digits)
            digits, first = digits + 1, last
    if entry is not None and entry["bytes"] != expected:
        raise ValueError(f"dict.id.txt has {entry['bytes']} bytes, the sizes of the positions need {expected}")
