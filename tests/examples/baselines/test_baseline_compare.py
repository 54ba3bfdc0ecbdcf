"""examples/baselines/compare.py on a miniature: whose figures stand in the tables, on which queries and candidates."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from baseline_samples import ITEM_WIDTH, read_rows, write_data, write_run
from conftest import load_example, make_model, setup_task, write_jsonl
from test_baseline_single_tower import pictures, save_blip

from cart_fairseq.retriever import CartRetriever
from preprocess.build_identifiers import parser as identifier_parser

compare = load_example("baselines", "compare")
layout = load_example("baselines", "layout")
obtainable = load_example("baselines", "obtainable")
published = load_example("baselines", "published")
rivals = load_example("baselines", "rivals")
systems = load_example("baselines", "systems")
FOLDER = Path(compare.__file__).parent
QUICK = ["--epochs", "8", "--device", "cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_data(tmp_path_factory.mktemp("compare") / "data")
    (folder / "media").mkdir()
    items = read_rows(folder / "items.jsonl")
    for item, picture in zip(items, pictures(len(items)), strict=True):
        picture.save(folder / item["media"])
    return folder


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for scheme, right in (("coarse-fine", 3), ("atomic", 1)):
        write_run(folder / scheme, data, scheme, right)
    return folder


def call(data: Path, output: Path, *flags: Any) -> dict[str, Any]:
    """The comparison that the command writes."""
    compare.main([str(flag) for flag in ["--data", data, "--output", output, *QUICK, *flags]])
    return json.loads((output / "comparison.json").read_text())


def test_everything_in_one_call(data, runs, tmp_path, capsys, monkeypatch):
    blip = save_blip(tmp_path / "blip")
    output = tmp_path / "out"
    searched: list[tuple[int, Any]] = []
    search = CartRetriever.search

    def from_pretrained(path: Path, data: Path, device: str) -> CartRetriever:
        assert path.parent.parent == Path(data).parent
        task = setup_task(data)
        return CartRetriever([make_model(task)], task.data)

    def watched(self: CartRetriever, texts: list[str], k: int, candidates: Any) -> Any:
        searched.append((len(texts), candidates))
        return search(self, texts, k, candidates)

    monkeypatch.setattr(systems.CartRetriever, "from_pretrained", from_pretrained)
    monkeypatch.setattr(systems.CartRetriever, "search", watched)
    texts = ["--runs", runs, "--texts", data / "same-space.npy", "--timed-queries", "5", "--dataset", "flickr30k"]
    result = call(data, output, *texts, "--single-tower", blip, "--rerank", "4", "--batch-size", "8")
    rows = {(row["system"], row["competing"]): row for row in result["rows"]}
    reordered = "single tower, blip, reorders 4 of trained"
    names = ["CART, coarse-fine ids", "atomic ids", *(f"dual tower, {tower}, {index}" for tower in ("zero-shot", "trained") for index in ("exact", "HNSW")), reordered]  # fmt: skip
    assert set(rows) == {(name, competing) for name in names for competing in ("split", "all")}
    assert result["split"] == "test"
    for row in rows.values():
        assert (row["queries"], row["candidates"]) == (16, 16 if row["competing"] == "split" else 80)
        assert row["queries_per_second"] > 0
    assert rows["CART, coarse-fine ids", "split"]["recall_at_1"] == 75.0
    assert rows["atomic ids", "all"]["recall_at_1"] == 25.0
    assert rows["dual tower, zero-shot, exact", "split"]["recall_at_1"] == 100.0
    # a matching model of random weights only shuffles what the first stage found
    assert rows[reordered, "split"]["recall_at_1"] < 60.0 < rows[reordered, "split"]["recall_at_5"]
    assert [row["tables"] for row in (rows["atomic ids", "all"], rows[reordered, "all"])] == [[3], [1]]
    assert set(searched) == {(5, "test"), (5, None)}
    for name, system in (("dual-trained-hnsw-all", "dual tower, trained, HNSW"), ("single-all", reordered)):
        assert recall_of_run(output / f"run.{name}.test.trec", data) == rows[system, "all"]["recall_at_1"]

    printed = capsys.readouterr().out
    assert printed.rstrip() == (output / "comparison.md").read_text().rstrip()
    tables = [part.splitlines() for part in printed.split("### ")[1:]]
    assert [lines[0] for lines in tables] == [f"{title}: 16 test queries" for title in published.TITLES.values()]
    own = [sum(line.startswith(("| CART", "| dual", "| single", "| atomic")) for line in lines) for lines in tables]
    assert own == [4, 10, 4]
    assert [sum("| *paper:*" in line for line in lines) for lines in tables] == [3, 7, 4]
    assert "| *paper:* BLIP-2 |  | 89.7 | 98.1 | 98.9 | – | 1.68 |" in tables[0]
    assert "index captions of valid and test items in training, include: CART, coarse-fine ids; atomic ids" in printed

    # the slow ones are not measured again for the same inputs
    monkeypatch.setattr(compare, "Matcher", None)
    monkeypatch.setattr(load_example("baselines", "dual_tower"), "train", None)
    again = call(data, output, *texts, "--single-tower", blip, "--rerank", "4", "--batch-size", "8")
    same = [{key: value for key, value in row.items() if key != "queries_per_second"} for row in again["rows"]]
    assert same == [{key: row[key] for key in row if key != "queries_per_second"} for row in result["rows"]]
    with pytest.raises(TypeError):
        call(data, output, *texts, "--single-tower", blip, "--rerank", "5")


def recall_of_run(path: Path, data: Path) -> float:
    """R@1 of a TREC run, counted anew."""
    owner = {row["caption_id"].replace(" ", "%20"): row["item_id"] for row in read_rows(data / "captions.jsonl")}
    first = [line.split() for line in path.read_text().splitlines() if line.split()[3] == "1"]
    return 100 * sum(owner[query] == item.replace("%20", " ") for query, _, item, *_ in first) / len(first)


def test_towers_alone_in_two_spaces(data, tmp_path, capsys):
    flags = ["--texts", data / "texts.npy", "--timed-queries", "0", "--candidates", "split", "--split", "valid"]
    result = call(data, tmp_path, *flags, "--indexes", "flat")
    assert [row["system"] for row in result["rows"]] == ["dual tower, trained, exact"]
    printed = capsys.readouterr().out
    assert "dual tower, zero-shot: not measured, items have 24 dimensions and texts 16" in printed
    assert "chosen by R@1 on these valid queries" in printed
    assert "Table 2" in printed
    assert not any(word in printed for word in ("Table 1", "Table 3", "*paper:*", "queries/s:"))
    with pytest.raises(ValueError, match="embed both with one encoder"):
        call(data, tmp_path, *flags, "--towers", "zero-shot")
    # other item embeddings, of the texts' space
    items = np.load(data / "embeddings.npy")[:, :16] + 1
    np.save(tmp_path / "items.npy", items)
    result = call(data, tmp_path, *flags, "--towers", "zero-shot", "--items", tmp_path / "items.npy")
    assert [row["system"] for row in result["rows"]] == ["dual tower, zero-shot, exact", "dual tower, zero-shot, HNSW"]


def test_a_named_encoder_is_timed_with_the_search(data, tmp_path, monkeypatch):
    asked: list[tuple[list[str], str]] = []

    def embed_text(texts: list[str], searched: str) -> np.ndarray:
        asked.append((texts, searched))
        return np.ones((len(texts), ITEM_WIDTH), dtype=np.float32)

    monkeypatch.setattr(
        compare, "load_encoder", lambda spec, device: SimpleNamespace(dimension=ITEM_WIDTH, embed_text=embed_text)
    )
    flags = ["--texts", data / "same-space.npy", "--timed-queries", "3", "--towers", "zero-shot", "--indexes", "flat"]
    result = call(data, tmp_path, *flags, "--candidates", "split", "--encoder", "clip:some")
    assert result["rows"][0]["timed"] == systems.WHOLE
    assert result["rows"][0]["recall_at_1"] == 100.0  # measured on the texts embedded before
    texts = [row["text"] for row in read_rows(data / "captions.jsonl") if row["role"] == "query" and " 4#" in row["caption_id"]]  # fmt: skip
    assert asked == [(texts[:3], "image")] * (systems.TIMED_RUNS + 1)
    with pytest.raises(ValueError, match="--encoder clip:some: its embeddings have width 24, those of --texts 16"):
        call(data, tmp_path, "--texts", data / "texts.npy", "--encoder", "clip:some")


def test_only_valid_queries_and_no_splits(tmp_path, capsys):
    only = write_data(tmp_path / "valid", held_out=("valid",))
    flags = ["--timed-queries", "0", "--towers", "zero-shot", "--indexes", "flat"]
    result = call(only, tmp_path / "a", "--texts", only / "same-space.npy", *flags)
    assert result["split"] == "valid"
    items = [{"item_id": row["item_id"]} for row in read_rows(only / "items.jsonl")]
    write_jsonl(only / "items.jsonl", items)
    result = call(only, tmp_path / "b", "--texts", only / "same-space.npy", *flags)
    # every item competes anyhow, so there is one set
    assert [(row["competing"], row["candidates"]) for row in result["rows"]] == [("split", 80)]
    assert result["split"] == "test"


def test_two_runs_of_a_scheme_are_told_apart(data, runs, tmp_path):
    shutil.copytree(runs / "coarse-fine", tmp_path / "seed-2")
    given = [runs, tmp_path / "seed-2"]
    result = call(data, tmp_path / "out", "--runs", *given, "--timed-queries", "0", "--candidates", "all")
    names = ["CART, coarse-fine ids (coarse-fine)", "CART, coarse-fine ids (seed-2)", "atomic ids"]
    assert [row["system"] for row in result["rows"]] == names


def test_runs_on_other_data_are_refused(data, runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    captions = read_rows(data / "captions.jsonl")
    captions[-1]["text"] = "something else"
    write_jsonl(other / "captions.jsonl", captions)
    with pytest.raises(ValueError, match=r"atomic: its 16 queries differ from the 16 of .*, starting with query 15"):
        call(other, tmp_path / "out", "--runs", runs)
    items = read_rows(data / "items.jsonl")
    items[0]["split"] = "test"
    write_jsonl(other / "items.jsonl", items)
    captions = [row for row in read_rows(data / "captions.jsonl") if row["item_id"] != items[0]["item_id"]]
    write_jsonl(other / "captions.jsonl", captions)
    with pytest.raises(ValueError, match=r"metrics\.test\.json: 16 candidates, .*other has 17"):
        call(other, tmp_path / "out", "--runs", runs / "atomic", "--timed-queries", "0")
    with pytest.raises(ValueError, match="no data-bin in it or its subfolders"):
        call(data, tmp_path / "out", "--runs", data)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(runs / "atomic", unfinished)
    (unfinished / "results" / "all" / "metrics.test.json").unlink()
    with pytest.raises(
        ValueError, match=r"all/metrics\.test\.json: no such file; run examples/own_data/run\.sh to its end"
    ):
        call(data, tmp_path / "out", "--runs", unfinished, "--timed-queries", "0")


def test_the_single_tower_reads_pictures_only(data, tmp_path):
    sounds = tmp_path / "sounds"
    shutil.copytree(data, sounds)
    items = read_rows(data / "items.jsonl")
    write_jsonl(sounds / "items.jsonl", [item | {"modality": "audio"} for item in items])
    flags = ["--texts", sounds / "same-space.npy", "--towers", "zero-shot", "--timed-queries", "0"]
    with pytest.raises(
        ValueError, match=r"accepts images only, but item 'red cat 0' is audio .* leave --single-tower out"
    ):
        call(sounds, tmp_path / "out", *flags, "--single-tower", "none")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --runs, --texts, or both"),
        (["--runs", "x", "--single-tower", "y"], "give --texts, too"),
        (["--texts", "x", "--rerank", "0"], "--rerank is 0; it must be at least 1"),
    ],
)
def test_calls_that_make_no_sense(flags, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        compare.main(["--data", "none", "--output", "none", *flags])
    assert message in capsys.readouterr().err


def test_a_mistake_is_one_line(tmp_path):
    command = [sys.executable, str(FOLDER / "compare.py"), "--data", str(tmp_path), "--runs", "x", "--output", "y"]
    environment = {"PYTHONPATH": str(FOLDER.parents[1]), "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'items.jsonl'}: cannot be read")
    assert "Traceback" not in done.stderr


def test_the_papers_tables_agree_with_each_other():
    images = ("flickr30k", "mscoco")
    assert [tuple(published.FIGURES[number]) for number in (1, 2, 3)] == [images, published.DATASETS, images]
    for dataset in images:
        cart = [published.FIGURES[number][dataset][-1] for number in (1, 2, 3)]
        assert all(line.method.startswith("CART") for line in cart)
        assert cart[0][1:4] == cart[1][1:4]
        assert cart[1][1:4] == pytest.approx(cart[2][1:4], abs=0.06)  # Table 3 has two decimals
    for lines in [lines for table in published.FIGURES.values() for lines in table.values()]:
        assert len({line.method for line in lines}) == len(lines)
        for line in lines:
            assert 0 < line.recall_at_1 < line.recall_at_5 < line.recall_at_10 < 100
            if line.mrr_at_10 is not None:
                assert line.recall_at_1 < line.mrr_at_10 < line.recall_at_10


def test_rivals_run_with_flags_that_exist(tmp_path, monkeypatch):
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(rivals, "train_and_evaluate", lambda *arguments: calls.append(arguments))
    monkeypatch.setenv("IDENTIFIER_FLAGS", "--epochs 7")
    rivals.run(tmp_path / "data", tmp_path / "out", ["--max-epoch", "3"])
    assert [out.name for _, out, _, _ in calls] == [*systems.SCHEMES][:6]
    assert set(obtainable.RUNS) <= {out.name for _, out, _, _ in calls}
    for data, out, user, settings in calls:
        needed = ["--embeddings", "e", "--items", "i", "--output", "o"]
        args = identifier_parser().parse_args([*needed, *settings.identifier_flags])
        assert (args.scheme, args.epochs) == (out.name, 7)
        assert (data, user) == (tmp_path / "data", ["--max-epoch", "3"])
