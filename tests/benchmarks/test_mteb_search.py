"""`CartSearch` on a task of mteb: the metrics are those of `cart_fairseq.evaluate` on the same items and queries."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from changing import QUICK
from commands import run, train_flags
from conftest import write_jsonl
from documented import ROOT, fences
from media_samples import describe, write_media

from cart_fairseq.base.settings import EvaluationSettings
from cart_fairseq.benchmarks.mteb_search import CartSearch
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.measuring.labels import METRIC_NAMES
from cart_fairseq.publishing.exporting import export
from cart_fairseq.steps.evaluation import evaluate
from preprocess.api import EmbeddingSettings, add, binarize, build_identifiers, extract_embeddings

datasets = pytest.importorskip("datasets", reason="needs mteb (make field)")
mteb = pytest.importorskip("mteb", reason="needs mteb (make field)")

OLD = Path(__file__).resolve().parents[1] / "compatibility"
TRAINED, NEW, MORE = 40, 30, 4
QUERIES = 2
"""Captions of each new item that are queries."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODEL folder, trained on pictures, and other pictures with captions."""
    root = tmp_path_factory.mktemp("mteb")
    items = [
        {"item_id": f"{n}.png", "media": f"{n}.png", "modality": "image", "split": "train"} for n in range(TRAINED)
    ]
    for number in range(TRAINED):
        write_media(root / f"{number}.png", number)
    write_jsonl(root / "items.jsonl", items)
    lines = [{"item_id": f"{n}.png", "text": text} for n in range(TRAINED) for text in describe(n)]
    write_jsonl(root / "captions.jsonl", lines)
    extract_embeddings(root / "items.jsonl", root / "extracted", EmbeddingSettings("plain", workers=0))
    rows = root / "extracted" / "embeddings.npy"
    build_identifiers(rows, root / "extracted" / "items.jsonl", root / "identifiers", replace(QUICK, codebook_size=4))
    binarize(root / "identifiers", root / "captions.jsonl", root / "data-bin", embeddings=rows)
    run(*train_flags(root / "data-bin", root / "save", "--max-epoch", 8, "--dense-dim", 16, "--dense-weight", 1))
    export(root / "save" / "checkpoint_best.pt", root / "data-bin", root / "MODEL")
    for number in range(NEW):
        write_media(root / "new" / f"{number}.png", TRAINED + number)
    return root


def corpus(world: Path, count: int = NEW) -> Any:
    """Pictures; their ids are those of items that the model was trained on."""
    files = [str(world / "new" / f"{number}.png") for number in range(count)]
    made = {"id": [f"{number}.png" for number in range(count)], "image": files}
    return datasets.Dataset.from_dict(made).cast_column("image", datasets.Image())


def queries(count: int = NEW) -> dict[str, tuple[str, str]]:
    """Query id -> text and item id."""
    return {
        f"q{number}-{place}": (text, f"{number}.png")
        for number in range(count)
        for place, text in enumerate(describe(TRAINED + number)[:QUERIES])
    }


