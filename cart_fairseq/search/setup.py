"""A search over a data-bin with one model or an ensemble."""

from collections.abc import Sequence

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dictionary import EOS
from cart_fairseq.network.model import CART
from cart_fairseq.search.generator import IdentifierGenerator
from cart_fairseq.settings import DEFAULT_SCORING


def make_generator(
    models: Sequence[CART],
    data: DataBin,
    beam: int,
    temperature: float = 1.0,
    scoring: str = DEFAULT_SCORING,
    dense_weight: float | None = None,
    level_discount: float | None = None,
) -> IdentifierGenerator:
    """A generator that reranks by the dense head where every model has one and its weight is not 0.

    Args:
        dense_weight, level_discount: the models' own unless given.
        beam, temperature, scoring: as :class:`~cart_fairseq.search.generator.IdentifierGenerator` has them.

    Raises:
        ValueError: a value is out of range.
    """
    reranked = dense_weight != 0 and all(model.dense is not None for model in models)
    items = data.dense_items if reranked else None
    return IdentifierGenerator(
        models, data.search_space, EOS, beam, temperature, scoring, items, dense_weight, level_discount
    )
