"""NaN, infinities and texts where numbers belong: refused by name where they are read, and found by `verify`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from changing import dense_world, new_items
from safetensors.torch import load_file, save_file

from cart_fairseq.base.files import sha256, write_json
from cart_fairseq.catalogue.checksums import sealed
from cart_fairseq.publishing import renewing
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search import generator
from cart_fairseq.tasks.checked_checkpoints import load_checked
from preprocess.api import add, renew, verify


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return dense_world(tmp_path_factory.mktemp("numbers"))


@pytest.fixture
def data(world, tmp_path):
    return Path(shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True))


def checkpoint(world: Path) -> Path:
    return world / "save" / "checkpoint_best.pt"


def seal(folder: Path, **fields: object) -> None:
    """Write the checksums that a stranger would write."""
    manifest = json.loads((folder / "manifest.json").read_text()) | fields
    for name in manifest["files"]:
        entry = {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        manifest["files"][name] = entry
    write_json(folder / "manifest.json", sealed(manifest))


def test_embeddings(world, data):
    rows = np.load(data / "dense.embeddings.npy")
    rows[3, 1] = np.nan
    np.save(data / "dense.embeddings.npy", rows)
    seal(data)
    said = r"dense\.embeddings\.npy, row 3: holds NaN or infinite values; restore it from a copy"
    with pytest.raises(ValueError, match=said):
        CartRetriever.from_pretrained(checkpoint(world), data).search(["red dog"])
    with pytest.raises(ValueError, match=said):
        verify(data)


@pytest.mark.parametrize(("array", "value"), [("leaves", np.nan), ("weights.*", -np.inf), ("spreads.*", np.inf)])
def test_statistics_of_prefixes(world, data, monkeypatch, array, value):
    for name in ("store_vectors", "store_statistics"):
        inner = getattr(renewing, name)
        monkeypatch.setattr(renewing, name, lambda *given, inner=inner: inner(*given, exact_items=0))
    monkeypatch.setattr(generator, "EXACT_ITEMS", 0)
    renew(data, checkpoint(world))
    assert CartRetriever.from_pretrained(checkpoint(world), data).search(["red dog"])[0]
    for path in (data / "search").glob(f"*/{array}.npy"):
        np.save(path, np.full_like(np.load(path), value))
    said = r"search/[0-9a-f]{16}: the masses of prefixes are NaN or infinite; remove the folder"
    with pytest.raises(ValueError, match=said):
        CartRetriever.from_pretrained(checkpoint(world), data).search(["red dog"])


def test_codecs(data, tmp_path):
    path = data / "identifiers" / "codec.safetensors"
    tensors = load_file(path)
    name = next(name for name, values in tensors.items() if values.is_floating_point())
    tensors[name].view(-1)[0] = float("inf")
    save_file(tensors, path)
    seal(data / "identifiers")
    with pytest.raises(ValueError, match=rf"codec\.safetensors: {name} holds NaN or infinite values; build"):
        verify(data / "identifiers")
    with pytest.raises(ValueError, match=rf"codec\.safetensors: {name} holds NaN or infinite values; build"):
        add(data, *new_items(tmp_path / "new", 2))


def test_tokenisers_are_opened_by_verify(data):
    (data / "sentencepiece.model").write_bytes(b"\x0a\xff\xff\xff\xff\x0f" * 50)
    seal(data)
    with pytest.raises(ValueError, match=r"sentencepiece\.model"):
        verify(data)


def test_text_encoders_without_their_numbers(world, data):
    seal(data, text_encoder={"files": {}, "name": 3})
    said = r"manifest\.json: start of text_encoder is None; make it again"
    with pytest.raises(ValueError, match=said):
        CartRetriever.from_pretrained(checkpoint(world), data)
    with pytest.raises(ValueError, match=said):
        verify(data)


PROGRESS = {
    "epoch": ("extra_state", "train_iterator", "epoch", "x"),
    "iterations_in_epoch": ("extra_state", "train_iterator", "iterations_in_epoch", -5),
    "num_updates": ("optimizer_history", -1, "num_updates", 10**30),
    "best": ("extra_state", "best", "x"),
    "val_loss": ("extra_state", "val_loss", float("nan")),
}


@pytest.mark.parametrize("name", PROGRESS)
def test_how_far_a_training_was(name, world, tmp_path):
    state = torch.load(checkpoint(world), weights_only=False)
    *path, last, value = PROGRESS[name]
    inner = state
    for step in path:
        inner = inner[step]
    inner[last] = value
    torch.save(state, tmp_path / "c.pt")
    load_checked(str(checkpoint(world)))
    with pytest.raises(ValueError, match=rf"c\.pt: its {name} is .*; give a checkpoint"):
        load_checked(str(tmp_path / "c.pt"))
