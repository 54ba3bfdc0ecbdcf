"""preprocess.identifiers.report: figures by hand, and what counts as collapsed."""

import numpy as np
import pytest

from cart_fairseq.catalogue.positions import Position
from preprocess.identifiers.report import measure, refuse_collapse


def test_report_by_hand():
    codes = np.array([[0, 0], [0, 1], [1, 1], [1, 1]], dtype=np.int32)
    report = measure(codes, [Position("k", 4), Position("v1", 2)])
    assert (report["items"], report["unique_codes"], report["collision_rate"], report["max_collisions"]) == (
        4,
        3,
        0.5,
        2,
    )
    first, second = report["levels"]
    assert (first["used"], first["utilisation"]) == (2, 0.5)
    assert first["perplexity"] == first["prefix_perplexity"] == pytest.approx(2)
    assert second["perplexity"] == pytest.approx(4 / 3**0.75)
    assert second["prefix_perplexity"] == pytest.approx(2**1.5)


def test_collapse_is_judged_by_level_and_in_trees_by_path():
    # 64 items, 8 nodes of 8 items each: a tree's second level may number its children by any values.
    codes = np.stack([np.arange(64) // 8, np.arange(64) % 8, np.zeros(64, dtype=int)], axis=1).astype(np.int32)
    report = measure(codes, [Position(name, 64) for name in ("h1", "h2", "h3")])
    with pytest.raises(
        ValueError, match=r"level h1 has collapsed: perplexity 8\.0 of at most 64; level h2 .* level h3"
    ):
        refuse_collapse(report, tree=False)
    with pytest.raises(ValueError, match=r"level h1 has collapsed: perplexity 8\.0 of at most 64\. Items"):
        refuse_collapse(report, tree=True)
    report["levels"][0]["size"] = 8
    refuse_collapse(report, tree=True)
