"""Facets: the fields of items that a search can be restricted by, with the items of each value."""

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.checks import is_number
from cart_fairseq.catalogue import segments
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.serving.errors import Refusal

NOT_FACETS = ("item_id", "media")
MOST_FIELDS = 64
MOST_VALUES = 1000
"""Distinct values of a field; one with more is no facet."""
LONGEST = 64
"""Characters of a text; a field with a longer one is no facet."""
MOST_LISTED = 32
"""Texts in a list."""
MOST_NAMES = 4 * MOST_FIELDS
"""Names of fields that are looked at; records whose names of fields are data have more."""
MOST_ROWS = 1 << 27
"""Rows of all values together, of 4 bytes each. Fields that come on top are left out."""
BLOCK_ROWS = 1 << 12

Key = tuple[str, Any]
Rows = NDArray[np.int32]
Columns = dict[str, dict[Key, Any]]


class PartFacets(NamedTuple):
    """The facets of one part of a bundle.

    Attributes:
        digest: SHA-256 of the part's table of items.
        columns: for each field and value, (n,) int32 rows, counted from the begin of the part.
        left_out: fields that are no facets, with the reason.
    """

    digest: str
    columns: Columns
    left_out: dict[str, str]


def keys_of(value: Any) -> list[Key] | str:
    """Return a field's values as keys, or say why it is no facet.

    >>> keys_of("red"), keys_of(["red", "old"]), keys_of(True), keys_of(1) == keys_of(1.0)
    ([('text', 'red')], [('text', 'red'), ('text', 'old')], [('truth', True)], True)
    """
    if isinstance(value, bool):
        return [("truth", value)]
    if isinstance(value, int | float):
        return [("number", value)] if is_number(value) and abs(value) < 1 << 53 else "has numbers out of range"
    if isinstance(value, str):
        return [("text", value)] if len(value) <= LONGEST else f"has texts of more than {LONGEST} characters"
    if isinstance(value, list):
        if len(value) > MOST_LISTED:
            return f"has lists of more than {MOST_LISTED} values"
        if not all(isinstance(each, str) and len(each) <= LONGEST for each in value):
            return "has lists of other values than short texts"
        return [("text", each) for each in dict.fromkeys(value)]
    return "has values that are neither texts, numbers nor lists of texts"


def read_part(records: Iterable[str], digest: str = "") -> PartFacets:
    """Collect the facets of records.

    Args:
        records: the JSON of each item, in row order.
        digest: see :class:`PartFacets`.
    """
    found: dict[str, dict[Key, array[int]]] = {}
    left_out: dict[str, str] = {}
    used = 0
    for row, record in enumerate(records):
        for name, value in json.loads(record).items():
            if value is None or name in NOT_FACETS or name in left_out:
                continue
            if name not in found and len(found) + len(left_out) == MOST_NAMES:
                continue
            keys = keys_of(value)
            rows_of = found.setdefault(name, {})
            reason = keys if isinstance(keys, str) else ""
            if len(rows_of) > MOST_VALUES:
                reason = f"has more than {MOST_VALUES} values"
            if used > MOST_ROWS:
                reason = "has too many values in all"
            if reason:
                left_out[name] = reason
                used -= sum(map(len, found.pop(name).values()))
                continue
            for key in keys:
                rows_of.setdefault(key, array("i")).append(row)  # type: ignore[arg-type]
            used += len(keys)
    columns = {
        name: {key: np.frombuffer(rows, np.int32) for key, rows in rows_of.items()} for name, rows_of in found.items()
    }
    return PartFacets(digest, columns, left_out)


