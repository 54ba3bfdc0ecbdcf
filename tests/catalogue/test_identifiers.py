"""The identifier bundle: unique tokens equal a plain counter, what is written comes back, damage is noticed."""

import collections
import json

import numpy as np
import pytest
from conftest import make_bundle
from fairseq.data import Dictionary

from cart_fairseq.catalogue.identifiers import IdentifierBundle, write_bundle
from cart_fairseq.catalogue.positions import Position, semantic_positions, unique_positions, unique_tokens


@pytest.mark.parametrize(("items", "size"), [(1, 2), (50, 3), (500, 4)])
def test_unique_tokens_equal_a_plain_counter(items, size):
    codes = np.random.default_rng(items).integers(0, size, size=(items, 3))
    counter: collections.Counter = collections.Counter()
    expected = []
    for code in map(tuple, codes):
        expected.append(counter[code])
        counter[code] += 1
    found = unique_tokens(codes, 128)
    assert found[:, 0].tolist() == expected
    assert found.shape == (items, 1)


def test_codes_of_any_width_and_number_are_counted():
    """Wider than one integer can hold, negative, none at all."""
    wide = np.array([[2**40, 2**40], [0, 1], [2**40, 2**40], [0, 1], [0, 1]])
    assert unique_tokens(wide, 8)[:, 0].tolist() == [0, 0, 1, 1, 2]
    assert unique_tokens(wide - 2**41, 8)[:, 0].tolist() == [0, 0, 1, 1, 2]
    assert unique_tokens(np.zeros((0, 3), dtype=np.int32), 8).shape == (0, 1)


def test_more_items_on_a_code_than_symbols_are_spelled_with_more_digits():
    codes = np.zeros((130, 2), dtype=np.int32)
    found = unique_tokens(codes, 5)
    assert found.shape == (130, 4)  # 5^3 = 125 < 130
    assert (found @ [125, 25, 5, 1]).tolist() == list(range(130))
    assert [p.name for p in unique_positions(4, 5)] == ["u1", "u2", "u3", "u4"]
    assert unique_tokens(codes[:5], 5).shape == (5, 1)


def test_a_single_unique_symbol_is_refused():
    with pytest.raises(ValueError, match="--unique-size is 1"):
        unique_tokens(np.zeros((2, 1), dtype=int), 1)


def test_what_is_written_comes_back(tmp_path):
    bundle = make_bundle(tmp_path / "b")
    again = IdentifierBundle.load(tmp_path / "b")
    again.verify()
    assert again.fingerprint == bundle.fingerprint
    assert again.item_ids[7] == "item 7"
    assert again.row_of["item 7"] == 7
    assert again.record(7) == {"item_id": "item 7", "media": "7.png", "split": "valid"}
    assert again.splits[:3] == ["train", "valid", "test"]
    assert again.values.dtype == np.int32


def test_symbols_are_those_of_the_dictionary_fairseq_reads(tmp_path):
    bundle = make_bundle(tmp_path / "b")
    dictionary = Dictionary.load(str(tmp_path / "b" / "dict.id.txt"))
    assert len(dictionary) == 4 + sum(position.size for position in bundle.positions)
    for values, symbols in zip(bundle.values.tolist(), bundle.symbols().tolist(), strict=True):
        words = [position.symbol(value) for position, value in zip(bundle.positions, values, strict=True)]
        assert [dictionary[symbol] for symbol in symbols] == words


def items(count):
    return [{"item_id": str(i)} for i in range(count)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0, 0], [0, 0]], "same identifier"),
        ([[0, 0], [0, 2]], "position u: value 2 is not between 0 and 1"),
        ([[0, 0], [-1, 0]], "row 1"),
        ([[0, 0]], r"shape \(1, 2\), expected \(2, 2\)"),
    ],
)
def test_impossible_identifiers_are_not_written(tmp_path, values, message):
    positions = [Position("k", 2), Position("u", 2)]
    with pytest.raises(ValueError, match=message):
        write_bundle(tmp_path / "b", np.array(values), positions, items(2), {}, {}, {})
    assert list(tmp_path.iterdir()) == []


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "b"
    make_bundle(path)
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        IdentifierBundle.load(tmp_path)
    data = bytearray((path / "identifiers.npy").read_bytes())
    data[-1] ^= 1
    (path / "identifiers.npy").write_bytes(data)
    with pytest.raises(ValueError, match=r"identifiers\.npy: sha256"):
        IdentifierBundle.load(path).verify()
    (path / "identifiers.npy").write_bytes(data[:-8])
    with pytest.raises(ValueError, match=r"identifiers\.npy: \d+ bytes, the manifest says"):
        IdentifierBundle.load(path)
    (path / "identifiers.npy").unlink()
    with pytest.raises(ValueError, match=r"identifiers\.npy: missing"):
        IdentifierBundle.load(path)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    with pytest.raises(ValueError, match="schema_version is 99"):
        IdentifierBundle.load(path)
    (path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        IdentifierBundle.load(path)


def test_semantic_positions_end_before_the_unique_token_and_are_the_token_where_there_is_nothing_else(tmp_path):
    names = ["k", "v1", "v2", "u1", "u2"]
    assert [p.name for p in semantic_positions([Position(name, 4) for name in names])] == ["k", "v1", "v2"]
    assert [p.name for p in semantic_positions([Position("u", 4)])] == ["u"]
    assert [p.name for p in make_bundle(tmp_path / "b").semantic_positions] == ["k", "v1", "v2"]
