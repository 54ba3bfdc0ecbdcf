"""A dense head beside the identifier: query and item as vectors of one space, to rerank what the beam found.

The query's vector comes from the text encoder, the item's from the embeddings in the data-bin. Trained jointly with the
identifiers by a contrastive loss; in a search, beams are ordered by the weighted sum of both scores. The paper has none.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

EMBEDDINGS = "dense.embeddings.npy"
CAPTIONS = "dense.captions.npy"
BLOCK = 65536
MAPPED_SHARE = 0.3


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


class Companions:
    """For each training pair another caption of its item, drawn anew each epoch.

    Args:
        item_rows: (n,) the item of each pair.
        known: (n,) bool, the pairs whose caption has features; others are nobody's companion. Kept as an attribute.
    """

    def __init__(self, item_rows: NDArray[np.int64], known: NDArray[np.bool_]):
        self.known = known
        pairs = np.flatnonzero(known)
        self.pairs = pairs[np.argsort(item_rows[pairs], kind="stable")]
        self.owners = item_rows[self.pairs]
        self.begin, self.count = self._of(item_rows)
        place = np.full(len(item_rows), -1)
        place[self.pairs] = np.arange(len(pairs))
        self.place = place - np.where(place >= 0, self.begin, 0)

    def draw(self, pairs: NDArray[np.int64], draw: np.random.Generator) -> NDArray[np.int64]:
        """(n,) pairs -> (n,) other pairs of the same items, each equally likely; -1 where there is none."""
        if not len(self.pairs):
            return np.full(len(pairs), -1)
        own, others = self.place[pairs], self.count[pairs]
        others = others - (own >= 0)
        chosen = (draw.random(len(pairs)) * others).astype(np.int64)
        chosen += (own >= 0) & (chosen >= own)
        found = self.pairs[np.where(others > 0, self.begin[pairs] + chosen, 0)]
        return np.where(others > 0, found, -1)

    def of_items(self, rows: NDArray[np.int64], draw: np.random.Generator) -> NDArray[np.int64]:
        """(n,) item rows -> (n,) pairs, one of each item's, each equally likely; -1 where there is none."""
        if not len(self.pairs):
            return np.full(len(rows), -1)
        begin, count = self._of(rows)
        chosen = begin + (draw.random(len(rows)) * count).astype(np.int64)
        return np.where(count > 0, self.pairs[np.where(count > 0, chosen, 0)], -1)

    def _of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where among ``pairs`` those of each item begin, and how many there are."""
        begin = np.searchsorted(self.owners, rows, side="left")
        return begin, np.searchsorted(self.owners, rows, side="right") - begin


class Tower(nn.Module):
    """Vectors of length 1 whose scalar product is the weighted mean of two cosines.

    One is of what a linear map finds, which begins by comparing texts as their features do, the other of what a hidden layer
    finds. Hidden layers alone blur what the features could tell apart.

    Args:
        width: W, of what comes in.
        text_dim: T, width of the linear map.
        dim: D, width of the other part, and of half its hidden layer.
        dropout: of the hidden layer and what comes in.
    """

    def __init__(self, width: int, text_dim: int, dim: int, dropout: float):
        super().__init__()
        self.straight = nn.Linear(width, text_dim)
        self.deep = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )

    def forward(self, rows: Tensor, share: Tensor) -> Tensor:
        """(n, W) -> (n, T + D).

        Args:
            share: scalar in (0, 1), of the linear map.
        """
        rows = F.normalize(rows, dim=1) * math.sqrt(rows.size(1))
        parts = ((self.straight, share), (self.deep, 1 - share))
        return torch.cat([F.normalize(part(rows), dim=1) * weight.sqrt() for part, weight in parts], dim=1)


class DenseHead(nn.Module):
    """Two towers that end in vectors of length 1 of the same space.

    Args:
        query_dim: width of the encoder's states.
        item_dim: width of the items' features.
        dim: D, as each tower has it.
        dropout: of hidden layers and features.
        weight: what the scores are multiplied with where they are added to others, unless a search says otherwise.
        text_dim: T, width of the captions' features that the items' begin with, twice; 0 where they do not.
    """

    weight: Tensor

    def __init__(self, query_dim: int, item_dim: int, dim: int, dropout: float, weight: float = 1.0, text_dim: int = 0):
        super().__init__()
        self.text_dim = text_dim
        straight = text_dim or dim
        self.width = straight + dim
        self.register_buffer("weight", torch.tensor(weight))
        self.query_tower = Tower(query_dim, straight, dim, dropout)
        self.item_tower = Tower(item_dim, straight, dim, dropout)
        self.log_scale = nn.Parameter(torch.tensor(math.log(16.0)))
        """Logarithm of what cosines are multiplied with, the inverse of the temperature."""
        self.share_logit = nn.Parameter(torch.tensor(-2.0))
        """Where the linear maps' share of the score begins: at an eighth."""
        self.reset_straight()

    def reset_straight(self) -> None:
        """Linear maps that compare texts as they are: an item's captions, and a third of its embedding mapped to texts."""
        if not self.text_dim:
            return
        with torch.no_grad():
            self.item_tower.straight.weight.zero_()
            for part, weight in enumerate((MAPPED_SHARE, 1.0)):
                at = part * self.text_dim
                self.item_tower.straight.weight[:, at : at + self.text_dim].fill_diagonal_(weight)
            if self.query_tower.straight.in_features == self.text_dim:
                nn.init.eye_(self.query_tower.straight.weight)
            for tower in (self.item_tower, self.query_tower):
                nn.init.zeros_(tower.straight.bias)

    def query(self, encoder_out: dict[str, list[Tensor]]) -> Tensor:
        """(B, T + D), of length 1: the mean of the last encoder states through its tower."""
        return self.text(mean_state(encoder_out))

    def text(self, rows: Tensor) -> Tensor:
        """(n, query_dim) -> (n, T + D), of length 1."""
        return self.query_tower(rows, self.share_logit.sigmoid())

    def item(self, features: Tensor) -> Tensor:
        """(n, item_dim) features -> (n, T + D), of length 1."""
        return self.item_tower(features.to(self.log_scale), self.share_logit.sigmoid())

    def scale(self) -> Tensor:
        """What cosines are multiplied with, at most 100."""
        return self.log_scale.exp().clamp(max=100.0)

    def loss(self, encoder_out: dict[str, list[Tensor]], features: Tensor, items: Tensor) -> Tensor:
        """Symmetric InfoNCE over a batch, summed over its queries (van den Oord et al., 2018; CLIP).

        Args:
            features: (B, item_dim), those of each query's item. Further rows of the encoder, a second dropout pass, do not count.
            items: (B,) item rows; two queries of one item are not each other's negatives, and those of -1 do not count.
        """
        taught = items >= 0
        queries = self.query(encoder_out)[: len(items)][taught]
        return info_nce(queries, self.item(features[taught]), items[taught], self.scale())


