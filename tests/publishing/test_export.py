"""`python -m cart_fairseq.export`: a MODEL folder finds what checkpoint and data-bin find, and holds no training pairs."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_text_encoders
import torch
from commands import run, train_flags
from conftest import write_jsonl
from documented import fences
from export_samples import assert_same, checkpoint, dense_model, hits, opened
from safetensors.torch import load_file

from cart_fairseq import Query, evaluate
from cart_fairseq import export as door
from cart_fairseq.base.files import write_json
from cart_fairseq.base.settings import ExportSettings
from cart_fairseq.catalogue.checksums import sealed
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.publishing import exporting
from cart_fairseq.publishing.exporting import export
from cart_fairseq.queries import item_priors
from cart_fairseq.queries.media_encoder import open_media_encoder
from cart_fairseq.steps.tuning import SHARE_STATE, WEIGHT_STATE, keep
from preprocess.api import verify

OLD = Path(__file__).resolve().parents[1] / "compatibility"
OLD_TEXTS = ["a red dog on the beach", "the GREEN tree", "something blue", "zebra 😀 ümlaut"]
REPOSITORY = OLD.parents[1]


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return dense_model(tmp_path_factory.mktemp("dense"))


@pytest.mark.parametrize("name", ["plain", "dense"])
def test_an_exported_old_checkpoint_finds_the_same(name, tmp_path, capsys):
    data, path = OLD / name / "data-bin", OLD / f"{name}.pt"
    door.main(["--data", str(data), "--path", str(path), "--output", str(tmp_path / "MODEL")])
    assert f"wrote {tmp_path / 'MODEL'}" in capsys.readouterr().out
    assert_same(tmp_path / "MODEL", path, data, OLD_TEXTS)
    assert_same(tmp_path / "MODEL", path, data, OLD_TEXTS, scoring="renormalised", beam=5)


def test_a_model_with_dense_head_and_priors_finds_the_same(dense):
    assert_same(dense / "MODEL", checkpoint(dense), dense / "data-bin")
    for options in ({"prior_share": 0.0}, {"prior_share": 0.9}, {"dense_weight": 0.0}, {"lookahead": False}):
        assert_same(dense / "MODEL", checkpoint(dense), dense / "data-bin", **options)
    mixed = [Query(item_id="item 3"), Query(text=["red dog"], embedding=np.ones(6, dtype=np.float32))]
    assert_same(dense / "MODEL", checkpoint(dense), dense / "data-bin", mixed)
    found = hits(opened(dense / "MODEL"), candidates="test")
    assert found == hits(opened(checkpoint(dense), dense / "data-bin"), candidates="test")


def test_priors_are_those_that_tune_stored(dense, tmp_path, monkeypatch):
    shutil.copytree(dense / "data-bin", tmp_path / "data-bin")
    retriever = opened(checkpoint(dense), tmp_path / "data-bin")
    item_priors.store_priors(retriever.models, retriever.data)
    for name in ("_compute_bank", "item_priors"):
        monkeypatch.setattr(item_priors, name, lambda *_: pytest.fail("computed again"))
    export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")
    assert_same(tmp_path / "MODEL", checkpoint(dense), tmp_path / "data-bin")
    assert {path.name for path in (tmp_path / "MODEL" / "search").iterdir()} == {
        path.name for path in (tmp_path / "data-bin" / "search").iterdir()
    }


def test_the_data_bin_is_only_read(dense, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in sorted((dense / "data-bin").rglob("*"))}
    export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL")
    assert {path: path.stat().st_mtime_ns for path in sorted((dense / "data-bin").rglob("*"))} == before


def other_checkpoint(dense: Path) -> Path:
    """A second model of the same data-bin, with other weights."""
    path = dense / "save" / "checkpoint1.pt"
    if not path.exists():
        state = torch.load(checkpoint(dense), weights_only=False)
        torch.manual_seed(3)
        for name, value in state["model"].items():
            if name.endswith("weight") and value.ndim == 2:
                value += 0.1 * torch.randn_like(value)
        torch.save(state, path)
    return path


def test_an_ensemble_has_a_file_for_each_model(dense, tmp_path):
    path = f"{checkpoint(dense)}:{other_checkpoint(dense)}"
    export(path, dense / "data-bin", tmp_path / "MODEL")
    assert {each.name for each in (tmp_path / "MODEL").glob("*.safetensors")} == {
        "model.1.safetensors",
        "model.2.safetensors",
        "trie.safetensors",
    }
    assert_same(tmp_path / "MODEL", path, dense / "data-bin")
    alone = hits(opened(checkpoint(dense), dense / "data-bin"))
    assert hits(opened(tmp_path / "MODEL")) != alone


def test_an_ensemble_with_unequal_weights_has_priors_at_every_weight(dense, tmp_path):
    for source, name, weight in ((checkpoint(dense), "one.pt", 1.5), (other_checkpoint(dense), "two.pt", 0.5)):
        shutil.copy(source, tmp_path / name)
        keep(tmp_path / name, {WEIGHT_STATE: weight, SHARE_STATE: 0.5})
    path = f"{tmp_path / 'one.pt'}:{tmp_path / 'two.pt'}"
    export(path, dense / "data-bin", tmp_path / "MODEL")
    found = []
    for options in ({}, {"dense_weight": 1.0}, {"dense_weight": 2.0}):
        assert_same(tmp_path / "MODEL", path, dense / "data-bin", **options)
        found.append(hits(opened(tmp_path / "MODEL", **options)))
    assert found[0] != found[1]  # the mean weight, but the heads count alike


@pytest.mark.parametrize("layers", [0, 1])
def test_a_text_encoder_is_stored_once(layers, tmp_path):
    data = tiny_text_encoders.make_data_bin(tmp_path, tiny_text_encoders.save(tmp_path / "bert", "bert"))
    run(*train_flags(data, tmp_path / "save", "--max-epoch", 2, "--train-text-layers", layers))
    path = tmp_path / "save" / "checkpoint_best.pt"
    export(path, data, tmp_path / "MODEL")
    stored = load_file(tmp_path / "MODEL" / "model.safetensors")
    trained = [name for name in stored if name.startswith("encoder.transformer.")]
    assert all(".layer.2." in name for name in trained)
    assert bool(trained) == bool(layers)
    assert_same(tmp_path / "MODEL", path, data)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_smaller_precision_takes_less_room_and_nearly_the_same_scores(precision, dense, tmp_path):
    export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL", ExportSettings(precision))
    kinds = {name: tensor.dtype for name, tensor in load_file(tmp_path / "MODEL" / "model.safetensors").items()}
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert {kind for name, kind in kinds.items() if name.startswith(("encoder.", "decoder."))} == {half}
    assert {kind for name, kind in kinds.items() if not name.startswith(("encoder.", "decoder."))} == {torch.float32}
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path / "MODEL", dense / "MODEL")]
    assert sizes[0] < 0.8 * sizes[1]
    expected = opened(checkpoint(dense), dense / "data-bin")
    # what was rounded is what priors were computed with
    found = opened(tmp_path / "MODEL")
    assert item_priors.has_priors(found.models, found.data)
    for row, wanted in zip(hits(found), hits(expected), strict=True):
        scores = {hit.item_id: hit.score for hit in wanted}
        np.testing.assert_allclose([hit.score for hit in row], [scores[hit.item_id] for hit in row], atol=0.2)


def test_a_weight_out_of_range_of_a_precision_is_refused(dense, tmp_path):
    shutil.copytree(dense / "save", tmp_path / "save")
    keep(tmp_path / "save" / "checkpoint_best.pt", {"decoder.embed_tokens.weight": large(dense)})
    with pytest.raises(ValueError, match=r"decoder.embed_tokens.weight is out of the range of fp16"):
        export(checkpoint(tmp_path), dense / "data-bin", tmp_path / "MODEL", ExportSettings("fp16"))
    assert not (tmp_path / "MODEL").exists()


def large(dense: Path) -> Any:
    shape = load_file(dense / "MODEL" / "model.safetensors")["decoder.embed_tokens.weight"].shape
    return torch.full(shape, 1e5).tolist()


def test_no_training_pair_is_in_the_folder(dense):
    names = {path.name for path in (dense / "MODEL").rglob("*")}
    assert not [name for name in names if "query-id" in name or (name.startswith("queries") and "parquet" in name)]
    assert DataBin(dense / "MODEL").subsets == []
    assert json.loads((dense / "MODEL" / "manifest.json").read_text())["counts"] == {}
    captions = [json.loads(line)["text"] for line in (dense / "captions.jsonl").read_text().splitlines()]
    content = b"".join(path.read_bytes() for path in (dense / "MODEL").rglob("*") if path.is_file())
    # sentencepiece's model was trained on them, and keeps its words alone
    assert not [text for text in captions if text.encode() in content]
    assert b"optimizer" not in content


def test_a_model_is_searched_without_imports_that_take_long(dense):
    code = (
        "import sys; from cart_fairseq import CartRetriever; "
        "found = CartRetriever.from_pretrained(sys.argv[1], device='cpu').search(['red dog'], k=3); "
        "print(found[0][0].item_id, [name for name in sys.modules if name.split('.')[0] in ('fairseq', 'hydra', 'pandas') or name in ('torch._dynamo', 'pyarrow.compute')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    found = subprocess.run(
        [sys.executable, "-c", code, str(dense / "MODEL")], capture_output=True, text=True, env=environment, check=True
    )
    best = hits(opened(checkpoint(dense), dense / "data-bin"), ["red dog"])[0][0].item_id
    assert found.stdout == f"{best} []\n"


def test_a_read_only_folder_opens(dense, tmp_path):
    shutil.copytree(dense / "MODEL", tmp_path / "MODEL")
    for path in [*(tmp_path / "MODEL").rglob("*"), tmp_path / "MODEL"]:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
    before = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "MODEL").rglob("*"))}
    try:
        assert_same(tmp_path / "MODEL", checkpoint(dense), dense / "data-bin")
        assert {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "MODEL").rglob("*"))} == before
    finally:
        for path in [tmp_path / "MODEL", *(tmp_path / "MODEL").rglob("*")]:
            path.chmod(0o755)


def test_no_folder_of_the_machine_is_in_a_model_folder(dense, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(dense / "data-bin", tmp_path / "data-bin")
    path = tmp_path / "data-bin" / "manifest.json"
    used = {"encoder": "clip:/home/me/clip-b", "weights": "0" * 64, "precision": "float32", "frames": None}
    write_json(path, sealed({**json.loads(path.read_text()), "encoder": used}))
    export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")
    for each in (tmp_path / "MODEL").rglob("*"):
        assert each.is_dir() or b"home/me" not in each.read_bytes(), each
    assert DataBin(tmp_path / "MODEL").manifest["encoder"] == {**used, "encoder": "clip:clip-b"}
    assert verify(tmp_path / "MODEL").kind == "model"
    with pytest.raises(ValueError, match=r"needs the encoder 'clip:clip-b', .* is not here; .* or embed the file"):
        open_media_encoder(DataBin(tmp_path / "MODEL"), "cpu")


def test_new_queries_are_measured_on_a_model_folder_as_on_the_checkpoint(dense, tmp_path, capsys):
    rows = [json.loads(line) for line in (dense / "captions.jsonl").read_text().splitlines()]
    write_jsonl(tmp_path / "new.jsonl", [row for row in rows if row["role"] == "query"])
    figures = []
    for path, data in ((checkpoint(dense), dense / "data-bin"), (dense / "MODEL", dense / "MODEL")):
        given = ["--queries", tmp_path / "new.jsonl", "--subset", "test", "--path", path, "--data", data]
        evaluate.main([*map(str, given), "--precision", "float32", "--json", str(tmp_path / "figures.json")])
        figures.append(json.loads((tmp_path / "figures.json").read_text()))
    assert figures[0] == figures[1]


def test_a_damaged_data_bin_is_not_exported(dense, tmp_path):
    shutil.copytree(dense / "data-bin", tmp_path / "data-bin")
    path = tmp_path / "data-bin" / "dense.embeddings.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"dense.embeddings.npy: sha256 is"):
        export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")
    assert not (tmp_path / "MODEL").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["data-bin"]


def test_the_card_has_the_figures_of_the_record(dense, tmp_path):
    figures = {"recall_at_1": 12.34, "recall_at_5": 40.0, "recall_at_10": 60.0, "mrr_at_10": 25.0}
    record = {
        "recipe": "joined",
        "seed": 7,
        "train_flags": ["--arch", "cart"],
        "metrics": {"split": {"test": {**figures, "candidates": 8}}, "all": {}},
    }
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(checkpoint(dense), tmp_path / "checkpoints")
    (tmp_path / "run.json").write_text(json.dumps(record))
    export(tmp_path / "checkpoints" / "checkpoint_best.pt", dense / "data-bin", tmp_path / "MODEL")
    card = (tmp_path / "MODEL" / "README.md").read_text()
    assert "| test | 8 (of the split) | 12.3 | 40.0 | 60.0 | 25.0 |" in card
    assert "| recipe | joined |" in card
    assert "fairseq-train --arch cart" in card
    assert card.startswith("---\nlibrary_name: cart-fairseq\n")
    assert str(tmp_path) not in card
    assert "*to be filled in*" in (dense / "MODEL" / "README.md").read_text()


def test_large_catalogues_take_their_statistics_with_them(dense, tmp_path, monkeypatch):
    for module in (exporting.write_search_files.__module__,):
        renewing = sys.modules[module]
        for name in ("store_vectors", "store_statistics"):
            inner = getattr(renewing, name)
            monkeypatch.setattr(renewing, name, lambda *given, inner=inner: inner(*given, exact_items=0))
    shutil.copytree(dense / "data-bin", tmp_path / "data-bin")
    retriever = opened(checkpoint(dense), tmp_path / "data-bin")
    renewing.store_search_files(retriever.models, retriever.data)
    stored = {path.name for path in (tmp_path / "data-bin" / "search").iterdir()}
    assert len(stored) == 5  # queries, priors, vectors, and statistics of texts and of mixed queries
    export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")
    assert {path.name for path in (tmp_path / "MODEL" / "search").iterdir()} == stored
    for path in (tmp_path / "data-bin" / "search").rglob("*.npy"):
        copied = tmp_path / "MODEL" / "search" / path.parent.name / path.name
        assert copied.read_bytes() == path.read_bytes()


def test_the_example_of_the_guide_runs(dense, monkeypatch):
    example = fences(REPOSITORY / "docs" / "models.md", "python")[0]
    monkeypatch.chdir(dense)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["retriever"].data.root == Path("MODEL")
