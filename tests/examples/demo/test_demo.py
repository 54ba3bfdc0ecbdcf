"""The demo's worlds (examples/demo/world.py and the words of each kind) and the whole of examples/demo/run.sh."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import wave
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import load_example
from PIL import Image, ImageSequence
from recipe_calls import call, training_here

from cart_fairseq import CartRetriever, Query
from preprocess.data.embeddings import open_embeddings
from preprocess.data.inputs import match_items, read_captions, read_items

ROOT = Path(__file__).resolve().parents[3]
KINDS = {"pictures": "image", "sounds": "audio", "clips": "video"}
ITEMS = {"pictures": 60, "sounds": 40, "clips": 25}
world = load_example("demo", "world")
answers = load_example("demo", "answers")
words = {kind: load_example("demo", f"{kind[:-1]}_words") for kind in KINDS}
makers = {kind: load_example("demo", kind) for kind in KINDS}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small world of each kind, in the place where run.sh keeps it."""
    root = tmp_path_factory.mktemp("demo")
    for kind, items in ITEMS.items():
        (root / kind).mkdir()
        world.main([kind, str(root / kind / "data"), "--items", str(items), "--seed", "3"])
    return {kind: root / kind / "data" for kind in ITEMS}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_files_follow_the_formats(data, kind):
    items = read_items(data[kind] / "items.jsonl")
    embeddings = open_embeddings(data[kind] / "embeddings.npy")
    match_items(embeddings, items, "embeddings.npy", "items.jsonl")
    captions = read_captions(data[kind] / "captions.jsonl", items)
    assert embeddings.dtype == np.float32
    assert len(np.unique(embeddings[:], axis=0)) == ITEMS[kind]
    assert all("split" not in item for item in items)
    assert {item["modality"] for item in items} == {KINDS[kind]}
    assert {(c["role"], c["split"]) for c in captions} == {("train", "train"), ("query", "valid"), ("query", "test")}
    assert {c["item_id"] for c in captions if c["role"] == "train"} == {item["item_id"] for item in items}


def test_pictures_are_real(data):
    for item in rows(data["pictures"] / "items.jsonl"):
        path = data["pictures"] / item["media"]
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert picture.mode == "RGB"
            assert picture.size == (128, 128)
            assert len(picture.getcolors(1 << 16) or []) > 3  # ground, two things, soft edges


def test_sounds_are_real(data):
    for item in rows(data["sounds"] / "items.jsonl"):
        with wave.open(str(data["sounds"] / item["media"])) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert 1 < len(samples) / 8000 <= makers["sounds"].SECONDS
        assert 5_000 < np.abs(samples.astype(int)).max() < 32_000


