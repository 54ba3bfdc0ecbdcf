"""A dense head beside the identifier: query and item as vectors of one space, to rerank what the beam found.

The query's vector comes from the text encoder, the item's from the embeddings in the data-bin. Trained jointly with the
identifiers by a contrastive loss; in a search, beams are ordered by the weighted sum of both scores. The paper has none.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAPPED_SHARE = 0.3


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
