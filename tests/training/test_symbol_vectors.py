"""Vectors of symbols that predict captions' features, and the model that begins with them and keeps what it learns."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commands import run, train_flags
from conftest import make_model, setup_task
from mixed_world import write_data_bin

from cart_fairseq import CartRetriever
from cart_fairseq.network.embeddings import SymbolBag
from cart_fairseq.publishing.exporting import export
from cart_fairseq.training import symbol_vectors
from cart_fairseq.training.symbol_vectors import fit_symbol_vectors

SYMBOLS, WIDTH, EOS = 40, 8, 2
WEIGHT = "dense.bag.vectors.weight"


def captions(count: int, draw: np.random.Generator) -> list[torch.Tensor]:
    """Captions of five symbols each and the end."""
    return [torch.from_numpy(np.append(draw.integers(4, SYMBOLS - 1, 5), EOS)) for _ in range(count)]


def features_of(queries, vectors) -> np.ndarray:
    sums = torch.stack([vectors[query[:-1]].sum(0) for query in queries])
    return F.normalize(sums, dim=1).numpy()


def bag_of(vectors: torch.Tensor) -> SymbolBag:
    bag = SymbolBag(*vectors.shape)
    with torch.no_grad():
        bag.vectors.weight.copy_(vectors)
    return bag


def test_sums_of_the_vectors_predict_features_of_captions_that_were_not_seen():
    draw = np.random.default_rng(0)
    truth = torch.from_numpy(draw.standard_normal((SYMBOLS, WIDTH)).astype(np.float32))
    seen, unseen = captions(400, draw), captions(50, draw)
    vectors = fit_symbol_vectors(seen, features_of(seen, truth), SYMBOLS)
    assert vectors.shape == (SYMBOLS, WIDTH)
    found = bag_of(vectors)(torch.stack(unseen)).detach().numpy()
    cosines = (found * features_of(unseen, truth)).sum(1)
    assert cosines.mean() > 0.95
    assert not vectors[:4].any()
    assert not vectors[SYMBOLS - 1].any()  # occurs nowhere


def test_captions_without_features_and_rare_symbols_have_no_part():
    draw = np.random.default_rng(1)
    queries = captions(30, draw)
    features = draw.standard_normal((30, WIDTH)).astype(np.float32)
    features[10:] = 0
    alone = fit_symbol_vectors(queries[:10], features[:10], SYMBOLS)
    torch.testing.assert_close(fit_symbol_vectors(queries, features, SYMBOLS), alone)
    counted = np.zeros(SYMBOLS)
    for query in queries[:10]:
        counted[np.unique(query.numpy())] += 1
    expected = {symbol for symbol in range(4, SYMBOLS) if counted[symbol] >= 2}
    assert set(alone.any(dim=1).nonzero().flatten().tolist()) == expected


def test_no_known_symbol_gives_zeros():
    once = [torch.tensor([symbol, EOS]) for symbol in range(4, 9)]
    assert not fit_symbol_vectors(once, np.ones((5, WIDTH), dtype=np.float16), SYMBOLS).any()
    assert not fit_symbol_vectors(once, np.zeros((5, WIDTH), dtype=np.float16), SYMBOLS).any()


def test_many_captions_are_sampled_and_many_symbols_cut(monkeypatch):
    draw = np.random.default_rng(2)
    queries = captions(60, draw)
    features = draw.standard_normal((60, WIDTH)).astype(np.float32)
    monkeypatch.setattr(symbol_vectors, "SAMPLE", 20)
    monkeypatch.setattr(symbol_vectors, "FREQUENT", 7)
    found = fit_symbol_vectors(queries, features, SYMBOLS)
    assert int(found.any(dim=1).sum()) == 7
    torch.testing.assert_close(found, fit_symbol_vectors(queries[::3], features[::3], SYMBOLS))


@pytest.fixture(scope="module")
def joined_bin(tmp_path_factory):
    root = tmp_path_factory.mktemp("joined")
    write_data_bin(root, joined=True)
    return root / "data-bin"


def test_training_begins_with_fitted_vectors_and_a_search_with_those_of_the_checkpoint(joined_bin, tmp_path):
    task = setup_task(joined_bin)
    model = make_model(task, dense_dim=8, dense_words=True)
    task.load_dataset("train")
    queries = task.datasets["train"].queries
    expected = fit_symbol_vectors(queries, task.data.dense_items.captions, len(task.query_dict))
    assert expected.any()
    assert not torch.equal(model.dense.bag.vectors.weight, expected)
    flags = ["--dense-dim", 8, "--dense-words", "--max-epoch", 2]
    run(*train_flags(joined_bin, tmp_path / "still", *flags, "--lr", 1e-9))
    still = torch.load(tmp_path / "still" / "checkpoint_best.pt", weights_only=False)["model"][WEIGHT]
    torch.testing.assert_close(still, expected, atol=1e-6, rtol=0)
    run(*train_flags(joined_bin, tmp_path / "save", *flags))
    path = tmp_path / "save" / "checkpoint_best.pt"
    learnt = torch.load(path, weights_only=False)["model"][WEIGHT]
    assert not torch.allclose(learnt, expected, atol=1e-3)
    retriever = CartRetriever.from_pretrained(path, joined_bin, device="cpu", precision="float32")
    assert torch.equal(retriever.models[0].state_dict()[WEIGHT], learnt)
    export(path, joined_bin, tmp_path / "MODEL")
    other = CartRetriever.from_pretrained(tmp_path / "MODEL", device="cpu", precision="float32")
    texts = ["red dog", "a blue bird sleeps", "zebra 😀"]
    assert other.search(texts, k=5) == retriever.search(texts, k=5)


def test_flags_that_do_not_fit_are_refused(joined_bin, tmp_path):
    run(*train_flags(joined_bin, tmp_path / "without", "--max-epoch", 1, "--dense-dim", 8))
    restored = ["--restore-file", tmp_path / "without" / "checkpoint_best.pt", "--dense-dim", 8, "--dense-words"]
    output = run(*train_flags(joined_bin, tmp_path / "with", "--max-epoch", 2, *restored), fails=True)
    assert "trained without --dense-words" in output
    output = run(*train_flags(joined_bin, tmp_path / "headless", "--dense-words"), fails=True)
    assert "--dense-words is given, but there is no dense head" in output
