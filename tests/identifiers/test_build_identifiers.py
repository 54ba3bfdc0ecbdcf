"""preprocess.build_identifiers: the command, its schemes, its report, its refusals, and what survives being killed."""

import json
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
from fairseq_cli.train import cli_main

from cart_fairseq.catalogue.identifiers import IdentifierBundle, Position
from cart_fairseq.files import run_script
from cart_fairseq.rqvae.network import RQVAE
from preprocess import build_identifiers
from preprocess.data.working_folder import working_folder
from preprocess.identifiers import fitting, rqvae_runner
from preprocess.identifiers.codec import ResidualCodec
from preprocess.identifiers.encode import reconstruction_error
from preprocess.identifiers.report import table

ITEMS, WIDTH = 120, 6
SMALL = ["--kmeans-clusters", "8", "--codebook-size", "8", "--latent-dim", "4", "--epochs", "6", "--unique-size", "32"]
CODES = ["identifiers.npy", "codec.safetensors", "item_ids.parquet", "dict.id.txt", "codec.json"]


def catalogue(folder: Path, embeddings: np.ndarray) -> list[str]:
    """Write a catalogue; return the options that name it and its output."""
    np.save(folder / "embeddings.npy", embeddings)
    rows = [json.dumps({"item_id": f"item {i}", "split": "train", "n": i}) for i in range(len(embeddings))]
    (folder / "items.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    paths = {"--embeddings": "embeddings.npy", "--items": "items.jsonl", "--output": "identifiers"}
    return [part for option, name in paths.items() for part in (option, str(folder / name))]


def points(count: int = ITEMS) -> np.ndarray:
    """Six blobs, the second item a copy of the first."""
    draw = np.random.default_rng(3)
    blobs = 10 * draw.standard_normal((6, WIDTH))[np.arange(count) % 6] + draw.standard_normal((count, WIDTH))
    blobs[1 : min(2, count)] = blobs[0]
    return blobs.astype(np.float32)


@pytest.fixture
def training_here(monkeypatch):
    """fairseq-train in this process, which spares its start-up; the kill test runs the real thing."""

    def train(residuals: Path, work: Path, settings: rqvae_runner.TrainingSettings, processes: int) -> RQVAE:
        rows, dimension = np.load(residuals, mmap_mode="r").shape
        arguments = rqvae_runner.fairseq_arguments(residuals, work / "checkpoints", rows, settings)
        monkeypatch.setattr(sys, "argv", ["fairseq-train", *arguments, "--cpu"])
        cli_main()
        return rqvae_runner.load_rqvae(work / "checkpoints" / "checkpoint_last.pt", dimension, settings)

    monkeypatch.setattr(fitting, "train_rqvae", train)


def refusal(capsys, argv: list[str]) -> str:
    """Run the command as a script; it must end with exit code 2 and one line on stderr, which is returned."""
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: build_identifiers.main(argv))
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("scheme", "names"),
    [
        ("coarse-fine", ["k", "v1", "v2", "u"]),
        ("rqvae", ["v1", "v2", "v3", "u"]),
        ("hierarchical-kmeans", ["h1", "h2", "h3", "u"]),
    ],
)
def test_every_scheme_gives_every_item_its_own_identifier(tmp_path, capsys, training_here, scheme, names):
    argv = [*catalogue(tmp_path, points()), *SMALL, "--scheme", scheme]
    build_identifiers.main(argv)
    printed = capsys.readouterr().out
    bundle = IdentifierBundle.load(tmp_path / "identifiers")
    bundle.verify()
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
    assert table(report) in printed
    assert not (tmp_path / "identifiers.partial").exists()

    before = (tmp_path / "identifiers" / "manifest.json").stat().st_mtime_ns
    build_identifiers.main(argv)
    assert "up to date" in capsys.readouterr().out
    assert (tmp_path / "identifiers" / "manifest.json").stat().st_mtime_ns == before


def test_residuals_are_embeddings_minus_centres_and_the_codec_is_saved(tmp_path, monkeypatch, training_here):
    """CART 3.2.2, for every item; and values follow from the saved codec alone."""
    seen: dict[str, Any] = {}
    inner = fitting.train_rqvae

    def spy(residuals: Path, *more: Any) -> RQVAE:
        seen["residuals"] = np.load(residuals)
        return inner(residuals, *more)

    monkeypatch.setattr(fitting, "train_rqvae", spy)
    embeddings = points()
    build_identifiers.main([*catalogue(tmp_path, embeddings), *SMALL])
    bundle = IdentifierBundle.load(tmp_path / "identifiers")
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
        (tmp_path / name).mkdir()
        build_identifiers.main([*catalogue(tmp_path / name, points() * np.float32(factor)), *SMALL])
        values.append(np.array(IdentifierBundle.load(tmp_path / name / "identifiers").values))
    np.testing.assert_array_equal(values[0], values[1])


def test_shards_give_the_same_bundle_as_one_file(tmp_path, training_here, capsys):
    argv = [*catalogue(tmp_path, points()), *SMALL, "--scheme", "hierarchical-kmeans"]
    build_identifiers.main(argv)
    (tmp_path / "shards").mkdir()
    for name, part in (("0.npy", points()[:50]), ("1.npy", points()[50:])):
        np.save(tmp_path / "shards" / name, part)
    argv[1] = str(tmp_path / "shards")
    build_identifiers.main(argv)
    assert "up to date" in capsys.readouterr().out


