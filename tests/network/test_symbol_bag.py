"""The bag of symbols: sums by hand, what stands for no text, and where a dense head with a bag begins."""

import pytest
import torch
import torch.nn.functional as F

from cart_fairseq.network.dense_head import DenseHead
from cart_fairseq.network.embeddings import SymbolBag

BOS, PAD, EOS, UNK = range(4)


def test_a_query_is_the_sum_of_its_symbols_at_length_one():
    bag = SymbolBag(7, 3)
    vectors = bag.vectors.weight.detach()
    found = bag(torch.tensor([[4, 6, 4, EOS], [5, EOS, PAD, PAD]]))
    torch.testing.assert_close(found[0], F.normalize(2 * vectors[4] + vectors[6], dim=0))
    torch.testing.assert_close(found[1], F.normalize(vectors[5], dim=0))


def test_special_symbols_say_nothing_and_learn_nothing():
    bag = SymbolBag(7, 3)
    tokens = torch.tensor([[BOS, 5, UNK, EOS, PAD], [EOS, PAD, PAD, PAD, PAD]])
    found = bag(tokens)
    torch.testing.assert_close(found[0], bag(torch.tensor([[5]]))[0])
    assert not found[1].any()
    found.square().sum(1).pow(2).sum().backward()
    (bag(tokens) @ torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert bag.vectors.weight.grad is not None
    learnt = bag.vectors.weight.grad.any(dim=1).nonzero().flatten()
    assert learnt.tolist() == [5]


@pytest.mark.parametrize("width", [4, 5], ids=["states as wide as texts", "states of another width"])
def test_a_head_begins_with_the_cosines_of_the_bag(width):
    text = 4
    head = DenseHead(width, 2 * text, 8, dropout=0.0, text_dim=text, symbols=9)
    head.reset_straight()
    assert head.bag is not None
    tokens = torch.tensor([[4, 5, EOS], [6, 8, EOS]])
    states, padding = torch.randn(3, 2, width), torch.zeros(2, 3, dtype=torch.bool)
    features = head.features({"encoder_out": [states], "encoder_padding_mask": [padding], "src_tokens": [tokens]})
    assert features.shape == (2, width + text)
    straight = F.normalize(head.query_tower.straight(features), dim=1)
    expected = head.bag(tokens) + (F.normalize(states.mean(0), dim=1) if width == text else 0)
    torch.testing.assert_close(straight, F.normalize(expected, dim=1))


def test_a_head_without_a_bag_has_the_weights_that_it_had():
    names = DenseHead(4, 6, 8, dropout=0.0).state_dict().keys()
    assert not [name for name in names if "bag" in name]
    with_bag = DenseHead(4, 6, 8, dropout=0.0, symbols=9).state_dict()
    assert set(with_bag) - set(names) == {"bag.vectors.weight"}
    assert with_bag["bag.vectors.weight"].shape == (9, 8)
