"""What is promised is on the disk, in the right order; a disk without room is named in one line and nothing is lost."""

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from changing import embed, make_data_bin, new_items
from conftest import ITEMS, write_jsonl

from cart_fairseq.base import disk
from cart_fairseq.base.arrays import new_array
from cart_fairseq.base.files import replacing, write_json
from cart_fairseq.base.processes import is_expected
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.data_bin import DataBin
from preprocess.captioners.caption_log import CaptionLog, Record
from preprocess.data_bin.build import binarize
from preprocess.identifiers.build import build_identifiers
from preprocess.identifiers.settings import IdentifierSettings
from preprocess.join.build import join_captions
from preprocess.join.settings import JoinSettings
from preprocess.updating.steps import add, compact, remove

SETTINGS = IdentifierSettings(scheme="residual-kmeans", kmeans_clusters=3, codebook_size=3, allow_collapse=True)


class Disk:
    """Watches renames and flushes: a rename to a name that readers use needs its files on the disk, and then itself."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.flushed: set[tuple[int, int]] = set()
        self.waiting: set[str] = set()
        self.renames: list[str] = []
        self.faults: list[str] = []
        self._real = {name: getattr(os, name) for name in ("fsync", "rename", "replace", "unlink", "rmdir")}
        patch.setattr(os, "fsync", self.fsync)
        for name in ("rename", "replace"):
            patch.setattr(os, name, lambda *given, name=name, **flags: self.rename(name, *given, **flags))
        for name in ("unlink", "rmdir"):
            patch.setattr(os, name, lambda *given, name=name, **flags: self.remove(name, *given, **flags))

    def fsync(self, file: int) -> None:
        found = os.fstat(file)
        self.flushed.add((found.st_dev, found.st_ino))
        self.waiting.discard(os.readlink(f"/proc/self/fd/{file}"))
        self._real["fsync"](file)

    def rename(self, name: str, source: Any, target: Any, **flags: Any) -> None:
        if not self._is_scratch(target):
            self._check_waiting(f"{name} of {source}")
            for folder, _, names in os.walk(source):
                self._check_flushed(folder, *(os.path.join(folder, each) for each in names))
            self._check_flushed(source)
            self.waiting.add(os.path.realpath(os.path.dirname(target)))
            self.renames.append(os.fspath(target))
        self._real[name](source, target, **flags)

    def remove(self, name: str, path: Any, **flags: Any) -> None:
        if "dir_fd" not in flags and not self._is_scratch(path):
            self._check_waiting(f"{name} of {path}")
        self._real[name](path, **flags)

    @staticmethod
    def _is_scratch(path: Any) -> bool:
        return any(part.startswith(".") and part.endswith(".tmp") for part in Path(path).parts)

    def _check_waiting(self, event: str) -> None:
        if self.waiting:
            self.faults.append(f"{event} before a flush of {self.waiting}")

    def _check_flushed(self, *paths: str) -> None:
        for path in paths:
            found = os.lstat(path)
            if not os.path.islink(path) and (found.st_dev, found.st_ino) not in self.flushed:
                self.faults.append(f"{path} renamed before a flush")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.save(tmp_path / "embeddings.npy", embed(ITEMS, 0))
    write_jsonl(tmp_path / "items.jsonl", [{"item_id": f"item {i}"} for i in range(ITEMS)])
    new_items(tmp_path / "new", 4)
    return make_data_bin(tmp_path)


def build(folder: Path) -> Any:
    return build_identifiers(folder / "embeddings.npy", folder / "items.jsonl", folder / "built", SETTINGS)


def bin_of(folder: Path) -> Any:
    return binarize(
        folder / "identifiers", folder / "captions.jsonl", folder / "binned", embeddings=folder / "embeddings.npy"
    )


def join(folder: Path) -> Any:
    settings = JoinSettings(text_dim=4, pca=4)
    embeddings, items, captions, output = (
        folder / name for name in ("embeddings.npy", "items.jsonl", "captions.jsonl", "joined")
    )
    return join_captions(embeddings, items, captions, output, settings)


def added(folder: Path) -> Any:
    return add(folder / "data-bin", folder / "new" / "embeddings.npy", folder / "new" / "items.jsonl")


STEPS: dict[str, Callable[[Path], Any]] = {
    "build": build,
    "binarize": bin_of,
    "join": join,
    "add": added,
    "remove": lambda folder: remove(folder / "data-bin", ["item 1"]),
}


@pytest.mark.parametrize("step", STEPS)
def test_files_and_folders_are_on_the_disk_before_and_after_every_rename(
    data: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    with monkeypatch.context() as patch:
        watched = Disk(patch)
        STEPS[step](data.parent)
        if step == "add":
            compact(data)
            assert str(data / "identifiers" / "manifest.json") in watched.renames
        assert watched.faults == []
        assert not watched.waiting
        assert watched.renames


def test_parents_and_logs_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flushed: list[str] = []
    monkeypatch.setattr(disk, "flush", lambda path: flushed.append(str(path)))
    write_json(tmp_path / "a" / "b" / "c.json", {})
    assert flushed[:2] == [str(tmp_path / "a"), str(tmp_path)]
    flushed.clear()
    CaptionLog(tmp_path / "log").add([Record("a", ["b"])])
    assert flushed == [str(tmp_path)]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Files may not grow beyond so many bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def outcome(size: int, step: Callable[[Path], Any], place: Path) -> OSError | None:
    """The error of a step on a disk without room."""
    try:
        with files_up_to(size):
            step(place)
    except OSError as error:
        return error
    return None


def result(folder: Path) -> dict[str, Any]:
    """What a step makes: checksums, without times."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("manifest.json")):
        files = read_json(path)["files"]
        found[str(path.relative_to(folder))] = {
            k: v for k, v in files.items() if "report" not in k and k != "codec.json"
        }
    for path in folder.glob("joined/*.npy"):
        found[path.name] = path.read_bytes()
    return found


