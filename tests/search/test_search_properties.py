"""Search equals a slow reference on random catalogues of every shape, in both scoring modes, with and without subsets."""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from cart_fairseq.base.settings import SCORINGS
from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.models.cart import CARTModel, cart_tiny_architecture
from cart_fairseq.search.generator import IdentifierGenerator

SPECIALS = 4


def dictionary(words: int) -> Dictionary:
    made = Dictionary()
    for word in range(words):
        made.add_symbol(f"w{word}")
    return made


def model_for(sizes: list[int], seed: int) -> CARTModel:
    torch.manual_seed(seed)
    arguments = argparse.Namespace(encoder_embed_dim=8, encoder_ffn_embed_dim=16, encoder_attention_heads=2)
    arguments.decoder_attention_heads = 2
    cart_tiny_architecture(arguments)
    task = SimpleNamespace(
        source_dictionary=dictionary(9), target_dictionary=dictionary(sum(sizes)), data_fingerprint=b"f" * 32
    )
    model = CARTModel.build_model(arguments, task)
    with torch.no_grad():
        model.decoder.output_projection.weight.mul_(5)
    return model.eval()


def offsets_of(sizes: list[int]) -> list[int]:
    return [SPECIALS + sum(sizes[:position]) for position in range(len(sizes))]


def whole(trie: IdentifierTrie):
    return lambda name: (trie, None)


def queries(number: int, seed: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 6, size=number)
    tokens = torch.full((number, int(lengths.max())), 1)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.from_numpy(rng.integers(SPECIALS, SPECIALS + 9, size=length))
    return {"src_tokens": tokens, "src_lengths": torch.from_numpy(lengths)}


def reference(model, source, identifiers, offsets, beam, scoring):
    """Beam search for one query that runs the whole decoder anew for every prefix: [(identifier, score), …]."""
    beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    source = source[source != 1].unsqueeze(0)
    for position in range(len(offsets)):
        found = []
        for prefix, score in beams:
            children = sorted({value[position] for value in identifiers if value[:position] == prefix})
            symbols = [2] + [offsets[depth] + value for depth, value in enumerate(prefix)]
            logits = model(source, None, torch.tensor([symbols]))[0][0, -1].double()
            valid = torch.tensor([offsets[position] + child for child in children])
            step = logits[valid].log_softmax(0) if scoring == "renormalised" else logits.log_softmax(0)[valid]
            found += [((*prefix, child), score + float(s)) for child, s in zip(children, step, strict=True)]
        beams = sorted(found, key=lambda pair: -pair[1])[:beam]
    return beams


