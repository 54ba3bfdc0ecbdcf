"""examples/calibration: its figures are those of searches with a calibrated model, and of hand-made probabilities."""

import json
import shutil

import numpy as np
import pytest
from changing import dense_world, new_items
from conftest import load_example, write_jsonl

from cart_fairseq import tune
from cart_fairseq.measuring.presence import auroc
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search import calibration as module
from cart_fairseq.steps.calibrating import Outcome, calibrating_rows
from preprocess.updating.steps import add

script = load_example("calibration", "calibration")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = dense_world(tmp_path_factory.mktemp("world"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAST_QUERIES", 1)
        tune.main([f"--data={root / 'data-bin'}", f"--path={root / 'save' / 'checkpoint_best.pt'}"])
    return root


def test_the_record(world, tmp_path, capsys):
    rows = [{"item_id": "x", "text": text} for text in ("an arrow", "a gear")]
    rows.append({"item_id": "x", "text": "a caption to train on", "role": "train"})
    flags = ["--data", world / "data-bin", "--others", write_jsonl(tmp_path / "others.jsonl", rows), "--taken", 3]
    path = world / "save" / "checkpoint_best.pt"
    script.main([str(flag) for flag in [path, *flags, "--json", tmp_path / "record.json"]])
    record = json.loads((tmp_path / "record.json").read_text())
    retriever = CartRetriever.from_pretrained(path, world / "data-bin")
    table = retriever.data.queries("valid", ("text", "item_row")).to_pydict()
    used = calibrating_rows(retriever.data, table["item_row"])
    pairs = [pair for pair in zip(table["text"], table["item_row"], strict=True) if pair[1] not in used]
    assert record["queries"] == len(pairs) > 1
    assert record["other_queries"] == 2
    assert record.keys() >= {"commit", "machine", "settings", "seed", "calibration"}
    for name in ("valid", "all"):
        result = record["results"][name]
        asked = [text for text, _ in pairs]
        present = retriever.search(asked, k=30, candidates=name)
        others = retriever.search(["an arrow", "a gear"], k=30, candidates=name)
        sums = [np.array([sum(hit.probability or 0 for hit in hits) for hits in each]) for each in (present, others)]
        assert result["others_auroc"] == pytest.approx(auroc(*sums))
        first = [hits[0].row == row for hits, (_, row) in zip(present, pairs, strict=True)]
        assert result["recall_at_1"] == pytest.approx(100 * np.mean(first))
        assert result["taken_difference"] < 1e-4  # the beam holds every item
        assert [row["value"] for row in result["at_least"]] == list(script.LEAST)
    assert "calibration_error" in capsys.readouterr().out


def test_items_that_came_after_training_are_scored_as_in_a_search_without_the_wanted_one(world, tmp_path):
    shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True)
    add(tmp_path / "data-bin", *new_items(tmp_path / "new", 6))
    others = write_jsonl(tmp_path / "others.jsonl", [{"item_id": "x", "text": "an arrow"}])
    flags = ["--data", tmp_path / "data-bin", "--others", others, "--json", tmp_path / "record.json"]
    script.main([str(flag) for flag in [world / "save" / "checkpoint_best.pt", *flags]])
    for result in json.loads((tmp_path / "record.json").read_text())["results"].values():
        assert result["taken_difference"] < 1e-4


def test_what_a_least_probability_does():
    present = np.array([[0.6, 0.2], [0.3, 0.25], [0.1, 0.05]])
    right = np.array([[True, False], [False, True], [True, False]])
    both = Outcome(present, np.array([[0.3, 0.0], [0.1, 0.0], [0.2, 0.1]]), right)
    found = script.at_least(both, np.array([[0.1], [0.5]]), 0.2)
    assert found == pytest.approx(
        {
            "value": 0.2,
            "right_kept": 200 / 3,
            "answered": 200 / 3,
            "right_of_first": 50,
            "silent": 100 / 3,
            "others_silent": 50,
        }
    )


def test_a_model_that_is_not_calibrated_is_refused(world, tmp_path):
    others = write_jsonl(tmp_path / "others.jsonl", [{"item_id": "x", "text": "an arrow"}])
    path, data = world / "save" / "checkpoint_best.pt", world / "data-bin"
    other = CartRetriever.from_pretrained(path, data, level_discount=0.123)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script.CartRetriever, "from_pretrained", lambda *given, **options: other)
        with pytest.raises(ValueError, match=r"is not calibrated; run python -m cart_fairseq\.tune"):
            script.main([str(path), f"--data={data}", f"--others={others}"])
