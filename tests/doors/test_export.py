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
from changing import dense_world, new_items
from commands import run, train_flags
from conftest import write_jsonl
from documented import fences
from mixed_world import write_data_bin
from safetensors.torch import load_file

from cart_fairseq import CartRetriever, Query, evaluate
from cart_fairseq import export as door
from cart_fairseq.base.files import locked_file, write_json
from cart_fairseq.base.settings import ExportSettings
from cart_fairseq.catalogue.checksums import sealed
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.publishing import exporting
from cart_fairseq.publishing.exporting import export
from cart_fairseq.publishing.renewing import store_search_files
from cart_fairseq.queries import item_priors
from cart_fairseq.queries.hit import Hit
from cart_fairseq.queries.media_encoder import open_media_encoder
from cart_fairseq.steps.tuning import DISCOUNT_STATE, SHARE_STATE, WEIGHT_STATE, keep
from preprocess import update_identifiers
from preprocess.api import add, compact, remove, renew, verify

OLD = Path(__file__).resolve().parents[1] / "compatibility"
TEXTS = ["red dog", "a blue bird sleeps", "old tree near the house", "zebra 😀"]
OLD_TEXTS = ["a red dog on the beach", "the GREEN tree", "something blue", "zebra 😀 ümlaut"]
REPOSITORY = OLD.parents[1]


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A world with a dense head and a share of priors, and its MODEL folder."""
    root = dense_world(tmp_path_factory.mktemp("dense"))
    path = root / "save" / "checkpoint_best.pt"
    keep(path, {SHARE_STATE: 0.5, DISCOUNT_STATE: 0.9, WEIGHT_STATE: 2.0})
    export(path, root / "data-bin", root / "MODEL")
    return root


def checkpoint(root: Path) -> Path:
    return root / "save" / "checkpoint_best.pt"


def opened(path: Path, data: Path | None = None, **options: Any) -> CartRetriever:
    return CartRetriever.from_pretrained(path, data, device="cpu", precision="float32", **options)


def hits(retriever: CartRetriever, queries: Any = TEXTS, **options: Any) -> list[list[Hit]]:
    found = retriever.search(queries, k=20, **options)
    assert all(row for row in found)
    return found


def assert_same(model: Path, path: Path | str, data: Path, queries: Any = TEXTS, **options: Any) -> None:
    """Ids, scores, probabilities and records are equal, to the last bit."""
    expected = hits(CartRetriever.from_pretrained(path, data, device="cpu", precision="float32", **options), queries)
    assert hits(opened(model, **options), queries) == expected


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


def test_an_ensemble_has_a_file_for_each_model(dense, tmp_path):
    path = f"{checkpoint(dense)}:{dense / 'save' / 'checkpoint1.pt'}"
    if not (dense / "save" / "checkpoint1.pt").exists():
        state = torch.load(checkpoint(dense), weights_only=False)
        torch.manual_seed(3)
        for name, value in state["model"].items():
            if name.endswith("weight") and value.ndim == 2:
                value += 0.1 * torch.randn_like(value)
        torch.save(state, dense / "save" / "checkpoint1.pt")
    export(path, dense / "data-bin", tmp_path / "MODEL")
    assert {each.name for each in (tmp_path / "MODEL").glob("*.safetensors")} == {
        "model.1.safetensors",
        "model.2.safetensors",
        "trie.safetensors",
    }
    assert_same(tmp_path / "MODEL", path, dense / "data-bin")
    alone = hits(opened(checkpoint(dense), dense / "data-bin"))
    assert hits(opened(tmp_path / "MODEL")) != alone


def test_a_join_keeps_its_parts_and_takes_new_items(tmp_path):
    write_data_bin(tmp_path)
    data, save = tmp_path / "data-bin", tmp_path / "save"
    run(*train_flags(data, save, "--max-epoch", 2, "--dense-dim", 8, "--dense-weight", 1, "--media-positions", 2))
    path = save / "checkpoint_best.pt"
    export(path, data, tmp_path / "MODEL")
    texts = [row["text"] for row in DataBin(data).queries("test").to_pylist()[:4]]
    assert_same(tmp_path / "MODEL", path, data, texts)
    assert_same(tmp_path / "MODEL", path, data, [Query(item_id="i3"), Query(item_id="i5", text="red")])
    made = DataBin(tmp_path / "MODEL")
    assert (tmp_path / "MODEL" / "join.json").is_file()
    assert made.dense_items is not None
    assert made.dense_items.captions is not None
    assert len(made.dense_items.captions) == 0
    before = DataBin(data).dense_items
    assert before is not None
    assert made.dense_items.text_dim == before.text_dim > 0
    # items may leave, although there are no captions whose features would leave with them
    for target in (data, tmp_path / "MODEL"):
        remove(target, ["i3"])
    assert_same(tmp_path / "MODEL", path, data, texts)


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


def test_added_and_removed_items_are_found_as_in_the_data_bin(dense, tmp_path):
    shutil.copytree(dense / "data-bin", tmp_path / "data-bin")
    shutil.copytree(dense / "MODEL", tmp_path / "MODEL")
    (tmp_path / "MODEL" / "README.md").write_text("mine")
    tuned = opened(checkpoint(dense), tmp_path / "data-bin")
    store_search_files(
        tuned.models, tuned.data
    )  # as tune does; the captions of removed items go on counting for priors
    embeddings, items = new_items(tmp_path / "new", 4)
    for target in (tmp_path / "data-bin", tmp_path / "MODEL"):
        add(target, embeddings, items)
        remove(target, ["item 3", "new 1"])
    assert_same(tmp_path / "MODEL", checkpoint(dense), tmp_path / "data-bin")
    assert {"new 0", "new 2"} <= {hit.item_id for hit in opened(tmp_path / "MODEL").search(["dog"], k=50)[0]}
    assert (tmp_path / "MODEL" / "README.md").read_text() == "mine"
    assert verify(tmp_path / "MODEL").kind == "model"


def test_items_that_were_added_before_the_export_are_younger_after_it(dense, tmp_path):
    shutil.copytree(dense / "data-bin", tmp_path / "data-bin")
    add(tmp_path / "data-bin", *new_items(tmp_path / "new", 4))
    remove(tmp_path / "data-bin", ["item 4"])
    np.save(tmp_path / "data-bin" / "candidates.mine.npy", np.array([1, 5, 9]))
    export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")
    assert_same(tmp_path / "MODEL", checkpoint(dense), tmp_path / "data-bin")
    assert opened(tmp_path / "MODEL").data.candidate_names == ["all", "mine", "test", "valid"]


def test_exporting_again_keeps_what_users_added_and_loses_no_update(dense, tmp_path):
    shutil.copytree(dense / "MODEL", tmp_path / "MODEL")
    shutil.copytree(dense / "data-bin", tmp_path / "data-bin")
    (tmp_path / "MODEL" / "LICENSE").write_text("mine")
    (tmp_path / "MODEL" / ".git").mkdir()
    (tmp_path / "MODEL" / ".git" / "HEAD").write_text("main")
    np.save(tmp_path / "MODEL" / "candidates.mine.npy", np.array([1, 5]))
    for _ in range(2):
        export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")
        assert (tmp_path / "MODEL" / "LICENSE").read_text() == "mine"
        assert (tmp_path / "MODEL" / ".git" / "HEAD").read_text() == "main"
        kept = DataBin(tmp_path / "MODEL").candidates("mine")
        assert kept is not None
        assert kept.tolist() == [1, 5]
        np.save(tmp_path / "data-bin" / "candidates.mine.npy", np.array([1, 5]))
    remove(tmp_path / "MODEL", ["item 3"])
    with pytest.raises(ValueError, match=r"MODEL: its catalogue was updated .* update the data-bin in the same way"):
        export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")
    remove(tmp_path / "data-bin", ["item 3"])
    export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")


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


def test_only_a_model_folder_is_replaced(dense, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("notes")
    for taken in (tmp_path / "mine", dense / "data-bin"):
        with pytest.raises(ValueError, match="is there and no MODEL folder"):
            export(checkpoint(dense), dense / "data-bin", taken)
    (tmp_path / "MODEL").mkdir()
    export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL")
    assert not (tmp_path / "MODEL" / "README.earlier.md").exists()
    export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL")
    assert not (tmp_path / "MODEL" / "README.earlier.md").exists()
    (tmp_path / "MODEL" / "README.md").write_text("licence: mine")
    export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL")
    assert (tmp_path / "MODEL" / "README.earlier.md").read_text() == "licence: mine"
    assert verify(tmp_path / "MODEL").kind == "model"


def test_a_folder_that_is_being_updated_is_not_replaced(dense, tmp_path):
    shutil.copytree(dense / "MODEL", tmp_path / "MODEL")
    before = (tmp_path / "MODEL").stat().st_ino
    with (
        locked_file(tmp_path / "MODEL" / "identifiers" / "update.lock"),
        pytest.raises(ValueError, match="another process is updating it; export again when it has ended"),
    ):
        export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL")
    assert (tmp_path / "MODEL").stat().st_ino == before
    (tmp_path / ".MODEL.abcd1234.tmp" / "MODEL").mkdir(parents=True)  # of a killed export
    export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL")
    assert [path.name for path in tmp_path.iterdir()] == ["MODEL"]


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


@pytest.mark.parametrize("named", [False, True])
def test_update_identifiers_renews_what_searches_of_a_model_folder_read(named, dense, tmp_path, monkeypatch, capsys):
    shutil.copytree(dense / "MODEL", tmp_path / "MODEL")
    model, path = str(tmp_path / "MODEL"), ["--path", str(tmp_path / "MODEL")] if named else []
    embeddings, items = new_items(tmp_path / "new", 4)
    given = ["--embeddings", str(embeddings), "--items", str(items)]
    for command in (["add", *given], ["remove", "--item-ids", "item 4"], ["compact"], ["renew"]):
        update_identifiers.main([command[0], "--data-bin", model, *path, *command[1:]])
        assert "what searches with" in capsys.readouterr().out
        with monkeypatch.context() as watched:
            watched.setattr(item_priors, "item_priors", lambda *_: pytest.fail("priors are computed again"))
            assert opened(tmp_path / "MODEL").search(["red dog"])[0]
    with pytest.raises(ValueError, match="is a MODEL folder, which has its own catalogue; leave out the data-bin"):
        update_identifiers.main(["renew", "--data-bin", str(dense / "data-bin"), "--path", model])


def test_functions_renew_what_searches_of_a_model_folder_read(dense, tmp_path, monkeypatch):
    model = Path(shutil.copytree(dense / "MODEL", tmp_path / "MODEL"))
    embeddings, items = new_items(tmp_path / "new", 4)
    for update in (
        lambda: add(model, embeddings, items),
        lambda: remove(model, ["item 4"]),
        lambda: compact(model),
        lambda: renew(model),
    ):
        update()
        with monkeypatch.context() as watched:
            watched.setattr(item_priors, "item_priors", lambda *_: pytest.fail("priors are computed again"))
            assert opened(model).search(["red dog"])[0]
    with pytest.raises(ValueError, match="holds no model; name the checkpoint"):
        renew(dense / "data-bin")


def test_without_the_stored_queries_there_are_no_priors(dense, tmp_path):
    shutil.copytree(dense / "MODEL", tmp_path / "MODEL")
    shutil.rmtree(tmp_path / "MODEL" / "search")
    with pytest.raises(ValueError, match=r"no training captions, nor stored ones .* export the model again"):
        opened(tmp_path / "MODEL").search(["red dog"])
    expected = hits(opened(checkpoint(dense), dense / "data-bin", prior_share=0.0))
    assert hits(opened(tmp_path / "MODEL", prior_share=0.0)) == expected


def test_the_example_of_the_guide_runs(dense, monkeypatch):
    example = fences(REPOSITORY / "docs" / "models.md", "python")[0]
    monkeypatch.chdir(dense)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["retriever"].data.root == Path("MODEL")
