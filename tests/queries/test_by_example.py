"""Catalogues without captions: made, searched by example, changed, and refused where a model is needed."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import setup_task, write_jsonl
from join_samples import ITEMS, write_world
from mixed_world import write_media_world

from cart_fairseq import CartRetriever, ExampleRetriever, Query
from cart_fairseq.catalogue.data_bin import DataBin
from preprocess.api import add, binarize, build_identifiers, compact, remove, verify
from preprocess.identifiers.settings import IdentifierSettings


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A data-bin without captions, and its inputs beside it."""
    write_world(tmp_path)
    settings = IdentifierSettings(scheme="residual-kmeans", kmeans_clusters=3, codebook_size=3, allow_collapse=True)
    build_identifiers(tmp_path / "embeddings.npy", tmp_path / "items.jsonl", tmp_path / "identifiers", settings)
    made = binarize(tmp_path / "identifiers", None, tmp_path / "data-bin", embeddings=tmp_path / "embeddings.npy")
    assert made.is_new
    assert made.counts == {}
    assert "found by example alone" in made.summary
    return tmp_path


@pytest.fixture
def opened(world: Path) -> ExampleRetriever:
    return ExampleRetriever.from_pretrained(world / "data-bin", "cpu")


def unit(world: Path) -> np.ndarray:
    """(N, E) float64, the embeddings at length 1."""
    rows = np.load(world / "embeddings.npy").astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_items_are_ranked_by_cosine(world: Path, opened: ExampleRetriever, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cart_fairseq.example_retriever.BLOCK", 7)  # as in a large catalogue
    rows = unit(world)
    wanted = rows @ rows[3]
    wanted[3] = -np.inf
    [hits] = opened.search([Query(item_id="i3")], k=ITEMS)
    assert [hit.row for hit in hits] == np.argsort(-wanted, kind="stable")[:-1].tolist()
    assert [hit.score for hit in hits] == pytest.approx(np.sort(wanted)[::-1][:-1], abs=1e-5)
    assert hits[0].item_id == f"i{hits[0].row}"
    assert hits[0].probability is None
    assert [hit.row for hit in opened.search([Query(item_id="i3")], k=2)[0]] == [hit.row for hit in hits[:2]]


def test_parts_are_weighed_and_candidates_kept(world: Path, opened: ExampleRetriever):
    rows = unit(world)
    query = Query(item_id="i0", embedding=rows[5] * 9, weights={"item_id": -0.5})
    wanted = (rows[5] - 0.5 * rows[0]) / 1.5 @ rows.T
    among = ["i1", "i2", "i5", "i7"]
    first, second = opened.search([query, Query(item_id="i5")], k=3, candidates=[among, None])
    order = sorted([1, 2, 5, 7], key=lambda row: -wanted[row])
    assert [hit.item_id for hit in first] == [f"i{row}" for row in order[:3]]
    assert first[0].score == pytest.approx(wanted[order[0]], abs=1e-5)
    assert len(second) == 3
    assert "i5" not in [hit.item_id for hit in second]
    assert opened.search([]) == []


@pytest.mark.parametrize(
    ("queries", "options", "found"),
    [
        (["a dog"], {}, "query 0 asks with text, but no model was trained"),
        ([Query(item_id="i1"), Query(item_id="i1", text="a dog")], {}, "query 1 asks with text"),
        ([Query(item_id="none")], {}, "none"),
        ([Query(embedding=[1.0, 2.0])], {}, "query 0: the embedding has width 2"),
        ([Query(item_id="i1")], {"k": 0}, "k is 0"),
        ([Query(item_id="i1")], {"candidates": "nowhere"}, "no candidate set 'nowhere'"),
        (
            [Query(item_id="i1")],
            {"at_least": 0.5},
            "at_least is 0.5, but cosines are no probabilities; leave out at_least",
        ),
        ([Query(media="a.png")], {}, "does not say which encoder"),
    ],
)
def test_wrong_queries_are_refused(opened: ExampleRetriever, queries: list, options: dict, found: str):
    with pytest.raises(ValueError, match=re.escape(found)):
        opened.search(queries, **options)


def test_the_catalogue_changes(world: Path, opened: ExampleRetriever):
    rows = np.load(world / "embeddings.npy")
    np.save(world / "new.npy", rows[4:5])
    write_jsonl(world / "new.jsonl", [{"item_id": "new"}])
    data_bin = world / "data-bin"
    add(data_bin, world / "new.npy", world / "new.jsonl")
    remove(data_bin, ["i5"])
    changed = opened.on(DataBin(data_bin))
    assert changed.search([Query(item_id="i4")], k=1)[0][0].item_id == "new"
    assert "i5" not in {hit.item_id for hit in changed.search([Query(item_id="i4")], k=ITEMS)[0]}
    compact(data_bin)
    [hits] = ExampleRetriever.from_pretrained(data_bin).search([Query(item_id="i4")], k=ITEMS)
    assert hits[0].item_id == "new"
    assert len(hits) == ITEMS - 1
    assert verify(data_bin).unknown == ()  # it raises an error for anything damaged


def test_files_are_queries(tmp_path: Path):
    write_media_world(tmp_path, ["0.png", "1.png", "2.wav", "3.mp4"])
    binarize(tmp_path / "identifiers", None, tmp_path / "bare", embeddings=tmp_path / "extracted" / "embeddings.npy")
    retriever = ExampleRetriever.from_pretrained(tmp_path / "bare", "cpu")
    found = retriever.search([Query(media=tmp_path / name) for name in ("2.wav", "3.mp4", "1.png")], k=1)
    assert [hits[0].item_id for hits in found] == ["2.wav", "3.mp4", "1.png"]


def test_what_needs_a_model_or_captions_says_so(world: Path):
    with pytest.raises(ValueError, match="was made without captions"):
        setup_task(world / "data-bin")
    with pytest.raises(ValueError, match=r"any\.pt"):
        CartRetriever.from_pretrained(world / "any.pt", world / "data-bin")
    with pytest.raises(ValueError, match="was made without captions"):
        DataBin(world / "data-bin").fingerprint  # noqa: B018
    again = binarize(world / "identifiers", None, world / "data-bin", embeddings=world / "embeddings.npy")
    assert not again.is_new
    with pytest.raises(ValueError, match="give --embeddings"):
        binarize(world / "identifiers", None, world / "other")
    binarize(world / "identifiers", world / "captions.jsonl", world / "plain")
    with pytest.raises(ValueError, match="binarise it with --embeddings"):
        ExampleRetriever.from_pretrained(world / "plain")
