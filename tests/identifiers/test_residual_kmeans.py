"""Residual k-means: greedy nearest centres, level after level."""

import numpy as np
import pytest

from preprocess.identifiers.encode import reconstruction_error
from preprocess.identifiers.schemes.residual_kmeans import ResidualKMeansCodec


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    draw = np.random.default_rng(0)
    return (5 + draw.standard_normal((400, 6)) * [4, 3, 2, 1, 1, 1]).astype(np.float32)


def test_every_level_takes_the_centre_nearest_to_what_is_left(points):
    codec = ResidualKMeansCodec.fit(points, [8, 4, 4], "lloyd", seed=1)
    codes = codec.encode(points)
    left = points.astype(np.float64)
    for level, centres in enumerate(codec.centres):
        distances = np.linalg.norm(left[:, None] - centres[None], axis=2)
        np.testing.assert_array_equal(codes[:, level], distances.argmin(axis=1))
        np.testing.assert_allclose(codec.distances(points, codes[:, :level]), distances**2, rtol=1e-3, atol=1e-3)
        left -= centres[codes[:, level]]
    np.testing.assert_allclose(codec.decode(codes), points - left, rtol=1e-5, atol=1e-5)
    assert [(p.name, p.size) for p in codec.positions] == [("k", 8), ("v1", 4), ("v2", 4)]


def test_more_levels_leave_less_and_values_depend_on_the_row_alone(points):
    codecs = [ResidualKMeansCodec.fit(points, [8] * levels, "minibatch", seed=1) for levels in (1, 2, 3)]
    errors = [reconstruction_error(codec, points, codec.encode(points)) for codec in codecs]
    assert errors[0] > 1.3 * errors[1] > 1.6 * errors[2]
    whole = codecs[2].encode(points.astype(np.float16))
    np.testing.assert_array_equal(np.concatenate([codecs[2].encode(p) for p in (points[:3], points[3:])]), whole)


def test_few_or_equal_points_have_fewer_centres_than_values():
    few = np.eye(3, dtype=np.float32)
    codec = ResidualKMeansCodec.fit(few, [8, 8], "minibatch", seed=1)
    assert codec.codewords == [3, 1]
    assert [p.size for p in codec.positions] == [8, 8]
    np.testing.assert_array_equal(codec.decode(codec.encode(few)), few)
    alike = np.ones((50, 3), dtype=np.float32)
    codec = ResidualKMeansCodec.fit(alike, [4, 4], "minibatch", seed=1)
    assert len(np.unique(codec.encode(alike), axis=0)) == 1
    np.testing.assert_array_equal(codec.decode(codec.encode(alike)), alike)