def task_of(world: Path, kind: type | None = None, **changed: Any) -> Any:
    """A task of mteb with the new pictures."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    asked = queries()
    split = {
        "corpus": corpus(world),
        "queries": datasets.Dataset.from_dict({"id": list(asked), "text": [text for text, _ in asked.values()]}),
        "relevant_docs": {number: {item: 1} for number, (_, item) in asked.items()},
        "top_ranked": None,
        **changed,
    }

    class Pictures(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="Pictures",
            description="generated pictures",
            dataset={"path": "none", "revision": "none"},
            type="Any2AnyRetrieval",
            category="t2i",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            modalities=["text", "image"],
            reference=None,
            date=None,
            domains=None,
            task_subtypes=None,
            license=None,
            annotations_creators=None,
            dialect=None,
            sample_creation=None,
            bibtex_citation="",
        )

        def load_data(self, **_: Any) -> None:
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Pictures()


def measured(model: CartSearch, task: Any) -> dict[str, Any]:
    """The metrics that mteb computes."""
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    [scores] = result.task_results[0].scores["test"]
    return dict(scores)


def expected(world: Path, folder: Path, beam: int | None = None) -> dict[str, Any]:
    """The metrics of `cart_fairseq.evaluate` on a copy of the MODEL folder with the same items."""
    copy = Path(shutil.copytree(world / "MODEL", folder / "MODEL"))
    items = [
        {"item_id": f"new {number}", "media": str(world / "new" / f"{number}.png"), "modality": "image"}
        for number in range(NEW)
    ]
    write_jsonl(folder / "items.jsonl", items)
    extract_embeddings(folder / "items.jsonl", folder / "embedded", EmbeddingSettings("plain", workers=0))
    add(copy, folder / "embedded" / "embeddings.npy", folder / "items.jsonl")
    rows = DataBin(copy).bundle.row_of
    np.save(copy / "candidates.new.npy", np.array(sorted(rows[item["item_id"]] for item in items)))
    asked = queries().values()
    lines = [{"item_id": f"new {item.removesuffix('.png')}", "text": text, "role": "query"} for text, item in asked]
    path = write_jsonl(folder / "queries.jsonl", lines)
    settings = EvaluationSettings(candidates="new", beam=beam, precision="float32")
    return evaluate(copy, None, path, copy, settings).figures


@pytest.mark.parametrize("beam", [None, 5])
def test_metrics_are_those_of_evaluate(beam, world, tmp_path):
    found = measured(
        CartSearch(world / "MODEL", beam=beam, depth=10, device="cpu", precision="float32"), task_of(world)
    )
    wanted = expected(world, tmp_path, beam=max(beam or 30, 10))
    assert wanted["queries"] == NEW * QUERIES
    assert wanted["candidates"] == NEW
    for name in METRIC_NAMES:
        assert found[name] == pytest.approx(wanted[name] / 100, abs=5e-5), name
    assert 0 < found["recall_at_1"] < found["recall_at_10"]


def test_the_example_of_the_guide_runs(world, tmp_path, monkeypatch):
    [example] = [each for each in fences(ROOT / "docs" / "benchmarks.md", "python") if "mteb" in each]
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path))
    monkeypatch.chdir(world)
    monkeypatch.setattr(mteb, "get_tasks", lambda tasks: [task_of(world)])  # its own tasks are downloads
    names: dict[str, Any] = {}
    exec(example, names)
    [result] = names["results"].task_results
    assert 0 < result.scores["test"][0]["recall_at_1"] < 1


def test_the_folder_is_only_read_and_the_copy_goes(world):
    before = {path: path.stat().st_mtime_ns for path in sorted((world / "MODEL").rglob("*"))}
    model = CartSearch(world / "MODEL", device="cpu", precision="float32")
    metadata = task_of(world).metadata
    common: dict[str, Any] = {"task_metadata": metadata, "hf_split": "test", "hf_subset": "default"}
    with pytest.raises(ValueError, match="search without index"):
        model.search(None, top_k=3, **common)
    asked = datasets.Dataset.from_dict({"id": ["a", "b"], "text": ["a red circle", "a blue square"]})
    folders = []
    for count in (NEW, MORE):
        model.index(corpus(world, count), encode_kwargs={}, num_proc=None, **common)
        found = model.search(asked, top_k=1000, encode_kwargs={}, num_proc=None, **common)
        assert set(found) == {"a", "b"}
        assert all(len(scores) == count for scores in found.values())
        assert all(len(set(scores.values())) == count for scores in found.values())
        assert model._folder is not None
        folders.append(Path(model._folder.name))
    assert not folders[0].exists()
    ranked = model.search(asked, top_k=2, top_ranked={"a": ["0.png", "2.png", "gone"], "b": ["1.png"]}, **common)
    assert [set(scores) for scores in ranked.values()] == [{"0.png", "2.png"}, {"1.png"}]
    model.close()
    assert not folders[1].exists()
    assert {path: path.stat().st_mtime_ns for path in sorted((world / "MODEL").rglob("*"))} == before


def test_mteb_records_name_and_revision(world, tmp_path):
    here = CartSearch(world / "MODEL", device="cpu").mteb_model_meta
    assert (here.name, here.revision) == ("cart-fairseq/MODEL", DataBin(world / "MODEL").bundle.state[:16])
    assert here.modalities == ["text", "image"]
    snapshot = tmp_path / "models--someone--my--dogs" / "snapshots" / ("0123" * 10)
    shutil.copytree(world / "MODEL", snapshot)
    published = CartSearch(snapshot, device="cpu").mteb_model_meta
    assert (published.name, published.revision) == ("someone/my--dogs", "0123" * 10)


@pytest.mark.parametrize(("column", "suffix"), [("audio", ".wav"), ("video", ".mp4")])
def test_sounds_and_videos_are_added_to_a_read_only_folder(column, suffix, world, tmp_path):
    for number in range(MORE):
        write_media(world / column / f"{number}{suffix}", number)
    files = [str(world / column / f"{number}{suffix}") for number in range(MORE)]
    feature = getattr(datasets, column.capitalize())
    made = datasets.Dataset.from_dict({"id": list("abcd"), column: files}).cast_column(column, feature())
    folder = Path(shutil.copytree(world / "MODEL", tmp_path / "MODEL"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    model = CartSearch(folder, device="cpu", precision="float32")
    common: dict[str, Any] = {"task_metadata": task_of(world).metadata, "hf_split": "test", "hf_subset": "default"}
    model.index(made, encode_kwargs={"batch_size": 2}, num_proc=None, **common)
    assert model._folder is not None
    inner = Path(model._folder.name) / "MODEL"
    assert all(path.stat().st_mode & 0o200 for path in (inner, *inner.rglob("*")))
    asked = datasets.Dataset.from_dict({"id": ["q"], "text": ["a red circle"]})
    assert set(model.search(asked, top_k=10, **common)["q"]) == set("abcd")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)


def test_what_cannot_be_run_is_refused(world):
    export_of_plain = OLD / "model"  # its data-bin names no encoder
    with pytest.raises(ValueError, match="does not say which encoder made its embeddings"):
        CartSearch(export_of_plain, device="cpu")
    model = CartSearch(world / "MODEL", device="cpu")
    texts = datasets.Dataset.from_dict({"id": ["a"], "text": ["words"]})
    with pytest.raises(ValueError, match="Pictures: the corpus has the columns id, text, expected id and one of image"):
        measured(model, task_of(world, corpus=texts))
    both = corpus(world).add_column("text", ["words"] * NEW)
    with pytest.raises(ValueError, match="its items have texts beside image"):
        measured(model, task_of(world, corpus=both))
    pictures = corpus(world).select(range(2)).rename_column("id", "number").add_column("id", list(queries())[:2])
    with pytest.raises(ValueError, match="only tasks whose queries are texts can be run"):
        measured(model, task_of(world, queries=pictures))


def test_a_model_without_a_dense_head_is_refused(tmp_path):
    export(OLD / "plain.pt", OLD / "plain" / "data-bin", tmp_path / "MODEL")
    with pytest.raises(ValueError, match="the model has no dense head, and without one it does not know items"):
        CartSearch(tmp_path / "MODEL", device="cpu")
