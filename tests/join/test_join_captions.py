"""`join_captions`: the definition against plain scikit-learn, and what may have influence."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from join_samples import (
    BARE,
    ITEMS,
    SMALL,
    TEXT,
    WIDTH,
    WORDS,
    captions_of_items,
    embeddings_of_items,
    join,
    result,
    split_of,
    write_world,
)
from safetensors.numpy import load_file
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler, normalize

from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.data.roles import assign, hold_out, resolve
from preprocess.encoders.loading import load_encoder
from preprocess.identifiers.build import build_identifiers
from preprocess.identifiers.settings import IdentifierSettings


def reference(use_index: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mapped embeddings, text features of items (zeros without captions) and of captions, in plain scikit-learn."""
    rows = captions_of_items()
    used = [i for i, row in enumerate(rows) if row["role"] == "train" or (use_index and row["role"] == "index")]
    tfidf = TfidfVectorizer(sublinear_tf=True, min_df=2)
    weights = tfidf.fit_transform([rows[i]["text"] for i in used])
    features = normalize(TruncatedSVD(TEXT, random_state=1).fit_transform(weights))
    owner = np.array([int(rows[i]["item_id"][1:]) for i in used])
    held = np.unique(owner)
    means = np.zeros((ITEMS, TEXT))
    means[held] = normalize([features[owner == item].mean(axis=0) for item in held])
    centre = means[held].mean(axis=0)
    means[held] = normalize(means[held] - centre)
    of_captions = np.zeros((len(rows), TEXT))
    of_captions[used] = normalize(features - centre)
    white = PCA(5, whiten=True, svd_solver="full").fit_transform(embeddings_of_items())
    train = [item for item in range(ITEMS) if split_of(item) == "train"]
    mapped = Ridge(2.0).fit(white[train], means[train]).predict(white)
    return normalize(mapped - mapped.mean(axis=0)), means, of_captions


@pytest.mark.parametrize("index", ["include", "exclude"])
def test_halves_are_what_scikit_learn_gives(tmp_path, index):
    made = join(write_world(tmp_path), **SMALL, index_captions=index)
    joined, captions = result(tmp_path)
    mapped, texts, of_captions = reference(index == "include")
    has_text = np.any(texts, axis=1)
    assert not has_text[BARE]
    assert has_text.sum() == (ITEMS - 1 if index == "include" else sum(split_of(i) == "train" for i in range(ITEMS)))
    # Singular vectors have no sign: what counts are products.
    np.testing.assert_allclose(joined[:, :TEXT] @ joined[:, :TEXT].T, mapped @ mapped.T, atol=5e-3)
    np.testing.assert_allclose(joined[has_text, TEXT:] @ captions.T, texts[has_text] @ of_captions.T, atol=5e-3)
    np.testing.assert_allclose(joined[:, :TEXT] @ captions.T, mapped @ of_captions.T, atol=5e-3)
    np.testing.assert_array_equal(joined[~has_text, TEXT:], joined[~has_text, :TEXT])
    assert np.load(tmp_path / "joined" / "embeddings.npy").dtype == np.load(tmp_path / "joined" / "captions.npy").dtype
    assert np.load(tmp_path / "joined" / "captions.npy").dtype == np.float16
    record = read_json(tmp_path / "joined" / "join.json")
    assert record["parts"] == [TEXT, TEXT]
    assert record["items_with_text"] == made.items_with_text == has_text.sum()
    assert record["captions_used"] == made.captions_used == of_captions.any(axis=1).sum()
    assert (made.is_new, made.items, made.dimension) == (True, ITEMS, 2 * TEXT)


