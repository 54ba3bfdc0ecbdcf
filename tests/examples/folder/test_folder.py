"""examples/folder/run.sh: a folder of media to a catalogue with a page, and what changes in the folder afterwards."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from conftest import load_example
from media_samples import write_media
from PIL import Image
from recipe_calls import Stopped, call, training_here

from cart_fairseq import CartRetriever, ExampleRetriever, Query
from cart_fairseq.base.files import write_jsonl
from cart_fairseq.catalogue.data_bin import DataBin

serving = load_example("recipes", "serving")
preparing = load_example("recipes", "preparing")
lists = load_example("folder", "folder_lists")
FLAGS = ("--max-epoch", 1, "--arch", "cart_tiny")
VARIABLES = {"JOIN_FLAGS": "--text-dim 8 --pca 4 --align 4", "SERVE": "0"}
WORDS = ("red circle", "blue square", "green line", "white dot")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures, sounds and clips in folders, most of them with a text beside."""
    found = tmp_path / "my media"
    for number in range(20):
        name = f"{WORDS[number % 4].replace(' ', '_')} {number}.{('png', 'jpg', 'wav', 'mp4')[number % 4]}"
        path = found / f"part {number % 3}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_media(path, number)
        if number % 5:
            path.with_suffix(".txt").write_text(f"a {WORDS[number % 4]} that is number {number}")
    return found


def make(folder: Path, out: Path, **variables: str) -> str:
    with training_here() as trainings:
        said = call("folder/run", folder, out, *FLAGS, **VARIABLES, **variables)
    assert len(trainings.calls) <= 1
    return said


def opened(out: Path) -> CartRetriever:
    return CartRetriever.from_pretrained(out / "checkpoints" / "checkpoint_last.pt", out / "data-bin", device="cpu")


def ids(out: Path) -> set[str]:
    bundle = DataBin(out / "data-bin").bundle
    return {bundle.item_id(row) for row in bundle.kept.tolist()}


