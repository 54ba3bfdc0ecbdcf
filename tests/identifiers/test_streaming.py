"""build_identifiers on catalogues that are read in blocks: samples, tables, options, kills, many alike."""

import dataclasses
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from building import CODES, ITEMS, SMALL, WIDTH, build, points, training_here, write_catalogue
from processes import forked, needs_fork

from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.identifiers import clustering, encode, fitting
from preprocess.identifiers.clustering import fit_centres, nearest_centres
from preprocess.identifiers.codec import load_codec
from preprocess.identifiers.fitting import fit_codec, fit_settings
from preprocess.identifiers.schemes import coarse_fine
from preprocess.identifiers.schemes.named import SCHEMES

__all__ = ["training_here"]  # a fixture
STREAMED: dict[str, Any] = {"block_rows": 7, "train_sample": 90}


@pytest.mark.parametrize("scheme", ["coarse-fine", "rqvae", "hierarchical-kmeans"])
def test_fitted_on_a_sample_every_item_gets_what_the_codec_says(tmp_path, monkeypatch, training_here, scheme):
    rows: list[int] = []
    inner = coarse_fine.train_rqvae

    def spy(residuals: Path, *more):
        rows.append(len(np.load(residuals)))
        return inner(residuals, *more)

    monkeypatch.setattr(coarse_fine, "train_rqvae", spy)
    bundle = build(write_catalogue(tmp_path, points()), scheme=scheme, **STREAMED).bundle
    codec = load_codec(bundle)
    encoded = np.concatenate([codec.encode(points()[start : start + 7]) for start in range(0, ITEMS, 7)])
    np.testing.assert_array_equal(encoded, bundle.values[:, : len(codec.positions)])
    assert len(np.unique(bundle.values, axis=0)) == ITEMS
    assert bundle.report["fitted_on"] == 90
    assert rows == ([] if scheme == "hierarchical-kmeans" else [90])


@pytest.mark.parametrize("options", [{"normalize": True}, {"pca": 3}, {"normalize": True, "pca": 4}])
def test_normalisation_and_pca_are_part_of_the_codec(tmp_path, training_here, options):
    bundle = build(write_catalogue(tmp_path, points()), **options).bundle
    codec = load_codec(bundle)
    np.testing.assert_array_equal(codec.encode(points()), bundle.values[:, :3])
    if "normalize" in options:
        np.testing.assert_array_equal(codec.encode(points() * np.float32(4)), bundle.values[:, :3])
    assert codec.decode(bundle.values[:, :3]).shape == (ITEMS, WIDTH)
    assert bundle.codec_settings["settings"]["normalize"] is options.get("normalize", False)
    assert bundle.codec_settings["settings"]["pca"] == options.get("pca")
    assert 0 < bundle.report["reconstruction_error"] < 1


def test_too_many_components_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--pca 7: there are only 120 rows of 6 dimensions"):
        build(write_catalogue(tmp_path, points()), pca=7)


def test_a_table_gives_the_same_bundle_as_an_array(tmp_path):
    write_catalogue(tmp_path, points())
    options = {"scheme": "hierarchical-kmeans", **STREAMED}
    first = np.array(build(tmp_path, **options).bundle.values)
    (tmp_path / "tables").mkdir()
    for name, part in (("0.parquet", points()[:50]), ("1.parquet", points()[50:])):
        table = pa.table({"clip": pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), WIDTH)})
        pq.write_table(table, tmp_path / "tables" / name, row_group_size=20)
    with pytest.raises(ValueError, match="no column 'embedding' among clip"):
        build(tmp_path, embeddings="tables", **options)
    assert not build(tmp_path, embeddings="tables", embedding_column="clip", **options).is_new
    again = build(tmp_path, "again", embeddings="tables", embedding_column="clip", **options)
    np.testing.assert_array_equal(again.bundle.values, first)


