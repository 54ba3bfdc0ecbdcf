"""examples/icons: a package of icons becomes pictures, captions and figures."""

import io
import itertools
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import load_example, write_jsonl
from media_samples import picture
from PIL import Image
from recipe_calls import call, training_here

from cart_fairseq.base.reading import read_json, read_jsonl

icons = load_example("icons", "icons")
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" stroke="currentColor" stroke-width="2">{}</svg>'
FLAGS = {
    "EMBEDDING_FLAGS": "--workers 0 --device cpu",
    "IDENTIFIER_FLAGS": "--scheme residual-kmeans --kmeans-clusters 3 --codebook-size 3 --allow-collapse",
}
TINY = ("--arch", "cart_tiny", "--batch-size", "16", "--max-epoch", "2", "--lr", "0.01")
COUNT = 12


def write_package(folder: Path) -> Path:
    """Icons 0 to 11, of which number i has a line at height 2 i and 1 to 6 tags; and an older name of icon 0."""
    (folder / "icons").mkdir(parents=True)
    for number in range(COUNT):
        line = f'<path d="M0 {2 * number} H24" />'
        (folder / "icons" / f"icon-{number}.svg").write_text(SVG.format(line))
    (folder / "icons" / "older-name.svg").write_text((folder / "icons" / "icon-0.svg").read_text())
    words = ["line", "height", "plain", "wide", "thin", "level"]
    tags = {f"icon-{number}": words[: 1 + number % 6] for number in range(COUNT)}
    (folder / "tags.json").write_text(json.dumps(tags))
    return folder


