"""The demo's page (examples/demo/page.py): what is shown, what is played, and what is said when something is missing."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import load_example

from cart_fairseq.measuring.trec import write_qrels, write_run

ITEMS = 12
KINDS = ("pictures", "sounds", "clips")
world, page = load_example("demo", "world"), load_example("demo", "page")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Page(HTMLParser):
    """Collects what the tests ask of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.articles: list[list[dict[str, Any]]] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.right = False
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        self.addresses += [str(attributes[name]) for name in ("src", "href", "srcset", "action") if name in attributes]
        self.ids += [str(attributes["id"])] if "id" in attributes else []
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "article":
            self.articles.append([])
        if tag == "figure":
            self.right = "right" in str(attributes.get("class", "")).split()
        if tag in ("img", "audio"):
            self.articles[-1].append({**attributes, "tag": tag, "right": self.right})

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a world of each kind."""
    root = tmp_path_factory.mktemp("page")
    for kind in KINDS:
        (root / kind).mkdir()
        world.make_world(kind, root / kind / "data", ITEMS, 3)
    return root


@pytest.fixture
def results(data: Path, tmp_path: Path) -> list[Path]:
    """Three queries of each kind: found first, found third, not found."""
    folders = []
    for kind in KINDS:
        folder = tmp_path / kind
        (folder / "run").mkdir(parents=True)
        (folder / "data").symlink_to(data / kind / "data")
        queries = [c for c in rows(folder / "data" / "captions.jsonl") if c["split"] == "test"][:3]
        names = [item["item_id"] for item in rows(folder / "data" / "items.jsonl")]
        others = [name for name in names if name not in {q["item_id"] for q in queries}]
        found = [[queries[0]["item_id"], *others[:2]], [*others[:2], queries[1]["item_id"]], others[:3]]
        write_run(
            folder / "run" / "run.test.trec",
            [(q["caption_id"], ids, [-1.0, -1.0, -1.0]) for q, ids in zip(queries, found, strict=True)],
        )
        write_qrels(folder / "run" / "qrels.test.trec", [(q["caption_id"], q["item_id"]) for q in queries])
        measured = {"recall_at_1": 33.3333, "recall_at_5": 66.6667, "recall_at_10": 66.6667, "mrr_at_10": 44.4444}
        metrics = {"test": {**measured, "queries": 3, "candidates": ITEMS}}
        (folder / "run" / "metrics.json").write_text(json.dumps(metrics))
        folders.append(folder)
    return folders


def test_page_marks_the_right_items_and_stands_alone(results, tmp_path, capsys):
    page.main([str(tmp_path / "index.html"), *map(str, results), "--shown", "3"])
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    found = Page(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    assert {address.split(",")[0] for address in found.addresses if not address.startswith("#")} == {
        "data:image/png;base64",
        "data:audio/wav;base64",
        "data:image/webp;base64",
    }
    assert [address[1:] for address in found.addresses if address.startswith("#")] == found.ids == [*KINDS]
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert "prefers-color-scheme: dark" in text
    assert text.count("33.3 %") == text.count("44.4 %") == 3
    assert text.count("This one was not found") == 3
    assert text.count("asked for ✓") == 9
    assert [[shown["right"] for shown in article] for article in found.articles] == 3 * [
        [True, False, False],
        [False, False, True],
        [False, False, False, True],  # what was asked for, shown apart
    ]
    # what is marked is what the query describes, and its text is a caption of it
    for number, (kind, folder) in enumerate(zip(KINDS, results, strict=True)):
        captions = rows(folder / "data" / "captions.jsonl")
        described: dict[str, set[str]] = {}
        for caption in captions:
            described.setdefault(caption["item_id"], set()).add(caption["text"])
        queries = [c for c in captions if c["split"] == "test"][:3]
        for query, article in zip(queries, found.articles[3 * number : 3 * number + 3], strict=True):
            assert {shown["tag"] for shown in article} == {"audio" if kind == "sounds" else "img"}
            (right,) = [shown for shown in article if shown["right"]]
            suffix = {"pictures": "png", "sounds": "wav", "clips": "webp"}[kind]
            assert right["src"] == page.data_uri(folder / "data" / "media" / f"{query['item_id']}.{suffix}")
            label = right["aria-label" if kind == "sounds" else "alt"]
            assert label in described[query["item_id"]]
            assert label != query["text"]
            if kind == "sounds":
                assert "controls" in right
                assert text.count(f": {label}</figcaption>") == sum(
                    shown.get("aria-label") == label for each in found.articles for shown in each
                )
    printed = capsys.readouterr().out
    for kind in KINDS:
        assert re.search(rf"^{kind} +3 +12 +33\.3 +66\.7 +66\.7 +44\.4$", printed, re.MULTILINE)
    assert "9 queries with what was found" in printed


def test_one_kind_makes_a_page_of_its_own(results, tmp_path):
    page.main([str(tmp_path / "index.html"), str(results[1]), "--queries", "2"])
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<h1>Sounds found by text</h1>" in text
    assert Page(text).ids == ["sounds"]
    assert text.count("<article>") == 2


def test_page_escapes_what_it_shows(results, tmp_path):
    evil = '<script>alert("1")</script> & more'
    for folder in results:
        data, copy = folder / "data", tmp_path / "copy" / folder.name
        copy.mkdir(parents=True)
        shutil.copytree(data / "media", copy / "media")
        (copy / "items.jsonl").write_bytes((data / "items.jsonl").read_bytes())
        changed = [{**row, "text": evil} for row in rows(data / "captions.jsonl")]
        (copy / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed), encoding="utf-8")
        text = page.page([page.section(copy, folder / "run", "test", 3, 3)])
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        shown = Page(text).articles[0][0]
        assert evil in (shown.get("alt"), shown.get("aria-label"))


def test_page_says_what_is_missing(results, tmp_path):
    data, run = results[0] / "data", results[0] / "run"
    with pytest.raises(ValueError, match=r"run\.valid\.trec: cannot be read .*own_data/run\.sh"):
        page.section(data, run, "valid", 3, 3)
    (run / "qrels.test.trec").write_text("other 0 scene-0000 1\n")
    with pytest.raises(ValueError, match="query 'other' is not in"):
        page.section(data, run, "test", 3, 3)
    with pytest.raises(ValueError, match="no such file"):
        page.data_uri(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="only these can be shown or played"):
        page.data_uri(tmp_path / "notes.txt")
