"""fairseq's own commands on the small world: train, resume, validate, generate, interactive, ensembles, workers."""

import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from commands import ENVIRONMENT, TASK, generate, logged, run, train_flags, validate
from processes import started

from cart_fairseq import CartRetriever
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.measuring.labels import METRIC_NAMES


@pytest.fixture(scope="module")
def trained(data_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of a short training run, one an epoch."""
    save = tmp_path_factory.mktemp("trained")
    output = run(*train_flags(data_bin, save, "--max-epoch", 3), cold=True)
    recall = logged(output, "valid_recall_at_1")
    assert len(recall) == 3
    assert all(0 <= value <= 100 for value in recall)
    return save


def test_validate_generate_and_python_agree(data_bin, trained, tmp_path):
    best = trained / "checkpoint_best.pt"
    metrics = generate(data_bin, best, tmp_path, cold=True)
    assert metrics["queries"] == 24
    assert metrics["candidates"] == 8
    validated = validate(data_bin, best, cold=True)
    assert validated == pytest.approx({k: v for k, v in metrics.items() if "_at_" in k}, abs=0.01)

    queries = pq.read_table(data_bin / "queries.test.parquet").to_pylist()
    retriever = CartRetriever.from_pretrained(best, data=data_bin)
    found = retriever.search([query["text"] for query in queries], k=5, candidates="test")
    rows = [retriever.data.bundle.row_of[hits[0].item_id] for hits in found]
    right = sum(row == query["item_row"] for row, query in zip(rows, queries, strict=True))
    assert 100 * right / len(queries) == pytest.approx(metrics["recall_at_1"])


def test_ensembles_and_averaged_checkpoints(data_bin, trained, tmp_path):
    first, last = trained / "checkpoint1.pt", trained / "checkpoint3.pt"
    one = generate(data_bin, first, tmp_path / "one")
    assert generate(data_bin, f"{first}:{first}", tmp_path / "same") == one
    generate(data_bin, f"{first}:{last}", tmp_path / "two")
    both = CartRetriever.from_pretrained(f"{first}:{last}", data=data_bin)
    assert len(both.search(["red dog"], k=3)[0]) == 3
    # the script that fairseq ships outside its package: mean of every entry of the model
    states = [torch.load(path, weights_only=True) for path in (first, last)]
    mean = {k: (states[0]["model"][k] + states[1]["model"][k]) / 2 for k in states[0]["model"]}
    torch.save({**states[0], "model": mean}, tmp_path / "average.pt")
    assert generate(data_bin, tmp_path / "average.pt", tmp_path / "mean")["queries"] == 24


@pytest.mark.parametrize("precision", [[], ["--fp16"]])
def test_interactive_answers_with_item_ids(data_bin, trained, precision):
    flags = ["--path", trained / "checkpoint_best.pt", "--beam", 30, "--nbest", 2, "--cpu", "--buffer-size", 2]
    text = "a red dog\nGREEN   tree 😀\n"
    command = [data_bin, *TASK, *flags, "--batch-size", 2, *precision]
    output = run(*command, module="fairseq_cli.interactive", stdin=text, cold=not precision)
    hits = re.findall(r"^D-(\d)\t(-[\d.]+)\t(item \d+)$", output, re.M)
    assert [number for number, _, _ in hits] == ["0", "0", "1", "1"]
    expected = CartRetriever.from_pretrained(trained / "checkpoint_best.pt", data=data_bin).search(
        text.splitlines(), k=2
    )
    assert [item for _, _, item in hits] == [hit.item_id for row in expected for hit in row]
    scores = [float(score) * 0.6931472 for _, score, _ in hits]
    assert scores == pytest.approx([hit.score for row in expected for hit in row], abs=1e-3)


def test_two_workers_train_and_measure_like_one(data_bin, tmp_path, warm):
    """Two data-parallel processes (gloo); what they log together is what one process measures on the whole set."""
    shared = "--distributed-world-size 2 --distributed-no-spawn --distributed-backend gloo --ddp-backend legacy_ddp"
    shared += f" --distributed-init-method file://{tmp_path}/rendezvous"
    flags = train_flags(data_bin, tmp_path, "--max-epoch", 2, *shared.split())
    command = [warm.python, "-m", "fairseq_cli.train", *flags, "--distributed-rank"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": ENVIRONMENT}
    with started([*command, 0], **streams) as first, started([*command, 1], **streams) as second:
        outputs = [worker.communicate()[0] for worker in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs[0][-3000:]
    together = {name: logged(outputs[0], f"valid_{name}")[-1] for name in METRIC_NAMES}
    alone = validate(data_bin, tmp_path / "checkpoint_last.pt", "--valid-subset", "valid")
    assert together == pytest.approx(alone, abs=0.011)  # both are rounded to two decimals
    assert 0 < together["recall_at_5"] < 100


def test_a_killed_run_resumes_to_the_same_result(data_bin, tmp_path):
    flags = ["--max-epoch", 4, "--save-interval-updates", 1, "--keep-interval-updates", 1, "--no-epoch-checkpoints"]
    unbroken = run(*train_flags(data_bin, tmp_path / "unbroken", *flags))
    command = [sys.executable, "-m", "fairseq_cli.train", *train_flags(data_bin, tmp_path / "killed", *flags)]
    with started(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "killed" / "checkpoint_last.pt").is_file() and process.poll() is None:
            time.sleep(0.01)
        assert process.poll() is None
    resumed = run(*train_flags(data_bin, tmp_path / "killed", *flags))
    assert "Loaded checkpoint" in resumed
    for key in ("valid_recall_at_1", "valid_mrr_at_10", "valid_loss"):
        assert logged(resumed, key)[-1] == logged(unbroken, key)[-1]
    weights = [
        torch.load(tmp_path / n / "checkpoint_last.pt", weights_only=True)["model"] for n in ("unbroken", "killed")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    "flags",
    [
        ["--update-freq", "2"],
        ["--bf16"],
        ["--fp16"],
        ["--memory-efficient-bf16"],
        ["--shared-encoder", "--fusion", "none"],
    ],
)
def test_training_options(data_bin, tmp_path, flags):
    output = run(*train_flags(data_bin, tmp_path, "--max-epoch", 1, *flags))
    assert len(logged(output, "valid_recall_at_1")) == 1


def test_candidates_all_is_harder_than_split(data_bin, trained):
    best = trained / "checkpoint_best.pt"
    everything, split = validate(data_bin, best, "--candidates", "all"), validate(data_bin, best)
    assert everything["recall_at_10"] <= split["recall_at_10"]
    assert split["recall_at_10"] == 100  # only 8 items compete


def test_a_checkpoint_of_other_data_is_refused(trained, tmp_path):
    from conftest import make_bundle, make_captions

    from preprocess.data_bin.build import binarize

    make_bundle(tmp_path / "identifiers", seed=9)
    captions = make_captions(tmp_path / "captions.jsonl")
    binarize(tmp_path / "identifiers", captions, tmp_path / "bin")
    with pytest.raises(ValueError, match="belongs to other identifiers"):
        CartRetriever.from_pretrained(trained / "checkpoint_best.pt", data=tmp_path / "bin")
    output = run(
        tmp_path / "bin", *TASK, "--path", trained / "checkpoint_best.pt", module="fairseq_cli.generate", fails=True
    )
    assert "belongs to other identifiers" in output


class Trap:
    """What a hostile checkpoint could hold: unpickling it would make a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_damaged_and_hostile_checkpoints_are_refused(data_bin, trained, tmp_path):
    good = trained / "checkpoint_best.pt"
    torch.save({**torch.load(good, weights_only=True), "extra": Trap(tmp_path / "sprung")}, tmp_path / "hostile.pt")
    (tmp_path / "short.pt").write_bytes(good.read_bytes()[:-1000])
    (tmp_path / "empty.pt").touch()
    for name in ("hostile.pt", "short.pt", "empty.pt"):
        with pytest.raises(ValueError, match=rf"{name}: not a checkpoint that can be read"):
            CartRetriever.from_pretrained(tmp_path / name, data=data_bin)
    output = run(data_bin, *TASK, "--path", tmp_path / "hostile.pt", module="fairseq_cli.generate", fails=True)
    assert "Weights only load failed" in output
    assert not (tmp_path / "sprung").exists()


def test_search_refuses_what_it_cannot_answer(data_bin, trained, tmp_path):
    retriever = CartRetriever.from_pretrained(trained / "checkpoint_best.pt", data=data_bin)
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((["a"], 0), "k is 0"),
        ((["a", "  "],), "query 1 is empty"),
        (("a dog",), "give a list"),
        ((["a"], 1, ["item 0", "item x"]), "'item x' is not in the catalogue"),
        ((["a"], 1, []), "no candidate"),
        ((["a"], 1, "nothing"), "no candidate set 'nothing'"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            retriever.search(*arguments)
    assert retriever.search([]) == []
    few = retriever.search(["red dog"], k=10, candidates=["item 3", "item 1"])[0]
    assert sorted(hit.item_id for hit in few) == ["item 1", "item 3"]
    assert few[0].record["media"] == f"{few[0].item_id.split()[1]}.png"
    everything = retriever.search(["red dog"], k=100)[0]
    assert len({hit.item_id for hit in everything}) == 24
    with pytest.raises(ValueError, match="no such checkpoint"):
        CartRetriever.from_pretrained(tmp_path / "none.pt", data=data_bin)


@pytest.mark.parametrize(
    ("scoring", "precision"), [("masked", "int8"), ("renormalised", "bf16"), ("renormalised", "float32")]
)
def test_generation_with_another_scoring_or_precision(data_bin, trained, tmp_path, scoring, precision):
    best = trained / "checkpoint_best.pt"
    flags = ["--beam-scoring", scoring, "--inference-precision", precision]
    assert generate(data_bin, best, tmp_path, *flags)["queries"] == 24
    lines = re.findall(r"^D-0\t(-[\d.]+)\t(item \d+)$", (tmp_path / "generate-test.txt").read_text(), re.M)
    text = pq.read_table(data_bin / "queries.test.parquet")["text"][0].as_py()
    retriever = CartRetriever.from_pretrained(best, data_bin, precision=precision, scoring=scoring)
    hits = retriever.search([text], k=10, candidates="test")[0]
    # int8 quantises activations batch by batch
    close = 1e-3 if precision == "float32" else 0.2
    assert [float(score) * 0.6931472 for score, _ in lines] == pytest.approx([hit.score for hit in hits], abs=close)
    if precision == "float32":
        assert [item for _, item in lines] == [hit.item_id for hit in hits]
        assert sum(math.exp(hit.score) for hit in hits) == pytest.approx(1, abs=1e-3)


def test_a_trie_of_other_identifiers_or_a_truncated_one_is_refused(data_bin, trained, tmp_path):
    copy = tmp_path / "data-bin"
    shutil.copytree(data_bin, copy)
    trie = copy / "trie.safetensors"
    whole = trie.read_bytes()
    trie.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"trie.safetensors: \d+ bytes, the manifest says"):
        CartRetriever.from_pretrained(trained / "checkpoint_best.pt", copy)
    data = DataBin(data_bin)
    data.trie.save(trie, "0" * 64)
    assert len(trie.read_bytes()) == len(whole)
    with pytest.raises(ValueError, match=r"trie.safetensors: belongs to other identifiers"):
        CartRetriever.from_pretrained(trained / "checkpoint_best.pt", copy).search(["red dog"])
