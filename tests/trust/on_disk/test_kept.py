"""What a killed run left in its working folder is whole, or is made again: the result is that of a fresh run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from changing import QUICK, embed
from conftest import ITEMS, write_jsonl

from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.captioners.caption_log import CaptionLog, Record
from preprocess.data.row_store import RowStore
from preprocess.identifiers import build as building
from preprocess.identifiers.build import build_identifiers
from preprocess.identifiers.rqvae_runner import forget_damaged

OLD = Path(__file__).resolve().parents[2] / "compatibility"


def flip(path: Path, at: float = 0.6) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 4
    path.write_bytes(content)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


MUTATIONS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": halve,
    "flipped": flip,
    "end flipped": lambda path: flip(path, 0.99),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x" * 64),
    "missing": Path.unlink,
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with identifiers/, and the working folder of a build that ended just before the bundle was written."""
    folder = tmp_path_factory.mktemp("killed")
    np.save(folder / "embeddings.npy", embed(ITEMS, 0))
    write_jsonl(folder / "items.jsonl", [{"item_id": f"item {i}"} for i in range(ITEMS)])
    build_identifiers(folder / "embeddings.npy", folder / "items.jsonl", folder / "identifiers", QUICK)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "write_bundle", stop)
        with pytest.raises(KeyboardInterrupt):
            build_identifiers(folder / "embeddings.npy", folder / "items.jsonl", folder / "new", QUICK)
    assert not (folder / "new").exists()
    return folder


FILES = sorted(
    ["key.json", "codec.safetensors", "positions.json", "points.npy", "transform.safetensors"]
    + [f"assignment/{name}.npy" for name in ("codes", "statistics", "sums")]
    + ["codec.safetensors.sha256.json"]
)


@pytest.mark.parametrize("name", FILES)
def test_a_build_goes_on_from_a_damaged_working_folder_as_from_none(killed: Path, tmp_path: Path, name: str):
    expected = IdentifierBundle.load(killed / "identifiers")
    for mutation, mutate in MUTATIONS.items():
        shutil.copytree(killed / "new.partial", tmp_path / "new.partial")
        mutate(tmp_path / "new.partial" / name)
        made = build_identifiers(killed / "embeddings.npy", killed / "items.jsonl", tmp_path / "new", QUICK)
        assert np.array_equal(made.bundle.values, expected.values), mutation
        for file in ("codec.safetensors", "identifiers.npy"):
            assert made.bundle.manifest["files"][file] == expected.manifest["files"][file], mutation
        assert made.bundle.report["reconstruction_error"] == expected.report["reconstruction_error"], mutation
        shutil.rmtree(tmp_path / "new")


def test_empty_leftovers_do_not_block_a_build(killed: Path, tmp_path: Path):
    work = tmp_path / "new.partial"
    for folder in ("assignment", "checkpoints"):
        (work / folder).mkdir(parents=True)
    (work / "lock").touch()
    shutil.copy(killed / "new.partial" / "key.json", work)
    for name in FILES:
        (work / name).touch()
    made = build_identifiers(killed / "embeddings.npy", killed / "items.jsonl", tmp_path / "new", QUICK)
    assert np.array_equal(made.bundle.values, IdentifierBundle.load(killed / "identifiers").values)
    assert not work.exists()


STAMPS = np.arange(1, 5, dtype=np.uint64)


def opened(work: Path) -> RowStore:
    return RowStore(work, 10, 3, STAMPS, 3)


def fill(store: RowStore) -> None:
    for number in store.pending():
        rows = [row for row in store.rows_of(number) if row != 4]
        values = np.array([[row + 1, row / 3, -row] for row in rows], np.float32)
        store.keep(number, rows, values, {4: "unreadable"} if number == 1 else {})


def test_rows_that_were_damaged_are_computed_again(tmp_path: Path):
    whole = opened(tmp_path / "whole")
    assert whole.pending() == [0, 1, 2, 3]
    fill(whole)
    assert opened(tmp_path / "whole").pending() == []
    for name in ("rows/values.npy", "rows/sums.npy", "problems.json"):
        for mutation, mutate in MUTATIONS.items():
            work = Path(shutil.copytree(tmp_path / "whole", tmp_path / f"{mutation}-{Path(name).name}"))
            mutate(work / name)
            store = opened(work)
            assert store.pending(), (name, mutation)
            assert store.problems == ({4: "unreadable"} if 1 not in store.pending() else {})
            fill(store)
            assert (store.problems, store.pending()) == ({4: "unreadable"}, [])
            known = [row for row in range(10) if row != 4]
            assert np.array_equal(store.values[known], whole.values[known])
    assert RowStore(tmp_path / "whole", 10, 3, STAMPS + np.uint64(np.arange(4) == 2), 3).pending() == [2]


def test_a_damaged_line_of_captions_ends_the_log(tmp_path: Path):
    path = tmp_path / "log"
    log = CaptionLog(path)
    for number in range(3):
        log.add([Record(f"item {number}", [f"a dög {number}"], None)])
    content = path.read_bytes()
    assert CaptionLog(path).records == log.records
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        good = content[:at].count(b"\n")
        assert CaptionLog(path).records == log.records[:good]
        path.write_bytes(content[:at])
        assert CaptionLog(path).records == log.records[:good]
        assert path.read_bytes() == b"".join(content.splitlines(keepends=True)[:good])
    path.write_bytes(b"")
    assert CaptionLog(path).records == []


def test_damaged_checkpoints_of_a_killed_training_are_removed(tmp_path: Path):
    for name, mutate in MUTATIONS.items():
        if name != "missing":
            shutil.copy(OLD / "plain.pt", tmp_path / f"{name}.pt")
            mutate(tmp_path / f"{name}.pt")
    shutil.copy(OLD / "plain.pt", tmp_path / "checkpoint_last.pt")
    forget_damaged(tmp_path)
    left = {path.stem for path in tmp_path.iterdir()}
    assert "checkpoint_last" in left
    assert not left - {"checkpoint_last", "longer", "end flipped"}  # what these change is not read
