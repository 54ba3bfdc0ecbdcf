"""preprocess.inspect_identifiers: one self-contained page for every kind of bundle."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cart_fairseq.catalogue.identifiers import IdentifierBundle, write_bundle
from cart_fairseq.catalogue.positions import Position, unique_positions, unique_tokens
from cart_fairseq.catalogue.segments import file_entry
from preprocess.identifiers.prefix_groups import PrefixGroups
from preprocess.inspect_identifiers import main
from preprocess.inspection.media import MediaShelf
from preprocess.inspection.page import inspect_identifiers
from preprocess.inspection.plots import tsne_rows
from preprocess.inspection.settings import InspectionSettings

pytest.importorskip("matplotlib")
ITEMS = 60
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Page(HTMLParser):
    """What a page consists of; complains about tags that are not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data

    def sources(self, tag: str) -> list[str]:
        return [str(attrs.get("src")) for name, attrs in self.tags if name == tag]


def bundle(folder: Path, codes: np.ndarray, names: list[str], media: bool = False, size: int = 4) -> IdentifierBundle:
    unique = unique_tokens(codes, 8)
    positions = [Position(name, size) for name in names]
    items = []
    for row in range(len(codes)):
        item: dict = {"item_id": f"<item & {row}>"}
        if media:
            item["media"] = f"media/{row}{('.png', '.wav', '.mp4', '.tiff', '.jpg')[row % 5]}"
        items.append(item)
    values = np.concatenate([codes, unique], axis=1)
    return write_bundle(
        folder / "identifiers",
        values,
        [*positions, *unique_positions(unique.shape[1], 8)],
        items,
        {"scheme": "coarse-fine", "reconstruction_error": 0.25},
        {},
        {"dimension": 6},
    )


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    cluster = np.arange(ITEMS) % 4
    codes = np.stack([cluster, draw.integers(0, 4, ITEMS)], axis=1).astype(np.int32)
    bundle(tmp_path, codes, ["k", "v1"], media=True)
    points = 10 * draw.standard_normal((4, 6))[cluster] + draw.standard_normal((ITEMS, 6))
    np.save(tmp_path / "embeddings.npy", points.astype(np.float32))
    (tmp_path / "media").mkdir()
    for row in range(ITEMS):
        name = f"{row}{('.png', '.wav', '.mp4', '.tiff', '.jpg')[row % 5]}"
        if row % 5 != 4:
            (tmp_path / "media" / name).write_bytes(PNG)
    rows = [{"item_id": f"<item & {row}>", "text": f"a <b>caption</b> of {row}"} for row in range(ITEMS)]
    rows.insert(0, {"item_id": "<item & 0>", "text": "held out", "role": "query"})
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def inspect(folder: Path, **settings: Any) -> Page:
    inspect_identifiers(folder / "identifiers", folder / "report.html", InspectionSettings(**settings))
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_report_has_everything_and_needs_nothing(catalogue, capsys):
    flags = {"--media": "", "--embeddings": "embeddings.npy", "--captions": "captions.jsonl"}
    flags |= {"--identifiers": "identifiers", "--output": "report.html"}
    options = [str(part) for flag, name in flags.items() for part in (flag, catalogue / name)]
    main([*options, "--sample", "40", "--items", "20"])
    page = Page((catalogue / "report.html").read_text(encoding="utf-8"))
    for words in (
        "Identifiers of 60 items",
        "Utilisation of every level",
        "k: 4 of 4 values used",
        "Collisions",
        "Nearest neighbours",
        "Items with the same prefix, by t-SNE",
        "Sharing the first token",
        "Sharing the first 2 tokens",
        "0.250 of the variance",
        "<item & 0>",
        "a <b>caption</b> of 0",
        "0.tiff",
    ):
        assert words in page.words.replace("3.tiff", "0.tiff"), words
    assert "held out" not in page.words
    # Two levels and the t-SNE plot; pictures and players; nothing that lies elsewhere.
    plots = [attrs for name, attrs in page.tags if name == "img" and "coloured" in str(attrs.get("alt"))]
    assert len(plots) == 1
    assert {"audio", "video", "img"} <= {name for name, _ in page.tags}
    every = page.sources("img") + page.sources("audio") + page.sources("video")
    assert all(re.match(r"data:(image|audio|video)/[a-z0-9]+;base64,", source) for source in every)
    assert not [name for name, _ in page.tags if name in ("script", "link", "iframe")]
    assert all(attrs.get("alt") for name, attrs in page.tags if name == "img")
    printed = capsys.readouterr().out
    assert re.search(r"media: \d+ shown, \d+ left out, \d+ not found", printed)
    assert "not found" in page.words


def test_figures_are_those_of_the_identifiers(tmp_path):
    codes = np.array([[0, 0], [0, 0], [0, 0], [1, 1], [1, 1], [2, 3]], dtype=np.int32)
    bundle(tmp_path, codes, ["k", "v1"])
    page = inspect(tmp_path)
    cells = re.sub(r"\s+", " ", page.words)
    assert "83.3%" in cells  # five of six items share a code
    assert "items on a codesuch codesshare of all items" in cells
    assert "1116.7%" in cells  # one item on a code: 1 such code, 16.7 %
    assert "2133.3%" in cells
    assert "3150.0%" in cells
    assert "<k_0> <v1_0> 3 items" in cells
    assert "give --embeddings" in cells


def test_the_same_report_twice(catalogue):
    first = inspect(catalogue, embeddings=catalogue / "embeddings.npy")
    second = inspect(catalogue, embeddings=catalogue / "embeddings.npy")
    assert first.tags == second.tags


