"""An open data-bin is a snapshot, and opening one while it is updated gives the state before or the state after."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from changing import embed, make_data_bin
from conftest import ITEMS, make_captions

from cart_fairseq.catalogue import held_files
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.held_files import HeldFiles
from cart_fairseq.queries.codec import QueryCodec
from cart_fairseq.search.dense.stored_arrays import folder_to_write, stored_folder
from cart_fairseq.tasks.held_sequences import open_sequences
from preprocess.data_bin.build import binarize
from preprocess.data_bin.settings import DataBinSettings
from preprocess.updating.steps import compact, remove


def seen(data: DataBin) -> dict[str, Any]:
    """All that a reader may ask an open data-bin for."""
    bundle, dense = data.bundle, data.dense_items
    assert dense is not None
    found: dict[str, Any] = {
        "ids": bundle.item_ids,
        "splits": bundle.splits,
        "records": [bundle.record(row) for row in range(len(bundle))],
        "values": bundle.values.tolist(),
        "report": bundle.report,
        "settings": bundle.codec_settings,
        "codec": {name: array.tolist() for name, array in bundle.codec_tensors().items()},
        "trie": [tensor.tolist() for tensor in (data.trie.rows, *data.trie.values, *data.trie.first_child)],
        "dense": dense.features(np.arange(len(bundle))).tolist(),
        "symbols": QueryCodec(data).symbols("a red dog").tolist(),
        "subsets": {subset: data.queries(subset).to_pydict() for subset in data.subsets},
    }
    for name in data.candidate_names:
        rows = data.candidates(name)
        found[f"candidates {name}"] = None if rows is None else rows.tolist()
    for subset in data.subsets:
        for side in ("query", "id"):
            sequences = open_sequences(data.files, f"{subset}.query-id.{side}")
            found[f"{subset} {side}"] = [sequences[number].tolist() for number in range(len(sequences))]
    return found


def dense_bin(folder: Path) -> Path:
    data = make_data_bin(folder)
    np.save(folder / "embeddings.npy", embed(ITEMS, 0))
    shutil.rmtree(data)
    binarize(folder / "identifiers", folder / "captions.jsonl", data, embeddings=folder / "embeddings.npy")
    np.save(data / "candidates.mine.npy", np.array([1, 5, 9]))
    return data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data-bin with dense features and what it was made from."""
    folder = tmp_path_factory.mktemp("made")
    dense_bin(folder)
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "data-bin", tmp_path / "data-bin"))


def renumber(data: Path) -> None:
    remove(data, ["item 0", "item 4"])
    compact(data)


def rebuild(data: Path) -> None:
    captions = make_captions(data.parent / "other.jsonl")
    captions.write_text(captions.read_text().replace("dog", "cat"))
    source, embeddings = shutil.copytree(data / "identifiers", data.parent / "ids"), data.parent / "e.npy"
    np.save(embeddings, -embed(ITEMS, 0))
    binarize(source, captions, data, DataBinSettings(seed=2, valid_size=3), embeddings=embeddings)


@pytest.mark.parametrize("change", [renumber, rebuild, shutil.rmtree])
def test_what_is_open_stays_what_it_was_to_the_last_file(data: Path, change: Any):
    expected, opened = seen(DataBin(data)), DataBin(data)
    change(data)
    assert seen(opened) == expected
    if data.exists():
        assert seen(DataBin(data)) != expected


def test_arrays_of_a_model_are_read_from_the_folder_that_was_opened(data: Path):
    opened = DataBin(data).dense_items
    assert opened is not None
    renumber(data)
    assert stored_folder(opened) == data / "search"
    shutil.copytree(data, data.parent / "copy")
    shutil.rmtree(data)
    (data.parent / "copy").rename(data)
    assert stored_folder(opened) is None
    with pytest.raises(OSError, match="was replaced by another data-bin") as error:
        folder_to_write(opened)
    assert error.value.filename == str(data)


def brief(data: DataBin) -> tuple[Any, ...]:
    """What differs between two states, from files of the bundle and of the data-bin."""
    sets = [data.candidates(name).tolist() for name in ("mine", "test")]  # type: ignore[union-attr]
    return (data.bundle.state, data.bundle.item_ids, data.trie.rows.tolist(), sets)


def states(made: Path, folder: Path) -> list[tuple[Any, ...]]:
    """What a data-bin shows before, between and after the two updates of `renumber`."""
    data = shutil.copytree(made / "data-bin", folder)
    found = [brief(DataBin(data))]
    remove(data, ["item 0", "item 4"])
    found.append(brief(DataBin(data)))
    compact(data)
    return [*found, brief(DataBin(data))]


def test_every_moment_of_an_update_shows_one_state(
    made: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A reader opens the data-bin before each rename and each removal of a file or folder."""
    known, places = states(made, tmp_path / "known"), []

    def watched(name: str) -> None:
        real = getattr(os, name)

        def watching(*args: Any, **kwargs: Any) -> Any:
            places.append(known.index(brief(DataBin(data))))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, watching)

    for name in ("rename", "replace", "unlink", "rmdir"):
        watched(name)
    renumber(data)
    places.append(known.index(brief(DataBin(data))))
    assert places == sorted(places)
    assert {*places} == {0, 1, 2}


@pytest.mark.parametrize("at", range(0, 31, 5))
def test_an_update_while_files_are_opened_gives_one_state(
    made: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
):
    hold, opened = HeldFiles._hold, []

    def updating(files: HeldFiles, name: str) -> None:
        opened.append(name)
        if len(opened) == at + 1:
            monkeypatch.setattr(HeldFiles, "_hold", hold)
            renumber(data)
            monkeypatch.setattr(HeldFiles, "_hold", updating)
        hold(files, name)

    monkeypatch.setattr(HeldFiles, "_hold", updating)
    found = DataBin(data)
    monkeypatch.undo()
    assert len(opened) > at
    assert seen(found) == seen(DataBin(data))


def test_a_data_bin_that_never_rests_is_refused_and_a_damaged_one_at_once(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(held_files, "TRIES", 3)
    hold, tries = HeldFiles._hold, []

    def touching(files: HeldFiles, name: str) -> None:
        if name == "dict.query.txt":
            tries.append(name)
            os.utime(data / "manifest.json", ns=(len(tries), len(tries)))
        hold(files, name)

    monkeypatch.setattr(HeldFiles, "_hold", touching)
    with pytest.raises(CatalogueError, match="was changed again and again while it was opened"):
        DataBin(data)
    assert len(tries) == 3
    monkeypatch.undo()
    (data / "dict.query.txt").unlink()
    with pytest.raises(CatalogueError, match=r"dict\.query\.txt: missing, though the manifest lists it"):
        DataBin(data)


def test_descriptors_are_closed_with_what_was_opened(data: Path):
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    seen(DataBin(data))
    before = count()
    for _ in range(5):
        seen(DataBin(data))
    assert count() <= before
