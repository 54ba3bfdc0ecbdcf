"""examples/changing_catalogue: nobody learns what is measured, and the table holds what was measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import load_example, write_jsonl
from media_samples import describe
from recipe_calls import call, training_here, value_after

from cart_fairseq.base.reading import read_json
from preprocess.data.inputs import read_captions, read_items

split, table = load_example("changing_catalogue", "split"), load_example("changing_catalogue", "catalogue_table")
growing = load_example("changing_catalogue", "growing")


@pytest.fixture
def data(tmp_path):
    """Twelve items: 6 train with four captions, 3 valid and 3 test with an index caption, valid also with queries."""
    folder = tmp_path / "data"
    folder.mkdir()
    np.save(folder / "embeddings.npy", np.arange(1, 25, dtype=np.float32).reshape(12, 2))
    splits = ["train", "train", "valid", "test"] * 3
    write_jsonl(folder / "items.jsonl", [{"item_id": f"i{n}", "split": s} for n, s in enumerate(splits)])
    captions = []
    for n, s in enumerate(splits):
        captions += [{"item_id": f"i{n}", "text": f"{n} {m}", "role": "train"} for m in range(4) if s == "train"]
        captions += [{"item_id": f"i{n}", "text": f"{n} index", "role": "index"} for _ in range(s != "train")]
        captions += [{"item_id": f"i{n}", "text": f"{n} asked"} for _ in range(2 * (s == "valid"))]
    write_jsonl(folder / "captions.jsonl", captions)
    return folder


def texts(path):
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def test_no_training_sees_a_query(data, tmp_path):
    out = tmp_path / "out"
    split.main([str(data), str(out), "--old-queries", "4", "--replay", "2"])
    items = {
        name: [item["item_id"] for item in read_items(out / name / "items.jsonl")] for name in ("old", "new", "all")
    }
    assert items["new"] == ["i2", "i6", "i10"]
    assert items["old"] == [f"i{n}" for n in range(12) if n not in (2, 6, 10)]
    assert items["all"] == [f"i{n}" for n in range(12)]
    for name, ids in items.items():
        rows = np.load(out / name / "embeddings.npy")[:, 0]
        assert rows.tolist() == [2 * int(item[1:]) + 1 for item in ids]
        read_captions(out / name / "captions.jsonl", read_items(out / name / "items.jsonl"))
    held, learned = texts(out / "queries.old.jsonl"), texts(out / "old" / "captions.jsonl")
    assert len(held) == len({text.split()[0] for text in held}) == 4
    assert not set(held) & set(learned)
    assert sorted(held + learned) == sorted(
        t for t in texts(data / "captions.jsonl") if t.split()[0] not in ("2", "6", "10")
    )
    assert texts(out / "queries.new.jsonl") == [f"{n} asked" for n in (2, 6, 10) for _ in range(2)]
    index = [f"{n} index" for n in (2, 6, 10)]
    assert texts(out / "new" / "captions.jsonl") == index
    assert sorted(texts(out / "all" / "captions.jsonl")) == sorted(learned + index)
    rehearsed = texts(out / "fine-tune" / "captions.jsonl")
    assert rehearsed[:3] == index
    assert len(set(rehearsed[3:])) == 6
    assert set(rehearsed[3:]) <= set(learned)
    both = read_items(out / "old" / "items.jsonl") + read_items(out / "new" / "items.jsonl")
    assert read_items(out / "fine-tune" / "items.jsonl") == both
    rows = [np.load(out / name / "embeddings.npy") for name in ("old", "new", "fine-tune")]
    assert np.array_equal(np.concatenate(rows[:2]), rows[2])


def test_data_without_new_captions_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="items of split test have no queries; choose another --new-split"):
        split.main([str(data), str(tmp_path / "out"), "--new-split", "test"])
    assert not (tmp_path / "out").exists()


def test_captions_that_fine_tuning_needs_are_not_left_out(data, tmp_path):
    with pytest.raises(ValueError, match="INDEX_CAPTIONS is 'exclude', but fine-tuning reads the new items' index"):
        call("changing_catalogue/run", data, tmp_path / "out", RECIPE="joined", INDEX_CAPTIONS="exclude")
    assert not (tmp_path / "out").exists()


def test_the_table_holds_what_was_measured(tmp_path):
    for place, state in enumerate(table.STATES):
        for number, measured in enumerate(table.MEASURED):
            if state != "before" or measured == "old.all":
                figures = dict.fromkeys(table.METRICS, place + number / 10)
                counts = {"queries": 5, "candidates": 7000 if state == "before" else 8000}
                (tmp_path / f"{state}.{measured}.json").write_text(json.dumps({**figures, **counts}))
    lines = table.table(tmp_path).splitlines()
    assert lines[0].startswith("| | old items: 5 queries, 8,000 candidates | new items: 5")
    assert lines[2] == "| before the new items came | 0.0 / 0.0 / 0.0 (of 7,000) | – | – |"
    assert lines[4] == "| (b) added, short fine-tuning | 2.0 / 2.0 / 2.0 | 2.1 / 2.1 / 2.1 | 2.2 / 2.2 / 2.2 |"
    assert len(lines) == 8


@pytest.mark.parametrize("recipe", ["cpu", "joined"])
def test_the_whole_recipe_and_again(tmp_path, recipe):
    """Forty items in six dimensions; what is found is of no interest."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    np.save(data / "embeddings.npy", np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32))
    splits = ["valid" if number % 4 == 3 else "train" for number in range(40)]
    write_jsonl(data / "items.jsonl", [{"item_id": f"i{n}", "split": split} for n, split in enumerate(splits)])
    roles = {"train": ["train"] * 4, "valid": ["index", "query", "query"]}
    rows = [
        {"item_id": f"i{n}", "text": text, "role": role}
        for n, split in enumerate(splits)
        for text, role in zip(describe(n), roles[split])
    ]
    write_jsonl(data / "captions.jsonl", rows)
    tiny = ["--arch", "cart_tiny", "--batch-size", "32"]
    variables = {
        "IDENTIFIER_FLAGS": "--scheme residual-kmeans --kmeans-clusters 3 --codebook-size 3 --allow-collapse",
        "SPLIT_FLAGS": "--old-queries 5",
        "FINE_TUNE_FLAGS": "--max-epoch 1",
        "BINARIZE_FLAGS": "--max-query-tokens 9",
        "RECIPE": recipe,
    }
    if recipe == "joined":
        variables["JOIN_FLAGS"] = "--text-dim 4 --pca 3 --align 3"
    with training_here() as trainings:
        printed = call("changing_catalogue/run", data, out, *tiny, "--max-update", 2, **variables)
        assert [path.parent.name for path, _ in trainings.calls] == ["old", "fine-tune", "all"]
        fine_tuned = trainings.calls[1][1]
        assert Path(value_after(fine_tuned, "--finetune-from-model")).parent == out / "old" / "checkpoints"
        assert value_after(fine_tuned, "--max-epoch") == "1"
        again = call("changing_catalogue/run", data, out, *tiny, "--max-update", 2, **variables)
        assert len(trainings.calls) == 3
        with pytest.raises(ValueError, match="data: was divided with other SPLIT_FLAGS; choose another OUT"):
            call("changing_catalogue/run", data, out, *tiny, **variables | {"SPLIT_FLAGS": "--old-queries 6"})
    made = {name: read_json(out / name / "data-bin" / "manifest.json") for name in ("old", "fine-tune", "all")}
    assert {name: found["inputs"]["max_query_tokens"] for name, found in made.items()} == dict.fromkeys(made, 9)
    dictionaries = {name: found["files"]["dict.query.txt"] for name, found in made.items()}
    assert dictionaries["fine-tune"] == dictionaries["old"]
    lines, later = ([line for line in text.splitlines() if line.startswith("| ")] for text in (printed, again))
    length = {"cpu": 6, "joined": 10}[recipe]
    assert lines[-length].startswith("| | old items: 5 queries, 40 candidates | new items: 20 queries, 40 candidates")
    assert lines[-length:] == later[-length:]
    assert len(np.load(out / "fine-tune" / "identifiers" / "identifiers.npy")) == 30
    assert sum("dual tower" in line for line in lines) == 3 * (recipe == "joined")
    found = {
        name: torch.load(out / name / "checkpoints" / "checkpoint_last.pt")["model"] for name in ("old", "fine-tune")
    }
    assert [int(model["revision_digits"][0]) for model in found.values()] == [0, 0]


