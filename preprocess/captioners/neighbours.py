"""Captions borrowed from the nearest training items. This needs embeddings and no model.

The method is that of Devlin et al., 2015 (Exploring Nearest Neighbor Approaches for Image Captioning). It takes the
captions of an item's nearest training items and ranks them by consensus: the mean similarity to the captions of the
other neighbours. Devlin et al. use BLEU or CIDEr as similarity. Here it is the cosine of TF-IDF vectors of words and
pairs of words (`sklearn.feature_extraction.text.TfidfVectorizer`), the core of CIDEr.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from preprocess.captioners.captioner import Target
from preprocess.captioners.settings import NEIGHBOURS
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.data.roles import Caption


class NeighbourCaptioner:
    """Ranks the captions of an item's neighbours by consensus.

    Only captions with role `train` are used: those of training items and of items without a split. An item never
    borrows its own captions. The embeddings of training items are kept in memory as float32.

    Args:
        embeddings: (N, D), a row for each item.
        captions: from `preprocess.data.roles.resolve`. Their `item_row` is a row of the embeddings.
        neighbours: number of items from which an item borrows.

    Raises:
        ValueError: there is no training caption.
    """

    modalities = None
    batch_size = 512

    def __init__(self, embeddings: Embeddings, captions: Sequence[Caption], neighbours: int = NEIGHBOURS):
        lent = [caption for caption in captions if caption.role == "train"]
        if not lent:
            raise ValueError(
                "neighbours: no caption has the role 'train', so there is nothing to borrow; add training captions"
            )
        self.embeddings = embeddings
        self.texts = [caption.text for caption in lent]
        self.owners = np.array([caption.item_row for caption in lent])
        self.vectors = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\b\w+\b", dtype=np.float32).fit_transform(
            self.texts
        )
        self.lenders, counts = np.unique(self.owners, return_counts=True)
        self.order = np.argsort(self.owners, kind="stable")  # captions grouped by lender, in file order
        self.ends = np.cumsum(counts)
        self.neighbours = neighbours
        points = np.empty((len(self.lenders), embeddings.shape[1]), dtype=np.float32)
        for block in blocks(*points.shape):
            points[block] = unit(embeddings[self.lenders[block]])
        # one more neighbour, because an item may find itself; the nearest unit vectors have the largest cosine
        self.search = NearestNeighbors(n_neighbors=min(neighbours + 1, len(points)), algorithm="brute").fit(points)

    def load(self, target: Target) -> None:
        """Read nothing, because the embeddings are in memory."""

    def caption(self, targets: Sequence[Target], loaded: Sequence[None]) -> list[list[str]]:
        """Return all captions of each item's neighbours by consensus.

        Equal captions are ordered by distance of the neighbour, then by file order.
        """
        rows = np.array([target.row for target in targets])
        nearest = self.search.kneighbors(unit(self.embeddings[rows]), return_distance=False)
        return [self._agree(near[self.lenders[near] != row]) for row, near in zip(rows, nearest, strict=True)]

    def _agree(self, lenders: NDArray[np.int64]) -> list[str]:
        """Return the captions of lenders, positions in `self.lenders` with the nearest first, by consensus."""
        if not len(lenders):
            return []
        spans = [range(self.ends[lender - 1] if lender else 0, self.ends[lender]) for lender in lenders]
        spans = spans[: self.neighbours]
        captions = self.order[np.concatenate(spans)]
        owners, vectors = self.owners[captions], self.vectors[captions]
        others = owners[:, None] != owners[None, :]
        agreement = ((vectors @ vectors.T).toarray() * others).sum(axis=1) / np.maximum(others.sum(axis=1), 1)
        return [self.texts[caption] for caption in captions[np.argsort(-agreement, kind="stable")]]


def unit(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """(n, D) float16 or float32 -> (n, D) float32 of length 1."""
    points = np.asarray(points, dtype=np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)
