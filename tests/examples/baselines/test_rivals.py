"""examples/baselines/rivals.sh trains the paper's generative rivals from end to end, in miniature."""

import json

import numpy as np
import pytest
from conftest import write_jsonl
from recipe_calls import call, training_here
from recipe_samples import write_data

from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.retriever import CartRetriever
from preprocess.inspection.page import inspect_identifiers
from preprocess.inspection.settings import InspectionSettings
from preprocess.updating.steps import add, compact, remove

TINY = ("--arch", "cart_tiny", "--batch-size", "16", "--max-epoch", "1", "--cpu")


@pytest.mark.parametrize("scheme", ["atomic", "structured", "semantic"])
def test_rivals_are_trained_and_measured(tmp_path, scheme):
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    with training_here() as trainings:
        call("baselines/rivals", data, out, *TINY, RECIPE="cpu", SCHEMES=scheme)
    assert len(trainings.calls) == 1
    record = read_json(out / scheme / "run.json")
    assert record["identifiers"]["scheme"] == scheme
    assert 0 <= record["metrics"]["split"]["test"]["recall_at_10"] <= 100
    rivals = read_json(out / "rivals.json")
    assert rivals["runs"] == {scheme: record}
    assert rivals["command"].endswith(f"bash examples/baselines/rivals.sh DATA OUT {' '.join(TINY)}")


def test_semantic_identifiers_are_searched_shown_removed_and_compacted(tmp_path):
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    with training_here():
        call(
            "baselines/rivals", data, out, *TINY, RECIPE="cpu", SCHEMES="semantic", IDENTIFIER_FLAGS="--caption-words 4"
        )
    run = out / "semantic"
    assert read_json(run / "run.json")["identifiers"]["captions"] == {"vocabulary": 1000, "length": 4}
    checkpoint, data_bin = run / "checkpoints" / "checkpoint_last.pt", run / "data-bin"
    everyone = DataBin(data_bin).bundle
    assert [position.name for position in everyone.positions] == ["w1", "w2", "w3", "w4", "u"]
    queries = [json.loads(line)["text"] for line in (data / "captions.jsonl").read_text().splitlines()[:5]]

    def found() -> list[list[str]]:
        retriever = CartRetriever.from_pretrained(checkpoint, data=data_bin, beam=40, device="cpu")
        return [[hit.item_id for hit in hits] for hits in retriever.search(queries, k=40)]

    assert all(sorted(items) == sorted(everyone.item_ids) for items in found())
    inspect_identifiers(
        run / "identifiers", tmp_path / "page.html", InspectionSettings(embeddings=data / "embeddings.npy")
    )
    assert "w4" in (tmp_path / "page.html").read_text(encoding="utf-8")
    np.save(tmp_path / "new.npy", np.ones((1, 8), dtype=np.float32))
    write_jsonl(tmp_path / "new.jsonl", [{"item_id": "new"}])
    with pytest.raises(ValueError, match="identifiers of --scheme semantic are words of captions, which new items"):
        add(data_bin, tmp_path / "new.npy", tmp_path / "new.jsonl")
    for step in (lambda: remove(data_bin, ["i3", "i7"]), lambda: compact(data_bin)):
        step()
        left = sorted({*everyone.item_ids} - {"i3", "i7"})
        assert all(sorted(items) == left for items in found())
