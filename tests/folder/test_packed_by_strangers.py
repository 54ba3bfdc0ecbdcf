"""Packed data sets of strangers: nothing is written outside, no link followed, no disk or memory filled, damage named."""

import gzip
import io
import os
import random
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folder_samples import lists_of, write
from packed_samples import MEDIUM, img2dataset, media_table, member, picture_bytes, sample, write_stream, write_tar

from preprocess.folder.formats import shard_writer
from preprocess.folder.formats import unpack as unpacking
from preprocess.folder.formats.archives import tar_pieces
from preprocess.folder.formats.pieces import Damaged, Piece
from preprocess.folder.formats.sources import pieces_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def below(path: Path) -> set[str]:
    return {each.relative_to(path).as_posix() for each in path.rglob("*")}


def test_nothing_leaves_the_folder(folder: Path):
    red = picture_bytes()
    names = [
        "../../up.jpg",
        "/abs/olute.jpg",
        "a/../../b.jpg",
        "x\\..\\win.jpg",
        "x/" * 40 + "deep.jpg",
        "n" * 300 + ".jpg",
    ]
    names += [
        "-rf.jpg",
        "a b\nc\x1b[31m.jpg",
        "dög‮.jpg",
        ".hidden.jpg",
        "__MACOSX/._a.jpg",
        "thumbs.db/a.jpg",
        "a.jpg/b.jpg",
        "a.jpg",
    ]
    before = below(folder.parent)
    write_tar(folder / "a.tar", dict.fromkeys(names, red))
    found = lists_of(folder)
    after = below(folder.parent) - before
    assert all(path.split("/")[0] in ("in", "out", "out.media") for path in after)
    assert [*found.skipped] == ["a.tar: ../../up.jpg", "a.tar: a/../../b.jpg"]
    assert "leads out of the archive" in found.skipped["a.tar: ../../up.jpg"]
    assert "a/abs/olute.jpg" in found.items
    assert {"a/a_jpg/b.jpg", "a/a.jpg", "a/x/win.jpg"} <= {*found.items}
    assert len(found.items) == 9
    for path in (folder.parent / "out.media").rglob("*"):
        assert path.resolve().is_relative_to(folder.parent / "out.media")
        assert all(len(part.encode()) < 100 for part in path.parts)


def test_links_and_devices_are_not_unpacked(folder: Path):
    secret = write(folder.parent / "secret.jpg", picture_bytes())
    kinds = {
        "link.jpg": tarfile.SYMTYPE,
        "hard.jpg": tarfile.LNKTYPE,
        "pipe.jpg": tarfile.FIFOTYPE,
        "disk.jpg": tarfile.BLKTYPE,
    }
    links = [member(name, 0, type=kind, linkname=str(secret)) for name, kind in kinds.items()]
    links += [member("dir", 0, type=tarfile.SYMTYPE, linkname=str(folder.parent))]
    write_tar(folder / "a.tar", {"1.jpg": picture_bytes()}, links=links)
    write_tar(folder / "b.tar", {"dir/2.jpg": picture_bytes("blue")})
    found = lists_of(folder)
    assert [*found.items] == ["a/1.jpg", "b/dir/2.jpg"]
    assert [*found.skipped] == [f"a.tar: {name}" for name in sorted(kinds)]
    assert "is a link, which is not unpacked" in found.skipped["a.tar: hard.jpg"]
    assert not any(path.is_symlink() for path in (folder.parent / "out.media").rglob("*"))


def test_equal_names_are_told_apart(folder: Path):
    write_tar(
        folder / "a.tar", {"a?.jpg": picture_bytes(), "a!.jpg": picture_bytes("blue"), "A_.jpg": picture_bytes("green")}
    )
    with tarfile.open(folder / "b.tar", "w") as archive:
        for colour in ("red", "blue"):
            content = picture_bytes(colour)
            archive.addfile(member("1.jpg", len(content)), io.BytesIO(content))
    found = lists_of(folder)
    assert len(found.items) == 4
    assert found.skipped == {"b.tar: 1.jpg": "another member has this name; the first is kept"}
    assert (folder.parent / "out.media" / "b" / "1.jpg").read_bytes() == picture_bytes("red")


def test_files_of_one_name_in_several_folders(folder: Path):
    for name in ("a/b.tar", "a-b.tar", "a/b.parquet"):
        if name.endswith("tar"):
            write_tar(folder / name, {"1.jpg": picture_bytes()})
        else:
            pq.write_table(pa.table({"jpg": [picture_bytes()]}), folder / name)
    assert len(lists_of(folder).items) == 3


