"""`join_captions` again: with the same inputs, after a kill, like an earlier join; and what it refuses."""

import numpy as np
import pytest
from conftest import write_jsonl
from join_samples import (
    BARE,
    ITEMS,
    SMALL,
    WIDTH,
    captions_of_items,
    embeddings_of_items,
    join,
    result,
    world,
    write_world,
)

from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json, read_jsonl
from preprocess import api, join_captions
from preprocess.data.joined_folder import VERSION
from preprocess.join.text_features import LsaFeatures


def test_the_same_again_does_nothing_and_anything_else_does(tmp_path):
    files = write_world(tmp_path)
    first = join(files, **SMALL)
    record = tmp_path / "joined" / "join.json"
    before = record.stat().st_mtime_ns
    again = join(files, **SMALL)
    assert not again.is_new
    assert "up to date" in again.summary
    assert (again.items, again.dimension, again.captions_used) == (first.items, first.dimension, first.captions_used)
    assert record.stat().st_mtime_ns == before
    array = tmp_path / "joined" / "captions.npy"
    array.write_bytes(array.read_bytes()[:-2] + b"xx")
    for settings in (SMALL, SMALL | {"ridge": 3.0}, SMALL | {"index_captions": "exclude"}):
        assert join(files, **settings).is_new
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "captions.jsonl",
        "embeddings.npy",
        "items.jsonl",
        "joined",
    ]


def test_a_join_of_another_version_is_made_anew_and_not_built_on(tmp_path):
    files = write_world(tmp_path)
    join(files, **SMALL)
    record = tmp_path / "joined" / "join.json"
    now = read_json(record)
    assert now.pop("version") == VERSION
    write_json(record, now)
    with pytest.raises(ValueError, match=f"join.json: version is 1, this version reads {VERSION}; make the join again"):
        join(write_world(tmp_path / "new"), like=files.output)
    assert join(files, **SMALL).is_new
    assert read_json(record)["version"] == VERSION


def test_like_gives_the_same_rows_and_new_items_theirs(tmp_path):
    like = join(write_world(tmp_path / "old"), **SMALL).directory
    old, _ = result(tmp_path / "old")
    files = write_world(tmp_path / "new")
    join(files, like=like)
    for same, before in zip(result(tmp_path / "new"), result(tmp_path / "old"), strict=True):
        np.testing.assert_array_equal(same, before)
    # Some of the items, renamed, in another order, none of them of the training split, and one that no caption knows.
    rows = np.array([40, 3, BARE, 10])
    np.save(tmp_path / "new" / "embeddings.npy", embeddings_of_items()[rows])
    write_jsonl(tmp_path / "new" / "items.jsonl", [{"item_id": f"new{row}", "split": "test"} for row in rows])
    captions = [row for row in captions_of_items() if int(row["item_id"][1:]) in rows and row["role"] != "query"]
    new = [row | {"item_id": "new" + row["item_id"][1:], "role": "index"} for row in captions]
    write_jsonl(tmp_path / "new" / "captions.jsonl", new)
    join(files, like=like)
    joined, of_captions = result(tmp_path / "new")
    np.testing.assert_allclose(joined, old[rows], atol=1e-3)
    assert of_captions.any(axis=1).all()
    assert (tmp_path / "new" / "joined" / "join.safetensors").read_bytes() == (
        tmp_path / "old" / "joined" / "join.safetensors"
    ).read_bytes()
    assert not join(files, like=like).is_new


def test_like_refuses_what_it_cannot_follow(tmp_path, capsys):
    files = write_world(tmp_path)
    join(files, **SMALL)
    again, like = files._replace(output=tmp_path / "again"), files.output
    with pytest.raises(ValueError, match="--pca: is decided by the join of --like"):
        join(again, like=like, pca=3)
    with pytest.raises(SystemExit):  # the command refuses it even where it is the default
        join_captions.main([*world(tmp_path), "--like", str(like), "--ridge", "10"])
    assert "argument --ridge: is decided by the join of --like" in capsys.readouterr().err
    np.save(tmp_path / "embeddings.npy", embeddings_of_items()[:, :9])
    with pytest.raises(ValueError, match=r"embeddings.npy: width 9, but"):
        join(again, like=like)
    np.save(tmp_path / "embeddings.npy", embeddings_of_items())
    (tmp_path / "joined" / "vocabulary.json").write_text("[]")
    with pytest.raises(ValueError, match=r"vocabulary.json: missing, or not what join.json says"):
        join(again, like=like)
    with pytest.raises(ValueError, match=r"join.json: no such file"):
        join(again, like=tmp_path)


def test_a_join_of_the_same_items_in_another_order_is_refused(tmp_path):
    files = write_world(tmp_path)
    join(files, **SMALL)
    turned = write_jsonl(tmp_path / "turned.jsonl", read_jsonl(files.items)[::-1])
    atomic = api.IdentifierSettings(scheme="atomic", codebook_size=60)
    identifiers = tmp_path / "identifiers"
    api.build_identifiers(files.embeddings, turned, identifiers, atomic)
    out, described = tmp_path / "out", api.CaptionSettings(captioner="neighbours")
    for step in (
        lambda: api.build_identifiers(files.output, turned, out, atomic),
        lambda: api.binarize(identifiers, files.captions, out, embeddings=files.output),
        lambda: api.generate_captions(turned, files.captions, out, described, embeddings=files.output),
        lambda: api.add(identifiers, files.output, turned),
    ):
        with pytest.raises(
            ValueError, match=r"joined: was joined with other items than those of .*, or with the same ones"
        ):
            step()
    record = read_json(files.output / "join.json")
    del record["item_ids"]  # as earlier versions wrote it
    write_json(files.output / "join.json", record)
    assert api.build_identifiers(files.output, turned, tmp_path / "out", atomic).is_new


