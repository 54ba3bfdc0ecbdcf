"""`extract_embeddings`: rows, lists and reports; stopped anywhere it goes on to the same files."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_jsonl
from media_samples import describe, write_media
from processes import forked
from tiny_encoders import save_model

from cart_fairseq.base import progress
from cart_fairseq.base.reading import read_jsonl
from preprocess import extract_embeddings as door
from preprocess.data.embeddings import open_embeddings
from preprocess.data.inputs import match_items, read_items
from preprocess.data.row_store import RowStore
from preprocess.encoders import extract
from preprocess.encoders.base import MediaSample
from preprocess.encoders.extract import ExtractedEmbeddings, extract_embeddings, extract_text_embeddings
from preprocess.encoders.loading import load_encoder
from preprocess.encoders.settings import EmbeddingSettings

ITEMS = 11
SUFFIXES = (".png", ".jpg", ".mp4")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny CLIP."""
    return f"clip:{save_model('clip', tmp_path_factory.mktemp('clip') / 'model')}"


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Images and videos in `media/`, lists that name them in `ann/`."""
    items, captions = [], []
    for number in range(ITEMS):
        name = f"{number}{SUFFIXES[number % 3]}"
        write_media(tmp_path / "media" / name, number)
        modality = "video" if number % 3 == 2 else "image"
        split = ("train", "valid", "test")[number % 3]
        items.append({"item_id": f"item {number}", "modality": modality, "media": f"../media/{name}", "split": split})
        for text in describe(number, 2):
            role = "train" if split == "train" else "query"
            captions.append({"item_id": f"item {number}", "text": text, "role": role})
    (tmp_path / "ann").mkdir()
    write_jsonl(tmp_path / "ann" / "items.jsonl", items)
    write_jsonl(tmp_path / "ann" / "captions.jsonl", captions)
    return tmp_path / "ann"


def call(annotations: Path, clip: str, output: Path, **settings: Any) -> ExtractedEmbeddings:
    found = EmbeddingSettings(**{"encoder": clip, "workers": 0, "frames": 2, "batch_size": 3, **settings})
    return extract_embeddings(annotations / "items.jsonl", output, found, captions=annotations / "captions.jsonl")


def run(annotations: Path, clip: str, output: Path, **settings: Any) -> Path:
    return call(annotations, clip, output, **settings).path


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir()}


def test_a_log_is_told_the_time_before_the_first_batch(annotations, clip, tmp_path, monkeypatch, capsys):
    expected = contents(run(annotations, clip, tmp_path / "first"))
    assert "expected" not in capsys.readouterr().err  # less than half a minute
    monkeypatch.setattr(progress, "USUAL_GAP", 0.0)
    assert contents(run(annotations, clip, tmp_path / "second")).keys() == expected.keys()
    extract_text_embeddings(annotations / "captions.jsonl", tmp_path / "texts.npy", EmbeddingSettings(encoder=clip))
    told = [line for line in capsys.readouterr().err.splitlines() if "expected" in line]
    assert told == [
        f"embedding: {n} {what}, at most about 0:00 expected" for n, what in ((ITEMS, "items"), (22, "texts"))
    ]
    assert (tmp_path / "second" / "embeddings.npy").read_bytes() == expected["embeddings.npy"]


def test_rows_are_the_encoders_and_lists_fit_what_comes_next(annotations, clip, tmp_path):
    made = call(annotations, clip, tmp_path / "deep" / "data", workers=2)
    assert "11 items of 11, 8 dimensions" in made.summary
    assert (made.is_new, made.rows, made.dimension, made.skipped) == (True, ITEMS, 8, {})
    output = made.path
    items = read_items(output / "items.jsonl")
    rows = open_embeddings(output / "embeddings.npy")
    match_items(rows, items, "embeddings", "items")
    samples = [MediaSample(item["modality"], (output / item["media"]).resolve()) for item in items]
    assert all(Path(sample.path).is_file() for sample in samples)
    np.testing.assert_allclose(rows[:], load_encoder(clip, frames=2).embed_media(samples), atol=1e-6)
    assert {**items[2], "media": 0} == {"item_id": "item 2", "modality": "video", "split": "test", "media": 0}
    assert (output / "captions.jsonl").read_bytes() == (annotations / "captions.jsonl").read_bytes()
    assert read_jsonl(output / "skipped.jsonl") == []
    assert not (tmp_path / "deep" / "data.partial").exists()


def test_a_second_run_does_nothing_and_other_inputs_make_it_again(annotations, clip, tmp_path, monkeypatch):
    output = run(annotations, clip, tmp_path / "data")
    before = contents(output)
    with monkeypatch.context() as patch:
        patch.setattr(extract, "load_encoder", None)
        (tmp_path / "data.partial").mkdir()  # as if killed before it was removed
        again = call(annotations, clip, output)
    assert "up to date" in again.summary
    assert (again.is_new, again.rows, again.dimension) == (False, ITEMS, 8)
    assert not (tmp_path / "data.partial").exists()
    assert contents(output) == before

    shutil.copy(tmp_path / "media" / "3.png", tmp_path / "media" / "0.png")
    run(annotations, clip, output)
    rows = np.load(output / "embeddings.npy")
    np.testing.assert_allclose(rows[0], rows[3], atol=1e-6)
    run(annotations, clip, output, dtype="float16")
    half = np.load(output / "embeddings.npy")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, rows, atol=1e-3)
    (output / "items.jsonl").write_text("damaged")
    run(annotations, clip, output, dtype="float16")
    assert len(read_items(output / "items.jsonl")) == ITEMS


def die_after(batches: int, arguments: tuple) -> None:
    """Run, and be killed after some batches were kept, in the middle of the next."""
    keep, left = RowStore.keep, batches

    def kill(self, number, rows, values, problems):
        nonlocal left
        if not left:
            self.values[np.asarray(rows)] = 7
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        keep(self, number, rows, values, problems)

    RowStore.keep = kill  # type: ignore[method-assign]
    run(*arguments)


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_killed_run_goes_on_to_the_same_files(annotations, clip, tmp_path, kept, monkeypatch, capsys):
    expected = contents(run(annotations, clip, tmp_path / "whole"))
    arguments = (annotations, clip, tmp_path / "data")
    with forked(die_after, kept, arguments) as victim:
        victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert not (tmp_path / "data").exists()
    done = []
    keep = RowStore.keep

    def noted(self, number, *rest):
        done.append(number)
        keep(self, number, *rest)

    monkeypatch.setattr(RowStore, "keep", noted)
    run(*arguments)
    assert done == list(range(kept, 4))
    assert contents(tmp_path / "data") == expected
    assert not (tmp_path / "data.partial").exists()
    assert "going on where an interrupted run stopped" in capsys.readouterr().out


def test_media_that_cannot_be_read_fail_or_are_skipped(annotations, clip, tmp_path, capsys):
    broken = tmp_path / "media" / "4.jpg"
    good = broken.read_bytes()
    broken.write_bytes(good[:40])
    (tmp_path / "media" / "9.png").unlink()
    with pytest.raises(ValueError, match=r"row 5: .*4.jpg: not a readable image .*--on-error skip"):
        run(annotations, clip, tmp_path / "data", workers=2)
    assert not (tmp_path / "data").exists()
    made = call(annotations, clip, tmp_path / "data", on_error="skip")  # goes on with the first batch done
    output = made.path
    assert "skipped 2 items" in capsys.readouterr().err
    assert (made.rows, [*made.skipped]) == (9, ["item 4", "item 9"])
    kept = [f"item {number}" for number in range(ITEMS) if number not in (4, 9)]
    assert [item["item_id"] for item in read_items(output / "items.jsonl")] == kept
    assert {row["item_id"] for row in read_jsonl(output / "captions.jsonl")} == set(kept)
    rows = np.load(output / "embeddings.npy")
    assert rows.shape == (9, 8)
    assert [row["item_id"] for row in read_jsonl(output / "skipped.jsonl")] == ["item 4", "item 9"]
    assert "no such image file" in read_jsonl(output / "skipped.jsonl")[1]["reason"]

    with pytest.raises(ValueError, match=r"row 5: "):  # what was skipped is an error where errors are asked for
        run(annotations, clip, output)
    broken.write_bytes(good)
    run(annotations, clip, output, on_error="skip")
    repaired = np.load(output / "embeddings.npy")
    assert [row["item_id"] for row in read_jsonl(output / "skipped.jsonl")] == ["item 9"]
    np.testing.assert_allclose(np.delete(repaired, 4, axis=0), rows, atol=1e-6)


def test_a_batch_without_a_single_good_file(annotations, clip, tmp_path):
    for number in (3, 4, 5):
        (tmp_path / "media" / f"{number}{SUFFIXES[number % 3]}").unlink()
    output = run(annotations, clip, tmp_path / "data", on_error="skip")
    assert np.load(output / "embeddings.npy").shape == (8, 8)
    shutil.rmtree(tmp_path / "media")
    with pytest.raises(ValueError, match="no item could be embedded"):
        run(annotations, clip, tmp_path / "none", on_error="skip")


def test_rows_that_are_no_numbers_are_problems_of_their_items(annotations, clip, tmp_path, monkeypatch):
    load = extract.load_encoder

    def spoiled(*arguments):
        encoder = load(*arguments)
        embed = encoder.embed_batch

        def embed_batch(batch):
            values = embed(batch)
            values[[place == 6 for place in batch.places]] = np.nan
            return values

        monkeypatch.setattr(encoder, "embed_batch", embed_batch)
        return encoder

    monkeypatch.setattr(extract, "load_encoder", spoiled)
    with pytest.raises(ValueError, match=r"row 7: .*6.png: the encoder gave no finite values; try --precision"):
        run(annotations, clip, tmp_path / "data")
    assert len(np.load(run(annotations, clip, tmp_path / "data", on_error="skip") / "embeddings.npy")) == 10


def test_texts_get_a_row_each(annotations, clip, tmp_path, monkeypatch):
    captions, output = annotations / "captions.jsonl", tmp_path / "texts.npy"

    def embed() -> ExtractedEmbeddings:
        return extract_text_embeddings(captions, output, EmbeddingSettings(clip, batch_size=5))

    keep = RowStore.keep
    with monkeypatch.context() as patch:
        patch.setattr(RowStore, "keep", lambda self, n, *rest: keep(self, n, *rest) if n < 2 else interrupt())
        with pytest.raises(KeyboardInterrupt):
            embed()
    embed()
    rows = np.load(output)
    texts = [row["text"] for row in read_jsonl(captions)]
    np.testing.assert_allclose(rows, load_encoder(clip).embed_text(texts), atol=1e-6)
    monkeypatch.setattr(extract, "load_encoder", None)
    again = embed()
    assert "up to date" in again.summary
    assert (again.is_new, again.rows, again.dimension) == (False, len(texts), 8)
    (tmp_path / "texts.npy.json").unlink()
    with pytest.raises(ValueError, match=r"texts.npy: exists and was not made by this command"):
        embed()
    write_jsonl(captions, [{"text": "a"}, {"text": " "}])
    with pytest.raises(ValueError, match="row 2: text is ' '"):
        embed()
    with pytest.raises(ValueError, match=r"rows must end in .npy"):
        extract_text_embeddings(captions, tmp_path / "rows", EmbeddingSettings(clip))


def interrupt():
    raise KeyboardInterrupt


def test_what_cannot_be_embedded_is_refused(annotations, clip, tmp_path):
    def refused(message: str, change=None, output: str = "data", modality: str | None = None) -> None:
        items = read_jsonl(annotations / "items.jsonl")
        if change:
            items[1] |= change
        write_jsonl(tmp_path / "other.jsonl", items)
        settings = EmbeddingSettings(clip, workers=0, modality=modality)
        with pytest.raises(ValueError, match=message):
            extract_embeddings(tmp_path / "other.jsonl", tmp_path / output, settings)

    refused("row 2: item 'item 1' has no media", change={"media": None})
    refused("row 2: item 'item 1' has no modality; add it, or give --modality", change={"modality": None})
    refused("accepts image, text, video, not audio", change={"modality": "audio"})
    refused("accepts image, text, video, not audio", change={"modality": None}, modality="audio")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    refused("holds 'thesis.txt', which is not of this command", output="mine")
    refused("is a file", output="other.jsonl")


def test_the_command_line_says_what_is_wrong(capsys):
    for arguments, message in (
        (["--encoder", "clip", "--output", "x"], "one of the arguments --items --texts is required"),
        (["--texts", "a", "--captions", "b", "--encoder", "clip", "--output", "x.npy"], "goes with --items"),
        (["--items", "a", "--encoder", "clip", "--output", "x", "--workers", "-1"], "not a whole number"),
    ):
        with pytest.raises(SystemExit):
            door.main(arguments)
        assert message in capsys.readouterr().err


def test_help_documents_use_without_a_network(capsys):
    with pytest.raises(SystemExit):
        door.main(["--help"])
    assert "HF_HUB_OFFLINE=1" in capsys.readouterr().out


def test_the_record_says_what_the_rows_are_made_from(annotations, clip, tmp_path):
    record = json.loads((run(annotations, clip, tmp_path / "data") / "extraction.json").read_text())
    assert record["made_from"]["encoder"] == clip
    assert record["made_from"]["frames"] == 2
    assert set(record["files"]) == {"embeddings.npy", "items.jsonl", "captions.jsonl", "skipped.jsonl"}
