"""A data-bin's pretrained text encoder, and its tokens as symbols of fairseq's query dictionary.

``text-encoder/`` is a folder in the format of transformers' ``save_pretrained``. The query dictionary has fairseq's
four special symbols and then the tokeniser's vocabulary, so symbol = 4 + token; the tokeniser's unknown token
becomes fairseq's ``<unk>``. Queries are stored without the model's start and end tokens;
:mod:`cart_fairseq.network.pretrained_encoder` adds them.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cart_fairseq.catalogue.data_bin import REMEDY, TEXT_ENCODER, DataBin
from cart_fairseq.catalogue.dictionary import SPECIALS, UNK
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.held_files import HeldFiles

FOLDER = TEXT_ENCODER
CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
ESCAPED = re.compile(r"<token_\d+>")
BLOCK = 8192
MOST_TOKENS = 1 << 31


def missing(library: str) -> ValueError:
    """Return the error for a missing library that text encoders need."""
    return ValueError(
        f"a pretrained text encoder needs the library {library}, which is missing; pip install 'cart-fairseq[encoders]'"
    )


@dataclass(frozen=True)
class TextEncoder:
    """A data-bin's text encoder.

    Attributes:
        files: the encoder's files.
        start, end: the model's tokens before and after a text.
        pad, unk: the model's padding token and unknown token.
        max_tokens: length of the longest text, including ``start`` and ``end``.
        digest: 16 bytes that identify the weights and the tokeniser.
    """

    files: HeldFiles
    start: int
    end: int
    pad: int
    unk: int
    max_tokens: int
    digest: bytes

    @classmethod
    def of(cls, data: DataBin) -> "TextEncoder | None":
        """Return the data-bin's text encoder, or None if it has its own vocabulary.

        Raises:
            CatalogueError: a file is missing or its size differs from the manifest.
        """
        entry = data.manifest.get("text_encoder")
        if entry is None or data.encoder_files is None:
            return None
        tokens = {name: entry.get(name) for name in ("start", "end", "pad", "unk", "max_tokens")}
        for name, value in tokens.items():
            if type(value) is not int or not 0 <= value < MOST_TOKENS:
                raise CatalogueError(f"{data.directory}/manifest.json: {name} of text_encoder is {value!r}; {REMEDY}")
        for name in (TOKENIZER, WEIGHTS):
            if name not in entry["files"]:
                raise CatalogueError(f"{data.directory}/manifest.json: text_encoder lists no {name}; {REMEDY}")
        return cls(data.encoder_files, **tokens, digest=digest(entry["files"]))


def digest(files: dict[str, Any]) -> bytes:
    """Return 16 bytes that identify the weights and the tokeniser, from the manifest's entries of the files."""
    checksums = [files[name]["sha256"] for name in (TOKENIZER, WEIGHTS)]
    return hashlib.sha256(json.dumps(checksums).encode()).digest()[:16]


class TokenSymbols:
    """Converts texts to symbols of the query dictionary and back.

    Texts have no markup: ``[SEP]`` in a query is read as five characters, not as a special token.

    Args:
        tokenizer: the content of ``tokenizer.json``, without truncation and padding.
        unk: the tokeniser's unknown token.

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
        """Load the tokeniser of a data-bin's text encoder."""
        with encoder.files.reading(TOKENIZER) as path:
            return cls(path.read_text(encoding="utf-8"), encoder.unk)

    def __len__(self) -> int:
        """The number of symbols in the dictionary, including fairseq's four."""
        return len(SPECIALS) + len(self.words)

    def tokens(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield the tokens of each text, without the model's special tokens."""
        for begin in range(0, len(texts), BLOCK):
            block = list(texts[begin : begin + BLOCK])
            for encoding in self._tokenizer.encode_batch_fast(block, add_special_tokens=False):
                yield encoding.ids

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Symbols of each text, without ``</s>``; an empty list if normalisation removes the whole text."""
        first = len(SPECIALS)
        return [[UNK if token == self.unk else first + token for token in text] for text in self.tokens(texts)]

    def split(self, text: str) -> list[str]:
        """Split a text into words of the dictionary."""
        (tokens,) = self.tokens([text])
        return [SPECIALS[UNK] if token == self.unk else self.words[token] for token in tokens]

    def join(self, words: Iterable[str]) -> str:
        """Join words of the dictionary to a text, without fairseq's special symbols."""
        tokens = [self._token_of[word] for word in words if word in self._token_of]
        return self._tokenizer.decode(tokens, skip_special_tokens=False)

    @cached_property
    def _token_of(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.words)}

    def dictionary(self) -> str:
        """Return the content of ``dict.query.txt``: a line ``<word> 1`` for each token, without fairseq's specials."""
        return "".join(f"{word} 1\n" for word in self.words)


def _word(text: str | None, token: int) -> str:
    """Return the token's text, or ``<token_N>`` if a dictionary file cannot hold the text."""
    if not text or any(letter.isspace() for letter in text) or text in SPECIALS or ESCAPED.fullmatch(text):
        return f"<token_{token}>"
    return text
