"""Features of a data-bin's items and training captions, the inputs of a dense head."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.held_files import identity

EMBEDDINGS = "dense.embeddings.npy"
ORIGINALS = "dense.originals.npy"
CAPTIONS = "dense.captions.npy"
BLOCK = 65536
Rows = NDArray[np.float16] | NDArray[np.float32]


class DenseItems:
    """Item and caption features of a data-bin.

    A row of joined embeddings (``preprocess.join_captions``) begins with two parts of width T: the item's embedding
    mapped into the captions' space, and the mean of its captions' features. If index captions are excluded, the first
    part replaces the second.

    Args:
        folder: the data-bin's folder.
        embeddings: (N, D) float16 or float32.
        captions: (P, T) float16 or float32, a row for each training caption; None: the data-bin has none.
        texts: whether the second part may be used; False if index captions are excluded.
        checksum: the SHA-256 of the file of embeddings, from the data-bin's manifest.
        originals: (N, E) float16 or float32, the items' embeddings before they were joined with captions, in any length;
            None: the data-bin has none.

    Attributes:
        width: D, the width of an item's features.
        original_dim: E, the width of embeddings by which items are compared with each other; 0 if the data-bin has none.
        text_dim: T, the width of a caption's features; 0 if the data-bin has none.
    """

    def __init__(
        self,
        folder: Path,
        embeddings: Rows,
        captions: Rows | None,
        texts: bool,
        checksum: str,
        originals: Rows | None = None,
    ):
        self.folder = folder
        self._opened = identity(folder)
        self.checksum = checksum
        self.embeddings = embeddings
        self.captions = captions
        self.texts = texts
        self.width: int = embeddings.shape[1]
        self.text_dim: int = 0 if captions is None else captions.shape[1]
        self._originals = originals
        self.original_dim: int = 0 if originals is None else originals.shape[1]

    @property
    def is_in_place(self) -> bool:
        """Whether the data-bin's folder is still the one that was opened, and not another that has taken its place."""
        return identity(self.folder) == self._opened

    def features(self, rows: NDArray[np.int64]) -> Tensor:
        """Features of items: (n,) int64 item rows -> (n, D) float32.

        Raises:
            CatalogueError: one is NaN or infinite.
        """
        return self._with_texts(self._finite(EMBEDDINGS, self.embeddings, rows), None)

    def originals(self, rows: NDArray[np.int64]) -> Tensor:
        """Embeddings of items before any join, of length 1: (n,) int64 item rows -> (n, E) float32.

        Raises:
            CatalogueError: one is NaN or infinite.
        """
        assert self._originals is not None
        return normalize(torch.from_numpy(self._finite(ORIGINALS, self._originals, rows)), dim=1)

    def check(self) -> None:
        """Read all items' features and embeddings; CatalogueError where one is NaN or infinite."""
        arrays = {EMBEDDINGS: self.embeddings, ORIGINALS: self._originals}
        for name, values in arrays.items():
            for at in range(0, 0 if values is None else len(values), BLOCK):
                assert values is not None
                self._finite(name, values, np.arange(at, min(at + BLOCK, len(values))))

    def _finite(self, name: str, values: Rows, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.asarray(values[rows], dtype=np.float32)
        good = np.isfinite(found).all(axis=1)
        if not good.all():
            raise CatalogueError(
                f"{self.folder / name}, row {int(rows[int(good.argmin())])}: holds NaN or infinite values; restore it from "
                "a copy, or make the data-bin again with python -m preprocess.binarize"
            )
        return found

    def known_captions(self, pairs: int) -> NDArray[np.bool_]:
        """Which of the first ``pairs`` training captions have features: (pairs,) bool."""
        if self.captions is None:
            return np.zeros(pairs, dtype=bool)
        return np.concatenate([self.captions[at : at + BLOCK].any(axis=1) for at in range(0, pairs, BLOCK)])

    def training_features(self, rows: NDArray[np.int64], companions: NDArray[np.int64]) -> Tensor:
        """Features of items with the caption part replaced by one other caption of the item.

        The stored caption part includes the training query itself, which would make the item trivial to recognise.

        Args:
            rows: (n,) int64 item rows.
            companions: (n,) int64 rows of the training set, each another caption of the item, or -1 if it has none.

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
        """Replace the caption part of rows (n, D) by ``texts`` (n, T), or by the mapped part if empty, in place."""
        if self.captions is not None:
            width = self.captions.shape[1]
            mapped, said = rows[:, :width], rows[:, width : 2 * width]
            if texts is not None:
                said[:] = texts
            unknown = np.ones(len(rows), dtype=bool) if not self.texts else ~said.any(axis=1)
            said[unknown] = mapped[unknown]
        return torch.from_numpy(rows)
