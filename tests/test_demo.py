"""The demo's world (examples/demo/world.py, phrasings.py) and its page (page.py)."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import load_example
from PIL import Image

from cart_fairseq.trec import write_qrels, write_run
from preprocess.inputs import match_items, open_embeddings, read_captions, read_items

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "demo"
ITEMS = 60


@pytest.fixture(scope="module")
def demo() -> dict[str, ModuleType]:
    """The demo's scripts as modules."""
    return {name: load_example("demo", name) for name in ("phrasings", "world", "page")}


@pytest.fixture(scope="module")
def data(demo: dict[str, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "data"
    demo["world"].main([str(folder), "--items", str(ITEMS), "--seed", "3"])
    return folder


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_files_follow_the_formats_and_pictures_are_real(data):
    items = read_items(data / "items.jsonl")
    embeddings = open_embeddings(data / "embeddings.npy")
    match_items(embeddings, items, "embeddings.npy", "items.jsonl")
    captions = read_captions(data / "captions.jsonl", items)
    assert embeddings.dtype == np.float32
    assert len(np.unique(embeddings[:], axis=0)) == ITEMS
    assert all("split" not in item for item in items)
    assert {(c["role"], c["split"]) for c in captions} == {("train", "train"), ("query", "valid"), ("query", "test")}
    assert {c["item_id"] for c in captions if c["role"] == "train"} == {item["item_id"] for item in items}
    for item in items:
        path = data / item["media"]
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert picture.mode == "RGB"
            assert picture.size == (128, 128)
            assert len(picture.getcolors(1 << 16) or []) > 3  # ground, two things, soft edges


def test_same_seed_same_world(demo, data, tmp_path):
    demo["world"].make_world(tmp_path / "again", ITEMS, 3)
    demo["world"].make_world(tmp_path / "other", ITEMS, 4)
    names = sorted(path.relative_to(data) for path in data.rglob("*") if path.is_file())
    assert len(names) == ITEMS + 3
    for name in names:
        assert (data / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert (data / "captions.jsonl").read_bytes() != (tmp_path / "other" / "captions.jsonl").read_bytes()


def test_scenes_differ_and_so_do_all_their_descriptions(demo):
    phrasings, world = demo["phrasings"], demo["world"]
    scenes = world.draw_scenes(300, 7)
    attributes = np.array(
        [
            [*dataclasses.astuple(scene.first), *dataclasses.astuple(scene.second), scene.relation, scene.background]
            for scene in scenes
        ]
    )
    apart = (attributes[:, None] != attributes[None]).sum(2) + len(scenes) * np.eye(len(scenes), dtype=int)
    assert apart.min() >= world.DIFFERENCES
    assert all(s.first.colour != s.second.colour for s in scenes)
    for phrasing in (*phrasings.TRAIN, *phrasings.VALID, *phrasings.TEST):
        assert len({phrasing.describe(scene) for scene in scenes}) == len(scenes)


def test_more_scenes_than_there_is_room_for_are_refused(demo, monkeypatch):
    monkeypatch.setattr(demo["world"], "COLOURS", {"red": (255, 0, 0), "blue": (0, 0, 255)})
    monkeypatch.setattr(demo["world"], "SHAPES", ("circle", "square"))
    with pytest.raises(ValueError, match="--items is 200; this world has room for about"):
        demo["world"].draw_scenes(200, 1)


def test_query_phrasings_are_new_but_their_words_are_not(demo, data):
    phrasings = demo["phrasings"]
    captions = rows(data / "captions.jsonl")
    trained = {c["text"] for c in captions if c["role"] == "train"}
    asked = [c["text"] for c in captions if c["role"] == "query"]
    assert asked
    assert not trained & set(asked)
    # whatever the scene: no frame of a query is a frame of training, and valid and test share none
    frames = [{p.frame for p in kind} for kind in (phrasings.TRAIN, phrasings.VALID, phrasings.TEST)]
    assert not frames[0] & frames[1]
    assert not frames[0] & frames[2]
    assert not frames[1] & frames[2]
    # nor are the wordings mixed in training
    assert all(len(set(p.wordings)) == 1 for p in phrasings.TRAIN)
    assert all(len(set(p.wordings)) > 1 for p in (*phrasings.VALID, *phrasings.TEST))
    scenes = demo["world"].draw_scenes(200, 5)

    def words(kind: Any) -> set[str]:
        return {word for p in kind for scene in scenes for word in re.findall(r"\w+", p.describe(scene))}

    assert words(phrasings.VALID) | words(phrasings.TEST) <= words(phrasings.TRAIN)


def test_both_directions_of_a_relation_are_said_right(demo):
    phrasings = demo["phrasings"]
    star, box = phrasings.Thing("large", "red", "star"), phrasings.Thing("small", "blue", "square")
    scene = phrasings.Scene(star, box, "above", "white")
    forward, back = phrasings.TRAIN[0].describe(scene), phrasings.TRAIN[1].describe(scene)
    assert forward == "a large red star above a small blue square on a white background"
    assert back == "a small blue square below a large red star, the background is white"


def test_pictures_show_what_is_said(demo):
    phrasings, world = demo["phrasings"], demo["world"]
    star, box = phrasings.Thing("large", "red", "star"), phrasings.Thing("small", "blue", "square")
    for relation, axis in (("left", 1), ("above", 0)):
        scene = phrasings.Scene(star, box, relation, "grey")
        pixels = np.asarray(world.render(scene, np.random.default_rng(0)))
        places = [np.argwhere((pixels == world.COLOURS[c]).all(2)) for c in ("red", "blue")]
        assert places[0].mean(0)[axis] + 30 < places[1].mean(0)[axis]
        assert len(places[0]) > len(places[1]) > 50
    inside = world.render(phrasings.Scene(box, star, "inside", "grey"), np.random.default_rng(0))
    assert inside.getpixel((64, 64)) == world.COLOURS["blue"]


class Page(HTMLParser):
    """Collects what the tests ask of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.articles: list[list[dict[str, Any]]] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.right = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        self.addresses += [str(attributes[name]) for name in ("src", "href", "srcset", "action") if name in attributes]
        if tag == "article":
            self.articles.append([])
        if tag == "figure":
            self.right = attributes.get("class") == "right"
        if tag == "img":
            self.articles[-1].append({**attributes, "right": self.right})


@pytest.fixture
def results(data: Path, tmp_path: Path) -> Path:
    """Three queries: found first, found third, not found."""
    queries = [c for c in rows(data / "captions.jsonl") if c["split"] == "test"][:3]
    others = [
        i for i in (item["item_id"] for item in rows(data / "items.jsonl")) if i not in {q["item_id"] for q in queries}
    ]
    found = [[queries[0]["item_id"], *others[:2]], [*others[:2], queries[1]["item_id"]], others[:3]]
    write_run(
        tmp_path / "run.test.trec",
        [(q["caption_id"], ids, [-1.0, -1.0, -1.0]) for q, ids in zip(queries, found, strict=True)],
    )
    write_qrels(tmp_path / "qrels.test.trec", [(q["caption_id"], q["item_id"]) for q in queries])
    measured = {"recall_at_1": 33.3333, "recall_at_5": 66.6667, "recall_at_10": 66.6667, "mrr_at_10": 44.4444}
    (tmp_path / "metrics.json").write_text(json.dumps({"test": {**measured, "queries": 3, "candidates": ITEMS}}))
    return tmp_path


def test_page_marks_the_right_pictures_and_stands_alone(demo, data, results):
    demo["page"].main([str(data), str(results), str(results / "index.html"), "--pictures", "3"])
    text = (results / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "prefers-color-scheme: dark" in text
    assert "33.3 %" in text
    assert "44.4 %" in text
    assert [[image["right"] for image in images] for images in page.articles] == [
        [True, False, False],
        [False, False, True],
        [False, False, False, True],  # what was asked for, shown apart
    ]
    assert "This one was not found" in text
    assert text.count("asked for ✓") == 3
    # the marked picture is the one that the query describes, and its text is a caption of it
    queries = [c for c in rows(data / "captions.jsonl") if c["split"] == "test"][:3]
    captions: dict[str, set[str]] = {}
    for caption in rows(data / "captions.jsonl"):
        captions.setdefault(caption["item_id"], set()).add(caption["text"])
    for query, images in zip(queries, page.articles, strict=True):
        (right,) = [image for image in images if image["right"]]
        assert right["src"] == demo["page"].data_uri(data / "media" / f"{query['item_id']}.png")
        assert right["alt"] in captions[query["item_id"]]
        assert right["alt"] != query["text"]


def test_page_escapes_what_it_shows(demo, data, results, tmp_path):
    evil = '<script>alert("1")</script> & more'
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "media").symlink_to(data / "media")
    (copy / "items.jsonl").write_bytes((data / "items.jsonl").read_bytes())
    changed = [{**row, "text": evil} for row in rows(data / "captions.jsonl")]
    (copy / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed), encoding="utf-8")
    text = demo["page"].page(copy, results, "test", 3, 3)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert Page(text).articles[0][0]["alt"] == evil


def test_page_says_what_is_missing(demo, data, results, tmp_path):
    with pytest.raises(ValueError, match=r"run\.valid\.trec: cannot be read .*own_data/run\.sh"):
        demo["page"].page(data, results, "valid", 3, 3)
    (results / "qrels.test.trec").write_text("other 0 scene-0000 1\n")
    with pytest.raises(ValueError, match="query 'other' is not in"):
        demo["page"].page(data, results, "test", 3, 3)
    with pytest.raises(ValueError, match="no such picture"):
        demo["page"].data_uri(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="only pictures can be shown"):
        demo["page"].data_uri(tmp_path / "sound.wav")
