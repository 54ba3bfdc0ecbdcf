"""The scripts of examples/serving measure and attack a small service for a moment."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import load_example
from PIL import Image
from serving_samples import copy_world, listening, settings

from cart_fairseq.serving.service import Service

NAMES = ("load", "live_updates", "attacks", "targets", "http_client", "batches", "page_pictures", "page_times")
load, live_updates, attacks, targets, http_client, batches, pictures, page_times = (
    load_example("serving", name) for name in NAMES
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_world(tmp_path_factory.mktemp("world"), media=True)


@pytest.fixture(scope="module")
def port(world: Path) -> Iterator[int]:
    with listening(Service(settings(world, media_root=world / "media", poll=0.05))) as found:
        yield found


def test_load(port: int, tmp_path: Path):
    flags = f"--port {port} --clients 3 --seconds 0.5 --rates 20 --json {tmp_path}/load.json"
    load.main(flags.split())
    record = json.loads((tmp_path / "load.json").read_text())
    closed, opened = record["results"]
    assert {*closed["statuses"]} == {*opened["statuses"]} == {"200"}
    assert closed["answered_per_second"] > 0
    assert closed["p50_ms"] <= closed["p99_ms"]
    assert closed["refused"] == closed["failed"] == 0
    assert record["settings"]["clients"] == 3
    assert record["machine"]


def test_the_load_is_a_multiple_of_what_the_clients_were_answered(port: int, tmp_path: Path):
    flags = f"--port {port} --clients 1 --seconds 0.5 --times 0.5 --json {tmp_path}/load.json --about test"
    load.main([*flags.split(), "--pid", str(os.getpid())])
    record = json.loads((tmp_path / "load.json").read_text())
    closed, opened = record["results"]
    assert opened["rate"] == closed["answered_per_second"] / 2
    assert closed["queries_per_batch"] is None  # the process alone is measured
    assert closed["answered_per_cpu_second"] > 0
    assert not {"pid", "port", "queries"} & {*record["settings"]}
    assert record["settings"]["distinct_queries"] == 5


def test_a_target_that_answers_otherwise_is_refused(port: int):
    with pytest.raises(ValueError, match="first answer is 404"):
        load.main(f"--port {port} --seconds 0.1 --target clip-retrieval".split())
    with pytest.raises(ValueError, match="no such process"):
        load.main(f"--port {port} --seconds 0.1 --pid 99999999".split())


def test_replies_are_counted_by_what_they_are():
    tally = load.Tally()
    fast = {"retry-after": "1"}
    slow: dict[str, str] = {}
    for status, headers, seconds in (
        (200, {}, 0.1),
        (429, fast, 0.01),
        (429, slow, 0.03),
        (503, {}, 9.0),
        (0, {}, 9.0),
    ):
        tally.replies.append(http_client.Reply(status, headers, b"", seconds))
    costs = {targets.CPU: 0.0, targets.MEMORY: 100 * 2**20}
    found = tally.figures(costs, {targets.CPU: 0.5, targets.MEMORY: 103 * 2**20})
    assert (found["refused"], found["failed"], found["refusals_without_retry_after"]) == (2, 2, 1)
    assert found["refusal_max_ms"] == pytest.approx(30)
    assert found["answered_per_cpu_second"] == 2
    assert found["memory_growth_percent"] == pytest.approx(3)
    assert found["p99_ms"] == pytest.approx(100)  # of those that were answered


def test_requests_of_each_target():
    asked = {name: target.request("a dog & a cat", 3) for name, target in targets.TARGETS.items()}
    assert asked["cart"] == ("POST", "/api/search", {"query": "a dog & a cat", "k": 3})
    assert asked["litserve"] == ("POST", "/predict", {"query": "a dog & a cat", "k": 3})
    assert asked["txtai"] == ("GET", "/search?query=a%20dog%20%26%20a%20cat&limit=3", None)
    assert asked["clip-retrieval"][2]["num_images"] == 3


def test_costs_of_a_process_are_of_what_it_started_too():
    script = "x = bytearray(1 << 25); print('up', flush=True); input()"
    before = targets.processes(os.getpid())
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        during = targets.processes(os.getpid())
        assert child.pid in targets.descendants(os.getpid())
        child.communicate(b"\n")
    assert during[targets.MEMORY] > before[targets.MEMORY] + (1 << 25)
    assert during[targets.CPU] >= before[targets.CPU]


def test_batches(port: int, world: Path, tmp_path: Path):
    flags = f"--port {port} --data {world}/data-bin --path {world}/checkpoint.pt --json {tmp_path}/batches.json"
    batches.main([*flags.split(), "--clients", "3", "--batch", "4", "--rounds", "2", "--seconds", "0.3"])
    record = json.loads((tmp_path / "batches.json").read_text())
    [found] = record["results"]
    assert len(found["rounds"]) == 2
    assert found["share"] == found["service_per_cpu_second"] / found["search_per_cpu_second"]
    assert found["rounds"][0]["search"]["answered"] % 4 == 0
    assert not {"data", "path"} & {*record["settings"]}


def test_pictures(tmp_path: Path):
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "split": "test"}\n{"item_id": "b"}\n')
    pictures.main(["--items", f"{tmp_path}/items.jsonl", "--output", f"{tmp_path}/media"])
    items = [json.loads(line) for line in (tmp_path / "media" / "items.jsonl").read_text().splitlines()]
    assert items[0] == {"item_id": "pictured a", "split": "test", "media": "0.jpg"}
    with Image.open(tmp_path / "media" / "1.jpg") as picture:
        assert picture.size == (500, 375)
    assert 100_000 < (tmp_path / "media" / "1.jpg").stat().st_size < 160_000
    assert (tmp_path / "media" / "0.jpg").read_bytes() != (tmp_path / "media" / "1.jpg").read_bytes()


def test_times_of_the_page(port: int, tmp_path: Path):
    pytest.importorskip("playwright.sync_api", reason="the page is not measured without playwright")
    if page_times.parser().get_default("chromium") is None:
        pytest.skip("the page is not measured without chromium")
    page_times.main(f"--port {port} --count 4 --json {tmp_path}/page.json".split())
    record = json.loads((tmp_path / "page.json").read_text())
    [found] = record["results"]
    assert found["searches"] == 2  # of five queries three are searched before
    assert 0 < found["request_p50_ms"] < found["p50_ms"] <= found["p95_ms"] <= found["max_ms"]
    assert record["browser"].startswith("chromium ")


def test_live_updates(port: int, world: Path, tmp_path: Path):
    flags = f"--port {port} --data {world}/data-bin --updates 2 --items 3 --clients 2 --json {tmp_path}/updates.json"
    live_updates.main(flags.split())
    [found] = json.loads((tmp_path / "updates.json").read_text())["results"]
    assert found["fault_count"] == 0
    assert found["swaps"] == 2
    assert {*found["statuses"]} == {"200"}


def test_a_wrong_answer_is_a_fault(world: Path):
    expected = live_updates.Expected(live_updates.DataBin(world / "data-bin"))
    [revision] = expected.items
    items = len(expected.items[revision])

    def answer(count: int, item_id: str) -> dict[str, Any]:
        return {"catalogue": {"items": count, "revision": revision}, "results": [{"hits": [{"item_id": item_id}]}]}

    assert expected.wrong(answer(items, "item 3"), revision, revision) is None
    assert "not from" in expected.wrong(answer(items, "item 3"), revision + 1, revision + 1)
    assert "1 items" in expected.wrong(answer(1, "item 3"), revision, revision)
    assert "nobody" in expected.wrong(answer(items, "nobody"), revision, revision)


def test_attacks(port: int, world: Path, tmp_path: Path):
    (world / "secret.txt").write_text("the canary")
    flags = ["--port", str(port), "--item", "sound", "--canary", "the canary", "--json", f"{tmp_path}/attacks.json"]
    attacks.main([*flags, "--examples", "0", "--share", "0.15"])
    [found] = json.loads((tmp_path / "attacks.json").read_text())["results"]
    assert found["attack_count"] > 75
    assert max(found["answers_by_status"]) < "500"


def test_there_are_hundreds_of_attacks():
    assert len({attack.request for attack in attacks.all_attacks("a")}) > 500


def test_an_attack_that_works_is_noticed(port: int, world: Path):
    (world / "media" / "bark.mp3").write_text("the canary")
    with pytest.raises(ValueError, match="showed a file from outside"):
        asyncio.run(attacks.by_hand(port, "sound", b"the canary", 1.0))


def test_schemathesis_finds_nothing(port: int):
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed")
    attacks.by_schemathesis(port, 5, attacks.sys.executable)
