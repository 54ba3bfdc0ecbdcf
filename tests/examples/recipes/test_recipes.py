"""The six data sets' recipes, from annotations in the published formats and real media files to figures, in miniature."""

import functools
import hashlib
import importlib.util
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import annotation_samples
import pytest
import tiny_encoders
import warm_python
from annotation_samples import Sample
from conftest import load_example
from media_samples import describe, write_media

from cart_fairseq.files import read_json, read_jsonl
from preprocess import captioners, encoders

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("flickr30k", "mscoco", "clotho", "audiocaps", "msrvtt", "msvd")
SPLITS = ["train"] * 14 + ["valid"] * 3 + ["test"] * 3
LOST, BROKEN = 2, 5  # items whose file is missing, and damaged
TINY = ("--arch", "cart_tiny", "--batch-size", "16", "--max-epoch", "2", "--lr", "0.01")


class Tools(NamedTuple):
    """What all recipes share: a Python, and the encoder of each modality."""

    warm: warm_python.WarmPython
    encoders: dict[str, str]


@pytest.fixture(scope="module")
def tools(warm: warm_python.WarmPython, tmp_path_factory: pytest.TempPathFactory) -> Tools:
    folder = tmp_path_factory.mktemp("encoders")
    clip, clap = (tiny_encoders.save_model(name, folder / name) for name in ("clip", "clap"))
    return Tools(warm, {"image": f"clip:{clip}", "video": f"clip:{clip}", "audio": f"clap:{clap}"})


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


def run(tools: Tools, name: str, script: str, *arguments: object, fails: bool = False, **variables: Any) -> str:
    """Run a script of a recipe; returns what it prints."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.endswith("_FLAGS")},
        "PYTHON": str(tools.warm.python),
        "OMP_NUM_THREADS": "1",
        "ENCODER": tools.encoders[modality_of(name)],
        "CAPTIONER": "neighbours",
        "ANNOTATION_FLAGS": "--valid-size 2" if name == "msrvtt" else "",
        "EMBEDDING_FLAGS": "--workers 0 --device cpu",
        "CAPTION_FLAGS": "--neighbours 3 --captions-per-item 2",
        "IDENTIFIER_FLAGS": "--scheme residual-kmeans --kmeans-clusters 3 --codebook-size 3 --allow-collapse",
        **variables,
    }
    command = ["bash", str(ROOT / "examples" / name / f"{script}.sh"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def contents(folder: Path) -> dict[str, str]:
    """What every file below a folder holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Finished(NamedTuple):
    """A recipe that has run: its folders, its three calls, and what they printed."""

    raw: Path
    out: Path
    calls: list[tuple]
    printed: list[str]


@pytest.fixture(scope="module")
def finished(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Finished]:
    @functools.cache
    def run_all(name: str) -> Finished:
        folder = tmp_path_factory.mktemp(name)
        raw, out = folder / "raw", folder / "out"
        write_raw(raw, name)
        calls: list[tuple] = [("prepare", raw, out), ("train", out, *TINY), ("evaluate", out)]
        return Finished(raw, out, calls, [run(tools, name, *call) for call in calls])

    return run_all


@pytest.mark.parametrize("name", NAMES)
def test_three_commands_lead_from_media_to_figures_and_do_nothing_twice(tools, finished, name):
    _, out, calls, printed = finished(name)
    assert "1 of 20 media files are missing" in printed[0]
    assert "skipped 1 items" in printed[0]
    assert re.search(r"^test +\(the paper\) ", printed[2], re.M)

    items = read_jsonl(out / "data" / "items.jsonl")
    assert len(items) == len(SPLITS) - 2
    assert {item["modality"] for item in items} == {modality_of(name)}
    assert all((out / "data" / item["media"]).is_file() for item in items)
    captions = read_jsonl(out / "data" / "captions.jsonl")
    generated = [caption for caption in captions if caption["role"] == "index"]
    assert {caption["item_id"] for caption in generated} == {item["item_id"] for item in items}
    assert {caption["source"] for caption in generated} == {"neighbours"}

    metrics = read_json(out / "metrics.json")
    queries = 1 if name == "msrvtt" else 5  # of a test video of MSR-VTT only the sentence of the list is asked
    assert (metrics["test"]["queries"], metrics["test"]["candidates"]) == (3 * queries, 3)
    assert metrics["test"]["recall_at_5"] == 100  # among three candidates
    assert metrics["valid"]["queries"] == 5 * metrics["valid"]["candidates"]
    assert (out / "run.test.trec").is_file()

    before = contents(out)
    tools.warm.commands()
    for call in calls:
        run(tools, name, *call)
    assert contents(out) == before
    assert not [command for command in tools.warm.commands() if command.startswith("fairseq_cli")]


