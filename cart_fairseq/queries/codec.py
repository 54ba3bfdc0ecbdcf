"""Encodes text queries to symbols and decodes identifiers to item ids, with the interface of a fairseq BPE."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from torch import Tensor

from cart_fairseq.base.checks import short
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dictionary import EOS, UNK, read_words
from cart_fairseq.catalogue.text_encoder import TextEncoder, TokenSymbols

CHARACTERS = 64
"""Characters of a text that are read for each symbol that is kept; a piece of sentencepiece has 16 at most."""


def beginning(text: str, symbols: int) -> str:
    """The part of a text from which its first symbols come, so that megabytes of text cost no minutes.

    >>> len(beginning("a " * 1_000_000, 256))
    16384
    """
    return text[: symbols * CHARACTERS]


class Pieces:
    """Splits texts into the pieces of a sentencepiece model, and joins them."""

    def __init__(self, model: Path):
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(model))

    def split(self, text: str) -> list[str]:
        """Split a text into words of the dictionary."""
        return self._processor.encode(text, out_type=str)

    def join(self, words: Iterable[str]) -> str:
        """Join words of the dictionary to a text."""
        return self._processor.decode([*words])


def _pieces(data: DataBin) -> Pieces:
    with data.files.reading("sentencepiece.model") as path:
        return Pieces(path)


class QueryCodec:
    """Encodes queries and decodes hypotheses, for fairseq's commands and for Python.

    Args:
        data: the opened data-bin.

    Raises:
        ValueError: the data-bin's text encoder or dictionary is damaged, or the library ``tokenizers`` is missing.
    """

    def __init__(self, data: DataBin):
        self.data = data
        encoder = TextEncoder.of(data)
        self._pieces = _pieces(data) if encoder is None else TokenSymbols.load(encoder)
        with data.files.reading("dict.query.txt") as path:
            self._words = read_words(path)
        self._max_symbols = int(data.manifest["inputs"]["max_query_tokens"])
        symbols = data.bundle.positions
        self.value_of = [{p.symbol(value): value for value in range(p.size)} for p in symbols]
        trie = data.trie
        self.values = [tensor.cpu().numpy() for tensor in trie.values]
        self.first_child = [tensor.cpu().numpy() for tensor in trie.first_child]
        self.rows = trie.rows.cpu().numpy()

    def encode(self, text: str) -> str:
        """Split a query into words of the dictionary, separated by spaces. Of a long text only the part that counts."""
        return " ".join(self._pieces.split(beginning(text, self._max_symbols)))

    def symbols(self, text: str) -> Tensor:
        """Encode a query: (T,) int64 symbols that end in ``</s>``, cut to the data-bin's ``max_query_tokens``."""
        return self._symbols(self.encode(text))

    def query(self, text: str, position: int) -> Tensor:
        """Encode the text of a query that a search is asked for, as :meth:`symbols` does.

        Args:
            text: the text.
            position: of the query among all, for the message.

        Raises:
            ValueError: the vocabulary's normalisation leaves nothing of the text.
        """
        words = self.encode(text)
        if not words:
            raise ValueError(
                f"query {position} begins with nothing but invisible characters ({short(text)}); give it some text"
            )
        return self._symbols(words)

    def _symbols(self, words: str) -> Tensor:
        found = [self._words.get(word, UNK) for word in words.split()]
        return torch.tensor([*found[: self._max_symbols - 1], EOS])

    def decode(self, symbols: str) -> str:
        """Return the item id of an identifier, or the text of any other symbols, such as those of a query."""
        words = symbols.split()
        if len(words) == len(self.value_of) and all(w in known for w, known in zip(words, self.value_of, strict=True)):
            node = 0
            for depth, (word, known) in enumerate(zip(words, self.value_of, strict=True)):
                low, high = self.first_child[depth][node : node + 2].tolist()
                node = low + int(np.searchsorted(self.values[depth][low:high], known[word]))
                if node == high or self.values[depth][node] != known[word]:
                    return self._pieces.join(words)
            row = int(self.rows[node])
            values = [known[word] for word, known in zip(words, self.value_of, strict=True)]
            self.data.refuse_wrong(np.array([row]), np.array([values]) + self.data.bundle.offsets)
            return self.data.bundle.item_id(row)
        return self._pieces.join(words)
