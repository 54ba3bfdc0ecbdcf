"""The six data sets' recipes, from annotations in the published formats and real media files to figures, in miniature."""

import argparse
import contextlib
import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import annotation_samples
import pytest
import tiny_encoders
from annotation_samples import Sample
from conftest import load_example
from media_samples import describe, write_media
from recipe_calls import Stopped, call, steps, training_here, value_after

from cart_fairseq.base.reading import read_json, read_jsonl
from preprocess.captioners.families import named
from preprocess.encoders.settings import FAMILIES

ROOT = Path(__file__).resolve().parents[3]
DATA_SETS = load_example("recipes", "data_sets").DATA_SETS
preparing = load_example("recipes", "preparing")
NAMES = list(DATA_SETS)
SPLITS = ["train"] * 14 + ["valid"] * 3 + ["test"] * 3
LOST, BROKEN = 2, 5  # items whose file is missing, and damaged
TINY = ("--arch", "cart_tiny", "--batch-size", "16", "--max-epoch", "2", "--lr", "0.01")


STEPS = {
    "preprocess.annotations": "annotations",
    "preprocess.extract_embeddings": "extract_embeddings",
    "preprocess.generate_captions": "generate_captions",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An encoder for each modality."""
    folder = tmp_path_factory.mktemp("encoders")
    clip, clap = (tiny_encoders.save_model(name, folder / name) for name in ("clip", "clap"))
    return {"image": f"clip:{clip}", "video": f"clip:{clip}", "audio": f"clap:{clap}"}


def modality_of(name: str) -> str:
    return {"clotho": "audio", "audiocaps": "audio", "msrvtt": "video", "msvd": "video"}.get(name, "image")


def write_raw(folder: Path, name: str) -> None:
    """What a person has who has downloaded a data set, one file of which was lost and one damaged."""
    captions = [describe(number) for number in range(len(SPLITS))]
    samples = [Sample(split, texts) for split, texts in zip(SPLITS, captions, strict=True)]
    media = getattr(annotation_samples, f"write_{name}")(folder, samples)
    for number, path in enumerate(media):
        if number != LOST:
            write_media(folder / "media" / path, number)
    (folder / "media" / media[BROKEN]).write_bytes(b"no such picture, sound or clip")


def run(tiny: dict[str, str], name: str, script: str, *arguments: object, **variables: str) -> str:
    """Run a script of a recipe; returns what it prints."""
    usual = {
        "ENCODER": tiny[modality_of(name)],
        "CAPTIONER": "neighbours",
        "ANNOTATION_FLAGS": "--valid-size 2" if name == "msrvtt" else "",
        "EMBEDDING_FLAGS": "--workers 0 --device cpu",
        "CAPTION_FLAGS": "--neighbours 3 --captions-per-item 2",
        "IDENTIFIER_FLAGS": "--scheme residual-kmeans --kmeans-clusters 3 --codebook-size 3 --allow-collapse",
    }
    return call(f"{name}/{script}", *arguments, **{**usual, **variables})


def contents(folder: Path) -> dict[str, str]:
    """What every file below a folder holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", NAMES)
def test_media_become_embeddings_and_captions(tiny, tmp_path, name):
    raw, out = tmp_path / "raw", tmp_path / "it's [out]"
    write_raw(raw, name)
    printed = run(tiny, name, "prepare", raw, out)
    assert "1 of 20 media files are missing" in printed
    assert "skipped 1 item," in printed
    items = read_jsonl(out / "data" / "items.jsonl")
    assert len(items) == len(SPLITS) - 2
    assert {item["modality"] for item in items} == {modality_of(name)}
    assert all((out / "data" / item["media"]).is_file() for item in items)
    captions = read_jsonl(out / "data" / "captions.jsonl")
    generated = [caption for caption in captions if caption["role"] == "index"]
    assert {caption["item_id"] for caption in generated} == {item["item_id"] for item in items}
    assert {caption["source"] for caption in generated} == {"neighbours"}
    before = contents(out)
    run(tiny, name, "prepare", raw, out)
    assert contents(out) == before


def test_three_commands_lead_from_media_to_figures_and_go_on_where_they_were_stopped(tiny, tmp_path):
    """Each is stopped between its steps, training in the middle of an epoch, too; in the end, what one run gives."""
    name, raw = "flickr30k", tmp_path / "raw"
    write_raw(raw, name)
    out, whole = tmp_path / "out", tmp_path / "whole"
    stops = {
        "prepare": [(preparing.extract_embeddings, "main"), (preparing.generate_captions, "main")],
        "train": [(steps.binarize, "main"), (steps.fairseq_calls, "train"), (steps, "note_trained")],
        "evaluate": [(steps.fairseq_calls, "search"), (steps.evaluating, "main")],
    }
    for script, arguments in (("prepare", (raw, out)), ("train", (out, *TINY)), ("evaluate", (out,))):
        for module, function in stops[script]:
            with mock.patch.object(module, function, stopped), pytest.raises(Stopped):
                run(tiny, name, script, *arguments)
            if script == "prepare":
                with pytest.raises(SystemExit, match="2"):
                    run(tiny, name, "train", out)
            if script == "train":
                with pytest.raises((SystemExit, ValueError), match=r"2|training is not complete"):
                    run(tiny, name, "evaluate", out)
            if function == "train":
                with training_here():
                    run(tiny, name, script, *arguments, "--stop-time-hours", "1e-9")
        printed = run(tiny, name, script, *arguments)
        assert ("Loaded checkpoint" in printed) == (script == "train")
    assert re.search(r"^test +\(the paper\) ", printed, re.M)
    metrics = read_json(out / "metrics.json")
    assert (metrics["test"]["queries"], metrics["test"]["candidates"]) == (15, 3)
    assert metrics["test"]["recall_at_5"] == 100  # among three candidates
    assert metrics["valid"]["queries"] == 5 * metrics["valid"]["candidates"]

    shutil.copytree(out / "data", whole / "data", symlinks=True)
    shutil.copytree(out / "embeddings", whole / "embeddings")
    with training_here() as trainings:
        for script, arguments in (("train", (whole, *TINY)), ("evaluate", (whole,))):
            run(tiny, name, script, *arguments)
        assert len(trainings.calls) == 1
        assert read_json(whole / "metrics.json") == metrics
        assert (whole / "run.test.trec").read_bytes() == (out / "run.test.trec").read_bytes()
        before = contents(out)
        for script, arguments in (("train", (out, *TINY)), ("evaluate", (out,))):
            run(tiny, name, script, *arguments)
        assert contents(out) == before
        assert len(trainings.calls) == 1


def stopped(*_: object) -> None:
    """A step before which the process is killed."""
    raise Stopped


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_with_the_paper_s_models_are_understood(tiny, name, tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    (tmp_path / "out" / "data").mkdir(parents=True)
    given: dict[str, list[str]] = {}
    for step, module in STEPS.items():
        command = getattr(preparing, module)
        monkeypatch.setattr(command, "main", parsing(command.main, given, step))
    defaults: dict[str, Any] = dict.fromkeys(("ENCODER", "CAPTIONER", "EMBEDDING_FLAGS", "CAPTION_FLAGS"), "")
    run(tiny, name, "prepare", tmp_path / "raw", tmp_path / "out", **defaults)
    assert list(given) == list(STEPS)
    _, embed, caption = given.values()
    assert value_after(embed, "--encoder") == "imagebind"
    family = "whisper" if modality_of(name) == "audio" else "blip2"
    assert value_after(caption, "--captioner") == family
    assert named(family)[1]
    assert ("audiocaps > caption: " in caption) == (name == "audiocaps")
    text = (ROOT / "examples" / name / "prepare.sh").read_text(encoding="utf-8")
    for spec in ("imagebind", *re.findall(r"ENCODER=([\w-]+)", text)):
        assert spec.partition(":")[0] in FAMILIES
    for spec in re.findall(r"CAPTIONER=([\w-]+)", text):
        assert named(spec)


def parsing(main: Callable[[list[str]], None], given: dict[str, list[str]], step: str) -> Callable[[list[str]], None]:
    """A command that ends as soon as its command line is read."""

    class Parsed(Exception):
        """It was understood."""

    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        parse(self, *args, **kwargs)
        raise Parsed

    def only_parse(argv: list[str]) -> None:
        given[step] = argv
        with mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_end), contextlib.suppress(Parsed):
            main(argv)

    return only_parse


@pytest.mark.parametrize("name", NAMES)
def test_the_paper_s_figures_are_the_same_everywhere(name):
    shown = list(DATA_SETS[name].figures)
    published = load_example("baselines", "published").FIGURES[2][name][-1]
    assert published.method == "CART"
    assert shown == [published.recall_at_1, published.recall_at_5, published.recall_at_10, published.mrr_at_10]
    tables = load_example("ablations", "paper_tables").TABLES
    table = tables[{"flickr30k": "4", "mscoco": "9"}.get(name, f"8-{name}")]
    assert table.lines[-1].labels == ("CART",)
    assert shown == pytest.approx(table.lines[-1].paper, abs=0.0501)  # rounded


def test_a_missing_annotation_is_named(tiny, tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(ValueError, match=r"raw/train_list\.txt: cannot be read"):
        run(tiny, "msvd", "prepare", tmp_path / "raw", tmp_path / "out")


def test_links_are_made_anew_where_they_point_elsewhere(tmp_path):
    (tmp_path / "old").write_text("old")
    for place in ("link", "file"):
        path = tmp_path / place
        path.symlink_to("old") if place == "link" else path.write_text("x")
        load_example("recipes", "folders").link(Path("new"), path)
        assert path.readlink() == Path("new")


@pytest.mark.parametrize("name", NAMES)
def test_each_readme_names_its_scripts_and_the_paper_s_figures(name):
    folder = ROOT / "examples" / name
    text = (folder / "README.md").read_text(encoding="utf-8")
    for script in ("prepare", "train", "evaluate"):
        assert f"bash examples/{name}/{script}.sh " in text
    assert f"| {' | '.join(map(str, DATA_SETS[name].figures))} |" in text
    files = DATA_SETS[name].files.values()
    assert files
    assert [file for file in files if file not in text] == []
    for table in re.findall(r"ablations/run\.sh (\S+)", text):
        assert table == "$table" or table in load_example("ablations", "paper_tables").TABLES