def test_clips_are_real(data):
    for item in rows(data["clips"] / "items.jsonl"):
        with Image.open(data["clips"] / item["media"]) as clip:
            assert clip.format == "WEBP"
            assert clip.size == (96, 96)
            assert clip.info["loop"] == 0  # for ever
            shown = []
            for frame in ImageSequence.Iterator(clip):
                frame.load()
                shown.append(frame.info["duration"])
        assert 2 < len(shown) <= 17  # equal frames in a row are one
        assert sum(shown) == 16 * 90 + 700


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_world(data, tmp_path, kind):
    world.make_world(kind, tmp_path / "again", ITEMS[kind], 3)
    world.make_world(kind, tmp_path / "other", ITEMS[kind], 4)
    names = sorted(path.relative_to(data[kind]) for path in data[kind].rglob("*") if path.is_file())
    assert len(names) == ITEMS[kind] + 4
    for name in names:
        assert (data[kind] / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert (data[kind] / "captions.jsonl").read_bytes() != (tmp_path / "other" / "captions.jsonl").read_bytes()


def flat(scene: Any) -> list[str]:
    """All attributes of a scene, those of its parts one after the other."""
    values = (getattr(scene, field.name) for field in dataclasses.fields(scene))
    return [word for value in values for word in ([value] if isinstance(value, str) else flat(value))]


@pytest.mark.parametrize("kind", KINDS)
def test_scenes_differ_and_so_do_all_their_descriptions(kind):
    scenes = makers[kind].draw_scenes(300, 7)
    attributes = np.array([flat(scene) for scene in scenes])
    apart = (attributes[:, None] != attributes[None]).sum(2) + len(scenes) * np.eye(len(scenes), dtype=int)
    assert apart.min() >= makers[kind].DIFFERENCES
    for phrasing in (*words[kind].TRAIN, *words[kind].VALID, *words[kind].TEST):
        assert len({phrasing.describe(scene) for scene in scenes}) == len(scenes)


def test_no_scene_says_the_same_twice():
    assert all(s.first.colour != s.second.colour for s in makers["pictures"].draw_scenes(300, 7))
    assert all(s.first != s.second for s in makers["clips"].draw_scenes(300, 7))
    sounds = makers["sounds"].draw_scenes(300, 7)
    assert all(len({s.first.kind, s.second.kind, s.third.kind}) == 3 for s in sounds)
    # nor are there two sounds of the same events in another order
    assert len({(frozenset([s.first, s.second, s.third]), s.pace) for s in sounds}) == 300


@pytest.mark.parametrize(
    ("kind", "few"),
    [
        ("pictures", {"COLOURS": ("red", "blue"), "SHAPES": ("circle", "square")}),
        ("sounds", {"PITCHES": ("low",), "KINDS": ("tone", "noise", "bell")}),
        ("clips", {"COLOURS": ("red",), "SHAPES": ("star",)}),
    ],
)
def test_more_scenes_than_there_is_room_for_are_refused(monkeypatch, kind, few):
    for name, values in few.items():
        monkeypatch.setattr(makers[kind], name, values)
    with pytest.raises(ValueError, match="--items is 200, but only about"):
        makers[kind].draw_scenes(200, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_query_phrasings_are_new_but_their_words_are_not(data, kind):
    phrasings: ModuleType = words[kind]
    captions = rows(data[kind] / "captions.jsonl")
    trained = {c["text"] for c in captions if c["role"] == "train"}
    asked = [c["text"] for c in captions if c["role"] == "query"]
    assert asked
    assert not trained & set(asked)
    # whatever the scene: no frame of a query is a frame of training, and valid and test share none
    frames = [{p.frame for p in split} for split in (phrasings.TRAIN, phrasings.VALID, phrasings.TEST)]
    assert not frames[0] & frames[1]
    assert not frames[0] & frames[2]
    assert not frames[1] & frames[2]
    # nor are the wordings mixed in training
    assert all(len(set(p.wordings)) == 1 for p in phrasings.TRAIN)
    assert all(len(set(p.wordings)) > 1 for p in (*phrasings.VALID, *phrasings.TEST))
    assert len(phrasings.TRAIN) >= world.KINDS[kind].captions  # each caption of an item is another phrasing
    scenes = makers[kind].draw_scenes(200, 5)

    def vocabulary(split: Any) -> set[str]:
        return {word for p in split for scene in scenes for word in re.findall(r"\w+", p.describe(scene))}

    assert vocabulary(phrasings.VALID) | vocabulary(phrasings.TEST) <= vocabulary(phrasings.TRAIN)


def test_run_sh_makes_every_kind_and_one_page(data, monkeypatch):
    root = data["pictures"].parents[1]
    tiny = ["--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "16", "--encoder-layers", "1"]
    tiny += ["--decoder-layers", "1", "--max-epoch", "1", "--batch-size", "256"]
    with training_here() as trainings:
        printed = call("demo/run", root, *tiny, IDENTIFIER_FLAGS="--scheme residual-kmeans", SERVE="0")
    assert [path for path, _ in trainings.calls] == [
        *(root / kind / "run" / "data-bin" for kind in ("clips", "pictures", "sounds")),
        root / "all" / "data-bin",
    ]
    assert all(flags[-len(tiny) :] == tiny for _, flags in trainings.calls)
    assert f"cart_fairseq.serve --data {root}/all/data-bin --path {root}/all/checkpoints/checkpoint_best.pt" in printed
    found = CartRetriever.from_pretrained(
        root / "all" / "checkpoints" / "checkpoint_best.pt", root / "all" / "data-bin"
    )
    for kind in KINDS:
        [media] = [path for path in (root / kind / "data" / "media").iterdir() if "-0003." in path.name]
        [[hit]] = found.search([Query(media=media)], k=1)
        assert root / hit.record["media"] == media
        assert hit.record["kind"] == kind
    drawn, record = root / "drawn", root / "answers.json"
    answers.main([str(root), f"--output={drawn}", f"--json={record}", "--items", "scene-0003", "scene-0004"])
    with pytest.raises(ValueError, match="has no item 'scene-9999'; name two pictures"):
        answers.main([str(root), f"--output={drawn}", "--items", "scene-0003", "scene-9999"])
    found_by = json.loads(record.read_text())["answers"]
    assert {path.stem for path in drawn.iterdir()} == found_by.keys() >= {"text", "item", "media", "nothing"}
    for name, hits in found_by.items():
        with Image.open(drawn / f"{name}.png") as image:
            shown = 5 + {"item": 1, "media": 1, "and": 1, "unlike": 1, "embedding": 2}.get(name, 0)
            assert image.size == (shown * (answers.SIDE + answers.GAP) + answers.GAP, answers.SIDE + 2 * answers.GAP)
        assert len({hit["item_id"] for hit in hits}) == 5
        assert all(hit["item_id"].startswith("scene-") for hit in hits)
    assert "scene-0003" not in [hit["item_id"] for hit in found_by["item"]]
    text = (root / "index.html").read_text(encoding="utf-8")
    for kind, address in zip(KINDS, ("image/png", "audio/wav", "image/webp"), strict=True):
        assert f'<section id="{kind}">' in text
        assert f'src="data:{address};base64,' in text
        assert re.search(rf"^{kind} +\d+ +{ITEMS[kind]}( +\d+\.\d){{4}}$", printed, re.MULTILINE)
    # again, and only one kind: nothing is made or trained anew
    monkeypatch.delattr(world, "make_world")
    with training_here() as trainings:
        again = call("demo/run", root, *tiny, IDENTIFIER_FLAGS="--scheme residual-kmeans", KINDS="sounds")
    assert not trainings.calls
    assert "sounds/data: made already, nothing to do" in again
    assert '<section id="pictures">' not in (root / "index.html").read_text(encoding="utf-8")


def test_a_kind_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="KINDS names 'smells'; use some of clips, pictures, sounds"):
        call("demo/run", tmp_path / "out", KINDS="sounds smells")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "items.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"holds files that are no data set of this script; .* for OUT$"):
        world.make_world("pictures", tmp_path, 5, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.jsonl", "media"]


def test_wrong_flags_of_the_last_step_are_refused_first(tmp_path: Path):
    with pytest.raises(ValueError, match=r"EMBEDDING_FLAGS: .*--frame-rate"):
        call("demo/run", tmp_path / "demo", EMBEDDING_FLAGS="--frame-rate 3")
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize(("given", "threads"), [(None, 1), ("2", 2)])
def test_the_demo_has_one_thread_unless_told_otherwise(given, threads):
    load = "import run; run.function_of(run.COMMANDS['demo/run'].function)"
    code = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'examples/recipes')]}; {load}"
    code += "; import torch; print(torch.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": given} if given else {}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(found.stdout) == threads