def mean_state(encoder_out: dict[str, list[Tensor]]) -> Tensor:
    """(B, query_dim), the mean of the last encoder states, padding left out."""
    states, padding = encoder_out["encoder_out"][0], encoder_out["encoder_padding_mask"][0]
    kept = (~padding).T.unsqueeze(2).to(states)
    return (states * kept).sum(0) / kept.sum(0).clamp(min=1)


def info_nce(queries: Tensor, vectors: Tensor, items: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE, summed over a batch: each query among all items, each item among all queries, halved.

    Args:
        queries, vectors: (B, dim), of length 1; row i of one belongs to row i of the other.
        items: (B,) item rows; two queries of one item are not each other's negatives.
        scale: what cosines are multiplied with.
    """
    scores = (queries @ vectors.T).float() * scale.float()
    same = items.unsqueeze(0) == items.unsqueeze(1)
    same.fill_diagonal_(False)
    scores = scores.masked_fill(same, float("-inf"))
    wanted = torch.arange(len(items), device=items.device)
    return (F.cross_entropy(scores, wanted, reduction="sum") + F.cross_entropy(scores.T, wanted, reduction="sum")) / 2


def dense_scores(
    members: list[tuple[Any, dict[str, list[Tensor]]]], items: DenseItems, rows: Tensor, weight: float | None = None
) -> Tensor:
    """Weighted dense scores of queries and the items found for them: cosine x scale x weight, the mean over an ensemble.

    Args:
        members: models with a dense head, each with what its encoder made of the B queries.
        rows: (B, K) int64 item rows.
        weight: of all members; their own unless given.

    Returns:
        (B, K) float32.
    """
    unique, place = rows.unique(return_inverse=True)
    features = items.features(unique.cpu().numpy()).to(rows.device)
    total = torch.zeros(rows.shape, device=rows.device)
    for model, encoder_out in members:
        vectors = model.dense.item(features)
        queries = model.dense.query(encoder_out)
        factor = model.dense.scale() * (model.dense.weight if weight is None else weight)
        total += torch.einsum("bkd,bd->bk", vectors[place], queries).float() * factor.float()
    return total / len(members)
