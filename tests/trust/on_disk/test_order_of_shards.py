"""Shards are read by their numbers, and what was made from another order is made again."""

from pathlib import Path

import numpy as np
import pytest
from conftest import write_jsonl

from preprocess.data import embeddings
from preprocess.data.embeddings import open_embeddings
from preprocess.identifiers.build import build_identifiers
from preprocess.identifiers.settings import IdentifierSettings


@pytest.mark.parametrize("name", ["{}.npy", "part-{}-of-12.npy", "shard_{:03}.npy", "x{}.npy"])
def test_rows_follow_the_numbers_of_the_shards(tmp_path: Path, name: str):
    whole = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    for number in range(12):
        np.save(tmp_path / name.format(number), whole[2 * number : 2 * number + 2])
    np.testing.assert_array_equal(np.asarray(open_embeddings(tmp_path)), whole)


def test_identifiers_from_another_order_are_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "shards").mkdir()
    whole = np.random.default_rng(0).normal(size=(36, 4)).astype(np.float32)
    for number in range(12):
        np.save(tmp_path / "shards" / f"{number}.npy", whole[3 * number : 3 * number + 3])
    items = write_jsonl(tmp_path / "items.jsonl", [{"item_id": str(row)} for row in range(36)])
    settings = IdentifierSettings(
        scheme="hierarchical-kmeans", kmeans_clusters=3, codebooks=1, codebook_size=3, allow_collapse=True
    )

    def build() -> bool:
        return build_identifiers(tmp_path / "shards", items, tmp_path / "out", settings).is_new

    with monkeypatch.context() as before:
        before.setattr(embeddings, "in_order", sorted)
        assert build()
        assert not build()
    assert build()
    assert not build()