@st.composite
def catalogues(draw):
    """Sizes of 2 to 8 positions and 1 to 24 distinct identifiers; positions of one value are frequent."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=8))
    identifier = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    return sizes, draw(st.lists(identifier, min_size=1, max_size=24, unique=True))


def assert_equals_reference(model, net_input, trie, identifiers, members, beam, scoring, sets):
    """Compare a search with the reference; ``members`` are the item rows that each query may find."""
    generator = IdentifierGenerator([model], whole(trie), 2, beam, scoring=scoring)
    found = generator.search(net_input, trie, sets)
    for query, source in enumerate(net_input["src_tokens"]):
        with torch.no_grad():
            allowed = [identifiers[row] for row in members[query]]
            expected = reference(model, source, allowed, trie.offsets, beam, scoring)
        real = found.scores[query].isfinite()
        assert int(real.sum()) == len(expected)
        scores = torch.tensor([score for _, score in expected])
        torch.testing.assert_close(found.scores[query][real], scores, atol=1e-4, rtol=0)
        rows = found.rows[query][real].tolist()
        tokens = (found.tokens[query][real] - torch.tensor(trie.offsets)).tolist()
        assert [identifiers[row] for row in rows] == [tuple(value) for value in tokens]
        assert len(set(rows)) == len(rows)
        gaps = (scores[:-1] - scores[1:]).tolist()
        if all(gap > 1e-4 for gap in gaps):
            assert [tuple(value) for value in tokens] == [identifier for identifier, _ in expected]
        torch.testing.assert_close(found.token_scores[query][real].sum(1), scores, atol=1e-4, rtol=0)
        if scoring == "renormalised" and beam >= len(allowed):
            assert float(scores.exp().sum()) == pytest.approx(1, abs=1e-4)
    return generator


@settings(max_examples=60, deadline=None)
@given(catalogue=catalogues(), beam=st.integers(1, 30), scoring=st.sampled_from(SCORINGS), seed=st.integers(0, 99))
def test_search_equals_the_reference(catalogue, beam, scoring, seed):
    sizes, identifiers = catalogue
    trie = IdentifierTrie.build(np.array(identifiers), sizes, offsets_of(sizes))
    everything = [range(len(identifiers))] * 3
    assert_equals_reference(
        model_for(sizes, seed), queries(3, seed), trie, identifiers, everything, beam, scoring, None
    )


@settings(max_examples=60, deadline=None)
@given(
    catalogue=catalogues(),
    beam=st.integers(1, 30),
    scoring=st.sampled_from(SCORINGS),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_each_query_finds_its_own_candidates_only(catalogue, beam, scoring, seed, data):
    sizes, identifiers = catalogue
    trie = IdentifierTrie.build(np.array(identifiers), sizes, offsets_of(sizes))
    rows = st.lists(st.integers(0, len(identifiers) - 1), min_size=1, unique=True)
    members = [data.draw(st.none() | rows) for _ in range(3)]
    sets = [
        None if chosen is None else CandidateSet(trie.find(torch.tensor([identifiers[row] for row in chosen])))
        for chosen in members
    ]
    chosen_rows = [range(len(identifiers)) if chosen is None else chosen for chosen in members]
    assert_equals_reference(
        model_for(sizes, seed), queries(3, seed), trie, identifiers, chosen_rows, beam, scoring, sets
    )


def chain(length: int, items: int) -> tuple[list[int], list[tuple[int, ...]]]:
    """Items that differ in the first position and have one child everywhere else."""
    return [items] + [3] * (length - 1), [(item, *([2] * (length - 1))) for item in range(items)]


@pytest.mark.parametrize("length", range(2, 9))
@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("items", [1, 5])
def test_one_child_everywhere(length, scoring, items):
    sizes, identifiers = chain(length, items)
    trie = IdentifierTrie.build(np.array(identifiers), sizes, offsets_of(sizes))
    members = [range(items)] * 4
    generator = assert_equals_reference(
        model_for(sizes, 1), queries(4, 1), trie, identifiers, members, 3, scoring, None
    )
    beams = min(3, items)
    if scoring == "renormalised":
        assert generator.decoder_rows == [0 if items == 1 else 4] + [0] * (length - 1)
    else:
        assert generator.decoder_rows == [4] + [4 * beams] * (length - 1)


def test_renormalised_computes_only_beams_whose_item_is_open():
    """Item 0 is alone in its branch, items 1 and 2 part only at the last position."""
    identifiers = [(0, 0, 0), (1, 0, 0), (1, 0, 1)]
    trie = IdentifierTrie.build(np.array(identifiers), [2, 1, 2], offsets_of([2, 1, 2]))
    generator = assert_equals_reference(
        model_for([2, 1, 2], 0), queries(6, 0), trie, identifiers, [range(3)] * 6, 3, "renormalised", None
    )
    assert generator.decoder_rows == [6, 6, 6]  # of twelve beams at the last two


class LargestTensor(TorchDispatchMode):
    """Remembers how many elements the largest tensor has that any operation made."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor) and not func.is_view:
                self.largest = max(self.largest, tensor.numel())
        return made


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("restricted", [False, True])
def test_a_search_makes_no_tensor_that_grows_with_the_catalogue(scoring, restricted):
    sizes = [16, 16, 16, 16]
    model, net_input = model_for(sizes, 0), queries(4, 0)
    largest = []
    for items in (16**3, 16**4):
        values = np.stack(np.unravel_index(np.arange(items), sizes), axis=1)
        values = values if items == 16**4 else np.concatenate([values[:, 1:], np.zeros_like(values[:, :1])], 1)
        trie = IdentifierTrie.build(values, sizes, offsets_of(sizes))
        chosen = CandidateSet(torch.arange(50)) if restricted else None
        generator = IdentifierGenerator([model], whole(trie), 2, 10, scoring=scoring)
        generator.search(net_input, trie, chosen)
        with LargestTensor() as mode:
            generator.search(net_input, trie, chosen)
        largest.append(mode.largest)
    assert largest[1] <= largest[0] * 1.1
    assert largest[1] < 16**4