@pytest.mark.parametrize("rectified", [False, True])
def test_kept_embeddings_are_standardised_and_an_earlier_join_keeps_others_alike(tmp_path, rectified):
    embeddings = embeddings_of_items()
    embeddings[:, 3] = 2.0  # tells nothing
    if rectified:
        embeddings = np.maximum(embeddings, 0)
    options = {
        "two": SMALL,
        "three": {**SMALL, "keep_embedding": True, "align": 8},
        "like": {"like": tmp_path / "three" / "joined"},
    }
    for name, given in options.items():
        files = write_world(tmp_path / name)
        np.save(files.embeddings, embeddings)
        join(files, **given)
    joined, _ = result(tmp_path / "three")
    values = StandardScaler().fit_transform(np.sqrt(embeddings) if rectified else embeddings)
    np.testing.assert_array_equal(joined[:, : 2 * TEXT], result(tmp_path / "two")[0])
    np.testing.assert_allclose(joined[:, 2 * TEXT :], normalize(values), atol=2e-3)
    assert not joined[:, 2 * TEXT + 3].any()
    np.testing.assert_array_equal(result(tmp_path / "like")[0], joined)
    assert read_json(tmp_path / "three" / "joined" / "join.json")["parts"] == [TEXT, TEXT, WIDTH]
    aligned = [np.load(tmp_path / name / "joined" / "aligned.npy") for name in ("three", "like")]
    np.testing.assert_array_equal(*aligned)


@pytest.mark.parametrize(("index", "roles"), [("include", {"query"}), ("exclude", {"query", "index"})])
def test_captions_that_measure_leave_no_trace(tmp_path, index, roles):
    marked = captions_of_items()
    for row in marked:
        if row["role"] in roles:
            row["text"] = "xylophone marker " + row["text"].replace("red", "dog dog dog")
    for name, captions in (("plain", captions_of_items()), ("marked", marked)):
        join(write_world(tmp_path / name, captions), **SMALL, align=8, index_captions=index)
    for name in ("embeddings.npy", "captions.npy", "aligned.npy", "join.safetensors", "vocabulary.json"):
        plain, other = (tmp_path / folder / "joined" / name for folder in ("plain", "marked"))
        assert plain.read_bytes() == other.read_bytes(), name
    assert "xylophone" not in (tmp_path / "marked" / "joined" / "vocabulary.json").read_text()
    _, captions = result(tmp_path / "marked")
    measured = np.array([row["role"] in roles for row in marked])
    assert not captions[measured].any()
    assert captions[~measured].any(axis=1).all()


def test_a_training_caption_does_leave_one(tmp_path):
    """What the marker of the test above would do if it were read."""
    marked = captions_of_items()
    for row in marked:
        if row["role"] == "train":
            row["text"] += " xylophone"
    join(write_world(tmp_path, marked), **SMALL)
    assert "xylophone" in read_json(tmp_path / "joined" / "vocabulary.json")


def test_captions_that_binarize_holds_out_are_left_out(tmp_path):
    rows = [{"item_id": row["item_id"], "text": row["text"]} for row in captions_of_items()]
    join(write_world(tmp_path, rows, splits=False), **SMALL, valid_size=7, seed=5)
    resolved = resolve(rows, {f"i{item}": item for item in range(ITEMS)}, [None] * ITEMS, "captions.jsonl")
    _, held = hold_out(assign(resolved, "include")["train"], 7, 5)
    _, captions = result(tmp_path)
    assert np.flatnonzero(~captions.any(axis=1)).tolist() == [caption.number - 1 for caption in held]
    assert len(held) == 7


def test_blocks_and_shards_give_the_same(tmp_path):
    options = {**SMALL, "pca": WIDTH}  # all components: fewer are an approximation that depends on the blocks
    join(write_world(tmp_path / "whole"), **options)
    files = write_world(tmp_path / "blocks")
    shards = tmp_path / "blocks" / "shards"
    shards.mkdir()
    for number, part in enumerate(np.split(embeddings_of_items(), [25, 41])):
        np.save(shards / f"{number}.npy", part)
    join(files._replace(embeddings=shards), **options, block_rows=17)
    for whole, blocks in zip(result(tmp_path / "whole"), result(tmp_path / "blocks"), strict=True):
        np.testing.assert_allclose(blocks, whole, atol=2e-3)


