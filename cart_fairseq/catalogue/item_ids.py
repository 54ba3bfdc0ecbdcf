"""Finds the rows of items by their ids."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cart_fairseq.base.checks import is_encodable, short
from cart_fairseq.catalogue.errors import UnknownItem


class ItemIds:
    """The ids of a catalogue's items.

    Args:
        column: the N item ids; an item that was removed and added again has two rows.
        removed: (R,) int64, ascending rows of removed items.
    """

    def __init__(self, column: pa.ChunkedArray, removed: NDArray[np.int64]):
        self.column = column
        self.removed = removed

    @cached_property
    def _order(self) -> NDArray[np.uint64]:
        """(N,) rows in the order of their ids."""
        import pyarrow.compute as pc  # here, because most searches need none of it

        return pc.sort_indices(self.column).to_numpy()

    @cached_property
    def _gone(self) -> frozenset[int]:
        return frozenset(self.removed.tolist())

    def find(self, item_id: str) -> int | None:
        """Return the row of one item, or None if it is not in the catalogue. The first call sorts the ids."""
        order = self._order
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            if self._id(order[middle]) < item_id:
                low = middle + 1
            else:
                high = middle
        while low < len(order) and self._id(order[low]) == item_id:
            if int(order[low]) not in self._gone:
                return int(order[low])
            low += 1
        return None

    def _id(self, row: np.uint64) -> str:
        return str(self.column[int(row)].as_py())

    def rows_of(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """Rows of items: (n,) int64, ascending and distinct. It takes one pass over all ids.

        Raises:
            ValueError: an item is not in the catalogue.
        """
        import pyarrow.compute as pc

        try:
            wanted = pa.array(item_ids, pa.string())
        except UnicodeEncodeError:
            unknown = next(item_id for item_id in item_ids if not is_encodable(item_id))
            raise _unknown(unknown, "is not in") from None
        found = np.flatnonzero(pc.is_in(self.column, value_set=wanted).to_numpy())
        rows = found[~np.isin(found, self.removed)]
        if len(rows) < len(wanted.unique()):
            missing = wanted.filter(pc.invert(pc.is_in(wanted, value_set=self.column.take(rows))))[0]
            was_there = pc.is_in(missing, value_set=self.column.take(found)).as_py()
            raise _unknown(missing.as_py(), "was removed from" if was_there else "is not in")
        return rows


def _unknown(item_id: str, state: str) -> UnknownItem:
    return UnknownItem(f"item {short(item_id, 300)} {state} the catalogue; check the item ids")