class Facets:
    """The facets of a catalogue.

    Args:
        bundle: the identifier bundle.
        earlier: facets of an earlier state; those of parts that both have are taken from it.

    Attributes:
        items: N, the number of rows.
        columns: for each field and value, (n,) int32 rows of items in the catalogue.
        left_out: fields that are no facets, with the reason.
    """

    def __init__(self, bundle: IdentifierBundle, earlier: "Facets | None" = None):
        known = {part.digest: part for part in earlier.parts} if earlier else {}
        self.items = len(bundle)
        self.parts: list[PartFacets] = []
        for part in bundle.parts:
            digest = bundle.manifest["files"][part.folder + segments.ITEMS]["sha256"]
            if digest not in known:
                known[digest] = read_part(_records(bundle, part), digest)
            self.parts.append(known[digest])
        gone = np.zeros(self.items, dtype=bool)
        gone[bundle.removed] = True
        self.columns, self.left_out = self._merged([part.items for part in bundle.parts], gone)
        self._live = None if not gone.any() else ~gone

    def _merged(self, sizes: Sequence[int], gone: NDArray[np.bool_]) -> tuple[Columns, dict[str, str]]:
        """Merge the facets of parts, without removed items."""
        left_out = {name: reason for part in self.parts for name, reason in part.left_out.items()}
        several: dict[str, dict[Key, list[Rows]]] = {}
        begin = 0
        for part, size in zip(self.parts, sizes, strict=True):
            for name, rows_of in part.columns.items():
                if name not in left_out:
                    for key, rows in rows_of.items():
                        live = rows if begin == 0 else rows + np.int32(begin)
                        live = live if not gone.any() else live[~gone[live]]
                        if len(live):
                            several.setdefault(name, {}).setdefault(key, []).append(live)
            begin += size
        columns: Columns = {}
        room = MOST_ROWS
        for name, found in sorted(several.items(), key=lambda each: len(each[1])):
            entries = sum(len(rows) for lists in found.values() for rows in lists)
            if len(found) > MOST_VALUES:
                left_out[name] = f"has more than {MOST_VALUES} values"
            elif len(columns) == MOST_FIELDS or entries > room:
                left_out[name] = f"there are more than {MOST_FIELDS} fields, or they have too many values"
            else:
                room -= entries
                columns[name] = {
                    key: lists[0] if len(lists) == 1 else np.concatenate(lists) for key, lists in found.items()
                }
        return columns, left_out

    def rows(self, where: Mapping[str, Any], within: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the items whose fields have the values: (n,) int64 rows, ascending.

        Args:
            where: for each field a value or a list of values, one of which the item must have.
            within: rows of the items to choose from; None for all in the catalogue.

        Raises:
            Refusal: a field is no facet.
        """
        chosen = np.ones(self.items, dtype=bool) if self._live is None else self._live.copy()
        if within is not None:
            inside = np.zeros(self.items, dtype=bool)
            inside[within] = True
            chosen &= inside
        for name, wanted in where.items():
            if name not in self.columns:
                raise Refusal(422, f"where.{name}", self._why(name), "use a field that /api/facets lists")
            fits = np.zeros(self.items, dtype=bool)
            for value in wanted if isinstance(wanted, list) else [wanted]:
                keys = keys_of(value)
                for key in keys if isinstance(keys, list) else []:
                    fits[self.columns[name].get(key, [])] = True
            chosen &= fits
        return np.flatnonzero(chosen)

    def _why(self, name: str) -> str:
        return f"the field {self.left_out[name]}" if name in self.left_out else "no item has this field"

    def shown(self) -> dict[str, Any]:
        """Return the fields, values and counts, as ``/api/facets`` shows them; the most frequent values first."""
        fields = []
        for name, rows_of in sorted(self.columns.items()):
            counts = Counter({key: len(rows) for key, rows in rows_of.items()})
            values = [{"value": value, "count": count} for (_, value), count in counts.most_common()]
            kinds = sorted({kind for kind, _ in rows_of})
            fields.append({"field": name, "kinds": kinds, "values": values})
        left_out = [{"field": name, "reason": reason} for name, reason in sorted(self.left_out.items())]
        return {"fields": fields, "left_out": left_out}


def _records(bundle: IdentifierBundle, part: segments.Part) -> Iterable[str]:
    """Yield the records of a part, block by block."""
    column = segments.read_column(bundle.files, [part], "record")
    for begin in range(0, len(column), BLOCK_ROWS):
        yield from column.slice(begin, BLOCK_ROWS).to_pylist()
