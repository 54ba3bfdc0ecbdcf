"""Calibrated models: tune calibrates on half of the valid queries, searches give probabilities, evaluate measures them."""

import json
import re

import pytest
import torch
from changing import dense_world
from commands import run, train_flags
from documented import ROOT, fences

from cart_fairseq import Query, tune
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.evaluate import main as evaluate
from cart_fairseq.measuring.presence import auroc, calibration_error
from cart_fairseq.publishing.exporting import export
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search import calibration as module
from cart_fairseq.steps.calibrating import calibrates, calibrating_rows


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data-bin, and the checkpoint of a tuned model; so few queries calibrate only here."""
    root = dense_world(tmp_path_factory.mktemp("world"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAST_QUERIES", 1)
        tune.main([f"--data={root / 'data-bin'}", f"--path={checkpoint(root)}", f"--json={root / 'tuned.json'}"])
    return root


def checkpoint(world):
    return world / "save" / "checkpoint_best.pt"


@pytest.fixture(scope="module")
def retriever(world):
    return CartRetriever.from_pretrained(checkpoint(world), data=world / "data-bin")


TEXTS = ["red cat", "a white dog on a beach"]


def test_tune_keeps_what_it_fitted(world, retriever):
    tuned = json.loads((world / "tuned.json").read_text())["calibration"]
    assert retriever.calibration._asdict() == pytest.approx(tuned)
    assert tuned["slope"] > 0
    assert tuned["scoring"] == "masked"


def test_hits_have_probabilities_that_depend_on_the_candidates(retriever):
    for candidates in (None, "test", [f"item {i}" for i in range(5)]):
        for hits in retriever.search(TEXTS, k=24, candidates=candidates):
            found = [hit.probability for hit in hits]
            assert found == sorted(found, reverse=True)
            assert 0 < sum(found) <= 1
            scores = torch.tensor([[hit.score for hit in hits]])
            again = retriever.calibration.probabilities(scores, torch.tensor([len(hits)]))
            assert found == pytest.approx(again[0].tolist(), rel=1e-4)
    one, two = (retriever.search(TEXTS, k=1, candidates=names)[0][0] for names in (["item 1"], ["item 1", "item 2"]))
    assert one.probability != two.probability


def test_the_number_of_hits_asked_for_changes_no_probability(retriever):
    for few, many in zip(retriever.search(TEXTS, k=2), retriever.search(TEXTS, k=20), strict=True):
        assert [hit.probability for hit in few] == pytest.approx([hit.probability for hit in many[:2]])


def test_unlikely_hits_are_left_out(retriever):
    whole = retriever.search(TEXTS, k=20)
    least = whole[0][2].probability
    for kept, all_of_them in zip(retriever.search(TEXTS, k=20, at_least=least), whole, strict=True):
        assert kept == [hit for hit in all_of_them if hit.probability >= least]
    assert retriever.search(TEXTS, k=20, at_least=0) == whole
    assert retriever.search(TEXTS, at_least=1.0) == [[], []]


def test_other_options_and_other_queries_have_none(world, retriever):
    for option in (
        {"dense_weight": 0.0},
        {"scoring": "renormalised"},
        {"level_discount": 0.123},
        {"prior_share": 0.77},
    ):
        other = CartRetriever.from_pretrained(checkpoint(world), data=world / "data-bin", **option)
        assert {hit.probability for hit in other.search(TEXTS)[0]} == {None}
        with pytest.raises(ValueError, match="not for these options"):
            other.search(TEXTS, at_least=0.5)
    assert {hit.probability for hit in retriever.search([Query(item_id="item 1")])[0]} == {None}
    plain, mixed = retriever.search([TEXTS[0], Query(text=["red", "cat"])])
    assert plain == retriever.search(TEXTS[:1])[0]
    assert {hit.probability for hit in mixed} == {None}
    with pytest.raises(ValueError, match="query 1 is not one text"):
        retriever.search([TEXTS[0], Query(text=["red", "cat"])], at_least=0.5)


def test_an_ensemble_and_a_precision_have_probabilities(world):
    path = f"{checkpoint(world)}:{checkpoint(world)}"
    both = CartRetriever.from_pretrained(path, data=world / "data-bin")
    one = CartRetriever.from_pretrained(checkpoint(world), data=world / "data-bin", precision="bf16")
    for hits, alone in zip(both.search(TEXTS), one.search(TEXTS), strict=True):
        assert [hit.probability for hit in hits[:2]] == pytest.approx([hit.probability for hit in alone[:2]], abs=0.1)


def test_a_model_without_a_dense_head_is_calibrated(world, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LEAST_QUERIES", 1)
    run(*train_flags(world / "data-bin", tmp_path, "--max-epoch", 1))
    path = tmp_path / "checkpoint_best.pt"
    tune.main([f"--data={world / 'data-bin'}", f"--path={path}"])
    hits = CartRetriever.from_pretrained(path, data=world / "data-bin").search(TEXTS)[0]
    assert 0 < sum(hit.probability or 0 for hit in hits) <= 1


def test_half_of_the_items_calibrate(world):
    data = DataBin(world / "data-bin")
    asked = {data.bundle.item_id(row) for row in data.queries("valid", ("item_row",))["item_row"].to_pylist()}
    rows = range(len(data.bundle))
    used = {data.bundle.item_id(row) for row in calibrating_rows(data, rows)}
    assert used == {item_id for item_id in asked if calibrates(item_id)}
    assert 0 < len(used) < len(asked)
    assert sum(calibrates(f"item {i}") for i in range(10_000)) == pytest.approx(5000, abs=150)
    assert calibrating_rows(data, rows[:10]) == {row for row in rows[:10] if data.bundle.item_id(row) in used}


def test_a_model_folder_leaves_out_all_that_may_have_calibrated(world, tmp_path):
    export(world / "save" / "checkpoint_best.pt", world / "data-bin", tmp_path / "model")
    data, model = DataBin(world / "data-bin"), DataBin(tmp_path / "model")
    rows = range(len(data.bundle))
    assert calibrating_rows(data, rows) < calibrating_rows(model, rows)
    tested = {row for row in rows if data.bundle.splits[row] == "test"}
    assert tested
    assert not tested & calibrating_rows(model, rows)


@pytest.mark.parametrize("subset", ["valid", "test"])
def test_evaluate_measures_queries_that_did_not_calibrate(world, retriever, subset, tmp_path, capsys):
    """Its figures are those of searches with the wanted item and of searches for the same queries without it."""
    data = DataBin(world / "data-bin")
    path = tmp_path / "measured.json"
    flags = ["--queries", world / "captions.jsonl", "--subset", subset, "--data", world / "data-bin", "--json", path]
    evaluate([str(flag) for flag in [*flags, "--path", checkpoint(world)]])
    measured = json.loads(path.read_text())
    rows = [json.loads(line) for line in (world / "captions.jsonl").read_text().splitlines()]
    splits = dict(zip(data.bundle.item_ids, data.bundle.splits, strict=True))
    asked = [row for row in rows if row.get("role") in (None, "query") and splits[row["item_id"]] == subset]
    if subset == "valid":
        asked = [row for row in asked if not calibrates(row["item_id"])]
    names = [item_id for item_id in data.bundle.item_ids if splits[item_id] == subset]
    texts = [row["text"] for row in asked]
    there = retriever.search(texts, k=30, candidates=names)
    gone = retriever.search(
        texts, k=30, candidates=[retriever.candidate_set([n for n in names if n != row["item_id"]]) for row in asked]
    )
    best = [hits[0].probability for hits in [*there, *gone]]
    right = [hits[0].item_id == row["item_id"] for hits, row in zip(there, asked, strict=True)] + [False] * len(gone)
    sums = [[sum(hit.probability for hit in hits) for hits in each] for each in (there, gone)]
    assert measured["presence_queries"] == len(asked)
    assert measured["calibration_error"] == pytest.approx(
        calibration_error(torch.tensor(best).double().numpy(), torch.tensor(right).numpy()), abs=1e-3
    )
    assert measured["presence_auroc"] == pytest.approx(
        auroc(*(torch.tensor(s).double().numpy() for s in sums)), abs=1e-3
    )
    assert re.search(r"calibration error \d\.\d{3}, AUROC of present against absent \d\.\d{3}", capsys.readouterr().out)


def test_the_example_of_the_guide_runs(world, monkeypatch, capsys):
    (world / "checkpoints").symlink_to(world / "save")
    monkeypatch.chdir(world)
    (example,) = fences(ROOT / "docs" / "nothing_fits.md", "python")
    exec(compile(example, "example", "exec"), {"__name__": "example"})
    printed = [line.rpartition(" ") for line in capsys.readouterr().out.splitlines()]
    assert len(printed) == 3
    assert all(0 < float(probability) < 1 for _, _, probability in printed)


def test_evaluate_says_nothing_of_probabilities_where_there_are_none(world, tmp_path, capsys):
    path = tmp_path / "measured.json"
    flags = ["--queries", world / "captions.jsonl", "--subset", "test", "--data", world / "data-bin", "--json", path]
    evaluate([str(flag) for flag in [*flags, "--path", checkpoint(world), "--dense-weight", 0]])
    assert "calibration_error" not in json.loads(path.read_text())
    assert "probabilities" not in capsys.readouterr().out
