"""A ``cart`` model behind the interface of fairseq's own beam search, to compare both searches."""

from typing import Any

from fairseq.models import FairseqEncoder, FairseqEncoderDecoderModel, FairseqIncrementalDecoder
from torch import Tensor


class StockEncoder(FairseqEncoder):
    """The model's encoder with fairseq's interface."""

    def __init__(self, model: Any, dictionary: Any):
        super().__init__(dictionary)
        self.wrapped = model.encoder

    def forward(self, src_tokens: Tensor, src_lengths: Tensor | None = None) -> dict[str, list[Tensor]]:
        """Call the model's encoder."""
        return self.wrapped(src_tokens, src_lengths)

    def reorder_encoder_out(self, encoder_out: dict[str, list[Tensor]], new_order: Tensor) -> dict[str, list[Tensor]]:
        """Select a row for each beam. Queries are the first dimension of symbols and padding mask, the second of states."""
        queries = {"encoder_padding_mask": 0, "src_tokens": 0}
        return {
            name: [part.index_select(queries.get(name, 1), new_order) for part in parts]
            for name, parts in encoder_out.items()
        }

    def max_positions(self) -> int:
        """Return the maximum length of a query."""
        return self.wrapped.max_positions()


class StockDecoder(FairseqIncrementalDecoder):
    """The model's decoder with fairseq's interface."""

    def __init__(self, model: Any, dictionary: Any):
        super().__init__(dictionary)
        self.wrapped = model.decoder

    def forward(self, prev_output_tokens: Tensor, encoder_out: Any = None, incremental_state: Any = None) -> Any:
        """Return the logits of the model's decoder, and no attention weights."""
        return self.wrapped(prev_output_tokens, encoder_out, incremental_state)[0], {"attn": [None]}

    def reorder_incremental_state_scripting(self, incremental_state: Any, new_order: Tensor) -> None:
        """Select the state of the beams that continue."""
        self.wrapped.reorder_rows(incremental_state, new_order)

    def max_positions(self) -> int:
        """Return the maximum length of an identifier."""
        return self.wrapped.max_positions()


def as_stock(model: Any, dictionary: Any) -> FairseqEncoderDecoderModel:
    """Return a model with the same weights and fairseq's interface.

    Args:
        model: a ``cart`` model.
        dictionary: dictionary of the identifiers.
    """
    return FairseqEncoderDecoderModel(StockEncoder(model, dictionary), StockDecoder(model, dictionary)).eval()
