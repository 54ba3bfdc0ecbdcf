"""Groups of items that share a prefix, and how far neighbours do."""

import numpy as np
import pytest

from preprocess.identifiers.prefix_groups import PrefixGroups
from preprocess.inspection.agreement import nearest_rows, neighbour_agreement


def test_groups_by_hand():
    groups = PrefixGroups.of(np.array([[1, 0], [0, 5], [1, 0], [0, 4], [1, 0], [0, 5]], dtype=np.int32))
    assert groups.sizes.tolist() == [1, 2, 3]
    assert [groups.rows(n).tolist() for n in range(3)] == [[3], [1, 5], [0, 2, 4]]
    assert groups.of_row().tolist() == [2, 1, 2, 0, 2, 1]
    assert groups.largest(5) == [2, 1]
    assert groups.largest(1) == [2]
    assert sorted(groups.drawn(5, seed=1)) == [1, 2]
    assert len(groups.drawn(1, seed=1)) == 1
    empty = PrefixGroups.of(np.empty((3, 0), dtype=np.int32))
    assert empty.rows(0).tolist() == [0, 1, 2]


@pytest.mark.parametrize("block_bytes", [400, 1 << 20])
def test_nearest_rows_are_those_of_a_full_search(monkeypatch, block_bytes):
    monkeypatch.setattr("preprocess.data.embeddings.BLOCK_BYTES", block_bytes)
    points = 100 + np.random.default_rng(1).standard_normal((60, 5))
    rows = np.array([0, 7, 33, 59])
    distances = np.linalg.norm(points[rows][:, None] - points[None], axis=2)
    distances[np.arange(4), rows] = np.inf
    found = nearest_rows(points.astype(np.float32), rows, 10)
    np.testing.assert_array_equal(found, distances.argsort(axis=1)[:, :10])


def test_agreement_of_codes_that_follow_the_clusters_and_of_codes_by_chance():
    draw = np.random.default_rng(2)
    cluster = np.repeat(np.arange(10), 20)
    points = (100 * draw.standard_normal((10, 4))[cluster] + draw.standard_normal((200, 4))).astype(np.float32)
    codes = np.stack([cluster, draw.integers(0, 5, 200)], axis=1).astype(np.int32)
    first, second = neighbour_agreement(points, codes, neighbours=10, sample=200, seed=1)
    assert (first.length, first.share) == (1, 1.0)
    assert first.chance == pytest.approx(10 * 20 * 19 / (200 * 199))
    assert second.share == pytest.approx(0.2, abs=0.05)
    assert second.chance < 0.03
    assert neighbour_agreement(points[:3], codes[:3], neighbours=10, sample=2, seed=1)[0].share == 1.0
