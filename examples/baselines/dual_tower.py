"""Dual-tower retrieval with faiss: rank items by cosine similarity to the query, exactly or with a graph index."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from collection import Collection, needed, rows_of
from numpy.typing import NDArray
from projection import Heads, ProjectionSettings, train
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from cart_fairseq.base.files import replacing
from cart_fairseq.measuring.labels import MRR_CUTOFF
from cart_fairseq.measuring.results import Ranking, measure

INDEXES = ("flat", "hnsw")
HNSW_LINKS, HNSW_BUILD_EFFORT, HNSW_SEARCH_EFFORT = 32, 200, 128
MEASURED_DEPTH = MRR_CUTOFF


class VectorIndex:
    """An index of the candidates' vectors: exact (`flat`) or a graph of nearest neighbours (`hnsw`).

    Args:
        kind: one of `INDEXES`.
        vectors: (C, D) float32 of unit length.
        rows: (C,) their item rows.

    Raises:
        ValueError: faiss is not installed.
    """

    def __init__(self, kind: str, vectors: NDArray[np.float32], rows: NDArray[np.int64]):
        faiss = needed("faiss", "dual towers")
        self.rows = rows
        width = vectors.shape[1]
        self.index: Any
        if kind == "flat":
            self.index = faiss.IndexFlatIP(width)
        else:
            self.index = faiss.IndexHNSWFlat(width, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            self.index.hnsw.efConstruction = HNSW_BUILD_EFFORT
        self.index.add(np.ascontiguousarray(vectors))

    def search(self, queries: NDArray[np.float32], depth: int) -> list[Ranking]:
        """Return item rows and cosines of the best candidates of each query.

        Args:
            queries: (Q, D) float32 of unit length.
            depth: number of results. A graph may find fewer.
        """
        depth = min(depth, len(self.rows))
        if hasattr(self.index, "hnsw"):
            self.index.hnsw.efSearch = max(HNSW_SEARCH_EFFORT, depth)
        scores, places = self.index.search(np.ascontiguousarray(queries), depth)
        return [
            Ranking(self.rows[found[found >= 0]].tolist(), score[found >= 0].tolist())
            for found, score in zip(places, scores, strict=True)
        ]


class DualTower:
    """Item and caption embeddings, compared directly (zero-shot) or after trained heads.

    Args:
        items: (N, D) float32 of unit length.
        texts: (M, D') float32, a row for each caption.
        heads: the trained heads; None: zero-shot.

    Raises:
        ValueError: there are no heads, and the widths differ.
    """

    def __init__(self, items: NDArray[np.float32], texts: NDArray[np.float32], heads: Heads | None = None):
        if heads is None and items.shape[1] != texts.shape[1]:
            raise ValueError(
                f"zero-shot dual tower: items have {items.shape[1]} dimensions and texts {texts.shape[1]}; embed both "
                "with one encoder, or train a projection (--towers trained)"
            )
        self.heads = heads
        self.items = items if heads is None else heads.project("items", items)
        self.texts = texts

    @property
    def name(self) -> str:
        """Name in the tables."""
        return "zero-shot" if self.heads is None else "trained"

    def place(self, texts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map text embeddings (n, D') to the space of the items."""
        return texts if self.heads is None else self.heads.project("texts", texts)

    def digest(self) -> str:
        """Return the SHA-256 of the items' vectors."""
        return hashlib.sha256(np.ascontiguousarray(self.items).data).hexdigest()

    def index(self, kind: str, rows: NDArray[np.int64]) -> VectorIndex:
        """Build an index of the items in `rows`."""
        return VectorIndex(kind, self.items[rows], rows)


def trained_heads(
    path: Path,
    collection: Collection,
    items: NDArray[np.float32],
    texts: NDArray[np.float32],
    index_captions: bool,
    settings: ProjectionSettings,
    device: str,
    inputs: list[str],
) -> Heads:
    """Read the heads in `path` if they were trained with these inputs and settings; otherwise train and write them.

    If there are valid queries, the epoch with the best R@1 on them, among the items of the split, is kept.

    Args:
        inputs: hashes of the files of items and texts.

    Raises:
        ValueError: fewer than two items have training captions.
    """
    key = json.dumps([inputs, index_captions, asdict(settings)])
    rows = np.zeros((2, items.shape[1]), np.float32), np.zeros((2, texts.shape[1]), np.float32)
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("key") == key:
                heads = Heads(*rows, settings)
                heads.load_state_dict(load_file(path))
                return heads
    except (OSError, SafetensorError):
        pass  # no file yet, or a damaged one: train
    captions = collection.training(index_captions)
    owner = np.array([caption.item_row for caption in captions])
    if len(np.unique(owner)) < 2:
        raise ValueError(f"{collection.folder}: fewer than 2 items have training captions; add captions")
    figure = None
    if "valid" in collection.measurable():
        queries, asked = collection.queries("valid")
        candidates = collection.candidates("valid", "split")

        def figure(heads: Heads) -> float:
            tower = DualTower(items[candidates], texts, heads)
            found = VectorIndex("flat", tower.items, candidates).search(tower.place(texts[asked]), MEASURED_DEPTH)
            return measure(queries, found)["recall_at_1"]

    heads, figures = train(items, texts[rows_of(captions)], owner, settings, device, figure)
    with replacing(path) as new:
        save_file(heads.state_dict(), new, {"key": key, "valid_recall_at_1": json.dumps(figures)})
    return heads
