"""The pretrained text encoder that a data-bin may hold, and its tokens as symbols of fairseq's query dictionary.

``text-encoder/`` is a folder as ``save_pretrained`` of transformers writes it. The query dictionary is the tokeniser's
vocabulary after fairseq's four specials, so symbol = 4 + token; what the tokeniser does not know is fairseq's ``<unk>``.
Queries are kept without the model's own special tokens, which :mod:`cart_fairseq.network.pretrained_encoder` puts around them.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cart_fairseq.catalogue.data_bin import REMEDY, DataBin
from cart_fairseq.catalogue.dictionary import SPECIALS, UNK
from cart_fairseq.catalogue.segments import check_sizes

FOLDER = "text-encoder"
CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
ESCAPED = re.compile(r"<token_\d+>")
BLOCK = 8192


def missing(library: str) -> ValueError:
    """What to tell somebody whose installation lacks a library that text encoders need."""
    return ValueError(
        f"a pretrained text encoder needs the library {library}, which is missing; pip install 'cart-fairseq[encoders]'"
    )


@dataclass(frozen=True)
class TextEncoder:
    """A data-bin's text encoder.

    Attributes:
        directory: the folder.
        start, end: tokens that the model expects around a text.
        pad, unk: its token for padding, and for what it does not know.
        max_tokens: the longest text, ``start`` and ``end`` included.
        digest: 16 bytes that change with its weights and its tokeniser.
    """

    directory: Path
    start: int
    end: int
    pad: int
    unk: int
    max_tokens: int
    digest: bytes

    @classmethod
    def of(cls, data: DataBin) -> "TextEncoder | None":
        """That of a data-bin; None where it has a vocabulary of its own.

        Raises:
            ValueError: a file is missing or has another size than it was written with.
        """
        entry = data.manifest.get("text_encoder")
        if entry is None:
            return None
        directory = data.bundle.directory.parent / FOLDER  # an update of the items leaves it where it is
        check_sizes(directory, entry, REMEDY)
        tokens = {name: entry[name] for name in ("start", "end", "pad", "unk", "max_tokens")}
        return cls(directory, **tokens, digest=digest(entry["files"]))


def digest(files: dict[str, Any]) -> bytes:
    """16 bytes of the manifest's entries of a text encoder's files."""
    checksums = [files[name]["sha256"] for name in (TOKENIZER, WEIGHTS)]
    return hashlib.sha256(json.dumps(checksums).encode()).digest()[:16]


class TokenSymbols:
    """Texts to symbols of the query dictionary and back.

    What a text says is never markup: ``[SEP]`` in a query is its five letters.

    Args:
        tokenizer: the content of ``tokenizer.json``, which neither truncates nor pads.
        unk: the token that stands for what the tokeniser does not know.

    Raises:
        ValueError: the library ``tokenizers`` is missing.
    """

    def __init__(self, tokenizer: str, unk: int):
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise missing("tokenizers") from None
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.encode_special_tokens = True
        self.unk = unk
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        token_of = {token: text for text, token in vocabulary.items()}
        self.words = [_word(token_of.get(token), token) for token in range(max(token_of) + 1)]
        """The dictionary's word for each token."""

    @classmethod
    def load(cls, encoder: TextEncoder) -> "TokenSymbols":
        """Of a data-bin's text encoder."""
        return cls((encoder.directory / TOKENIZER).read_text(encoding="utf-8"), encoder.unk)

    def __len__(self) -> int:
        """Symbols of the dictionary, fairseq's four included."""
        return len(SPECIALS) + len(self.words)

    def tokens(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Tokens of each text, without the model's special tokens."""
        for begin in range(0, len(texts), BLOCK):
            block = list(texts[begin : begin + BLOCK])
            for encoding in self._tokenizer.encode_batch_fast(block, add_special_tokens=False):
                yield encoding.ids

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Symbols of each text, without end of sentence; empty where normalisation leaves nothing of it."""
        first = len(SPECIALS)
        return [[UNK if token == self.unk else first + token for token in text] for text in self.tokens(texts)]

    def split(self, text: str) -> list[str]:
        """A text as words of the dictionary."""
        (tokens,) = self.tokens([text])
        return [SPECIALS[UNK] if token == self.unk else self.words[token] for token in tokens]

    def join(self, words: Iterable[str]) -> str:
        """Words of the dictionary as text; fairseq's special symbols are left out."""
        tokens = [self._token_of[word] for word in words if word in self._token_of]
        return self._tokenizer.decode(tokens, skip_special_tokens=False)

    @cached_property
    def _token_of(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.words)}

    def dictionary(self) -> str:
        """The content of ``dict.query.txt``: one ``<word> 1`` a line, fairseq's own four specials left out."""
        return "".join(f"{word} 1\n" for word in self.words)


def _word(text: str | None, token: int) -> str:
    """A token's text where a dictionary can hold it, else ``<token_N>``."""
    if not text or any(letter.isspace() for letter in text) or text in SPECIALS or ESCAPED.fullmatch(text):
        return f"<token_{token}>"
    return text
