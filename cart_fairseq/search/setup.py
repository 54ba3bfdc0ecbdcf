"""Builds the search over a data-bin with one model or an ensemble."""

from collections.abc import Sequence

from torch import Tensor

from cart_fairseq.base.settings import DEFAULT_SCORING
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dictionary import EOS
from cart_fairseq.network.model import CART
from cart_fairseq.search.dense.younger import ages_of, known_items
from cart_fairseq.search.generator import IdentifierGenerator


def make_generator(
    models: Sequence[CART],
    data: DataBin,
    beam: int,
    temperature: float = 1.0,
    scoring: str = DEFAULT_SCORING,
    dense_weight: float | None = None,
    level_discount: float | None = None,
    lookahead: bool = True,
    bias: Tensor | None = None,
) -> IdentifierGenerator:
    """Make a generator; it uses the dense heads if every model has one and ``dense_weight`` is not 0.

    Args:
        models: one model, or the members of an ensemble.
        data: the models' data-bin.
        beam, temperature, scoring: see :class:`~cart_fairseq.search.generator.IdentifierGenerator`.
        dense_weight, level_discount: None for the models' own.
        lookahead: whether the dense heads guide the beam, or only rank the items found.
        bias: (N,) float32, added to the dense score at weight 1 of each item, by item row; None for no bias.

    Raises:
        ValueError: a value is out of range.
    """
    known = min(known_items(data.bundle, model.revision, model.history) for model in models)
    ages = None if known == len(data.bundle) else ages_of(data.trie, known)
    hybrid = dense_weight != 0 and all(model.dense is not None for model in models)
    items = data.dense_items if hybrid else None
    options = (scoring, items, dense_weight, level_discount, lookahead, bias, ages)
    return IdentifierGenerator(models, data.search_space, EOS, beam, temperature, *options)
