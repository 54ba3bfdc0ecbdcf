"""examples/scale: distractors are near real rows, and every system is measured on every size."""

import numpy as np
import pytest
from conftest import load_example
from recipe_calls import joined_run
from recipe_samples import write_data

from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.retriever import CartRetriever

distractors, scale = load_example("scale", "distractors"), load_example("scale", "scale")
indexes, memory, ages = (load_example("scale", name) for name in ("indexes", "memory", "ages"))
ITEMS = 20


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """OUT of a run with a join."""
    folder = tmp_path_factory.mktemp("scale")
    return joined_run(write_data(folder / "data"), folder / "out")


def test_neighbours_keep_their_parts_lengths():
    rows = np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32)
    rows[0, :8] = 0
    found = distractors.neighbours(rows, [8, 4], np.random.default_rng(1))
    for part in (slice(0, 8), slice(8, 12)):
        lengths = [np.linalg.norm(each[:, part], axis=1) for each in (rows, found)]
        np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-4, atol=1e-6)
    cosines = (rows[1:, :8] * found[1:, :8]).sum(1) / (rows[1:, :8] ** 2).sum(1)
    assert 0.5 < cosines.mean() < 0.95  # 1 / sqrt(1 + 0.7²) where the noise is orthogonal


@pytest.mark.filterwarnings("ignore")
def test_every_size_and_system_is_measured(run, tmp_path, capsys):
    pytest.importorskip("faiss")
    pytest.importorskip("matplotlib")
    flags = [str(run), "--work", str(tmp_path / "work"), "--beams", "3", "--queries", "10"]
    flags += ["--json", str(tmp_path / "scale.json"), "--plot", str(tmp_path / "scale.png")]
    scale.main([*flags, "--sizes", "30", str(ITEMS)])
    with pytest.raises(ValueError, match=r"work: was made from another catalogue, join or seed; choose another --work"):
        scale.main([*flags, "--sizes", "30", "--seed", "2"])
    record = read_json(tmp_path / "scale.json")
    kinds = ("exact", "exact, priors", "HNSW, effort 64, priors", "HNSW, effort 256, priors")
    towers = [f"dual tower, {kind}" for kind in kinds]
    systems = ["CART, beam 3", *towers]
    assert [(row["candidates"], row["system"]) for row in record["results"]] == [
        (size, system) for size in (ITEMS, 30) for system in systems
    ]
    assert all(row["times_of_encoder"] > 0 for row in record["results"])
    assert (tmp_path / "scale.png").stat().st_size
    large = DataBin(tmp_path / "work" / "data-bin.30")
    assert (len(large.trie), large.bundle.items_at(0)) == (30, ITEMS)
    assert large.bundle.item_id(29) == "synthetic 9"
    capsys.readouterr()
    scale.main([*flags, "--sizes", "30"])  # what was made is used again
    assert "synthetic items" not in capsys.readouterr().err


def test_indexes_find_what_exact_search_finds(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    for name, value in {"IVF_ITEMS": 1000, "CODE_BYTES": 8, "IVF_EFFORTS": (1, 80)}.items():
        monkeypatch.setattr(indexes, name, value)
    draw = np.random.default_rng(1)
    vectors = draw.standard_normal((2000, 16)).astype(np.float16)
    priors = draw.standard_normal(2000).astype(np.float32)
    asked = (vectors[:50] + 0.1 * draw.standard_normal((50, 16))).astype(np.float32)
    for _ in range(2):  # built, then read
        found = {index.name: index.search(asked) for index in indexes.indexes_of(vectors, priors, 2.0, tmp_path)}
        monkeypatch.setattr(indexes, "_graph", None)
        monkeypatch.setattr(indexes, "_cells", None)
    scores = asked @ vectors.astype(np.float32).T
    for name, expected in (("exact", scores), ("exact, priors", scores - 2 * priors)):
        np.testing.assert_array_equal(found.pop(name), (-expected).argsort(1, kind="stable")[:, :10])
    best = (-(scores - 2 * priors)).argsort(1)[:, :10]
    shares = {name: np.mean([np.isin(*pair).mean() for pair in zip(best, own)]) for name, own in found.items()}
    assert shares.keys() == {
        *(f"HNSW, effort {effort}, priors" for effort in (64, 256)),
        *(f"IVF-PQ, {cells} cells, priors" for cells in (1, 80)),
    }
    assert shares["IVF-PQ, 1 cells, priors"] < shares["IVF-PQ, 80 cells, priors"]
    assert min(shares["HNSW, effort 256, priors"], shares["IVF-PQ, 80 cells, priors"]) > 0.75


def test_a_size_below_the_split_is_refused(run):
    with pytest.raises(ValueError, match="--sizes has 1, but the valid split alone has"):
        scale.candidates_of(DataBin(run / "data-bin"), 1)


@pytest.mark.filterwarnings("ignore")
def test_memory_of_each_catalogue_is_measured_in_a_process_of_its_own(run, tmp_path):
    checkpoint = run / "checkpoints" / "checkpoint_best.pt"
    flags = ["--queries", "6", "--batch", "4", "--beam", "3", "--json", str(tmp_path / "memory.json")]
    memory.main([str(checkpoint), "--data", str(run / "data-bin"), *flags])
    record = read_json(tmp_path / "memory.json")
    (found,) = record["results"]
    assert found["items"] == ITEMS
    assert 0 < found["imported"] < found["searched"] <= found["peak"]
    with pytest.raises(ValueError, match=r"missing: could not be searched: "):
        memory.main([str(checkpoint), "--data", str(tmp_path / "missing"), *flags])


@pytest.mark.filterwarnings("ignore")
def test_scores_of_younger_items_are_compared(run, tmp_path):
    pytest.importorskip("faiss")
    checkpoint = run / "checkpoints" / "checkpoint_best.pt"
    data, _ = distractors.enlarged(run / "data-bin", scale.JoinedTowers(run / "joined"), checkpoint, 30, tmp_path, 1)
    flags = ["--queries", "6", "--beam", "3", "--json", str(tmp_path / "ages.json")]
    ages.main([str(checkpoint), "--data", str(data), *flags])
    results = {row["scores"]: row for row in read_json(tmp_path / "ages.json")["results"]}
    assert list(results) == list(ages.SETTINGS)
    assert all(0 <= row["younger_of_ten"] <= 10 for row in results.values())
    retriever = CartRetriever.from_pretrained(checkpoint, data, 3, precision="float32")
    (model,), bundle = retriever.models, retriever.data.bundle
    texts, wanted = distractors.valid_queries(retriever.data, 6)
    model.revision, model.history = bundle.revision, bundle.history
    rows = [[hit.row for hit in hits] for hits in retriever.search(texts, 10)]
    first = 100 * sum(found[0] == row for found, row in zip(rows, wanted.tolist(), strict=True)) / len(rows)
    assert results["own identifier scores"]["recall_at_1"] == pytest.approx(first)
