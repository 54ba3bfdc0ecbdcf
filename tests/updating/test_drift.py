"""How well a codec describes items, and what is said about it."""

import numpy as np
import pytest
from conftest import write_jsonl
from test_placement import CODECS, POINTS

from cart_fairseq.base.reading import read_json
from preprocess.identifiers.build import build_identifiers
from preprocess.identifiers.codec import TransformedCodec, load_codec
from preprocess.identifiers.goodness_of_fit import baseline, fit_of
from preprocess.identifiers.schemes.grace import AtomicCodec
from preprocess.identifiers.settings import IdentifierSettings
from preprocess.updating.drift import RETRAIN_ERROR, RETRAIN_MOVED, advice, drift_text
from preprocess.updating.steps import add

SCHEMES = {**CODECS, "atomic": AtomicCodec.fit(POINTS)}


@pytest.mark.parametrize("name", SCHEMES)
def test_figures_equal_a_loop_over_the_items(name):
    codec = SCHEMES[name]
    codes = codec.encode(POINTS)
    points, inner = POINTS, codec
    if isinstance(codec, TransformedCodec):
        points, inner = codec.transform(POINTS), codec.inner
    centres, decoded = codec.first_centres, inner.decode(codes)
    distances = [min(float(np.linalg.norm(point - centre)) for centre in centres) for point in points]
    found = fit_of(codec, POINTS, codes)
    assert found["items"] == 40
    assert found["centre_distance"]["mean"] == pytest.approx(np.mean(distances), rel=1e-4)
    assert found["centre_distance"]["p95"] == pytest.approx(np.percentile(distances, 95), rel=1e-4)
    assert found["squared_error"] == pytest.approx(np.square(points - decoded).sum(axis=1).mean(), rel=1e-4)
    assert baseline(codec, POINTS) == found


def test_the_first_level_has_as_many_centres_as_values():
    assert [len(SCHEMES[name].first_centres) for name in ("rqvae", "coarse-fine", "tree", "atomic")] == [1, 3, 3, 1]
    np.testing.assert_array_equal(SCHEMES["tree"].first_centres, SCHEMES["tree"].centres[1:4])


def report(error=1.0, p95=1.0, moved=0.0, added=0.1):
    def fit(scale_error, scale_p95):
        distances = {"mean": 2.0, "p50": 2.0, "p95": 3.0 * scale_p95}
        return {"items": 9, "centre_distance": distances, "squared_error": 5.0 * scale_error}

    shares = {"shared": 0.5, "moved": moved, "added_share": added, "old_collision_rate": 0.25}
    return {"new": fit(error, p95), "old": fit(1, 1), **shares}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "no need to build the identifiers again"),
        ({"error": RETRAIN_ERROR - 0.01}, "no need to build"),
        ({"error": RETRAIN_ERROR + 0.01}, "train: their squared error is 1.26 times that of the old ones"),
        ({"p95": 2.0}, "train: their 95th percentile of distances to the nearest centre is 2.00 times"),
        ({"moved": RETRAIN_MOVED + 0.001}, "train: 1.1% of them found their code full"),
        ({"added": 0.51}, "train: 51% of the catalogue was added since"),
    ],
)
def test_advice_follows_the_thresholds(changes, sentence):
    (line,) = advice(report(**changes))
    assert sentence in line
    assert line in drift_text(report(**changes))


def test_without_old_items_nothing_is_claimed_about_them():
    alone = {key: value for key, value in report(error=9).items() if key != "old"}
    assert advice(alone) == [
        "How the old items fit is not known: give --reference, embeddings of old items, to compare with."
    ]
    assert "old items that share their code: 25.0%" in drift_text(alone)


def test_what_the_old_items_fit_is_written_when_they_are_built_and_compared_with_later(tmp_path):
    for name, count, seed in (("old", 60, 1), ("new", 5, 2)):
        rows = np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", rows)
        write_jsonl(tmp_path / f"{name}.jsonl", [{"item_id": f"{name} {row}"} for row in range(count)])
    settings = IdentifierSettings(scheme="residual-kmeans", kmeans_clusters=8, codebook_size=8)
    bundle = build_identifiers(tmp_path / "old.npy", tmp_path / "old.jsonl", tmp_path / "ids", settings).bundle
    old = np.load(tmp_path / "old.npy")
    assert bundle.report["fit"] == baseline(load_codec(bundle), old)
    updated = add(tmp_path / "ids", tmp_path / "new.npy", tmp_path / "new.jsonl")
    assert "How the old items fit is not known" not in updated.summary
    added = read_json(tmp_path / "ids/segments/000001/report.json")
    assert added["old"] == bundle.report["fit"]
