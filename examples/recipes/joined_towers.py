"""The two towers of a join (``join_captions --align``) without a generator: vectors of texts and of items."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cart_fairseq.search.dense.priors import QueryBank, bank_captions, item_priors
from preprocess.data import joined_folder
from preprocess.join.alignment import Alignment
from preprocess.join.fitting import restore_parts
from preprocess.join.settings import JoinSettings
from preprocess.join.text_space import centred

BATCH = 256


class JoinedTowers:
    """The towers of a join.

    Args:
        folder: the join.

    Attributes:
        folder: the join.
        record: its record.
        parts: its fitted parts.
        towers: those of the parts.

    Raises:
        ValueError: the join has no towers.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.record: dict[str, Any] = joined_folder.read_record(folder)
        settings = JoinSettings(device="cpu").following(self.record["settings"])
        self.parts = restore_parts(joined_folder.read_parts(folder, self.record), settings)
        if self.parts.alignment is None:
            raise ValueError(f"{folder}: has no towers; run join_captions with --align")
        self.towers: Alignment = self.parts.alignment

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts: (n, T + A) float32 of length 1."""
        return self.placed(self.features(texts))

    @property
    def scale(self) -> float:
        """What cosines are multiplied by to be scores."""
        return float(self.towers.head.scale().detach())

    def priors(
        self, texts: NDArray[np.object_], roles: NDArray[np.object_], owners: NDArray[np.int64], vectors: NDArray[Any]
    ) -> NDArray[np.float32]:
        """Priors of items, as those of a dense head: (n,) float32, in units of scores.

        Args:
            texts: (P,) training captions.
            roles: (P,) their roles.
            owners: (P,) the item row that each describes.
            vectors: (n, T + A) vectors of the items in row order.
        """
        chosen = bank_captions(roles)
        bank = QueryBank(
            torch.from_numpy(self.queries(texts[chosen].tolist()) * self.scale), torch.from_numpy(owners[chosen])
        )
        return item_priors(
            bank,
            lambda rows: torch.from_numpy(np.asarray(vectors[rows.numpy()], dtype=np.float32)),
            torch.arange(len(vectors)),
        ).numpy()

    def placed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of text features (n, T) float32."""
        return self.towers.queries(centred(features, self.parts.centre))

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Text features, read in the order of the lengths: (n, T) float32, in the given order."""
        assert self.parts.features is not None
        order = np.argsort([len(text) for text in texts], kind="stable")
        found = [self.parts.features([texts[i] for i in order[at : at + BATCH]]) for at in range(0, len(order), BATCH)]
        return np.concatenate(found)[np.argsort(order)]
