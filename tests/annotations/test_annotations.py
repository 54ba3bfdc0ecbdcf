"""preprocess.annotations: each published format becomes the items and captions that the steps after it take."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from annotation_samples import (
    Sample,
    make_samples,
    write_audiocaps,
    write_clotho,
    write_csv,
    write_flickr30k,
    write_json,
    write_mscoco,
    write_msrvtt,
    write_msvd,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import needs_fork, stopped_at

from cart_fairseq.base.reading import read_jsonl
from preprocess.annotations import audiocaps, clotho, karpathy, msrvtt, msvd
from preprocess.annotations import build as building
from preprocess.annotations.__main__ import main
from preprocess.annotations.build import WrittenAnnotations, read_annotations
from preprocess.annotations.settings import AnnotationSettings
from preprocess.data.inputs import read_captions, read_items
from preprocess.data.roles import assign, resolve

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data" / "annotations"
needs_real_files = pytest.mark.skipif(not REAL.is_dir(), reason="no shared/data/annotations beside the repository")

WRITERS = {
    "flickr30k": write_flickr30k,
    "coco": write_mscoco,
    "clotho": write_clotho,
    "audiocaps": write_audiocaps,
    "msrvtt": write_msrvtt,
    "msvd": write_msvd,
}
LISTS = {"train_list": "train_list.txt", "valid_list": "val_list.txt", "test_list": "test_list.txt"}
CLOTHO = {split: f"clotho_captions_{name}.csv" for split, name in clotho.FOLDERS.items()}
FILES: dict[str, dict[str, str]] = {
    "flickr30k": {"annotations": "dataset_flickr30k.json"},
    "coco": {"annotations": "dataset_coco.json"},
    "clotho": CLOTHO,
    "audiocaps": {"train": "train.csv", "valid": "val.csv", "test": "test.csv"},
    "msrvtt": {
        "annotations": "MSRVTT_data.json",
        "train_list": "MSRVTT_train.9k.csv",
        "test_list": "MSRVTT_JSFUSION_test.csv",
    },
    "msvd": {"captions": "AllVideoDescriptions.txt", **LISTS},
}
READERS = {"flickr30k": "karpathy", "coco": "karpathy"}
MODALITIES = dict(zip(WRITERS, ("image", "image", "audio", "audio", "video", "video")))


def read(name: str, raw: Path, output: Path, media: Path | None = None) -> WrittenAnnotations:
    """Read miniature files."""
    files = {what: raw / file for what, file in FILES[name].items()}
    return read_annotations(READERS.get(name, name), files, output, AnnotationSettings(valid_size=2), media=media)


def command(name: str, raw: Path, output: Path) -> list[str]:
    """The words of the command that reads them."""
    files = [word for what, file in FILES[name].items() for word in (f"--{what.replace('_', '-')}", str(raw / file))]
    return [READERS.get(name, name), *files, "--output", str(output)]


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_items_and_captions(tmp_path, name):
    samples = make_samples()
    media = WRITERS[name](tmp_path / "raw", samples)
    for path in media:
        (tmp_path / "media" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "media" / path).touch()
    written = read(name, tmp_path / "raw", tmp_path / "out" / "ann", tmp_path / "media")

    items = read_items(tmp_path / "out" / "ann" / "items.jsonl")
    captions = read_captions(tmp_path / "out" / "ann" / "captions.jsonl", items)
    sample_of = {f"../../media/{path}": sample for path, sample in zip(media, samples, strict=True)}
    assert {item["media"] for item in items} == set(sample_of)
    assert {item["modality"] for item in items} == {MODALITIES[name]}
    for item in items:
        sample = sample_of[item["media"]]
        assert (tmp_path / "out" / "ann" / item["media"]).is_file()
        if name != "msrvtt" or sample.split == "test":
            assert item["split"] == sample.split
        own = [caption["text"] for caption in captions if caption["item_id"] == item["item_id"]]
        one_query = name == "msrvtt" and sample.split == "test"
        assert own == sample.captions[: 1 if one_query else None]
    trained = {item["item_id"] for item in items if item["split"] == "train"}
    assert all(caption["role"] == ("train" if caption["item_id"] in trained else "query") for caption in captions)
    assert Counter(item["split"] for item in items) == {"train": 4, "valid": 2, "test": 2}
    assert (tmp_path / "out" / "ann" / "missing.txt").read_text() == ""
    assert (written.directory, written.items, written.captions) == (tmp_path / "out" / "ann", 8, len(captions))
    assert written.missing == ()

    rows = {item["item_id"]: row for row, item in enumerate(items)}
    subsets = assign(resolve(captions, rows, [item["split"] for item in items], "captions.jsonl"), "include")
    measured = {"train": 20, "valid": 10, "test": 2 if name == "msrvtt" else 10}
    assert {subset: len(chosen) for subset, chosen in subsets.items()} == measured


def test_restval_is_trained_on(tmp_path):
    media = write_mscoco(tmp_path, make_samples())
    content = json.loads((tmp_path / "dataset_coco.json").read_text())
    assert [image["split"] for image in content["images"]][:4] == ["train", "restval", "train", "restval"]
    entries = karpathy.read(tmp_path / "dataset_coco.json").entries
    assert [entry.split for entry in entries] == ["train"] * 4 + ["valid"] * 2 + ["test"] * 2
    assert [entry.files[0] for entry in entries] == media
    assert media[1].startswith("val2014/")


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), min_size=1).filter(str.strip)


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(TEXTS, min_size=5, max_size=5))
@pytest.mark.parametrize("name", ["flickr30k", "clotho", "audiocaps"])
def test_any_caption_survives_but_for_its_white_space(tmp_path_factory, name, texts):
    raw = tmp_path_factory.mktemp("raw")
    WRITERS[name](raw, [Sample("train", texts), Sample("valid", texts), Sample("test", texts)])
    read(name, raw, raw / "out")
    captions = read_jsonl(raw / "out" / "captions.jsonl")
    assert [caption["text"] for caption in captions] == [" ".join(text.split()) for text in texts] * 3


def read_msrvtt(folder: Path, **options):
    lists = folder / "MSRVTT_train.9k.csv", folder / "MSRVTT_JSFUSION_test.csv"
    return msrvtt.read(folder / "MSRVTT_data.json", *lists, **options).entries


def test_msrvtt_valid_videos_are_chosen_by_the_seed_whatever_the_order(tmp_path):
    write_msrvtt(tmp_path, make_samples(train=40, valid=0))

    def chosen(**options):
        return {entry.item_id for entry in read_msrvtt(tmp_path, **options) if entry.split == "valid"}

    first = chosen(valid_size=10)
    assert len(first) == 10
    assert first == chosen(valid_size=10, seed=1) != chosen(valid_size=10, seed=2)
    lines = (tmp_path / "MSRVTT_train.9k.csv").read_text().split()
    write_csv(tmp_path / "MSRVTT_train.9k.csv", ["video_id"], [[line] for line in reversed(lines[1:])])
    assert first == chosen(valid_size=10)
    assert chosen(valid_size=0) == set()
    with pytest.raises(ValueError, match=r"9k\.csv: 40 videos are too few for a valid set of 40; lower --valid-size"):
        chosen(valid_size=40)
    with pytest.raises(ValueError, match="too few for a valid set of 497"):  # the default
        chosen()


def test_msrvtt_test_videos_are_measured_with_the_sentence_of_the_list(tmp_path):
    samples = make_samples(train=3, valid=0, test=2)
    write_msrvtt(tmp_path, samples)
    entries = read_msrvtt(tmp_path, valid_size=1)
    assert [len(entry.captions) for entry in entries] == [5, 5, 5, 1, 1]
    assert entries[3].captions == (samples[3].captions[0],)


def test_msvd_captions_as_json_are_those_of_the_text(tmp_path):
    write_msvd(tmp_path, make_samples())
    lists = {split: tmp_path / f"{name}_list.txt" for split, name in (("train", "train"), ("test", "test"))}
    lines = (tmp_path / "AllVideoDescriptions.txt").read_text().splitlines()
    texts: dict[str, list[str]] = {"unlisted": []}
    for line in lines[3:]:
        texts.setdefault(line.partition(" ")[0], []).append(line.partition(" ")[2])
    write_json(tmp_path / "captions_msvd.json", texts)
    entries = msvd.read(tmp_path / "AllVideoDescriptions.txt", lists).entries
    assert entries == msvd.read(tmp_path / "captions_msvd.json", lists).entries
    assert len(entries) == 6  # the valid videos are on no list


def test_counts_stand_beside_the_published_ones_and_the_paper_s(tmp_path, capsys):
    write_flickr30k(tmp_path, make_samples(train=3, valid=2, test=1))
    main(command("flickr30k", tmp_path, tmp_path / "out"))
    printed = capsys.readouterr()
    table = [line.split() for line in printed.out.splitlines()]
    assert table[:4] == [
        ["flickr30k", "items", "captions", "missing", "published", "paper"],
        ["train", "3", "15", "0", "29,000", "29,783"],
        ["valid", "2", "10", "0", "1,014", "1,000"],
        ["test", "1", "5", "0", "1,000", "1,000"],
    ]
    assert "31,783 images" in printed.out
    assert "without media" in printed.err
    assert "media" not in read_jsonl(tmp_path / "out" / "items.jsonl")[0]


def test_the_paper_s_counts_are_those_of_its_appendix():
    paper = {
        **{name: published.paper for name, published in karpathy.PUBLISHED.items()},
        **{reader.PUBLISHED.name: reader.PUBLISHED.paper for reader in (clotho, audiocaps, msrvtt, msvd)},
    }
    assert sum(paper["flickr30k"].values()) == 31783
    assert sum(paper["coco"].values()) == 123287
    assert sum(paper["msvd"].values()) == 1970
    assert sum(paper["msrvtt"].values()) == 10000
    assert paper["clotho"] == {"train": 3839, "valid": 1045, "test": 1045}
    assert paper["audiocaps"] == {"train": 37869, "valid": 384, "test": 737}


@needs_real_files
def test_real_audiocaps(tmp_path):
    files = {"valid": REAL / "audiocaps_val.csv", "test": REAL / "audiocaps_test.csv"}
    written = read_annotations("audiocaps", files, tmp_path)
    items = read_items(tmp_path / "items.jsonl")
    captions = read_captions(tmp_path / "captions.jsonl", items)
    assert Counter(item["split"] for item in items) == {"valid": 495, "test": 975}
    assert len(captions) == 2475 + 4875
    assert set(Counter(caption["item_id"] for caption in captions).values()) == {5}
    table = [line.split() for line in written.summary.splitlines()]
    assert table[2] == ["valid", "495", "2,475", "0", "495", "384"]
    assert table[3] == ["test", "975", "4,875", "0", "975", "737"]


@needs_real_files
def test_real_clotho(tmp_path):
    read_annotations("clotho", {"test": REAL / "clotho_captions_evaluation.csv"}, tmp_path)
    items = read_items(tmp_path / "items.jsonl")
    captions = read_captions(tmp_path / "captions.jsonl", items)
    assert (len(items), len(captions)) == (1045, 5225)
    assert items[0]["item_id"] == "evaluation/Santa Motor.wav"
    assert captions[0]["text"] == "A machine whines and squeals while rhythmically punching or stamping."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clotho"], "give at least one of --train, --valid and --test"),
        (["audiocaps"], "give at least one of --train, --valid and --test"),
        ([*command("msrvtt", Path(), Path()), "--seed", "-1"], "--seed is -1"),
        ([*command("msrvtt", Path(), Path()), "--valid-size", "-2"], "--valid-size is -2"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        main([*words, "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("reader", "files", "message"),
    [
        ("imagenet", {}, "no reader 'imagenet' of annotations; use one of karpathy"),
        ("msvd", LISTS, "msvd: AllVideoDescriptions.txt, .* is missing; give it as 'captions'"),
        ("karpathy", {"annotations": "a", "train": "b"}, "karpathy has no file 'train'; its files are annotations"),
    ],
)
def test_files_that_a_reader_has_not_or_lacks_are_named(tmp_path, reader, files, message):
    with pytest.raises(ValueError, match=message):
        read_annotations(reader, files, tmp_path / "out")


def test_as_a_command(tmp_path):
    words = command("msvd", tmp_path / "raw", tmp_path / "out")
    run = [sys.executable, "-m", "preprocess.annotations", *words]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(
        f"error: {tmp_path}/raw/train_list.txt: cannot be read (No such file"
    )
    assert not (tmp_path / "out").exists()


def states(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_second_run_writes_nothing_and_other_inputs_are_written_again(tmp_path):
    raw, out, media = tmp_path / "raw", tmp_path / "out", tmp_path / "media"
    names = write_flickr30k(raw, make_samples())
    media.mkdir()
    for name in names[1:]:
        (media / name).touch()
    assert read("flickr30k", raw, out, media).is_new
    before = states(out)
    assert sorted(before) == ["annotations.json", "captions.jsonl", "items.jsonl", "missing.txt"]
    again = read("flickr30k", raw, out, media)
    assert (again.is_new, again.items, again.missing) == (False, 7, (names[0],))
    assert "nothing to do" in again.summary
    assert states(out) == before
    (media / names[0]).touch()
    assert read("flickr30k", raw, out, media).missing == ()
    assert len(read_items(out / "items.jsonl")) == 8
    (out / "captions.jsonl").write_text("")
    assert read("flickr30k", raw, out, media).is_new
    assert read("flickr30k", raw, out).is_new
    write_flickr30k(raw, make_samples(train=3))
    assert read("flickr30k", raw, out).items == 7


def test_folders_without_a_record_are_replaced_and_others_are_not(tmp_path, capsys):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_flickr30k(raw, make_samples())
    read("flickr30k", raw, out)
    (out / "annotations.json").unlink()
    assert read("flickr30k", raw, out).is_new
    assert "out: building it again" in capsys.readouterr().err
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out: holds 'notes\.txt', which is not of this command"):
        read("flickr30k", raw, out)
    assert (out / "notes.txt").read_text() == "mine"


def test_media_are_found_from_a_folder_that_is_a_link(tmp_path):
    names = write_flickr30k(tmp_path / "raw", make_samples())
    (tmp_path / "media").mkdir()
    for name in names:
        (tmp_path / "media" / name).touch()
    out = tmp_path / "out"
    (tmp_path / "disk" / "big").mkdir(parents=True)
    out.symlink_to(tmp_path / "disk" / "big")
    read("flickr30k", tmp_path / "raw", out, tmp_path / "media")
    assert out.is_symlink()
    assert all((out / item["media"]).is_file() for item in read_items(out / "items.jsonl"))


@needs_fork
def test_a_second_process_on_the_same_output_is_refused(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_flickr30k(raw, make_samples())
    second = [sys.executable, "-m", "preprocess.annotations", *command("flickr30k", raw, out)]
    with stopped_at(building, "write_folder", read, "flickr30k", raw, out) as finish:
        done = subprocess.run(second, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        refused = f"error: {out}.partial: another run is building {out}; wait for it or stop it"
        assert done.stderr.splitlines()[-1] == refused
        assert not out.exists()
        assert finish() == 0
    assert not read("flickr30k", raw, out).is_new
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]
