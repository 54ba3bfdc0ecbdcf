"""Constrained search: equals exhaustive ranking and fairseq's own search; only real items, each once."""

import argparse
import itertools
import math

import numpy as np
import pytest
import torch
from conftest import load_example, make_batch, make_bundle, make_captions, make_model, setup_task
from fairseq.search import PrefixConstrainedBeamSearch
from fairseq.sequence_generator import SequenceGenerator

from cart_fairseq.catalogue.data_bin import SearchSpace
from cart_fairseq.search.generator import IdentifierGenerator
from preprocess.data_bin.build import binarize

stock_model = load_example("efficiency", "stock_model")


def search(task, models, batch, beam, name="all"):
    generator = IdentifierGenerator(models, task.data.search_space, task.id_dict.eos(), beam)
    return generator.search(batch["net_input"], *task.data.search_space(name))


def exhaustive(task, model, batch, rows):
    """Teacher-forced score of every candidate for every query: (B, N)."""
    symbols = torch.from_numpy(task.data.bundle.symbols()[rows])
    start = symbols.new_full((len(symbols), 1), task.id_dict.eos())
    scores = []
    for query in batch["net_input"]["src_tokens"]:
        source = query[query != task.query_dict.pad()].unsqueeze(0).expand(len(symbols), -1)
        with torch.no_grad():
            logits, _ = model(source, None, torch.cat([start, symbols[:, :-1]], 1))
        scores.append(logits.log_softmax(-1).gather(2, symbols.unsqueeze(2)).sum((1, 2)))
    return torch.stack(scores)


@pytest.mark.parametrize("name", ["all", "test"])
@pytest.mark.parametrize("fusion", ["coarse-fine", "none"])
def test_a_beam_as_wide_as_the_candidates_is_exhaustive_ranking(task, name, fusion):
    model, batch = make_model(task, fusion=fusion), make_batch(task)
    rows = np.arange(len(task.data.bundle)) if name == "all" else task.data.candidates(name)
    expected, order = exhaustive(task, model, batch, rows).sort(dim=1, descending=True)
    found = search(task, [model], batch, beam=len(rows), name=name)
    torch.testing.assert_close(found.scores, expected, atol=1e-4, rtol=0)
    assert torch.equal(found.rows, torch.from_numpy(np.array(rows))[order])
    assert found.rows.sort(1).values.tolist() == [sorted(rows)] * len(batch["id"])


@pytest.mark.parametrize("beam", [1, 3, 10])
@pytest.mark.parametrize("members", [1, 2])
def test_equals_fairseq_s_prefix_constrained_search(task, beam, members):
    models, batch = [make_model(task, seed=seed) for seed in range(members)], make_batch(task)
    eos, identifiers = task.id_dict.eos(), task.data.bundle.symbols().tolist()
    allowed: dict = {}
    for identifier in identifiers:
        for length in range(len(identifier)):
            allowed.setdefault(tuple(identifier[:length]), set()).add(identifier[length])
        allowed[tuple(identifier)] = {eos}

    class ForcedEnd(PrefixConstrainedBeamSearch):
        """Holds the forced end-of-sentence term at zero."""

        def step(self, step, lprobs, scores, prev_output_tokens=None, original_batch_idxs=None):
            if step == len(identifiers[0]):
                lprobs = torch.full_like(lprobs, -math.inf)
                lprobs[..., eos] = 0
            return super().step(step, lprobs, scores, prev_output_tokens, original_batch_idxs)

    strategy = ForcedEnd(task.id_dict, lambda batch_id, prefix: sorted(allowed.get(tuple(prefix.tolist()[1:]), {eos})))
    stock_models = [stock_model.as_stock(model, task.id_dict) for model in models]
    stock = SequenceGenerator(
        stock_models, task.id_dict, beam_size=beam, max_len_b=20, normalize_scores=False, search_strategy=strategy
    )
    found = search(task, models, batch, beam)
    for query, hypotheses in enumerate(stock.generate(stock_models, batch)):
        expected = [(h["tokens"][:-1].tolist(), float(h["score"])) for h in hypotheses[:beam]]
        ours = list(zip(found.tokens[query].tolist(), found.scores[query].tolist(), strict=True))
        assert [tokens for tokens, _ in ours] == [tokens for tokens, _ in expected]
        assert [score for _, score in ours] == pytest.approx([score for _, score in expected], abs=1e-4)


