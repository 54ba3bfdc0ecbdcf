"""The tables of examples/flickr8k: references beside runs (comparison.py), and what carries the recipe (ablations.py)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_text_encoders as tiny
from conftest import load_example
from join_samples import world
from recipe_calls import joined_run
from recipe_samples import write_data
from scipy.sparse import csr_matrix

from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from preprocess import join_captions

ROOT = Path(__file__).resolve().parents[3]
baselines = load_example("flickr8k", "baselines")
compare = load_example("flickr8k", "comparison")
carried = load_example("flickr8k", "ablations")
flickr8k, recipes = load_example("flickr8k", "flickr8k"), load_example("recipes", "settings")
SMALL = ["--pca", "5", "--align", "8"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Every item has a caption beside its queries."""
    folder = tmp_path_factory.mktemp("data")
    world(folder)
    rows = (folder / "captions.jsonl").read_text().splitlines()
    bare = '{"item_id": "i8", "text": "red cat", "role": "index"}'
    (folder / "captions.jsonl").write_text("\n".join([*rows, bare]) + "\n")
    return folder


def write_run(folder, tuned):
    figures = dict.fromkeys(compare.METRIC_NAMES, 12.0)
    weights = [{"weight": weight, **dict.fromkeys(compare.METRIC_NAMES, 10.0 + weight)} for weight in (0.0, 2.0)]
    record = {"metrics": {"split": {"valid": figures}, "all": {"valid": figures}}}
    write_json(folder / "run.json", record | {"tuned": {"best": 2.0, "weights": weights} if tuned else None})


def test_references_are_those_of_baselines(data):
    references = compare.References(data, "include")
    figures = references.measure(references.plain)
    expected, _ = baselines.measure(data, None, "valid")
    for name, other in (("ridge", "ridge"), ("TF-IDF", "tfidf")):
        for metric, value in expected["systems"][other].items():
            assert figures[name]["split"][metric] == pytest.approx(value, abs=1e-3)
    assert figures.keys() == {"TF-IDF", "ridge", "TF-IDF + 2 x ridge"}
    assert figures["ridge"]["all"]["recall_at_10"] <= figures["ridge"]["split"]["recall_at_10"]


def test_without_index_captions_no_text_of_the_candidates_is_known(data):
    references = compare.References(data, "exclude")
    assert references.measure(references.plain).keys() == {"ridge"}
    assert all(caption.role == "train" for caption in references.known)


@pytest.mark.parametrize("sparse", [True, False])
def test_best_captions_by_hand(data, sparse):
    references = compare.References(data, "include")
    draw = np.random.default_rng(0)
    known = draw.random((len(references.known), 5), dtype=np.float32)
    asked = draw.random((len(references.queries), 5), dtype=np.float32)
    rows = references.candidates["split"]
    given = [csr_matrix(each) for each in (known, asked)] if sparse else [known, asked]
    found = references.best_captions(*given, rows)
    for column, row in enumerate(rows):
        own = known[references.owner == row]
        np.testing.assert_allclose(found[:, column], (asked @ own.T).max(axis=1), rtol=1e-5)


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_join_adds_its_towers_and_a_sentence_encoder_its_texts(data, tmp_path, pretrained):
    features = ["--text-features", str(tiny.save(tmp_path / "model", "bert"))] if pretrained else ["--text-dim", "6"]
    names = {"embeddings": "embeddings.npy", "items": "items.jsonl", "captions": "captions.jsonl"}
    argv = [text for name, file in names.items() for text in (f"--{name}", str(data / file))]
    join_captions.main([*argv, "--output", str(tmp_path / "joined"), *SMALL, *features])
    references = compare.References(data, "include")
    scores = references.of_join(tmp_path / "joined")
    shape = (len(references.queries), len(references.candidates["split"]))
    systems = scores(references.candidates["split"])
    texts = {"sentence encoder", "sentence encoder + ridge", "sentence encoder + dual tower"}
    assert systems.keys() == {"dual tower", "dual tower with priors"} | (texts if pretrained else set())
    assert all(found.shape == shape for found in systems.values())
    towers = compare.JoinedTowers(tmp_path / "joined")
    assert np.abs(systems["dual tower"]).max() <= 1.01 * towers.scale
    lost = (systems["dual tower"] - systems["dual tower with priors"]) / towers.scale
    np.testing.assert_allclose(lost, np.broadcast_to(lost[:1], shape), atol=1e-5)  # the same of every query
    assert np.ptp(lost[0]) > 0.001
    join_captions.main([*argv, "--output", str(tmp_path / "plain"), "--pca", "5", *features])
    with pytest.raises(ValueError, match="has no towers; run join_captions with --align"):
        references.of_join(tmp_path / "plain")


@pytest.mark.filterwarnings("ignore")
def test_the_dense_head_alone_ranks_every_candidate(tmp_path):
    out = joined_run(write_data(tmp_path / "data"), tmp_path / "out")
    found = compare.dense_head_of(out)["dense head alone"]
    retriever = compare.CartRetriever.from_pretrained(out / "checkpoints" / "checkpoint_best.pt", out / "data-bin")
    items = len(retriever.data.trie)
    exhaustive = compare.CartRetriever.from_pretrained(
        out / "checkpoints" / "checkpoint_best.pt", out / "data-bin", beam=items, dense_weight=1e6
    )
    asked = retriever.data.queries("valid", ("text", "item_row"))
    for name, chosen in (("split", "valid"), ("all", None)):
        hits = exhaustive.search(asked["text"].to_pylist(), k=1, candidates=chosen)
        first = [own[0].row == row for own, row in zip(hits, asked["item_row"].to_pylist(), strict=True)]
        assert found[name]["recall_at_1"] == pytest.approx(100 * np.mean(first), abs=1e-3)
    assert compare.dense_head_of(tmp_path) == {}