def test_k_means_by_batches_finds_the_blobs(monkeypatch):
    monkeypatch.setattr(clustering, "BATCH_ROWS_PER_CENTRE", 4)
    blobs = points(600)
    centres = fit_centres(blobs, 6, "minibatch", seed=1, block_rows=50)
    np.testing.assert_array_equal(centres, fit_centres(blobs, 6, "minibatch", seed=1, block_rows=50))
    expected = np.stack([blobs[np.arange(600) % 6 == blob].mean(axis=0) for blob in range(6)])
    # Blobs are far apart: every item finds its own, whose mean lies where the batches put the centre.
    found = nearest_centres(expected, centres)
    assert sorted(found) == list(range(6))
    np.testing.assert_allclose(centres[found], expected, atol=0.5)


def start(folder: Path, options: dict[str, Any]) -> None:
    """A build in a process of its own, with checkpoints after every second block."""
    encode.CHECKPOINT_BLOCKS = 2
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    build(folder, **options)


@needs_fork  # for many cheap starts
@pytest.mark.parametrize("scheme", ["coarse-fine", "hierarchical-kmeans"])
def test_killed_at_random_points_it_ends_as_if_it_had_not_been(tmp_path, training_here, scheme):
    folders = [write_catalogue(tmp_path / name, points()) for name in ("killed", "unbroken")]
    options = {**STREAMED, "scheme": scheme, "pca": 5}
    older = build(folders[0], **{**options, "scheme": "hierarchical-kmeans", "seed": 2})
    old = np.array(older.bundle.values)
    began = time.perf_counter()
    expected = np.array(build(folders[1], **options).bundle.values)
    whole = time.perf_counter() - began

    draw, kills = np.random.default_rng(7), 0
    while kills < 12:
        with forked(start, folders[0], options) as process:
            process.join(draw.uniform(0, whole / 3 if kills < 8 else whole))
        kills += process.exitcode != 0
        assert process.exitcode in (0, -signal.SIGKILL), "a build after a kill failed; see the standard error"
        if (folders[0] / "identifiers").exists():
            bundle = IdentifierBundle.load(folders[0] / "identifiers")
            bundle.verify()
            assert any(np.array_equal(bundle.values, values) for values in (old, expected))
        if process.exitcode == 0:
            break
    build(folders[0], **options)
    assert kills > 0
    for file in CODES:
        found, wanted = ((folder / "identifiers" / file).read_bytes() for folder in folders)
        assert found == wanted, file
    assert sorted(path.name for path in folders[0].iterdir()) == ["embeddings.npy", "identifiers", "items.jsonl"]


@pytest.mark.parametrize("scheme", ["coarse-fine", "rqvae", "hierarchical-kmeans"])
def test_twenty_thousand_items_on_one_code(tmp_path, training_here, scheme):
    """More than 128 * 128, so that the unique token has three symbols."""
    embeddings = np.tile(points(1), (20_000, 1))
    embeddings[:9] = points(9)
    write_catalogue(tmp_path, embeddings)
    bundle = build(tmp_path, scheme=scheme, epochs=1, unique_size=128, allow_collapse=True).bundle
    assert bundle.length == 6
    assert bundle.report["max_collisions"] >= 19_992
    assert len(np.unique(bundle.values @ np.array([10**9, 10**8, 10**7, 128**2, 128, 1]))) == 20_000
    assert bundle.values[-1, 3:].tolist() == [
        (bundle.report["max_collisions"] - 1) // p % 128 for p in (128**2, 128, 1)
    ]


def test_stages_that_are_there_are_not_computed_again(tmp_path, monkeypatch, training_here):
    settings = dataclasses.replace(SMALL, normalize=True, pca=4, epochs=2, batch_size=32, **STREAMED)
    first = fit_codec(SCHEMES[settings.scheme], points(), fit_settings(settings, ITEMS), tmp_path).tensors()
    (tmp_path / "codec.safetensors").unlink()
    for name in ("fit_centres", "write_residuals"):
        monkeypatch.setattr(coarse_fine, name, None)
    monkeypatch.setattr(fitting.Transform, "fit", None)
    again = fit_codec(SCHEMES[settings.scheme], points(), fit_settings(settings, ITEMS), tmp_path).tensors()
    assert first.keys() == again.keys()
    for name, tensor in first.items():
        np.testing.assert_array_equal(again[name], tensor)
