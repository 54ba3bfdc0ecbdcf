"""Batches of requests: each is answered as if it were alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from serving_samples import add_items, copy_world, settings

from cart_fairseq import CartRetriever
from cart_fairseq.queries.query import Query
from cart_fairseq.serving import served as module
from cart_fairseq.serving.errors import Refusal
from cart_fairseq.serving.loading import load
from cart_fairseq.serving.searching import Answer, Asked, search
from cart_fairseq.serving.served import Served
from preprocess.api import remove


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return load(settings(copy_world(tmp_path_factory.mktemp("world"), media=True)))


def asked(*texts: str, **options: Any) -> Asked:
    return Asked([Query(text) for text in texts], **{"k": 5, **options})


BATCH = [
    asked("a dog"),
    asked("a cat", "a bird", k=2),
    asked("a dog", k=40),
    asked("a dog", candidates="test", k=3),
    asked("a dog", candidates=["item 3", "item 9"]),
    asked("a tree", where={"split": "valid"}),
    asked("a tree", where={"split": "nobody"}),
]


def test_answers_are_those_of_each_request_alone(served: Served):
    together = search(served, BATCH)
    for request, answer in zip(BATCH, together, strict=True):
        [alone] = search(served, [request])
        assert isinstance(answer, Answer)
        assert isinstance(alone, Answer)
        assert [[hit.item_id for hit in hits] for hits in answer.hits] == [
            [hit.item_id for hit in hits] for hits in alone.hits
        ]
        for ours, theirs in zip(answer.hits, alone.hits, strict=True):
            assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-4)
            assert len(ours) <= request.k
    assert [len(hits) for hits in together[6].hits] == [0]  # type: ignore[union-attr]


def test_one_search_answers_all_requests_of_the_same_beam(served: Served, monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    inner = served.retriever.search

    def counted(queries: Any, **options: Any) -> Any:
        calls.append(len(queries))
        return inner(queries, **options)

    monkeypatch.setattr(served.retriever, "search", counted)
    search(served, BATCH)
    assert sorted(calls) == [1, 6]


def test_what_is_wrong_fails_alone(served: Served):
    wrong = [
        asked("a dog", candidates="nobody"),
        asked("a dog", candidates=["item 3", "nobody"]),
        asked("a dog", where={"nobody": 1}),
        Asked([Query(embedding=[1.0, 2.0])], 5),
        Asked([Query("a dog"), Query(item_id="nobody")], 5, several=True),
        asked("a dog", at_least=0.5),
    ]
    found = search(served, [*BATCH, *wrong])
    for answer, alone in zip(found, search(served, BATCH), strict=False):
        assert isinstance(answer, Answer)
        assert isinstance(alone, Answer)
        assert [[h.item_id for h in hits] for hits in answer.hits] == [[h.item_id for h in hits] for hits in alone.hits]
    errors = [error for error in found if isinstance(error, Refusal)]
    assert len(errors) == len(wrong)
    fields = [error.body["error"]["field"] for error in errors]
    assert fields == ["candidates", "candidates", "where.nobody", "query", "queries.1", "at_least"]
    assert not any(str(served.data.root) in str(error) for error in errors)


def test_an_error_that_no_request_caused_is_none_of_theirs(served: Served, monkeypatch: pytest.MonkeyPatch):
    def fail(queries: Any, **options: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(served.retriever, "search", fail)
    assert [type(each) for each in search(served, BATCH[:2])] == [RuntimeError, RuntimeError]


def test_candidate_sets_are_kept_and_their_memory_is_bounded(served: Served, monkeypatch: pytest.MonkeyPatch):
    where = {"split": ["test", "valid"]}
    first = served.candidate_set(None, where)[0]
    assert served.candidate_set(None, dict(where))[0] is first
    assert served.candidate_set(["item 3"], None)[0] is not served.candidate_set(["item 4"], None)[0]
    monkeypatch.setattr(module, "SET_BYTES", 5000)
    for number in range(20):
        served.candidate_set([f"item {number}"], None)
    assert sum(size for _, size in served._sets.values()) <= 5000
    assert served.candidate_set(None, where)[0] is not first
    assert served.candidate_set(None, {"seen": True})[1]
    assert not served.candidate_set(None, {"seen": 1})[1]  # another key than True


def test_items_are_found_by_their_ids(served: Served):
    bundle = served.bundle
    for row in range(len(bundle)):
        assert served.bundle.find(bundle.item_id(row)) == row
    for item_id in ("", "nobody", "item", "item 3 ", "z", "\U0010ffff"):
        assert served.bundle.find(item_id) is None


def test_a_removed_item_is_not_found_and_one_that_came_back_is(tmp_path: Path):
    world = copy_world(tmp_path)
    remove(world / "data-bin", ["item 3", "item 4"])
    add_items(world / "data-bin", [{"item_id": "item 3", "split": "test"}])
    found = load(settings(world))
    assert found.bundle.find("item 4") is None
    assert found.bundle.find("item 3") == 48
    assert found.items == 47


def test_what_is_less_probable_is_left_out(served: Served):
    [model] = served.models
    model.calibration.copy_(torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0]))
    calibrated = Served(CartRetriever([model], served.data))
    model.calibration.zero_()
    every, some = search(calibrated, [asked("a dog", k=30), asked("a dog", k=30, at_least=0.05)])
    assert isinstance(every, Answer)
    assert isinstance(some, Answer)
    probabilities = [hit.probability for hit in every.hits[0]]
    expected = [
        hit for hit, probability in zip(every.hits[0], probabilities, strict=True) if (probability or 0) >= 0.05
    ]
    assert 0 < len(expected) < 30
    assert some.hits[0] == expected
