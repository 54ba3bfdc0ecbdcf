"""The service as a process: updates under load, and its end."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import load_example
from serving_samples import add_items, copy_world

from cart_fairseq import serve
from cart_fairseq.base.processes import run_script
from preprocess.api import remove

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
http_client = load_example("serving", "http_client")


def command(world: Path, *flags: str) -> list[str]:
    paths = ["--data", str(world / "data-bin"), "--path", str(world / "checkpoint.pt")]
    return [sys.executable, "-m", "cart_fairseq.serve", *paths, "--port", "0", "--precision", "float32", *flags]


@contextlib.contextmanager
def running(world: Path, *flags: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The process and its port."""
    log = (world / "log").open("w+")
    process = subprocess.Popen(command(world, *flags), stderr=log, env=ENVIRONMENT, text=True)
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", (world / "log").read_text())):
            assert process.poll() is None, (world / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait()
        log.close()


def test_updates_under_load_and_a_quiet_end(tmp_path: Path):
    """No request fails while the catalogue changes, and none that was accepted is lost when the service ends."""
    world = copy_world(tmp_path)
    with running(world, "--poll", "0.1", "--drain", "1") as (process, port):
        statuses, revisions = asyncio.run(story(world, process, port))
        assert process.wait(30) == 0
    assert {*statuses} == {200}
    assert {0, 1, 2} <= {*revisions}
    assert "Traceback" not in (world / "log").read_text()


async def story(world: Path, process: "subprocess.Popen[str]", port: int) -> tuple[list[int], list[int]]:
    statuses: list[int] = []
    revisions: list[int] = []
    ending = False

    async def client() -> None:
        own = http_client.Client(port)
        while True:
            reply = await own.search({"query": "a dog", "k": 60})
            if reply.status == 0 and ending:
                return  # the service listens no more
            statuses.append(reply.status)
            answer = json.loads(reply.body)
            revision, items = answer["catalogue"]["revision"], answer["catalogue"]["items"]
            ids = {hit["item_id"] for hit in answer["results"][0]["hits"]}
            assert (items, "new" in ids) == {0: (48, False), 1: (49, True), 2: (48, False)}[revision]
            revisions.append(revision)

    clients = [asyncio.create_task(client()) for _ in range(4)]
    watch = http_client.Client(port)
    for revision, update in enumerate((lambda: None, lambda: add(world), lambda: remove(world / "data-bin", ["new"]))):
        await asyncio.to_thread(update)
        end = time.monotonic() + 60
        while revision not in revisions[-4:]:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
    assert (await watch.ask("GET", "/readyz")).status == 200
    process.send_signal(signal.SIGTERM)
    while (await watch.ask("GET", "/readyz")).status == 200:
        await asyncio.sleep(0.02)
    reply = await watch.ask("GET", "/readyz")
    assert (reply.status, reply.json()) == (503, {"status": "ending"})
    before = len(statuses)
    while len(statuses) == before:  # those that come now are answered, too
        await asyncio.sleep(0.02)
    ending = True
    await asyncio.gather(*clients)
    return statuses, revisions


def add(world: Path) -> None:
    add_items(world / "data-bin", [{"item_id": "new"}])


def test_what_was_accepted_is_answered_after_the_end_began(tmp_path: Path):
    world = copy_world(tmp_path)
    with running(world, "--drain", "0", "--batch-wait-ms", "0") as (process, port):
        request = json.dumps({"queries": ["a red dog in the snow"] * 256, "k": 200}).encode()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = f"POST /api/search HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(request)}"
            connection.sendall(head.encode() + b"\r\n\r\n" + request)
            asyncio.run(searching(port))
            process.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["results"]) == 256
        assert process.wait(30) == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port))


async def searching(port: int) -> None:
    """Wait until a request was accepted."""
    watch = http_client.Client(port)
    while True:
        found = await http_client.metrics(watch)
        if found["cart_wait_seconds_count"] > 0:
            return
        await asyncio.sleep(0.01)


def test_slow_clients_hold_nothing_up(tmp_path: Path):
    world = copy_world(tmp_path)
    with running(world, "--timeout", "2") as (process, port):
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(
                b"POST /api/search HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
            )
            assert asyncio.run(http_client.Client(port).search({"query": "a dog"})).status == 200
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        with socket.create_connection(("127.0.0.1", port)) as large:
            large.sendall(b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * (1 << 17))
            assert large.recv(1000).startswith(b"HTTP/1.1 4")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port", "1000000"], "--port is 1000000"),
        (["--queue", "0"], "--queue is 0"),
        (["--timeout", "0"], "--timeout is 0"),
        (["--poll", "-1"], "--poll is -1"),
        (["--media-root", "no such folder"], "--media-root is 'no such folder'"),
        (["--media-base", "/tmp"], "--media-base needs --media-root"),
        (["--token-file", "no such file"], "--token-file is 'no such file'"),
        (["--path", "no such file"], "no such file: no such checkpoint"),
        (["--data", "/"], "this is not a data-bin"),
        (["--host", "no such host"], "--host no such host"),
    ],
)
def test_wrong_settings_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, flags: list[str], said: str):
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: serve.main([*command(copy_world(tmp_path), *flags)[3:]]))
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert said in lines[-1]


def test_a_port_in_use_is_named(tmp_path: Path, capsys: pytest.CaptureFixture):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = command(copy_world(tmp_path), "--port", str(taken.getsockname()[1]))[3:]
        with pytest.raises(SystemExit) as ended:
            run_script(lambda: serve.main(flags))
    assert ended.value.code == 2
    assert "in use; give another --port" in capsys.readouterr().err
