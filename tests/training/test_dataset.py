"""Batches: nothing lost, new ones each epoch, long queries cut."""

import numpy as np
import pytest
import torch
from conftest import make_batch, make_model
from fairseq import utils
from fairseq.data import data_utils

from cart_fairseq.tasks.query_dataset import QueryIdentifierDataset


def dataset(count=21, shuffle=False, limit=256):
    rng = np.random.default_rng(0)
    queries = [
        torch.cat([torch.from_numpy(rng.integers(4, 9, n)), torch.tensor([2])]) for n in rng.integers(1, 9, count)
    ]
    return QueryIdentifierDataset(queries, np.array([len(q) for q in queries]), None, 1, 2, "all", limit, shuffle)


@pytest.mark.parametrize("batch", [1, 4, 8, 30])
def test_no_query_is_dropped(batch):
    data = dataset()
    batches = data.batch_by_size(data.ordered_indices(), max_sentences=batch, required_batch_size_multiple=8)
    assert sorted(int(i) for b in batches for i in b) == list(range(21))


def test_an_unbounded_batch_is_bounded(monkeypatch):
    monkeypatch.setattr("cart_fairseq.tasks.query_dataset.MAX_BATCH", 6)
    data = dataset()
    assert [len(b) for b in data.batch_by_size(data.ordered_indices())] == [6, 6, 6, 3]


def test_training_draws_new_batches_each_epoch_and_repeats_them_on_resuming():
    data, orders = dataset(shuffle=True), []
    for epoch in (1, 2, 1):
        data.set_epoch(epoch)
        with data_utils.numpy_seed(7):
            orders.append(data.ordered_indices().tolist())
    assert orders[0] != orders[1]
    assert orders[0] == orders[2]
    assert sorted(orders[0]) == list(range(21))
    assert all(np.diff(data.sizes[order]).min() >= 0 for order in orders)


def test_long_queries_are_cut_and_keep_their_end():
    data = dataset(limit=4)
    for index in range(len(data)):
        query = data[index]["query"]
        assert data.size(index) == (len(query), 0)
        assert len(query) <= 4
        assert query[-1] == 2


def test_queries_longer_than_identifiers_may_be_are_not_filtered_out(task):
    query = torch.cat([torch.full((99,), 5), torch.tensor([2])])
    data = QueryIdentifierDataset([query], np.array([100]), None, 1, 2, "all", 256)
    limits = utils.resolve_max_positions(task.max_positions(), make_model(task).max_positions())
    kept, skipped = data.filter_indices_by_size(data.ordered_indices(), limits)
    assert kept.tolist() == [0]
    assert skipped == []


def test_decoder_input_is_the_target_moved_by_one(task):
    batch = make_batch(task, "train")
    length = task.data.bundle.length
    assert batch["target"].shape == batch["net_input"]["prev_output_tokens"].shape == (len(batch["id"]), length)
    assert (batch["net_input"]["prev_output_tokens"][:, 0] == task.id_dict.eos()).all()
    assert torch.equal(batch["net_input"]["prev_output_tokens"][:, 1:], batch["target"][:, :-1])
    symbols = {tuple(row) for row in task.data.bundle.symbols().tolist()}
    assert {tuple(row) for row in batch["target"].tolist()} <= symbols
