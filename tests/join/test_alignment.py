"""preprocess.join.alignment: rows that captions find, made by `join_captions` and read by the next steps."""

import re
from dataclasses import replace

import numpy as np
import pytest
from changing import make_codec
from conftest import write_jsonl
from join_samples import ITEMS, SMALL, TEXT, World, captions_of_items, embeddings_of_items, join, write_world

from cart_fairseq.base import progress
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess import update_identifiers
from preprocess.data.joined_folder import dense_rows, identifier_rows
from preprocess.data_bin.build import binarize
from preprocess.data_bin.settings import DataBinSettings
from preprocess.identifiers.build import build_identifiers
from preprocess.identifiers.codec import load_codec
from preprocess.identifiers.settings import IdentifierSettings
from preprocess.join import alignment as towers_module
from preprocess.join import text_features
from preprocess.join.alignment import Alignment, TowerPairs

ALIGN = {**SMALL, "align": 8}
TINY = IdentifierSettings("residual-kmeans", kmeans_clusters=4, codebook_size=4, allow_collapse=True)


@pytest.fixture
def short(monkeypatch):
    """Training of a few updates, where it does not matter how good the towers are."""
    monkeypatch.setattr(towers_module, "EPOCHS", 2)
    monkeypatch.setattr(towers_module, "UPDATES", 8)


def aligned(folder):
    return np.load(folder / "joined" / "aligned.npy")


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pairs(texts=True, items=200, width=16):
    """Items whose captions tell what their embeddings hide under five times as much noise in other directions."""
    draw = np.random.default_rng(0)
    what = draw.standard_normal((items, 4)) @ draw.standard_normal((4, width))
    owners = np.repeat(np.arange(items), 3)
    captions = unit(what[owners] + 0.3 * draw.standard_normal((len(owners), width)))
    hidden = draw.standard_normal((items, 2)) @ draw.standard_normal((2, width)) * 5
    return TowerPairs(captions, owners, unit(what + hidden), texts)


def found_first(queries, items, owners):
    return float(((queries @ items.T).argmax(axis=1) == owners).mean())


def test_captions_find_items_better_than_before():
    trained = pairs()
    alignment = Alignment.fit(trained, 8, seed=1)
    joined = trained.items(np.arange(len(trained.owners))[::3], np.arange(len(trained.owners))[1::3]).numpy()
    items = alignment(joined)
    assert items.shape == (200, 16 + 8)
    assert items.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, atol=1e-5)
    towers = Alignment.load(alignment.tensors())
    assert towers is not None
    asked = 2 + 3 * np.arange(200)
    before = found_first(np.tile(trained.captions[asked], 2), joined, trained.owners[asked])
    after = found_first(towers.queries(trained.captions[asked]), items, trained.owners[asked])
    assert after > before + 0.1


@pytest.mark.usefixtures("short")
def test_a_log_is_told_the_time_left_from_the_first_update_on(short, monkeypatch, capsys):
    monkeypatch.setattr(progress, "FIRST_LINE", 0.0)
    Alignment.fit(pairs(), 8, seed=1)
    first = capsys.readouterr().err.splitlines()[0]
    assert re.fullmatch(r"aligning: 1 of 8 updates \(12%\), \S+ a (second|minute), \d+:\d\d left", first)


def test_text_features_of_many_captions_say_that_they_are_learned(monkeypatch, capsys):
    monkeypatch.setattr(text_features, "MANY", 4)
    for count in (3, 4):
        text_features.LsaFeatures.fit(["a red dog", "a red cat", "the blue dog", "the cat"][:count], 2, 1, "captions")
    assert capsys.readouterr().err == "text features: learning them from 4 captions\n"


