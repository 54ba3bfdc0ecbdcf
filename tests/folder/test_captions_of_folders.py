"""`read_folder`: where captions and fields come from, and in which order."""

import json
import random
import struct
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folder_samples import lists_of, picture, tagged, write
from media_samples import write_media
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from preprocess.binarize import main as binarize
from preprocess.build_identifiers import main as build_identifiers
from preprocess.data.inputs import read_captions, read_items
from preprocess.extract_embeddings import main as extract_embeddings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def exif(**tags: object) -> Image.Exif:
    names = {"description": 0x010E, "artist": 0x013B, "xp_title": 0x9C9B, "xp_comment": 0x9C9C, "xp_keywords": 0x9C9E}
    names["changed"] = 0x0132
    found = Image.Exif()
    for name, value in tags.items():
        if name in names:
            found[names[name]] = value
        else:
            found.get_ifd(0x8769)[{"date": 0x9003, "comment": 0x9286}[name]] = value
    return found


def iptc(*records: tuple[int, str]) -> bytes:
    """The segment of a JPEG file that has IPTC's records."""
    data = b"".join(b"\x1c\x02" + struct.pack(">BH", tag, len(text.encode())) + text.encode() for tag, text in records)
    block = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"\xff\xed" + struct.pack(">H", len(block) + 2) + block


def with_iptc(path: Path, *records: tuple[int, str]) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:2] + iptc(*records) + content[2:])


def test_all_sources_are_combined_in_order(folder: Path):
    picture(folder / "trip" / "a.JPG", exif=exif(description="From EXIF", artist="Ann", date="2019:05:04 10:00:00"))
    with_iptc(folder / "trip" / "a.JPG", (5, "The title"), (120, "from exif"), (25, "dog"), (25, "beach"))
    write(folder / "trip" / "a.txt", "\ufeff  From\r\n the text ")
    write(folder / "trip" / "a.json", json.dumps({"caption": "From JSON", "title": "A", "width": 7, "split": "val"}))
    write(folder / "metadata.csv", "file_name,text,rating,width\ntrip/a.JPG,From table,5,9\ntrip/a.JPG,from json,,\n")
    found = lists_of(folder, names="always")
    assert found.captions["trip/a.JPG"] == [
        ("txt", "From the text"),
        ("json", "From JSON"),
        ("json", "A"),
        ("metadata", "From table"),
        ("exif", "From EXIF"),
        ("iptc", "The title"),
        ("name", "trip"),
    ]
    item = found.items["trip/a.JPG"]
    assert {
        "width": 7,
        "split_": "val",
        "title": "A",
        "rating": 5,
        "artist": "Ann",
        "year": 2019,
    }.items() <= item.items()
    assert item["tags"] == ["dog", "beach"]
    assert item["folder"] == "trip"
    assert item["modality"] == "image"
    assert item["media"] == "../in/trip/a.JPG"
    assert item["bytes"] == (folder / "trip/a.JPG").stat().st_size
    assert found.skipped == {}
    assert found.result.captions == {"txt": 1, "json": 2, "metadata": 1, "exif": 1, "iptc": 1, "name": 1}


def test_windows_and_user_comments(folder: Path):
    tags = exif(
        xp_title="Größe\0".encode("utf-16-le"),
        xp_keywords="a;b\0".encode("utf-16-le"),
        comment=b"UNICODE\0" + "日本".encode("utf-16-be"),
    )
    picture(folder / "a.jpg", exif=tags)
    picture(folder / "b.jpg", exif=exif(comment=b"ASCII\0\0\0a dog"))
    found = lists_of(folder)
    assert found.captions == {"a.jpg": [("exif", "Größe"), ("exif", "日本")], "b.jpg": [("exif", "a dog")]}
    assert found.items["a.jpg"]["tags"] == ["a", "b"]


def test_texts_beside_may_keep_the_ending_of_the_medium(folder: Path):
    for name in ("clip 2.png", "clip 2.jpg", "größer.png"):
        picture(folder / name)
    write(folder / "clip 2.png.txt", "of the PNG")
    write(folder / "clip 2.jpg.json", json.dumps({"caption": "of the JPEG", "rating": 5}))
    write(folder / "clip 2.txt", "of both")
    write(folder / unicodedata.normalize("NFD", "größer.png.txt"), "of the other")
    found = lists_of(folder)
    assert found.captions == {
        "clip 2.png": [("txt", "of the PNG"), ("txt", "of both")],
        "clip 2.jpg": [("txt", "of both"), ("json", "of the JPEG")],
        "größer.png": [("txt", "of the other")],
    }
    assert found.items["clip 2.jpg"]["rating"] == 5
    assert "rating" not in found.items["clip 2.png"]
    assert "3 items (3 image)" in found.result.summary
    assert "passed over" not in found.result.summary


