"""The end of a recipe: its table and its records."""

import sys
from pathlib import Path

import pytest
from conftest import load_example

from cart_fairseq.base.files import write_json

report = load_example("recipes", "report")
ROOT = Path(__file__).resolve().parents[3]


def test_table_names_what_competed():
    row = {"recall_at_1": 12.345, "recall_at_5": 20.0, "recall_at_10": 30.0, "mrr_at_10": 15.0, "queries": 4000}
    found = {"split": {"valid": {**row, "candidates": 1000}}, "all": {"valid": {**row, "candidates": 8000}}}
    lines = report.table(found, {"index_captions": "include", "valid_held_out": False}).splitlines()
    assert lines[1].split() == ["valid", "4,000", "1,000", "(of", "the", "split)", "12.3", "20.0", "30.0", "15.0"]
    assert lines[2].split() == ["valid", "4,000", "8,000", "(all", "items)", "12.3", "20.0", "30.0", "15.0"]
    assert lines[3].endswith("in training: include")
    assert len(lines) == 4
    beside = report.table(found, {"index_captions": "include", "valid_held_out": False}, [81.8, 96.1, 98.4, 88.0])
    assert beside.splitlines()[3].split() == ["test", "(the", "paper)", "81.8", "96.1", "98.4", "88.0"]
    assert len(beside.splitlines()[3]) == len(lines[2])
    assert "no queries to measure on" in report.table({"split": {}, "all": {}}, {})


def test_metrics_json_is_empty_where_nothing_is_measured(tmp_path):
    assert report.collect(tmp_path) == {"split": {}, "all": {}}
    write_json(tmp_path / "results/split/metrics.test.json", {"recall_at_1": 1.0})
    assert report.collect(tmp_path)["split"] == {"test": {"recall_at_1": 1.0}}


def test_a_join_that_another_recipe_left_is_not_recorded(tmp_path, monkeypatch):
    bundle = type("Bundle", (), {"codec_settings": {"scheme": "rqvae"}})
    monkeypatch.setattr(report.IdentifierBundle, "load", lambda folder: bundle)
    write_json(tmp_path / "data-bin" / "manifest.json", {"index_captions": "include"})
    write_json(tmp_path / "joined" / "join.json", {"settings": {"text_features": "lsa"}})
    for recipe, joined in (("cpu", None), ("joined", {"text_features": "lsa"})):
        plan = {"sized_for": recipe, "seed": 1, "train_flags": []}
        write_json(tmp_path / "checkpoints" / "plan.json", plan)
        assert report.record(tmp_path, tmp_path / "tuned.json", {})["joined"] == joined


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["examples/flickr8k/lookahead.py", "x.pt"], "python examples/flickr8k/lookahead.py"),
        (["examples/recipes/run.py", "own_data/run", "DATA"], "bash examples/own_data/run.sh"),
        (["cart_fairseq/tune.py"], None),
        (["/usr/bin/pytest"], None),
    ],
)
def test_records_name_the_command(monkeypatch, argv, expected):
    provenance = load_example("recipes", "provenance")
    monkeypatch.setattr(sys, "argv", [str(ROOT / argv[0]), *argv[1:]])
    assert provenance.command() == expected
    assert provenance.provenance({})["command"] == expected
