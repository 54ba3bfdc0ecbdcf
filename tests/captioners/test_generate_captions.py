"""`generate_captions`: output, order, resuming, errors."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import write_jsonl
from tiny_captioners import save_blip, save_image, save_sound, save_video, save_whisper

from cart_fairseq.base.reading import read_json, read_jsonl
from preprocess.captioners import blip, generate
from preprocess.captioners.caption_folding import folded
from preprocess.captioners.generate import GeneratedCaptions, generate_captions
from preprocess.captioners.settings import CaptionSettings
from preprocess.data.inputs import read_captions, read_items
from preprocess.data.output import Output
from preprocess.data.roles import resolve

ITEMS = 7


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images, a video, a sound, their captions, a tiny BLIP and a tiny Whisper."""
    root = tmp_path_factory.mktemp("world")
    (root / "media").mkdir()
    items = []
    for n in range(ITEMS):
        modality = ("audio" if n == 6 else "video") if n > 4 else "image"
        save, suffix = {"image": (save_image, "png"), "video": (save_video, "webp"), "audio": (save_sound, "wav")}[
            modality
        ]
        name = save(root / "media" / f"{n}.{suffix}", n)
        item = {"item_id": f"item {n}", "media": f"media/{name}", "split": ("train", "valid", "test")[n % 3]}
        items.append(item if modality == "image" else {**item, "modality": modality})  # an image is known by its name
    write_jsonl(root / "items.jsonl", items)
    roles = [("train", "query", "query")[n % 3] for n in range(ITEMS)]
    rows = [{"item_id": f"item {n}", "text": f"Caption {n}.", "role": role} for n, role in enumerate(roles)]
    write_jsonl(root / "captions.jsonl", rows)
    save_blip(root / "blip")
    save_whisper(root / "whisper")
    return root


def call(
    world: Path,
    output: str | Path,
    *,
    items: str | Path | None = None,
    captions: Path | None = None,
    embeddings: Path | None = None,
    **settings: Any,
) -> GeneratedCaptions:
    """Call the step with a BLIP and small sizes, unless the settings say otherwise."""
    given = {"captioner": f"blip:{world / 'blip'}", "captions_per_item": 3, "max_new_tokens": 8, "device": "cpu"}
    found = CaptionSettings(**{**given, **settings})
    paths = (items or world / "items.jsonl", captions or world / "captions.jsonl")
    return generate_captions(*paths, output, found, embeddings=embeddings)


def new_rows(world: Path, output: Path, captions: Path | None = None, **options: Any) -> list[dict]:
    """The new rows of the output."""
    call(world, output, captions=captions, **options)
    return read_jsonl(output)[len(read_jsonl(captions or world / "captions.jsonl")) :]


class Scripted:
    """A captioner that says what it is told, notes whom it captioned, and stops where it is told."""

    modalities = frozenset({"image", "video"})
    batch_size = 2

    def __init__(self, says=lambda target: [f"{target.item_id} a", f"{target.item_id} b"], stop_at: str | None = None):
        self.says = says
        self.stop_at = stop_at
        self.captioned: list[str] = []

    def load(self, target):
        target.file.read_bytes()

    def caption(self, targets, loaded):
        for target in targets:
            if target.item_id == self.stop_at:
                raise KeyboardInterrupt
            self.captioned.append(target.item_id)
        return [self.says(target) for target in targets]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch):
    """Puts a `Scripted` in the place of a model."""

    def place(*args, **options) -> Scripted:
        captioner = Scripted(*args, **options)
        monkeypatch.setattr(generate, "load_model", lambda *_: captioner)
        return captioner

    return place


def test_new_captions_follow_the_old_ones(world, tmp_path):
    old = (world / "captions.jsonl").read_bytes()
    output = tmp_path / "new" / "captions.jsonl"
    new = new_rows(world, output)
    assert output.read_bytes().startswith(old)
    assert [row["item_id"] for row in new] == sorted(row["item_id"] for row in new)
    assert {row["item_id"] for row in new} == {f"item {n}" for n in range(6)}  # BLIP hears nothing
    assert {(row["role"], row["source"]) for row in new} == {("index", "blip:blip")}
    items = read_items(world / "items.jsonl")
    rows = read_captions(output, items)
    resolved = resolve(rows, {item["item_id"]: n for n, item in enumerate(items)}, [i["split"] for i in items], "new")
    assert len({caption.query_id for caption in resolved}) == len(rows)
    per_item = [[folded(row["text"]) for row in new if row["item_id"] == f"item {n}"] for n in range(6)]
    assert all(1 <= len(texts) <= 3 and len(set(texts)) == len(texts) for texts in per_item)
    report = read_json(tmp_path / "new" / "captions.report.json")
    assert (report["items"], report["captions"], report["of_other_modalities"]) == (6, len(new), 1)
    assert sorted(path.name for path in output.parent.iterdir()) == ["captions.jsonl", "captions.report.json"]

    again = call(world, str(output), items=str(world / "items.jsonl"))
    assert not again.is_new
    assert "up to date" in again.summary
    assert (again.items, again.captions, again.skipped) == (6, len(new), {})
    assert read_jsonl(output)[ITEMS:] == new
    other_seed = new_rows(world, output, seed=2)
    assert other_seed != new