@pytest.mark.parametrize("step", STEPS)
def test_a_disk_without_room_is_named_and_the_same_command_finishes_later(data: Path, tmp_path: Path, step: str):
    start = Path(shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-start"))
    STEPS[step](tmp_path)
    expected, before = result(tmp_path), result(start)
    failed = 0
    for size in (0, 150, 700, 1300, 2500):
        place = Path(shutil.copytree(start, start.with_name(f"{start.name}-{size}")))
        error = outcome(size, STEPS[step], place)
        if error is not None:
            failed += 1
            assert error.errno == errno.EFBIG
            assert error.filename is not None
            assert is_expected(error)
            assert result(place) in (before, expected)
            DataBin(place / "data-bin").bundle.verify()
            STEPS[step](place)
        assert result(place) == expected, size
        assert not list(place.rglob(".*.tmp"))
        shutil.rmtree(place)
    assert failed > 2


@pytest.mark.parametrize("number", disk.NO_ROOM)
def test_room_for_arrays_is_taken_before_they_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=os.strerror(number)) as error:
        new_array(tmp_path / "a.npy", np.float32, (5, 4))
    assert error.value.filename == str(tmp_path / "a.npy")
    (tmp_path / "a.npy").unlink()

    def cannot(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    new_array(tmp_path / "a.npy", np.float32, (5, 4))[:] = 1
    assert (tmp_path / "a.npy").stat().st_blocks
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.ones((5, 4), np.float32))
    with files_up_to(100), pytest.raises(OSError, match="File too large"):
        new_array(tmp_path / "b.npy", np.float32, (500, 4))


def test_every_library_that_writes_is_understood(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    many = np.random.default_rng(0).standard_normal(100_000)
    writers: dict[str, Callable[[Path], Any]] = {
        "numpy": lambda path: np.save(path.open("wb"), many),
        "text": lambda path: path.write_text("x" * 100_000),
        "safetensors": lambda path: save_file({"a": many}, path),
        "torch": lambda path: torch.save({"a": torch.from_numpy(many)}, path),
        "parquet": lambda path: pq.write_table(pa.table({"a": many}), path),
        "copy": lambda path: shutil.copyfile(tmp_path / "large", path),
    }
    (tmp_path / "large").write_bytes(many.tobytes())
    for name, write in writers.items():
        target = tmp_path / name
        with (
            files_up_to(5000),
            pytest.raises(OSError, match=r"File too large|No space left") as error,
            replacing(target) as new,
        ):
            write(new)
        assert error.value.filename == str(target), name
        assert not target.exists()
        write(tmp_path / f"{name} later")
