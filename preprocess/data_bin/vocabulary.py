"""The query vocabulary: a sentencepiece model trained on the training captions, and fairseq's dictionary for it.

Sentencepiece numbers its pieces as fairseq numbers its symbols (``<s>`` 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3), so a
piece's id is its index in ``dict.query.txt``: the dictionary is written in sentencepiece's order, without padding
words. Text is normalised by ``nmt_nfkc_cf`` (Unicode NFKC and case folding): upper and lower case make no difference.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import sentencepiece

SENTENCEPIECE, DICTIONARY = "sentencepiece.model", "dict.query.txt"
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
EOS, UNK = 2, 3
MAX_TRAINING_TEXTS = 1_000_000  # more captions than this are sampled: the vocabulary changes no more, memory would
MAX_TEXT_LETTERS = 1 << 14  # a text of a million letters would take minutes
MAX_TEXT_BYTES = 1 << 20  # sentencepiece skips longer training texts
MIN_VOCABULARY = len(SPECIALS) + 1


def train_sentencepiece(texts: Sequence[str], vocab_size: int, seed: int) -> bytes:
    """Train a unigram sentencepiece model; the same texts, size and seed give the same bytes.

    Args:
        texts: training captions, and nothing else.
        vocab_size: the most pieces to learn, specials included; small data yields fewer.
        seed: of the sample taken from more than ``MAX_TRAINING_TEXTS`` captions.

    Returns:
        The serialised model (``sentencepiece.model``).

    Raises:
        ValueError: the size leaves no room for the letters of the texts, or the texts have no letters.
    """
    if vocab_size < MIN_VOCABULARY:
        raise ValueError(f"--vocab-size is {vocab_size}; it must be at least {MIN_VOCABULARY}")
    if len(texts) > MAX_TRAINING_TEXTS:
        chosen = np.random.default_rng(seed).choice(len(texts), MAX_TRAINING_TEXTS, replace=False)
        texts = [texts[i] for i in np.sort(chosen)]
    texts = [text[:MAX_TEXT_LETTERS] for text in texts]
    # every letter gets a symbol, unless rare ones would crowd out words, as in large data of many scripts
    letters = set().union(*texts)
    coverage = 1.0 if len(letters) <= vocab_size // 10 else 0.9995
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc_cf",
            character_coverage=coverage,
            max_sentence_length=MAX_TEXT_BYTES,
            bos_id=0,
            pad_id=1,
            eos_id=2,
            unk_id=3,
            num_threads=4,  # fixed: sums run over threads, so another number may round differently
            minloglevel=2,
        )
    except RuntimeError as error:
        if "Vocabulary size is smaller" in str(error):
            raise ValueError(
                f"--vocab-size is {vocab_size}, less than the captions have different letters; choose a larger one"
            ) from None
        raise ValueError(
            f"no vocabulary can be learned from the {len(texts)} training captions ({error}); "
            "check that their texts have letters"
        ) from None
    return model.getvalue()


class Vocabulary(Protocol):
    """Texts to symbols of the query dictionary, however they come about."""

    def __len__(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...

    def write(self, directory: Path) -> dict[str, Any]: ...


class QueryVocabulary:
    """Texts to symbols of the query dictionary.

    Args:
        model: the serialised sentencepiece model.
    """

    def __init__(self, model: bytes):
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __len__(self) -> int:
        """Symbols of the dictionary, the four specials included."""
        return self._processor.get_piece_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Symbols of each text, without end of sentence; empty where normalisation leaves nothing of a text."""
        return self._processor.encode(list(texts), out_type=int)

    def dictionary(self) -> str:
        """The content of ``dict.query.txt``: one ``<piece> 1`` a line, fairseq's own four specials left out."""
        pieces = (self._processor.id_to_piece(i) for i in range(len(SPECIALS), len(self)))
        return "".join(f"{piece} 1\n" for piece in pieces)

    def write(self, directory: Path) -> dict[str, Any]:
        """Write ``sentencepiece.model`` and ``dict.query.txt``; the manifest needs no entry of its own for them."""
        (directory / SENTENCEPIECE).write_bytes(self.model)
        (directory / DICTIONARY).write_text(self.dictionary(), encoding="utf-8", newline="\n")
        return {}
