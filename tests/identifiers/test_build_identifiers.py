"""preprocess.build_identifiers: the step and its command, the report, refusals, and what survives being killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from building import CODES, ITEMS, WIDTH, build, command_line, points, training_here, write_catalogue

from cart_fairseq.base.processes import run_script
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.positions import Position
from cart_fairseq.rqvae.network import RQVAE
from preprocess import build_identifiers
from preprocess.data.arguments import settings_from
from preprocess.identifiers.encode import reconstruction_error
from preprocess.identifiers.report import report_text
from preprocess.identifiers.schemes import coarse_fine
from preprocess.identifiers.schemes.coarse_fine import ResidualCodec
from preprocess.identifiers.settings import IdentifierSettings

__all__ = ["training_here"]  # a fixture


@pytest.mark.parametrize(
    ("scheme", "names"),
    [
        ("coarse-fine", ["k", "v1", "v2", "u"]),
        ("rqvae", ["v1", "v2", "v3", "u"]),
        ("hierarchical-kmeans", ["h1", "h2", "h3", "u"]),
    ],
)
def test_every_scheme_gives_every_item_its_own_identifier(tmp_path, training_here, scheme, names):
    write_catalogue(tmp_path, points())
    built = build(tmp_path, scheme=scheme)
    bundle = IdentifierBundle.load(tmp_path / "identifiers")
    bundle.verify()
    assert built.is_new
    assert built.bundle.state == bundle.state
    assert [p.name for p in bundle.positions] == names
    assert [p.size for p in bundle.positions] == [8, 8, 8, 32]
    assert len(np.unique(bundle.values, axis=0)) == len(bundle) == ITEMS
    assert bundle.item_ids[5] == "item 5"
    assert bundle.record(5) == {"item_id": "item 5", "split": "train", "n": 5}
    # Identical items share everything but the unique value, counted in row order.
    assert bundle.values[0, :3].tolist() == bundle.values[1, :3].tolist()
    assert bundle.values[:2, 3].tolist() == [0, 1]

    report = bundle.report
    shared = np.unique(bundle.values[:, :3], axis=0, return_counts=True)[1]
    assert report["scheme"] == scheme
    assert (report["items"], report["unique_codes"], report["max_collisions"]) == (ITEMS, len(shared), shared.max())
    assert report["collision_rate"] == pytest.approx(shared[shared > 1].sum() / ITEMS)
    assert [level["name"] for level in report["levels"]] == names[:-1]
    assert 0 <= report["reconstruction_error"] < 1
    assert report["seconds"] > 0
    assert report["peak_memory_bytes"] > 0
    assert report_text(report) in built.summary
    assert not (tmp_path / "identifiers.partial").exists()

    before = (tmp_path / "identifiers" / "manifest.json").stat().st_mtime_ns
    again = build(tmp_path, scheme=scheme)
    assert not again.is_new
    assert "up to date" in again.summary
    assert (tmp_path / "identifiers" / "manifest.json").stat().st_mtime_ns == before


def test_the_command_is_the_step_with_its_settings(tmp_path, capsys):
    write_catalogue(tmp_path, points())
    build_identifiers.main(command_line(tmp_path, "--scheme", "hierarchical-kmeans"))
    assert f"written to {tmp_path / 'identifiers'}" in capsys.readouterr().out
    assert not build(tmp_path, scheme="hierarchical-kmeans").is_new
    build_identifiers.main(command_line(tmp_path, "--scheme", "hierarchical-kmeans"))
    assert "up to date" in capsys.readouterr().out


def test_the_settings_have_the_defaults_of_the_command():
    args = build_identifiers.parser().parse_args(["--embeddings", "e", "--items", "i", "--output", "o"])
    assert settings_from(IdentifierSettings, args) == IdentifierSettings()


def test_residuals_are_embeddings_minus_centres_and_the_codec_is_saved(tmp_path, monkeypatch, training_here):
    """CART 3.2.2, for every item; and values follow from the saved codec alone."""
    seen: dict[str, Any] = {}
    inner = coarse_fine.train_rqvae

    def spy(residuals: Path, *more: Any) -> RQVAE:
        seen["residuals"] = np.load(residuals)
        return inner(residuals, *more)

    monkeypatch.setattr(coarse_fine, "train_rqvae", spy)
    embeddings = points()
    bundle = build(write_catalogue(tmp_path, embeddings)).bundle
    tensors = bundle.codec_tensors()
    expected = embeddings - tensors["centres"][bundle.values[:, 0]]
    np.testing.assert_allclose(seen["residuals"] * tensors["scale"], expected, atol=1e-5)
    assert np.sqrt(np.mean(seen["residuals"] ** 2)) == pytest.approx(1, abs=1e-4)
    distances = np.linalg.norm(embeddings[:, None] - tensors["centres"][None], axis=2)
    np.testing.assert_array_equal(bundle.values[:, 0], distances.argmin(axis=1))

    rqvae = RQVAE(WIDTH, 4, 2, 8)
    weights = {name[6:]: torch.from_numpy(t) for name, t in tensors.items() if name.startswith("rqvae.")}
    rqvae.load_state_dict(weights)
    codec = ResidualCodec(tensors["centres"], 8, rqvae, float(tensors["scale"][0]))
    np.testing.assert_array_equal(codec.encode(embeddings), bundle.values[:, :3])
    assert reconstruction_error(codec, embeddings, bundle.values[:, :3]) == bundle.report["reconstruction_error"]


def test_scale_of_the_embeddings_does_not_matter(tmp_path, training_here):
    values = []
    for name, factor in (("one", 1), ("many", 1024)):
        folder = write_catalogue(tmp_path / name, points() * np.float32(factor))
        values.append(np.array(build(folder).bundle.values))
    np.testing.assert_array_equal(values[0], values[1])


def test_shards_give_the_same_bundle_as_one_file(tmp_path):
    write_catalogue(tmp_path, points())
    build(tmp_path, scheme="hierarchical-kmeans")
    (tmp_path / "shards").mkdir()
    for name, part in (("0.npy", points()[:50]), ("1.npy", points()[50:])):
        np.save(tmp_path / "shards" / name, part)
    assert not build(tmp_path, embeddings="shards", scheme="hierarchical-kmeans").is_new


def test_other_settings_and_damaged_bundles_are_built_again(tmp_path, capsys):
    write_catalogue(tmp_path, points())
    first = np.array(build(tmp_path, scheme="hierarchical-kmeans").bundle.values)
    other = build(tmp_path, scheme="hierarchical-kmeans", kmeans_clusters=5)
    assert other.bundle.positions[0] == Position("h1", 5)
    build(tmp_path, scheme="hierarchical-kmeans")
    path = tmp_path / "identifiers" / "identifiers.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    capsys.readouterr()
    again = build(tmp_path, scheme="hierarchical-kmeans")
    assert "building it again" in capsys.readouterr().err
    np.testing.assert_array_equal(again.bundle.values, first)


def test_the_record_of_a_bundle_is_what_earlier_versions_wrote(tmp_path):
    """Otherwise bundles of earlier versions would not be taken for current, and be built again."""
    write_catalogue(tmp_path, points())
    record = build(tmp_path, scheme="residual-kmeans", normalize=True, batch_size=32).bundle.codec_settings
    training = {"codebooks": 2, "codebook_size": 8, "latent_dim": 4, "epochs": 6, "warmup_epochs": 3}
    assert {name: value for name, value in record.items() if name not in ("inputs_sha256", "settings_hash")} == {
        "scheme": "residual-kmeans",
        "dimension": 6,
        "settings": {
            "scheme": "residual-kmeans",
            "kmeans_clusters": 8,
            "kmeans": "minibatch",
            "training": {**training, "batch_size": 32, "seed": 1},
            "normalize": True,
            "pca": None,
            "train_sample": 200_000,
            "block_rows": 16_384,
            "version": 2,
        },
        "unique_size": 32,
        "collisions": "unique",
        "allow_collapse": False,
    }
    assert record["settings_hash"] == "d7f830120568992d07a0082f065674355bbe9ecdd34244d9f5455ae57aa547a2"


def test_a_killed_run_resumes_to_the_same_bundle(tmp_path, capsys, request):
    """The killed and the resumed run start fairseq-train as users do."""
    killed, unbroken = (write_catalogue(tmp_path / name, points()) for name in ("killed", "unbroken"))
    log = killed / "identifiers.partial" / "fairseq-train.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "preprocess.build_identifiers", *command_line(killed, "--epochs", "60")],
        start_new_session=True,
        cwd=Path(__file__).parents[2],
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not (log.parent / "checkpoints" / "checkpoint_last.pt").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert "done training" not in log.read_text()
    assert not (killed / "identifiers").exists()

    build(killed, epochs=60)
    assert "going on where an interrupted run stopped" in capsys.readouterr().out
    request.getfixturevalue("training_here")
    build(unbroken, epochs=60)
    for file in CODES:
        assert (killed / "identifiers" / file).read_bytes() == (unbroken / "identifiers" / file).read_bytes(), file


def test_failed_training_is_reported_and_leaves_the_old_bundle(tmp_path, monkeypatch):
    write_catalogue(tmp_path, points())
    build(tmp_path, scheme="hierarchical-kmeans")
    before = (tmp_path / "identifiers" / "manifest.json").read_bytes()
    (tmp_path / "python").write_text("#!/bin/sh\necho no memory left\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(OSError, match=r"fairseq-train ended with exit code 3: no memory left \(all of it in"):
        build(tmp_path)
    assert (tmp_path / "identifiers" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (points(1), "only 1 item"),
        (points(7), "7 items are too few for --kmeans-clusters 8"),
        (np.ones((20, WIDTH), dtype=np.float32), "all 20 embeddings are identical"),
    ],
    ids=["one", "few", "identical"],
)
@pytest.mark.parametrize("scheme", ["coarse-fine", "rqvae", "hierarchical-kmeans"])
def test_degenerate_catalogues_need_allow_collapse(tmp_path, training_here, embeddings, message, scheme):
    write_catalogue(tmp_path, embeddings)
    expected = message.replace("--kmeans-clusters", "--codebook-size") if scheme == "rqvae" else message
    with pytest.raises(ValueError, match=expected):
        build(tmp_path, scheme=scheme)
    assert not (tmp_path / "identifiers").exists()
    bundle = build(tmp_path, scheme=scheme, allow_collapse=True, unique_size=4).bundle
    assert len(np.unique(bundle.values, axis=0)) == len(embeddings)
    assert [p.size for p in bundle.positions[:3]] == [8, 8, 8]
    if message.startswith("all"):
        # 20 items on one code with 4 symbols for the unique value: it is spelled with three digits.
        assert bundle.length == 6
        assert bundle.values[:, 3:].tolist() == [[n // 16, n // 4 % 4, n % 4] for n in range(20)]


def test_a_collapsed_level_is_an_error_unless_allowed(tmp_path):
    embeddings = np.tile(points(1), (ITEMS, 1))
    embeddings[0] += 1
    write_catalogue(tmp_path, embeddings)
    with pytest.raises(ValueError, match=r"level h1 has collapsed: perplexity 1\.0 of at most 8"):
        build(tmp_path, scheme="hierarchical-kmeans")
    assert not (tmp_path / "identifiers").exists()
    built = build(tmp_path, scheme="hierarchical-kmeans", allow_collapse=True)
    assert built.bundle.report["max_collisions"] == ITEMS - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: np.save(folder / "embeddings.npy", points()[:-1]), "119 rows, but"),
        (lambda folder: np.save(folder / "embeddings.npy", points() * np.nan), "row 0, column 0: found nan"),
        (lambda folder: (folder / "embeddings.npy").unlink(), "cannot be read"),
        (lambda folder: (folder / "items.jsonl").write_bytes(b'{"item_id": "\xff"}'), "invalid UTF-8"),
        (lambda folder: (folder / "identifiers").write_text("notes"), "is a file; --output is a folder"),
        (lambda folder: (folder / "identifiers" / "photos").mkdir(parents=True), "are no identifier bundle"),
    ],
)
def test_bad_inputs_end_with_one_line_and_exit_code_2(tmp_path, capsys, change, message):
    change(write_catalogue(tmp_path, points()))
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: build_identifiers.main(command_line(tmp_path)))
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    "extra", [["--epochs", "0"], ["--codebooks", "x"], ["--seed", "-1"], ["--unique-size", "1"], ["--scheme", "trie"]]
)
def test_bad_options_end_with_exit_code_2(tmp_path, capsys, extra):
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: build_identifiers.main(command_line(tmp_path, *extra)))
    assert stop.value.code == 2
    assert extra[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "--epochs is 0; it must be a whole number of at least 1"),
        ({"kmeans_clusters": 2.5}, r"--kmeans-clusters is 2\.5; it must be a whole number"),
        ({"pca": -1}, "--pca is -1"),
        ({"seed": 2**31}, "--seed is 2147483648; it must be between 0 and 2147483647"),
        ({"unique_size": 1}, "--unique-size is 1; reserve at least 2 symbols"),
        ({"scheme": "trie"}, "--scheme is 'trie'; it must be one of coarse-fine, rqvae"),
        ({"engine": "spark"}, "--engine is 'spark'; it must be one of local, ray"),
    ],
)
def test_settings_out_of_range_are_refused_where_they_are_made(changes, message):
    with pytest.raises(ValueError, match=message):
        IdentifierSettings(**changes)
