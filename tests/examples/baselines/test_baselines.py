"""The simple methods of examples/flickr8k/baselines.py, on a miniature."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from cart_fairseq.catalogue.identifiers import write_bundle
from cart_fairseq.catalogue.positions import Position, unique_tokens
from cart_fairseq.rqvae.network import RQVAE
from preprocess.identifiers.codec import load_codec
from preprocess.identifiers.schemes.coarse_fine import ResidualCodec
from preprocess.identifiers.schemes.tree import TreeCodec

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "flickr8k" / "baselines.py"
THINGS = [
    f"{colour} {animal}" for colour in ("red", "green", "blue", "grey") for animal in ("cat", "dog", "hen", "fox")
]


@pytest.fixture(scope="module")
def baselines() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flickr8k_baselines", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Every colour and animal thrice for training, once for valid; embeddings add up from both, with a little noise."""
    generator = np.random.default_rng(0)
    directions = {word: generator.normal(size=24) for thing in THINGS for word in thing.split()}
    items, captions, embeddings = [], [], []
    for copy in range(4):
        for thing in THINGS:
            name, split = f"{thing} {copy}", "valid" if copy == 3 else "train"
            items.append({"item_id": name, "split": split})
            embeddings.append(sum(directions[word] for word in thing.split()) + 0.05 * generator.normal(size=24))
            if split == "train":
                captions += [{"item_id": name, "text": text} for text in (f"a {thing}", f"this {thing} here")]
            else:
                captions.append({"item_id": name, "text": f"one {thing}", "role": "index"})
                captions.append({"item_id": name, "text": f"{thing.split()[1]} , {thing.split()[0]}", "role": "query"})
    folder = tmp_path / "data"
    folder.mkdir()
    np.save(folder / "embeddings.npy", np.array(embeddings, dtype=np.float32))
    write_rows(folder / "items.jsonl", items)
    write_rows(folder / "captions.jsonl", captions)
    return folder


def write_tree_bundle(data: Path, directory: Path, sizes: list[int]) -> TreeCodec:
    embeddings = np.load(data / "embeddings.npy")
    items = [json.loads(line) for line in (data / "items.jsonl").read_text().splitlines()]
    codec = TreeCodec.fit(embeddings, sizes, "lloyd", 1)
    codes = codec.encode(embeddings)
    positions = [*codec.positions, Position("u", 64)]
    values, made_by = np.hstack([codes, unique_tokens(codes, 64)]), {"scheme": "hierarchical-kmeans"}
    write_bundle(directory, values, positions, items, {}, codec.tensors(), made_by)
    return codec


def test_all_three_on_a_miniature(baselines, data, tmp_path, capsys):
    write_tree_bundle(data, tmp_path / "identifiers", [16, 4])
    arguments = [
        "--data",
        str(data),
        "--identifiers",
        str(tmp_path / "identifiers"),
        "--json",
        str(tmp_path / "b.json"),
    ]
    baselines.main(arguments)
    result = json.loads((tmp_path / "b.json").read_text())
    assert (result["split"], result["queries"], result["candidates"]) == ("valid", 16, 16)
    # colour and animal decide, and each candidate is the only one with both
    assert [result["systems"][name]["recall_at_1"] for name in ("tfidf", "ridge")] == [100.0, 100.0]
    assert result["systems"]["ridge_quantised"]["recall_at_5"] == 100.0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "valid: 16 queries, 16 candidates, in percent"
    assert "not measured" not in printed


def test_coarse_identifiers_carry_less(baselines, data, tmp_path):
    write_tree_bundle(data, tmp_path / "identifiers", [2, 2])
    result, _ = baselines.measure(data, tmp_path / "identifiers", "valid")
    exact, quantised = result["systems"]["ridge"], result["systems"]["ridge_quantised"]
    # four codes for sixteen items: who shares a code is ranked last of those who do
    assert quantised["recall_at_1"] <= 25.0 < exact["recall_at_1"]


def test_ties_count_against_the_method(baselines):
    scores = np.array([[0.5, 0.5, 0.1], [0.0, 0.0, 0.0], [0.2, 0.9, 0.9]])
    assert baselines.worst_ranks(scores, np.array([0, 1, 0])).tolist() == [2, 3, 3]


def test_an_item_is_as_good_as_its_best_caption(baselines):
    queries = baselines.csr_matrix(np.eye(3, dtype=np.float32))
    captions = baselines.csr_matrix(np.array([[0.6, 0.8, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=np.float32))
    scores = baselines.best_caption_scores(queries, captions, np.array([2, 2, 0]), 3)
    np.testing.assert_allclose(scores, [[0.0, 0.0, 1.0], [0.0, 0.0, 0.8], [1.0, 0.0, 0.0]])


@pytest.mark.parametrize("clusters", [4, 0])
def test_codec_of_a_bundle_decodes_as_the_one_it_was_built_with(baselines, tmp_path, clusters):
    generator = np.random.default_rng(1)
    torch.manual_seed(0)
    rqvae = RQVAE(12, 5, 2, 8).requires_grad_(False).eval()
    centres = generator.normal(size=(clusters or 1, 12)).astype(np.float32)
    codec = ResidualCodec(centres, clusters, rqvae, 0.7)
    codes = codec.encode(generator.normal(size=(30, 12)).astype(np.float32))
    assert len(np.unique(codes, axis=0)) > 1
    values = np.hstack([codes, unique_tokens(codes, 64)])
    items = [{"item_id": str(row)} for row in range(30)]
    positions = [*codec.positions, Position("u", 64)]
    made_by = {"scheme": "coarse-fine" if clusters else "rqvae"}
    bundle = write_bundle(tmp_path / "identifiers", values, positions, items, {}, codec.tensors(), made_by)
    np.testing.assert_allclose(baselines.reconstruct(bundle), codec.decode(codes), rtol=1e-6)


def test_nothing_is_skipped_silently(baselines, data, capsys):
    captions = [json.loads(line) for line in (data / "captions.jsonl").read_text().splitlines()]
    write_rows(data / "captions.jsonl", [row for row in captions if row.get("role") != "index"])
    baselines.main(["--data", str(data)])
    printed = capsys.readouterr().out
    assert "TF-IDF over index captions: not measured, the candidates have no index captions" in printed
    assert "the same, quantised: not measured, no --identifiers given" in printed


def test_what_is_refused(baselines, data, tmp_path):
    with pytest.raises(ValueError, match=r"captions\.jsonl: no caption with the role 'query' in split 'test'"):
        baselines.measure(data, None, "test")
    write_tree_bundle(data, tmp_path / "identifiers", [4, 4])
    rows = (data / "items.jsonl").read_text().splitlines()
    (data / "items.jsonl").write_text("\n".join([rows[1], rows[0], *rows[2:]]) + "\n")
    with pytest.raises(ValueError, match=r"identifiers: its items differ from items\.jsonl"):
        baselines.measure(data, tmp_path / "identifiers", "valid")
    empty = write_bundle(tmp_path / "empty", np.array([[0]]), [Position("k", 2)], [{"item_id": "a"}], {}, {}, {})
    with pytest.raises(ValueError, match="no codec in it"):
        load_codec(empty)