def test_items_without_captions_get_some(world, tmp_path):
    settings = CaptionSettings(captioner=f"blip:{world / 'blip'}", captions_per_item=2, max_new_tokens=8, device="cpu")
    done = generate_captions(world / "items.jsonl", None, tmp_path / "captions.jsonl", settings)
    rows = read_jsonl(tmp_path / "captions.jsonl")
    assert len(rows) == done.captions > 0
    assert {row["role"] for row in rows} == {"index"}
    assert not generate_captions(world / "items.jsonl", None, tmp_path / "captions.jsonl", settings).is_new
    neighbours = CaptionSettings(captioner="neighbours")
    with pytest.raises(ValueError, match="give them as --captions"):
        generate_captions(world / "items.jsonl", None, tmp_path / "x.jsonl", neighbours, embeddings=tmp_path / "e.npy")


def test_one_captioner_after_another(world, tmp_path):
    first = new_rows(world, tmp_path / "1.jsonl")
    second = new_rows(
        world, tmp_path / "2.jsonl", captioner=f"whisper:{world / 'whisper'}", captions=tmp_path / "1.jsonl"
    )
    assert {row["item_id"] for row in second} == {"item 6"}
    assert {row["source"] for row in second} == {"whisper:whisper"}
    third = new_rows(world, tmp_path / "3.jsonl", seed=5, captions=tmp_path / "2.jsonl")
    rows = read_jsonl(tmp_path / "3.jsonl")
    assert rows[ITEMS:] == [*first, *second, *third]
    names = [row["caption_id"] for row in rows[ITEMS:]]
    assert len(set(names)) == len(names)
    texts = [(row["item_id"], folded(row["text"])) for row in rows]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("stops", [["item 0"], ["item 3"], ["item 0", "item 5"], ["item 3", "item 5"]])
@pytest.mark.parametrize("torn", [b"", b'[{"item_id": "item'])
def test_a_killed_run_goes_on_to_the_same_result(world, tmp_path, scripted, stops, torn):
    whole = scripted()
    call(world, tmp_path / "whole.jsonl")
    finished = 0
    for stop_at in stops:
        killed = scripted(stop_at=stop_at)
        with pytest.raises(KeyboardInterrupt):
            call(world, tmp_path / "out.jsonl")
        assert not (tmp_path / "out.jsonl").exists()
        finished += len(killed.captioned) // Scripted.batch_size * Scripted.batch_size
        with open(tmp_path / "out.jsonl.partial" / "batches.jsonl", "ab") as log:
            log.write(torn)
    resumed = scripted()
    call(world, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert resumed.captioned == whole.captioned[finished:]
    assert not (tmp_path / "out.jsonl.partial").exists()


def test_a_killed_run_of_a_model_goes_on_to_the_same_result(world, tmp_path, monkeypatch):
    call(world, tmp_path / "whole.jsonl", batch_size=2)
    original, calls = blip.PictureCaptioner.caption, []

    def killed(self, targets, loaded):
        calls.append(len(targets))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, targets, loaded)

    with monkeypatch.context() as patch:
        patch.setattr(blip.PictureCaptioner, "caption", killed)
        with pytest.raises(KeyboardInterrupt):
            call(world, tmp_path / "out.jsonl", batch_size=2)
    call(world, tmp_path / "out.jsonl", batch_size=2)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("place", [(generate, "write_captions"), (generate, "write_json"), (Output, "_remove_work")])
def test_a_run_killed_at_its_end_is_finished(world, tmp_path, scripted, monkeypatch, place):
    scripted()
    call(world, tmp_path / "whole.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(*place, Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            call(world, tmp_path / "out.jsonl")
    captioner = scripted()
    call(world, tmp_path / "out.jsonl")
    assert captioner.captioned == []
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"{name}{suffix}" for name in ("whole", "out") for suffix in (".jsonl", ".report.json")}


