"""The dense head's numbers by hand, where no term is too small to matter, and ensembles with and without heads."""

import math

import pytest
import torch
from conftest import make_batch, make_model
from test_dense import dense_bin, dense_task, joined  # noqa: F401 - fixtures

from cart_fairseq.network.dense_head import MAPPED_SHARE, DenseHead, info_nce
from cart_fairseq.search.generator import IdentifierGenerator
from cart_fairseq.search.setup import make_generator


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_info_nce_among_items_that_are_nearly_alike(scale):
    draw = torch.Generator().manual_seed(0)
    queries, vectors = (torch.randn(5, 3, generator=draw) for _ in range(2))
    items = torch.tensor([1, 2, 1, 3, 2])
    expected = 0.0
    for one in range(5):
        others = [other for other in range(5) if other == one or items[other] != items[one]]
        for table in (queries @ vectors.T, vectors @ queries.T):
            weights = [math.exp(scale * float(table[one, other])) for other in others]
            expected -= math.log(math.exp(scale * float(table[one, one])) / sum(weights)) / 2
    found = info_nce(queries, vectors, items, torch.tensor(scale))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_second_dropout_pass_does_not_count():
    torch.manual_seed(0)
    head = DenseHead(4, 6, 8, dropout=0.0)
    states, padding = torch.randn(3, 8, 4), torch.zeros(8, 3, dtype=torch.bool)
    features, items = torch.randn(4, 6), torch.arange(4)
    both = {"encoder_out": [states], "encoder_padding_mask": [padding]}
    first = {"encoder_out": [states[:, :4]], "encoder_padding_mask": [padding[:4]]}
    torch.testing.assert_close(
        head.loss(head.features(both), features, items), head.loss(head.features(first), features, items)
    )


def test_where_a_head_begins_and_how_sharp_it_may_become():
    head = DenseHead(4, 6, 8, dropout=0.0)
    assert float(head.scale().detach()) == pytest.approx(16)
    assert float(head.share_logit.detach().sigmoid()) == pytest.approx(1 / 8, abs=0.01)
    assert pytest.approx(0.3) == MAPPED_SHARE
    with torch.no_grad():
        head.log_scale.fill_(7.0)
    assert float(head.scale().detach()) == 100


def test_an_ensemble_adds_the_mean_of_its_heads_scores(dense_task):  # noqa: F811
    batch, space, eos = make_batch(dense_task), dense_task.data.search_space, dense_task.id_dict.eos()
    models = [make_model(dense_task, seed=seed, dense_dim=8) for seed in range(2)]
    dense = []
    for members in ([models[0]], [models[1]], models):
        generator = IdentifierGenerator(members, space, eos, 24, dense=dense_task.data.dense_items, dense_weight=0.7)
        found = generator.search(batch["net_input"], *space("all"))
        by_row = (found.scores - found.token_scores.sum(2)).gather(1, found.rows.argsort(1))
        dense.append(by_row)
    assert not torch.allclose(dense[0], dense[1])
    torch.testing.assert_close(dense[2], (dense[0] + dense[1]) / 2, atol=1e-4, rtol=0)


def test_an_ensemble_with_a_headless_member_is_ordered_by_its_identifiers_alone(dense_task):  # noqa: F811
    batch, data = make_batch(dense_task), dense_task.data
    models = [make_model(dense_task, dense_dim=8), make_model(dense_task, seed=1)]
    found = make_generator(models, data, 7).search(batch["net_input"], *data.search_space("all"))
    expected = make_generator(models, data, 7, dense_weight=0.0).search(batch["net_input"], *data.search_space("all"))
    assert torch.equal(found.rows, expected.rows)
    torch.testing.assert_close(found.scores, expected.scores)


def test_companions_are_drawn_anew_each_epoch(dense_task):  # noqa: F811
    dataset, features = dense_task.datasets["train"], []
    for epoch in (1, 2, 1):
        dataset.set_epoch(epoch)
        features.append(make_batch(dense_task, "train")["net_input"]["item_features"])
    assert not torch.equal(features[0], features[1])
    assert torch.equal(features[0], features[2])
