"""Which query vocabulary a data-bin gets: one learned from its captions, a text encoder's, or another data-bin's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cart_fairseq.base.files import sha256
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.text_encoder import TextEncoder
from preprocess.data_bin.pretrained_vocabulary import PretrainedVocabulary, identity
from preprocess.data_bin.vocabulary import DICTIONARY, SENTENCEPIECE, QueryVocabulary, Vocabulary, train_sentencepiece


class VocabularyChoice:
    """The query vocabulary that the arguments ask for.

    Args:
        other: a data-bin whose vocabulary, with its text encoder where it has one, is used.
        text_encoder: name or folder of a pretrained encoder.

    Raises:
        ValueError: both are given, or the data-bin is damaged.
    """

    def __init__(self, other: str | Path | None, text_encoder: str | Path | None):
        if other and text_encoder:
            raise ValueError("--vocabulary-from brings its text encoder along; leave out --text-encoder")
        self.other = DataBin(other) if other else None
        if self.other:
            self.other.verify(name for name in (SENTENCEPIECE, DICTIONARY) if name in self.other.files)
        self.carried = TextEncoder.of(self.other) if self.other else None
        self.text_encoder = str(text_encoder) if text_encoder else None

    def inputs(self) -> dict[str, Any]:
        """Checksums for the manifest, by which a second run sees whether the vocabulary changed."""
        if self.carried:
            return {"vocabulary": self.carried.digest.hex()}
        if self.other:
            with self.other.files.reading(SENTENCEPIECE) as path:
                return {"vocabulary": sha256(path)}
        return {"text_encoder": identity(self.text_encoder)} if self.text_encoder else {}

    def vocabulary(self, texts: Sequence[str], vocab_size: int, seed: int, max_query_tokens: int) -> Vocabulary:
        """Load it, or learn it from the training captions ``texts``.

        Raises:
            ValueError: it cannot be loaded or learned, or takes no queries of ``max_query_tokens``.
        """
        if self.other and self.carried:
            pretrained = PretrainedVocabulary.of(self.other, self.carried)
        elif self.text_encoder:
            pretrained = PretrainedVocabulary.load(self.text_encoder)
        elif self.other:
            with self.other.files.reading(SENTENCEPIECE) as path:
                return QueryVocabulary(path.read_bytes())
        else:
            return QueryVocabulary(train_sentencepiece(texts, vocab_size, seed))
        pretrained.check_length(max_query_tokens)
        return pretrained
