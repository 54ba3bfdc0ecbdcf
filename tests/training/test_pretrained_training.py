"""fairseq's commands with a pretrained text encoder: train, generate, interactive, and data-bins that come after."""

import shutil

import pyarrow.parquet as pq
import pytest
import tiny_text_encoders as tiny
import torch
from commands import TASK, generate, logged, run, train_flags, validate
from conftest import make_model

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.text_encoder import TextEncoder
from cart_fairseq.retriever import CartRetriever
from preprocess.data_bin.build import binarize
from preprocess.data_bin.settings import DataBinSettings
from preprocess.updating.steps import remove

PREFIX = "encoder.transformer."


@pytest.fixture(scope="module")
def bert_bin(tmp_path_factory):
    return tiny.make_moved_data_bin(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def bert_task(bert_bin):
    return tiny.loaded(bert_bin)


@pytest.fixture(scope="module")
def trained(bert_bin, tmp_path_factory):
    """A checkpoint whose encoder is frozen."""
    save = tmp_path_factory.mktemp("trained")
    output = run(*train_flags(bert_bin, save, "--max-epoch", 2))
    assert len(logged(output, "valid_recall_at_1")) == 2
    return save / "checkpoint_best.pt"


def test_a_frozen_encoder_is_bit_equal_after_training(bert_bin, bert_task, trained):
    before, after = tiny.weights(bert_bin), tiny.saved(trained)
    assert {name[len(PREFIX) :] for name in after if name.startswith("encoder.")} == set(before)
    assert all(torch.equal(after[PREFIX + name], tensor) for name, tensor in before.items())
    fresh = make_model(bert_task).decoder.state_dict()
    learnt = [name for name in fresh if name.endswith("weight") and "decoder." + name in after]
    assert len(learnt) > 20
    untrained = CartRetriever.from_pretrained(trained, bert_bin).models[0].decoder.state_dict()
    assert all(torch.equal(untrained[name], after["decoder." + name]) for name in learnt)


@pytest.mark.parametrize(("layers", "flags"), [(1, []), (-1, ["--update-freq", "2"])])
def test_the_upper_layers_learn(bert_bin, tmp_path, layers, flags):
    run(*train_flags(bert_bin, tmp_path, "--max-epoch", 1, "--train-text-layers", layers, *flags))
    after = tiny.saved(tmp_path / "checkpoint_best.pt")
    same = {name for name, tensor in tiny.weights(bert_bin).items() if torch.equal(after[PREFIX + name], tensor)}
    lower = {name for name in tiny.weights(bert_bin) if ".layer.2." not in name}
    assert same == (lower if layers == 1 else set())


def test_commands_and_python_agree(bert_bin, trained, tmp_path):
    metrics = generate(bert_bin, trained, tmp_path)
    assert validate(bert_bin, trained) == pytest.approx({k: v for k, v in metrics.items() if "_at_" in k}, abs=0.01)
    retriever = CartRetriever.from_pretrained(trained, data=bert_bin)
    queries = pq.read_table(bert_bin / "queries.test.parquet").to_pylist()
    found = retriever.search([query["text"] for query in queries], k=5, candidates="test")
    right = sum(hits[0].row == query["item_row"] for hits, query in zip(found, queries, strict=True))
    assert 100 * right / len(queries) == pytest.approx(metrics["recall_at_1"])
    flags = ["--path", f"{trained}:{trained}", "--beam", 30, "--nbest", 1, "--cpu", "--buffer-size", 2]
    text = "a red dog\nGREEN   tree 😀\n"
    output = run(bert_bin, *TASK, *flags, module="fairseq_cli.interactive", stdin=text)
    answers = [line.split("\t")[2] for line in output.splitlines() if line.startswith("D-")]
    assert answers == [hits[0].item_id for hits in retriever.search(text.splitlines(), k=1)]
    both = CartRetriever.from_pretrained(f"{trained}:{trained}", data=bert_bin, precision="bf16")
    assert len(both.search(["red dog"], k=3)[0]) == 3


@pytest.mark.parametrize("flags", [["--fp16"], ["--bf16", "--shared-encoder", "--train-text-layers", "-1"]])
def test_training_in_half_precision(bert_bin, tmp_path, flags):
    output = run(*train_flags(bert_bin, tmp_path, "--max-epoch", 1, *flags))
    assert len(logged(output, "valid_recall_at_1")) == 1


def test_vocabulary_from_brings_the_encoder_along(bert_bin, trained, tmp_path):
    root = bert_bin.parent
    settings = DataBinSettings(seed=5)
    binarize(root / "identifiers", root / "captions.jsonl", tmp_path / "next", settings, vocabulary_from=bert_bin)
    first, second = (TextEncoder.of(DataBin(path)) for path in (bert_bin, tmp_path / "next"))
    assert first is not None
    assert second is not None
    assert first.digest == second.digest
    assert first.files.folder != second.files.folder
    assert (bert_bin / "dict.query.txt").read_bytes() == (tmp_path / "next/dict.query.txt").read_bytes()
    texts = ["red dog"]
    old, new = (CartRetriever.from_pretrained(trained, data).search(texts) for data in (bert_bin, tmp_path / "next"))
    assert old == new
    with pytest.raises(ValueError, match="leave out --text-encoder"):
        tiny.make_data_bin(root, bert_bin / "text-encoder", vocabulary_from=bert_bin)


def test_an_updated_catalogue_keeps_the_encoder(bert_bin, trained, tmp_path):
    shutil.copytree(bert_bin, tmp_path / "data")
    remove(tmp_path / "data", ["item 3"])
    retriever = CartRetriever.from_pretrained(trained, tmp_path / "data")
    assert "item 3" not in {hit.item_id for hit in retriever.search(["red dog"], k=30)[0]}
    assert TextEncoder.of(DataBin(tmp_path / "data")) is not None
