"""A catalogue and a checkpoint that change while the service answers."""

import gc
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from serving_samples import OLD, add_items, client_of, copy_world

from cart_fairseq import CartRetriever
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.publishing import renewing
from cart_fairseq.queries.item_priors import prior_bias
from cart_fairseq.search.dense.stored_statistics import store_statistics
from cart_fairseq.serving import service as service_module
from preprocess.api import compact, remove

POLL = 0.05


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return copy_world(tmp_path)


@pytest.fixture
def client(world: Path) -> Iterator[TestClient]:
    with client_of(world, poll=POLL) as found:
        yield found


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in a minute"
        time.sleep(POLL)


def catalogue(client: TestClient) -> dict[str, int]:
    return client.post("/api/search", json={"query": "a dog", "k": 1}).json()["catalogue"]


def count(client: TestClient, name: str) -> float:
    return client.app.state.service.metrics.registry.get_sample_value(name)  # type: ignore[attr-defined]


def found(client: TestClient, candidates: list[str]) -> Any:
    return client.post("/api/search", json={"query": "a dog", "candidates": candidates})


def test_updates_are_taken_over(client: TestClient, world: Path):
    assert catalogue(client) == {"items": 48, "revision": 0}
    add_items(world / "data-bin", [{"item_id": f"new {n}", "colour": "red"} for n in range(3)])
    wait_for(lambda: catalogue(client) == {"items": 51, "revision": 1})
    assert found(client, ["new 1"]).json()["results"][0]["hits"][0]["item_id"] == "new 1"
    assert client.get("/api/items/new 2").json()["record"]["colour"] == "red"
    assert "colour" in {each["field"] for each in client.get("/api/facets").json()["fields"]}
    remove(world / "data-bin", ["new 1", "item 3"])
    wait_for(lambda: catalogue(client) == {"items": 49, "revision": 2})
    assert found(client, ["new 1"]).status_code == 422
    assert client.get("/api/items/item 3").status_code == 404
    compact(world / "data-bin")
    wait_for(lambda: catalogue(client) == {"items": 49, "revision": 3})
    assert client.get("/api/items/new 2").json()["record"]["colour"] == "red"
    assert count(client, "cart_catalogue_swaps_total") == 3
    assert count(client, "cart_catalogue_revision") == 3
    assert count(client, "cart_catalogue_items") == 49
    assert count(client, "cart_catalogue_refused_total") == 0


def test_candidate_sets_of_the_user_are_taken_over(client: TestClient, world: Path):
    import numpy as np

    np.save(world / "data-bin" / "candidates.mine.npy", np.array([1, 5, 9]))
    wait_for(lambda: {"name": "mine", "items": 3} in client.get("/api/info").json()["candidate_sets"])
    assert catalogue(client)["revision"] == 0


def test_models_are_kept_where_the_catalogue_alone_changes(client: TestClient, world: Path):
    service = client.app.state.service  # type: ignore[attr-defined]
    model = service.served.retriever.models[0]
    add_items(world / "data-bin", [{"item_id": "new"}])
    wait_for(lambda: catalogue(client)["revision"] == 1)
    assert service.served.retriever.models[0] is model


def test_a_new_checkpoint_is_taken_over(client: TestClient, world: Path):
    request = {"query": "a dog", "k": 3}
    before = client.post("/api/search", json=request).json()["results"]
    state = torch.load(world / "checkpoint.pt", weights_only=False)
    state["model"]["level_discount"] = torch.tensor(0.5)
    torch.save(state, world / "new.pt")
    os.replace(world / "new.pt", world / "checkpoint.pt")
    wait_for(lambda: client.post("/api/search", json=request).json()["results"] != before)
    assert count(client, "cart_catalogue_swaps_total") == 1
    assert catalogue(client) == {"items": 48, "revision": 0}


