"""Queries, candidates, captions and names as people and their programs give them."""

import copy
import json
import pickle
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from annotation_samples import make_samples, write_flickr30k
from mutations import OLD, make_world
from processes import needs_fork

from cart_fairseq import CartRetriever
from cart_fairseq.base.reading import read_jsonl
from cart_fairseq.queries.codec import beginning
from preprocess.annotations import __main__ as annotations
from preprocess.data.inputs import read_captions
from preprocess.data_bin.vocabulary import QueryVocabulary, train_sentencepiece
from preprocess.inspect_identifiers import main as inspect


@pytest.fixture(scope="module")
def retriever() -> CartRetriever:
    return CartRetriever.from_pretrained(OLD / "plain.pt", data=OLD / "plain" / "data-bin", device="cpu")


@pytest.mark.parametrize("wrong", ["\ud83d", None, float("nan"), 7, b"a dog", ["a dog"], "", " \n"], ids=repr)
def test_a_query_that_is_no_text_is_named_by_its_place(retriever: CartRetriever, wrong):
    with pytest.raises(ValueError, match=r"^query 1 (is|holds) "):
        retriever.search(["a red dog", wrong])


@pytest.mark.parametrize("row", [-1, 48, 1.0, float("nan")])
def test_candidate_rows_outside_the_catalogue_are_refused(retriever: CartRetriever, row):
    with pytest.raises(ValueError, match=r"rows of candidates are .*; give whole numbers from 0 to 47"):
        retriever.data.candidate_set(np.array([3, row]))


def test_a_retriever_can_be_copied_and_pickled(retriever: CartRetriever):
    expected = retriever.search(["a red dog"], k=3)
    for other in (copy.copy(retriever), copy.deepcopy(retriever), pickle.loads(pickle.dumps(retriever))):
        assert other.search(["a red dog"], k=3) == expected


FORKING = """
import os, sys, torch
from cart_fairseq import CartRetriever
retriever = CartRetriever.from_pretrained(sys.argv[1], data=sys.argv[2], device="cpu")
torch.set_num_threads(2)
torch.randn(1000, 1000) @ torch.randn(1000, 1000)
expected = retriever.search(["a red dog"] * 100, k=3)
child = os.fork()
if child == 0:
    os._exit(0 if retriever.search(["a red dog"] * 100, k=3) == expected else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@needs_fork
def test_a_search_in_a_forked_process_ends():
    command = [sys.executable, "-c", FORKING, OLD / "plain.pt", OLD / "plain" / "data-bin"]
    assert subprocess.run(command, cwd=OLD.parents[1], timeout=200).returncode == 0


def test_megabytes_of_caption_cost_no_minutes():
    texts = [f"a dog number {i} runs" for i in range(50)]
    long = "a red dog " * 100_000
    vocabulary = QueryVocabulary(train_sentencepiece([*texts, long, "x" * 1_000_000], 60, 1))
    assert vocabulary.encode([beginning(long, 256)])[0][:255] == vocabulary.encode([long[:20_000]])[0][:255]


def test_a_query_of_megabytes_is_its_beginning(retriever: CartRetriever):
    assert retriever.search(["a red dog " * 200_000]) == retriever.search(["a red dog " * 1000])


HINTS = [
    ({"item_id": "a", "caption": "a dog"}, "text is None; rename its field 'caption' to 'text'"),
    ({"id": "a", "text": "a dog"}, "item_id is missing; rename its field 'id' to 'item_id'"),
    ({"item_id": "a", "text": "a dog", "split": "val"}, "split is 'val', .*; write 'valid'"),
    ({"item_id": "a", "text": "a dog", "split": "dev"}, "split is 'dev', .*; write 'valid'"),
    ({"item_id": "a", "text": "a dog", "split": "Test"}, "split is 'Test', .*; write 'test'"),
]


@pytest.mark.parametrize(("row", "said"), HINTS, ids=lambda value: str(value)[:40])
def test_names_of_other_data_sets_get_a_hint(tmp_path: Path, row: dict, said: str):
    (tmp_path / "captions.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"captions\.jsonl, row 1: {said}"):
        read_captions(tmp_path / "captions.jsonl", [{"item_id": "a"}])


def test_media_whose_names_store_accents_apart_are_found(tmp_path: Path):
    names = write_flickr30k(tmp_path, make_samples())
    source = tmp_path / "dataset_flickr30k.json"
    whole = json.loads(source.read_text())
    for number, image in enumerate(whole["images"]):
        image["filename"] = f"zürich {number}.jpg"
    source.write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "media").mkdir()
    apart = [unicodedata.normalize("NFD", f"zürich {number}.jpg") for number in range(len(names))]
    for name in apart:
        (tmp_path / "media" / name).touch()
    annotations.main(
        [
            "karpathy",
            "--annotations",
            str(source),
            "--media",
            str(tmp_path / "media"),
            "--output",
            str(tmp_path / "out"),
        ]
    )
    assert [Path(row["media"]).name for row in read_jsonl(tmp_path / "out" / "items.jsonl")] == apart


def test_the_report_takes_the_folder_of_a_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    make_world(tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    inspect(["--identifiers", "data-bin/identifiers", "--embeddings", "joined", "--output", "report.html"])
    assert "t-SNE" in Path("report.html").read_text(encoding="utf-8")