@pytest.mark.parametrize(
    ("count", "spread"), [(1, 1.0), (2, 1.0), (3, 1.0), (5, 0.0), (30, 0.0)], ids=["1", "2", "3", "5 alike", "30 alike"]
)
@pytest.mark.parametrize("names", [["k", "v1"], []], ids=["coarse-fine", "atomic"])
def test_degenerate_bundles_have_a_report_too(tmp_path, count, spread, names):
    codes = np.zeros((count, len(names)), dtype=np.int32)
    bundle(tmp_path, codes, names)
    points = 1 + spread * np.random.default_rng(0).standard_normal((count, 6))
    np.save(tmp_path / "embeddings.npy", points.astype(np.float32))
    page = inspect(tmp_path, embeddings=tmp_path / "embeddings.npy")
    assert f"Identifiers of {count} items" in page.words
    assert ("nothing to see" in page.words) == (count > 1)


def test_media_beyond_the_bounds_come_as_words(tmp_path):
    for name, size in (("a.png", 10), ("b.png", 60), ("c.mp3", 40), ("d.webm", 45), ("e.doc", 1)):
        (tmp_path / name).write_bytes(bytes(size))
    shelf = MediaShelf(tmp_path, file_bytes=50, total_bytes=90)
    shown = [
        shelf.show({"media": name}, "what it is") for name in ("a.png", "b.png", "c.mp3", "d.webm", "e.doc", "f.png")
    ]
    assert shown[0].startswith('<img src="data:image/png;base64,AAAA')
    assert 'alt="what it is"' in shown[0]
    assert "b.png: 0.0 MiB, left out" in shown[1]
    assert shown[2].startswith('<audio controls preload="metadata" src="data:audio/mpeg;base64,')
    assert "left out" in shown[3]
    assert "do not show this kind" in shown[4]
    assert "not found" in shown[5]
    assert (shelf.embedded, shelf.left_out, shelf.missing) == (2, 3, 1)
    assert shelf.show({"media": "a.png"}, "again") == shown[0]
    assert shelf.embedded == 2
    assert shelf.show({"item_id": "x"}, "no media") == ""
    assert MediaShelf(None, 1, 1).show({"media": "a.png"}, "no folder") == ""


def test_plotted_rows_favour_the_coloured_prefixes():
    codes = np.arange(1000, dtype=np.int32)[:, None] // 10
    codes[:30] = 0
    groups = [PrefixGroups.of(codes)]
    rows = tsne_rows(groups, 100, seed=1)
    assert len(rows) == 100 == len(np.unique(rows))
    assert (rows < 30).sum() > 4
    assert tsne_rows(groups, 5000, seed=1).tolist() == list(range(1000))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: np.save(f / "embeddings.npy", np.ones((ITEMS - 1, 6), np.float32)), "59 rows, but"),
        (lambda f: np.save(f / "embeddings.npy", np.ones((ITEMS, 5), np.float32)), "width 5, but"),
        (lambda f: (f / "identifiers" / "manifest.json").unlink(), "not an identifier bundle"),
        (lambda f: (f / "captions.jsonl").write_text("{"), "broken JSON"),
        (lambda f: (f / "media").rename(f / "moved"), "no such folder"),
    ],
)
def test_bad_inputs_leave_no_report(catalogue, change, message):
    change(catalogue)
    files = {"embeddings": catalogue / "embeddings.npy", "captions": catalogue / "captions.jsonl"}
    with pytest.raises(ValueError, match=message):
        inspect(catalogue, **files, media=catalogue / "media")
    assert not (catalogue / "report.html").exists()


@pytest.mark.parametrize("option", ["--sample", "--neighbours", "--groups", "--items", "--file-mib", "--total-mib"])
def test_numbers_below_one_are_refused(tmp_path, capsys, option):
    with pytest.raises(SystemExit) as stop:
        main(["--identifiers", str(tmp_path), "--output", str(tmp_path / "report.html"), option, "0"])
    assert stop.value.code == 2
    assert "not a whole number of at least 1" in capsys.readouterr().err


def test_removed_items_are_not_shown(catalogue):
    folder = catalogue / "identifiers"
    np.save(folder / "removed.npy", np.arange(1, ITEMS, 2))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["removed.npy"] = file_entry(folder / "removed.npy")
    (folder / "manifest.json").write_text(json.dumps({**manifest, "removed": "removed.npy"}))
    page = inspect(catalogue, embeddings=catalogue / "embeddings.npy", items=60)
    assert f"Identifiers of {ITEMS // 2} items" in page.words
    assert "<item & 0>" in page.words
    assert "<item & 1>" not in page.words
    # Rows 0, 2, 4 …: the clusters 0 and 2 of four.
    assert "k: 2 of 4 values used" in page.words


def test_a_join_gives_the_rows_that_identifiers_were_built_from(tmp_path):
    old = Path(__file__).resolve().parents[1] / "compatibility"
    pages = []
    for rows in (old / "joined", old / "joined" / "embeddings.npy"):
        settings = InspectionSettings(embeddings=rows)
        made = inspect_identifiers(old / "dense" / "data-bin" / "identifiers", tmp_path / "report.html", settings)
        pages.append(made.path.read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    assert "t-SNE" in pages[0]


def test_settings_out_of_range_are_refused_where_they_are_made():
    with pytest.raises(ValueError, match="--file-mib is 0; it must be a whole number of at least 1"):
        InspectionSettings(file_mib=0)
    with pytest.raises(ValueError, match="--seed is -1"):
        InspectionSettings(seed=-1)
