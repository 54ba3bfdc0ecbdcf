"""A small HTTP client for load tests: it costs less than what it measures. It speaks with this machine alone."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

HOST = "127.0.0.1"


class Reply(NamedTuple):
    """An answer.

    Attributes:
        status: the HTTP status; 0 if the connection broke.
        headers: by their names in small letters.
        body: the body.
        seconds: from the first byte sent to the last one received.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """One connection, which is opened again when it was closed.

    Args:
        port: of the service, on this machine.
    """

    def __init__(self, port: int):
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send a request and wait for the answer."""
        began = time.perf_counter()
        fields = {"host": f"{HOST}:{self.port}", "content-length": str(len(body)), **(headers or {})}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        try:
            if self._streams is not None and self._streams[0].at_eof():  # idle for longer than the service waits
                self.close()
            if self._streams is None:
                self._streams = await asyncio.open_connection(HOST, self.port)
            reader, writer = self._streams
            writer.write("\r\n".join(lines).encode() + body)
            status, answered, content = await _read(reader)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            self.close()
            return Reply(0, {}, b"", time.perf_counter() - began)
        if answered.get("connection") == "close":
            self.close()
        return Reply(status, answered, content, time.perf_counter() - began)

    async def ask_json(self, method: str, path: str, content: Any = None) -> Reply:
        """Send JSON, unless it is None, and wait for the answer."""
        if content is None:
            return await self.ask(method, path)
        return await self.ask(method, path, json.dumps(content).encode(), {"content-type": "application/json"})

    async def search(self, request: Any) -> Reply:
        """Ask for a search."""
        return await self.ask_json("POST", "/api/search", request)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split()[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return status, headers, body


async def metrics(client: Client) -> dict[str, float]:
    """The service's metrics, by name and labels."""
    reply = await client.ask("GET", "/metrics")
    lines = [line.rsplit(" ", 1) for line in reply.body.decode().splitlines() if line and line[0] != "#"]
    return {name: float(value) for name, value in lines}