@pytest.mark.parametrize(
    ("tags", "year"),
    [
        ({"changed": "2011:02:03 04:05:06"}, 2011),
        ({"changed": "2011:02:03 04:05:06", "date": "2009:01:01 00:00:00"}, 2009),
        ({"changed": "2011:02:03 04:05:06", "date": "0000:00:00 00:00:00"}, 2011),
        ({"changed": "    "}, None),
    ],
)
def test_the_year_is_that_of_the_picture_else_of_its_last_change(folder: Path, tags: dict[str, str], year: int | None):
    picture(folder / "house.jpg", exif=exif(**tags))
    found = lists_of(folder)
    assert found.items["house.jpg"].get("year") == year
    assert "1 caption (1 name); 0 items have none" in found.result.summary


@pytest.mark.parametrize(
    "text",
    ["OLYMPUS DIGITAL CAMERA", "SAMSUNG", "SONY DSC", "Created with GIMP", "Adobe Photoshop CS6", "20190504", " "],
)
def test_what_cameras_write_is_no_caption(folder: Path, text: str):
    picture(folder / "red house.jpg", exif=exif(description=text))
    assert lists_of(folder).captions == {"red house.jpg": [("name", "red house")]}


def test_texts_of_png_and_comments(folder: Path):
    texts = PngInfo()
    texts.add_text("Title", "A house")
    texts.add_itxt("Description", "größer", zip=True)
    texts.add_text("Software", "Paint")
    picture(folder / "a.png", pnginfo=texts)
    picture(folder / "b.gif", comment=b"a gif")
    found = lists_of(folder)
    assert found.captions == {"a.png": [("tags", "A house"), ("tags", "größer")], "b.gif": [("tags", "a gif")]}
    assert found.items["a.png"]["title"] == "A house"


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp3", "libmp3lame"), ("a.ogg", "libopus"), ("a.m4a", "aac"), ("a.flac", "flac")]
)
def test_tags_of_sounds(folder: Path, name: str, codec: str):
    tags = {"title": "Für Elise", "artist": "Ann", "album": "Songs", "genre": "Folk", "date": "1999-05-01"}
    tagged(folder / name, codec, {**tags, "comment": "rainy"})
    found = lists_of(folder)
    assert found.captions[name] == [("tags", "Für Elise"), ("tags", "Für Elise, Ann, Songs"), ("tags", "rainy")]
    item = found.items[name]
    assert {key: item[key] for key in ("title", "artist", "album", "genre", "year", "modality")} == {
        **{key: tags[key] for key in ("title", "artist", "album", "genre")},
        "year": 1999,
        "modality": "audio",
    }


def test_tags_in_old_encodings(folder: Path):
    write_media(folder / "a.avi", 1)
    tagged(folder / "b.wav", "pcm_s16le", {"title": "Caffee XY"})
    content = (folder / "b.wav").read_bytes()
    assert b"Caffee" in content
    write(folder / "b.wav", content.replace(b"Caffee", b"Caf\xe9  "))
    found = lists_of(folder)
    assert found.captions["b.wav"] == [("tags", "Café XY")]


@pytest.mark.parametrize("kind", ["csv", "bom", "semicolons", "jsonl", "parquet"])
def test_metadata_tables(folder: Path, kind: str):
    for name in ("a.jpg", "über.jpg", "0007"):
        picture(folder / "sub" / name)
    rows = [
        {"file_name": "a.jpg", "text": "one; two", "label": 3, "score": 0.5},
        {"file_name": "u\u0308ber.jpg", "text": "three", "label": 4, "score": 1.0},
        {"file_name": "0007", "text": "1", "label": 5, "score": 2.0},
    ]
    if kind == "jsonl":
        write(
            folder / "sub/metadata.jsonl", "".join(json.dumps({**row, "box": [1], "none": None}) + "\n" for row in rows)
        )
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist([{**row, "raw": b"x"} for row in rows]), folder / "sub/metadata.parquet")
    else:
        mark, separator = "\ufeff" if kind == "bom" else "", ";" if kind == "semicolons" else ","
        lines = [[*rows[0]], *([f'"{value}"' for value in row.values()] for row in rows)]
        write(folder / "sub/metadata.csv", mark + "".join(separator.join(line) + "\n" for line in lines))
    found = lists_of(folder)
    assert found.skipped == {}
    texts = {"sub/a.jpg": "one; two", "sub/über.jpg": "three", "sub/0007": "1"}
    assert found.captions == {name: [("metadata", text)] for name, text in texts.items()}
    assert [(item["label"], item["score"]) for item in found.items.values()] == [(5, 2.0), (3, 0.5), (4, 1.0)]
    assert "raw" not in found.items["sub/a.jpg"]


