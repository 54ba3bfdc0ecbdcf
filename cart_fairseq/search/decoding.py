"""What the decoders compute at each step of a search: the rows, and each model's caches."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cart_fairseq.network.decoder import IncrementalState
from cart_fairseq.network.model import CART
from cart_fairseq.search.dense.mixed_queries import MixedQueries


class Rows(NamedTuple):
    """The rows of a search that the decoders compute at one step.

    Attributes:
        picked: (r,) int64, the rows of the search to compute; None for all.
        order: (r,) int64, for each picked row the decoder row of the previous step that it continues; None at the first
            step.
        slots: (r,) int64, for each picked row its flat index in a grid of shape (rows per query, queries); None if all
            rows are computed.
        place: (R,) int64, maps a row of the search to its decoder row, for the next step; None if they are equal.
    """

    picked: Tensor | None
    order: Tensor | None
    slots: Tensor | None
    place: Tensor | None


def rows_to_compute(undecided: Tensor | None, parents: Tensor | None, place: Tensor | None) -> Rows:
    """Choose the rows to compute.

    Args:
        undecided: (B, K) bool, the beams to compute; None for all.
        parents: (B K,) int64, the row of the previous step that each row continues; None at the first step.
        place: :attr:`Rows.place` of the previous step.
    """
    if undecided is None:
        order = parents if parents is None or place is None else place[parents]
        return Rows(None, order, None, None)
    picked = undecided.flatten().nonzero().squeeze(1)
    order = None if parents is None else parents[picked]
    if order is not None and place is not None:
        order = place[order]
    nth = undecided.cumsum(1).sub_(1).flatten()[picked]
    slots = nth * len(undecided) + picked // undecided.size(1)
    place = torch.zeros(undecided.numel(), dtype=torch.int64, device=picked.device)
    place[picked] = torch.arange(len(picked), device=picked.device)
    return Rows(picked, order, slots, place)


def stop_training(models: Iterable[nn.Module]) -> None:
    """Switch models that are in training mode to evaluation mode; doing it for each search would take milliseconds."""
    for model in models:
        if model.training:
            model.eval()


class Decoding:
    """One model's state for one batch: its encoder's output and its decoder's caches.

    Args:
        model: the model.
        src_tokens, src_lengths: the encoder's input.
        mixed: the queries, if some have parts that are not text.

    Attributes:
        words_out: the encoder's output.
        encoder_out: what the decoder reads: the same, with positions for embeddings in front of it where there are any.
    """

    def __init__(self, model: CART, src_tokens: Tensor, src_lengths: Tensor, mixed: MixedQueries | None = None):
        self.decoder = model.decoder
        self.encoder_out = self.words_out = model.encoder(src_tokens, src_lengths)
        if mixed is not None and model.reader is not None:
            self.encoder_out = model.reader(self.encoder_out, mixed.read, mixed.read.any(1), mixed.words)
        self.state: IncrementalState = {}

    def step(self, tokens: Tensor, rows: Rows, begin: int, end: int | None) -> Tensor:
        """Logits (r, end - begin) float32 of the symbols ``begin`` to ``end`` (exclusive) that follow tokens (r, L)."""
        if rows.order is not None:
            self.decoder.reorder_beams(self.state, rows.order)
        features = self.decoder.extract_features(tokens, self.encoder_out, self.state, slots=rows.slots)
        return self.decoder.project(features[:, -1], begin, end).float()