def test_a_recipe_that_is_stopped_anywhere_goes_on(tools, finished, tmp_path):
    name, out = "flickr30k", tmp_path / "out"
    raw, whole, _, _ = finished(name)
    for script, arguments, stops in (
        ("prepare", (raw, out), ("preprocess.extract_embeddings", "preprocess.generate_captions")),
        (
            "train",
            (out, *TINY),
            ("preprocess.binarize", "fairseq_cli.train", "plan.py trained"),
        ),
        ("evaluate", (out,), ("--gen-subset test", "metrics.test")),
    ):
        for stop in stops:
            printed = run(tools, name, script, *arguments, fails=True, WARM_STOP_BEFORE=stop)
            assert ("Loaded checkpoint" in printed) == (stop == "plan.py trained")
            if script == "prepare":
                assert "usage: " in run(tools, name, "train", out, fails=True)
            if script == "train":
                assert re.search("training is not complete|usage: ", run(tools, name, "evaluate", out, fails=True))
            if stop == "fairseq_cli.train":  # and once in the middle of it
                run(tools, name, script, *arguments, "--stop-time-hours", "1e-9")
        run(tools, name, script, *arguments)
    assert read_json(out / "metrics.json") == read_json(whole / "metrics.json")
    assert (out / "run.test.trec").read_bytes() == (whole / "run.test.trec").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_with_the_paper_s_models_are_understood(tools, name, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "out" / "data").mkdir(parents=True)
    tools.warm.commands()
    defaults: dict[str, Any] = dict.fromkeys(("ENCODER", "CAPTIONER", "EMBEDDING_FLAGS", "CAPTION_FLAGS"), "")
    run(tools, name, "prepare", tmp_path / "raw", tmp_path / "out", WARM_PARSE_ONLY="1", **defaults)
    annotate, embed, caption = tools.warm.commands()
    assert annotate.startswith("preprocess.annotations ")
    assert " --encoder imagebind " in embed
    family = "whisper" if modality_of(name) == "audio" else "blip2"
    assert f" --captioner {family} " in caption
    assert captioners.named(family)[1]
    assert ("audiocaps > caption: " in caption) == (name == "audiocaps")
    text = (ROOT / "examples" / name / "prepare.sh").read_text(encoding="utf-8")
    for spec in ("imagebind", *re.findall(r"ENCODER=([\w-]+)", text)):
        assert spec.partition(":")[0] in encoders.FAMILIES
    for spec in re.findall(r"CAPTIONER=([\w-]+)", text):
        assert captioners.named(spec)


@pytest.mark.parametrize("name", NAMES)
def test_the_paper_s_figures_are_the_same_everywhere(name):
    shown = [float(figure) for figure in re.findall(r"\d+\.\d", (ROOT / "examples" / name / "evaluate.sh").read_text())]
    published = load_example("baselines", "published").FIGURES[2][name][-1]
    assert published.method == "CART"
    assert shown == [published.recall_at_1, published.recall_at_5, published.recall_at_10, published.mrr_at_10]
    tables = load_example("ablations", "paper_tables").TABLES
    table = tables[{"flickr30k": "4", "mscoco": "9"}.get(name, f"8-{name}")]
    assert table.lines[-1].labels == ("CART",)
    assert shown == pytest.approx(table.lines[-1].paper, abs=0.0501)  # rounded


def test_scripts_say_what_is_missing(tools, tmp_path):
    assert "usage: " in run(tools, "msvd", "prepare", tmp_path / "nothing", tmp_path / "out", fails=True)
    (tmp_path / "raw").mkdir()
    missing = f"{tmp_path / 'raw' / 'train_list.txt'}: cannot be read"
    assert missing in run(tools, "msvd", "prepare", tmp_path / "raw", tmp_path / "out", fails=True)
    assert "what prepare.sh made" in run(tools, "msvd", "train", tmp_path / "out", fails=True)
    assert "what train.sh made" in run(tools, "msvd", "evaluate", tmp_path / "out", fails=True)


def test_every_library_of_the_warm_python_exists():
    for library in warm_python.LIBRARIES:
        assert importlib.import_module(library).__name__ == library


def test_every_table_and_figure_has_a_line_whose_commands_exist():
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    tables, figures = (text.partition(f"## {head}\n")[2].partition("\n## ")[0] for head in ("Tables", "Figures"))
    rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in re.findall(r"^\| \d.*\|$", tables, re.M)]
    assert sorted({int(row[0].partition(",")[0]) for row in rows}) == list(range(1, 12))
    drawn = re.findall(r"^\| ([\d, ]+) \|", figures, re.M)
    assert [int(number) for cell in drawn for number in cell.split(",")] == [1, 2, 3, 4, 5]
    for row in rows:
        assert len(row) == 4
        assert all(row)
    for path in re.findall(r"(?:bash|python) (examples/[\w./]+)", text):
        assert (ROOT / path).is_file(), path
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module
    named = re.findall(r"ablations/run\.sh ([\w-]+)", text) + re.findall(r"`(8-\w+)`", text)
    assert sorted(set(named)) == sorted(load_example("ablations", "paper_tables").TABLES)


@pytest.mark.parametrize("name", NAMES)
def test_each_readme_names_its_scripts_and_the_paper_s_figures(name):
    folder = ROOT / "examples" / name
    text = (folder / "README.md").read_text(encoding="utf-8")
    for script in ("prepare", "train", "evaluate"):
        assert f"bash examples/{name}/{script}.sh " in text
    figures = re.findall(r"\d+\.\d", (folder / "evaluate.sh").read_text(encoding="utf-8"))
    assert f"| {' | '.join(figures)} |" in text
    files = re.findall(r"\$raw/([\w.]+)", (folder / "prepare.sh").read_text(encoding="utf-8"))
    assert files
    assert [file for file in files if file not in text] == []
    for table in re.findall(r"ablations/run\.sh (\S+)", text):
        assert table == "$table" or table in load_example("ablations", "paper_tables").TABLES