def test_rows_of_several_files_and_wrong_rows(folder: Path):
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        picture(folder / name)
    picture(folder.parent / "secret.jpg")
    rows = [
        {"file_names": ["a.jpg", "b.jpg"], "caption": "both"},
        {"left_file_name": "a.jpg", "captions": ["left", "LEFT"]},
        {"file_name": "../secret.jpg", "text": "out"},
        {"file_name": str(folder / "a.jpg"), "text": "absolute"},
        {"file_name": "none.jpg", "text": "gone"},
        {"text": "nothing"},
    ]
    write(folder / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + "broken\n")
    write(folder / "sub/metadata.csv", "file_name,text\n../b.jpg,from below\nc.jpg,too,many\n")
    found = lists_of(folder, names="never")
    assert found.captions == {
        "a.jpg": [("metadata", "both"), ("metadata", "left")],
        "b.jpg": [("metadata", "both"), ("metadata", "from below")],
    }
    assert found.result.without_captions == 1
    assert "row 3: leads out of the folder" in found.skipped["../secret.jpg"]
    assert "row 4: leads out of the folder" in found.skipped[str(folder / "a.jpg")]
    assert "row 5: there is no such picture" in found.skipped["none.jpg"]
    assert "row 7" in found.skipped["metadata.jsonl"]
    assert "3 fields, but 2 columns" in found.skipped["sub/metadata.csv"]


@pytest.mark.parametrize("seed", range(30))
def test_hostile_metadata_never_stop_the_run_and_are_read_by_the_next_steps(folder: Path, seed: int):
    """Damaged bytes of every kind of file: all that is written is valid for the next step."""
    draw = random.Random(seed)
    picture(folder / "good.jpg")
    picture(folder / "a.jpg", exif=exif(description="x" * 50, comment=b"ASCII\0\0\0" + b"y" * 50))
    with_iptc(folder / "a.jpg", (120, "caption"), (25, "tag"))
    texts = PngInfo()
    texts.add_text("Title", "A house" * 9)
    picture(folder / "b.png", pnginfo=texts)
    tagged(folder / "c.mp3", "libmp3lame", {"title": "a title", "comment": "z" * 60})
    values = [
        '"\\ud83d"',
        "NaN",
        "Infinity",
        "1e999",
        "9" * 400,
        '{"a": 1}',
        '"\\u0000\\n"',
        "[[]]",
        f'"{"w " * 200}"',
        "true",
    ]
    pairs = [f'"k{n}": {draw.choice(values)}' for n in range(9)] + ['"item_id": "x"', '"media": "/etc/passwd"', '"": 1']
    write(folder / "good.json", "{" + ", ".join([*pairs, f'"caption": {draw.choice(values)}']) + "}")
    write(folder / "metadata.csv", "file_name,text\na.jpg,text\n")
    for path in (folder / "a.jpg", folder / "b.png", folder / "c.mp3", folder / "metadata.csv"):
        content = bytearray(path.read_bytes())
        for _ in range(draw.choice([1, 5, 20])):
            content[draw.randrange(min(len(content), 400))] = draw.randrange(256)
        path.write_bytes(content)
    found = lists_of(folder)
    item = found.items["good.jpg"]
    assert item["media"] == "../in/good.jpg"
    assert item.get("media_") == "/etc/passwd"
    assert len(read_captions(folder.parent / "out/captions.jsonl", read_items(folder.parent / "out/items.jsonl"))) >= 1
    json.loads((folder.parent / "out/items.jsonl").read_text().splitlines()[-1], parse_constant=pytest.fail)


def test_the_lists_go_through_the_next_steps(folder: Path):
    for number in range(36):
        write_media(folder / f"set {number % 4}/red car {number}.jpg", number)
        write(folder / f"set {number % 4}/red car {number}.txt", f"number {number}")
    lists_of(folder, names="always")
    out = folder.parent / "out"
    items = ["--items", out / "items.jsonl"]
    words = [*items, "--encoder", "plain", "--output", out.parent / "data", "--workers", "0"]
    extract_embeddings([str(word) for word in [*words, "--media-within", folder]])
    words = ["--embeddings", out.parent / "data/embeddings.npy", *items, "--output", out.parent / "ids", "--pca", "8"]
    build_identifiers(
        [str(word) for word in [*words, "--kmeans-clusters", 4, "--codebook-size", 4, "--allow-collapse"]]
    )
    words = ["--identifiers", out.parent / "ids", "--captions", out / "captions.jsonl", "--output", out.parent / "bin"]
    binarize([str(word) for word in words])
    assert (out.parent / "bin/manifest.json").is_file()