def test_other_settings_do_not_go_on_from_a_killed_run(world, tmp_path, scripted):
    scripted(stop_at="item 4")
    with pytest.raises(KeyboardInterrupt):
        call(world, tmp_path / "out.jsonl")
    other = scripted()
    call(world, tmp_path / "out.jsonl", top_p=0.5)
    assert other.captioned == [f"item {n}" for n in range(6)]


def test_duplicates_are_folded(world, tmp_path, scripted):
    says = ["A Dog, running.", "a dog  running", "!?", "", "caption 1", "CAPTION 0!", "two\ndogs", "three", "four"]
    scripted(lambda target: says)
    new = new_rows(world, tmp_path / "out.jsonl")
    texts = {n: [row["text"] for row in new if row["item_id"] == f"item {n}"] for n in range(6)}
    # What the item has as a training caption is not new. What it has as a query is not looked at.
    assert texts[0] == ["A Dog, running.", "caption 1", "two dogs"]
    assert texts[1] == ["A Dog, running.", "caption 1", "CAPTION 0!"]


def test_unreadable_media_fail_or_are_listed(world, tmp_path, capsys):
    items = read_jsonl(world / "items.jsonl")
    for item in items:
        item["media"] = str(world / item["media"])
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    items[1]["media"] = "bad.png"
    items[2]["media"] = "gone.png"
    items[4] = {"item_id": "item 4", "modality": "image", "split": "valid"}
    given = write_jsonl(tmp_path / "items.jsonl", items)
    with pytest.raises(ValueError, match=r"bad\.png: not a readable image"):
        call(world, tmp_path / "out.jsonl", items=given)
    new = new_rows(world, tmp_path / "out.jsonl", on_error="skip", items=given)
    assert {row["item_id"] for row in new} == {"item 0", "item 3", "item 5"}
    skipped = read_json(tmp_path / "out.report.json")["skipped"]
    assert [item["item_id"] for item in skipped] == ["item 1", "item 2", "item 4"]
    assert "gone.png" in skipped[1]["error"]
    assert "has no media to caption" in skipped[2]["error"]
    assert "skipped 3 items" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"bad\.png: .*3 items were skipped by an earlier run"):
        call(world, tmp_path / "out.jsonl", items=given)


def test_splits_choose_items(world, tmp_path, scripted):
    captioner = scripted()
    call(world, tmp_path / "out.jsonl", splits=("valid", "test"))
    assert captioner.captioned == ["item 1", "item 2", "item 4", "item 5"]


def test_what_the_command_refuses(world, tmp_path, scripted):
    scripted()
    output = tmp_path / "out.jsonl"
    with pytest.raises(ValueError, match="--embeddings is required by, and only valid with, --captioner neighbours"):
        call(world, output, captioner="neighbours")
    with pytest.raises(ValueError, match="--embeddings is required by, and only valid with, --captioner neighbours"):
        call(world, output, embeddings=tmp_path / "e.npy")
    with pytest.raises(ValueError, match="--output is --captions"):
        call(world, world / "captions.jsonl")
    with pytest.raises(ValueError, match="was not made by this command"):
        call(world, Path(write_jsonl(tmp_path / "mine.jsonl", [{}])))
    only = write_jsonl(tmp_path / "items.jsonl", [{"item_id": "item 0", "media": "a.wav"}])
    one = write_jsonl(tmp_path / "captions.jsonl", [{"item_id": "item 0", "text": "rain"}])
    with pytest.raises(ValueError, match=r"no item that blip:.* can caption"):
        call(world, output, items=only, captions=one)
    np.save(tmp_path / "one.npy", np.ones((1, 2), dtype=np.float32))
    files = {"items": only, "captions": one, "embeddings": tmp_path / "one.npy"}
    with pytest.raises(ValueError, match=r"that neighbours can caption \(split valid\); give the items their split$"):
        call(world, output, splits=["valid"], captioner="neighbours", **files)
    wrong: dict[str, Any] = {"temperature": 0, "top_p": 1.5, "seed": -1, "captions_per_item": 0, "workers": 0}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is {value}"):
            call(world, output, **{name: value})
    with pytest.raises(ValueError, match="--splits has 'dev'"):
        call(world, output, splits=["dev"])
    assert not output.exists()


def test_damaged_output_is_made_again(world, tmp_path, scripted):
    scripted()
    call(world, tmp_path / "out.jsonl")
    made = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "out.jsonl").write_bytes(made[:-20])
    call(world, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == made
    assert json.loads(made.splitlines()[-1])["caption_id"] == "item 5#blip1"
