"""Facets: which fields there are, which items they find, and bounds on their memory."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_samples import add_items, copy_world

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.serving import facets
from cart_fairseq.serving.errors import Refusal
from cart_fairseq.serving.facets import Facets, read_part
from preprocess.api import compact, remove


def part(*records: dict[str, Any]) -> facets.PartFacets:
    return read_part(json.dumps({"item_id": str(row), **record}) for row, record in enumerate(records))


VALUES = st.sampled_from(["red", "blue", 1, 1.0, 2, 0, True, False, ["red"], ["red", "blue", "red"], None, []])
RECORDS = st.lists(st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES}), min_size=1, max_size=30)
WANTED = st.sampled_from(["red", "blue", 1, 2, True, False, ["red", 1], ["nobody"], ["red", "blue"]])


def has(value: Any, wanted: Any) -> bool:
    """Whether a value of a record is one of those wanted: a slow reference."""
    own = value if isinstance(value, list) else [value]
    every = wanted if isinstance(wanted, list) else [wanted]
    return any(a == b and isinstance(a, bool) == isinstance(b, bool) for a in own for b in every)


class OfPart(Facets):
    """The facets of one part without a bundle."""

    def __init__(self, found: facets.PartFacets, items: int, gone: set[int]):
        self.items, self.parts = items, [found]
        removed = np.isin(np.arange(items), [*gone])
        self.columns, self.left_out = self._merged([items], removed)
        self._live = ~removed if gone else None


@settings(max_examples=200, deadline=None)
@given(RECORDS, st.dictionaries(st.sampled_from("ab"), WANTED, min_size=1), st.sets(st.integers(0, 29), max_size=3))
def test_rows_are_those_of_a_slow_reference(records: list[dict[str, Any]], where: dict[str, Any], gone: set[int]):
    found = OfPart(part(*records), len(records), gone)
    unknown = [name for name in where if name not in found.columns]
    if unknown:
        with pytest.raises(Refusal):
            found.rows(where)
        where = {name: value for name, value in where.items() if name not in unknown}
    expected = [
        row
        for row, record in enumerate(records)
        if row not in gone and all(has(record.get(name), wanted) for name, wanted in where.items())
    ]
    assert found.rows(where).tolist() == expected
    within = np.array([0, len(records) - 1])
    assert found.rows(where, within).tolist() == [row for row in expected if row in within]
    for field in found.shown()["fields"]:
        for each in field["values"]:
            assert each["count"] == len(found.rows({field["field"]: each["value"]})) > 0


def test_fields_that_are_no_facets_say_why():
    found = part(
        {"caption": "a" * 65, "place": {"x": 1}, "sizes": [1, 2], "weight": 1e300, "media": "a.png"},
        {"many": [str(n) for n in range(33)], "good": "yes"},
    )
    assert {*found.columns} == {"good"}
    assert found.left_out == {
        "caption": "has texts of more than 64 characters",
        "place": "has values that are neither texts, numbers nor lists of texts",
        "sizes": "has lists of other values than short texts",
        "weight": "has numbers out of range",
        "many": "has lists of more than 32 values",
    }


def test_a_field_with_too_many_values_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(facets, "MOST_VALUES", 5)
    found = part(*({"number": row, "parity": row % 2} for row in range(100)))
    assert {*found.columns} == {"parity"}
    assert found.left_out == {"number": "has more than 5 values"}


def test_names_of_fields_that_are_data_take_no_memory():
    found = part(*({f"name {row}": 1, "common": row % 3} for row in range(3000)), {"late": 1})
    assert len(found.columns) + len(found.left_out) == facets.MOST_NAMES
    assert "common" in found.columns
    shown = OfPart(found, 3001, set()).shown()
    assert len(shown["fields"]) == facets.MOST_FIELDS


def test_rows_of_all_fields_together_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(facets, "MOST_ROWS", 150)
    found = OfPart(part(*({"a": 1, "b": row % 2} for row in range(100))), 100, set())
    assert len(found.columns) <= 1
    assert found.left_out


def test_updates_change_the_counts_and_read_new_parts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = copy_world(tmp_path) / "data-bin"
    first = Facets(DataBin(data).bundle)
    assert counts(first, "split") == {"train": 32, "valid": 8, "test": 8}
    add_items(data, [{"item_id": f"new {n}", "split": "test", "colour": "red"} for n in range(3)])
    read: list[int] = []

    def counted(records: Iterable[str], digest: str) -> facets.PartFacets:
        read.append(1)
        return read_part(records, digest)

    monkeypatch.setattr(facets, "read_part", counted)
    second = Facets(DataBin(data).bundle, first)
    assert (counts(second, "split"), counts(second, "colour")) == ({"train": 32, "valid": 8, "test": 11}, {"red": 3})
    assert second.rows({"colour": "red"}).tolist() == [48, 49, 50]
    assert len(read) == 1
    gone = DataBin(data).bundle.item_id(int(second.rows({"split": "test"})[0]))
    remove(data, ["new 1", gone])
    third = Facets(DataBin(data).bundle, second)
    assert (counts(third, "split")["test"], counts(third, "colour")) == (9, {"red": 2})
    assert third.rows({"colour": "red"}).tolist() == [48, 50]
    assert len(read) == 1
    compact(data)
    fourth = Facets(DataBin(data).bundle, third)
    assert (counts(fourth, "split")["test"], counts(fourth, "colour")) == (9, {"red": 2})
    assert counts(first, "split") == {"train": 32, "valid": 8, "test": 8}


def counts(found: Facets, field: str) -> dict[Any, int]:
    [shown] = [each for each in found.shown()["fields"] if each["field"] == field]
    return {each["value"]: each["count"] for each in shown["values"]}
