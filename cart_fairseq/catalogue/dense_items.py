"""Features of a data-bin's items and training captions, which a dense head reads beside the identifiers."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EMBEDDINGS = "dense.embeddings.npy"
CAPTIONS = "dense.captions.npy"
BLOCK = 65536


class DenseItems:
    """What a data-bin knows of its items beside their identifiers.

    Rows of embeddings joined with captions (``preprocess.join_captions``) begin with two parts of the captions' width, the
    embedding mapped into the captions' space and the captions themselves. Where index captions are excluded, the first
    stands for both.

    Args:
        directory: the data-bin's.
        texts: whether the second part may be looked at; False where index captions are excluded.

    Attributes:
        width: D, of an item's features.
        text_dim: T, of the captions' features; 0 where there are none.
    """

    def __init__(self, directory: Path, texts: bool):
        self.embeddings = np.load(directory / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
        path = directory / CAPTIONS
        self.captions = np.load(path, mmap_mode="r", allow_pickle=False) if path.is_file() else None
        self.texts = texts
        self.width: int = self.embeddings.shape[1]
        self.text_dim: int = 0 if self.captions is None else self.captions.shape[1]

    def features(self, rows: NDArray[np.int64]) -> Tensor:
        """(n,) item rows -> (n, D) float32."""
        return self._with_texts(np.asarray(self.embeddings[rows], dtype=np.float32), None)

    def known_captions(self, pairs: int) -> NDArray[np.bool_]:
        """(pairs,) which training captions have features."""
        if self.captions is None:
            return np.zeros(pairs, dtype=bool)
        return np.concatenate([self.captions[at : at + BLOCK].any(axis=1) for at in range(0, pairs, BLOCK)])

    def training_features(self, rows: NDArray[np.int64], companions: NDArray[np.int64]) -> Tensor:
        """Features of items as they would be if one caption were all that is known beside the embedding.

        An item whose captions it is trained with would otherwise be recognised by the query itself.

        Args:
            rows: (n,) item rows.
            companions: (n,) rows of the training set, each another caption of the item; -1 where there is none.

        Returns:
            (n, D) float32.
        """
        found = np.asarray(self.embeddings[rows], dtype=np.float32)
        if self.captions is None:
            return self._with_texts(found, None)
        texts = np.asarray(self.captions[np.maximum(companions, 0)], dtype=np.float32)
        texts[companions < 0] = 0
        return self._with_texts(found, texts)

    def _with_texts(self, rows: NDArray[np.float32], texts: NDArray[np.float32] | None) -> Tensor:
        if self.captions is not None:
            width = self.captions.shape[1]
            mapped, said = rows[:, :width], rows[:, width : 2 * width]
            if texts is not None:
                said[:] = texts
            unknown = np.ones(len(rows), dtype=bool) if not self.texts else ~said.any(axis=1)
            said[unknown] = mapped[unknown]
        return torch.from_numpy(rows)