def test_the_table_has_what_is_there(data, tmp_path, capsys):
    write_run(tmp_path / "paper", tuned=False)
    write_run(tmp_path / "scratch", tuned=True)
    compare.main(["--data", str(data), "--runs", str(tmp_path), "--json", str(tmp_path / "all.json")])
    lines = capsys.readouterr().out.splitlines()
    assert (
        "| the paper's method, small recipe: identifiers | 12.0 | 12.0 | 12.0 | 12.0 | 12.0 | 12.0 | 12.0 | 12.0 |"
        in lines
    )
    assert "| CART, recommended: identifiers alone | 10.0 | 10.0 | 10.0 | 10.0 | – | – | – | – |" in lines
    assert (
        "| CART, recommended: identifiers and dense head | 12.0 | 12.0 | 12.0 | 12.0 | 12.0 | 12.0 | 12.0 | 12.0 |"
        in lines
    )
    assert [line for line in lines if line.startswith("| *")] == [
        f"| *{title}* |" + " |" * 8
        for title in ("nothing pretrained on text, index captions included", "without index captions")
    ]
    written = read_json(tmp_path / "all.json")
    assert list(written) == [
        *("command", "commit", "machine", "settings", "seed"),
        "nothing pretrained on text, index captions included",
        "without index captions",
    ]
    assert written["machine"]["versions"]["torch"] != "not installed"


def test_ablations_name_their_runs_and_average_seeds(tmp_path):
    runs = carried.variants()
    assert len({run.name for run in runs}) == len(runs)
    assert [run.seed for run in runs if run.line.name == "full"] == [1, 2, 3]
    assert runs[0].name == "full-1"
    changed = {run.line.name: run.line for run in runs if run.seed == 1}
    assert changed["borrowed"] == carried.Line(
        name="borrowed", says="no index captions, but five of near training items", captions="borrowed"
    )
    assert changed["two-levels"].identifiers == ("--codebooks", "1")
    assert changed["dropout-0.1"].train == ("--dropout", "0.1")
    assert changed["beam-10"].search == ("--beam", "10")
    assert [line.captions for line in changed.values() if line.captions] == ["exclude", "borrowed"]
    assert {run.line.name for run in carried.variants(["rdrop", "beam-10"])} == {"rdrop", "beam-10"}
    with pytest.raises(ValueError, match=r"no line 'rdrop-7'; there are full, "):
        carried.variants(["rdrop-7"])
    record: dict[str, Any] = {
        "commit": "abc",
        "minutes": 1.5,
        "train_flags": ["--lr", "1"],
        "identifiers": {"scheme": "x"},
    }
    for seed, figure in ((1, 30.0), (2, 32.0), (3, 34.0)):
        weights = [{"weight": w, **dict.fromkeys(compare.METRIC_NAMES, figure + w)} for w in (0.0, 5.0)]
        write_json(
            tmp_path / f"full-{seed}.json",
            record | {"tuned": {"best": 5.0, "beam": 30, "weights": weights}, "seed": seed},
        )
    found = carried.collect(tmp_path)
    lines = carried.table(found).splitlines()
    assert lines[2] == "| the recipe, small | 32.0 ± 2.0 | 32.0 ± 2.0 | 37.0 ± 2.0 | 37.0 ± 2.0 | 3 |"
    assert len(lines) == 3  # lines without a run are left out
    full = found["full"]
    assert [one["seed"] for one in full] == [1, 2, 3]
    assert full[0]["alone"]["recall_at_1"] == 30.0
    assert full[0]["together"]["recall_at_1"] == 35.0
    assert {name: full[0][name] for name in record} == record | {"train_flags": "--lr 1"}


def test_the_comparison_holds_the_figures_of_its_runs(tmp_path):
    runs = ROOT / "examples/flickr8k/runs"
    sections = read_json(runs / "comparison.json")
    scratch, pretrained, borrowed = (
        next(title for title in sections if title.startswith(start)) for start in ("nothing", "pretrained", "without")
    )
    records = {"scratch": "scratch-words", "paper": "paper", "pretrained": "pretrained-words", "borrowed": "borrowed"}
    for name, section in {"scratch": scratch, "paper": scratch, "pretrained": pretrained, "borrowed": borrowed}.items():
        write_json(tmp_path / "run.json", read_json(runs / f"{records[name]}.json"))
        for system, figures in compare.of_run(tmp_path).items():
            assert sections[section][f"{compare.RUNS[name]}: {system}"] == figures


def test_the_recipe_paper_keeps_its_own_length_and_size():
    assert flickr8k.length_and_size(recipes.Settings(recipe="paper")) == []
    assert flickr8k.length_and_size(recipes.Settings(recipe="cpu")) == ["--max-epoch", "20"]
