"""A ``cart`` model as fairseq's own beam search expects it, to compare both searches."""

from typing import Any

from fairseq.models import FairseqEncoder, FairseqEncoderDecoderModel, FairseqIncrementalDecoder
from torch import Tensor


class StockEncoder(FairseqEncoder):
    """The model's encoder with the methods of fairseq's interface."""

    def __init__(self, model: Any, dictionary: Any):
        super().__init__(dictionary)
        self.wrapped = model.encoder

    def forward(self, src_tokens: Tensor, src_lengths: Tensor | None = None) -> dict[str, list[Tensor]]:
        """As the model's encoder."""
        return self.wrapped(src_tokens, src_lengths)

    def reorder_encoder_out(self, encoder_out: dict[str, list[Tensor]], new_order: Tensor) -> dict[str, list[Tensor]]:
        """One row a beam: the padding has queries first, the states have them second."""
        queries = {"encoder_padding_mask": 0}
        return {
            name: [part.index_select(queries.get(name, 1), new_order) for part in parts]
            for name, parts in encoder_out.items()
        }

    def max_positions(self) -> int:
        """The longest query."""
        return self.wrapped.max_positions()


class StockDecoder(FairseqIncrementalDecoder):
    """The model's decoder with the methods of fairseq's interface."""

    def __init__(self, model: Any, dictionary: Any):
        super().__init__(dictionary)
        self.wrapped = model.decoder

    def forward(self, prev_output_tokens: Tensor, encoder_out: Any = None, incremental_state: Any = None) -> Any:
        """Logits as the model's decoder gives them, and the attention that fairseq asks for: none."""
        return self.wrapped(prev_output_tokens, encoder_out, incremental_state)[0], {"attn": [None]}

    def reorder_incremental_state_scripting(self, incremental_state: Any, new_order: Tensor) -> None:
        """Beams that go on, each with a memory of its own."""
        self.wrapped.reorder_rows(incremental_state, new_order)

    def max_positions(self) -> int:
        """The longest identifier."""
        return self.wrapped.max_positions()


def as_stock(model: Any, dictionary: Any) -> FairseqEncoderDecoderModel:
    """The same weights behind fairseq's interface.

    Args:
        model: a ``cart`` model.
        dictionary: of the identifiers.
    """
    return FairseqEncoderDecoderModel(StockEncoder(model, dictionary), StockDecoder(model, dictionary)).eval()
