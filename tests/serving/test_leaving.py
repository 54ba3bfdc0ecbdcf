"""Clients that leave, over real connections, and how many of them there may be."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import load_example
from serving_samples import copy_world, listening, settings

from cart_fairseq.serving.service import Service

http_client = load_example("serving", "http_client")


class Held(Service):
    """A service whose searches wait until they may go on."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.open = threading.Event()
        self.searched: list[str] = []

    def _search(self, batch: Any) -> Any:
        self.searched += [asked.queries[0].text for asked in batch]
        assert self.open.wait(30)
        return super()._search(batch)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Held, int]]:
    service = Held(settings(copy_world(tmp_path), queue=3, max_batch=1))
    with listening(service) as port:
        yield service, port
        service.open.set()


def ask(port: int, text: str) -> socket.socket:
    """Send a search and do not wait for its answer."""
    body = json.dumps({"query": text}).encode()
    connection = socket.create_connection(("127.0.0.1", port))
    head = (
        f"POST /api/search HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_client_that_left_is_not_searched_for(held: tuple[Held, int]):
    service, port = held
    first = ask(port, "first")
    until(lambda: service.searched == ["first"])
    left, stays = ask(port, "left"), ask(port, "stays")
    until(lambda: service.batcher.waiting == 2)
    left.close()
    until(lambda: service.batcher.waiting == 1)
    service.open.set()
    assert stays.recv(100).startswith(b"HTTP/1.1 200")
    assert first.recv(100).startswith(b"HTTP/1.1 200")
    assert service.searched == ["first", "stays"]
    refused = service.metrics.registry.get_sample_value("cart_refusals_total", {"reason": "left"})
    assert refused == 1


def test_over_capacity_is_told_at_once_and_the_connection_stays(held: tuple[Held, int]):
    service, port = held
    waiting = [ask(port, "first")]
    until(lambda: service.searched == ["first"])
    waiting += [ask(port, str(number)) for number in range(3)]
    until(lambda: service.batcher.waiting == 3)

    async def story() -> None:
        client = http_client.Client(port)
        for _ in range(20):
            reply = await client.search({"query": "one too many"})
            assert reply.status == 429
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["field"] == "queue"
        service.open.set()
        while (reply := await client.search({"query": "at last"})).status == 429:
            await asyncio.sleep(0.01)
        assert reply.status == 200

    asyncio.run(story())
    assert all(connection.recv(100).startswith(b"HTTP/1.1 200") for connection in waiting)
    assert "one too many" not in service.searched