def test_a_folder_of_something_else_is_not_replaced(data, tmp_path):
    before = sorted(data.iterdir())
    with pytest.raises(ValueError, match=r"which is not of this command; choose another OUT$"):
        split.main([str(data), str(data)])
    assert sorted(data.iterdir()) == before
    out = tmp_path / "out"
    for seed in ("1", "2"):
        split.main([str(data), str(out), "--seed", seed])
    assert read_json(out / "split.json")["seed"] == 2


@pytest.mark.parametrize("flags", ["--seed -1", "--old-queries -5", "--replay -3", "--replay nan", "--replay inf"])
def test_numbers_of_the_split_are_checked_first(data, tmp_path, flags):
    with pytest.raises(ValueError, match=rf"^SPLIT_FLAGS: argument {flags.split()[0]}: "):
        call("changing_catalogue/run", data, tmp_path / "out", SPLIT_FLAGS=flags.replace(" ", "="))
    assert not (tmp_path / "out").exists()


def test_figures_of_another_model_are_forgotten(tmp_path):
    checkpoint, results = tmp_path / "checkpoint_last.pt", tmp_path / "results"
    checkpoint.write_bytes(b"first")
    growing.forget_others(results, "added", checkpoint)
    mine, other = results / "added.old.all.json", results / "retrained.old.all.json"
    for path in (mine, other):
        path.write_text("{}")
    growing.forget_others(results, "added", checkpoint)
    assert mine.is_file()
    checkpoint.write_bytes(b"second")
    growing.forget_others(results, "added", checkpoint)
    assert not mine.exists()
    assert other.is_file()


def test_fine_tuning_of_an_earlier_model_is_refused(tmp_path):
    checkpoint, folder = tmp_path / "checkpoint_last.pt", tmp_path / "fine-tune" / "checkpoints"
    folder.mkdir(parents=True)
    checkpoint.write_bytes(b"first")
    growing.note_beginning(folder.parent, checkpoint)
    (folder / "plan.json").write_text("{}")
    (folder / "checkpoint_last.pt").write_bytes(b"")
    (folder / "plan.json").write_text('{"flags": []}')
    growing.note_beginning(folder.parent, checkpoint)
    checkpoint.write_bytes(b"second")
    with pytest.raises(
        ValueError, match=r"fine-tune: was fine-tuned from another model than .*; remove it to fine-tune"
    ):
        growing.note_beginning(folder.parent, checkpoint)