def test_other_settings_and_damaged_bundles_are_built_again(tmp_path, capsys):
    argv = [*catalogue(tmp_path, points()), *SMALL, "--scheme", "hierarchical-kmeans"]
    build_identifiers.main(argv)
    first = np.array(IdentifierBundle.load(tmp_path / "identifiers").values)
    build_identifiers.main([*argv, "--kmeans-clusters", "5"])
    assert IdentifierBundle.load(tmp_path / "identifiers").positions[0] == Position("h1", 5)
    build_identifiers.main(argv)
    path = tmp_path / "identifiers" / "identifiers.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    capsys.readouterr()
    build_identifiers.main(argv)
    assert "building it again" in capsys.readouterr().err
    np.testing.assert_array_equal(IdentifierBundle.load(tmp_path / "identifiers").values, first)


def test_a_killed_run_resumes_to_the_same_bundle(tmp_path, capsys, request):
    """The killed and the resumed run start fairseq-train as users do."""
    folders = [tmp_path / "killed", tmp_path / "unbroken"]
    for folder in folders:
        folder.mkdir()
    killed, unbroken = ([*catalogue(folder, points()), *SMALL, "--epochs", "60"] for folder in folders)
    log = folders[0] / "identifiers.partial" / "fairseq-train.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "preprocess.build_identifiers", *killed],
        start_new_session=True,
        cwd=Path(__file__).parents[2],
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not (log.parent / "checkpoints" / "checkpoint_last.pt").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert "done training" not in log.read_text()
    assert not (folders[0] / "identifiers").exists()

    build_identifiers.main(killed)
    assert "going on where an interrupted run stopped" in capsys.readouterr().out
    request.getfixturevalue("training_here")
    build_identifiers.main(unbroken)
    for file in CODES:
        assert (folders[0] / "identifiers" / file).read_bytes() == (folders[1] / "identifiers" / file).read_bytes(), (
            file
        )


def test_failed_training_is_reported_and_leaves_the_old_bundle(tmp_path, capsys, monkeypatch):
    argv = catalogue(tmp_path, points()) + SMALL
    build_identifiers.main([*argv, "--scheme", "hierarchical-kmeans"])
    before = (tmp_path / "identifiers" / "manifest.json").read_bytes()
    (tmp_path / "python").write_text("#!/bin/sh\necho no memory left\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    capsys.readouterr()
    message = refusal(capsys, argv)
    assert "fairseq-train ended with exit code 3: no memory left (all of it in" in message
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
def test_degenerate_catalogues_need_allow_collapse(tmp_path, capsys, training_here, embeddings, message, scheme):
    argv = [*catalogue(tmp_path, embeddings), *SMALL, "--scheme", scheme]
    expected = message.replace("--kmeans-clusters", "--codebook-size") if scheme == "rqvae" else message
    assert expected in refusal(capsys, argv)
    assert not (tmp_path / "identifiers").exists()
    build_identifiers.main([*argv, "--allow-collapse", "--unique-size", "4"])
    bundle = IdentifierBundle.load(tmp_path / "identifiers")
    assert len(np.unique(bundle.values, axis=0)) == len(embeddings)
    assert [p.size for p in bundle.positions[:3]] == [8, 8, 8]
    if message.startswith("all"):
        # 20 items on one code with 4 symbols for the unique value: it is spelled with three digits.
        assert bundle.length == 6
        assert bundle.values[:, 3:].tolist() == [[n // 16, n // 4 % 4, n % 4] for n in range(20)]


def test_a_collapsed_level_is_an_error_unless_allowed(tmp_path, capsys):
    embeddings = np.tile(points(1), (ITEMS, 1))
    embeddings[0] += 1
    argv = [*catalogue(tmp_path, embeddings), *SMALL, "--scheme", "hierarchical-kmeans"]
    assert "level h1 has collapsed: perplexity 1.0 of at most 8" in refusal(capsys, argv)
    assert not (tmp_path / "identifiers").exists()
    build_identifiers.main([*argv, "--allow-collapse"])
    assert IdentifierBundle.load(tmp_path / "identifiers").report["max_collisions"] == ITEMS - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: np.save(folder / "embeddings.npy", points()[:-1]), "119 rows, but"),
        (lambda folder: np.save(folder / "embeddings.npy", points() * np.nan), "row 0, column 0: found nan"),
        (lambda folder: (folder / "embeddings.npy").unlink(), "cannot be read"),
        (lambda folder: (folder / "items.jsonl").write_bytes(b'{"item_id": "\xff"}'), "invalid UTF-8"),
        (lambda folder: (folder / "identifiers").write_text("notes"), "is not an identifier bundle"),
        (lambda folder: (folder / "identifiers" / "photos").mkdir(parents=True), "is not an identifier bundle"),
    ],
)
def test_bad_inputs_end_with_one_line_and_exit_code_2(tmp_path, capsys, change, message):
    argv = [*catalogue(tmp_path, points()), *SMALL]
    change(tmp_path)
    assert message in refusal(capsys, argv)


@pytest.mark.parametrize(
    "extra", [["--epochs", "0"], ["--codebooks", "x"], ["--seed", "-1"], ["--unique-size", "1"], ["--scheme", "trie"]]
)
def test_bad_options_end_with_exit_code_2(tmp_path, capsys, extra):
    with pytest.raises(SystemExit) as stop:
        build_identifiers.main([*catalogue(tmp_path, points()), *extra])
    assert stop.value.code == 2
    assert extra[0] in capsys.readouterr().err


def test_a_second_run_at_the_same_time_is_refused(tmp_path):
    with working_folder(tmp_path / "identifiers", "key") as work:
        (work / "centres.npy").write_text("half")
        with (
            pytest.raises(ValueError, match="another run is building"),
            working_folder(tmp_path / "identifiers", "key"),
        ):
            pass
    with working_folder(tmp_path / "identifiers", "key") as work:
        assert (work / "centres.npy").exists()
    with working_folder(tmp_path / "identifiers", "other") as work:
        assert not (work / "centres.npy").exists()
