"""What is stored for searches of a state of the catalogue goes when this state is gone, and nothing else goes."""

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
from changing import dense_world, new_items

from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.publishing import renewing
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.dense.outdated import NOTE, opened_if_there, remove_outdated
from cart_fairseq.steps.tuning import SHARE_STATE, keep
from preprocess.api import add, compact, remove, renew, verify

TEXTS = ["red dog", "blue cat in a park"]
FOLDERS = 5
"""Vectors, stored queries, priors, and statistics of texts and of mixed queries."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = dense_world(tmp_path_factory.mktemp("outdated"))
    for name, share in (("checkpoint_best.pt", 0.5), ("other.pt", 0.25)):
        path = root / "save" / name
        if not path.exists():
            shutil.copy(root / "save" / "checkpoint_best.pt", path)
        keep(path, {SHARE_STATE: share})
    return root


@pytest.fixture(autouse=True)
def every_catalogue_is_large(monkeypatch):
    for name in ("store_vectors", "store_statistics"):
        monkeypatch.setattr(renewing, name, functools.partial(getattr(renewing, name), exact_items=0))


@pytest.fixture
def data(world, tmp_path):
    return Path(shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True))


def stored(data: Path) -> set[str]:
    return {path.name for path in (data / "search").iterdir()}


def found(retriever: CartRetriever) -> list[list[tuple[str, float]]]:
    return [[(hit.item_id, round(hit.score, 3)) for hit in hits] for hits in retriever.search(TEXTS, k=8)]


def test_a_data_bin_does_not_grow_with_its_updates(world, data, tmp_path):
    path = world / "save" / "checkpoint_best.pt"
    renew(data, path)
    first = stored(data)
    assert len(first) == FOLDERS
    for number in range(3):
        embeddings, items = new_items(tmp_path / f"new {number}", 2, first=2 * number)
        add(data, embeddings, items, path=path)
        assert len(stored(data)) == FOLDERS
        remove(data, [f"new {2 * number}"], path=path)
        assert len(stored(data)) == FOLDERS
    compact(data, path=path)
    assert len(stored(data)) == FOLDERS
    assert {name for name in first if name.startswith("queries.")} == stored(data) & first  # of the model alone
    assert verify(data).kind == "data-bin"


def test_an_update_without_a_checkpoint_removes_what_no_search_can_use(world, data):
    path = world / "save" / "checkpoint_best.pt"
    renew(data, path)
    remove(data, ["item 3"])
    assert sorted(name.split(".")[0] for name in stored(data)) == ["queries", "vectors"]  # the embeddings are the same
    expected = found(CartRetriever.from_pretrained(path, data))
    renew(data, path)
    assert len(stored(data)) == FOLDERS
    assert found(CartRetriever.from_pretrained(path, data)) == expected


def test_what_other_checkpoints_read_stays(world, data):
    for name in ("checkpoint_best.pt", "other.pt", "checkpoint_best.pt"):
        renew(data, world / "save" / name)
    assert len(stored(data)) == FOLDERS + 2  # they differ in the share of priors, which are in the statistics


def test_what_is_not_known_to_be_of_another_state_stays(world, data, tmp_path):
    path, elsewhere = world / "save" / "checkpoint_best.pt", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / NOTE).write_text('{"identifiers": "another"}')
    renew(data, path)
    search = data / "search"
    for name in ("0123456789abcdef", "priors.0123456789abcdef", "mine"):
        (search / name).mkdir()
    (search / "mine" / NOTE).write_text('{"identifiers": "another"}')
    (search / "priors.0123456789abcdef" / NOTE).write_text("{")
    (search / "vectors.0123456789abcdef").symlink_to(elsewhere)
    (search / "fedcba9876543210").mkdir()
    (search / "fedcba9876543210" / NOTE).write_text('{"identifiers": "another"}')
    before = stored(data)
    remove_outdated(data)
    assert before - stored(data) == {"fedcba9876543210"}
    assert (elsewhere / NOTE).exists()


def test_an_open_retriever_searches_on(world, data):
    path = world / "save" / "checkpoint_best.pt"
    renew(data, path)
    searched, unused = (CartRetriever.from_pretrained(path, data, precision="float32") for _ in range(2))
    expected = found(searched)
    remove(data, ["item 3"], path=path)
    compact(data, path=path)
    assert found(searched) == expected
    assert found(unused) == expected


def test_a_slow_tuner_does_not_remove_what_belongs_to_a_later_state(world, data):
    path = world / "save" / "checkpoint_best.pt"
    slow = CartRetriever.from_pretrained(path, data)
    remove(data, ["item 3"], path=path)
    later = stored(data)
    assert renewing.store_search_files(slow.models, slow.data)
    assert later <= stored(data)
    remove(data, ["item 4"], path=path)
    assert len(stored(data)) == FOLDERS


def test_arrays_that_are_removed_while_they_are_opened_are_none(tmp_path):
    def gone() -> np.ndarray:
        (tmp_path / "arrays").rmdir()
        raise CatalogueError("missing")

    assert opened_if_there(tmp_path / "arrays", gone) is None
    (tmp_path / "arrays").mkdir()
    assert opened_if_there(tmp_path / "arrays", gone) is None
    with pytest.raises(CatalogueError, match="damaged"):
        opened_if_there(tmp_path, lambda: (_ for _ in ()).throw(CatalogueError("damaged")))


def test_what_a_killed_command_left_beside_a_note_goes(world, data):
    path = world / "save" / "checkpoint_best.pt"
    renew(data, path)
    before = {str(each) for each in (data / "search").rglob("*")}
    for folder in stored(data):
        (data / "search" / folder / f".{NOTE}.abcdefgh.tmp").mkdir()
    renew(data, path)
    assert {str(each) for each in (data / "search").rglob("*")} == before
