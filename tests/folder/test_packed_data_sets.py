"""`read_folder` and `extract_embeddings` on data sets in tar, Parquet and Arrow files."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folder_samples import Lists, lists_of, picture, write
from media_samples import write_media
from packed_samples import (
    MEDIUM,
    TIME,
    clip_retrieval,
    img2dataset,
    media_table,
    picture_bytes,
    sample,
    write_stream,
    write_tar,
)

from cart_fairseq.base.reading import read_jsonl
from preprocess import extract_embeddings, read_folder
from preprocess.data.inputs import read_captions, read_items
from preprocess.folder.formats import unpack
from preprocess.media.images import load_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def texts(found: Lists) -> dict[str, list[str]]:
    return {item: [text for _, text in said] for item, said in found.captions.items()}


def medium(folder: Path, found: Lists, item_id: str) -> Path:
    return folder.parent / "out" / found.items[item_id]["media"]


def test_tars_of_img2dataset(folder: Path):
    img2dataset(folder)
    found = lists_of(folder)
    assert [*found.items] == [f"0000{shard}/0000{shard}000{row}.jpg" for shard in range(2) for row in range(3)]
    item = found.items["00001/000010002.jpg"]
    assert (item["url"], item["key"], item["width"]) == ("http://example.com/000010002.jpg", "000010002", 16)
    assert (item["modality"], item["modified"]) == ("image", "2020-09-13T12:26:40Z")
    assert texts(found)["00001/000010002.jpg"] == ["a car in shard 1"]
    assert medium(folder, found, "00001/000010002.jpg").read_bytes() == picture_bytes((40, 80, 90))
    assert found.result.media == folder.parent / "out.media"
    assert not found.skipped
    assert read_captions(folder.parent / "out" / "captions.jsonl", read_items(folder.parent / "out" / "items.jsonl"))


def test_parquet_of_img2dataset(folder: Path):
    rows = [
        {"key": "000000000", "jpg": picture_bytes(), "txt": "a red one", "caption": "A red one", "status": "success"},
        {"key": "000000001", "jpg": None, "txt": None, "caption": "gone", "status": "failed_to_download"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    found = lists_of(folder)
    assert texts(found) == {"00000/000000000.jpg": ["a red one"]}
    assert found.items["00000/000000000.jpg"]["key"] == "000000000"
    assert found.skipped == {"00000.parquet: row 1, column jpg": "holds no medium (failed_to_download)"}


def test_files_of_img2dataset_need_no_unpacking(folder: Path):
    for name, content in sample("000000000", "red", "a red one").items():
        write(folder / "00000" / name, content)
    pq.write_table(pa.table({"key": ["000000000"]}), folder / "00000.parquet")
    found = lists_of(folder)
    assert texts(found) == {"00000/000000000.jpg": ["a red one"]}
    assert not (folder.parent / "out.media").exists()


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_tables_of_datasets(folder: Path, ending: str):
    types = {
        "image": MEDIUM,
        "label": pa.int64(),
        "text": pa.string(),
        "when": pa.date32(),
        "box": pa.list_(pa.float32()),
    }
    rows = [
        {"image": {"bytes": picture_bytes("red", "PNG"), "path": None}, "label": 1, "text": "a red one"},
        {"image": {"bytes": picture_bytes("blue"), "path": "blue door.jpeg"}, "label": 0, "text": "a blue one"},
        {"image": {"bytes": None, "path": "/etc/passwd"}, "label": 0, "text": "no one"},
        {"image": {"bytes": b"nothing", "path": None}, "label": 5, "text": "no one"},
        {"image": None, "label": None, "text": None},
    ]
    table = media_table(rows, types, {"label": ["cat", "dog"]})
    if ending == "parquet":
        path = folder / "data" / "train-00000-of-00002.parquet"
        path.parent.mkdir()
        pq.write_table(table, path)
    else:
        path = write_stream(folder / "data" / "train-00000-of-00002.arrow", table)
        write(path.parent / "state.json", json.dumps({"_data_files": [{"filename": path.name}]}))
        write_stream(path.parent / "data-00009-of-00010.arrow", table)  # of an earlier state
    found = lists_of(folder)
    assert texts(found) == {
        "data-train-00000/00000000.png": ["a red one"],
        "data-train-00000/blue_door.jpg": ["a blue one"],
    }
    assert [found.items[each]["label"] for each in found.captions] == ["dog", "cat"]
    assert load_image(medium(folder, found, "data-train-00000/00000000.png")).getpixel((0, 0)) == (255, 0, 0)
    start = path.relative_to(folder).as_posix()
    assert [found.skipped[f"{start}: row {row}, column image"].split(";")[0] for row in (2, 3, 4)] == [
        "holds only the path '/etc/passwd', which is not followed",
        "is no picture, sound or video of a format that is known",
        "holds no medium",
    ]


def test_sounds_and_several_columns(folder: Path, tmp_path: Path):
    write_media(tmp_path / "a.wav", 1)
    wave = (tmp_path / "a.wav").read_bytes()
    rows = [{"audio": {"bytes": wave, "path": "a.wav"}, "image": picture_bytes(), "transcription": "one"}]
    pq.write_table(
        media_table(rows, {"audio": MEDIUM, "image": pa.binary(), "transcription": pa.string()}), folder / "0.parquet"
    )
    found = lists_of(folder)
    kinds = {item: row["modality"] for item, row in found.items.items()}
    assert kinds == {"0/00000000-image.jpg": "image", "0/a.wav": "audio"}
    assert all(said == ["one"] for said in texts(found).values())


def test_keys_of_webdataset_end_at_the_first_dot(folder: Path):
    red, blue = picture_bytes(), picture_bytes("blue")
    members = {"1.left.jpg": red, "1.right.jpg": blue, "1.txt": "both", "2.jpg": red, "2.caption.txt": "one"}
    members |= {"v1.5.jpg": red, "v1.5.txt": "five", "v1.6.jpg": blue, "v1.6.txt": "six"}
    write_tar(folder / "a.tar", members)
    assert texts(lists_of(folder)) == {
        "a/1.left.jpg": ["both"],
        "a/1.right.jpg": ["both"],
        "a/2.jpg": ["one"],
        "a/v1.5.jpg": ["five"],
        "a/v1.6.jpg": ["six"],
    }


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_tars(folder: Path, kind: str):
    write_tar(folder / f"a.tar.{kind}", sample("1", "red", "a red one"), f"w:{kind}")
    assert texts(lists_of(folder)) == {"a/1.jpg": ["a red one"]}


def test_a_tar_of_an_image_folder(folder: Path):
    table = "file_name,text,rating\ncat/1.jpg,a cat,5\n"
    write_tar(
        folder / "a.tar",
        {"train/metadata.csv": table, "train/cat/1.jpg": picture_bytes(), "train/dog/1.jpg": picture_bytes()},
    )
    found = lists_of(folder)
    assert texts(found) == {"a/train/cat/1.jpg": ["a cat"], "a/train/dog/1.jpg": ["train dog"]}
    assert found.items["a/train/cat/1.jpg"]["rating"] == 5


def test_a_second_run_unpacks_what_has_changed(folder: Path, capsys: pytest.CaptureFixture[str]):
    img2dataset(folder, shards=3)
    first = lists_of(folder)
    times = {path: path.stat().st_mtime_ns for path in (folder.parent / "out.media").rglob("*.jpg")}
    inodes = {path: path.stat().st_ino for path in times}
    assert "unpacking 3 files of media (00000.tar …)" in capsys.readouterr().out
    assert not lists_of(folder).result.is_new
    assert "unpacking" not in capsys.readouterr().out
    (folder / "00001.tar").unlink()
    write_tar(folder / "00002.tar", sample("000020007", "red", "another"))
    found = lists_of(folder)
    assert "unpacking 1 file of media (00002.tar)" in capsys.readouterr().out
    assert [*found.items] == [*[*first.items][:3], "00002/000020007.jpg"]
    kept = [path for path in inodes if path.parent.name == "00000"]
    assert len(kept) == 3
    assert all(path.stat().st_ino == inodes[path] and path.stat().st_mtime == TIME for path in kept)
    assert sorted(path.name for path in (folder.parent / "out.media").iterdir() if path.is_dir()) == ["00000", "00002"]


def test_a_stopped_run_goes_on_with_the_next_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    img2dataset(folder)
    real, calls = unpack._write_shard, []

    def stop_at_second(source: Path, *rest: object) -> object:
        calls.append(source.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(source, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(unpack, "_write_shard", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        lists_of(folder)
    assert [path.name for path in (folder.parent / "out.media").iterdir() if path.is_dir()] == ["00000"]
    assert len(lists_of(folder).items) == 6
    assert calls == ["00000.tar", "00001.tar", "00001.tar"]


def test_one_file_is_enough(folder: Path):
    img2dataset(folder)
    out = folder.parent / "out"
    read_folder.main([str(folder / "00001.tar"), "--output", str(out), "--workers", "0"])
    assert [row["key"] for row in read_jsonl(out / "items.jsonl")] == ["000010000", "000010001", "000010002"]


def test_loose_media_come_first(folder: Path, capsys: pytest.CaptureFixture[str]):
    img2dataset(folder)
    picture(folder / "loose.jpg")
    assert [*lists_of(folder).items] == ["loose.jpg"]
    assert "holds 2 files of media (00000.tar …) beside media; they are passed over" in capsys.readouterr().err
    assert not (folder.parent / "out.media").exists()


def test_archives_without_media_are_passed_over(folder: Path):
    write_tar(folder / "code.tar.gz", {"setup.py": "print()"}, "w:gz")
    pq.write_table(pa.table({"text": ["a"], "pickled": [b"abc"]}), folder / "table.parquet")
    picture(folder / "no ending")
    assert [*lists_of(folder).items] == ["no ending"]


def test_the_name_for_media_is_not_taken_from_others(folder: Path):
    img2dataset(folder)
    write(folder.parent / "out.media" / "mine.txt", "keep me")
    with pytest.raises(ValueError, match=r"out\.media: holds other files, but media are unpacked to this name"):
        lists_of(folder)
    assert (folder.parent / "out.media" / "mine.txt").read_text() == "keep me"


def test_no_room(folder: Path, monkeypatch: pytest.MonkeyPatch):
    img2dataset(folder)
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5000})())
    with pytest.raises(ValueError, match=r"out.media: about [\d,]+ bytes are needed, 5,000 bytes are free; make room"):
        lists_of(folder)


def test_embeddings_of_a_data_set(folder: Path, tmp_path: Path):
    img2dataset(folder)
    out = tmp_path / "embedded"
    arguments = ["--items", folder, "--encoder", "plain", "--output", out, "--workers", 0]
    extract_embeddings.main([str(each) for each in arguments])
    rows = read_jsonl(out / "items.jsonl")
    assert [row["key"] for row in rows] == [f"0000{shard}000{row}" for shard in range(2) for row in range(3)]
    assert (out / rows[0]["media"]).read_bytes() == picture_bytes((0, 0, 90))
    assert [row["text"] for row in read_jsonl(out / "captions.jsonl")][:2] == [
        "a dog in shard 0",
        "a cat in shard 0",
    ]
    before = os.stat(out / "embeddings.npy").st_ino
    extract_embeddings.main([str(each) for each in arguments])
    assert os.stat(out / "embeddings.npy").st_ino == before


def test_embeddings_in_place_of_media(folder: Path):
    clip_retrieval(folder / "clip")
    with pytest.raises(ValueError, match="holds embeddings of clip-retrieval, no media; give it to"):
        lists_of(folder / "clip")


def test_a_file_that_only_names_itself_gzip(folder: Path):
    write(folder / "a.tar.gz", gzip.compress(b"no archive" * 100))
    with pytest.raises(ValueError, match=r"holds no picture.*a.tar.gz: damaged or cut off"):
        lists_of(folder)
