"""Files that are not ours block no update of the bundle or data-bin in which they lie, and stay."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from changing import make_data_bin, new_items

from cart_fairseq.catalogue.data_bin import DataBin
from preprocess.updating.steps import add, compact, remove


def text(path: Path) -> None:
    path.write_text("mine\n", encoding="utf-8")


def folder(path: Path) -> None:
    path.mkdir()
    text(path / "mine")


def link(path: Path) -> None:
    path.symlink_to("/nonexistent")


NAMES: dict[str, list[Callable[[Path], None]]] = {
    "identifiers/segments/notes": [folder, link],
    "identifiers/segments/.DS_Store": [text],
    "identifiers/segments/000007": [text],
    "identifiers/removed.000009.npy": [folder],
    "identifiers/next.week": [text],
    "next.0123456789abcdef": [text],
    ".next.0123456789abcdef.tmp": [text, link],
    "next.week": [folder],
    "candidates.mine.npy": [folder, link],
    "candidates.txt": [text],
    "queries.mine.parquet": [text],
    "dense.embeddings.npy": [text],
    "search": [text],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data-bin without candidate sets of the user's own."""
    data = make_data_bin(tmp_path_factory.mktemp("strays"))
    (data / "candidates.mine.npy").unlink()
    return data


@pytest.mark.parametrize("kind", [0, 1])
def test_strays_block_no_update_and_stay(tmp_path: Path, made: Path, kind: int):
    strays = [(made / name, kinds[min(kind, len(kinds) - 1)]) for name, kinds in NAMES.items()]
    for path, make in strays:
        path.parent.mkdir(exist_ok=True)
        make(path)
    name = f"new {100 * kind}"
    add(made, *new_items(tmp_path / "new", 1, first=100 * kind))
    remove(made, [name])
    compact(made)
    assert name not in DataBin(made).bundle.item_ids
    for path, make in strays:
        assert os.path.lexists(path), path
        if make is folder:
            (path / "mine").unlink()
            path.rmdir()
        else:
            path.unlink()


def test_a_stray_with_the_name_of_the_next_part_is_named(tmp_path: Path, made: Path):
    revision = DataBin(made).bundle.revision + 1
    part = made / "identifiers" / "segments" / f"{revision:06}"
    part.parent.mkdir(exist_ok=True)
    text(part)
    with pytest.raises(ValueError, match=rf"{part.name}: is not of an update, which needs this name; move it away"):
        add(made, *new_items(tmp_path / "new", 1, first=9999))
    assert part.read_text() == "mine\n"
    part.unlink()
