"""What a search returns and computes besides the right items: its shape, its decoder rows, its mode, its candidates."""

import numpy as np
import pytest
import torch
from conftest import make_batch, make_model
from test_search_properties import model_for, offsets_of, queries, reference, whole

from cart_fairseq.base.settings import SCORINGS
from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.generator import IdentifierGenerator
from cart_fairseq.search.result import own_discount


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize(("name", "places"), [("all", 24), ("test", 8)])
def test_there_are_no_more_places_than_candidates(task, scoring, name, places):
    generator = IdentifierGenerator([make_model(task)], task.data.search_space, task.id_dict.eos(), 30, scoring=scoring)
    batch = make_batch(task)
    found = generator.search(batch["net_input"], *task.data.search_space(name))
    assert found.scores.shape == found.rows.shape == (24, places)
    assert found.scores.isfinite().all()
    for hypotheses in generator.generate([], {**batch, "candidates": name}):
        assert len({tuple(hypothesis["tokens"].tolist()) for hypothesis in hypotheses}) == places


def test_a_search_is_without_dropout_whatever_the_model_s_mode(task):
    batch, model = make_batch(task), make_model(task, dropout=0.5)
    generator = IdentifierGenerator([model], task.data.search_space, task.id_dict.eos(), 5)
    expected = generator.search(batch["net_input"], task.data.trie)
    model.train()
    found = generator.search(batch["net_input"], task.data.trie)
    assert torch.equal(found.rows, expected.rows)
    torch.testing.assert_close(found.scores, expected.scores)


def test_an_ensemble_s_own_discount_is_the_mean(task):
    models = [make_model(task, seed=seed) for seed in range(2)]
    models[0].level_discount.fill_(0.5)
    assert own_discount(models) == 0.75
    assert own_discount(models[:1]) == 0.5


def test_empty_places_cost_no_decoder_rows():
    """A query whose candidates all begin with 3, beside one that may find everything.

    Its other places are empty from the first position on; what their nodes happen to be must not count.
    """
    identifiers = [(0, 0, 0), (1, 0, 0), (2, 0, 0), *((3, j, k) for j in range(2) for k in range(2))]
    sizes = [4, 2, 2]
    trie = IdentifierTrie.build(np.array(identifiers), sizes, offsets_of(sizes))
    few = CandidateSet(trie.find(torch.tensor(identifiers[3:])))
    generator = IdentifierGenerator([model_for(sizes, 0)], whole(trie), 2, 30, scoring="renormalised")
    found = generator.search(queries(2, 0), trie, [few, None])
    assert found.scores[0].isfinite().sum() == 4
    assert found.scores[1].isfinite().sum() == 7
    # every query begins; then the prefix 3 of both is open; then 3, 0 and 3, 1 of both
    assert generator.decoder_rows == [2, 2, 4]


def test_a_certain_item_that_leaves_the_beam_does_not_mix_up_the_others():
    """Renormalised: at the second position some rows are not computed; at the third all are open again."""
    identifiers = [(0, 0, 0), *((1, j, k) for j in range(2) for k in range(2))]
    sizes, beam = [2, 2, 2], 2
    trie = IdentifierTrie.build(np.array(identifiers), sizes, offsets_of(sizes))
    seen = 0
    for seed in range(40):
        model, net_input = model_for(sizes, seed), queries(6, seed)
        generator = IdentifierGenerator([model], whole(trie), 2, beam, scoring="renormalised")
        found = generator.search(net_input, trie)
        if generator.decoder_rows != [6, 6, 12]:
            continue
        seen += 1
        for query, source in enumerate(net_input["src_tokens"]):
            with torch.no_grad():
                expected = reference(model, source, identifiers, trie.offsets, beam, "renormalised")
            scores = torch.tensor([score for _, score in expected])
            torch.testing.assert_close(found.scores[query], scores, atol=1e-4, rtol=0)
    assert seen
