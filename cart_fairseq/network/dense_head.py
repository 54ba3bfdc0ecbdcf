"""The dense head: maps queries and items to vectors of one space, to guide the beam search and to rank its items.

The query's vector is computed from the encoder's states and, with a bag of symbols, from the query's symbols; the
item's from its embedding in the data-bin. The head is trained jointly with the identifiers by a contrastive loss. In a
search, items are ranked by the weighted sum of the identifier's score and the dense score. The paper has no dense head.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cart_fairseq.network.embeddings import SymbolBag

MAPPED_SHARE = 0.3


class Tower(nn.Module):
    """Maps features to unit vectors whose dot product is the weighted mean of two cosines.

    One cosine is of a linear map's output, the other of the output of a network with one hidden layer. The linear map
    is initialised so that its cosine is that of the text features, because hidden layers alone lose some distinctions.

    Args:
        width: W, width of the input.
        text_dim: T, width of the linear map's output.
        dim: D, width of the other output; the hidden layer has width 2 D.
        dropout: dropout probability of the input and the hidden layer of the second part.
    """

    def __init__(self, width: int, text_dim: int, dim: int, dropout: float):
        super().__init__()
        self.straight = nn.Linear(width, text_dim)
        self.deep = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )

    def forward(self, rows: Tensor, share: Tensor) -> Tensor:
        """Map rows (n, W) to unit vectors (n, T + D).

        Args:
            rows: (n, W) features.
            share: scalar in (0, 1), the weight of the linear map's cosine.
        """
        rows = F.normalize(rows, dim=1) * math.sqrt(rows.size(1))
        parts = ((self.straight, share), (self.deep, 1 - share))
        return torch.cat([F.normalize(part(rows), dim=1) * weight.sqrt() for part, weight in parts], dim=1)


class DenseHead(nn.Module):
    """A query tower and an item tower that map to unit vectors of one space.

    Args:
        query_dim: width of the encoder's states.
        item_dim: width of the items' features.
        dim: D, see :class:`Tower`.
        dropout: dropout probability, see :class:`Tower`.
        weight: default weight of the dense score when it is added to the identifier's score.
        text_dim: T, the width of caption features if item features begin with two parts of that width
            (:class:`~cart_fairseq.catalogue.dense_items.DenseItems`), else 0.
        symbols: size of the query dictionary if the query tower also reads a bag of symbols, else 0.

    Attributes:
        bag: the vectors of the symbols, of width T, or D if T is 0; None without a bag.
        width: width of the unit vectors: T + D, or 2 D if T is 0.
        prior_share: share of an item's prior that is subtracted from its dense score; 0 unless tuned.
        trained: how often the head was put into training mode; vectors computed before may be out of date.
    """

    weight: Tensor
    prior_share: Tensor

    def __init__(
        self,
        query_dim: int,
        item_dim: int,
        dim: int,
        dropout: float,
        weight: float = 1.0,
        text_dim: int = 0,
        symbols: int = 0,
    ):
        super().__init__()
        self.text_dim = text_dim
        self.state_dim = query_dim
        straight = text_dim or dim
        self.bag = SymbolBag(symbols, straight) if symbols else None
        self.width = straight + dim
        self.trained = 0
        self.register_buffer("weight", torch.tensor(weight))
        self.register_buffer("prior_share", torch.tensor(0.0))
        self.query_tower = Tower(query_dim + (straight if symbols else 0), straight, dim, dropout)
        self.item_tower = Tower(item_dim, straight, dim, dropout)
        self.log_scale = nn.Parameter(torch.tensor(math.log(16.0)))
        """Natural logarithm of the factor by which cosines are multiplied (the inverse temperature)."""
        self.share_logit = nn.Parameter(torch.tensor(-2.0))
        """Logit of the linear maps' share of the score; initially the share is about 1/8."""
        self.reset_straight()

    def reset_straight(self) -> None:
        """Initialise the linear maps so that they compare text features.

        The item's map adds its caption part and ``MAPPED_SHARE`` times its mapped embedding. The query's map is the
        identity if its input has the same width. With a bag of symbols it is the identity of the bag's part, and of the
        states' part if that has the same width.
        """
        if not self.text_dim:
            return
        with torch.no_grad():
            self.item_tower.straight.weight.zero_()
            for part, weight in enumerate((MAPPED_SHARE, 1.0)):
                at = part * self.text_dim
                self.item_tower.straight.weight[:, at : at + self.text_dim].fill_diagonal_(weight)
            asked = self.query_tower.straight.weight
            if self.bag is not None:
                asked.zero_()
                asked[:, self.state_dim :].fill_diagonal_(1.0)
            if self.state_dim == self.text_dim:
                asked[:, : self.state_dim] = torch.eye(self.text_dim)
            for tower in (self.item_tower, self.query_tower):
                nn.init.zeros_(tower.straight.bias)

    def train(self, mode: bool = True) -> "DenseHead":
        """Set the mode, as for any module, and count how often it was set to training."""
        self.trained += mode
        return super().train(mode)

    def features(self, encoder_out: dict[str, list[Tensor]]) -> Tensor:
        """What the query tower reads: (B, F), the mean of the last encoder states and, where there is one, the bag."""
        state = mean_state(encoder_out)
        if self.bag is None:
            return state
        # of one length, so that neither part outweighs the other
        return torch.cat([F.normalize(state, dim=1), self.bag(encoder_out["src_tokens"][0]).to(state)], dim=1)

    def query(self, encoder_out: dict[str, list[Tensor]]) -> Tensor:
        """Unit vectors (B, T + D) of queries."""
        return self.text(self.features(encoder_out))

    def text(self, rows: Tensor) -> Tensor:
        """Unit vectors of what :meth:`features` returns: (n, F) -> (n, T + D)."""
        return self.query_tower(rows.to(self.log_scale), self.share_logit.sigmoid())

    def item(self, features: Tensor) -> Tensor:
        """Unit vectors of item features: (n, item_dim) -> (n, T + D)."""
        return self.item_tower(features.to(self.log_scale), self.share_logit.sigmoid())

    def scale(self) -> Tensor:
        """The factor by which cosines are multiplied, at most 100."""
        return self.log_scale.exp().clamp(max=100.0)

    def loss(self, asked: Tensor, features: Tensor, items: Tensor) -> Tensor:
        """Symmetric InfoNCE over a batch, summed over its queries (van den Oord et al., 2018; CLIP).

        Args:
            asked: (B, F), what :meth:`features` returns. Rows after the first B, which are a second dropout pass, are
                ignored.
            features: (B, item_dim), the features of each query's item.
            items: (B,) int64 item rows; queries of one item are not negatives of each other, and -1 leaves a query out.

        Returns:
            A scalar in natural-log units.
        """
        taught = items >= 0
        queries = self.text(asked[: len(items)][taught])
        return info_nce(queries, self.item(features[taught]), items[taught], self.scale())


def mean_state(encoder_out: dict[str, list[Tensor]]) -> Tensor:
    """Mean of the last encoder states over the positions that are not padding: (B, query_dim)."""
    states, padding = encoder_out["encoder_out"][0], encoder_out["encoder_padding_mask"][0]
    kept = (~padding).T.unsqueeze(2).to(states)
    return (states * kept).sum(0) / kept.sum(0).clamp(min=1)


def info_nce(queries: Tensor, vectors: Tensor, items: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE: half the sum of the cross entropies of query to item and of item to query.

    Args:
        queries, vectors: (B, dim) unit vectors; row i of one belongs to row i of the other.
        items: (B,) int64 item rows; queries of one item are not negatives of each other.
        scale: scalar by which cosines are multiplied.

    Returns:
        A scalar, summed over the batch, in natural-log units.
    """
    scores = (queries @ vectors.T).float() * scale.float()
    same = items.unsqueeze(0) == items.unsqueeze(1)
    same.fill_diagonal_(False)
    scores = scores.masked_fill(same, float("-inf"))
    wanted = torch.arange(len(items), device=items.device)
    return (F.cross_entropy(scores, wanted, reduction="sum") + F.cross_entropy(scores.T, wanted, reduction="sum")) / 2
