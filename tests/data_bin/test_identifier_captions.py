"""Data-bins of identifiers that are words of captions: these captions are trained on and never measure."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.data.roles import resolve
from preprocess.data_bin.build import binarize
from preprocess.data_bin.identifier_captions import identifier_captions
from preprocess.data_bin.settings import DataBinSettings
from preprocess.identifiers.build import build_identifiers
from preprocess.identifiers.schemes.caption_words import caption_codes, from_tensor
from preprocess.identifiers.settings import IdentifierSettings
from preprocess.join.build import join_captions
from preprocess.join.settings import JoinSettings
from preprocess.updating.steps import remove

ITEMS = 40
WORDS = ("red", "green", "blue", "grey", "dog", "cat", "hen", "fox")
SEMANTIC = IdentifierSettings(scheme="semantic", unique_size=16)


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def captions(item: int) -> list[str]:
    first, second = WORDS[item % 4], WORDS[4 + item % 3]
    return [f"a {first} {second} {item}", f"{item} {second} one", f"look {second} {item}"]


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """Items of the split train, with three captions each."""
    np.save(tmp_path / "embeddings.npy", np.random.default_rng(0).normal(size=(ITEMS, 6)).astype(np.float32))
    write(tmp_path / "items.jsonl", [{"item_id": f"i{item}", "split": "train"} for item in range(ITEMS)])
    write(tmp_path / "captions.jsonl", [{"item_id": f"i{i}", "text": t} for i in range(ITEMS) for t in captions(i)])
    return tmp_path


@pytest.fixture
def measured(training: Path) -> Path:
    """The last items are of the split test, with an index caption and queries."""
    items = [{"item_id": f"i{item}", "split": "test" if item >= 30 else "train"} for item in range(ITEMS)]
    write(training / "items.jsonl", items)
    rows = [{"item_id": f"i{i}", "text": t} for i in range(30) for t in captions(i)]
    for item in range(30, ITEMS):
        index, *queries = captions(item)
        rows.append({"item_id": f"i{item}", "text": index, "role": "index"})
        rows += [{"item_id": f"i{item}", "text": text} for text in queries]
    write(training / "captions.jsonl", rows)
    return training


def build(folder: Path, settings: IdentifierSettings = SEMANTIC) -> Path:
    paths = (folder / "embeddings.npy", folder / "items.jsonl", folder / "identifiers")
    build_identifiers(*paths, settings, folder / "captions.jsonl")
    return folder / "identifiers"


def read(folder: Path, subset: str) -> list[dict]:
    return pq.read_table(folder / "data-bin" / f"queries.{subset}.parquet").to_pylist()


def with_identifier_words(bundle: IdentifierBundle, rows: list[dict]) -> list[bool]:
    """Whether each caption has the words of its item's identifier."""
    codes = np.asarray(bundle.values[:, : len(bundle.semantic_positions)])
    words = from_tensor(bundle.codec_tensors()["semantic.words"])
    found = caption_codes([row["text"] for row in rows], words, codes.shape[1])
    return (found == codes[[row["item_row"] for row in rows]]).all(axis=1).tolist()


@pytest.mark.parametrize("settings", [DataBinSettings(), DataBinSettings(seed=5), DataBinSettings(valid_size=ITEMS)])
def test_captions_with_the_words_of_an_identifier_are_not_held_out(training, settings):
    bundle = IdentifierBundle.load(build(training))
    made = binarize(bundle.directory, training / "captions.jsonl", training / "data-bin", settings)
    assert made.valid_held_out
    held = read(training, "valid")
    assert 1 <= len(held) <= (settings.valid_size or 6)
    assert not any(with_identifier_words(bundle, held))
    train = read(training, "train")
    named = {row["item_row"] for row, same in zip(train, with_identifier_words(bundle, train), strict=True) if same}
    assert named == set(range(ITEMS))


@pytest.mark.parametrize(("seed", "size"), [(1, None), (5, None), (1, 20)])
def test_a_join_holds_out_the_same_captions_and_those_that_name_items(training, seed, size):
    inputs = (training / "embeddings.npy", training / "items.jsonl")
    captions_file = training / "captions.jsonl"
    join_captions(*inputs, captions_file, training / "joined", JoinSettings(text_dim=4, seed=seed, valid_size=size))
    build(training)
    settings = DataBinSettings(seed=seed, valid_size=size)
    made = binarize(
        training / "identifiers", captions_file, training / "data-bin", settings, embeddings=training / "joined"
    )  # refuses captions that the join has used
    assert 1 <= made.counts["valid"]["queries"] <= (size or 6)
    if (seed, size) == (1, None):  # as in building the identifiers, so that none of the drawn ones is needed
        assert made.counts["valid"]["queries"] == 6


def test_identifiers_of_a_measured_split_come_from_index_captions_which_must_be_trained_on(measured):
    bundle = IdentifierBundle.load(build(measured))
    binarize(bundle.directory, measured / "captions.jsonl", measured / "data-bin")
    assert not any(with_identifier_words(bundle, read(measured, "test")))
    index = [row for row in read(measured, "train") if row["item_row"] >= 30]
    assert len(index) == 10
    assert all(with_identifier_words(bundle, index))
    for policy in ("exclude", "borrowed"):
        with pytest.raises(ValueError, match=r"captions\.jsonl: item 'i30' has no training caption .*10 of 40 items"):
            binarize(
                bundle.directory,
                measured / "captions.jsonl",
                measured / "other",
                DataBinSettings(index_captions=policy),
            )
        assert not (measured / "other").exists()


def test_other_captions_than_those_of_the_identifiers_are_refused_unless_the_item_is_gone(measured):
    directory = build(measured)
    rows = [json.loads(line) for line in (measured / "captions.jsonl").read_text().splitlines()]
    write(measured / "captions.jsonl", rows[1:])
    message = "item 'i0' has no training caption with the words of its identifier in .*identifiers .1 of 40 items have none.; give"
    with pytest.raises(ValueError, match=message):
        binarize(directory, measured / "captions.jsonl", measured / "data-bin")
    remove(directory, ["i0"])
    made = binarize(directory, measured / "captions.jsonl", measured / "data-bin")
    assert made.counts["train"]["candidates"] == ITEMS - 1


def test_of_two_captions_with_the_words_of_the_identifier_neither_is_held_out(training):
    rows = [{"item_id": f"i{i}", "text": t} for i in range(ITEMS) for t in captions(i)]
    for item in range(ITEMS):  # the same words, but for the point: as queries they would copy the identifier
        rows[3 * item + 1]["text"] = rows[3 * item]["text"].upper() + " ."
    path = write(training / "captions.jsonl", rows)
    bundle = IdentifierBundle.load(build(training))
    train = resolve(rows, bundle.row_of, bundle.splits, str(path))
    assert identifier_captions(bundle, train, path) == {n for n in range(1, 3 * ITEMS + 1) if n % 3}
    binarize(bundle.directory, path, training / "data-bin", DataBinSettings(valid_size=ITEMS))
    assert not any(with_identifier_words(bundle, read(training, "valid")))