def test_a_damaged_checkpoint_is_refused_and_a_sound_one_taken(
    client: TestClient, world: Path, caplog: pytest.LogCaptureFixture
):
    request = {"query": "a dog", "k": 3}
    before = client.post("/api/search", json=request).json()["results"]
    content = (world / "checkpoint.pt").read_bytes()
    (world / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    wait_for(lambda: count(client, "cart_catalogue_refused_total") == 1)
    assert client.post("/api/search", json=request).json()["results"] == before
    assert client.get("/readyz").status_code == 200
    assert f"refused the new state, the old one (revision 0) goes on: {world}/checkpoint.pt" in caplog.text
    (world / "checkpoint.pt").write_bytes(content)
    wait_for(lambda: count(client, "cart_catalogue_swaps_total") == 1)
    assert client.post("/api/search", json=request).json()["results"] == before
    assert count(client, "cart_catalogue_refused_total") == 1  # it was not tried again while nothing changed


def test_a_damaged_catalogue_is_refused(client: TestClient, world: Path, caplog: pytest.LogCaptureFixture):
    new = copy_world(world / "aside") / "data-bin"
    add_items(new, [{"item_id": f"new {n}"} for n in range(3)])
    [segment] = (new / "identifiers" / "segments").iterdir()
    content = bytearray((segment / "identifiers.npy").read_bytes())
    content[-1] ^= 1  # of the same size
    (segment / "identifiers.npy").write_bytes(content)
    replace_folder(new, world / "data-bin")
    wait_for(lambda: count(client, "cart_catalogue_refused_total") == 1)
    assert catalogue(client) == {"items": 48, "revision": 0}
    assert "sha256 is" in caplog.text
    content[-1] ^= 1
    sound = world / "sound"
    shutil.copytree(world / "data-bin", sound)
    (sound / "identifiers" / "segments" / segment.name / "identifiers.npy").write_bytes(content)
    replace_folder(sound, world / "data-bin")
    wait_for(lambda: catalogue(client) == {"items": 51, "revision": 1})


def replace_folder(new: Path, old: Path) -> None:
    os.rename(old, old.with_name("before"))
    os.rename(new, old)
    shutil.rmtree(old.with_name("before"))


def test_a_catalogue_of_another_model_is_refused(client: TestClient, world: Path):
    shutil.copytree(OLD / "plain" / "data-bin", world / "other")
    replace_folder(world / "other", world / "data-bin")
    wait_for(lambda: count(client, "cart_catalogue_refused_total") >= 1)
    assert catalogue(client) == {"items": 48, "revision": 0}


def test_a_catalogue_that_is_gone_answers_on(client: TestClient, world: Path):
    os.rename(world / "data-bin", world / "elsewhere")
    wait_for(lambda: count(client, "cart_catalogue_refused_total") >= 1)
    assert catalogue(client) == {"items": 48, "revision": 0}
    assert found(client, ["item 3"]).status_code == 200
    os.rename(world / "elsewhere", world / "data-bin")
    add_items(world / "data-bin", [{"item_id": "new"}])
    wait_for(lambda: catalogue(client)["revision"] == 1)


def test_the_old_state_is_freed(client: TestClient, world: Path):
    service = client.app.state.service  # type: ignore[attr-defined]
    client.post("/api/search", json={"query": "a dog", "where": {"split": "test"}})
    old = [weakref.ref(each) for each in (service.served, service.served.retriever, service.served.data.trie)]
    files = len(os.listdir("/proc/self/fd"))
    for revision in (1, 2, 3):
        add_items(world / "data-bin", [{"item_id": f"new {revision}"}])
        wait_for(lambda revision=revision: catalogue(client)["revision"] == revision)  # type: ignore[misc]
    gc.collect()
    wait_for(lambda: [each() for each in old] == [None] * 3)
    assert len(os.listdir("/proc/self/fd")) <= files + 40  # a state holds its files open, those of three segments more


def test_nothing_is_written_into_the_data_bin(world: Path):
    before = listing(world)
    with client_of(world, poll=POLL) as client:
        for request in ({"query": "a dog"}, {"query": "a dog", "where": {"split": "test"}}, {"query": "a", "k": 60}):
            assert client.post("/api/search", json=request).status_code == 200
        client.get("/api/facets")
        time.sleep(4 * POLL)
    assert listing(world) == before


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def test_files_of_searches_that_follow_an_update_are_waited_for(
    client: TestClient, world: Path, monkeypatch: pytest.MonkeyPatch
):
    """Those of a large catalogue: to compute them beside the update would take as long again."""
    written, asked = threading.Event(), threading.Event()

    def renewed(models: Any, data: DataBin) -> bool:
        asked.set()
        return written.is_set()

    monkeypatch.setattr(service_module, "is_renewed", renewed)
    add_items(world / "data-bin", [{"item_id": "new"}])
    assert asked.wait(30)
    assert catalogue(client)["revision"] == 0
    written.set()
    wait_for(lambda: catalogue(client)["revision"] == 1)


def test_files_that_do_not_come_are_not_waited_for_for_ever(
    client: TestClient, world: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service_module, "PATIENCE", 0.2)
    monkeypatch.setattr(service_module, "is_renewed", lambda models, data: False)
    for revision in (1, 2):
        add_items(world / "data-bin", [{"item_id": f"new {revision}"}])
        wait_for(lambda revision=revision: catalogue(client)["revision"] == revision)  # type: ignore[misc]
    assert catalogue(client)["revision"] == 2


def test_an_update_that_is_at_work_on_them_is_given_more_time(
    client: TestClient, world: Path, monkeypatch: pytest.MonkeyPatch
):
    written, asked = threading.Event(), threading.Event()

    def renewed(models: Any, data: DataBin) -> bool:
        asked.set()
        (world / "data-bin" / "search" / "vectors").mkdir(parents=True, exist_ok=True)  # the update has begun
        return written.is_set()

    monkeypatch.setattr(service_module, "PATIENCE", 1.0)
    monkeypatch.setattr(service_module, "is_renewed", renewed)
    add_items(world / "data-bin", [{"item_id": "new"}])
    assert asked.wait(30)
    time.sleep(3)
    assert catalogue(client)["revision"] == 0
    written.set()
    wait_for(lambda: catalogue(client)["revision"] == 1)


def test_whether_the_files_of_searches_are_there(world: Path, monkeypatch: pytest.MonkeyPatch):
    opened = CartRetriever.from_pretrained(world / "checkpoint.pt", world / "data-bin", device="cpu")
    models, data = opened.models, opened.data
    assert renewing.is_renewed(models, data)  # a small catalogue needs none
    monkeypatch.setattr(renewing, "EXACT_ITEMS", 10)
    assert not renewing.is_renewed(models, data)
    store_statistics(models, data, prior_bias(models, data), exact_items=10)
    assert renewing.is_renewed(models, data)
    add_items(world / "data-bin", [{"item_id": "new"}])
    assert not renewing.is_renewed(models, DataBin(world / "data-bin"))
