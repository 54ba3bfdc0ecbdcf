"""The scripts of examples/serving measure and attack a small service for a moment."""

import asyncio
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import load_example
from serving_samples import copy_world, listening, settings

from cart_fairseq.serving.service import Service

load, live_updates, attacks = (load_example("serving", name) for name in ("load", "live_updates", "attacks"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_world(tmp_path_factory.mktemp("world"), media=True)


@pytest.fixture(scope="module")
def port(world: Path) -> Iterator[int]:
    with listening(Service(settings(world, media_root=world / "media", poll=0.05, timeout=5.0))) as found:
        yield found


def test_load(port: int, tmp_path: Path):
    flags = f"--port {port} --clients 3 --seconds 0.5 --rates 20 --json {tmp_path}/load.json"
    load.main(flags.split())
    record = json.loads((tmp_path / "load.json").read_text())
    closed, opened = record["results"]
    assert {*closed["statuses"]} == {*opened["statuses"]} == {"200"}
    assert closed["answered_per_second"] > 0
    assert closed["p50_ms"] <= closed["p99_ms"]
    assert record["settings"]["clients"] == 3
    assert record["machine"]


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