def draw(svg_string: str, width: int, **_: Any) -> bytes:
    """Stands in for resvg: another picture for each icon."""
    found = re.search(r"M0 (\d+)", svg_string)
    if found is None:
        raise ValueError("no path")
    file = io.BytesIO()
    picture(int(found[1]) // 2).resize((width, width)).save(file, "png")
    return file.getvalue()


@pytest.fixture
def resvg(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", SimpleNamespace(svg_to_bytes=draw, __resvg_version__="0"))


def test_three_commands_lead_from_the_package_to_figures(resvg, tmp_path):
    package, out = write_package(tmp_path / "package"), tmp_path / "out"
    printed = call("icons/prepare", package, out, **FLAGS)
    assert "plain: 1600 dimensions" in printed
    items = read_jsonl(out / "data" / "items.jsonl")
    assert [item["item_id"] for item in items] == [f"icon-{number}" for number in range(COUNT)]
    assert all((out / "data" / item["media"]).is_file() for item in items)
    printed = call("icons/prepare", package, out, **FLAGS)
    assert printed.count("nothing to do") == 2
    (package / "icons" / "icon-3.svg").write_text(SVG.format('<path d="M0 34 H24" />'))
    before = np.load(out / "data" / "embeddings.npy")
    call("icons/prepare", package, out, **FLAGS)
    changed = (np.load(out / "data" / "embeddings.npy") != before).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [3]
    with training_here() as trainings:
        call("icons/train", out, *TINY, RECIPE="cpu", **FLAGS)
        assert len(trainings.calls) == 1
        call("icons/evaluate", out)
    found = read_json(out / "metrics.json")
    assert {split: (row["queries"], row["candidates"]) for split, row in found.items()} == {
        "valid": (6, COUNT),
        "test": (8, COUNT),
    }
    reference = read_json(out / "reference.json")
    assert reference == {split: load_example("icons", "reference").tfidf(out / "data", split) for split in found}


def test_tf_idf_takes_all_texts_of_an_icon_as_one(tmp_path):
    write_jsonl(tmp_path / "items.jsonl", [{"item_id": name} for name in "abcd"])
    texts = {"a": ["red dog", "old"], "b": ["red cat", "new"], "c": ["blue cat", "old"], "d": ["blue cat", "old"]}
    captions = [{"item_id": name, "text": text, "role": "train"} for name, of_item in texts.items() for text in of_item]
    for name, text in (("a", "old red dog"), ("b", "red cat"), ("c", "blue old"), ("d", "dog red")):
        captions.append({"item_id": name, "text": text, "role": "query", "split": "test"})
    write_jsonl(tmp_path / "captions.jsonl", captions)
    found = load_example("icons", "reference").tfidf(tmp_path, "test")
    # ranks: 1; 1; 2, as c and d are alike; 4, as nothing of the query is in d's texts
    assert found["recall_at_1"] == 50
    assert found["mrr_at_10"] == pytest.approx(100 * (1 + 1 + 1 / 2 + 1 / 4) / 4, abs=1e-4)


def test_the_recommended_recipe_is_the_default_and_flags_replace_its_length(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(icons, "train", lambda data, out, flags, settings: given.append((settings.recipe, flags)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "items.jsonl").touch()
    call("icons/train", tmp_path, "--max-epoch", "3")
    call("icons/train", tmp_path, "--lr", "0.01", RECIPE="cpu")
    assert given == [("joined", [*icons.LENGTH_AND_SIZE, "--max-epoch", "3"]), ("cpu", ["--lr", "0.01"])]


def test_queries_are_tags_trained_on_but_not_together():
    tags = ["silent", "mute", "Bell  Off", "bell off", "alarm", "no\nsound", "silent", "quiet", "hush"]
    captions = icons.captions_of("bell-off", tags)
    assert captions == icons.captions_of("bell-off", tags)
    trained = [caption["text"] for caption in captions if caption["role"] == "train"]
    own, single = trained[0], trained[1:7]
    assert own == "bell off"
    assert single == ["silent", "mute", "alarm", "no sound", "quiet", "hush"]
    pairs = {f"{first} {second}" for first, second in itertools.permutations([own, *single], 2)}
    assert len(set(trained[7:]) & pairs) == 5
    queries = {caption["split"]: caption["text"] for caption in captions if caption["role"] == "query"}
    triples = {" ".join(three): frozenset(three) for three in itertools.permutations(single, 3)}
    assert triples[queries["test"]] != triples[queries["valid"]]
    assert [len(icons.captions_of("a", "bcdefg"[:count])) for count in range(5)] == [1, 3, 6, 10, 12]
    assert [caption.get("split") for caption in icons.captions_of("a", "bcd")].count("valid") == 0


def test_icons_are_drawn_in_black_on_white(tmp_path):
    resvg = pytest.importorskip("resvg_py")
    package = write_package(tmp_path / "package")
    pixels = np.asarray(Image.open(io.BytesIO(icons.draw(resvg, package / "icons" / "icon-6.svg"))).convert("RGB"))
    assert pixels.shape == (128, 128, 3)
    assert (pixels[60:68] == 0).all()
    assert (pixels[:58] == 255).all()
    assert (pixels[70:] == 255).all()


def test_what_is_no_such_package_is_refused(resvg, tmp_path, monkeypatch):
    package, out = write_package(tmp_path / "package"), tmp_path / "out"

    def refused(said: str) -> None:
        with pytest.raises(ValueError, match=said):
            call("icons/prepare", package, out, **FLAGS)
        assert not list(out.glob("icons*"))

    with pytest.raises(ValueError, match="icons: holds something else, such as the package itself"):
        call("icons/prepare", package, package, **FLAGS)
    assert len(list((package / "icons").glob("*.svg"))) == COUNT + 1
    (package / "icons" / "icon-2.svg").write_text("no picture")
    refused(r"icon-2\.svg: cannot be drawn \(no path\); unpack the package again")
    (package / "icons" / "icon-2.svg").unlink()
    refused(r"icon-2\.svg: not there, but tags\.json names 'icon-2'")
    wrongs: list[Any] = [[], {}, {"icon-0": "line"}, {"icon-0": ["line", 3]}, {"icon-0": [" "]}]
    for wrong in wrongs:
        (package / "tags.json").write_text(json.dumps(wrong))
        refused(r"tags\.json(:|, 'icon-0': found) ")
    (package / "tags.json").write_text(json.dumps({"../icon-0": ["line"]}))
    refused("'../icon-0' must be the name of an icon")
    (package / "tags.json").unlink()
    refused(r"tags\.json: not there; give the folder of the unpacked package lucide-static")
    write_package(tmp_path / "other")
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    package = tmp_path / "other"
    refused(r"drawing icons needs resvg_py; pip install 'cart-fairseq\[icons\]'")
