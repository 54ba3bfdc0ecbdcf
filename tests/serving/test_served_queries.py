"""Queries by uploaded file, by item and by embedding, through the routes."""

import concurrent.futures
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from media_samples import describe
from mixed_world import retriever, write_media_world
from PIL import Image
from serving_samples import png

from cart_fairseq.serving import loading
from cart_fairseq.serving import service as service_module
from cart_fairseq.serving.served import Served
from cart_fairseq.serving.service import Service
from cart_fairseq.serving.settings import ServingSettings
from cart_fairseq.serving.web.application import create_app
from preprocess.api import remove

FILES = ["0.png", "a.jpg", "2.wav", "3.mp4", "4.png", "5.png"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media, and a data-bin of their embeddings by the encoder plain."""
    root = tmp_path_factory.mktemp("world")
    write_media_world(root, FILES)
    (root / "checkpoint.pt").write_bytes(b"models of random weights stand in")
    return root


@pytest.fixture
def client(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(loading, "load", lambda *given: Served(retriever(world / "data-bin")))
    own = ServingSettings(world / "data-bin", world / "checkpoint.pt", media_root=world, poll=0.05)
    with TestClient(create_app(Service(own))) as found:
        yield found


def upload(client: TestClient, content: bytes, **request: Any) -> list[dict[str, Any]]:
    answer = client.post("/api/search", files={"media": ("x", content)}, data={"request": json.dumps(request)})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]["hits"]


def ask(client: TestClient, query: Any) -> list[dict[str, Any]]:
    answer = client.post("/api/search", json={"query": query, "k": 6})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]["hits"]


@pytest.mark.parametrize("name", FILES)
def test_each_file_finds_itself(client: TestClient, world: Path, name: str):
    [hit] = upload(client, (world / name).read_bytes(), k=1)
    assert hit["item_id"] == name
    assert client.get(hit["media_url"]).content == (world / name).read_bytes()
    assert [*client.app.state.service.uploads.iterdir()] == []  # type: ignore[attr-defined]


def test_a_file_is_weighed_with_a_text_and_filtered(client: TestClient, world: Path):
    content = (world / "4.png").read_bytes()
    hits = upload(client, content, k=6, where={"modality": "image"})
    assert {hit["item_id"] for hit in hits} == {"0.png", "a.jpg", "4.png", "5.png"}
    query = {"text": describe(4)[0], "weights": {"text": 1, "media": -1}}
    assert upload(client, content, k=6, query=query)[0]["item_id"] != "4.png"


def test_more_and_less_like_an_item(client: TestClient):
    more = [hit["item_id"] for hit in ask(client, {"item_id": "0.png"})]
    assert sorted(more) == sorted({*FILES} - {"0.png"})
    less = ask(client, {"item_id": ["0.png", "2.wav"], "weights": {"item_id": [1, -1]}})
    assert {hit["item_id"] for hit in less} == {*FILES} - {"0.png", "2.wav"}


def test_an_embedding_finds_its_item(client: TestClient, world: Path):
    embedded = np.load(world / "extracted" / "embeddings.npy")
    assert [ask(client, {"embedding": row.tolist()})[0]["item_id"] for row in embedded] == FILES
    info = client.get("/api/info").json()["queries"]
    assert info == {"text": True, "item_id": True, "embedding": embedded.shape[1], "media": True, "reason": None}


def test_files_that_cannot_be_read_fail_alone(client: TestClient, world: Path):
    """Concurrent uploads, of which every second one is no picture beyond its first bytes."""

    def send(number: int) -> Any:
        content = png()[:20] if number % 2 else (world / "5.png").read_bytes()
        return client.post("/api/search", files={"media": ("x", content)}, data={"request": '{"k": 1}'})

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(send, range(8))]
    assert [answer.status_code for answer in answers] == [200, 422] * 4
    assert {answer.json()["results"][0]["hits"][0]["item_id"] for answer in answers[::2]} == {"5.png"}
    service = client.app.state.service  # type: ignore[attr-defined]
    for answer in answers[1::2]:
        error = answer.json()["error"]
        assert error["field"] == "media"
        assert "neither a picture" in error["found"]
        assert "item" not in error["remedy"]  # it is for somebody who sent a file
        assert str(service.uploads) not in answer.text
    assert [*service.uploads.iterdir()] == []


def test_the_encoder_is_kept_over_an_update(client: TestClient, world: Path):
    service = client.app.state.service  # type: ignore[attr-defined]
    upload(client, (world / "0.png").read_bytes(), k=1)
    encoder = service.served.retriever._media_encoder
    assert encoder is not None
    remove(world / "data-bin", ["5.png"])
    end = time.monotonic() + 60
    while client.get("/api/info").json()["catalogue"]["revision"] == 0:
        assert time.monotonic() < end
    assert service.served.retriever._media_encoder is encoder
    assert "5.png" not in {hit["item_id"] for hit in upload(client, (world / "5.png").read_bytes(), k=6)}


def test_searches_do_not_wait_for_files(client: TestClient, world: Path, monkeypatch: pytest.MonkeyPatch):
    """A file may take long to decode; it is read in a thread of its own."""
    service = client.app.state.service  # type: ignore[attr-defined]
    held, entered = threading.Event(), threading.Event()
    encode = service.served.retriever.encode_media

    def slow(paths: Any, seconds: float) -> Any:
        entered.set()
        assert held.wait(30)
        return encode(paths, seconds)

    monkeypatch.setattr(service.served.retriever, "encode_media", slow)
    content = (world / "3.mp4").read_bytes()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        try:
            waiting = [pool.submit(upload, client, content, k=1) for _ in range(service_module.MOST_FILES)]
            assert entered.wait(30)
            assert ask(client, "a text")
            while service._reading < service_module.MOST_FILES:
                time.sleep(0.01)
            answer = client.post("/api/search", files={"media": ("x", content)})
        finally:
            held.set()
        assert (answer.status_code, answer.json()["error"]["field"]) == (429, "media")
        assert {hit["item_id"] for future in waiting for hit in future.result()} == {"3.mp4"}
    assert not [*service.uploads.iterdir()]


def test_a_file_that_takes_too_long_by_itself_is_at_fault(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service_module, "READING", 0.0)
    content = io.BytesIO()
    frames = [Image.new("L", (50, 50), grey) for grey in range(20)]
    frames[0].save(content, format="GIF", save_all=True, append_images=frames[1:])
    answer = client.post("/api/search", files={"media": ("x", content.getvalue())})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "media"
    assert "it takes too long to read" in answer.json()["error"]["found"]


def test_files_that_wait_too_long_are_refused(world: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "load", lambda *given: Served(retriever(world / "data-bin")))
    own = ServingSettings(world / "data-bin", world / "checkpoint.pt", media_root=world, timeout=3.0)
    with TestClient(create_app(Service(own))) as client:
        service, held = client.app.state.service, threading.Event()  # type: ignore[attr-defined]
        told: list[float] = []

        def slow(paths: Any, seconds: float) -> Any:
            told.append(seconds)
            held.wait(30)
            raise ValueError("it takes too long to read")

        monkeypatch.setattr(service.served.retriever, "encode_media", slow)
        answer = client.post("/api/search", files={"media": ("x", (world / "3.mp4").read_bytes())})
        held.set()
        assert answer.status_code == 503
        assert answer.json()["error"] == {
            "field": "media",
            "found": "not read in 3 s",
            "remedy": "send a smaller file, or try later",
        }
        assert told == [1.5]
        assert not [*service.uploads.iterdir()]
