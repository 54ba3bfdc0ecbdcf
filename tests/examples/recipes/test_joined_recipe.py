"""The recipe `joined` from end to end on a small catalogue, and that captions which measure leave no trace in it."""

import itertools
import shlex
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import tiny_text_encoders as tiny
from conftest import load_example
from join_samples import ITEMS, captions_of_items, world
from recipe_calls import Stopped, call, training_here

from cart_fairseq.base.reading import read_json
from cart_fairseq.loading.checkpoint import read_checkpoint
from cart_fairseq.retriever import CartRetriever
from preprocess import binarize, build_identifiers, generate_captions, join_captions

SMALL = ("--arch", "cart_tiny", "--batch-size", "16", "--max-epoch", "2", "--lr", "0.01")
JOIN = "--text-dim 6 --pca 5"


@pytest.fixture
def data(tmp_path):
    world(tmp_path / "data")
    return tmp_path / "data"


def test_the_recipe_from_data_to_figures_and_again(data, tmp_path):
    out = tmp_path / "out"
    with training_here():
        said = call("own_data/run", data, out, *SMALL, RECIPE="joined", JOIN_FLAGS=JOIN)
    assert "identifiers alone" in said
    tuned, record, metrics = (read_json(out / name) for name in ("tuned.json", "run.json", "metrics.json"))
    assert record["metrics"]["split"] == metrics
    assert (record["recipe"], record["seed"], record["index_captions"]) == ("joined", 1, "include")
    assert record["joined"]["align"] == 256
    assert {"processor", "cores", "threads", "memory_gb"} <= record["machine"].keys()
    assert record["machine"]["versions"]["torch"] == metadata.version("torch")
    assert record["identifiers"] == {"scheme": "residual-kmeans", "dimension": 6 + 256}
    assert "--index-repeats" in record["train_flags"]
    last = read_checkpoint(out / "checkpoints" / "checkpoint_last.pt")
    assert record["updates"] == last["optimizer_history"][-1]["num_updates"] > 0
    assert str(tmp_path) not in str(record)
    kept = next(row for row in tuned["weights"] if row["weight"] == tuned["best"])
    assert metrics["valid"]["recall_at_1"] == pytest.approx(kept["recall_at_1"], abs=1e-3)
    best = out / "checkpoints" / "checkpoint_best.pt"
    dense = CartRetriever.from_pretrained(best, data=out / "data-bin").models[0].dense
    assert dense is not None
    assert float(dense.weight) == tuned["best"]
    times = {path: path.stat().st_mtime_ns for path in (best, out / "tuned.json", out / "joined" / "join.json")}
    with training_here() as trainings:
        assert "nothing to do" in call("own_data/run", data, out, *SMALL, RECIPE="joined", JOIN_FLAGS=JOIN)
    assert not trainings.calls
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_without_index_captions_and_with_a_pretrained_encoder(data, tmp_path):
    encoder = tiny.save(tmp_path / "model", "bert")
    out = tmp_path / "out"
    flags = {"RECIPE": "joined", "INDEX_CAPTIONS": "borrowed", "TEXT_ENCODER": str(encoder), "JOIN_FLAGS": "--pca 5"}
    with training_here():
        call("flickr8k/run", data, out, *SMALL, **flags)
    record = read_json(out / "run.json")
    assert record["index_captions"] == "borrowed"
    assert record["text_encoder"].endswith("model")
    assert record["joined"]["index_captions"] == "exclude"
    assert record["joined"]["keep_embedding"]
    assert {"tfidf", "ridge"} <= read_json(out / "baselines.json")["systems"].keys()


