"""preprocess.build_identifiers on catalogues that are read in blocks: samples, tables, options, kills, many alike."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_build_identifiers import CODES, ITEMS, SMALL, WIDTH, catalogue, points, refusal, training_here

from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess import build_identifiers
from preprocess.identifiers import clustering, encode, fitting
from preprocess.identifiers.clustering import assign, fit_centres
from preprocess.identifiers.codec import load_codec
from preprocess.identifiers.fitting import Settings, fit_codec
from preprocess.identifiers.rqvae_runner import TrainingSettings

__all__ = ["training_here"]  # a fixture
STREAMED = [*SMALL, "--block-rows", "7", "--train-sample", "90"]


@pytest.mark.parametrize("scheme", ["coarse-fine", "rqvae", "hierarchical-kmeans"])
def test_fitted_on_a_sample_every_item_gets_what_the_codec_says(tmp_path, monkeypatch, training_here, scheme):
    rows: list[int] = []
    inner = fitting.train_rqvae

    def spy(residuals: Path, *more):
        rows.append(len(np.load(residuals)))
        return inner(residuals, *more)

    monkeypatch.setattr(fitting, "train_rqvae", spy)
    build_identifiers.main([*catalogue(tmp_path, points()), *STREAMED, "--scheme", scheme])
    bundle = IdentifierBundle.load(tmp_path / "identifiers")
    codec = load_codec(bundle)
    encoded = np.concatenate([codec.encode(points()[start : start + 7]) for start in range(0, ITEMS, 7)])
    np.testing.assert_array_equal(encoded, bundle.values[:, : len(codec.positions)])
    assert len(np.unique(bundle.values, axis=0)) == ITEMS
    assert bundle.report["fitted_on"] == 90
    assert rows == ([] if scheme == "hierarchical-kmeans" else [90])


@pytest.mark.parametrize("options", [["--normalize"], ["--pca", "3"], ["--normalize", "--pca", "4"]])
def test_normalisation_and_pca_are_part_of_the_codec(tmp_path, training_here, options):
    build_identifiers.main([*catalogue(tmp_path, points()), *SMALL, *options])
    bundle = IdentifierBundle.load(tmp_path / "identifiers")
    codec = load_codec(bundle)
    np.testing.assert_array_equal(codec.encode(points()), bundle.values[:, :3])
    if "--normalize" in options:
        np.testing.assert_array_equal(codec.encode(points() * np.float32(4)), bundle.values[:, :3])
    assert codec.decode(bundle.values[:, :3]).shape == (ITEMS, WIDTH)
    assert bundle.codec_settings["settings"]["normalize"] is ("--normalize" in options)
    assert bundle.codec_settings["settings"]["pca"] == (int(options[-1]) if "--pca" in options else None)
    assert 0 < bundle.report["reconstruction_error"] < 1


def test_too_many_components_are_refused(tmp_path, capsys):
    message = refusal(capsys, [*catalogue(tmp_path, points()), *SMALL, "--pca", "7"])
    assert "--pca 7: there are only 120 rows of 6 dimensions" in message


def test_a_table_gives_the_same_bundle_as_an_array(tmp_path, capsys):
    argv = [*catalogue(tmp_path, points()), *STREAMED, "--scheme", "hierarchical-kmeans"]
    build_identifiers.main(argv)
    (tmp_path / "tables").mkdir()
    for name, part in (("0.parquet", points()[:50]), ("1.parquet", points()[50:])):
        table = pa.table({"clip": pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), WIDTH)})
        pq.write_table(table, tmp_path / "tables" / name, row_group_size=20)
    argv[1] = str(tmp_path / "tables")
    assert "no column 'embedding' among clip" in refusal(capsys, argv)
    build_identifiers.main([*argv, "--embedding-column", "clip"])
    assert "up to date" in capsys.readouterr().out
    first = np.array(IdentifierBundle.load(tmp_path / "identifiers").values)
    build_identifiers.main([*argv, "--embedding-column", "clip", "--output", str(tmp_path / "again")])
    np.testing.assert_array_equal(IdentifierBundle.load(tmp_path / "again").values, first)


def test_k_means_by_batches_finds_the_blobs(monkeypatch):
    monkeypatch.setattr(clustering, "BATCH_ROWS_PER_CENTRE", 4)
    blobs = points(600)
    centres = fit_centres(blobs, 6, "minibatch", seed=1, block_rows=50)
    np.testing.assert_array_equal(centres, fit_centres(blobs, 6, "minibatch", seed=1, block_rows=50))
    expected = np.stack([blobs[np.arange(600) % 6 == blob].mean(axis=0) for blob in range(6)])
    # Blobs are far apart: every item finds its own, whose mean lies where the batches put the centre.
    found = assign(expected, centres)
    assert sorted(found) == list(range(6))
    np.testing.assert_allclose(centres[found], expected, atol=0.5)


def start(argv: list[str]) -> None:
    """A build in a process of its own, with checkpoints after every second block."""
    encode.CHECKPOINT_BLOCKS = 2
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    build_identifiers.main(argv)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork for many cheap starts")
@pytest.mark.parametrize("scheme", ["coarse-fine", "hierarchical-kmeans"])
def test_killed_at_random_points_it_ends_as_if_it_had_not_been(tmp_path, training_here, scheme):
    folders = [tmp_path / "killed", tmp_path / "unbroken"]
    for folder in folders:
        folder.mkdir()
    options = [*STREAMED, "--scheme", scheme, "--pca", "5"]
    killed, unbroken = ([*catalogue(folder, points()), *options] for folder in folders)
    build_identifiers.main([*killed, "--scheme", "hierarchical-kmeans", "--seed", "2"])  # an older bundle
    old = np.array(IdentifierBundle.load(folders[0] / "identifiers").values)
    began = time.perf_counter()
    build_identifiers.main(unbroken)
    whole = time.perf_counter() - began
    expected = np.array(IdentifierBundle.load(folders[1] / "identifiers").values)

    fork, draw, kills = multiprocessing.get_context("fork"), np.random.default_rng(7), 0
    while kills < 12:
        process = fork.Process(target=start, args=(killed,))
        process.start()
        process.join(draw.uniform(0, whole / 3 if kills < 8 else whole))
        if process.exitcode is None:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        assert process.exitcode in (0, -signal.SIGKILL), "a build after a kill failed; see the standard error"
        if (folders[0] / "identifiers").exists():
            bundle = IdentifierBundle.load(folders[0] / "identifiers")
            bundle.verify()
            assert any(np.array_equal(bundle.values, values) for values in (old, expected))
        if process.exitcode == 0:
            break
    build_identifiers.main(killed)
    assert kills > 0
    for file in CODES:
        found, wanted = ((folder / "identifiers" / file).read_bytes() for folder in folders)
        assert found == wanted, file
    assert sorted(path.name for path in folders[0].iterdir()) == ["embeddings.npy", "identifiers", "items.jsonl"]


@pytest.mark.parametrize("scheme", ["coarse-fine", "rqvae", "hierarchical-kmeans"])
def test_a_hundred_thousand_items_on_one_code(tmp_path, training_here, scheme):
    embeddings = np.tile(points(1), (100_000, 1))
    embeddings[:9] = points(9)
    options = [*SMALL, "--epochs", "1", "--block-rows", "16384", "--unique-size", "128", "--allow-collapse"]
    build_identifiers.main([*catalogue(tmp_path, embeddings), *options, "--scheme", scheme])
    bundle = IdentifierBundle.load(tmp_path / "identifiers")
    assert bundle.length == 6
    assert bundle.report["max_collisions"] >= 99_992
    assert len(np.unique(bundle.values @ np.array([10**9, 10**8, 10**7, 128**2, 128, 1]))) == 100_000
    assert bundle.values[-1, 3:].tolist() == [
        (bundle.report["max_collisions"] - 1) // p % 128 for p in (128**2, 128, 1)
    ]


def test_stages_that_are_there_are_not_computed_again(tmp_path, monkeypatch, training_here):
    training = TrainingSettings(2, 8, 4, 2, 1, 32, 1)
    settings = Settings("coarse-fine", 8, "minibatch", training, True, 4, 90, 7)
    first = fit_codec(points(), settings, tmp_path).tensors()
    (tmp_path / "codec.safetensors").unlink()
    for name in ("fit_centres", "write_residuals"):
        monkeypatch.setattr(fitting, name, None)
    monkeypatch.setattr(fitting.Transform, "fit", None)
    again = fit_codec(points(), settings, tmp_path).tensors()
    assert first.keys() == again.keys()
    for name, tensor in first.items():
        np.testing.assert_array_equal(again[name], tensor)
