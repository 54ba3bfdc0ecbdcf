"""Media: the file of an item by its id alone, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from serving_samples import CLIP, PAGE, PICTURE, SECRET, SOUND, client_of, copy_world, png

from cart_fairseq.base.media_types import MEDIA_TYPES, MORE_TYPES, suffix_of, type_of_content


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_world(tmp_path_factory.mktemp("world"), media=True)


@pytest.fixture(scope="module")
def client(world: Path) -> Iterator[TestClient]:
    with client_of(world, media_root=world / "media") as found:
        yield found


@pytest.mark.parametrize(
    ("item_id", "kind"),
    [(PICTURE, "image/png"), (SOUND, "audio/wav"), (CLIP, "video/mp4"), ("drawing", "image/svg+xml")],
)
def test_files_come_by_the_id_of_their_item_with_the_type_of_their_content(client: TestClient, item_id: str, kind: str):
    url = client.get(f"/api/items/{quote(item_id, safe='')}").json()["media_url"]
    answer = client.get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind
    assert "content-disposition" not in answer.headers
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    if item_id == PICTURE:
        assert answer.content == png()


def test_hits_have_the_addresses_of_their_files(client: TestClient):
    request = {"query": "a dog", "candidates": [PICTURE, "item 3", SECRET], "k": 3}
    hits = client.post("/api/search", json=request).json()["results"][0]["hits"]
    found = {hit["item_id"]: hit["media_url"] for hit in hits}
    assert client.get(found[PICTURE]).content == png()
    assert found["item 3"] is None


def test_what_is_no_medium_is_a_download(client: TestClient):
    answer = client.get(f"/media/{PAGE}")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment"


@pytest.mark.parametrize("item_id", [SECRET, "absolute", "link", "folder", "missing", "item 3", "nobody", ""])
def test_nothing_else_is_served(client: TestClient, item_id: str):
    answer = client.get(f"/media/{item_id}")
    assert answer.status_code == 404
    assert "secret" not in answer.text.replace(SECRET, "")
    assert "root:" not in answer.text


PATHS = ["../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "pictures/dog.png", "/etc/passwd", "%2fetc%2fpasswd"]
PATHS += ["bark.mp3", "..\\secret.txt", "%00", "bark.mp3%00.png", "file:///etc/passwd", "http://127.0.0.1/", "%ff%fe"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_or_an_address_is_no_id(client: TestClient, path: str):
    answer = client.get(f"/media/{path}")
    assert answer.status_code == 404
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-10", 206, slice(-10, None)),
        ("bytes=0-999999999", 206, slice(None)),
        ("bytes=999999999-", 416, None),
        ("bytes=9-3", 400, None),
        ("lines=1-2", 400, None),
    ],
)
def test_ranges(client: TestClient, world: Path, asked: str, status: int, part: slice | None):
    whole = (world / "media" / "clip.bin").read_bytes()
    answer = client.get(f"/media/{CLIP}", headers={"range": asked})
    assert answer.status_code == status
    if part is not None:
        assert answer.content == whole[part]
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-range"].endswith(f"/{len(whole)}")


def test_a_range_of_a_changed_file_is_the_whole_file(client: TestClient):
    answer = client.get(f"/media/{CLIP}", headers={"range": "bytes=0-9", "if-range": '"another"'})
    assert answer.status_code == 200


def test_only_the_headers(client: TestClient, world: Path):
    answer = client.head(f"/media/{CLIP}")
    assert answer.status_code == 200
    assert answer.headers["content-length"] == str((world / "media" / "clip.bin").stat().st_size)
    assert answer.content == b""


def test_without_a_folder_there_are_no_media(world: Path):
    with client_of(world) as client:
        assert client.get(f"/media/{SOUND}").status_code == 404
        assert client.get(f"/api/items/{SOUND}").json()["media_url"] is None


def test_paths_may_lead_from_another_folder_into_the_folder(world: Path):
    """As those of `preprocess.annotations`, which are relative to its output: `../images/1.jpg`."""
    base = world / "media" / "pictures"
    with client_of(world, media_root=world, media_base=base) as client:
        assert client.get(f"/media/{SECRET}").status_code == 404  # there is no media/secret.txt
        assert client.get(f"/media/{SOUND}").status_code == 404
    (world / "media" / "secret.txt").write_text("no secret")
    with client_of(world, media_root=world / "media", media_base=base) as client:
        assert client.get(f"/media/{SECRET}").text == "no secret"


def test_every_type_has_a_suffix():
    for kind in {*MEDIA_TYPES.values(), *MORE_TYPES.values()}:
        assert (MEDIA_TYPES | MORE_TYPES)[suffix_of(kind)] == kind


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
        (b"RIFF\0\0\0\0????", None),
        (b"fLaC\0", "audio/flac"),
        (b"ID3\x03", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"\xff\xfe<\0h\0t\0m\0l\0", None),
        (b"OggS" + bytes(24) + b"\x80theora", "video/ogg"),
        (b"OggS" + bytes(24) + b"OpusHead", "audio/ogg"),
        (b"\x1a\x45\xdf\xa3" + bytes(20) + b"webm", "video/webm"),
        (b"\x1a\x45\xdf\xa3" + bytes(20) + b"matroska", "video/x-matroska"),
        (b"\0\0\0\x1cftypM4A ", "audio/mp4"),
        (b"\0\0\0\x1cftypavif", "image/avif"),
        (b"\0\0\0\x1cftypqt  ", "video/quicktime"),
        (b"BM" + bytes(12), "image/bmp"),
        (b"BMW is a car", None),
        (b"II*\0", "image/tiff"),
        (b"", None),
        (b"\xff", None),
        (b"<html>", None),
    ],
)
def test_types_of_contents(head: bytes, kind: str | None):
    assert type_of_content(head) == kind
