"""Items that join a data-bin which was made from a join: joined as by hand, with captions and without."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_jsonl
from join_samples import ITEMS, SMALL, WIDTH, write_world
from safetensors.numpy import load_file, save_file

from cart_fairseq.base.files import sha256, write_json
from cart_fairseq.catalogue.checksums import sealed
from cart_fairseq.catalogue.data_bin import DataBin
from preprocess import update_identifiers
from preprocess.api import add
from preprocess.data_bin.build import binarize
from preprocess.identifiers.build import build_identifiers
from preprocess.identifiers.settings import IdentifierSettings
from preprocess.join.build import join_captions
from preprocess.join.settings import JoinSettings

CAPTIONS = [{"item_id": "n0", "text": "red cat"}, {"item_id": "n2", "text": "old dog"}]
"""One for an item, because a join by hand holds others out to measure with."""


@pytest.fixture(scope="module", params=[0, 8], ids=["joined", "aligned"])
def world(request, tmp_path_factory):
    """A data-bin made from a join, and three new items."""
    root = tmp_path_factory.mktemp("world")
    files = write_world(root)
    settings = JoinSettings(**SMALL, keep_embedding=True, align=request.param)
    join_captions(files.embeddings, files.items, files.captions, files.output, settings)
    identified = IdentifierSettings(scheme="residual-kmeans", kmeans_clusters=4, codebooks=1, codebook_size=4)
    build_identifiers(files.output, files.items, root / "identifiers", identified)
    binarize(root / "identifiers", files.captions, root / "data-bin", embeddings=files.output)
    (root / "new").mkdir()
    np.save(root / "new" / "embeddings.npy", np.random.default_rng(8).normal(size=(3, WIDTH)).astype(np.float32))
    write_jsonl(root / "new" / "items.jsonl", [{"item_id": f"n{number}"} for number in range(3)])
    write_jsonl(root / "new" / "captions.jsonl", CAPTIONS)
    return root


@pytest.fixture
def data_bin(world, tmp_path):
    shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True)
    return tmp_path / "data-bin"


def join_new(new, output, like):
    """Join the new items as an earlier join did."""
    embeddings, items, captions = (new / name for name in ("embeddings.npy", "items.jsonl", "captions.jsonl"))
    join_captions(embeddings, items, captions, output, JoinSettings(), like=like)


def added(data_bin):
    """Identifiers, features and embeddings of the new items."""
    data = DataBin(data_bin)
    rows = np.arange(ITEMS, len(data.bundle))
    assert data.dense_items is not None
    return data.bundle.values[rows], data.dense_items.features(rows), data.dense_items.originals(rows)


def test_added_items_are_joined_as_by_hand(world, data_bin, tmp_path):
    new = world / "new"
    join_new(new, tmp_path / "joined", world / "joined")
    shutil.copytree(data_bin, tmp_path / "by-hand", symlinks=True)
    add(tmp_path / "by-hand", tmp_path / "joined", new / "items.jsonl")
    add(data_bin, new / "embeddings.npy", new / "items.jsonl", captions=new / "captions.jsonl")
    for found, wanted in zip(added(data_bin), added(tmp_path / "by-hand"), strict=True):
        np.testing.assert_array_equal(found, wanted)
    DataBin(data_bin).verify()


def test_the_command_takes_captions_as_the_function_does(world, data_bin, tmp_path):
    new = world / "new"
    shutil.copytree(data_bin, tmp_path / "by-function", symlinks=True)
    files = (new / name for name in ("embeddings.npy", "items.jsonl", "captions.jsonl"))
    given = [str(word) for pair in zip(("--embeddings", "--items", "--captions"), files, strict=True) for word in pair]
    update_identifiers.main(["add", "--data-bin", str(data_bin), *given])
    add(tmp_path / "by-function", new / "embeddings.npy", new / "items.jsonl", captions=new / "captions.jsonl")
    for found, wanted in zip(added(data_bin), added(tmp_path / "by-function"), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_data_bin_serves_as_the_join_that_others_are_like(world, data_bin, tmp_path):
    for name, like in (("one", world / "joined"), ("other", data_bin)):
        join_new(world / "new", tmp_path / name, like)
    for name in ("embeddings.npy", "captions.npy"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_items_without_captions_have_what_is_mapped(world, data_bin):
    new = world / "new"
    add(data_bin, new / "embeddings.npy", new / "items.jsonl")
    _, features, originals = added(data_bin)
    text = SMALL["text_dim"]
    np.testing.assert_array_equal(features[:, :text], features[:, text : 2 * text])
    raw = np.load(new / "embeddings.npy")
    np.testing.assert_allclose(originals, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-3)


def test_wrong_widths_and_captions_that_nothing_joins_are_refused(world, data_bin, tmp_path):
    new = world / "new"
    np.save(tmp_path / "wide.npy", np.ones((3, WIDTH + 1), dtype=np.float32))
    with pytest.raises(ValueError, match=rf"wide.npy: width {WIDTH + 1}, but the data-bin was made from .* {WIDTH}"):
        add(data_bin, tmp_path / "wide.npy", new / "items.jsonl")
    before = DataBin(data_bin).bundle.state
    with pytest.raises(ValueError, match=r"--captions .*captions.jsonl is for embeddings from before a join"):
        add(world / "identifiers", new / "embeddings.npy", new / "items.jsonl", captions=new / "captions.jsonl")
    assert DataBin(data_bin).bundle.state == before


@pytest.mark.parametrize("damaged", ["none", "missing", "pipe"])
def test_damaged_parts_of_a_join_are_named(damaged, world, tmp_path):
    joined = Path(shutil.copytree(world / "joined", tmp_path / "joined"))
    parts = joined / "join.safetensors"
    tensors = load_file(parts)
    if damaged == "missing":
        del tensors[min(tensors)]
    elif damaged == "none":
        tensors[min(tensors)].fill(np.nan)
    save_file(tensors, parts)
    if damaged == "pipe":
        parts.unlink()
        os.mkfifo(parts)
    record = json.loads((joined / "join.json").read_text())
    record["files"]["join.safetensors"] = "" if damaged == "pipe" else sha256(parts)
    (joined / "join.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"join\.safetensors.*make the join again"):
        join_new(world / "new", tmp_path / "new", joined)


def test_pipes_have_no_checksum(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: is a pipe or device; give a file"):
        sha256(tmp_path / "pipe")


def test_a_text_encoder_that_is_not_here_is_named(world, data_bin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = json.loads((data_bin / "join.json").read_text())
    record["settings"] |= {"text_features": "sentence-transformers:mine", "text_dim": None, "weights": "0" * 64}
    (data_bin / "join.json").write_text(json.dumps(record))
    entry = {"bytes": (data_bin / "join.json").stat().st_size, "sha256": sha256(data_bin / "join.json")}
    manifest = json.loads((data_bin / "manifest.json").read_text())
    manifest["files"]["join.json"] = entry
    write_json(data_bin / "manifest.json", sealed(manifest))
    new = world / "new"
    given = (new / "embeddings.npy", new / "items.jsonl")
    with pytest.raises(
        ValueError, match=r"join.json: needs the encoder 'sentence-transformers:mine', .* 'mine' leads to it"
    ):
        add(data_bin, *given, captions=new / "captions.jsonl")
    add(data_bin, *given)  # items without captions need none
