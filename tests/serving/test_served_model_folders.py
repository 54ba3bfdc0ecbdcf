"""`serve --model MODEL`: a MODEL folder answers as checkpoint and data-bin do, and its changes are taken over."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from serving_samples import add_items, client_of, copy_world

from cart_fairseq.publishing.exporting import export
from cart_fairseq.serve import parser
from cart_fairseq.serving.service import Service
from cart_fairseq.serving.settings import ServingSettings
from cart_fairseq.serving.web.application import create_app

REQUEST = {"queries": [{"text": "a red dog"}, {"text": "the green tree"}], "k": 5}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A data-bin, its checkpoint and the MODEL folder of both."""
    copy_world(tmp_path)
    export(tmp_path / "checkpoint.pt", tmp_path / "data-bin", tmp_path / "MODEL")
    return tmp_path


def client_of_model(folder: Path, **options: Any) -> TestClient:
    """A client of a service on a MODEL folder."""
    settings = ServingSettings(model=folder, precision="float32", device="cpu", port=0, **options)
    return TestClient(create_app(Service(settings)))


def answers(client: TestClient) -> Any:
    found = client.post("/api/search", json=REQUEST).json()
    return found["results"], found["catalogue"]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in a minute"
        time.sleep(0.05)


def test_answers_are_those_of_checkpoint_and_data_bin(world: Path):
    with client_of(world) as client, client_of_model(world / "MODEL", poll=0.0) as of_model:
        assert answers(of_model) == answers(client)
        assert of_model.get("/api/items/item 3").json() == client.get("/api/items/item 3").json()
        info, other = of_model.get("/api/info").json(), client.get("/api/info").json()
        assert info["model"].pop("checkpoint") == ["MODEL"]
        assert other["model"].pop("checkpoint") == ["checkpoint.pt"]
        other["queries"]["reason"] = other["queries"]["reason"].replace("data-bin", "MODEL", 1)  # the folder's name
        assert info == other


def test_updates_and_a_new_export_are_taken_over(world: Path):
    with client_of_model(world / "MODEL", poll=0.05) as client:
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        model = service.served.models[0]
        add_items(world / "MODEL", [{"item_id": "new"}])
        wait_for(lambda: answers(client)[1] == {"items": 49, "revision": 1})
        assert service.served.models[0] is model
        state = torch.load(world / "checkpoint.pt", weights_only=False)
        state["model"]["level_discount"] = torch.tensor(0.5)
        torch.save(state, world / "checkpoint.pt")
        before = answers(client)[0]
        export(world / "checkpoint.pt", world / "data-bin", world / "NEW")
        (world / "MODEL").rename(world / "OLD")
        (world / "NEW").rename(world / "MODEL")
        wait_for(lambda: answers(client)[1] == {"items": 48, "revision": 0})
        assert float(service.served.models[0].level_discount) == 0.5
        assert answers(client)[0] != before


def test_new_weights_alone_are_taken_over(world: Path):
    with client_of_model(world / "MODEL", poll=0.05) as client:
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        model = service.served.models[0]
        export(world / "checkpoint.pt", world / "data-bin", world / "MODEL")
        wait_for(lambda: service.served.models[0] is not model)


def test_a_damaged_folder_is_refused_and_the_old_state_goes_on(world: Path):
    with client_of_model(world / "MODEL", poll=0.05) as client:
        before = answers(client)
        shutil.copy(world / "MODEL" / "model.safetensors", world / "kept")
        (world / "new").write_bytes(b"x" * (world / "kept").stat().st_size)
        (world / "new").replace(world / "MODEL" / "model.safetensors")
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        wait_for(lambda: service.metrics.registry.get_sample_value("cart_catalogue_refused_total") == 1)
        assert answers(client) == before
        (world / "kept").replace(world / "MODEL" / "model.safetensors")
        wait_for(lambda: service.metrics.registry.get_sample_value("cart_catalogue_swaps_total") == 1)
        assert answers(client) == before


def test_flags_that_do_not_go_together_are_refused(tmp_path: Path):
    for given in (["--model", "MODEL", "--data", "data-bin"], ["--model", "MODEL", "--path", "a.pt"]):
        with pytest.raises(ValueError, match="--model holds a model and its catalogue; leave out --data and --path"):
            ServingSettings(**vars(parser().parse_args(given)))
    with pytest.raises(ValueError, match="neither --data nor --model is given"):
        ServingSettings(**vars(parser().parse_args([])))
    assert ServingSettings(**vars(parser().parse_args(["--model", "MODEL"]))).data == "MODEL"
