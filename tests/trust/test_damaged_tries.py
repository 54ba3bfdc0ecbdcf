"""A damaged trie is one clear error, when it is opened or when it is searched; never a wrong hit, never a crash."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mutations import OLD
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from cart_fairseq.catalogue import trie as tries
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.queries.codec import QueryCodec
from cart_fairseq.retriever import CartRetriever
from preprocess.verifying.whole import verify

QUERIES = ["a dog", "red", "cat in a park"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(OLD / "plain" / "data-bin", tmp_path / "data-bin"))
    if not (folder / "trie.safetensors").exists():
        pytest.fail("the data-bin has no saved trie")
    return folder


def damage(data: Path, name: str, change) -> None:
    """Rewrite an array of the trie; the file is whole, so that only its numbers are wrong."""
    path = data / "trie.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    tensors[name] = change(tensors[name].clone())
    save_file(tensors, path, metadata)
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["files"]["trie.safetensors"]["bytes"] = path.stat().st_size
    (data / "manifest.json").write_text(json.dumps(manifest))


def put(place: int, value: int):
    def change(tensor: Tensor) -> Tensor:
        tensor[place] = value
        return tensor

    return change


OUT_OF_RANGE = [
    ("rows", put(0, 1 << 20)),
    ("rows", put(-1, -1)),
    ("first_child.0", put(0, -1)),
    ("first_child.1", put(1, 1 << 20)),
    ("first_child.1", put(0, 1)),
    ("values.0", put(0, 100)),
]


@pytest.mark.parametrize(("name", "change"), OUT_OF_RANGE)
@pytest.mark.parametrize("checked", [tries.CHECKED, 0], ids=["small", "large"])
def test_numbers_out_of_range(name, change, checked, data, monkeypatch):
    monkeypatch.setattr(tries, "CHECKED", checked)
    expected = [[hit.item_id for hit in hits] for hits in searched(data)]
    damage(data, name, change)
    if checked:
        with pytest.raises(CatalogueError, match=r"data-bin/trie\.safetensors: .*(out of range|names rows)"):
            _ = DataBin(data).trie
    said, found = "", expected
    try:
        found = [[hit.item_id for hit in hits] for hits in searched(data)]
    except CatalogueError as error:
        said = str(error)
    assert "trie.safetensors: " in said or not (said or checked)
    assert all(set(some) <= set(every) for some, every in zip(found, expected, strict=True))
    with pytest.raises(ValueError, match="trie"):
        verify(data)


def searched(data: Path):
    return CartRetriever.from_pretrained(OLD / "plain.pt", data).search(QUERIES, k=100)


def test_items_in_each_other_s_place_are_not_found(data):
    damage(data, "rows", lambda rows: rows.flip(0))
    with pytest.raises(CatalogueError, match=r"trie\.safetensors: leads to items that have other identifiers"):
        searched(data)
    codec, bundle = QueryCodec(DataBin(data)), DataBin(data).bundle
    words = [p.symbol(int(v)) for p, v in zip(bundle.positions, bundle.values[0], strict=True)]
    with pytest.raises(CatalogueError, match="leads to items that have other identifiers"):
        codec.decode(" ".join(words))


def test_a_large_trie_is_checked_before_it_goes_to_another_device(data, monkeypatch):
    monkeypatch.setattr(tries, "CHECKED", 0)
    damage(data, "rows", put(0, 1 << 20))
    trie = DataBin(data).trie
    with pytest.raises(CatalogueError, match=r"data-bin/trie\.safetensors: names rows from .* to 1048576"):
        trie.to(torch.device("meta"))
    with pytest.raises(CatalogueError, match="names rows"), trie.named_errors():
        raise IndexError
    pickle.loads(pickle.dumps(trie))


def test_errors_that_are_not_of_the_trie_stay_as_they_are(data, monkeypatch):
    monkeypatch.setattr(tries, "CHECKED", 0)
    with pytest.raises(IndexError, match="another"), DataBin(data).trie.named_errors():
        raise IndexError("another")


def test_a_whole_trie_passes(data):
    opened = DataBin(data)
    opened.trie.check(data / "trie.safetensors", len(opened.bundle))
    values = np.asarray(opened.bundle.values) + opened.bundle.offsets
    opened.refuse_wrong(np.arange(len(values)), values)
    with pytest.raises(CatalogueError):
        opened.refuse_wrong(np.array([len(values)]), values[:1])
    with pytest.raises(CatalogueError):
        opened.refuse_wrong(np.array([-1]), values[-1:])
