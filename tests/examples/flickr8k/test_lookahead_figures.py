"""The command that measures look-ahead: its figures are those of searches, and of the dense head alone."""

import numpy as np
import pytest
import torch
from changing import build, make_codec
from conftest import ITEMS, load_example, make_batch, make_captions, make_model, setup_task

from cart_fairseq.base.reading import read_json
from cart_fairseq.measuring.labels import METRIC_NAMES
from cart_fairseq.retriever import CartRetriever
from preprocess.data_bin.build import binarize

script = load_example("flickr8k", "lookahead")


@pytest.fixture(scope="module")
def dense_task(tmp_path_factory):
    root = tmp_path_factory.mktemp("lookahead")
    build(root / "identifiers", make_codec(), unique_size=32)
    rows = np.random.default_rng(0).normal(size=(ITEMS, 16)).astype(np.float32)
    np.save(root / "embeddings.npy", rows)
    captions = make_captions(root / "captions.jsonl")
    binarize(root / "identifiers", captions, root / "data-bin", embeddings=root / "embeddings.npy")
    task = setup_task(root / "data-bin")
    task.load_dataset("test")
    return task


@pytest.fixture
def model(dense_task, monkeypatch):
    made = make_model(dense_task, dense_dim=8)
    monkeypatch.setattr(
        script.CartRetriever,
        "from_pretrained",
        lambda path, data, **given: CartRetriever([made], dense_task.data, **given),
    )
    return made


def test_each_search_has_a_row(dense_task, model, tmp_path, capsys):
    output = tmp_path / "figures.json"
    flags = ["--data", str(dense_task.data.directory), "--subset", "test", "--candidates", "all", "--beams", "3", "24"]
    script.main(["none.pt", *flags, "--dense-weight", "100000", "--batch", "5", "--json", str(output)])
    record = read_json(output)
    assert record["settings"]["queries"] == len(dense_task.datasets["test"])
    assert record["settings"]["dense_weight"] == 1e5
    assert record["commit"] is not None
    rows = {(row["search"], row["beam"]): row for row in record["results"]}
    assert len(rows) == 2 * len(script.NAMES) + 1
    alone = rows["dense alone", None]
    assert alone["decoder_rows"] == 0
    batch = make_batch(dense_task)
    with torch.no_grad():
        query = model.dense.query(model.encoder(batch["net_input"]["src_tokens"]))
        scores = query @ model.dense.item(dense_task.data.dense_items.features(torch.arange(24).numpy())).T
    wanted = torch.tensor(dense_task.data.queries("test")["item_row"].to_pylist())
    first = 100 * float((scores.argmax(1) == wanted[torch.as_tensor(batch["id"])]).double().mean())
    assert alone["recall_at_1"] == pytest.approx(first, abs=1e-3)
    for name in script.NAMES:  # such a weight leaves the identifiers no say
        assert [rows[name, 24][metric] for metric in METRIC_NAMES] == [alone[metric] for metric in METRIC_NAMES]
    assert rows["reranked", 3]["decoder_rows"] == rows["look-ahead", 3]["decoder_rows"]
    assert capsys.readouterr().out.count("\n") == 2 + len(rows)


def test_models_without_a_dense_head_are_refused(dense_task, model):
    model.dense = None
    with pytest.raises(ValueError, match=r"none\.pt: a model has no dense head; give one trained with --dense-dim"):
        script.main(["none.pt", "--data", str(dense_task.data.directory)])
