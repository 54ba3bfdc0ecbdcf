"""Tuning with items that came after training: figures and probabilities are those of searches with each setting."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from changing import dense_world, new_items

from cart_fairseq.base.settings import TuningSettings
from cart_fairseq.evaluate import main as evaluate
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts, ranks_of
from cart_fairseq.measuring.presence import auroc, calibration_error
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search import calibration as module
from cart_fairseq.steps import calibrating, evaluation, tuning
from cart_fairseq.steps.calibrating import calibrating_rows
from preprocess.updating.steps import add

SPLIT = {"split": "valid", "all": "all"}
NONE = float("-inf")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data-bin with items that the model does not know, and the model's checkpoint."""
    root = dense_world(tmp_path_factory.mktemp("world"))
    add(root / "data-bin", *new_items(root / "new", 7))
    return root


def opened(world, **options):
    """A retriever whose beam holds every item."""
    path = world / "save" / "checkpoint_best.pt"
    return CartRetriever.from_pretrained(path, world / "data-bin", beam=100, precision="float32", **options)


def asked(retriever):
    """Texts of the valid queries, and the rows of their items."""
    table = retriever.data.queries("valid", ("text", "item_row")).to_pydict()
    return table["text"], table["item_row"]


def reached(retriever, candidates, k=100):
    """Metrics of a search for the valid queries."""
    texts, targets = asked(retriever)
    found = retriever.search(texts, k=k, candidates=candidates)
    depth = max(len(hits) for hits in found)
    rows = torch.tensor([[hit.row for hit in hits] + [-1] * (depth - len(hits)) for hits in found])
    return metrics_from_counts(metric_counts(ranks_of(rows, torch.tensor(targets))))


@pytest.mark.parametrize("candidates", SPLIT)
def test_figures_are_those_of_searches_with_each_setting(world, candidates):
    settings = TuningSettings(candidates=candidates, keep=False)
    tuned = tuning.tune(world / "save" / "checkpoint_best.pt", world / "data-bin", settings)
    assert list(tuned.weights) == list(settings.weights)
    compared = [(discount, 0.0, 0.0, row) for discount, row in tuned.discounts.items()]
    compared += [(tuned.discount, weight, tuned.share if weight else 0.0, row) for weight, row in tuned.weights.items()]
    compared += [(tuned.discount, tuned.weight, share, row) for share, row in tuned.shares.items()]
    for discount, weight, share, row in compared:
        retriever = opened(world, dense_weight=weight, prior_share=share, level_discount=discount)
        assert row == pytest.approx(reached(retriever, SPLIT[candidates])), (discount, weight, share)


@pytest.mark.parametrize(("weight", "share", "discount"), [(0.25, 0.0, 1.0), (2.0, 0.5, 0.7), (20.0, 1.0, 0.9)])
def test_scores_among_fewer_candidates_are_those_of_searches_among_them(world, weight, share, discount):
    found = tuning.search_subset(opened(world), "valid", "all", 100, 0.8, 5.0, 0.25)  # guided by other values
    rows, scores = found.ranked(discount, weight, share)
    retriever = opened(world, dense_weight=weight, prior_share=share, level_discount=discount)
    texts, targets = asked(retriever)
    assert found.targets.sort().values.tolist() == sorted(targets)
    known = retriever.data.bundle.items_at(0)
    everything = np.arange(len(retriever.data.bundle))
    some = np.random.default_rng(3).permutation(everything)[:12]
    for chosen in (everything, some, everything[:known], everything[known:]):
        kept = torch.isin(rows, torch.from_numpy(chosen))
        made = scores_by_row(rows, scores.among(kept))
        hits = retriever.search(texts, k=100, candidates=retriever.data.candidate_set(chosen))
        searched = [{hit.row: hit.score for hit in each} for each in hits]
        assert {len(each) for each in searched} == {len(chosen)}
        for each in made:  # in the order of batches
            assert any(each == pytest.approx(other, abs=1e-3) for other in searched)


@pytest.mark.parametrize("candidates", SPLIT.values())
def test_a_narrow_search_is_guided_as_one_with_the_same_setting(world, candidates):
    retriever = opened(world, dense_weight=2.0, prior_share=0.5, level_discount=0.7)
    retriever.beam = 7
    found = tuning.search_subset(retriever, "valid", candidates, 7, 0.7, 2.0, 0.5)
    assert found.figures(0.7, 2.0, 0.5) == pytest.approx(reached(retriever, candidates, 7))
    rows, scores = found.ranked(0.7, 2.0, 0.5)
    searched = retriever.search(asked(retriever)[0], k=7, candidates=candidates)
    for each in scores_by_row(rows[:, :7], scores.among()[:, :7]):  # in the order of batches
        assert any(each == pytest.approx({hit.row: hit.score for hit in hits}, abs=1e-3) for hits in searched)


