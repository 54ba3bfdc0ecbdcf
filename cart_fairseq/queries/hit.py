"""Hit: an item that a search found."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Hit:
    """One retrieved item.

    Attributes:
        item_id: the item's id.
        score: the sum of the natural-log probabilities of its identifier's symbols, discounted by level, plus the
            weighted dense score. Higher is better.
        record: the item's object in ``items.jsonl`` (``media``, ``split`` …).
        row: the item's row in the catalogue.
        probability: how likely this is the wanted item, between 0 and 1; those of a query's 30 best hits sum to the
            probability that something fits. None: the model is not calibrated for this search, or the query is not one text.
    """

    item_id: str
    score: float
    record: dict[str, Any] = field(compare=False)
    row: int = -1
    probability: float | None = None