@pytest.mark.parametrize("kept", [100, 700, 2600, 3600])
def test_an_archive_that_was_cut_off(folder: Path, kept: int):
    write_tar(folder / "0.tar", {**sample("1", "red", "one"), **sample("2", "red", "two")})
    content = (folder / "0.tar").read_bytes()
    write(folder / "0.tar", content[:kept])
    write_tar(folder / "1.tar", sample("3", "blue", "three"))
    found = lists_of(folder)
    assert "1/3.jpg" in found.items
    [[where, why]] = found.skipped.items()
    assert where.startswith("0.tar")
    assert why.endswith("copy the file again")


def test_damage_inside_an_archive_is_not_its_end(folder: Path):
    path = write_tar(folder / "0.tar", {f"{number}.jpg": picture_bytes() for number in range(3)})
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        second = archive.getmembers()[1].offset
    content[second : second + 200] = b"x" * 200
    write(path, bytes(content))
    found = lists_of(folder)
    assert [*found.items] == ["0/0.jpg"]
    assert found.skipped == {"0.tar at 0.jpg": "damaged (not a header of a member); copy the file again"}


def test_a_member_that_grows(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("preprocess.folder.formats.archives.SMALLEST", 1 << 16)
    with tarfile.open(folder / "bomb.tar.gz", "w:gz") as archive:
        archive.addfile(member("1.jpg", 60), io.BytesIO(picture_bytes()[:60]))
        archive.addfile(member("2.wav", 200 << 20), io.BytesIO(bytes(200 << 20)))
    write_tar(folder / "good.tar", sample("3", "blue", "three"))
    found = lists_of(folder)
    assert [*found.items] == ["good/3.jpg"]
    assert "unpacks to more than 20 times its size" in found.skipped["bomb.tar.gz at 2.wav"]
    written = sum(path.stat().st_size for path in (folder.parent / "out.media").rglob("*") if path.is_file())
    assert written < 100_000


def header_of(size: int, kind: bytes) -> bytes:
    return member("long", size, type=kind).tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_that_grows(folder: Path, kind: bytes):
    with gzip.open(folder / "a.tar.gz", "wb") as file:
        file.write(header_of(1 << 30, kind))
        file.write(bytes(1 << 22))
    [error] = [error for error in [damage(folder / "a.tar.gz")] if error]
    assert "a header of 1,073,741,824 bytes" in error


def damage(path: Path) -> str:
    try:
        for piece in tar_pieces(path):
            if isinstance(piece, Piece):
                assert len(b"".join(piece.blocks)) < 1 << 20
    except Damaged as error:
        return str(error)
    return ""


def test_many_nested_headers(folder: Path):
    write(folder / "a.tar", header_of(0, tarfile.GNUTYPE_LONGNAME) * 5000)
    assert "copy the file again" in damage(folder / "a.tar")


def test_sparse_members_are_refused(folder: Path):
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "1.jpg",
        "GNU.sparse.realsize": str(1 << 40),
    }
    with tarfile.open(folder / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        content = b"1\n0\n0\n".ljust(512, b"\0")
        archive.addfile(member("1.jpg", len(content), pax_headers=headers), io.BytesIO(content))
        archive.addfile(member("2.jpg", len(picture_bytes())), io.BytesIO(picture_bytes()))
    found = lists_of(folder)
    assert [*found.items] == ["a/2.jpg"]
    assert found.skipped == {"a.tar: 1.jpg": "is no plain file, which is not unpacked; pack the file itself"}


def test_a_table_that_grows(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpacking, "SMALLEST", 1 << 16)
    content = picture_bytes() + bytes(20_000)
    rows = [{"image": {"bytes": content, "path": None}, "n": number} for number in range(200)]
    pq.write_table(media_table(rows, {"image": MEDIUM, "n": pa.int64()}), folder / "a.parquet", compression="zstd")
    assert (folder / "a.parquet").stat().st_size < 40_000
    found = lists_of(folder)
    assert 2 < len(found.items) < 60
    [why] = found.skipped.values()
    assert "unpacks to more than 20 times its size" in why


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "parquet", "arrow"])
@pytest.mark.parametrize("seed", range(6))
def test_damaged_bytes_are_named(folder: Path, kind: str, seed: int):
    path = folder / f"0.{kind}"
    rows = [{"image": {"bytes": picture_bytes((number, 9, 9)), "path": None}, "text": "one"} for number in range(9)]
    table = media_table(rows, {"image": MEDIUM, "text": pa.string()})
    if kind.startswith("tar"):
        members = {
            name: data for number in range(9) for name, data in sample(str(number), (number, 9, 9), "one").items()
        }
        write_tar(path, members, "w:gz" if kind == "tar.gz" else "w")
    elif kind == "parquet":
        pq.write_table(table, path)
    else:
        write_stream(path, table)
    write_tar(folder / "good.tar", sample("good", "red", "good"))
    content = bytearray(path.read_bytes())
    source = random.Random(seed)
    for _ in range(20):
        content[source.randrange(len(content))] = source.randrange(256)
    write(path, bytes(content))
    found = lists_of(folder)
    assert "good/good.jpg" in found.items
    assert all(where.startswith(("0.", "0/")) for where in found.skipped)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "parquet", "arrow"])
