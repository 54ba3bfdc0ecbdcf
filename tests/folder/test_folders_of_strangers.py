"""`read_folder`: whatever lies in a folder, and what a second run does."""

import os
import signal
import socket
import tarfile
import time
import unicodedata
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from folder_samples import lists_of, picture, write
from media_samples import write_media
from PIL import Image
from processes import forked

from cart_fairseq.base.reading import read_jsonl
from preprocess import read_folder as command
from preprocess.folder import build, contents, pool
from preprocess.folder.build import read_folder
from preprocess.folder.limits import SIDECAR_BYTES
from preprocess.folder.settings import FolderSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_archives_of_pictures_are_no_videos(folder: Path):
    picture(folder / "a.jpg")
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(folder / "a.jpg")
    with tarfile.open(folder / "a.mp4", "w") as archive:
        archive.add(folder / "a.jpg")
    found = lists_of(folder)
    assert [*found.items] == ["a.jpg"]
    assert found.skipped == {"a.mp4": "is an archive, not a picture, sound or video; unpack it"}


def test_kinds_are_by_content(folder: Path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "pages.tiff", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "previews.jpg", format="MPO", save_all=True, append_images=frames[1:])
    picture(folder / "still.GIF")
    picture(folder / "no ending")
    picture(folder / "wrong.mp3", format="PNG")
    write_media(folder / "a.wav", 1)
    (folder / "a.wav").rename(folder / "SOUND.PNG")
    write_media(folder / "a.mp4", 1)
    found = lists_of(folder)
    kinds = {name: item["modality"] for name, item in found.items.items()}
    assert kinds == {
        **dict.fromkeys(("pages.tiff", "previews.jpg", "still.GIF", "no ending", "wrong.mp3"), "image"),
        **{"moving.gif": "video", "SOUND.PNG": "audio", "a.mp4": "video"},
    }
    assert list(found.items) == sorted(found.items)
    assert found.result.items == {"image": 5, "video": 2, "audio": 1}


def test_strange_names(folder: Path):
    nfc, nfd = "é.jpg", unicodedata.normalize("NFD", "é.jpg")
    good = ["a b.jpg", 'it\'s "x".jpg', "-rf.jpg", "--output", f"{'n' * 200}.jpg", "🐕.jpg", nfc, nfd, "a#0", "a"]
    for name in good:
        picture(folder / name)
    picture(folder / "two\nlines.jpg")
    picture(folder / "tab\t.jpg")
    content = (folder / "a").read_bytes()
    for raw in (b"bad\xff.jpg", b"folder\xff/a.jpg", b"bad\xff.txt"):
        path = os.path.join(os.fsencode(folder), raw)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    found = lists_of(folder)
    assert {*found.items} == {*good}
    assert "newline" in found.skipped["two\nlines.jpg"]
    assert found.skipped["bad\\udcff.jpg"] == "its name is not valid Unicode; rename it"
    assert found.skipped["folder\\udcff"] == "a folder whose name is not valid Unicode; rename it"
    assert len(found.skipped) == 4


def test_what_is_passed_over(folder: Path):
    picture(folder / "a.jpg")
    hidden = (".git/b.jpg", ".hidden.jpg", "__MACOSX/a.jpg", "sub/@eaDir/a.jpg", "THUMBS.DB", ".DS_Store")
    for name in hidden:
        picture(folder / name, format="JPEG")
    for name, content in (
        ("a.pdf", b"%PDF-1.4\n\0"),
        ("a.zip", b"PK\x03\x04\0"),
        ("README.md", b"text"),
        ("b.txt", b""),
    ):
        write(folder / name, content)
    write(folder / "c.json", "broken")
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "s"))
    found = lists_of(folder)
    assert [*found.items] == ["a.jpg"]
    assert found.skipped == {"pipe.jpg": "no plain file"}
    assert "7 other files passed over" in found.result.summary  # two texts, a README, PDF, zip, pipe, socket


