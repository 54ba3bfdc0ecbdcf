"""examples/flickr8k/prepare.sh: the published images and Karpathy's file become the data of the recipes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from annotation_samples import make_samples, write_flickr30k
from media_samples import write_media
from recipe_calls import call

from cart_fairseq.base.reading import read_json, read_jsonl
from preprocess.encoders.base import MediaSample
from preprocess.encoders.loading import load_encoder

PLAIN = {"ENCODER": "plain", "EMBEDDING_FLAGS": "--workers 0 --device cpu"}


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, Path]:
    """Eight images, of which one was lost, and the file with their captions."""
    media = write_flickr30k(tmp_path, make_samples())
    for number, name in enumerate(media):
        write_media(tmp_path / "Images" / name, number)
    (tmp_path / "Images" / media[1]).unlink()
    karpathy = tmp_path / "dataset_flickr8k.json"
    shutil.move(tmp_path / "dataset_flickr30k.json", karpathy)
    karpathy.write_text(json.dumps({**read_json(karpathy), "dataset": "flickr8k"}))
    return tmp_path / "Images", karpathy


def test_images_and_captions_become_data(published, tmp_path):
    images, karpathy = published
    printed = call("flickr8k/prepare", images, karpathy, tmp_path / "out", **PLAIN)
    assert "1 of 8 media files are missing" in printed
    assert "6,000" in printed
    data = tmp_path / "out" / "data"
    items, captions = read_jsonl(data / "items.jsonl"), read_jsonl(data / "captions.jsonl")
    assert [item["split"] for item in items] == ["train"] * 3 + ["valid"] * 2 + ["test"] * 2
    for item in items:
        roles = [caption["role"] for caption in captions if caption["item_id"] == item["item_id"]]
        assert roles == (["train"] * 5 if item["split"] == "train" else ["index"] + ["query"] * 4)
    files = [MediaSample("image", data / item["media"]) for item in items]
    np.testing.assert_array_equal(np.load(data / "embeddings.npy"), load_encoder("plain").embed_media(files))


def test_a_second_call_does_nothing_and_new_images_are_taken(published, tmp_path):
    images, karpathy = published
    call("flickr8k/prepare", images, karpathy, tmp_path / "out", **PLAIN)
    printed = call("flickr8k/prepare", images, karpathy, tmp_path / "out", **PLAIN)
    assert "up to date with these media and settings" in printed
    write_media(images / read_json(karpathy)["images"][1]["filename"], 1)
    call("flickr8k/prepare", images, karpathy, tmp_path / "out", **PLAIN)
    assert len(read_jsonl(tmp_path / "out" / "data" / "items.jsonl")) == 8


@pytest.mark.parametrize(("given", "said"), [(["no-such.json", "out"], "no such file"), (["", "out"], "name a file")])
def test_a_wrong_file_is_named(given, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        call("flickr8k/prepare", tmp_path, *given)
    assert not (tmp_path / "out").exists()