def test_the_same_seed_gives_the_same_and_another_does_not():
    first, again, other = (Alignment.fit(pairs(), 8, seed).tensors() for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_without_texts_no_companion_is_looked_at():
    trained = pairs(texts=False)
    rows = trained.items(np.arange(6), np.arange(6)[::-1].copy()).numpy()
    np.testing.assert_array_equal(rows[:, :16], rows[:, 16:])
    assert not np.array_equal(pairs().items(np.arange(6), np.arange(6)[::-1].copy()).numpy()[:, 16:], rows[:, 16:])
    nobody = pairs().items(np.arange(6), np.full(6, -1)).numpy()
    np.testing.assert_array_equal(nobody, rows)


@pytest.mark.usefixtures("short")
def test_kept_embeddings_are_part_of_what_the_towers_see():
    trained = pairs()
    trained.kept = np.arange(400, dtype=np.float32).reshape(200, 2)
    rows = trained.items(np.arange(6), np.full(6, -1)).numpy()
    np.testing.assert_array_equal(rows[:, :32], pairs().items(np.arange(6), np.full(6, -1)).numpy())
    np.testing.assert_array_equal(rows[:, 32:], trained.kept[trained.owners[:6]])
    assert Alignment.fit(trained, 8, seed=1)(rows).shape == (6, 16 + 8)


@pytest.mark.usefixtures("short")
def test_the_join_holds_aligned_rows_and_an_earlier_join_places_other_items_alike(tmp_path):
    files = write_world(tmp_path / "first")
    join(files, **ALIGN)
    rows = aligned(tmp_path / "first")
    assert rows.shape == (ITEMS, TEXT + 8)
    assert rows.dtype == np.float16
    assert read_json(tmp_path / "first/joined/join.json")["settings"]["align"] == 8
    join(write_world(tmp_path / "like"), like=files.output)
    np.testing.assert_allclose(aligned(tmp_path / "like").astype(float), rows.astype(float), atol=2e-3)
    before = (tmp_path / "first" / "joined" / "aligned.npy").stat().st_mtime_ns
    join(files, **ALIGN)
    assert (tmp_path / "first" / "joined" / "aligned.npy").stat().st_mtime_ns == before
    join(files, **SMALL)
    assert not (tmp_path / "first" / "joined" / "aligned.npy").exists()


@pytest.mark.usefixtures("short")
def test_a_join_stands_for_its_rows(tmp_path):
    files = write_world(tmp_path)
    joined = join(files, **ALIGN).directory
    assert identifier_rows(joined) == joined / "aligned.npy"
    assert dense_rows(joined) == joined / "embeddings.npy"
    assert identifier_rows(tmp_path) == dense_rows(tmp_path) == tmp_path
    folder, file = (
        build_identifiers(given, files.items, tmp_path / output, TINY).bundle
        for given, output in ((joined, "folder"), (joined / "aligned.npy", "file"))
    )
    assert folder.codec_settings["dimension"] == TEXT + 8
    np.testing.assert_array_equal(np.asarray(folder.values), np.asarray(file.values))
    join(files, **SMALL)
    assert identifier_rows(joined) == joined / "embeddings.npy"


@pytest.mark.usefixtures("short")
def test_new_items_of_a_like_join_enter_identifiers_and_dense_head(tmp_path):
    files = write_world(tmp_path)
    joined = join(files, **ALIGN).directory
    build_identifiers(joined, files.items, tmp_path / "identifiers", TINY)
    settings = DataBinSettings(vocab_size=60)
    binarize(tmp_path / "identifiers", files.captions, tmp_path / "data-bin", settings, embeddings=joined)
    new = tmp_path / "new"
    new.mkdir()
    np.save(new / "embeddings.npy", embeddings_of_items()[:3])
    items = write_jsonl(new / "items.jsonl", [{"item_id": f"new{i}", "split": "valid"} for i in range(3)])
    said = [{"item_id": f"new{i}", "text": "red cat", "role": "index"} for i in range(2)]
    captions = write_jsonl(new / "captions.jsonl", said)
    join(World(new / "embeddings.npy", items, captions, new / "joined"), like=joined)
    argv = ["add", "--data-bin", tmp_path / "data-bin", "--embeddings", new / "joined", "--items", new / "items.jsonl"]
    update_identifiers.main(list(map(str, argv)))
    dense = np.load(tmp_path / "data-bin" / "dense.embeddings.npy")
    np.testing.assert_array_equal(dense[:ITEMS], np.load(tmp_path / "joined" / "embeddings.npy"))
    np.testing.assert_array_equal(dense[ITEMS:], np.load(new / "joined" / "embeddings.npy"))
    bundle = IdentifierBundle.load(tmp_path / "data-bin" / "identifiers")
    codes = load_codec(bundle).encode(np.load(new / "joined" / "aligned.npy"))
    np.testing.assert_array_equal(np.asarray(bundle.values)[ITEMS:, :3], codes)


def test_captions_of_one_item_have_nothing_to_tell_apart(tmp_path):
    texts = ("red cat", "red dog", "blue cat dog", "blue dog", "cat")
    files = write_world(tmp_path, [{"item_id": "i0", "text": text} for text in texts])
    with pytest.raises(ValueError, match=r"captions.jsonl: captions of fewer than 2 items.*leave --align out"):
        join(files, text_dim=2, pca=2, align=8)
    assert not (tmp_path / "joined").exists()


def test_towers_of_a_join_of_before_priors_are_applied():
    alignment = Alignment.fit(pairs(), 8, seed=1)
    tensors = {name: value for name, value in alignment.tensors().items() if not name.endswith("prior_share")}
    assert len(tensors) < len(alignment.tensors())
    towers = Alignment.load(tensors)
    assert towers is not None
    rows = np.random.default_rng(0).normal(size=(5, towers.head.item_tower.straight.in_features)).astype(np.float32)
    np.testing.assert_array_equal(towers(rows), alignment(rows))


def test_a_codec_is_no_alignment():
    assert Alignment.load(make_codec().tensors()) is None


def test_captions_held_out_must_be_those_of_the_join(tmp_path):
    rows = [{"item_id": row["item_id"], "text": row["text"]} for row in captions_of_items()]
    files = write_world(tmp_path, rows, splits=False)
    joined = join(files, **SMALL, seed=5, valid_size=7).directory
    build_identifiers(joined, files.items, tmp_path / "identifiers", TINY)
    given = (tmp_path / "identifiers", files.captions, tmp_path / "data-bin")
    settings = DataBinSettings(vocab_size=60, valid_size=7, seed=6)
    with pytest.raises(ValueError, match=r"joined: was joined with the caption of row \d+, which is held out"):
        binarize(*given, settings, embeddings=joined)
    assert not (tmp_path / "data-bin").exists()
    assert binarize(*given, replace(settings, seed=5), embeddings=joined).valid_held_out