def test_a_folder_becomes_a_catalogue_and_follows_the_folder(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    said = make(folder, out)
    assert "ENCODER is not set" in said
    assert f"--data '{out / 'data-bin'}'" in said or f"--data {out / 'data-bin'}" in said
    assert f"--media-root '{folder}'" in said
    first = ids(out)
    assert len(first) == 20
    [[hit]] = opened(out).search([Query(media=folder / "part 0" / "red_circle 0.png")], k=1)
    assert hit.record["media"] == hit.item_id == "part 0/red_circle 0.png"
    assert hit.record["folder"] == "part 0"
    assert hit.record["caption"] == "part red circle"

    with training_here() as trainings:
        assert "nothing to do" in call("folder/run", folder, out, *FLAGS, **VARIABLES)
        write_media(folder / "new one.png", 7)
        write_media(folder / "part 0" / "red_circle 0.png", 11)
        (folder / "part 1" / "red_circle 4.txt").write_text("now it is something else")
        (folder / "part 2" / "red_circle 8.png").unlink()
        said = call("folder/run", folder, out, *FLAGS, **VARIABLES)
    assert not trainings.calls
    assert "removed 3 items, 17 in the catalogue" in said
    assert "added 3 items, 20 in the catalogue" in said
    assert ids(out) == first - {"part 2/red_circle 8.png"} | {"new one.png"}
    searched = opened(out)
    [[hit]] = searched.search([Query(media=folder / "new one.png")], k=1)
    assert hit.item_id == "new one.png"
    assert hit.record["caption"] == "new one"
    assert searched.search([Query(media=folder / "part 0" / "red_circle 0.png")], k=1)[0][0].row >= 20
    assert not (out / "new").exists()
    assert not (out / "gone.jsonl").exists()
    assert "nothing to do" in make(folder, out)


@pytest.mark.parametrize("at", ["remove", "add", "known"])
def test_stopped_changes_are_finished(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str):
    out = tmp_path / "out"
    make(folder, out)
    write_media(folder / "new.wav", 3)
    (folder / "part 2" / "red_circle 8.png").unlink()
    changes, catalogue = sys.modules["folder_changes"], sys.modules["folder_catalogue"]
    update = changes.update

    def stop_after(command: str, *arguments: object) -> None:
        update(command, *arguments)
        if command == at:
            raise Stopped

    def stop(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as stopping:
        stopping.setattr(changes, "update", stop_after)
        if at == "known":
            stopping.setattr(catalogue.Known, "write", stop)
        with pytest.raises(Stopped):
            make(folder, out)
    make(folder, out)
    assert len(ids(out)) == 20
    assert "new.wav" in ids(out)
    assert opened(out).search([Query(media=folder / "new.wav")], k=1)[0][0].item_id == "new.wav"


def test_what_is_not_described_is_searched_by_example(tmp_path: Path):
    folder, out = tmp_path / "camera", tmp_path / "out"
    for number in range(6):
        write_media(folder / f"IMG_{1000 + number}.JPG", number)
    said = call("folder/run", folder, out, **VARIABLES)
    assert "no model that reads texts is trained" in said
    assert "--path" not in said
    assert not (out / "checkpoints").exists()
    (folder / "IMG_1002.JPG").unlink()
    write_media(folder / "IMG_2000.JPG", 30)
    call("folder/run", folder, out, **VARIABLES)
    retriever = ExampleRetriever.from_pretrained(out / "data-bin", "cpu")
    [hits] = retriever.search([Query(media=folder / "IMG_2000.JPG")], k=9)
    assert [hits[0].item_id, len(hits)] == ["IMG_2000.JPG", 6]
    assert "IMG_1002.JPG" not in {hit.item_id for hit in hits}


def test_a_stopped_first_run_goes_on_with_what_it_began_with(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    with training_here(stop_at=out / "checkpoints"), pytest.raises(Stopped):
        call("folder/run", folder, out, *FLAGS, **VARIABLES)
    write_media(folder / "later.png", 5)
    make(folder, out)
    assert "later.png" not in ids(out)
    make(folder, out)
    assert "later.png" in ids(out)


def test_new_files_that_cannot_be_embedded_are_left_out(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    make(folder, out)
    whole = (folder / "part 0" / "red_circle 0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) * 2 // 3])
    said = make(folder, out)
    assert "cut.png" in said
    assert len(ids(out)) == 20
    assert "nothing to do" in make(folder, out)


def test_new_files_with_a_text_that_cannot_be_embedded_do_not_stop_others(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    make(folder, out)
    whole = (folder / "part 0" / "red_circle 0.png").read_bytes()
    (folder / "cut circle.png").write_bytes(whole[: len(whole) * 2 // 3])
    write_media(folder / "IMG_1234.png", 5)  # nothing describes it
    make(folder, out)
    assert len(ids(out)) == 21


@pytest.mark.parametrize(
    "texts",
    [
        {"red house": [], "blue boat": []},
        {"house": ["a red house", "the house is red"]},
        {"red house": [], "red boat": []},
        {f"IMG_{number}": [f"a red {name} on the hill"] for number, name in enumerate(("house", "boat", "cat"))},
    ],
    ids=["no common word", "one item", "one word", "the same words"],
)
def test_texts_that_tell_no_items_apart_are_nothing_to_learn_from(texts: dict[str, list[str]], tmp_path: Path):
    folder, out = tmp_path / "few", tmp_path / "out"
    for number, (name, captions) in enumerate(texts.items()):
        write_media(folder / f"{name}.jpg", number)
        if captions:
            (folder / f"{name}.json").write_text(json.dumps({"caption": captions}))
    said = call("folder/run", folder, out, **VARIABLES)
    assert "say too little to learn from" in said
    assert ids(out) == {f"{name}.jpg" for name in texts}


def test_names_of_folders_are_learned(tmp_path: Path):
    folder, out = tmp_path / "albums", tmp_path / "out"
    for number in range(8):
        path = folder / ("beach", "mountain")[number % 2] / f"IMG_{number}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_media(path, number)
    variables = {**VARIABLES, "JOIN_FLAGS": "--align 2 --pca 2"}
    with training_here() as trainings:
        call("folder/run", folder, out, *FLAGS, **variables)
    assert trainings.calls
    assert len(opened(out).search(["beach"], k=8)[0]) == 8


def test_the_recipe_says_when_another_out_is_better(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    make(folder, out)
    for number in range(12):
        write_media(folder / f"new {number}.png", 40 + number)
    assert "most items came after training" not in make(folder, out)
    for number in range(12, 24):
        write_media(folder / f"new {number}.png", 40 + number)
    assert "most items came after training" in make(folder, out)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            os.utime(path, (1, 1))
    with pytest.raises(ValueError, match=r"all of its 44 items .* choose another OUT"):
        make(folder, out)


def test_texts_that_come_later_need_another_out(tmp_path: Path):
    folder, out = tmp_path / "camera", tmp_path / "out"
    for number in range(5):
        write_media(folder / f"IMG_{number}.JPG", number)
    call("folder/run", folder, out, **VARIABLES)
    for number in range(1, 5):
        (folder / f"IMG_{number}.txt").write_text(f"a {WORDS[number % 2]}")
    assert "another OUT trains a model" in call("folder/run", folder, out, **VARIABLES)


def test_the_page_shows_the_first_caption_wherever_it_comes_from(tmp_path: Path):
    embedded = tmp_path / "embeddings"
    embedded.mkdir()
    write_jsonl(embedded / "items.jsonl", [{"item_id": "a", "media": "a.png"}, {"item_id": "b", "media": "b.png"}])
    write_jsonl(tmp_path / "captions.jsonl", [{"item_id": "a", "text": text} for text in ("a dog", "a cat")])
    rows = preparing.served(embedded, embedded, tmp_path / "captions.jsonl")
    assert [row.get("caption") for row in rows] == ["a dog", None]


def test_what_is_refused(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="holds no picture, sound or video"):
        call("folder/run", empty, out, **VARIABLES)
    make(folder, out)  # OUT belongs to no folder without media
    with pytest.raises(ValueError, match=r"was made from .*my media.*choose another OUT"):
        call("folder/run", empty, out, **VARIABLES)
    with pytest.raises(ValueError, match="lies inside"):
        call("folder/run", folder, folder / "part 1" / "out", **VARIABLES)
    with pytest.raises(ValueError, match="SERVE is 'yes'"):
        call("folder/run", folder, tmp_path / "none", SERVE="yes")
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ValueError, match="lies inside"):
        call("folder/run", folder, tmp_path / "link" / "out", **VARIABLES)
    with pytest.raises(ValueError, match="ENCODER is 'clip', but"):
        call("folder/run", folder, out, ENCODER="clip", **VARIABLES)
    with pytest.raises(ValueError, match="CAPTIONER is set, but"):
        call("folder/run", folder, out, CAPTIONER="blip2", **VARIABLES)
    write_media(folder / "new.mp4", 3)
    with pytest.raises(ValueError, match=r"made with frames 2, but .* give the same EMBEDDING_FLAGS"):
        call("folder/run", folder, out, *FLAGS, EMBEDDING_FLAGS="--frames 2", **VARIABLES)
    assert "new.mp4" not in ids(out)
    with pytest.raises(ValueError, match="no-such-flag"):
        call("folder/run", folder, out, "--no-such-flag", **VARIABLES)


def test_the_page_is_served_in_a_terminal_or_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    served: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, command: served.append(command))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "checkpoint_last.pt").touch()
    monkeypatch.setenv("PORT", "1234")
    for wanted in ("", "0"):
        monkeypatch.setenv("SERVE", wanted)
        serving.offer(tmp_path, tmp_path)
        assert "cart_fairseq.serve" in capsys.readouterr().out
    assert not served
    monkeypatch.setenv("SERVE", "1")
    serving.offer(tmp_path, tmp_path)
    [command] = served
    assert command[-2:] == ["--port", "1234"]
    assert command[command.index("--path") + 1].endswith("checkpoint_last.pt")
    for name, value in (("SERVE", "yes"), ("PORT", "many")):
        with monkeypatch.context() as wrong:
            wrong.setenv(name, value)
            with pytest.raises(ValueError, match=f"{name} is '{value}'"):
                serving.offer(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("captions", "epochs"), [(0, 16), (1, 200), (40, 134), (90, 67), (400, 16), (4000, 16)], ids=str
)
def test_few_captions_have_more_epochs(captions: int, epochs: int, tmp_path: Path):
    write_jsonl(tmp_path / "captions.jsonl", [{"item_id": "a", "text": "b"}] * captions)
    assert lists.epochs_for(tmp_path / "captions.jsonl") == epochs
    assert lists.epochs_for(tmp_path / "missing.jsonl") == 16
    assert lists.has_few(tmp_path / "captions.jsonl") == (captions <= 2000)


def test_the_recipe_says_what_texts_cannot_find(tmp_path: Path):
    write_jsonl(tmp_path / "items.jsonl", [{"item_id": name} for name in "abcde"])
    said = [("a", "A dog"), ("b", "a  dog"), ("c", "a dog"), ("c", "a cat"), ("d", "a cow")]
    write_jsonl(tmp_path / "captions.jsonl", [{"item_id": name, "text": text} for name, text in said])
    silent, shared = lists.not_told_apart(tmp_path / "items.jsonl", tmp_path / "captions.jsonl")
    assert silent.startswith("1 item without a caption")
    assert shared.startswith("2 items whose captions are those of others")


def test_a_caption_of_words_that_occur_once_finds_its_item(folder: Path, tmp_path: Path):
    for number, name in enumerate(("zeppelin", "harvest", "lighthouse")):
        write_media(folder / f"{name}.png", 40 + number)
    write_media(folder / "IMG_7.jpg", 50)
    said = [f"a red circle that is number {number}" for number in (4, 8)]
    (folder / "part 1" / "red_circle 4.json").write_text(json.dumps({"captions": said}))
    out = tmp_path / "out"
    with training_here():
        said = call("folder/run", folder, out, "--arch", "cart_tiny", "--max-epoch", 60, "--lr", 0.005, SERVE="0")
    steps = re.findall(r"^== (\d+)\. ", said, re.M)
    assert steps == [str(number) for number in range(1, len(steps) + 1)]
    assert len(steps) > 5
    assert "describe 23 items" in said
    assert "1 item without a caption" in said
    assert "too few valid queries to choose weights on" in said
    tried = re.search(r"^fairseq-train .*", said, re.M)
    assert tried
    assert tried[0].count(" --decoder-layers ") == tried[0].count(" --lr ") == 1
    for name in ("zeppelin", "harvest", "lighthouse"):
        assert opened(out).search([name], k=1)[0][0].item_id == f"{name}.png"


def test_what_could_not_be_embedded_is_named_again(folder: Path, tmp_path: Path):
    broken = folder / "part 0" / "broken.jpg"
    Image.effect_noise((200, 200), 80).save(broken)
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    out = tmp_path / "out"
    said = make(folder, out)
    assert "skipped 1 item," in said
    assert f"  {broken}: not a readable" in said
    assert "1 item of the folder not in the catalogue" in make(folder, out)
    assert "part 0/broken.jpg" in make(folder, out)
