"""Media of strangers: files that lead to others show nothing of them, and lists are held to a folder."""

import os
import socket
from functools import partial
from pathlib import Path

import av
import pytest
from conftest import write_jsonl
from media_samples import write_media
from PIL import Image

from preprocess.media.containers import opened
from preprocess.media.folder import refuse_outside
from preprocess.media.frames import load_frames, video_seconds
from preprocess.media.images import load_image
from preprocess.media.kind import kind_of
from preprocess.media.reading import MediaError
from preprocess.media.sounds import load_audio

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile {}\n"
PLAYLISTS = {"list.mp4": CONCAT, "list.wav": CONCAT, "list.m3u8": HLS, "bom.mp4": "\ufeff" + CONCAT}


def frames(path: Path, **options: str) -> int:
    """Frames that FFmpeg finds, left to itself."""
    with av.open(str(path), options=options) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_shows_nothing_of_the_files_that_it_names(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_media(tmp_path / "secret.mp4", 3)
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format("secret.mp4"), encoding="utf-8")
    if not name.startswith("bom"):
        assert frames(path) == frames(tmp_path / "secret.mp4")  # the attack works on a plain call
    for read in (partial(load_audio, rate=16000), partial(load_frames, count=2), video_seconds):
        with pytest.raises(MediaError, match=r"a playlist of other files, which are not followed"):
            read(path)
    with pytest.raises(MediaError, match="neither a picture nor a sound nor a video"):
        kind_of(path)


@pytest.mark.parametrize("playlist", [CONCAT, HLS])
def test_ffmpeg_itself_may_open_nothing(playlist: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("preprocess.media.containers.PLAYLISTS", (b"nothing begins like this",))
    monkeypatch.chdir(tmp_path)
    write_media(tmp_path / "secret.mp4", 3)
    (tmp_path / "list.mp4").write_text(playlist.format("secret.mp4"))
    with pytest.raises(av.error.FFmpegError), opened("list.mp4") as container:
        next(container.decode(video=0))


def test_ffmpeg_calls_no_address(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("preprocess.media.containers.PLAYLISTS", (b"nothing begins like this",))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4"
        (tmp_path / "list.m3u8").write_text(HLS.format(address))
        with pytest.raises(MediaError):
            load_frames(tmp_path / "list.m3u8", 1)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_name_is_no_address_for_ffmpeg(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_media(tmp_path / "secret.mp4", 3)
    name = "concat:secret.mp4|secret.mp4"
    assert frames(Path(name)) == 6
    Path(name).write_bytes(b"no video")
    with pytest.raises(MediaError, match="not a readable video"):
        load_frames(name, 1)
    os.replace("secret.mp4", name)
    assert len(load_frames(name, 2)) == 2


def test_a_program_for_ghostscript_is_not_run(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "drawing.eps")
    (tmp_path / "drawing.eps").rename(tmp_path / "drawing.jpg")
    with pytest.raises(MediaError, match="Ghostscript, which is not run; convert it to PNG"):
        load_image(tmp_path / "drawing.jpg")


def test_lists_of_strangers_are_held_to_a_folder(tmp_path: Path):
    images, lists = tmp_path / "data" / "images", tmp_path / "data" / "lists"
    images.mkdir(parents=True)
    lists.mkdir()
    (tmp_path / "secret.png").touch()
    (images / "a.png").touch()
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    source, good = lists / "items.jsonl", {"item_id": "a", "media": "../images/a.png"}
    for media in (str(tmp_path / "secret.png"), "../../secret.png", "../images/link.png", str(images / "a.png")):
        items = [good, {"item_id": "b"}, {"item_id": "c", "media": media}]
        refuse_outside(items, source, None)
        with pytest.raises(
            ValueError, match=rf"items\.jsonl, row 3: media '{media}' is not a relative path to a file in"
        ):
            refuse_outside(items, source, tmp_path / "data")
    refuse_outside([good], source, tmp_path / "data")
    with pytest.raises(ValueError, match=r"row 1: .* or give a wider folder with --media-within"):
        refuse_outside([good], source, lists)
    with pytest.raises(ValueError, match="no such folder; --media-within is a folder"):
        refuse_outside([good], source, tmp_path / "nowhere")


def test_both_commands_refuse_before_they_load_a_model(tmp_path: Path):
    from preprocess import extract_embeddings, generate_captions

    (tmp_path / "secret.png").touch()
    (tmp_path / "lists").mkdir()
    write_jsonl(tmp_path / "lists" / "items.jsonl", [{"item_id": "a", "media": "../secret.png", "modality": "image"}])
    write_jsonl(tmp_path / "lists" / "captions.jsonl", [{"item_id": "a", "text": "a dog"}])
    given = ["--items", f"{tmp_path}/lists/items.jsonl", "--output", f"{tmp_path}/out"]
    within = ["--media-within", f"{tmp_path}/lists"]
    for main, flags in (
        (extract_embeddings.main, ["--encoder", "plain"]),
        (generate_captions.main, ["--captioner", "blip:none", "--captions", f"{tmp_path}/lists/captions.jsonl"]),
    ):
        with pytest.raises(ValueError, match=r"row 1: media '\.\./secret\.png' is not a relative path to a file in"):
            main([*given, *flags, *within])
