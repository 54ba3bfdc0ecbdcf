"""What the routes answer: the same as CartRetriever, in JSON that the description of the interface names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from serving_samples import CLIP, PICTURE, SOUND, client_of, copy_world

from cart_fairseq import CartRetriever, __version__


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_world(tmp_path_factory.mktemp("world"), media=True)


@pytest.fixture(scope="module")
def client(world: Path) -> Iterator[TestClient]:
    with client_of(world, media_root=world / "media", max_k=50) as found:
        yield found


@pytest.fixture(scope="module")
def retriever(world: Path) -> CartRetriever:
    return CartRetriever.from_pretrained(world / "checkpoint.pt", world / "data-bin", precision="float32", device="cpu")


def ids(answer: Any) -> list[list[str]]:
    assert answer.status_code == 200, answer.text
    return [[hit["item_id"] for hit in result["hits"]] for result in answer.json()["results"]]


@pytest.mark.parametrize("k", [1, 10, 40])
def test_hits_are_those_of_the_retriever(client: TestClient, retriever: CartRetriever, k: int):
    texts = ["a red dog", "a white bird in the snow"]
    expected = retriever.search(texts, k=k)
    answer = client.post("/api/search", json={"queries": [texts[0], {"text": texts[1]}], "k": k}).json()
    for result, hits in zip(answer["results"], expected, strict=True):
        assert [hit["item_id"] for hit in result["hits"]] == [hit.item_id for hit in hits]
        assert [hit["score"] for hit in result["hits"]] == pytest.approx([hit.score for hit in hits], abs=1e-4)
        assert [hit["record"] for hit in result["hits"]] == [hit.record for hit in hits]
    assert answer["catalogue"] == {"items": 58, "revision": 1}
    assert answer["took_ms"] > 0


def test_a_text_alone_is_a_query(client: TestClient):
    short, long = (client.post("/api/search", json={"query": query}) for query in ("a dog", {"text": "a dog"}))
    assert ids(short) == ids(long)
    assert len(ids(short)[0]) == 10


def test_candidates_are_a_name_or_items(client: TestClient, retriever: CartRetriever):
    for candidates in ("test", ["item 3", "item 4", PICTURE]):
        found = ids(client.post("/api/search", json={"query": "a dog", "k": 5, "candidates": candidates}))
        assert found[0] == [hit.item_id for hit in retriever.search(["a dog"], k=5, candidates=candidates)[0]]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"year": 2021}, {SOUND, CLIP}),
        ({"year": [2020, 2021]}, {PICTURE, SOUND, CLIP}),
        ({"year": 2021, "tags": "dog"}, {SOUND}),
        ({"tags": ["old", "nobody"]}, {PICTURE}),
        ({"seen": True}, {PICTURE}),
        ({"seen": 1}, set()),
        ({"year": 10**400}, set()),
        ({"year": "2021"}, set()),
        ({"year": 2020, "tags": "nobody"}, set()),
    ],
)
def test_where_restricts_the_items(client: TestClient, where: dict[str, Any], expected: set[str]):
    assert {*ids(client.post("/api/search", json={"query": "a dog", "k": 50, "where": where}))[0]} == expected


def test_where_and_candidates_both_hold(client: TestClient):
    request = {"query": "a dog", "k": 50, "where": {"split": ["test", "valid"]}}
    both = ids(client.post("/api/search", json=request))[0]
    records = [client.get(f"/api/items/{quote(item_id, safe='')}").json()["record"] for item_id in both]
    assert {record["split"] for record in records} == {"test", "valid"}
    assert len(both) == 16
    some = ids(client.post("/api/search", json={**request, "candidates": [*both[:3], PICTURE]}))[0]
    assert {*some} == {*both[:3]}
    assert ids(client.post("/api/search", json={**request, "candidates": [PICTURE]})) == [[]]
    named = ids(client.post("/api/search", json={**request, "candidates": "test"}))[0]
    assert {*named} == {each["item_id"] for each in records if each["split"] == "test"}


def test_facets_have_the_counts_of_the_records(client: TestClient):
    answer = client.get("/api/facets").json()
    fields = {each["field"]: each for each in answer["fields"]}
    assert [*fields] == ["seen", "split", "tags", "words", "year"]
    assert fields["year"]["values"] == [{"value": 2021, "count": 2}, {"value": 2020, "count": 1}]
    assert fields["tags"]["values"] == [{"value": "dog", "count": 2}, {"value": "old", "count": 1}]
    assert {each["value"]: each["count"] for each in fields["split"]["values"]} == {"train": 32, "valid": 8, "test": 8}
    assert fields["seen"]["kinds"] == ["truth"]
    assert answer["catalogue"] == {"items": 58, "revision": 1}


def test_an_item_has_its_record(client: TestClient):
    answer = client.get(f"/api/items/{quote(PICTURE, safe='')}").json()
    assert answer["record"]["year"] == 2020
    assert answer["media_url"] == f"/media/{quote(PICTURE, safe='')}"
    assert client.get("/api/items/item 3").json()["media_url"] is None
    assert client.get("/api/items/nobody").status_code == 404


def test_info_names_limits_and_sets(client: TestClient):
    info = client.get("/api/info").json()
    assert info["limits"]["k"] == 50
    assert info["limits"]["queries"] == 256
    assert {"name": "all", "items": 58} in info["candidate_sets"]
    assert info["model"]["checkpoint"] == ["checkpoint.pt"]
    assert info["queries"]["text"] is True
    assert str(Path(__file__).parents[2]) not in json.dumps(info)


WRONG = [
    ({}, "body", "there must be a query"),
    ({"query": "a", "queries": ["b"]}, "body", "and not both"),
    ({"query": "a", "k": 0}, "k", "0"),
    ({"query": "a", "k": 51}, "k", "51"),
    ({"query": "a", "k": 10**30}, "k", "1000000000"),
    ({"query": "a", "k": "3"}, "k", "'3'"),
    ({"query": "a", "k": True}, "k", "True"),
    ({"query": "a", "unknown": 1}, "unknown", "1"),
    ({"query": ""}, "query", "''"),
    ({"query": " "}, "query", "is empty"),
    ({"queries": []}, "queries", "[]"),
    ({"queries": ["a"] * 257}, "queries", "'a'"),
    ({"queries": ["a", " "]}, "queries.1", "is empty"),
    ({"query": "a" * 2001}, "query", "aaa"),
    ({"query": {}}, "query", "asks for nothing"),
    ({"query": {"media": "/etc/passwd"}}, "query.media", "/etc/passwd"),
    ({"query": {"text": ["a", "b"], "weights": {"text": 1}}}, "query", "2 values of text and 1 weights"),
    ({"query": {"text": "a", "weights": {"text": -1}}}, "query", "no weight above 0"),
    ({"query": "a", "candidates": "nobody"}, "candidates", "nobody"),
    ({"query": "a", "candidates": ["nobody"]}, "candidates", "nobody"),
    ({"query": "a", "candidates": []}, "candidates", "[]"),
    ({"query": "a", "where": {"nobody": 1}}, "where.nobody", "no item has this field"),
    ({"query": "a", "where": {"year": {"a": 1}}}, "where.year", "{'a': 1}"),
    ({"query": "a", "at_least": 2}, "at_least", "2"),
    ([], "body", "[]"),
    ({"query": "a", **{f"x{n}": 1 for n in range(200)}}, "x0", "1"),
    ({"query": "a", "where": {f"x{n}": [None] * 200 for n in range(16)}}, "where.x0.0", "None"),
    ({"query": "a", "candidates": [1] * 200}, "candidates.0", "1"),
    ({"queries": ["ok", {"embedding": [True] * 1600}]}, "queries.1.embedding.0", "True"),
    ({"queries": ["ok", {"embedding": [0.5] * 800 + [None] * 800}]}, "queries.1.embedding.800", "None"),
    ({"queries": ["ok"] + [{"colour": 1}] * 200}, "queries.1.colour", "1"),
    ({"queries": ["ok", {"text": "a", **{f"x{n}": [1] * 9 for n in range(200)}}]}, "queries.1.x0", "[1, 1"),
    ({"query": {"text": "a", "weights": {f"x{n}": 1 for n in range(200)}}}, "query.weights.x0", "1"),
]


@pytest.mark.parametrize(("request_", "field", "found"), WRONG)
def test_wrong_requests_are_refused_by_field(client: TestClient, request_: Any, field: str, found: str):
    answer = client.post("/api/search", json=request_)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["field"] == field
    assert found in error["found"]
    assert error["remedy"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"query": "a", "candidates": []}, "candidates"),
        ({"query": {"text": []}}, "query.text"),
        ({"query": {"item_id": []}}, "query.item_id"),
        ({"query": {"text": "a", "weights": {"text": []}}}, "query.weights.text"),
        ({"query": "a", "where": {"year": []}}, "where.year"),
    ],
)
def test_an_empty_list_is_called_too_short_not_of_a_wrong_type(client: TestClient, request_: Any, field: str):
    error = client.post("/api/search", json=request_).json()["error"]
    assert (error["field"], error["found"]) == (field, "[]")
    assert "at least 1 item" in error["remedy"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"query": NaN}',
        b'{"query": {"embedding": [NaN]}}',
        b'{"query": {"embedding": [1e999]}}',
        b'{"query": "\\ud83d"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"query":{"text":' + b"[" * 100_000,
    ],
)
def test_what_is_no_json_of_ours_is_refused(client: TestClient, body: bytes):
    answer = client.post("/api/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["remedy"]


def test_only_json_and_forms_are_read(client: TestClient):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.post("/api/search", content=b'{"query": "a"}', headers={"content-type": kind})
        assert answer.status_code == 415


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/no", 404), ("DELETE", "/api/info", 405)])
def test_unknown_paths_and_methods_have_the_same_form_of_error(client: TestClient, method: str, path: str, status: int):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["field"] == "path"


def test_all_methods_of_a_path_are_named(client: TestClient):
    assert client.delete("/media/3").headers["allow"] == "GET, HEAD"
    assert client.get("/api/search").headers["allow"] == "POST"


def test_one_wrong_query_of_a_batch_fails_alone(client: TestClient):
    """Two requests at the same time: that both were in one batch is shown in test_searching."""
    good = client.post("/api/search", json={"query": "a dog"})
    assert client.post("/api/search", json={"query": {"embedding": [1.0, 2.0]}}).status_code == 422
    assert ids(client.post("/api/search", json={"query": "a dog"})) == ids(good)


def test_the_description_names_every_route_and_model(client: TestClient):
    described = client.get("/openapi.json").json()
    assert described["info"]["version"] == __version__
    assert {*described["paths"]} == {
        "/api/search", "/api/items/{item_id}", "/api/info", "/api/facets", "/api/session", "/media/{item_id}",
        "/api/sample", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    text = json.dumps(described)
    names = {name.split('"')[0] for name in text.split("#/components/schemas/")[1:]}
    assert names <= {*described["components"]["schemas"]}
    body = described["paths"]["/api/search"]["post"]["requestBody"]["content"]
    assert {*body} == {"application/json", "multipart/form-data"}
    assert described["components"]["schemas"]["SearchRequest"]["properties"]["queries"]["anyOf"][0]["maxItems"] == 256


def test_metrics_count_what_happened(client: TestClient):
    before = client.get("/metrics").text
    client.post("/api/search", json={"queries": ["a dog", "a cat"]})
    after = client.get("/metrics").text
    assert value(after, "cart_batch_queries_sum") == value(before, "cart_batch_queries_sum") + 2
    assert value(after, "cart_catalogue_items") == 58
    assert value(after, "cart_ready") == 1
    assert "cart_refusals" in after
    assert "process_resident_memory_bytes" in after


def value(text: str, name: str) -> float:
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")))
