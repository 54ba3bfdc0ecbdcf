"""Moving items that share a code to free codes near by."""

import itertools
import math

import numpy as np
import pytest

from preprocess.identifiers.collisions import all_but_nearest, choose_greedily, move_to_free_codes
from preprocess.identifiers.encode import reconstruction_error
from preprocess.identifiers.report import measure
from preprocess.identifiers.schemes.residual_kmeans import ResidualKMeansCodec


def codec_of(*levels: list[float]) -> ResidualKMeansCodec:
    """One-dimensional codewords, each level as many values as it has codewords."""
    centres = [np.array(level, dtype=np.float32)[:, None] for level in levels]
    return ResidualKMeansCodec(centres, [len(level) for level in levels])


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def test_the_nearest_keeps_its_code_and_the_others_take_the_nearest_free_ones():
    codec = codec_of([0, 100], [0, 1, 2, 10])
    points = column(0.3, 0.1, 0.4, 102.1, 1.9)
    codes = codec.encode(points)
    assert codes.tolist() == [[0, 0], [0, 0], [0, 0], [1, 2], [0, 2]]
    moved = move_to_free_codes(codec, points, codes)
    # 0.1 is nearest to its codeword; 0.4 loses less than 0.3 by moving to 1; 2 is taken, so 0.3 gets 10.
    assert moved.codes.tolist() == [[0, 3], [0, 0], [0, 1], [1, 2], [0, 2]]
    assert moved.moved == [0, 2]
    assert codes.tolist()[0] == [0, 0]


def test_items_of_a_full_prefix_go_to_the_nearest_prefix_with_room():
    codec = codec_of([0, 1000], [0, 50, 20], [0, 1])
    points = column(0.0, 0.9, 0.3, 0.2, 20.0)
    codes = codec.encode(points)
    assert codes.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 2, 0]]
    moved = move_to_free_codes(codec, points, codes)
    # One place is left beside 20.0, for the item that loses least; the other goes to 50, where it is nearer to 0.
    assert moved.codes.tolist() == [[0, 0, 0], [0, 0, 1], [0, 2, 1], [0, 1, 0], [0, 2, 0]]
    assert moved.moved == [0, 2, 0]


def test_the_first_value_never_changes_and_what_finds_no_room_stays():
    codec = codec_of([0, 1000], [0, 1])
    points = column(*np.linspace(0, 0.4, 5))
    codes = codec.encode(points)
    moved = move_to_free_codes(codec, points, codes)
    assert moved.codes.tolist() == [[0, 0], [0, 0], [0, 0], [0, 0], [0, 1]]
    assert moved.moved == [0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_afterwards_no_two_items_share_a_code_while_there_is_room(seed):
    draw = np.random.default_rng(seed)
    points = np.repeat(draw.standard_normal((10, 3)), 30, axis=0) + 0.05 * draw.standard_normal((300, 3))
    codec = ResidualKMeansCodec.fit(points.astype(np.float32), [4, 6, 40], "lloyd", seed=1)
    codes = codec.encode(points.astype(np.float32))
    found = move_to_free_codes(codec, points.astype(np.float32), codes)
    before, after = measure(codes, codec.positions), measure(found.codes, codec.positions)
    room = math.prod(codec.codewords[1:])
    assert np.bincount(codes[:, 0]).max() <= room
    assert before["collision_rate"] > 0.3
    assert after["collision_rate"] == 0
    changed = (found.codes != codes).any(axis=1)
    assert changed.sum() == sum(found.moved) == 300 - before["unique_codes"]
    np.testing.assert_array_equal(found.codes[:, 0], codes[:, 0])
    extra = [reconstruction_error(codec, points, which) for which in (codes, found.codes)]
    assert extra[0] < extra[1] < 1


def test_items_without_collision_stay_and_nothing_is_read():
    codec = codec_of([0, 100], [0, 1, 2, 10])
    codes = np.array([[0, 0], [0, 1], [1, 0]], dtype=np.int32)
    found = move_to_free_codes(codec, np.empty((3, 0), dtype=np.float32), codes)
    np.testing.assert_array_equal(found.codes, codes)
    assert found.moved == [0, 0]


def test_a_hundred_thousand_equal_items_fill_what_is_free():
    codec = codec_of([0, 1000], [0, 20, 40], [0, 1, 2])
    points = np.full((100_000, 1), 1.2, dtype=np.float32)
    found = move_to_free_codes(codec, points, codec.encode(points))
    counts = np.unique(found.codes, axis=0, return_counts=True)[1]
    assert sorted(counts.tolist()) == [1] * 8 + [100_000 - 8]


def test_values_without_codewords_are_no_room():
    codec = codec_of([0, 1000], [0, 1])
    codec.sizes = [2, 8]
    points = column(0.0, 0.1, 0.2)
    found = move_to_free_codes(codec, points, codec.encode(points))
    assert found.codes.tolist() == [[0, 0], [0, 0], [0, 1]]


def test_a_greedy_choice_never_overfills_and_serves_the_cheapest_first():
    draw = np.random.default_rng(0)
    cost, room = draw.random((40, 6)).astype(np.float32), np.array([3, 0, 9, 2, 20, 1])
    choice = choose_greedily(cost, room)
    served = choice[choice >= 0]
    np.testing.assert_array_equal(np.bincount(served, minlength=6), room)
    for item, other in itertools.product(range(40), repeat=2):
        # Whoever has an item's cheapest value with room pays no more for it than the item would have.
        best = np.where(room > 0, cost[item], np.inf).argmin()
        if choice[item] != best and choice[other] == best:
            assert cost[other, best] <= cost[item, best]


def test_of_equally_near_items_the_first_stays():
    codes = np.array([[0], [1], [0], [0], [1]])
    own = np.array([2, 1, 1, 1, 5], dtype=np.float32)
    assert all_but_nearest(codes, own).tolist() == [0, 3, 4]
