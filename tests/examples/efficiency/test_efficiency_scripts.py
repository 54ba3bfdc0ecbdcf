"""examples/efficiency beside retrieval: training updates, index build, precision. No time is asserted."""

import itertools
import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import load_example, make_model

from cart_fairseq.network.precision import convert
from cart_fairseq.retriever import CartRetriever

SMALL = ["--queries", "3", "--query-tokens", "6", "--repeats", "1"]


def check_provenance(record: dict[str, Any]) -> None:
    """A record says where its figures come from."""
    assert record["commit"] is None or len(record["commit"]) >= 12
    assert "command" in record
    assert record["machine"]["processor"]
    assert record["settings"]


@pytest.fixture(scope="module")
def training() -> ModuleType:
    return load_example("efficiency", "training")


def test_training_table(training, tmp_path, capsys):
    file = tmp_path / "training.json"
    training.main([*SMALL, "--sizes", "4", "4", "--width", "16", "--layers", "1", "--json", str(file)])
    result = json.loads(file.read_text())
    assert tuple(row["contender"] for row in result["results"]) == training.NAMES
    check_provenance(result)
    assert result["results"][0]["ratio"] == 1.0
    # fusion's gates and coarse memory come on top of the same layers
    first, second, third = (row["parameters"] for row in result["results"])
    assert first < second == third
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "one update, 3 queries of about 6 tokens, J = 2"
    assert [line.split("  ")[0] for line in lines[2:]] == list(training.NAMES)


def test_updates_learn_from_the_same_batches(training):
    task = load_example("efficiency", "catalogue").task_of((4, 4))
    sizes = {"encoder_embed_dim": 16, "decoder_embed_dim": 16, "encoder_layers": 1, "decoder_layers": 1}
    sizes |= {"decoder_input_dim": 16, "decoder_output_dim": 16}
    batch = training.random_batch((4, 4), 8, 6, 1)
    before = {key: value.clone() for key, value in batch["net_input"].items()}
    losses = {}
    for name in training.NAMES:
        update = training.Update(name, task, [batch], 0.0, sizes)
        losses[name] = [update.run()["loss"] for _ in range(12)]
        assert losses[name][-1] < losses[name][0]
    # without dropout both passes are one, and it does not matter who runs the encoder
    assert losses["cart"] == pytest.approx(losses["cart, shared encoder"], rel=1e-4)
    assert all(torch.equal(batch["net_input"][key], value) for key, value in before.items())
    assert batch["net_input"]["prev_output_tokens"][:, 0].eq(2).all()
    assert torch.equal(batch["net_input"]["prev_output_tokens"][:, 1:], batch["target"][:, :-1])


def test_the_index_script_reports_every_size(tmp_path, capsys):
    load_example("efficiency", "index").main(
        ["--items", "500", "3e3", "--repeats", "1", "--json", str(tmp_path / "i.json")]
    )
    assert "3,000" in capsys.readouterr().out
    record = json.loads((tmp_path / "i.json").read_text())
    check_provenance(record)
    assert record["settings"] == {"items": [500, 3000], "repeats": 1}
    rows = record["catalogues"]
    assert [row["items"] for row in rows] == [500, 3000]
    for row in rows:
        assert row["peak_bytes"] > row["input_bytes"] == 16 * row["items"]
        assert row["file_bytes"] >= row["bytes_per_item"] * row["items"] > 5 * row["items"]
    with pytest.raises(ValueError, match="at least 1"):
        load_example("efficiency", "index").main(["--items", "0"])


def test_index_identifiers_are_distinct_and_unordered():
    values = load_example("efficiency", "index").identifiers(5000)
    assert len(np.unique(values, axis=0)) == 5000
    assert (np.diff(values[:, 0]) < 0).any()
    assert values[:, 3].max() < 128


def test_the_precision_script_compares_with_float32(task, tmp_path, capsys, monkeypatch):
    script = load_example("efficiency", "precision")
    retrievers: list[str] = []

    def from_pretrained(path: str, data: str, beam: int, precision: str, scoring: str) -> CartRetriever:
        retrievers.append(precision)
        return CartRetriever([convert(make_model(task), precision)], task.data, beam, scoring)

    monkeypatch.setattr(script.CartRetriever, "from_pretrained", from_pretrained)
    flags = ["--data", str(task.data.directory), "--subset", "test", "--candidates", "test", "--batch", "5"]
    script.main(["none.pt", *flags, "--precisions", "float32", "bf16", "--json", str(tmp_path / "p.json")])
    record = json.loads((tmp_path / "p.json").read_text())
    check_provenance(record)
    assert (record["settings"]["checkpoint"], record["settings"]["batch"]) == ("none.pt", 5)
    modes = record["modes"]
    assert [(mode["scoring"], mode["precision"]) for mode in modes] == list(
        itertools.product(("masked", "renormalised"), ("float32", "bf16"))
    )
    assert retrievers == ["float32", "bf16"] * 2
    for mode in modes:
        assert mode["recall_at_10"] == 100  # eight candidates
        assert mode["top10_set_changed"] == 0
        assert (mode["top10_order_changed"] == 0) or mode["precision"] == "bf16"
    assert capsys.readouterr().out.count("\n") == 6
