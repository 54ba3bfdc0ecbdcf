"""preprocess.identifiers.clustering, and the tree of clusters that is built with it."""

import numpy as np
import pytest
from building import ITEMS, points

from preprocess.identifiers.clustering import fit_centres, nearest_centres
from preprocess.identifiers.schemes.tree import TreeCodec


def test_tree_separates_distinct_items_and_decodes_to_node_centres():
    embeddings = points(40)
    tree = TreeCodec.fit(embeddings, [5, 8], "lloyd", seed=1)
    codes = tree.encode(embeddings)
    assert len(np.unique(codes[:, 0])) == 5
    for node in range(5):
        rows = codes[:, 0] == node
        distinct = len(np.unique(embeddings[rows], axis=0))
        assert len(np.unique(codes[rows, 1])) == min(8, distinct)
        np.testing.assert_allclose(
            embeddings[rows].mean(axis=0), tree.centres[tree.first_child[0] + node], rtol=1e-4, atol=1e-4
        )
    exact = TreeCodec.fit(embeddings, [5, 40], "minibatch", seed=1)
    np.testing.assert_array_equal(exact.decode(exact.encode(embeddings)), embeddings)


@pytest.mark.parametrize("method", ["minibatch", "lloyd"])
def test_k_means_repeats_itself_and_assigns_the_nearest_centre_far_from_the_origin(method):
    embeddings = points() + np.float32(1e4)
    centres = fit_centres(embeddings, 8, method, seed=1)
    np.testing.assert_array_equal(centres, fit_centres(embeddings, 8, method, seed=1))
    distances = np.linalg.norm(embeddings[:, None].astype(np.float64) - centres[None], axis=2)
    found = nearest_centres(embeddings, centres)
    np.testing.assert_allclose(distances[np.arange(ITEMS), found], distances.min(axis=1), rtol=1e-3)
    assert len(np.unique(found)) == 8
