"""The data-bin: what fairseq and the task find in it, and what every bad input gets."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fairseq.data import Dictionary, data_utils
from processes import needs_fork, stopped_at

from cart_fairseq.base.files import sha256
from cart_fairseq.catalogue.identifiers import IdentifierBundle, write_bundle
from cart_fairseq.catalogue.positions import Position, unique_tokens
from preprocess.data_bin import build
from preprocess.data_bin.build import binarize
from preprocess.data_bin.settings import DataBinSettings

COLOURS, SHAPES = ("red", "green", "blue", "grey"), ("circle", "square", "star", "ring", "cross")
ITEMS = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]  # 20: 12 train, 3 valid, 3 test, 2 of no split
SPLITS = ["train"] * 12 + ["valid"] * 3 + ["test"] * 3 + [None] * 2


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    codes = np.random.default_rng(0).integers(0, 4, size=(len(ITEMS), 2))
    items = [{"item_id": i, **({"split": s} if s else {})} for i, s in zip(ITEMS, SPLITS)]
    positions = [Position("k", 4), Position("v1", 4), Position("u", 8)]
    write_bundle(tmp_path / "identifiers", np.hstack([codes, unique_tokens(codes, 8)]), positions, items, {}, {}, {})
    return tmp_path / "identifiers"


def captions() -> list[dict[str, str]]:
    rows = []
    for item, split in zip(ITEMS, SPLITS):
        if split in ("valid", "test"):
            rows.append({"item_id": item, "text": f"picture of {item}", "role": "index"})
            rows += [
                {"item_id": item, "text": f"{word} {item} zürich", "caption_id": f"{item}#{word}"} for word in "xy"
            ]
        else:
            rows += [{"item_id": item, "text": f"{word} {item}"} for word in ("some", "any", "one more")]
    return rows


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def load(directory: Path, subset: str, side: str) -> list[list[int]]:
    dataset = data_utils.load_indexed_dataset(str(directory / f"{subset}.query-id.{side}"), None)
    return [dataset[i].tolist() for i in range(len(dataset))]


@pytest.fixture
def made(bundle: Path, tmp_path: Path) -> Path:
    made = binarize(str(bundle), str(write(tmp_path / "captions.jsonl", captions())), str(tmp_path / "data-bin"))
    assert made.is_new
    assert made.directory == tmp_path / "data-bin"
    return tmp_path / "data-bin"


def test_rows_of_every_subset_agree(made):
    bundle = IdentifierBundle.load(made / "identifiers")
    bundle.verify()
    queries, ids = (Dictionary.load(str(made / f"dict.{side}.txt")) for side in ("query", "id"))
    assert len(ids) == 4 + 4 + 4 + 8
    for subset, count in (("train", 14 * 3 + 6), ("valid", 6), ("test", 6)):
        table = pq.read_table(made / f"queries.{subset}.parquet").to_pylist()
        query, identifier = load(made, subset, "query"), load(made, subset, "id")
        assert len(table) == len(query) == len(identifier) == count
        for row, source, target in zip(table, query, identifier):
            assert row["text"].endswith((ITEMS[row["item_row"]], "zürich"))
            assert ITEMS[row["item_row"]] in row["text"]
            assert source[-1] == queries.eos()
            assert target[-1] == ids.eos()
            spelled = "".join(queries[s] for s in source[:-1]).replace("▁", " ").strip()
            assert spelled == row["text"] or subset != "train"
            values = bundle.values[row["item_row"]]
            assert ids.string(target[:-1]) == f"<k_{values[0]}> <v1_{values[1]}> <u_{values[2]}>"


def test_query_ids_and_roles(made):
    test = pq.read_table(made / "queries.test.parquet").to_pylist()
    assert [row["query_id"] for row in test[:2]] == [f"{ITEMS[15]}#x", f"{ITEMS[15]}#y"]
    assert {row["role"] for row in test} == {"query"}
    train = pq.read_table(made / "queries.train.parquet").to_pylist()
    assert [row["query_id"] for row in train[:3]] == ["q0", "q1", "q2"]
    assert sum(row["role"] == "index" for row in train) == 6


def test_candidates_and_manifest(made):
    for name, rows in (("all", range(20)), ("valid", [12, 13, 14, 18, 19]), ("test", range(15, 20))):
        found = np.load(made / f"candidates.{name}.npy", allow_pickle=False)
        assert found.dtype == np.int64
        assert found.tolist() == list(rows)
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["kind"] == "data-bin"
    assert manifest["index_captions"] == "include"
    assert manifest["fingerprint"] == IdentifierBundle.load(made / "identifiers").fingerprint
    assert manifest["counts"]["valid"] == {"queries": 6, "candidates": 5}
    assert not manifest["valid_held_out"]
    assert manifest["identifiers"] == IdentifierBundle.load(made / "identifiers").state
    present = {path.name for path in made.iterdir() if path.is_file()} - {"manifest.json"}
    assert set(manifest["files"]) == present  # identifiers/ has a manifest of its own
    for name, entry in manifest["files"].items():
        assert entry == {"sha256": sha256(made / name), "bytes": (made / name).stat().st_size}


def test_queries_influence_nothing_but_their_own_rows(made, bundle, tmp_path):
    other = [row if "caption_id" not in row else {**row, "text": "qqq jjj"} for row in captions()]
    binarize(bundle, write(tmp_path / "other.jsonl", other), tmp_path / "other-bin")
    names = [path.relative_to(made) for path in made.rglob("*") if path.is_file()]
    changed = {name.as_posix() for name in names if sha256(made / name) != sha256(tmp_path / "other-bin" / name)}
    allowed = {f"{s}.query-id.query.{e}" for s in ("valid", "test") for e in ("bin", "idx")}
    allowed |= {"queries.valid.parquet", "queries.test.parquet", "manifest.json"}
    assert {"queries.valid.parquet", "test.query-id.query.bin"} <= changed <= allowed


def test_excluding_index_captions_changes_training_and_is_recorded(made, bundle, tmp_path):
    settings = DataBinSettings(index_captions="exclude")
    done = binarize(bundle, tmp_path / "captions.jsonl", tmp_path / "exclude", settings)
    assert {row["role"] for row in pq.read_table(tmp_path / "exclude/queries.train.parquet").to_pylist()} == {"train"}
    assert len(load(tmp_path / "exclude", "train", "query")) == 14 * 3
    assert "picture" not in (tmp_path / "exclude/dict.query.txt").read_text() + done.summary
    assert json.loads((tmp_path / "exclude/manifest.json").read_text())["index_captions"] == "exclude"


def test_without_valid_queries_training_captions_are_held_out(bundle, tmp_path):
    rows = [row for row in captions() if "caption_id" not in row]
    done = binarize(bundle, write(tmp_path / "c.jsonl", rows), tmp_path / "out", DataBinSettings(valid_size=4))
    train, valid = (pq.read_table(tmp_path / f"out/queries.{s}.parquet").to_pylist() for s in ("train", "valid"))
    assert len(valid) == 4
    assert len(train) == 14 * 3 + 6 - 4
    assert not {row["query_id"] for row in train} & {row["query_id"] for row in valid}
    candidates = np.load(tmp_path / "out/candidates.valid.npy", allow_pickle=False).tolist()
    assert candidates == [row for row, split in enumerate(SPLITS) if split != "test"]
    assert {row["item_row"] for row in valid} <= set(candidates)
    later = np.load(tmp_path / "out/candidates.test.npy", allow_pickle=False).tolist()  # for queries yet to come
    assert later == [row for row, split in enumerate(SPLITS) if split in ("test", None)]
    assert not (tmp_path / "out/queries.test.parquet").exists()
    assert json.loads((tmp_path / "out/manifest.json").read_text())["valid_held_out"] is True
    assert done.valid_held_out
    assert done.counts["valid"]["queries"] == 4
    assert "held out of the training captions" in done.summary
    assert "no test queries" in done.summary


def test_nothing_to_measure_goes_on_and_says_so(bundle, tmp_path):
    rows = [{"item_id": item, "text": item} for item, split in zip(ITEMS, SPLITS) if split not in ("valid", "test")]
    done = binarize(bundle, write(tmp_path / "c.jsonl", rows), tmp_path / "out")
    assert not list((tmp_path / "out").glob("valid.*"))
    assert not (tmp_path / "out/queries.valid.parquet").exists()
    assert set(json.loads((tmp_path / "out/manifest.json").read_text())["counts"]) == {"train"}
    assert "nothing to hold out: fairseq-train needs --disable-validation" in done.summary
    assert "6 items have no training caption" in done.summary


def test_long_queries_are_cut_and_reported(bundle, tmp_path):
    rows = [*captions(), {"item_id": ITEMS[0], "text": "red " * 300}]
    settings = DataBinSettings(max_query_tokens=40)
    done = binarize(bundle, write(tmp_path / "c.jsonl", rows), tmp_path / "out", settings)
    sizes = [len(query) for query in load(tmp_path / "out", "train", "query")]
    assert max(sizes) == 40
    assert load(tmp_path / "out", "train", "query")[sizes.index(40)][-1] == 2
    assert "train: 1 of 49 queries were cut to 40 tokens" in done.summary


def test_letters_never_trained_on_are_reported(made, bundle, tmp_path):
    done = binarize(bundle, tmp_path / "captions.jsonl", tmp_path / "again")
    assert "note: valid: 6 of 6 queries have letters the vocabulary lacks" in done.summary


def test_second_run_does_nothing_and_other_settings_rebuild(made, bundle, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    again = binarize(bundle, tmp_path / "captions.jsonl", made)
    assert not again.is_new
    assert "nothing to do" in again.summary
    assert again.counts["valid"] == {"queries": 6, "candidates": 5}
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert binarize(bundle, tmp_path / "captions.jsonl", made, DataBinSettings(seed=2)).is_new
    (made / "test.query-id.id.bin").unlink()
    assert binarize(bundle, tmp_path / "captions.jsonl", made, DataBinSettings(seed=2)).is_new
    assert (made / "test.query-id.id.bin").exists()
    write(tmp_path / "captions.jsonl", captions()[:-1])
    assert binarize(bundle, tmp_path / "captions.jsonl", made, DataBinSettings(seed=2)).is_new


def test_failure_leaves_the_old_result(made, bundle, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    write(tmp_path / "captions.jsonl", [*captions(), {"item_id": ITEMS[0], "text": "\u200b"}])
    with pytest.raises(ValueError, match="of which nothing is left"):
        binarize(bundle, tmp_path / "captions.jsonl", made)
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert not list(tmp_path.glob(".*"))


def run(bundle: Path, source: Path, output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "preprocess.binarize", "--identifiers", str(bundle), "--captions", str(source)]
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [*command, "--output", str(output), *flags], capture_output=True, text=True, cwd=root, check=False
    )


@needs_fork
def test_a_second_process_on_the_same_output_is_refused(bundle, tmp_path):
    source, output = write(tmp_path / "captions.jsonl", captions()), tmp_path / "out"
    with stopped_at(build, "write_files", binarize, bundle, source, output) as finish:
        second = run(bundle, source, output)
        assert second.returncode == 2
        assert second.stderr.startswith(f"error: {output}.partial: another run is building {output}; wait for it")
        assert not output.exists()
        assert finish() == 0
    assert "nothing to do" in binarize(bundle, source, output).summary
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.jsonl", "identifiers", "out"]


def test_command_line_prints_the_table(bundle, tmp_path):
    source = write(tmp_path / "captions.jsonl", captions())
    result = run(bundle, source, tmp_path / "out", "--vocab-size", "100", "--index-captions", "exclude")
    assert result.returncode == 0, result.stderr
    table = [line.split() for line in result.stdout.splitlines()[:4]]
    assert table == [
        ["subset", "queries", "items", "candidates"],
        ["train", "42", "14", "-"],
        ["valid", "6", "3", "5"],
        ["test", "6", "3", "5"],
    ]
    assert "index captions of valid and test items: exclude" in result.stdout


def test_command_line_refuses_bad_input_in_one_line(bundle, tmp_path):
    source = write(tmp_path / "captions.jsonl", [{"item_id": ITEMS[12], "text": "x", "role": "train"}])
    result = run(bundle, source, tmp_path / "out")
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {source}, row 1: role is 'train'")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"item_id": "nobody", "text": "x"}, "nobody"),
        ({"item_id": ITEMS[0], "text": " "}, "text"),
        ({"item_id": ITEMS[0]}, "text"),
        ({"text": "x"}, "item_id"),
        ({"item_id": ITEMS[0], "text": "x", "role": "teach"}, "teach"),
        ({"item_id": ITEMS[0], "text": "x", "split": "dev"}, "dev"),
        ({"item_id": ITEMS[0], "text": "x", "caption_id": "a\tb"}, "caption_id"),
        ({"item_id": ITEMS[0], "text": "x", "caption_id": "q0"}, "'q0' is that of row 1"),
        ({"item_id": ITEMS[12], "text": "x", "role": "train"}, "role is 'train', but its split is 'valid'"),
        ({"item_id": ITEMS[0], "text": "\u200b"}, "of which nothing is left"),
    ],
)
def test_bad_rows_are_named(bundle, tmp_path, row, message):
    source = write(tmp_path / "captions.jsonl", [*captions(), row])
    with pytest.raises(ValueError, match=message) as error:
        binarize(bundle, source, tmp_path / "out")
    assert f"captions.jsonl, row {len(captions()) + 1}: " in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"item_id": "red circle", "text": "\xff"}\n', "row 1: invalid UTF-8"),
        (b'{"item_id": "red circle", "text": "\\ud800"}\n', "row 1"),
        (b'{"item_id": \n', "row 1: broken JSON"),
        (b"", "no caption"),
    ],
)
def test_bad_files_are_named(bundle, tmp_path, content, message):
    (tmp_path / "captions.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        binarize(bundle, tmp_path / "captions.jsonl", tmp_path / "out")


def test_only_queries_is_refused(bundle, tmp_path):
    source = write(tmp_path / "captions.jsonl", [row for row in captions() if "caption_id" in row])
    with pytest.raises(ValueError, match="no caption to train on"):
        binarize(bundle, source, tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 9}, "--vocab-size is 9"),
        ({"vocab_size": 0}, "--vocab-size is 0"),
        ({"max_query_tokens": 1}, "--max-query-tokens is 1"),
        ({"seed": -1}, "--seed is -1"),
        ({"valid_size": -1}, "--valid-size is -1"),
        ({"index_captions": "some"}, "--index-captions is 'some'"),
    ],
)
def test_impossible_settings_are_refused(bundle, tmp_path, settings, message):
    source = write(tmp_path / "captions.jsonl", captions())
    with pytest.raises(ValueError, match=message):
        binarize(bundle, source, tmp_path / "out", DataBinSettings(**settings))


def test_changed_bundle_and_foreign_output_are_refused(bundle, tmp_path):
    source = write(tmp_path / "captions.jsonl", captions())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/diary.txt").write_text("dear diary")
    with pytest.raises(ValueError, match="no data-bin; choose an empty or new folder"):
        binarize(bundle, source, tmp_path / "mine")
    with pytest.raises(ValueError, match="is a file"):
        binarize(bundle, source, tmp_path / "mine/diary.txt")
    assert (tmp_path / "mine/diary.txt").read_text() == "dear diary"
    data = bytearray((bundle / "identifiers.npy").read_bytes())
    data[-4] ^= 1
    (bundle / "identifiers.npy").write_bytes(data)
    with pytest.raises(ValueError, match=r"identifiers\.npy: sha256"):
        binarize(bundle, source, tmp_path / "out")
    with pytest.raises(ValueError, match="not an identifier bundle"):
        binarize(tmp_path / "mine", source, tmp_path / "out")