def test_changed_bytes_end_as_damage(tmp_path: Path, kind: str):
    """Names of columns that are no Unicode, headers of any size, offsets that lead anywhere: no other error, no crash."""
    path = tmp_path / f"0.{kind}"
    rows = [{"image": {"bytes": picture_bytes((number, 9, 9)), "path": None}, "text": "one"} for number in range(9)]
    table = media_table(rows, {"image": MEDIUM, "text": pa.string()})
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=4)
    elif kind == "arrow":
        write_stream(path, table)
    else:
        write_tar(path, sample("1", "red", "one") | sample("2", "blue", "two"), "w:gz" if kind == "tar.gz" else "w")
    good, source, ends = path.read_bytes(), random.Random(0), set()
    for _ in range(200):
        content = bytearray(good)
        for _ in range(source.choice((1, 3, 20))):
            begin = source.choice((0, max(0, len(content) - 600)))
            content[source.randrange(begin, len(content))] = source.randrange(256)
        write(path, content[: source.choice((len(content), len(content), source.randrange(len(content))))])
        try:
            read = sum(len(b"".join(each.blocks)) for each in pieces_of(path) if isinstance(each, Piece))
            ends.add("read")
            assert read < 20 * len(good)
        except Damaged as error:
            ends.add(str(error).rpartition("; ")[2])
    assert {"read", "copy the file again"} <= ends <= {"read", "copy the file again", "leave the file out"}


def test_arrow_offsets_that_lead_elsewhere(folder: Path):
    values = pa.Array.from_buffers(
        pa.binary(), 2, [None, pa.py_buffer(b"\0\0\0\0\xff\xff\xff\x7f\x10\0\0\0"), pa.py_buffer(b"x" * 16)]
    )
    path = folder / "a.arrow"
    batch = pa.record_batch([values], names=["image"])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
        writer.write_batch(batch)
    write_tar(folder / "good.tar", sample("good", "red", "good"))
    found = lists_of(folder)
    assert [*found.items] == ["good/good.jpg"]
    assert "damaged or cut off" in found.skipped["a.arrow"]


def test_times_of_members_are_bounded(folder: Path):
    with tarfile.open(folder / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, time in (("1.jpg", -5.0), ("2.jpg", 1e18), ("3.jpg", float("nan"))):
            content = picture_bytes()
            archive.addfile(member(name, len(content), pax_headers={"mtime": str(time)}), io.BytesIO(content))
    found = lists_of(folder)
    assert [*found.items] == ["a/1.jpg", "a/2.jpg", "a/3.jpg"]
    times = [os.stat(folder.parent / "out.media" / item).st_mtime for item in found.items]
    assert all(0 <= time <= shard_writer.LATEST for time in times)


def test_a_shard_that_was_tampered_with_is_unpacked_again(folder: Path):
    img2dataset(folder, shards=1)
    lists_of(folder)
    write(folder.parent / "out.media" / "00000" / ".shard.json", "[1")
    (folder.parent / "out.media" / "00000" / "000000001.jpg").unlink()
    assert len(lists_of(folder).items) == 3


def test_links_in_place_of_the_media_folder(folder: Path):
    img2dataset(folder)
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "out.media").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(ValueError, match=r"out\.media: is no folder, but media are unpacked to this name"):
        lists_of(folder)
    assert not [*(folder.parent / "elsewhere").iterdir()]


def test_links_to_data_sets_outside_are_named(folder: Path):
    """As in the Hub's cache, where the folder above holds what they lead to."""
    blob = write_tar(folder / "blobs" / "abc", sample("1", "red", "one"))
    snapshot = folder / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "0.tar").symlink_to(os.path.relpath(blob, snapshot))
    with pytest.raises(ValueError, match=r"0\.tar: a link to a file outside of the folder, which is not followed"):
        lists_of(snapshot)
    assert [*lists_of(folder).items] == ["snapshots-main-0/1.jpg"]
