"""Queries by item and embedding, and their weighted sums with texts: equal to a slow reference, in every kind of search."""

from typing import Any

import numpy as np
import pytest
import torch
from join_samples import ITEMS, WIDTH, embeddings_of_items
from mixed_world import retriever, write_data_bin

from cart_fairseq import CartRetriever, Query
from cart_fairseq.queries.query import ITEM, MEDIA, TEXT
from cart_fairseq.search.dense.item_vectors import mean_weight
from preprocess.api import compact, remove

RAW = embeddings_of_items().astype(np.float64)
UNIT = RAW / np.linalg.norm(RAW, axis=1, keepdims=True)
NOISE = np.random.default_rng(9).normal(size=(3, WIDTH))
QUERIES = [
    Query(item_id="i3"),
    Query(embedding=NOISE[0]),
    Query(embedding=NOISE[:2], weights={"embedding": [2, -1]}),
    Query(text="red cat", item_id="i7"),
    Query(text=["red cat", "old house"], weights={"text": [1, -0.5]}),
    Query(text=["red cat", "old house"], item_id=["i9", "i11"], weights={"text": [0.3, 0.7], "item_id": [1, -1]}),
    Query(text="red cat", embedding=NOISE[2], weights={"text": -1, "embedding": 3}),
]


@pytest.fixture(scope="module", params=[True, False], ids=["joined", "plain"])
def data(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_data_bin(root, request.param)
    return root / "data-bin"


def vector_of(part):
    return UNIT[int(part.value[1:])] if part.kind == ITEM else part.value / np.linalg.norm(part.value)


@torch.no_grad()
def slow_scores(opened: CartRetriever, query: Query) -> np.ndarray:
    """Dense scores at weight 1 of all items in double precision, the mean over the models: (N,)."""
    parts, rows, found = query.parts(), np.arange(len(opened.data.bundle)), np.zeros(len(opened.data.bundle))
    items = opened.data.dense_items
    assert items is not None
    for part in parts:
        if part.kind == TEXT:
            symbols = opened.codec.symbols(part.value).unsqueeze(0)
            each = []
            for model in opened.models:
                assert model.dense is not None
                asked = model.dense.query(model.encoder(symbols, torch.tensor([symbols.size(1)])))[0].double()
                each.append(model.dense.item(items.features(rows)).double() @ asked * float(model.dense.scale()))
            score = torch.stack(each).mean(0).numpy()
        else:
            unit = UNIT[[int(item_id[1:]) for item_id in opened.data.bundle.item_ids]]
            score = unit @ vector_of(part)
            present = np.setdiff1d(rows, opened.data.bundle.removed)
            score *= 2 * dense_spread(opened, present) / score[present].std()
        found += part.weight * score
    return found / sum(abs(part.weight) for part in parts)


@torch.no_grad()
def dense_spread(opened: CartRetriever, rows: np.ndarray) -> float:
    """Standard deviation of the dense scores between different items."""
    assert opened.data.dense_items is not None
    features, each = opened.data.dense_items.features(rows), []
    for model in opened.models:
        assert model.dense is not None
        vectors = model.dense.item(features).double()
        each.append(vectors @ vectors.T * float(model.dense.scale()))
    return float(torch.stack(each).mean(0)[~torch.eye(len(rows), dtype=torch.bool)].std(correction=0))


def expected(opened: CartRetriever, query: Query, data) -> dict[str, float]:
    """The score of each item that the answer may hold."""
    dense = slow_scores(opened, query) * mean_weight(opened.models)
    words = [part.value for part in query.parts() if part.kind == TEXT and part.weight > 0]
    written = dict.fromkeys(opened.data.bundle.item_ids, 0.0)
    if words:
        alone = CartRetriever(opened.models, opened.data, beam=ITEMS, dense_weight=0)
        written = {hit.item_id: hit.score for hit in alone.search([", ".join(words)], k=ITEMS)[0]}
    left_out = {part.value for part in query.parts() if part.kind == ITEM}
    pairs = zip(opened.data.bundle.item_ids, dense, strict=True)
    gone = {opened.data.bundle.item_id(row) for row in opened.data.bundle.removed.tolist()}
    return {item_id: written[item_id] + score for item_id, score in pairs if item_id not in left_out | gone}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one", "ensemble"])
@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_scores_equal_a_slow_reference(data, query, seeds):
    opened = retriever(data, seeds, beam=ITEMS)
    wanted = expected(opened, query, data)
    hits = opened.search([query], k=ITEMS)[0]
    assert {hit.item_id: hit.score for hit in hits} == pytest.approx(wanted, abs=2e-2)
    best = sorted(wanted.values(), reverse=True)
    assert [hit.score for hit in hits] == pytest.approx(best, abs=2e-2)


def test_texts_alone_rank_as_before_in_batches_that_mix_kinds(data):
    opened = retriever(data)
    texts = ["red cat", "the old house", "dog"]
    alone = opened.search(texts, k=5)
    mixed = opened.search([texts[0], QUERIES[0], texts[1], Query(text=texts[2]), QUERIES[3]], k=5)
    assert [mixed[0], mixed[2], mixed[3]] == alone
    assert [mixed[1], mixed[4]] == opened.search([QUERIES[0], QUERIES[3]], k=5)


@pytest.mark.parametrize(("query", "passes"), [(QUERIES[0], 0), (QUERIES[3], 1), (QUERIES[4], 2)])
def test_a_text_that_is_the_words_is_encoded_once(data, query, passes):
    opened, calls = retriever(data), []
    opened.models[0].encoder.register_forward_hook(lambda *_: calls.append(1))
    opened.search([query])
    assert len(calls) == passes


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
@pytest.mark.parametrize("candidates", ["test", ["i3", "i5", "i9", "i30"]], ids=["set", "ids"])
def test_restricted_candidates_hold(data, query, candidates):
    opened = retriever(data, beam=ITEMS)
    everywhere = opened.search([query], k=ITEMS)[0]
    hits = opened.search([query], k=ITEMS, candidates=candidates)[0]
    rows = set(opened.data.candidates("test").tolist()) if candidates == "test" else {3, 5, 9, 30}
    assert {hit.item_id: hit.score for hit in hits} == pytest.approx(
        {hit.item_id: hit.score for hit in everywhere if hit.row in rows}, abs=1e-3
    )


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_large_catalogues_are_searched_by_estimates_and_score_exactly(data, query, monkeypatch):
    opened = retriever(data, beam=ITEMS)
    exact = opened.search([query], k=ITEMS)[0]
    for module in ("generator", "dense.lookahead"):
        monkeypatch.setattr(f"cart_fairseq.search.{module}.EXACT_ITEMS", 8)
    again = retriever(data, beam=ITEMS).search([query], k=ITEMS)[0]
    assert {hit.item_id: hit.score for hit in again} == pytest.approx(
        {hit.item_id: hit.score for hit in exact}, abs=1e-3
    )


def test_after_removals_and_compact_items_are_found_by_what_is_theirs(tmp_path):
    write_data_bin(tmp_path)
    remove(tmp_path / "data-bin", ["i3", "i8"])
    for _ in range(2):
        opened = retriever(tmp_path / "data-bin", beam=ITEMS)
        with pytest.raises(ValueError, match=r"query 1: item 'i3' .* the catalogue"):
            opened.search(["red cat", Query(item_id="i3")])
        for query in QUERIES[1:]:
            wanted = expected(opened, query, tmp_path / "data-bin")
            found = {hit.item_id: hit.score for hit in opened.search([query], k=ITEMS)[0]}
            assert found == pytest.approx(wanted, abs=2e-2)
        compact(tmp_path / "data-bin")


def test_a_reader_of_embeddings_writes_identifiers_from_them(data):
    opened = retriever(data, media_positions=2, beam=ITEMS)
    without = retriever(data, beam=ITEMS)
    without.models[0].load_state_dict(
        {name: value for name, value in opened.models[0].state_dict().items() if not name.startswith("reader.")}
    )
    assert opened.search(["red cat"], k=5) == without.search(["red cat"], k=5)
    query = Query(item_id="i3")
    scores, plain = ({hit.item_id: hit.score for hit in each.search([query], k=ITEMS)[0]} for each in (opened, without))
    assert scores.keys() == plain.keys()
    written = np.array([scores[item_id] - plain[item_id] for item_id in scores])
    assert (written < 0).all()  # log probabilities of identifiers
    assert np.ptp(written) > 0.1


def test_the_answer_leaves_items_of_the_query_out_but_not_embeddings(data):
    opened = retriever(data)
    assert "i3" not in {hit.item_id for hit in opened.search([Query(item_id="i3")], k=ITEMS)[0]}
    assert opened.search([Query(embedding=RAW[3])], k=1)[0][0].item_id == "i3"
    assert opened.search([Query(item_id="i3")], candidates=["i3"]) == [[]]
    assert len(opened.search([Query(item_id=["i3", "i4"])], k=5)[0]) == 5


WRONG = [
    (Query(item_id="no such item"), "query 1: item 'no such item' is not in the catalogue"),
    (Query(embedding=[1.0, 2.0]), f"query 1: .* has width 2, the catalogue's have {WIDTH}"),
    (Query(embedding=[np.nan] * WIDTH), "query 1 has an embedding with NaN or infinite values"),
    (Query(embedding=[0.0] * WIDTH), "query 1 has an embedding of zeros only"),
    (Query(embedding="red"), "query 1 has an embedding that is no vector"),
    (Query(text=" ", item_id="i3"), "query 1 is empty"),
    (Query(), "query 1 asks for nothing"),
    (Query(text="red", weights={"text": -1}), "query 1 has no weight above 0"),
    (Query(text="red", weights={"media": [1]}), "query 1 has 0 values of media and 1 weights"),
    (Query(text="red", weights={"text": float("inf")}), "query 1 has the weight inf"),
    (Query(text="red", weights={"colour": 1}), "query 1 has a weight for 'colour'"),
    (Query(media="picture.png"), "query 1: .*does not say which encoder made its embeddings"),
    (Query(media=3), "query 1 has media 3"),  # type: ignore[arg-type]
    (Query(media=""), "query 1 has media ''; give the path of a file"),
    (Query(embedding=[np.inf] * WIDTH), "query 1 has an embedding with NaN or infinite values"),
    (Query(embedding=np.ma.masked_greater(RAW[3], 0)), "query 1 has an embedding with masked values"),
    (Query(embedding=[np.ma.masked_greater(RAW[3], 0)]), "query 1 has an embedding with masked values"),
    (Query(embedding=[[[torch.ones(2, requires_grad=True)]]]), "query 1 has an embedding that is no vector"),
    (Query(embedding=[torch.ones(2, 2, 2, requires_grad=True)]), r"query 1 has an embedding of shape \(1, 2, 2, 2\)"),
    (Query(item_id="a" * 1_000_000), "query 1: item 'aaa.*' is not in the catalogue"),
    (Query(item_id="\ud83d" * 1_000_000), r"query 1 has item_id '.ud83d.*', which holds half a surrogate pair"),
    (Query(text="\ud83d" * 1_000_000), r"query 1 holds half a surrogate pair \('.ud83d"),
    (Query(media="\ud800.png"), r"query 1 has media '.ud800.png', which can be no path; give the path of a file"),
    (Query(media="a\0b"), r"query 1 has media 'a.x00b', which can be no path; give the path of a file"),
    (Query(media="a" * 1_000_000), "query 1 has media 'aaa.*', which can be no path; give the path of a file"),
    (Query(text=b"a" * 1_000_000), "query 1 has text b'aaa.*; give one value or a list"),  # type: ignore[arg-type]
    (Query(text=[b"a" * 1_000_000]), "query 1 is b'aaa.*; give a text"),  # type: ignore[list-item]
    (Query(text="red", weights={"text": 10**5000}), "query 1 has the weight an integer of 16610 bits for text"),
    (Query(text="red", weights={"a" * 1_000_000: 1}), "query 1 has a weight for 'aaa.*; the kinds are"),
    (Query(text="red", weights={"text": np.ma.masked}), "query 1 has weights an object of type MaskedConstant"),  # type: ignore[dict-item]
    (Query(text=np.array(5)), "query 1 has text 5; give one value or a list"),  # type: ignore[arg-type]
    (Query(text="\u200b"), r"query 1 begins with nothing but invisible characters \('.u200b'\); give it some text"),
    (Query(text=["red", "\x01\x02"]), "query 1 begins with nothing but invisible characters"),
    (Query(text="\u200b", item_id="i3"), "query 1 begins with nothing but invisible characters"),
    (Query(text="\ufeff", item_id="i3", weights={"text": -1}), "query 1 begins with nothing but invisible"),
    (Query(item_id=["i3", "i3"], weights={"item_id": [1, -1]}), "query 1 has parts that cancel each other"),
    (Query(item_id="i3", embedding=RAW[3] * 3, weights={"embedding": -1}), "query 1 has parts that cancel each other"),
    (Query(embedding=[RAW[3], -2 * RAW[3]]), "query 1 has parts that cancel each other"),
]


@pytest.mark.parametrize(("query", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_queries_are_named_by_position(data, query, message):
    with pytest.raises(ValueError, match=message) as caught:
        retriever(data).search(["red cat", query])
    assert len(str(caught.value).encode()) < 600


@pytest.mark.parametrize("options", [{"dense_dim": 0}, {"dense_weight": 0}], ids=["no head", "no weight"])
def test_models_without_a_dense_score_answer_single_texts_alone(data, options):
    opened = retriever(data, **options)
    assert opened.search([Query(text="red cat")], k=3) == opened.search(["red cat"], k=3)
    for query in (Query(item_id="i3"), Query(text=["red", "cat"])):
        with pytest.raises(ValueError, match=r"query 1 asks with .*, but .*single texts alone"):
            opened.search(["red cat", query])


@pytest.mark.parametrize("queries", [Query(text="red"), "red", None, 3, np.array("red"), torch.tensor(1), "a" * 10**6])
def test_queries_are_a_series(data, queries):
    with pytest.raises(ValueError, match="give a list of queries") as caught:
        retriever(data).search(queries)
    assert len(str(caught.value)) < 200


def test_extreme_lengths_of_embeddings_change_nothing(data):
    opened = retriever(data)
    wanted = opened.search([Query(embedding=RAW[3].astype(np.float32))], k=3)
    for factor in (1e-30, 1e30):
        again = opened.search([Query(embedding=RAW[3].astype(np.float32) * np.float32(factor))], k=3)
        assert [hit.item_id for hit in again[0]] == [hit.item_id for hit in wanted[0]]
    for factor in (1e-300, 1e300):
        for given in (RAW[3] * factor, (RAW[3] * factor).tolist(), torch.tensor(RAW[3] * factor)):
            again = opened.search([Query(embedding=given)], k=3)
            assert [hit.item_id for hit in again[0]] == [hit.item_id for hit in wanted[0]]


def test_arrays_without_dimensions_are_one_value(data):
    opened = retriever(data)
    wanted = opened.search([Query(text="red cat", item_id="i3", weights={"text": 2.0})], k=3)
    for weight in (np.array(2.0), torch.tensor(2.0), np.float32(2), [torch.tensor(2)], torch.tensor([2.0])):
        given = Query(text=np.array("red cat"), item_id=np.array("i3"), weights={"text": weight})  # type: ignore[arg-type,dict-item]
        assert opened.search([given], k=3) == wanted
    assert Query(media=np.array("a.png")).parts() == Query(media="a.png").parts()  # type: ignore[arg-type]


def test_parts_that_cancel_beside_a_text_leave_the_text(data):
    opened, cancelled = retriever(data), {"item_id": [1, -1]}
    hits = opened.search([Query(text="red cat", item_id=["i3", "i3"], weights=cancelled)], k=5)[0]
    assert len({hit.score for hit in hits}) == 5
    assert len(opened.search([Query(item_id=["i3", "i3"], weights={"item_id": [1, -0.9]})], k=5)[0]) == 5


def test_only_the_ratios_of_weights_matter(data):
    opened = retriever(data)

    def scores(factor: float) -> list[dict[str, float]]:
        weights: dict[str, Any] = {"text": [factor, -factor], "item_id": factor, "embedding": -factor / 4}
        mixed = Query(text=["red cat", "house"], item_id="i3", embedding=NOISE[0], weights=weights)
        several = Query(item_id=["i3", "i5"], weights={"item_id": [factor, factor]})
        return [{hit.item_id: hit.score for hit in hits} for hits in opened.search([mixed, several], k=ITEMS)]

    for factor in (1e-300, 1e300, 1.5e308):
        for found, wanted in zip(scores(factor), scores(1.0), strict=True):
            assert found == pytest.approx(wanted, abs=1e-4)


def test_embeddings_may_be_tensors(data):
    opened, row = retriever(data), torch.tensor(RAW[3], dtype=torch.float32)
    for given in (row, row.clone().requires_grad_(), row.bfloat16(), [row.clone().requires_grad_()], row.double()):
        assert opened.search([Query(embedding=given)], k=1)[0][0].item_id == "i3"
    assert len(Query(embedding=[row, row.bfloat16()]).parts()) == 2
    with pytest.raises(ValueError, match="no vector of numbers"):
        Query(embedding=row > 0).parts()


def test_kinds_are_named_alike():
    assert {TEXT, ITEM, MEDIA} < set(Query.__dataclass_fields__)