def test_fitted_on_a_sample_every_item_has_a_row(tmp_path):
    join(write_world(tmp_path), **SMALL, train_sample=20)
    joined, _ = result(tmp_path)
    halves = joined.reshape(ITEMS, 2, TEXT)
    np.testing.assert_allclose(np.linalg.norm(halves, axis=2), 1, atol=2e-3)
    mean = load_file(tmp_path / "joined" / "join.safetensors")["transform.mean"]
    sample = np.sort(np.random.default_rng(1).choice(ITEMS, 20, replace=False))
    np.testing.assert_allclose(mean, embeddings_of_items()[sample].mean(axis=0), atol=1e-5)


def test_captions_without_a_known_word_say_nothing(tmp_path):
    rows = captions_of_items()
    for row in rows:
        if row["item_id"] == "i0":
            row["text"] = f"unheard{rows.index(row)}"
    join(write_world(tmp_path, rows), **SMALL)
    joined, captions = result(tmp_path)
    np.testing.assert_array_equal(joined[0, :TEXT], joined[0, TEXT:])
    assert not captions[:3].any()


def save_bert(folder: Path, words: list[str]) -> str:
    """A tiny BERT with random weights that reads these words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **special).save_pretrained(folder)
    torch.manual_seed(3)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=16, **sizes)).save_pretrained(folder)
    return str(folder)


def test_a_sentence_encoder_by_its_folder(tmp_path):
    pytest.importorskip("sentence_transformers")
    bert = save_bert(tmp_path / "bert", WORDS)
    rows = captions_of_items()
    files = write_world(tmp_path)
    join(files, text_features=bert, device="cpu")
    joined, captions = result(tmp_path)
    encoder = load_encoder(f"sentence-transformers:{bert}", "cpu")
    centre = load_file(tmp_path / "joined" / "join.safetensors")["text.centre"]
    used = [i for i, row in enumerate(rows) if row["role"] != "query"]
    expected = normalize(encoder.embed_text([rows[i]["text"] for i in used]) - centre)
    np.testing.assert_allclose(captions[used], expected, atol=2e-3)
    assert joined.shape == (ITEMS, 2 * encoder.dimension)
    join(files._replace(output=tmp_path / "like"), like=files.output, device="cpu")
    np.testing.assert_array_equal(np.load(tmp_path / "like" / "embeddings.npy").astype(np.float32), joined)


def test_identifiers_can_be_built_from_it(tmp_path):
    files = write_world(tmp_path)
    join(files, **SMALL)
    settings = IdentifierSettings(scheme="residual-kmeans", kmeans_clusters=7, codebook_size=3)
    build_identifiers(files.output / "embeddings.npy", files.items, tmp_path / "identifiers", settings)
    bundle = IdentifierBundle.load(tmp_path / "identifiers")
    assert bundle.codec_settings["dimension"] == 2 * TEXT
    assert json.loads((tmp_path / "joined" / "join.json").read_text())["parts"] == [TEXT, TEXT]


def test_rare_words_are_known_where_they_are_asked_for(tmp_path):
    rows = captions_of_items()
    alone = next(row["item_id"] for row in rows if row["role"] == "train")
    rows = [row if row["item_id"] != alone else row | {"text": f"unheard{at}"} for at, row in enumerate(rows)]
    files = write_world(tmp_path, rows)
    usual = join(files, **SMALL)
    found = re.search(r"; (\d+) items? (?:has|have) captions without a word that is known", usual.summary)
    assert found
    assert "--rare-words keeps" in usual.summary
    assert "rare_words" not in read_json(usual.directory / "join.json")["settings"]
    every = join(files, **SMALL, rare_words=True)
    assert every.is_new
    assert every.items_with_text == usual.items_with_text + int(found[1])
    assert "without a word" not in every.summary
    assert any(word.startswith("unheard") for word in read_json(every.directory / "vocabulary.json"))
    like = join(files._replace(output=tmp_path / "like"), like=every.directory)
    assert read_json(like.directory / "join.json")["settings"]["rare_words"]
