"""examples/media_queries measures what it says, on a small run."""

import numpy as np
import pytest
from conftest import load_example, write_jsonl
from recipe_calls import joined_run
from recipe_samples import write_data

from cart_fairseq.base.reading import read_json, read_jsonl

media_queries = load_example("media_queries", "media_queries")
cost = load_example("media_queries", "cost")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """OUT of a run with a join."""
    folder = tmp_path_factory.mktemp("media-queries")
    data = write_data(folder / "data")
    items = read_jsonl(data / "items.jsonl")
    write_jsonl(data / "items.jsonl", [{**item, "kinds": [f"k{row % 3}"]} for row, item in enumerate(items)])
    return joined_run(data, folder / "out", "--media-positions", 2)


def test_all_three_are_measured(run, tmp_path):
    flags = ["--queries", "10", "--labels", "kinds", "--json", str(tmp_path / "found.json")]
    media_queries.main([str(run), *flags])
    found = read_json(tmp_path / "found.json")
    assert found["media_positions"] == 2
    assert len(found["caption_and_embedding"]) == 1 + (1 + len(media_queries.WEIGHTS)) * len(media_queries.STRONG)
    assert {"commit", "machine", "settings", "own_embedding"} <= found.keys()
    shares = found["more_like_this"]
    assert all(0 <= value <= 1 for value in shares.values())
    assert shares["label_precision_of_cosine"] > 0


def test_noise_has_the_length_that_is_asked():
    rows = np.eye(5, dtype=np.float32)
    noise = media_queries.noisy(rows, 4.0, np.random.default_rng(0)) - rows
    np.testing.assert_allclose(np.linalg.norm(noise, axis=1), 4.0, rtol=1e-5)


def test_the_cost_of_each_kind_is_measured_alone_and_in_batches(run, tmp_path):
    cost.main([str(run), "--queries", "6", "--batch", "4", "--json", str(tmp_path / "found.json")])
    found = read_json(tmp_path / "found.json")
    assert [(row["batch"], row["query"]) for row in found["results"]] == [(b, k) for b in (1, 4) for k in cost.KINDS]
    assert all(row["milliseconds"] > 0 for row in found["results"])
    assert {row["ratio_to_text"] for row in found["results"] if row["query"] == "text"} == {1.0}
    with pytest.raises(ValueError, match="--batch is 0"):
        cost.main([str(run), "--batch", "0"])