@pytest.mark.parametrize("candidates", [1, 2, 5])
def test_fewer_candidates_than_beams(task, candidates):
    model, batch = make_model(task), make_batch(task)
    rows = np.arange(candidates) * 4
    chosen = SearchSpace(task.data.trie, task.data.candidate_set(rows))
    generator = IdentifierGenerator([model], lambda name: chosen, task.id_dict.eos(), 30)
    for hypotheses in generator.generate([model], batch):
        found = [tuple(hypothesis["tokens"].tolist()) for hypothesis in hypotheses]
        assert sorted(found) == sorted(map(tuple, task.data.bundle.symbols()[rows].tolist()))
        assert all(math.isfinite(hypothesis["score"]) for hypothesis in hypotheses)


@pytest.mark.parametrize("beam", [1, 2, 7])
def test_hypotheses_are_valid_distinct_and_ordered(task, beam):
    found = search(task, [make_model(task, seed=3)], make_batch(task), beam)
    valid = set(map(tuple, task.data.bundle.symbols().tolist()))
    for tokens, scores in zip(found.tokens.tolist(), found.scores.tolist(), strict=True):
        assert set(map(tuple, tokens)) <= valid
        assert len(set(map(tuple, tokens))) == beam
        assert scores == sorted(scores, reverse=True)
    torch.testing.assert_close(found.token_scores.sum(2), found.scores, atol=1e-5, rtol=0)


@pytest.mark.parametrize("items", [1, 2])
def test_tiny_catalogues(tmp_path, items):
    make_bundle(tmp_path / "identifiers", items=items, splits=False)
    captions = make_captions(tmp_path / "captions.jsonl", items=items)
    binarize(tmp_path / "identifiers", captions, tmp_path / "data-bin")
    task = setup_task(tmp_path / "data-bin")
    task.load_dataset("train")
    found = search(task, [make_model(task)], make_batch(task, "train"), beam=30)
    assert found.rows.sort(1).values.tolist() == [list(range(items))] * len(found.rows)


@pytest.mark.parametrize(
    "option",
    [
        {"sampling": True},
        {"diverse_beam_groups": 2},
        {"prefix_size": 1},
        {"constraints": "ordered"},
        {"lm_path": "lm.pt"},
        {"beam": 0},
        {"temperature": 0.0},
    ],
)
def test_searches_that_leave_the_catalogue_are_refused(task, option):
    flag = "--" + next(iter(option)).replace("_", "-")
    with pytest.raises(ValueError, match=flag):
        task.build_generator([make_model(task)], argparse.Namespace(**option))


def test_temperature_divides_the_logits(task):
    model, batch = make_model(task), make_batch(task)
    cold = IdentifierGenerator([model], task.data.search_space, task.id_dict.eos(), 24, temperature=0.5)
    with torch.no_grad():
        model.decoder.output_projection.weight.mul_(2)
    hot = IdentifierGenerator([model], task.data.search_space, task.id_dict.eos(), 24)
    expected = hot.search(batch["net_input"], task.data.trie).scores
    with torch.no_grad():
        model.decoder.output_projection.weight.div_(2)
    torch.testing.assert_close(cold.search(batch["net_input"], task.data.trie).scores, expected)


def test_ensemble_averages_probabilities(task):
    models, batch = [make_model(task, seed=seed) for seed in (0, 1)], make_batch(task)
    rows = np.arange(len(task.data.bundle))
    found = search(task, models, batch, beam=len(rows))
    symbols = torch.from_numpy(task.data.bundle.symbols())
    start = symbols.new_full((len(symbols), 1), task.id_dict.eos())
    for query, source in enumerate(batch["net_input"]["src_tokens"]):
        source = source[source != task.query_dict.pad()].unsqueeze(0).expand(len(symbols), -1)
        with torch.no_grad():
            prefix = torch.cat([start, symbols[:, :-1]], 1)
            mean = sum(model(source, None, prefix)[0].softmax(-1) for model in models) / 2
        expected = mean.log().gather(2, symbols.unsqueeze(2)).sum((1, 2))
        torch.testing.assert_close(found.scores[query], expected[found.rows[query]], atol=1e-4, rtol=0)


def test_every_pair_of_queries_is_independent_of_its_batch(task):
    model, batch = make_model(task), make_batch(task)
    together = search(task, [model], batch, 5)
    for first, second in itertools.pairwise(range(0, len(batch["id"]), 5)):
        part = {key: value[first:second] for key, value in batch["net_input"].items()}
        alone = search(task, [model], {"net_input": part}, 5)
        assert torch.equal(alone.rows, together.rows[first:second])