def test_a_vocabulary_comes_from_a_data_bin_of_the_same_fit(tmp_path):
    files = write_world(tmp_path)
    join(files, **SMALL)
    identifiers = tmp_path / "identifiers"
    atomic = api.IdentifierSettings(scheme="atomic", codebook_size=60)
    api.build_identifiers(files.output, files.items, identifiers, atomic)
    api.binarize(identifiers, files.captions, tmp_path / "first", embeddings=files.output)
    for name, settings, like in (("anew", SMALL | {"ridge": 3.0}, None), ("like", {}, files.output)):
        join(files._replace(output=tmp_path / name), like=like, **settings)

    def second(joined):
        return api.binarize(
            identifiers,
            files.captions,
            tmp_path / "second",
            embeddings=tmp_path / joined,
            vocabulary_from=tmp_path / "first",
        )

    with pytest.raises(ValueError, match=r"anew: was not joined as the items of .*first were, .* join_captions --like"):
        second("anew")
    assert second("like").is_new


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    files = write_world(tmp_path)
    join(files, **SMALL)
    whole = result(tmp_path)
    inner, calls = LsaFeatures.__call__, []
    monkeypatch.setattr(LsaFeatures, "batch_rows", 16)

    def stop_at_the_fourth(self, texts):
        if len(texts) > 1:  # one text alone is embedded to foresee how long all take
            calls.append(len(texts))
            if len(calls) == 4:
                raise KeyboardInterrupt
        return inner(self, texts)

    monkeypatch.setattr(LsaFeatures, "__call__", stop_at_the_fourth)
    resumed = files._replace(output=tmp_path / "resumed" / "joined")
    with pytest.raises(KeyboardInterrupt):
        join(resumed, **SMALL)
    assert not (tmp_path / "resumed" / "joined").exists()
    join(resumed, **SMALL)
    batches = -(-read_json(tmp_path / "resumed" / "joined" / "join.json")["captions_used"] // 16)
    assert len(calls) == batches + 1
    for found, straight in zip(result(tmp_path / "resumed"), whole, strict=True):
        np.testing.assert_array_equal(found, straight)


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ("alone{}", {}, "captions.jsonl: no word occurs in two of the"),
        ("dog alone{}", {}, "captions.jsonl: only one word occurs in two of the"),
        ("red dog", {"text_dim": 3}, "--text-dim 3: .*captions.jsonl has only .* captions to fit on and 2 words"),
        (None, {"pca": 13}, "embeddings.npy: --pca 13: there are only 60 rows of 12 dimensions"),
        (None, {"ridge": 0}, "--ridge is 0; it must be a number above 0"),
        (None, {"seed": -1}, "--seed is -1"),
        (None, {"valid_size": -1}, "--valid-size is -1"),
        (None, {"text_features": "clip:x", "text_dim": 3}, "--text-dim is 3; it is for lsa"),
        (None, {"text_features": "/nowhere"}, "/nowhere: cannot be loaded"),
    ],
)
def test_what_cannot_be_fitted_is_refused(tmp_path, texts, settings, message):
    if settings.get("text_features") == "/nowhere":
        pytest.importorskip("sentence_transformers")
    rows = captions_of_items()
    if texts:
        rows = [row | {"text": texts.format(number)} for number, row in enumerate(rows)]
    files = write_world(tmp_path, rows)
    with pytest.raises(ValueError, match=message):
        join(files, **settings)
    assert not files.output.exists()


def test_the_command_line_refuses_numbers_out_of_range(capsys):
    for option, value in (("--ridge", "0"), ("--align", "0"), ("--text-dim", "x")):
        with pytest.raises(SystemExit):
            join_captions.main([option, value])
        assert f"argument {option}: '{value}' is not a" in capsys.readouterr().err


def test_without_a_caption_to_use_nothing_is_made(tmp_path):
    queries = [row for row in captions_of_items() if row["role"] == "query"]
    with pytest.raises(ValueError, match=r"captions.jsonl: no caption that may be used"):
        join(write_world(tmp_path, queries))
    measured = [row for row in captions_of_items() if row["role"] != "train"]
    with pytest.raises(ValueError, match="no training item has a caption"):
        join(write_world(tmp_path, measured), **SMALL)
    identical = write_world(tmp_path)
    np.save(tmp_path / "embeddings.npy", np.ones((ITEMS, WIDTH), dtype=np.float32))
    with pytest.raises(ValueError, match=r"embeddings.npy: all embeddings are identical"):
        join(identical, **SMALL)


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    files = write_world(tmp_path)
    for output, message in ((tmp_path, "which is not of this command"), (files.items, "is a file")):
        with pytest.raises(ValueError, match=message):
            join(files._replace(output=output))
