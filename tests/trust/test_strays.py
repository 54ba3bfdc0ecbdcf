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


def test_strays_block_no_update_and_stay(tmp_path: Path, made: Path):
    for number, (name, make) in enumerate((name, make) for name, kinds in NAMES.items() for make in kinds):
        data = made.rename(tmp_path / str(number))
        (data / name).parent.mkdir(exist_ok=True)
        make(data / name)
        first = f"new {100 * number}"
        try:
            add(data, *new_items(tmp_path / "new", 1, seed=number, first=100 * number))
            remove(data, [first])
            compact(data)
            assert len(DataBin(data).bundle.removed) == 0
        except ValueError as error:
            raise AssertionError(f"{name}, {make.__name__}") from error
        assert os.path.lexists(data / name), name
        if make is folder:
            (data / name / "mine").unlink()
            (data / name).rmdir()
        else:
            (data / name).unlink()
        data.rename(made)


def test_a_stray_with_the_name_of_the_next_part_is_named(tmp_path: Path, made: Path):
    revision = DataBin(made).bundle.revision + 1
    part = made / "identifiers" / "segments" / f"{revision:06}"
    part.parent.mkdir(exist_ok=True)
    text(part)
    with pytest.raises(ValueError, match=rf"{part.name}: is not of an update, which needs this name; move it away"):
        add(made, *new_items(tmp_path / "new", 1, first=9999))
    assert part.read_text() == "mine\n"
    part.unlink()