@pytest.mark.parametrize("borrowed", [False, True], ids=["include", "borrowed"])
@pytest.mark.parametrize("encoder", [False, True], ids=["scratch", "pretrained"])
def test_captions_that_measure_leave_no_trace(tmp_path, borrowed, encoder):
    """Join, identifiers and data-bin come out the same, but for the queries, when every query says something else."""
    marked = captions_of_items()
    for row in marked:
        if row["role"] == "query" or (borrowed and row["role"] == "index"):
            row["text"] = "xylophone marker " + row["text"].replace("red", "dog dog dog")
    model = ["--text-encoder", tiny.save(tmp_path / "model", "bert")] if encoder else ["--vocab-size", "60"]
    texts = ["--text-features", model[1]] if encoder else ["--text-dim", "6"]
    found = {}
    for name, captions in (("plain", captions_of_items()), ("marked", marked)):
        folder = tmp_path / name
        argv = [*world(folder, captions), "--pca", "5", "--align", "8", *texts]
        argv += ["--index-captions", "exclude", "--keep-embedding"] if borrowed else []
        join_captions.main(list(map(str, argv)))
        source = folder / "captions.jsonl"
        if borrowed:
            flags = [
                "--items",
                folder / "items.jsonl",
                "--captions",
                source,
                "--captioner",
                "neighbours",
                "--splits",
                "valid",
            ]
            flags += ["--embeddings", folder / "joined" / "aligned.npy", "--output", folder / "more.jsonl"]
            generate_captions.main(list(map(str, flags)))
            source = folder / "more.jsonl"
        flags = [
            "--embeddings",
            folder / "joined",
            "--items",
            folder / "items.jsonl",
            "--output",
            folder / "identifiers",
        ]
        flags += ["--scheme", "residual-kmeans", "--kmeans-clusters", 4, "--codebook-size", 4, "--allow-collapse"]
        build_identifiers.main(list(map(str, flags)))
        flags = ["--identifiers", folder / "identifiers", "--captions", source, "--output", folder / "data-bin", *model]
        flags += ["--embeddings", folder / "joined", "--index-captions", "borrowed" if borrowed else "include"]
        binarize.main(list(map(str, flags)))
        files = [path for part in ("joined", "identifiers", "data-bin") for path in (folder / part).rglob("*")]
        found[name] = {path.relative_to(folder): path for path in files if path.is_file()}
    assert found["plain"].keys() == found["marked"].keys()
    differing = {
        str(name) for name, path in found["plain"].items() if path.read_bytes() != found["marked"][name].read_bytes()
    }
    measured = {
        name for name in differing if Path(name).name.startswith(("valid.", "test.", "queries.valid", "queries.test"))
    }
    assert measured
    # records of what the files were made from
    records = {"joined/join.json", "data-bin/join.json", "data-bin/manifest.json"}
    records |= {f"{top}identifiers/{name}.json" for top in ("", "data-bin/") for name in ("report", "manifest")}
    assert differing - measured <= records
    trained = [path for name, path in found["marked"].items() if "valid" not in name.name and "test" not in name.name]
    assert not [path for path in trained if b"xylophone" in path.read_bytes()]
    rows = np.load(tmp_path / "marked/data-bin/dense.embeddings.npy")
    assert len(rows) == ITEMS


@pytest.mark.parametrize(
    ("variable", "value"), [("INDEX_CAPTIONS", "borrowed"), ("TEXT_ENCODER", "bert"), ("JOIN_FLAGS", "--pca 5")]
)
def test_what_only_this_recipe_reads_is_refused_elsewhere(data, tmp_path, variable, value):
    said = f"^{variable}: only RECIPE=joined reads this, and the recipe is cpu; leave it out, or set RECIPE=joined$"
    with pytest.raises(ValueError, match=said):
        call("own_data/run", data, tmp_path / "out", RECIPE="cpu", **{variable: value})
    assert not (tmp_path / "out").exists()


def test_flags_of_a_join_may_hold_names_of_any_kind(data, tmp_path):
    flags = f"{JOIN} --embedding-column " + shlex.quote("it's [a] $(join)")
    with training_here(stop_at=tmp_path / "out" / "checkpoints"), pytest.raises(Stopped):
        call("own_data/run", data, tmp_path / "out", RECIPE="joined", JOIN_FLAGS=flags)


def test_the_schedule_counts_what_is_repeated():
    defaults = load_example("recipes", "defaults")
    manifest = {
        "counts": {"train": {"queries": 2560}},
        "files": {"train.query-id.query.bin": {"bytes": 2560 * 40}},
        "index_captions": "include",
    }

    def period(repeated: int, **more: str) -> int:
        flags = defaults.train_flags(
            {**manifest, **more}, "joined", defaults.Machine("cpu"), ["--max-epoch", "10"], repeated
        )
        return int(flags[flags.index("--lr-period-updates") + 1]) + int(flags[flags.index("--warmup-updates") + 1])

    assert period(0) == 400
    assert period(2560 * 9) == 1000
    for items, clusters in ((60, "2"), (1_776, "59"), (8_000, "128"), (10**6, "128")):
        found = defaults.identifier_flags(items, "joined")
        assert found[1] == found[3] == clusters
        assert ("--allow-collapse" in found) == (clusters != "128")
    for known, repeats, dropout in (("include", "6", None), ("borrowed", "1", "0.4")):
        flags = defaults.train_flags({**manifest, "index_captions": known}, "joined", defaults.Machine("cpu"), [])
        assert flags[flags.index("--index-repeats") + 1] == repeats
        assert flags[flags.index("--distillation-weight") + 1] == "0.7"
        assert dict(itertools.pairwise(flags)).get("--dense-dropout") == dropout
