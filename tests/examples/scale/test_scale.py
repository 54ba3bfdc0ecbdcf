"""examples/scale: distractors are near real rows, and every system is measured on every size."""

import numpy as np
import pytest
from conftest import load_example
from recipe_calls import joined_run
from recipe_samples import write_data

from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.data_bin import DataBin

distractors, scale = load_example("scale", "distractors"), load_example("scale", "scale")
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
    towers = [f"dual tower{priors}, {kind}" for priors in ("", " with priors") for kind in ("exact", "HNSW")]
    systems = ["CART, beam 3", *towers]
    assert [(row["candidates"], row["system"]) for row in record["results"]] == [
        (size, system) for size in (ITEMS, 30) for system in systems
    ]
    assert (tmp_path / "scale.png").stat().st_size
    large = DataBin(tmp_path / "work" / "data-bin.30")
    assert (len(large.trie), large.bundle.items_at(0)) == (30, ITEMS)
    assert large.bundle.item_id(29) == "synthetic 9"
    capsys.readouterr()
    scale.main([*flags, "--sizes", "30"])  # what was made is used again
    assert "synthetic items" not in capsys.readouterr().err


def test_a_size_below_the_split_is_refused(run):
    with pytest.raises(ValueError, match="--sizes has 1, but the valid split alone has"):
        scale.candidates_of(DataBin(run / "data-bin"), 1)
