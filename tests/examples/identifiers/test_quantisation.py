"""examples/identifiers: quantisation error beside faiss's, collisions of a large synthetic catalogue."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import load_example

from cart_fairseq.catalogue.identifiers import write_bundle
from cart_fairseq.catalogue.positions import unique_positions, unique_tokens
from cart_fairseq.rqvae.network import RQVAE
from preprocess.identifiers.schemes.coarse_fine import ResidualCodec
from preprocess.identifiers.schemes.residual_kmeans import ResidualKMeansCodec

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "identifiers"


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    return {name: load_example("identifiers", name) for name in ("synthetic", "quantisation", "collisions")}


def test_synthetic_vectors_are_the_same_however_they_are_read(scripts):
    vectors = scripts["synthetic"].ClusteredVectors(10_000, 32, used=4, centres=5, spread=0.1, seed=1)
    whole = vectors[:]
    assert whole.shape == (10_000, 32)
    assert whole.dtype == np.float16
    np.testing.assert_array_equal(vectors[4000:4200], whole[4000:4200])
    np.testing.assert_array_equal(vectors[np.array([9999, 3, 4096])], whole[[9999, 3, 4096]])
    assert (whole[:, 4:] == 0).all()
    distances = np.linalg.norm(whole[:, None, :4].astype(np.float32) - vectors.centres[None], axis=2)
    assert np.sqrt(np.square(distances.min(axis=1)).mean() / 4) == pytest.approx(0.1, rel=0.05)
    assert len(np.unique(distances.argmin(axis=1))) == 5


def codec_for(points: np.ndarray) -> ResidualCodec:
    """k-means centres, and an RQ-VAE without training whose codebooks are fitted to its latents."""
    torch.manual_seed(1)
    rqvae = RQVAE(points.shape[1], 8, 2, 16).requires_grad_(False).eval()
    centres = ResidualKMeansCodec.fit(points, [16], "lloyd", seed=1).centres[0]
    codec = ResidualCodec(centres, 16, rqvae, 1.0)
    nearest = codec.encode(points)[:, 0]
    rqvae.initialise_codebooks(torch.from_numpy(points - centres[nearest]), seed=1)
    return codec


def test_codebooks_fitted_by_k_means_are_as_good_as_faiss(scripts, tmp_path, capsys):
    pytest.importorskip("faiss")
    points = np.random.default_rng(0).standard_normal((800, 12)).astype(np.float32)
    codec = codec_for(points)
    codes = codec.encode(points)
    unique = unique_tokens(codes, 8)
    np.save(tmp_path / "embeddings.npy", points)
    items = [{"item_id": str(row)} for row in range(len(points))]
    positions = [*codec.positions, *unique_positions(unique.shape[1], 8)]
    write_bundle(
        tmp_path / "identifiers",
        np.concatenate([codes, unique], 1),
        positions,
        items,
        {},
        codec.tensors(),
        {"scheme": "coarse-fine"},
    )
    argv = ["--identifiers", tmp_path / "identifiers", "--embeddings", tmp_path / "embeddings.npy"]
    scripts["quantisation"].main([str(part) for part in [*argv, "--json", tmp_path / "out.json"]])
    found = json.loads((tmp_path / "out.json").read_text())
    assert "commit" in found
    assert found["machine"]["processor"]
    assert found["settings"]
    assert found["latents"]["sizes"] == [16, 16]
    assert found["raw"]["sizes"] == [16, 16, 16]
    assert found["latents"]["ours"] / found["latents"]["faiss"] == pytest.approx(1, abs=0.05)
    assert found["raw"]["residual_kmeans"] / found["raw"]["faiss"] == pytest.approx(1, abs=0.05)
    assert found["raw"]["ours"] > found["raw"]["faiss"]
    printed = capsys.readouterr().out
    assert f"{found['latents']['ours']:.4f}" in printed
    assert "16 x 16 x 16 values" in printed


def test_errors_are_relative_to_the_variance(scripts):
    points = np.array([[0.0, 0.0], [2.0, 0.0]], dtype=np.float32)
    assert scripts["quantisation"].relative_error(points, points) == 0
    assert scripts["quantisation"].relative_error(points, np.full((2, 2), [1, 0], dtype=np.float32)) == 1


def test_bundles_without_rq_vae_are_refused(scripts):
    points = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    codec = ResidualKMeansCodec.fit(points, [4, 4], "lloyd", seed=1)
    with pytest.raises(ValueError, match="no RQ-VAE"):
        scripts["quantisation"].compare(codec, points)


def test_collisions_before_and_after(scripts, tmp_path, capsys):
    options = ["--items", "3e3", "--scheme", "residual-kmeans", "--sizes", "16", "--dimension", "64"]
    scripts["collisions"].main([*options, "--sample", "1000", "--json", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert "commit" in found
    assert found["machine"]["processor"]
    assert found["settings"]
    rate, error = found["collision_rate"], found["reconstruction_error"]
    assert rate["before"] > 0.5 > 2 * rate["after"]
    assert 0 < error["before"] < error["after"] < 1
    assert error["extra"] == pytest.approx(error["after"] - error["before"])
    assert set(found["utilisation"]["after"]) == {"k", "v1", "v2"}
    assert f"{rate['before']:.2%}" in capsys.readouterr().out
