"""What `datasets`, `webdataset` and `soundfile` write is read as it is. Skipped where the first two are not installed."""

from pathlib import Path
from typing import Any

import pytest
from folder_samples import Lists, lists_of, picture
from media_samples import write_media
from PIL import Image

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def hugging_face() -> Any:
    return pytest.importorskip("datasets", reason="datasets is not installed")


def captions(found: Lists) -> list[str]:
    return [text for said in found.captions.values() for _, text in said]


def pictures(library: Any) -> Any:
    rows = {
        "image": [Image.new("RGB", (16, 16), each) for each in COLOURS.values()],
        "label": [1, 0],
        "text": [*COLOURS],
    }
    features = {
        "image": library.Image(),
        "label": library.ClassLabel(names=["cat", "dog"]),
        "text": library.Value("string"),
    }
    return library.Dataset.from_dict(rows, features=library.Features(features))


@pytest.mark.parametrize("form", ["saved", "splits", "selected", "parquet"])
def test_pictures_of_datasets(folder: Path, hugging_face: Any, form: str):
    data = pictures(hugging_face)
    if form == "saved":
        data.save_to_disk(folder / "in", num_shards=2)
    elif form == "splits":
        hugging_face.DatasetDict(train=data.select([0]), test=data.select([1])).save_to_disk(folder)
    elif form == "selected":
        data.select([1, 0]).save_to_disk(folder)
    else:
        data.to_parquet(folder / "train-00000-of-00001.parquet")
    found = lists_of(folder)
    assert sorted(captions(found)) == ["blue", "red"]
    assert {found.captions[item][0][1]: row["label"] for item, row in found.items.items()} == {
        "red": "dog",
        "blue": "cat",
    }
    if form == "selected":
        assert captions(found) == ["blue", "red"]
    assert not found.skipped


def test_an_image_folder_saved_to_disk(folder: Path, hugging_face: Any, tmp_path: Path):
    for name in COLOURS:
        picture(tmp_path / "images" / "train" / f"{name}.jpg", name)
    table = tmp_path / "images" / "train" / "metadata.csv"
    table.write_text("file_name,text\n" + "".join(f"{name}.jpg,a {name} one\n" for name in COLOURS))
    data = hugging_face.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "images"), cache_dir=str(tmp_path / "cache")
    )
    data.save_to_disk(folder)
    assert [*lists_of(folder).items] == ["train-data-00000/blue.jpg", "train-data-00000/red.jpg"]
    assert captions(lists_of(folder)) == ["a blue one", "a red one"]
    assert captions(lists_of(tmp_path / "images")) == ["a blue one", "a red one"]


def test_sounds_of_datasets(folder: Path, hugging_face: Any, tmp_path: Path):
    write_media(tmp_path / "a.wav", 1)
    data = hugging_face.Dataset.from_dict({"audio": [str(tmp_path / "a.wav")], "transcription": ["a tone"]})
    data.cast_column("audio", hugging_face.Audio(decode=False)).save_to_disk(folder)
    found = lists_of(folder)
    assert {item: row["modality"] for item, row in found.items.items()} == {"data-00000/a.wav": "audio"}
    assert captions(found) == ["a tone"]


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_tars_of_webdataset(folder: Path, ending: str):
    library = pytest.importorskip("webdataset", reason="webdataset is not installed")
    with library.TarWriter(str(folder / f"00000.{ending}")) as writer:
        for number, (name, colour) in enumerate(COLOURS.items()):
            image = Image.new("RGB", (16, 16), colour)
            writer.write(
                {"__key__": f"part/{number:05d}", "jpg": image, "txt": f"a {name} one", "json": {"number": number}}
            )
    found = lists_of(folder)
    assert [*found.items] == ["00000/part/00000.jpg", "00000/part/00001.jpg"]
    assert [row["number"] for row in found.items.values()] == [0, 1]
    assert captions(found) == ["a red one", "a blue one"]