def test_what_cannot_be_used_is_listed(folder: Path):
    picture(folder / "good.jpg")
    (folder / "good.txt").write_bytes(b"caf\xe9")
    write(folder / "good.json", "[1, 2]")
    content = picture(folder / "a.png").read_bytes()
    chunk = b"IHDR" + (50_000).to_bytes(4, "big") * 2 + content[24:29]
    write(folder / "bomb.png", content[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + content[33:])
    write(folder / "cut.png", content[:30])
    write(folder / "empty.jpg")
    write(folder / "page.jpg", "<html>not found</html>")
    write(folder / "drawing.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>")
    write(folder / "list.mp4", "#EXTM3U\n/etc/passwd\n")
    write(folder / "big.txt", "x" * (SIDECAR_BYTES + 1))
    picture(folder / "big.jpg")
    found = lists_of(folder)
    assert [*found.items] == ["a.png", "big.jpg", "good.jpg"]
    expected = {
        "good.txt": "invalid UTF-8 at byte 3",
        "good.json": "found list, not an object",
        "bomb.png": "too many pixels",
        "cut.png": "damaged",
        "empty.jpg": "is empty",
        "page.jpg": "is a text",
        "drawing.svg": "SVG",
        "list.mp4": "is a text",
        "big.txt": "more than 1,048,576 bytes",
    }
    assert found.skipped.keys() == expected.keys()
    assert all(text in found.skipped[path] for path, text in expected.items())


def test_links(folder: Path):
    picture(folder / ".store" / "object")
    picture(folder.parent / "outside" / "secret.jpg")
    picture(folder / "sub" / "a.jpg")
    (folder / "link.jpg").symlink_to(".store/object")
    (folder / "out.jpg").symlink_to("../outside/secret.jpg")
    (folder / "broken.jpg").symlink_to("nowhere.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "sub" / "up").symlink_to("..")
    (folder / "sub" / "away").symlink_to("../../outside")
    (folder / "sub" / "a.txt").symlink_to("/etc/hostname")
    found = lists_of(folder)
    assert [*found.items] == ["link.jpg", "sub/a.jpg"]
    assert found.captions["sub/a.jpg"] == [("name", "sub")]
    assert {*found.skipped} == {"out.jpg", "broken.jpg", "loop.jpg", "sub/away"}


def test_folders_and_files_that_may_not_be_read_or_vanish(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.jpg", "closed/b.jpg", "shut.jpg", "gone.jpg"):
        picture(folder / name)
    scan, access, look = os.scandir, os.access, contents._read_medium

    def refused(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    def vanished(path: Path) -> Any:
        if path.name == "gone.jpg":
            raise FileNotFoundError(2, "No such file")
        return look(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        patch.setattr(os, "access", lambda path, mode: "shut" not in str(path) and access(path, mode))
        patch.setattr(contents, "_read_medium", vanished)
        found = lists_of(folder)
    assert [*found.items] == ["a.jpg"]
    assert {*found.skipped} == {"closed", "shut.jpg", "gone.jpg"}
    again = lists_of(folder)  # what the system refused is tried again
    assert again.result.is_new
    assert len(again.items) == 4


def test_the_output_may_lie_inside(folder: Path):
    picture(folder / "a.jpg")
    first = read_folder(folder, folder / "lists", FolderSettings(workers=0))
    assert first.items == {"image": 1}
    assert read_jsonl(folder / "lists/items.jsonl")[0]["media"] == "../a.jpg"
    assert not read_folder(folder, folder / "lists", FolderSettings(workers=0)).is_new


@pytest.mark.parametrize(
    ("name", "said"), [("none", "no such folder"), ("file", "is a file"), ("empty", "holds no pic")]
)
def test_folders_without_media_are_refused(tmp_path: Path, name: str, said: str):
    write(tmp_path / "file")
    write(tmp_path / "empty" / "bad.jpg", b"\xff\xd8\xff\0")
    with pytest.raises(ValueError, match=said):
        read_folder(tmp_path / name, tmp_path / "out", FolderSettings(workers=0))
    assert not (tmp_path / "out").exists()


def test_a_second_run_opens_only_what_changed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        picture(folder / name)
    write(folder / "b.txt", "old")
    first = lists_of(folder)
    seen: list[str] = []
    read = build.read_contents

    def noting(job: contents.Job) -> contents.Contents:
        seen.append(job.path)
        return read(job)

    monkeypatch.setattr(build, "read_contents", noting)
    assert not lists_of(folder).result.is_new
    assert seen == []
    write(folder / "b.txt", "newer")
    picture(folder / "d.jpg", "blue")
    (folder / "c.jpg").unlink()
    second = lists_of(folder)
    assert seen == ["b.jpg", "d.jpg"]
    assert [*second.items] == ["a.jpg", "b.jpg", "d.jpg"]
    assert second.items["a.jpg"] == first.items["a.jpg"]
    assert second.captions["b.jpg"] == [("txt", "newer")]
    seen.clear()
    (folder.parent / "out/contents.jsonl").write_text("{}\n")  # damaged: everything is read again
    assert lists_of(folder).items == second.items
    assert len(seen) == 3


def test_workers_find_the_same(folder: Path):
    for number in range(70):
        picture(folder / f"{number % 7}" / f"door {number}.jpg")
    alone = lists_of(folder)
    (folder.parent / "out").rename(folder.parent / "alone")
    assert lists_of(folder, workers=2)[1:] == alone[1:]


def crash_or_read(path: str) -> str:
    if path == "bad":
        os.kill(os.getpid(), signal.SIGKILL)
    return path.upper()


def test_a_file_that_kills_its_worker_is_named_and_the_others_are_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool, "CHUNK", 2)
    jobs = [*(f"f{number}" for number in range(9)), "bad", *(f"g{number}" for number in range(9))]
    found = dict(pool.run_jobs(crash_or_read, jobs, 2))
    assert found == {job: None if job == "bad" else job.upper() for job in jobs}


def wait_in_worker(folder: Path, out: Path, mark: Path) -> None:
    def slow(job: Any) -> Any:
        mark.write_text(str(os.getpid()))
        time.sleep(60)

    build.read_contents = slow
    pool._run_chunk = lambda function, jobs: [slow(job) for job in jobs]
    read_folder(folder, out, FolderSettings(workers=0))


def test_a_killed_run_leaves_the_old_lists_and_is_repeated(folder: Path):
    picture(folder / "a.jpg")
    old = lists_of(folder)
    picture(folder / "b.jpg")
    mark = folder.parent / "mark"
    with forked(wait_in_worker, folder, folder.parent / "out", mark) as process:
        while not mark.exists():
            assert process.is_alive()
            time.sleep(0.01)
        process.kill()
        process.join()
    assert [row["item_id"] for row in read_jsonl(folder.parent / "out/items.jsonl")] == [*old.items]
    assert [*lists_of(folder).items] == ["a.jpg", "b.jpg"]
    assert {path.name for path in folder.parent.iterdir()} == {"in", "out", "mark"}


def test_the_command_says_what_it_found(folder: Path, capsys: pytest.CaptureFixture[str]):
    picture(folder / "red door.jpg")
    write(folder / "bad.jpg", b"\xff\xd8\xff\0")
    words = [str(folder), "--output", str(folder.parent / "out"), "--workers", "1"]
    command.main(words)
    said = capsys.readouterr().out
    assert "1 item (1 image)" in said
    assert "1 caption (1 name); 0 items have none" in said
    assert "1 skipped, the first: bad.jpg: damaged" in said
    command.main(words)
    assert "up to date" in capsys.readouterr().out
    write(folder.parent / "other" / "mine.txt", "x")
    with pytest.raises(ValueError, match=r"mine.txt"):
        command.main([str(folder), "--output", str(folder.parent / "other")])
