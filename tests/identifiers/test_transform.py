"""preprocess.identifiers.transform: rows of length 1, scikit-learn's principal components, and both again from the codec's tensors."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from preprocess.identifiers.transform import Transform

ROWS = (np.random.default_rng(0).standard_normal((60, 8)) * np.arange(1, 9) + 3).astype(np.float32)


def test_normalised_rows_have_length_one():
    np.testing.assert_allclose(np.linalg.norm(Transform(True)(ROWS), axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(Transform(False)(ROWS.astype(np.float16)), ROWS.astype(np.float16))


@pytest.mark.parametrize("normalize", [False, True])
def test_components_are_those_of_pca(normalize):
    transform = Transform.fit(ROWS, normalize, 3, block_rows=1000)
    target = Transform(normalize)(ROWS)
    reference = PCA(3, svd_solver="full").fit(target)
    np.testing.assert_allclose(np.abs(transform(ROWS)), np.abs(reference.transform(target)), rtol=1e-3, atol=1e-3)
    back = reference.inverse_transform(reference.transform(target))
    np.testing.assert_allclose(transform.inverse(transform(ROWS)), back, rtol=1e-3, atol=1e-3)


def test_blocks_of_rows_find_the_same_plane():
    plane = ROWS @ np.diag([1, 1, 1, 0, 0, 0, 0, 0]).astype(np.float32)
    transform = Transform.fit(plane, False, 3, block_rows=7)
    np.testing.assert_allclose(transform.inverse(transform(plane)), plane, rtol=1e-3, atol=1e-3)


def test_tensors_hold_all_of_it():
    for transform in (Transform(True), Transform.fit(ROWS, True, 3, 1000)):
        np.testing.assert_array_equal(Transform.load(transform.tensors())(ROWS), transform(ROWS))


def test_equal_rows_are_all_at_the_origin():
    equal = np.tile(ROWS[:1], (9, 1))
    np.testing.assert_allclose(Transform.fit(equal, False, 2, 1000)(equal), 0, atol=1e-4)


@pytest.mark.parametrize(("rows", "pca"), [(60, 9), (2, 3)])
def test_more_components_than_there_can_be_are_refused(rows, pca):
    with pytest.raises(ValueError, match=f"--pca {pca}: there are only {rows} rows of 8 dimensions"):
        Transform.fit(ROWS[:rows], False, pca, 1000)
