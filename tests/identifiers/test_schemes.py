"""Every scheme of build_identifiers: identifiers are unique, of one length and decodable, in degenerate catalogues too."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from building import WIDTH, build, write_captions, write_catalogue

from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.rqvae.network import RQVAE
from preprocess.identifiers.codec import load_codec
from preprocess.identifiers.encode import reconstruction_error
from preprocess.identifiers.schemes import coarse_fine
from preprocess.identifiers.schemes.named import SCHEMES
from preprocess.identifiers.settings import SCHEME_HELP, RQVAESettings

MOVABLE = [name for name, scheme in SCHEMES.items() if scheme.movable]


@pytest.fixture(autouse=True)
def untrained(monkeypatch):
    """The RQ-VAE as it is before its first update, with fitted codebooks."""

    def train(residuals: Path, work: Path, settings: RQVAESettings, *rest: Any) -> RQVAE:
        rows = np.load(residuals, mmap_mode="r")
        torch.manual_seed(settings.seed)
        rqvae = RQVAE(rows.shape[1], settings.latent_dim, settings.codebooks, settings.codebook_size)
        rqvae.initialise_codebooks(torch.from_numpy(rows[:5000]), settings.seed)
        return rqvae.requires_grad_(False).eval()

    monkeypatch.setattr(coarse_fine, "train_rqvae", train)


def points(count: int) -> np.ndarray:
    draw = np.random.default_rng(3)
    blobs = 10 * draw.standard_normal((6, WIDTH))[np.arange(count) % 6] + draw.standard_normal((count, WIDTH))
    return blobs.astype(np.float32)


def make(folder: Path, embeddings: np.ndarray, **changes: Any) -> IdentifierBundle:
    """Of equal embeddings the captions are equal, too."""
    names = np.unique(embeddings, axis=0, return_inverse=True)[1].reshape(-1)
    write_captions(write_catalogue(folder, embeddings), [f"Thing {name // 9}, number {name % 9}" for name in names])
    return build(folder, **changes).bundle


def check(bundle: IdentifierBundle, embeddings: np.ndarray) -> None:
    """Unique, of one length, in range; the codec decodes the values; the prefix tree finds every item."""
    bundle.verify()
    assert bundle.values.shape == (len(embeddings), bundle.length)
    assert len(np.unique(bundle.values, axis=0)) == len(embeddings)
    codec = load_codec(bundle)
    assert list(bundle.positions[: len(codec.positions)]) == codec.positions
    codes = np.asarray(bundle.values[:, : len(codec.positions)])
    decoded = codec.decode(codes)
    assert decoded.shape == embeddings.shape
    assert np.isfinite(decoded).all()
    error = reconstruction_error(codec, embeddings, codes)
    assert error == pytest.approx(bundle.report["reconstruction_error"], rel=1e-4, abs=1e-6)
    if "nearest_free" not in bundle.report and bundle.report["scheme"] != "semantic":
        np.testing.assert_array_equal(codec.encode(embeddings), codes)
    sizes = [position.size for position in bundle.positions]
    trie = IdentifierTrie.build(bundle.values, sizes, bundle.offsets.tolist())
    assert sorted(trie.rows.tolist()) == list(range(len(embeddings)))


@pytest.mark.parametrize(
    ("scheme", "positions"),
    [
        ("residual-kmeans", [("k", 8), ("v1", 8), ("v2", 8), ("u", 32)]),
        ("structured", [("h1", 10), ("h2", 10), ("h3", 10), ("u", 10)]),
        ("atomic", [("u", 152)]),
        # thing, number, 0 to 13; the end
        ("semantic", [("w1", 17), ("w2", 17), ("w3", 17), ("w4", 17), ("u", 32)]),
    ],
)
def test_identifiers_of_the_other_schemes(tmp_path, scheme, positions):
    embeddings = points(120)
    bundle = make(tmp_path, embeddings, scheme=scheme)
    check(bundle, embeddings)
    assert [(p.name, p.size) for p in bundle.positions] == positions
    report = bundle.report
    assert report["scheme"] == scheme
    assert [level["name"] for level in report["levels"]] == ([n for n, _ in positions[:-1]] or ["u"])
    if scheme == "atomic":
        assert bundle.values[:, 0].tolist() == list(range(120))
    if scheme in ("atomic", "semantic"):
        assert report["reconstruction_error"] == pytest.approx(1)
        assert (report["collision_rate"], report["unique_codes"]) == (0, 120)
    else:
        assert report["reconstruction_error"] < 0.2


DEGENERATE = {
    "all equal": np.ones((40, WIDTH), dtype=np.float32),
    "one item": points(1),
    "fewer items than clusters": points(5),
    "10,000 on one code": np.concatenate([points(50), np.full((10_000, WIDTH), 3, dtype=np.float32)]),
}
RESOLVED = [(scheme, "unique") for scheme in SCHEMES]
RESOLVED += [(scheme, "nearest-free") for scheme in MOVABLE]


@pytest.mark.parametrize("embeddings", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize(("scheme", "collisions"), RESOLVED)
def test_degenerate_catalogues(tmp_path, scheme, collisions, embeddings):
    bundle = make(tmp_path, embeddings, scheme=scheme, collisions=collisions, allow_collapse=True, unique_size=16)
    check(bundle, embeddings)
    if len(embeddings) > 10_000 and scheme != "atomic":
        # equal items may fall on two codes, where two centres are as near as rounding can tell
        most = bundle.report["max_collisions"]
        assert most > 16**3  # so that one digit is not enough, nor three
        base = 10 if scheme == "structured" else 16
        assert bundle.length == len(load_codec(bundle).positions) + math.ceil(math.log(most, base))


@pytest.mark.parametrize("extra", [{}, {"normalize": True, "pca": 4}], ids=["plain", "normalised, pca"])
@pytest.mark.parametrize("scheme", MOVABLE)
def test_collisions_move_to_free_codes_and_the_cost_is_reported(tmp_path, scheme, extra):
    embeddings = points(300)
    unique = make(tmp_path, embeddings, scheme=scheme, allow_collapse=True, **extra)
    codes = np.array(unique.values[:, :3])
    before = dict(unique.report)
    assert before["collision_rate"] > 0.1
    built = build(tmp_path, scheme=scheme, allow_collapse=True, collisions="nearest-free", **extra)
    moved = built.bundle
    check(moved, embeddings)
    after, figures = moved.report, moved.report["nearest_free"]
    assert after["collision_rate"] < before["collision_rate"] / 2
    assert figures["before"]["collision_rate"] == before["collision_rate"]
    extra_error = after["reconstruction_error"] - before["reconstruction_error"]
    assert figures["extra_reconstruction_error"] == pytest.approx(extra_error, abs=1e-6)
    changed = (np.asarray(moved.values[:, :3]) != codes).any(axis=1)
    assert changed.sum() == sum(figures["moved"].values()) > 0
    np.testing.assert_array_equal(moved.values[:, 0], codes[:, 0])
    # Nobody moves who had a code alone.
    _, group, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    assert (counts[group.reshape(-1)][changed] > 1).all()
    assert f"moved to free codes   {changed.sum()} items" in built.summary


@pytest.mark.parametrize("scheme", ["hierarchical-kmeans", "atomic", "structured", "semantic"])
def test_schemes_without_free_codes_cannot_move_items(tmp_path, scheme):
    message = "--collisions nearest-free needs one of the schemes coarse-fine, rqvae, residual-kmeans"
    with pytest.raises(ValueError, match=message):
        make(tmp_path, points(30), scheme=scheme, collisions="nearest-free")


@pytest.mark.parametrize(
    ("scheme", "count", "words"),
    [("structured", 9, "9 items are too few for a tree of 10"), ("residual-kmeans", 1, "only 1 item")],
)
def test_too_few_items_are_refused(tmp_path, scheme, count, words):
    with pytest.raises(ValueError, match=words):
        make(tmp_path, points(count), scheme=scheme)


def test_atomic_identifiers_need_no_clusters(tmp_path):
    check(make(tmp_path, points(1), scheme="atomic"), points(1))


def test_every_scheme_of_the_command_line_is_there_under_its_name():
    assert list(SCHEMES) == list(SCHEME_HELP)
    assert all(scheme.name == name for name, scheme in SCHEMES.items())


def test_a_codec_is_restored_by_the_scheme_that_its_bundle_names(tmp_path):
    bundle = make(tmp_path, points(30), scheme="residual-kmeans")
    for settings, message in (
        ({}, r"codec\.json: names no scheme, so there is no codec in it; build the identifiers again"),
        ({"scheme": "trie"}, r"codec\.json: scheme is 'trie', not one of coarse-fine, rqvae"),
        ({"scheme": "atomic"}, r"codec\.safetensors: lacks the tensor 'atomic\.mean'"),
    ):
        bundle.codec_settings = settings
        with pytest.raises(ValueError, match=message):
            load_codec(bundle)