def scores_by_row(rows, scores):
    """{row: score} of each query."""
    pairs = (zip(*each, strict=True) for each in zip(rows.tolist(), scores.tolist(), strict=True))
    return [{row: score for row, score in each if score > NONE} for each in pairs]


@pytest.mark.parametrize("candidates", SPLIT)
def test_a_model_is_calibrated_with_the_scores_of_searches(world, candidates, monkeypatch):
    given: dict[str, Any] = {}

    def fit(scores, wanted, sizes, scoring, among=None):
        given.update(scores=scores, wanted=wanted, among=among)

    monkeypatch.setattr(calibrating, "fit", fit)
    weights = TuningSettings(candidates=candidates, weights=(0.25, 3.0, 20.0), shares=(0.0, 0.5, 1.0), keep=False)
    tuned = tuning.tune(world / "save" / "checkpoint_best.pt", world / "data-bin", weights)
    retriever = opened(world, dense_weight=tuned.weight, prior_share=tuned.share, level_discount=tuned.discount)
    data, names = retriever.data, SPLIT[candidates]
    used = calibrating_rows(data, range(len(data.bundle)))
    pairs = [pair for pair in zip(*asked(retriever), strict=True) if pair[1] in used]
    competing = data.candidates(names)
    competing = np.arange(len(data.bundle)) if competing is None else competing
    sets = [data.candidate_set(competing[competing != row]) for _, row in pairs]
    texts = [text for text, _ in pairs]
    away = torch.arange(given["scores"].size(1)) != given["wanted"].unsqueeze(1)
    for scores, found in (
        (given["scores"], retriever.search(texts, k=100, candidates=names)),
        (given["among"](away).sort(1, descending=True).values, retriever.search(texts, k=100, candidates=sets)),
    ):
        made = sorted(
            [score for score in row if score > NONE] for row in scores.tolist()
        )  # queries are in batches' order
        for row, searched in zip(made, sorted([hit.score for hit in hits] for hits in found), strict=True):
            assert row == pytest.approx(searched, abs=1e-3)


@pytest.mark.parametrize("most", [30, 12])  # more than the items of either age, and fewer
@pytest.mark.parametrize("candidates", ["split", "all"])
def test_evaluate_measures_probabilities_as_searches_without_the_item_do(
    world, candidates, most, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "LEAST_QUERIES", 1)
    for each in (module, calibrating, evaluation):
        monkeypatch.setattr(each, "HITS", most)
    absent: list[torch.Tensor] = []
    inner = calibrating.scores_without

    def noted(*given):
        found = inner(*given)
        assert found is not None
        absent.append(found)
        return found

    monkeypatch.setattr(evaluation, "scores_without", noted)
    path = tmp_path / "model.pt"
    path.write_bytes((world / "save" / "checkpoint_best.pt").read_bytes())
    tuning.tune(path, world / "data-bin", TuningSettings(candidates=candidates, weights=(0.5,), shares=(0.5,)))
    flags = ["--queries", world / "captions.jsonl", "--subset", "test", "--candidates", candidates]
    flags += ["--data", world / "data-bin", "--path", path, "--precision", "float32", "--json", tmp_path / "m.json"]
    evaluate([str(flag) for flag in flags])
    measured = json.loads((tmp_path / "m.json").read_text())
    retriever = CartRetriever.from_pretrained(path, world / "data-bin", precision="float32")
    data = retriever.data
    rows = [json.loads(line) for line in (world / "captions.jsonl").read_text().splitlines()]
    splits = dict(zip(data.bundle.item_ids, data.bundle.splits, strict=True))
    queries = [row for row in rows if row.get("role") in (None, "query") and splits[row["item_id"]] == "test"]
    names = [each for each in data.bundle.item_ids if candidates == "all" or splits[each] in (None, "test")]
    texts = [row["text"] for row in queries]
    there = retriever.search(texts, k=most, candidates=names)
    (without,) = absent
    assert without.size(1) <= most
    gone = retriever.search(texts, k=most, candidates=[[n for n in names if n != row["item_id"]] for row in queries])
    right = [hits[0].item_id == row["item_id"] for hits, row in zip(there, queries, strict=True)]
    probabilities = [[[hit.probability or 0.0 for hit in hits] for hits in each] for each in (there, gone)]
    best = [each[0] for each in [*probabilities[0], *probabilities[1]]]
    sums = [np.array([sum(each) for each in found]) for found in probabilities]
    assert measured["presence_queries"] == len(queries)
    assert measured["candidates"] == len(names)
    error = calibration_error(np.array(best), np.array(right + [False] * len(gone)))
    assert measured["calibration_error"] == pytest.approx(error, abs=1e-3)
    assert measured["presence_auroc"] == pytest.approx(auroc(*sums), abs=1e-3)
