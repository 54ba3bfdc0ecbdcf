"""preprocess.join_captions again: with the same inputs, after a kill, like an earlier join; and what it refuses."""

import re

import numpy as np
import pytest
from conftest import write_jsonl
from join_samples import BARE, ITEMS, SMALL, WIDTH, captions_of_items, embeddings_of_items, refusal, result, world

from cart_fairseq.files import read_json, write_json
from preprocess import join_captions
from preprocess.data.joined_folder import VERSION
from preprocess.join.text_features import LsaFeatures


def test_the_same_again_does_nothing_and_anything_else_does(tmp_path, capsys):
    argv = [*world(tmp_path), *SMALL]
    join_captions.main(argv)
    record = tmp_path / "joined" / "join.json"
    before = record.stat().st_mtime_ns
    join_captions.main(argv)
    assert "up to date" in capsys.readouterr().out
    assert record.stat().st_mtime_ns == before
    array = tmp_path / "joined" / "captions.npy"
    array.write_bytes(array.read_bytes()[:-2] + b"xx")
    for more in ([], ["--ridge", "3"], ["--index-captions", "exclude"]):
        join_captions.main([*argv, *more])
        assert "up to date" not in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "captions.jsonl",
        "embeddings.npy",
        "items.jsonl",
        "joined",
    ]


def test_a_join_of_another_version_is_made_anew_and_not_built_on(tmp_path, capsys):
    argv = [*world(tmp_path), *SMALL]
    join_captions.main(argv)
    record = tmp_path / "joined" / "join.json"
    now = read_json(record)
    assert now.pop("version") == VERSION
    write_json(record, now)
    argv_like = [*world(tmp_path / "new"), "--like", str(tmp_path / "joined")]
    assert f"join.json: version 1, this is version {VERSION}; make the join again" in refusal(capsys, argv_like)
    join_captions.main(argv)
    assert "up to date" not in capsys.readouterr().out
    assert read_json(record)["version"] == VERSION


def test_like_gives_the_same_rows_and_new_items_theirs(tmp_path, capsys):
    join_captions.main([*world(tmp_path / "old"), *SMALL])
    old, _ = result(tmp_path / "old")
    like = ["--like", str(tmp_path / "old" / "joined")]
    argv = world(tmp_path / "new")
    join_captions.main([*argv, *like])
    for same, before in zip(result(tmp_path / "new"), result(tmp_path / "old"), strict=True):
        np.testing.assert_array_equal(same, before)
    # Some of the items, renamed, in another order, none of them of the training split, and one that no caption knows.
    rows = np.array([40, 3, BARE, 10])
    np.save(tmp_path / "new" / "embeddings.npy", embeddings_of_items()[rows])
    write_jsonl(tmp_path / "new" / "items.jsonl", [{"item_id": f"new{row}", "split": "test"} for row in rows])
    captions = [row for row in captions_of_items() if int(row["item_id"][1:]) in rows and row["role"] != "query"]
    new = [row | {"item_id": "new" + row["item_id"][1:], "role": "index"} for row in captions]
    write_jsonl(tmp_path / "new" / "captions.jsonl", new)
    join_captions.main([*argv, *like])
    joined, of_captions = result(tmp_path / "new")
    np.testing.assert_allclose(joined, old[rows], atol=1e-3)
    assert of_captions.any(axis=1).all()
    assert (tmp_path / "new" / "joined" / "join.safetensors").read_bytes() == (
        tmp_path / "old" / "joined" / "join.safetensors"
    ).read_bytes()
    capsys.readouterr()
    join_captions.main([*argv, *like])
    assert "up to date" in capsys.readouterr().out


def test_like_refuses_what_it_cannot_follow(tmp_path, capsys):
    argv = world(tmp_path)
    join_captions.main([*argv, *SMALL])
    like = ["--like", str(tmp_path / "joined")]
    argv[-1] = str(tmp_path / "again")
    assert "--pca: is decided by the join of --like" in refusal(capsys, [*argv, *like, "--pca", "3"])
    np.save(tmp_path / "embeddings.npy", embeddings_of_items()[:, :9])
    assert "embeddings.npy: width 9, but" in refusal(capsys, [*argv, *like])
    np.save(tmp_path / "embeddings.npy", embeddings_of_items())
    (tmp_path / "joined" / "vocabulary.json").write_text("[]")
    assert "vocabulary.json: missing, or not what join.json says" in refusal(capsys, [*argv, *like])
    assert "join.json: no such file" in refusal(capsys, [*argv, "--like", str(tmp_path)])


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    argv = [*world(tmp_path), *SMALL]
    join_captions.main(argv)
    whole = result(tmp_path)
    inner, calls = LsaFeatures.__call__, []
    monkeypatch.setattr(LsaFeatures, "batch_rows", 16)

    def stop_at_the_fourth(self, texts):
        calls.append(len(texts))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return inner(self, texts)

    monkeypatch.setattr(LsaFeatures, "__call__", stop_at_the_fourth)
    argv[7] = str(tmp_path / "resumed" / "joined")
    with pytest.raises(KeyboardInterrupt):
        join_captions.main(argv)
    assert not (tmp_path / "resumed" / "joined").exists()
    join_captions.main(argv)
    batches = -(-read_json(tmp_path / "resumed" / "joined" / "join.json")["captions_used"] // 16)
    assert len(calls) == batches + 1
    for resumed, straight in zip(result(tmp_path / "resumed"), whole, strict=True):
        np.testing.assert_array_equal(resumed, straight)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("alone{}", [], "captions.jsonl: no word occurs in two of the"),
        ("red dog", ["--text-dim", "3"], "--text-dim 3: .*captions.jsonl has only .* captions to fit on and 2 words"),
        (None, ["--pca", "13"], "embeddings.npy: --pca 13: there are only 60 rows of 12 dimensions"),
        (None, ["--ridge", "0"], "argument --ridge: '0' is not a number above 0"),
        (None, ["--text-features", "clip:x", "--text-dim", "3"], "argument --text-dim: is for lsa"),
        (None, ["--text-features", "/nowhere"], "/nowhere: cannot be loaded"),
    ],
)
def test_what_cannot_be_fitted_is_refused(tmp_path, capsys, texts, options, message):
    if options[-1:] == ["/nowhere"]:
        pytest.importorskip("sentence_transformers")
    rows = captions_of_items()
    if texts:
        rows = [row | {"text": texts.format(number)} for number, row in enumerate(rows)]
    found = refusal(capsys, [*world(tmp_path, rows), *options])
    assert re.search(message, found), found
    assert not (tmp_path / "joined").exists()


def test_without_a_caption_to_use_nothing_is_made(tmp_path, capsys):
    queries = [row for row in captions_of_items() if row["role"] == "query"]
    assert "captions.jsonl: no caption that may be used" in refusal(capsys, world(tmp_path, queries))
    measured = [row for row in captions_of_items() if row["role"] != "train"]
    assert "no training item has a caption" in refusal(capsys, [*world(tmp_path, measured), *SMALL])
    identical = world(tmp_path)
    np.save(tmp_path / "embeddings.npy", np.ones((ITEMS, WIDTH), dtype=np.float32))
    assert "embeddings.npy: all embeddings are identical" in refusal(capsys, [*identical, *SMALL])


def test_a_folder_of_something_else_is_not_replaced(tmp_path, capsys):
    argv = world(tmp_path)
    argv[-1] = str(tmp_path)
    assert "holds files that are no join" in refusal(capsys, argv)
    argv[-1] = str(tmp_path / "items.jsonl")
    assert "is a file" in refusal(capsys, argv)
