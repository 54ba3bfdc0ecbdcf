"""examples/serving/search_parts.py: the parts of a search. No time is asserted."""

import json

import pytest
from conftest import load_example, make_model

from cart_fairseq.retriever import CartRetriever


def test_parts_of_a_search_sum_to_its_time(task, monkeypatch, tmp_path):
    script = load_example("serving", "search_parts")
    retriever = CartRetriever([make_model(task)], task.data)
    monkeypatch.setattr(script.CartRetriever, "from_pretrained", lambda *_, **__: retriever)
    expected = [[hit.row for hit in hits] for hits in retriever.search(["a dog", "a cat"])]
    flags = ["none.pt", "--data", str(task.data.directory), "--queries", "4", "--batch", "2"]
    script.main([*flags, "--json", str(tmp_path / "parts.json")])
    record = json.loads((tmp_path / "parts.json").read_text())
    assert {"command", "commit", "machine", "settings"} <= record.keys()
    parts = [record[name] for name in ("encoder", "decoder", "rest")]
    assert sum(parts) == pytest.approx(1)
    assert all(0 < part < 1 for part in parts)
    assert record["milliseconds"] > 0
    assert [[hit.row for hit in hits] for hits in retriever.search(["a dog", "a cat"])] == expected
    assert "forward" not in vars(retriever.models[0].encoder)  # nothing stays patched
