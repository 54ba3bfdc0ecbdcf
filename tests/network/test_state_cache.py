"""cart_fairseq.network.state_cache: what a frozen text encoder says of a query is kept, and is the same whether it was or not."""

import pytest
import tiny_text_encoders as tiny
import torch
from conftest import make_batch, make_model

from cart_fairseq.network.state_cache import GIB, StateCache

STATES, WIDTH = 3, 4


class Reader:
    """States that depend on the token alone, padding aside; remembers how many queries it read at a time."""

    def __init__(self):
        self.read: list[int] = []
        self.table = torch.randn(50, STATES, WIDTH, generator=torch.Generator().manual_seed(0))

    def __call__(self, tokens, lengths):
        self.read.append(len(tokens))
        assert [int((row != 0).sum()) for row in tokens] == lengths.tolist()
        return [*self.table[tokens].permute(2, 1, 0, 3)]


def states_of(cache, reader, *queries, dtype=torch.float32):
    lengths = [len(query) for query in queries]
    tokens = torch.zeros(len(queries), max(lengths), dtype=torch.int64)
    for place, query in zip(tokens, queries, strict=True):
        place[: len(query)] = torch.tensor(query)
    return cache(tokens, torch.tensor(lengths), reader, dtype)


def test_each_query_is_read_once_and_stands_where_it_stood():
    cache, reader = StateCache(1.0), Reader()
    first = states_of(cache, reader, [3, 4], [5])
    again = states_of(cache, reader, [5], [6, 7, 8], [3, 4], [5])
    assert reader.read == [2, 1]
    assert [state.shape for state in again] == [(3, 4, WIDTH)] * STATES
    for number, state in enumerate(again):
        expected = reader.table[:, number].half().float()
        for row, query in enumerate(([5], [6, 7, 8], [3, 4], [5])):
            assert torch.equal(state[: len(query), row], expected[query])
            assert not state[len(query) :, row].any()
        assert torch.equal(first[number][:2, 0], state[:2, 2])
    assert states_of(cache, reader, [5], dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_without_room_nothing_is_kept_and_nothing_changes():
    one = 2 * STATES * WIDTH * 2 + 2 * 8  # states in half precision, and the tokens that they are found by
    for room, read in ((0, [2, 2]), (one, [2, 1]), (2 * one, [2])):
        cache, reader = StateCache(room / GIB), Reader()
        runs = [states_of(cache, reader, [3, 4], [5, 6]) for _ in range(2)]
        assert reader.read == read
        assert cache.used == (4 - sum(read)) * one if len(read) == 2 else cache.used == 2 * one
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.fixture(scope="module")
def bert_task(tmp_path_factory):
    return tiny.loaded(tiny.make_moved_data_bin(tmp_path_factory.mktemp("bert")))


def test_training_reads_kept_states_and_measuring_does_not(bert_task):
    tokens = make_batch(bert_task, "train")["net_input"]["src_tokens"]
    plain = make_model(bert_task, text_state_cache=0.0).encoder
    encoder = make_model(bert_task).train().encoder
    calls = []
    encoder.transformer.register_forward_hook(lambda *_: calls.append(1))
    expected, padding = plain(tokens)["encoder_states"], plain(tokens)["encoder_padding_mask"][0]
    for _ in range(2):
        found = encoder(tokens)
        assert torch.equal(found["encoder_padding_mask"][0], padding)
        for one, other in zip(found["encoder_states"], expected, strict=True):
            torch.testing.assert_close(
                one.transpose(0, 1)[~padding], other.transpose(0, 1)[~padding], atol=2e-3, rtol=1e-3
            )
    assert len(calls) == 1
    measured = encoder.eval()(tokens)["encoder_states"]
    assert len(calls) == 2
    assert all(torch.equal(one, other) for one, other in zip(measured, expected, strict=True))
    assert make_model(bert_task, train_text_layers=1).encoder.cache is None
