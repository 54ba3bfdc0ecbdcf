"""A data set for the baselines: items, captions with their roles, candidates, and embeddings of items and captions."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from cart_fairseq.measuring.results import Query
from preprocess.data.embeddings import open_embeddings
from preprocess.data.fields import MEASURED
from preprocess.data.inputs import match_items, read_captions, read_items
from preprocess.data.roles import Caption, assign, candidate_rows, resolve


def needed(library: str, what: str, extra: str = "benchmark") -> Any:
    """Import a library that only some baselines need.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ValueError(f"{what}: {error.name} is not installed; pip install 'cart-fairseq[{extra}]'") from None


@dataclass(frozen=True)
class Collection:
    """Items and captions of a folder DATA, checked as `preprocess` checks them.

    Attributes:
        folder: DATA.
        items: the objects of items.jsonl, in file order.
        captions: the captions of captions.jsonl with their roles and splits, in file order.
    """

    folder: Path
    items: list[dict[str, Any]]
    captions: list[Caption]

    @property
    def splits(self) -> list[str | None]:
        """The split of each item."""
        return [item.get("split") for item in self.items]

    def measurable(self) -> list[str]:
        """Return the splits, of valid and test, that have queries."""
        return [split for split in MEASURED if self._of_role_query(split)]

    def _of_role_query(self, split: str) -> list[Caption]:
        return assign(self.captions, "include")[split]

    def queries(self, split: str) -> tuple[list[Query], NDArray[np.int64]]:
        """Return the queries of a split, and their rows in captions.jsonl, from 0.

        Raises:
            ValueError: the split has no queries.
        """
        chosen = self._of_role_query(split)
        if not chosen:
            there = ", ".join(self.measurable()) or "none"
            raise ValueError(
                f"{self.folder / 'captions.jsonl'}: no caption with the role 'query' in split {split!r}; splits with "
                f"queries: {there}; choose one with --split"
            )
        return [Query(c.query_id, c.text, c.item_row) for c in chosen], rows_of(chosen)

    def training(self, index_captions: bool) -> list[Caption]:
        """Return the training captions, as `preprocess.binarize --index-captions include|exclude` chooses them."""
        return assign(self.captions, "include" if index_captions else "exclude")["train"]

    def candidates(self, split: str, competing: str) -> NDArray[np.int64]:
        """Return the rows (C,) of the candidates.

        Args:
            split: the split whose queries are measured.
            competing: `split` for the items of the split and those without one; `all` for all items.
        """
        return candidate_rows(self.splits, split if competing == "split" else "all")

    def item_vectors(self, path: Path) -> NDArray[np.float32]:
        """Read (N, D) item embeddings, normalised.

        Raises:
            ValueError: the file is damaged, or does not have N rows.
        """
        vectors = open_embeddings(path)
        match_items(vectors, self.items, path, self.folder / "items.jsonl")
        return normalize(np.asarray(vectors, dtype=np.float32))

    def text_vectors(self, path: Path) -> NDArray[np.float32]:
        """Read (M, D) caption embeddings, normalised. Row i belongs to line i of captions.jsonl.

        Raises:
            ValueError: the file is damaged, or does not have M rows.
        """
        vectors = open_embeddings(path)
        if len(vectors) != len(self.captions):
            raise ValueError(
                f"{path}: {len(vectors)} rows, but {self.folder / 'captions.jsonl'} has {len(self.captions)} captions; "
                "embed them again with python -m preprocess.extract_embeddings --texts"
            )
        return normalize(np.asarray(vectors, dtype=np.float32))


def rows_of(captions: list[Caption]) -> NDArray[np.int64]:
    """Return the rows of captions in captions.jsonl, from 0."""
    return np.array([caption.number - 1 for caption in captions], dtype=np.int64)


def open_collection(folder: Path) -> Collection:
    """Read items.jsonl and captions.jsonl of a folder.

    Raises:
        ValueError: a file is missing or has a bad row.
    """
    items = read_items(folder / "items.jsonl")
    row_of = {item["item_id"]: row for row, item in enumerate(items)}
    file = folder / "captions.jsonl"
    rows = read_captions(file, items)
    return Collection(folder, items, resolve(rows, row_of, [item.get("split") for item in items], str(file)))
