"""Lets the decoder read an item's embedding: a few positions in front of the words of a query.

A model that learns <embedding, identifier> pairs beside <caption, identifier> pairs can be asked with a picture, a sound
or a video, alone or with words. The paper has text queries only.
"""

import torch
from torch import Tensor, nn


class FeatureReader(nn.Module):
    """Maps embeddings to positions of all encoder states.

    The states of the words stay as the encoder leaves them, so that a query of words alone is read as before.

    Args:
        features: E, width of the embeddings.
        positions: P, the number of positions.
        states: S, the number of encoder states.
        width: C, their width.
        dropout: dropout probability of the embeddings and of the hidden layer.
        mean, spread: (E,) float32, mean and standard deviation of the catalogue's embeddings of length 1.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self, features: int, positions: int, states: int, width: int, dropout: float, mean: Tensor, spread: Tensor
    ):
        super().__init__()
        self.positions = positions
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(features, 2 * width), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(2 * width, positions * width),
        )  # fmt: skip
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(states))

    def forward(
        self, encoder_out: dict[str, list[Tensor]], embeddings: Tensor, read: Tensor, words: Tensor
    ) -> dict[str, list[Tensor]]:
        """Put positions in front of the states of queries.

        Args:
            encoder_out: the encoder's output for B queries, see :class:`~cart_fairseq.network.encoder.CARTEncoder`.
            embeddings: (B, E) float32, of length 1.
            read: (B,) bool, whether a query has an embedding.
            words: (B,) bool, whether a query has words. Each query has at least one of the two.

        Returns:
            The encoder's output with P + T positions.
        """
        rows = (embeddings.float() - self.mean.float()) / self.spread.float()
        front = self.layers(rows.to(next(self.layers.parameters()))).unflatten(1, (self.positions, -1)).transpose(0, 1)
        padding = encoder_out["encoder_padding_mask"][0] | ~words.unsqueeze(1)
        padding = torch.cat([(~read).unsqueeze(1).expand(-1, self.positions), padding], dim=1)
        pairs = zip(self.norms, encoder_out["encoder_states"], strict=True)
        states = [torch.cat([norm(front).to(state), state]) for norm, state in pairs]
        return {"encoder_out": [states[-1]], "encoder_padding_mask": [padding], "encoder_states": states}
