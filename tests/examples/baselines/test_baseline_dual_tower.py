"""Dual towers of examples/baselines: what is searched, what is trained on, what the loss is."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from baseline_samples import read_rows, write_data, write_data_bin
from conftest import load_example, write_jsonl

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.measuring.results import measure, subset_queries

collection = load_example("baselines", "collection")
dual_tower = load_example("baselines", "dual_tower")
projection = load_example("baselines", "projection")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("dual") / "data")


@pytest.fixture(scope="module")
def data(folder: Path) -> Any:
    return collection.open_collection(folder)


def vectors(data: Any, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    return data.item_vectors(folder / "embeddings.npy"), data.text_vectors(folder / "texts.npy")


def settings(**more: Any) -> Any:
    return projection.ProjectionSettings(**{"width": 12, "batch": 24, "epochs": 30, "dropout": 0.0, **more})


def unit(generator: np.random.Generator, rows: int, width: int) -> np.ndarray:
    values = generator.normal(size=(rows, width)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_an_index_ranks_by_cosine_and_names_item_rows(kind):
    generator = np.random.default_rng(1)
    items, queries = unit(generator, 50, 8), unit(generator, 7, 8)
    rows = np.arange(50) * 3 + 1
    found = dual_tower.VectorIndex(kind, items, rows).search(queries, 5)
    for ranking, cosines in zip(found, queries @ items.T, strict=True):
        assert ranking.rows == rows[np.argsort(-cosines)[:5]].tolist()
        np.testing.assert_allclose(ranking.scores, np.sort(cosines)[::-1][:5], rtol=1e-5)
    assert [len(ranking.rows) for ranking in dual_tower.VectorIndex(kind, items[:3], rows[:3]).search(queries, 5)] == [
        3
    ] * 7


def test_a_zero_shot_tower_of_one_space_finds_the_thing_among_the_split(data, folder):
    items, texts = data.item_vectors(folder / "embeddings.npy"), data.text_vectors(folder / "same-space.npy")
    tower = dual_tower.DualTower(items, texts)
    queries, asked = data.queries("test")
    split, everything = data.candidates("test", "split"), data.candidates("test", "all")
    assert (len(queries), len(split), len(everything)) == (16, 16, 80)
    assert measure(queries, tower.index("flat", split).search(texts[asked], 10))["recall_at_1"] == 100.0
    # four others show the same thing, so the item is among the first five and seldom the first
    among_all = measure(queries, tower.index("flat", everything).search(texts[asked], 10))
    assert among_all["recall_at_5"] == 100.0
    assert among_all["recall_at_1"] < 100.0


def test_a_zero_shot_tower_of_two_spaces_is_refused(data, folder):
    with pytest.raises(ValueError, match=r"items have 24 dimensions and texts 16; .*--towers trained"):
        dual_tower.DualTower(*vectors(data, folder))


@pytest.mark.parametrize("hidden", [0, 32])
def test_a_trained_tower_joins_two_spaces_and_is_kept(data, folder, tmp_path, hidden):
    items, texts = vectors(data, folder)
    path = tmp_path / "projection.safetensors"
    wanted = settings(hidden=hidden)
    heads = dual_tower.trained_heads(path, data, items, texts, False, wanted, "cpu", ["inputs"])
    tower = dual_tower.DualTower(items, texts, heads)
    queries, asked = data.queries("test")
    found = tower.index("flat", data.candidates("test", "split")).search(tower.place(texts[asked]), 10)
    assert measure(queries, found)["recall_at_1"] > 90.0  # 6 by chance
    written = path.read_bytes()
    again = dual_tower.trained_heads(path, data, items, texts, False, wanted, "cpu", ["inputs"])
    assert path.read_bytes() == written
    assert dual_tower.DualTower(items, texts, again).digest() == tower.digest()
    other = dual_tower.trained_heads(
        path, data, items, texts, False, settings(hidden=hidden, seed=2), "cpu", ["inputs"]
    )
    assert dual_tower.DualTower(items, texts, other).digest() != tower.digest()


def test_training_is_reproducible_and_never_sees_a_query(data, folder):
    items, texts = vectors(data, folder)
    spoiled = texts.copy()
    for split in ("valid", "test"):
        spoiled[data.queries(split)[1]] = 0.0
    states = []
    for rows in (texts, spoiled):
        captions = data.training(True)
        owner = np.array([caption.item_row for caption in captions])
        taught = rows[collection.rows_of(captions)]
        heads, figures = projection.train(items, taught, owner, settings(epochs=3), "cpu")
        states.append(heads.state_dict())
        assert figures == []
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("policy", ["include", "exclude"])
def test_index_captions_are_trained_on_as_binarize_has_it(data, folder, tmp_path, policy):
    bound = subset_queries(DataBin(write_data_bin(tmp_path, folder, index_captions=policy)), "train")
    ours = data.training(policy == "include")
    assert sorted(query.query_id for query in bound) == sorted(caption.query_id for caption in ours)
    assert {caption.role for caption in ours} == ({"train", "index"} if policy == "include" else {"train"})


def test_the_loss_is_symmetric_infonce_with_a_learned_temperature():
    generator = torch.Generator().manual_seed(3)
    items, texts = torch.randn(6, 5, generator=generator), torch.randn(6, 4, generator=generator)
    heads = projection.Heads(items.numpy(), texts.numpy(), settings(hidden=0)).eval()
    scale = math.exp(heads.log_scale.item())
    assert scale == pytest.approx(1 / 0.07)
    cosines = (heads("texts", texts) @ heads("items", items).T).tolist()
    expected = 0.0
    for row in range(6):
        to_items = math.log(sum(math.exp(scale * cosines[row][column]) for column in range(6)))
        to_texts = math.log(sum(math.exp(scale * cosines[other][row]) for other in range(6)))
        expected += (to_items + to_texts - 2 * scale * cosines[row][row]) / 12
    loss = heads.loss(items, texts)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert heads.log_scale.grad is not None
    assert heads.log_scale.grad.abs() > 0
    with torch.no_grad():
        heads.log_scale.fill_(20.0)
    assert heads.loss(items, texts) <= 2 * 100  # held at 100, cosines lie within 1


def test_the_best_epoch_is_kept_and_patience_ends_training(data, folder):
    items, texts = vectors(data, folder)
    captions = data.training(False)
    owner = np.array([caption.item_row for caption in captions])
    given = iter([3.0, 7.0, 5.0, 7.0, 6.0])
    kept: list[dict[str, torch.Tensor]] = []

    def figure(heads: Any) -> float:
        kept.append({key: value.clone() for key, value in heads.state_dict().items()})
        return next(given)

    taught = texts[collection.rows_of(captions)]
    heads, figures = projection.train(items, taught, owner, settings(epochs=9, patience=3), "cpu", figure)
    assert figures == [3.0, 7.0, 5.0, 7.0, 6.0]
    assert all(torch.equal(kept[1][key], value) for key, value in heads.state_dict().items())


def test_no_batch_holds_an_item_twice(data, folder, monkeypatch):
    items, texts = vectors(data, folder)
    captions = data.training(True)
    owner = np.array([caption.item_row for caption in captions])
    taught = texts[collection.rows_of(captions)]
    places = {row.tobytes(): item for row, item in zip(taught, owner, strict=True)}
    of_item = {row.tobytes(): number for number, row in enumerate(items)}
    seen: list[list[int]] = []
    loss = projection.Heads.loss

    def watched(self: Any, item_rows: torch.Tensor, text_rows: torch.Tensor) -> torch.Tensor:
        seen.append([of_item[row.tobytes()] for row in item_rows.numpy()])
        assert seen[-1] == [places[row.tobytes()] for row in text_rows.numpy()]
        return loss(self, item_rows, text_rows)

    monkeypatch.setattr(projection.Heads, "loss", watched)
    projection.train(items, taught, owner, settings(epochs=1), "cpu")
    assert sorted(item for batch in seen for item in batch) == sorted(set(owner.tolist()))


def test_what_is_refused(data, folder, tmp_path):
    with pytest.raises(ValueError, match=r"same-space\.npy: 160 rows, but .*items\.jsonl has 80 items"):
        data.item_vectors(folder / "same-space.npy")
    with pytest.raises(ValueError, match=r"embeddings\.npy: 80 rows, but .*captions\.jsonl has 160 captions"):
        data.text_vectors(folder / "embeddings.npy")
    one_sided = collection.open_collection(write_data(tmp_path / "data", held_out=("valid",)))
    assert one_sided.measurable() == ["valid"]
    with pytest.raises(
        ValueError, match="no caption with the role 'query' in split 'test'; splits with queries: valid"
    ):
        one_sided.queries("test")
    rows = [row for row in read_rows(folder / "captions.jsonl") if row["role"] == "query"]
    write_jsonl(tmp_path / "data" / "captions.jsonl", rows)
    untaught = collection.open_collection(tmp_path / "data")
    items = untaught.item_vectors(folder / "embeddings.npy")
    with pytest.raises(ValueError, match="fewer than 2 items have training captions"):
        dual_tower.trained_heads(tmp_path / "p", untaught, items, items[:32], True, settings(), "cpu", [])


def test_without_faiss_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        ValueError, match=r"dual towers: faiss is not installed; pip install 'cart-fairseq\[benchmark\]'"
    ):
        dual_tower.VectorIndex("flat", np.eye(3, dtype=np.float32), np.arange(3))
