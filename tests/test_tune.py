"""cart_fairseq.tune: what each weight of the dense score reaches, and a checkpoint that keeps the best."""

import json

import numpy as np
import pytest
import torch
from changing import build, embed, make_codec
from conftest import ITEMS, make_captions, setup_task
from test_end_to_end import run, train_flags

from cart_fairseq import tune
from cart_fairseq.evaluate import main as evaluate
from cart_fairseq.files import run_script
from cart_fairseq.retriever import CartRetriever
from preprocess.binarize import binarize


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data-bin with embeddings, and the checkpoint of a model with a dense head."""
    root = tmp_path_factory.mktemp("tune")
    build(root / "identifiers", make_codec(), unique_size=32)
    np.save(root / "embeddings.npy", embed(ITEMS, 0))
    captions = make_captions(root / "captions.jsonl")
    binarize(root / "identifiers", captions, root / "data-bin", embeddings=root / "embeddings.npy")
    run(*train_flags(root / "data-bin", root / "save", "--max-epoch", 3, "--dense-dim", 8, "--dense-weight", 0.5))
    return root


@pytest.fixture
def checkpoint(world, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes((world / "save" / "checkpoint_best.pt").read_bytes())
    return path


def weight_of(path, data):
    return float(CartRetriever.from_pretrained(path, data=data).models[0].dense.weight)


def test_training_keeps_the_weight_it_was_given_and_searches_use_it(world, checkpoint):
    retriever = CartRetriever.from_pretrained(checkpoint, data=world / "data-bin")
    assert float(retriever.models[0].dense.weight) == 0.5
    assert retriever.beam == 200
    assert CartRetriever.from_pretrained(checkpoint, data=world / "data-bin", dense_weight=0).beam == 30
    own = retriever.search(["red cat"])
    given = CartRetriever.from_pretrained(checkpoint, data=world / "data-bin", dense_weight=0.5).search(["red cat"])
    other = CartRetriever.from_pretrained(checkpoint, data=world / "data-bin", dense_weight=5).search(["red cat"])
    assert own == given
    assert own != other


def test_figures_are_those_of_searches_with_each_weight(world, checkpoint, tmp_path):
    data = world / "data-bin"
    found = tmp_path / "tuned.json"
    tune.main([f"--data={data}", f"--path={checkpoint}", "--beam=7", f"--json={found}", "--weights", "0", "0.5", "9"])
    tuned = json.loads(found.read_text())
    task = setup_task(data)
    task.load_dataset("valid")
    dataset = task.datasets["valid"]
    batch = dataset.collater([dataset[i] for i in range(len(dataset))])
    model = CartRetriever.from_pretrained(checkpoint, data=data).models
    for row in tuned["weights"]:
        search = task.search_with(model, 7, dense_weight=row["weight"])
        result = search.search(batch["net_input"], *task.data.source("valid"))
        first = (result.tokens[:, 0] == batch["target"]).all(1).double().mean()
        assert row["recall_at_1"] == pytest.approx(100 * float(first))
    best = max(tuned["weights"], key=lambda row: row["mrr_at_10"])
    assert tuned["best"] == best["weight"]
    assert weight_of(checkpoint, data) == pytest.approx(best["weight"])
    assert len({row["mrr_at_10"] for row in tuned["weights"]}) > 1


def test_equal_weights_take_the_smallest():
    figures = {
        weight: dict.fromkeys(tune.METRIC_NAMES, value) for weight, value in ((3.0, 5.0), (1.0, 5.0), (0.0, 4.0))
    }
    assert tune.best_weight(figures) == 1.0
    assert "*      1" in tune.table(figures, 1.0)


def test_only_the_weight_changes_and_a_dry_run_changes_nothing(world, checkpoint):
    before = torch.load(checkpoint)["model"]
    bytes_before = checkpoint.read_bytes()
    tune.main([f"--data={world / 'data-bin'}", f"--path={checkpoint}", "--weights", "2", "--dry-run"])
    assert checkpoint.read_bytes() == bytes_before
    tune.main([f"--data={world / 'data-bin'}", f"--path={checkpoint}", "--weights", "2"])
    after = torch.load(checkpoint)["model"]
    assert float(after["dense.weight"]) == 2.0
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before if name != "dense.weight")
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_what_cannot_be_tuned_is_refused(world, tmp_path, capsys):
    run(*train_flags(world / "data-bin", tmp_path, "--max-epoch", 1))
    with pytest.raises(SystemExit):
        run_script(lambda: tune.main([f"--data={world / 'data-bin'}", f"--path={tmp_path / 'checkpoint_best.pt'}"]))
    assert "the model has no dense head" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tune.main(["--data=x", "--path=y", "--beam=0"])
    assert "--beam is 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tune.main(["--data=x", "--path=y", "--weights", "-1"])
    assert "least weight is -1" in capsys.readouterr().err


def test_evaluate_takes_the_kept_weight(world, checkpoint, tmp_path):
    rows = [{"item_id": "item 1", "text": "red cat", "role": "query"}]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = [
        "--queries",
        tmp_path / "new.jsonl",
        "--data",
        world / "data-bin",
        "--path",
        checkpoint,
        "--candidates",
        "all",
    ]
    evaluate([str(flag) for flag in [*flags, "--trec-run", tmp_path / "own"]])
    evaluate([str(flag) for flag in [*flags, "--trec-run", tmp_path / "half", "--dense-weight", 0.5]])
    evaluate([str(flag) for flag in [*flags, "--trec-run", tmp_path / "none", "--dense-weight", 0]])
    own, half, none = ((tmp_path / name).read_text() for name in ("own", "half", "none"))
    assert own == half != none
