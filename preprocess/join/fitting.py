"""What `join_captions` fits on samples: text features, their centre, and the map from embeddings to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from cart_fairseq.base.files import write_json
from preprocess.data.embeddings import Embeddings, RowSubset
from preprocess.data.joined_folder import PARTS, REMEDY, VOCABULARY, SavedParts
from preprocess.identifiers.clustering import sample_rows
from preprocess.join.alignment import Alignment, TowerPairs
from preprocess.join.settings import JoinSettings
from preprocess.join.standardise import Standardised
from preprocess.join.text_features import EncoderFeatures, LsaFeatures
from preprocess.join.text_space import ItemTexts, TextMap, centred

COMPONENTS = 256
"""Most principal components of the embeddings, unless the settings say otherwise."""
Features = LsaFeatures | EncoderFeatures


@dataclass
class Parts:
    """Everything that is fitted.

    features: captions -> (n, T) float32; None where there are no captions to join.
    text_map: embeddings -> (n, T) float32.
    centre: (T,) float32, the mean of the items' text features.
    kept: embeddings -> (n, D) float32, where rows keep them.
    alignment: rows joined -> (n, T + A) float32, where that is wanted.
    """

    features: Features | None
    text_map: TextMap
    centre: NDArray[np.float32]
    kept: Standardised | None = None
    alignment: Alignment | None = None

    @property
    def widths(self) -> list[int]:
        """Of what a joined row consists of."""
        return [len(self.centre)] * 2 + ([len(self.kept.mean)] if self.kept else [])

    def write(self, folder: Path) -> None:
        """Write them to a folder."""
        tensors = self.text_map.tensors() | {"text.centre": self.centre}
        for more in (self.kept, self.alignment):
            tensors |= more.tensors() if more else {}
        if isinstance(self.features, LsaFeatures):
            tensors |= self.features.tensors()
            write_json(folder / VOCABULARY, self.features.vocabulary)
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / PARTS)


def drawn(rows: NDArray[np.int64], settings: JoinSettings) -> NDArray[np.int64]:
    """A seeded sample of `train_sample` rows, in their order; all of them where they are no more."""
    count = settings.train_sample
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng(settings.seed).choice(rows, count, replace=False))


def fit_features(texts: Sequence[str], settings: JoinSettings, source: Path) -> Features:
    """Text features: lsa fitted on a sample of the texts of `source`, or the encoder, which needs no fitting."""
    if settings.encoder:
        return EncoderFeatures(settings.encoder, settings.device)
    sample = [texts[i] for i in drawn(np.arange(len(texts)), settings)]
    return LsaFeatures.fit(sample, settings.text_dim, settings.seed, source, settings.rare_words)


def restore_parts(saved: SavedParts, settings: JoinSettings, texts: bool = True) -> Parts:
    """The parts as an earlier join fitted them.

    Args:
        texts: whether there are captions to join; without them no sentence encoder is loaded.

    Raises:
        ValueError: a part is missing or of another shape.
    """
    tensors = saved.tensors
    features: Features | None = None
    if texts and settings.encoder:
        features = EncoderFeatures(settings.encoder, settings.device)
    try:
        if texts and features is None:
            features = LsaFeatures.load(tensors, saved.vocabulary)
        text_map, kept = TextMap.load(tensors), Standardised.load(tensors)
        return Parts(features, text_map, tensors["text.centre"], kept, Alignment.load(tensors))
    except (KeyError, IndexError, RuntimeError) as error:  # torch's modules raise the last
        said = " ".join(str(error).split())
        raise ValueError(f"{PARTS} of the earlier join: damaged ({said}); {REMEDY}") from None


def fit_map(
    embeddings: Embeddings,
    texts: ItemTexts,
    centre: NDArray[np.float32],
    known: NDArray[np.bool_],
    settings: JoinSettings,
    embeddings_path: Path,
    captions_path: Path,
) -> TextMap:
    """The map from embeddings to text features: components of a sample of all items, regression on known ones.

    Args:
        known: (N,), the training items with text.
        embeddings_path, captions_path: for messages.

    Raises:
        ValueError: no item is known, or `TextMap.fit` refuses.
    """
    if not known.any():
        raise ValueError(
            f"{captions_path}: no training item has a caption with a known word, there is nothing to map embeddings to; give captions of "
            "items whose split is train, or that have none"
        )
    sample = sample_rows(embeddings, settings.train_sample, settings.seed)
    rows = drawn(np.flatnonzero(known), settings)
    targets = centred(texts.means(rows), centre)
    pca = settings.pca or min(COMPONENTS, *sample.shape)
    known_rows = RowSubset(embeddings, rows)
    try:
        return TextMap.fit(sample, known_rows, targets, pca, settings.ridge, settings.block_rows)
    except ValueError as error:
        raise ValueError(f"{embeddings_path}: {error}") from None


def fit_kept(embeddings: Embeddings, settings: JoinSettings) -> Standardised | None:
    """How joined rows keep embeddings, from a sample of all items; None where they do not."""
    if not settings.keep_embedding:
        return None
    return Standardised.fit(sample_rows(embeddings, settings.train_sample, settings.seed), settings.block_rows)


def fit_alignment(
    embeddings: Embeddings,
    captions: NDArray[np.float32],
    owners: NDArray[np.int64],
    parts: Parts,
    settings: JoinSettings,
    source: Path,
) -> Alignment | None:
    """The towers, trained on a sample of the captions; None where no alignment is wanted.

    Args:
        captions: (U, T) float32 features, as they are.
        owners: (U,) int64, the row of each caption's item.
        parts: all others.
        source: captions.jsonl, for messages.

    Raises:
        ValueError: the captions are of fewer than two items.
    """
    if not settings.align:
        return None
    sample = drawn(np.flatnonzero(captions.any(axis=1)), settings)
    rows, places = np.unique(owners[sample], return_inverse=True)
    items = RowSubset(embeddings, rows)
    mapped, kept = parts.text_map(items), parts.kept(items) if parts.kept else None
    said = centred(captions[sample], parts.centre)
    pairs = TowerPairs(said, places, mapped, settings.index_captions == "include", kept)
    try:
        return Alignment.fit(pairs, settings.align, settings.seed)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
