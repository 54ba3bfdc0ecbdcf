"""The semantic identifiers of GRACE, the paper's generative rival: words of an item's caption (CART Table 3).

GRACE (Li et al., 2024) lets a multimodal language model write them with the symbols of its own vocabulary. Here each
place in the caption is a position, and each word of a fixed vocabulary a value, so the same model writes them as it
writes the identifiers of other schemes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.catalogue.positions import Position
from preprocess.data.embeddings import Embeddings
from preprocess.identifiers.schemes.caption_words import (
    END,
    caption_codes,
    from_tensor,
    most_frequent_words,
    to_tensor,
)
from preprocess.identifiers.schemes.grace import AtomicCodec
from preprocess.identifiers.schemes.scheme import Needed, Scheme
from preprocess.identifiers.settings import CAPTION_VOCABULARY, CAPTION_WORDS, FitSettings


@dataclass
class CaptionCodec(AtomicCodec):
    """The vocabulary of semantic identifiers. Embeddings have no influence on them, so every code decodes to the mean.

    words: the vocabulary; the value of a word is 1 + its place here.
    length: L, positions of an identifier without the unique token.
    """

    words: list[str]
    length: int

    @property
    def positions(self) -> list[Position]:
        """w1..wL, each with all words and the end."""
        return [Position(f"w{place + 1}", len(self.words) + 1) for place in range(self.length)]

    @property
    def codewords(self) -> list[int]:
        """The words and the end, on each level."""
        return [len(self.words) + 1] * self.length

    def encode(self, embeddings: Embeddings) -> NDArray[np.int32]:
        """Not possible.

        Raises:
            ValueError: always. An embedding does not contain the words of a caption.
        """
        raise ValueError(
            "identifiers of --scheme semantic are words of captions, which new items cannot get from embeddings; build the "
            "identifiers of all items again with their captions, or use another --scheme"
        )

    def distances(self, embeddings: NDArray[np.floating], prefixes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, V + 1) float32, all zero: every word is as near to an embedding as another."""
        return np.zeros((len(embeddings), len(self.words) + 1), dtype=np.float32)

    def tensors(self) -> dict[str, np.ndarray]:
        """The content of `codec.safetensors`: `atomic.mean`, and `semantic.words`, the words as UTF-8 lines."""
        return {**super().tensors(), "semantic.words": to_tensor(self.words)}


class Semantic(Scheme):
    """Words of captions.

    Args:
        captions: that of each item, in row order. Only `restore` works without them.
        vocabulary: most different words.
        length: most words of an identifier.
    """

    name = "semantic"

    def __init__(self, captions: Sequence[str] = (), vocabulary: int = CAPTION_VOCABULARY, length: int = CAPTION_WORDS):
        self.words = most_frequent_words(captions, vocabulary)
        codes = caption_codes(captions, self.words, length)
        self.codes = codes[:, (codes != END).any(axis=0)]

    def needed(self, settings: FitSettings) -> Needed | None:
        """Nothing: no item is clustered."""
        return None

    def fit(
        self, points: NDArray[np.float32], items: int, settings: FitSettings, work: Path, processes: int = 1
    ) -> CaptionCodec:
        """The vocabulary, and the mean of the points."""
        return CaptionCodec(AtomicCodec.fit(points).mean, self.words, self.codes.shape[1])

    def restore(self, tensors: dict[str, np.ndarray], positions: Sequence[Position]) -> CaptionCodec:
        """The inverse of `CaptionCodec.tensors`."""
        return CaptionCodec(tensors["atomic.mean"], from_tensor(tensors["semantic.words"]), len(positions))

    def given_codes(self) -> NDArray[np.int32]:
        """(N, L) int32, the words of each item's caption. L is the length of the longest."""
        return self.codes
