"""The retrieval benchmark on miniatures: what it times is right, and what it writes is complete. No time is asserted."""

import importlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import load_example

from cart_fairseq.catalogue.data_bin import SearchSpace
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.generator import IdentifierGenerator
from cart_fairseq.search.result import SearchResult

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "efficiency"
SIZES = (4, 3, 16)
SMALL = ["--queries", "3", "--query-tokens", "6", "--repeats", "1"]


@pytest.fixture(scope="module")
def catalogue() -> ModuleType:
    return load_example("efficiency", "catalogue")


@pytest.fixture(scope="module")
def generative() -> ModuleType:
    return load_example("efficiency", "generative")


@pytest.fixture(scope="module")
def world(catalogue: ModuleType) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """A task, its model and three queries."""
    task = catalogue.task_of(SIZES)
    return task, catalogue.random_cart(task, 1), catalogue.random_queries(3, 6, 1)


def search(model: Any, trie: Any, net_input: dict[str, torch.Tensor], beam: int, scoring: str) -> SearchResult:
    generator = IdentifierGenerator([model], lambda name: SearchSpace(trie, None), 2, beam, scoring=scoring)
    return generator.search(net_input, trie)


def symbols(made: Any) -> list[tuple[int, ...]]:
    return [tuple(row) for row in (made.values + np.array(made.offsets)).tolist()]


@pytest.mark.parametrize(("items", "sizes"), [(1, (2, 2)), (900, (8, 8, 8, 128)), (60, SIZES)])
def test_identifiers_are_distinct_and_in_range(catalogue, items, sizes):
    made = catalogue.random_catalogue(items, sizes, 3)
    assert made.values.shape == (items, len(sizes))
    assert len(set(symbols(made))) == items
    assert ((made.values >= 0) & (made.values < np.array(sizes))).all()
    assert made.offsets == tuple(4 + sum(sizes[:position]) for position in range(len(sizes)))


@pytest.mark.parametrize(("items", "sizes"), [(100, (2, 2, 8)), (0, SIZES), (5, (128,))])
def test_catalogues_that_cannot_be_are_refused(catalogue, items, sizes):
    with pytest.raises(ValueError, match="--sizes"):
        catalogue.random_catalogue(items, sizes, 1)


def test_queries_end_and_are_padded_on_the_right(catalogue):
    batch = catalogue.random_queries(50, 12, 1)
    lengths = batch["src_lengths"].tolist()
    assert set(lengths) == set(range(9, 16))
    for row, length in zip(batch["src_tokens"].tolist(), lengths, strict=True):
        assert row[length - 1 :] == [2] + [1] * (15 - length)
        assert min(row[: length - 1]) >= 4


@pytest.mark.parametrize("items", [1, 7, 40])
def test_dict_trie_holds_exactly_the_prefixes(catalogue, items):
    dict_trie = load_example("efficiency", "dict_trie")
    made = catalogue.random_catalogue(items, SIZES, 5)
    expected: dict[tuple[int, ...], set[int]] = {}
    for identifier in symbols(made):
        for depth, symbol in enumerate(identifier):
            expected.setdefault((2, *identifier[:depth]), set()).add(symbol)
    trie = dict_trie.DictTrie(made, 2)
    assert trie.allowed == {prefix: sorted(following) for prefix, following in expected.items()}
    assert trie((2, *symbols(made)[0])) == [2]
    held = sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in trie.allowed.items())
    assert dict_trie.bytes_needed(made) >= held


@pytest.mark.parametrize("scoring", ["masked", "renormalised"])
def test_every_child_is_the_trie_of_all_identifiers(generative, world, scoring):
    _, model, net_input = world
    offsets = load_example("efficiency", "catalogue").offsets_of(SIZES)
    whole = np.array(list(itertools.product(*map(range, SIZES))))
    expected = search(model, IdentifierTrie.build(whole, SIZES, offsets), net_input, 7, scoring)
    found = search(model, generative.EveryChild(SIZES, offsets), net_input, 7, scoring)
    assert torch.equal(found.rows, expected.rows)
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(found.scores, expected.scores)


def test_stock_fairseq_is_compared_place_by_place(catalogue, generative, world):
    task, model, net_input = world
    made = catalogue.random_catalogue(30, SIZES, 1)
    trie = load_example("efficiency", "dict_trie").DictTrie(made, 2)
    stock = generative.StockFairseq(model, task.target_dictionary, trie, len(SIZES), 4, free_end=True)
    hypotheses = stock.search(net_input)
    found = search(model, IdentifierTrie.build(made.values, SIZES, made.offsets), net_input, 4, "masked")
    facts = generative.compare(found, hypotheses)
    assert facts["largest_difference"] <= 1e-4
    assert facts["tied_places"] == 0
    scores, tokens = found.scores.clone(), found.tokens.clone()
    scores[1, 2] += 2e-4
    tokens[2] = tokens[2].flip(0)
    with pytest.raises(ValueError, match="query 1, place 2: ours found"):
        generative.compare(found._replace(scores=scores), hypotheses)
    with pytest.raises(ValueError, match="query 2, place 0: ours found"):
        generative.compare(found._replace(tokens=tokens), hypotheses)
    with pytest.raises(ValueError, match="query 0: fairseq found 3 items, ours 4"):
        generative.compare(found, [hypotheses[0][:3], *hypotheses[1:]])


def test_tied_items_may_stand_in_either_order(generative):
    def hypothesis(*tokens: int, score: float) -> dict[str, torch.Tensor]:
        return {"tokens": torch.tensor([*tokens, 2]), "score": torch.tensor(score)}

    tokens = torch.tensor([[[5, 9], [5, 8], [4, 8]]])
    found = SearchResult(torch.zeros(1, 3), torch.tensor([[-1.0, -1.0, -3.0]]), tokens, torch.zeros(1, 3, 2))
    swapped = [[hypothesis(5, 8, score=-1.0), hypothesis(5, 9, score=-1.00001), hypothesis(4, 7, score=-3.0)]]
    assert generative.compare(found, swapped)["tied_places"] == 3
    swapped[0][2] = hypothesis(4, 7, score=-2.0)
    with pytest.raises(ValueError, match="place 2"):
        generative.compare(found, swapped)


def test_hugging_face_finds_distinct_items_of_the_catalogue(catalogue, generative, world):
    pytest.importorskip("transformers")
    task, _, net_input = world
    made = catalogue.random_catalogue(40, SIZES, 1)
    contender = generative.HuggingFace(len(task.target_dictionary), len(SIZES), 3, 1)
    found = contender.search(net_input, load_example("efficiency", "dict_trie").DictTrie(made, 2))
    assert found.shape == (3, 3, 3)
    for query in found.tolist():
        assert len({tuple(identifier) for identifier in query} & set(symbols(made))) == 3


def test_vector_indexes_against_all_inner_products():
    pytest.importorskip("transformers")
    pytest.importorskip("faiss")
    made = load_example("efficiency", "vector_search").VectorSearch(200, ["ivf", "hnsw"], 9, 1, 48, chunk=64)
    vectors = made.indexes["flat"].reconstruct_n(0, 200)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    exact = np.argsort(-(made.queries @ vectors.T), axis=1)[:, :10]
    assert (made.search("flat") == exact).all()
    assert (exact[:, 0] == made.targets).all()
    assert made.recall("flat") == 100.0
    assert made.recall("ivf") == 100.0  # it has fewer cells than it looks into
    found = made.search("hnsw")
    shared = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True))
    assert made.recall("hnsw") == pytest.approx(100 * shared / 90)


@pytest.mark.parametrize(("name", "tokens"), [("clip", 77), ("clap", None), ("minilm", None)])
def test_text_encoders_read_texts_of_their_length_and_give_unit_vectors(name, tokens):
    pytest.importorskip("transformers")
    encoders = load_example("efficiency", "text_encoders")
    seen: list[tuple[int, ...]] = []
    batch = {"src_tokens": torch.ones(4, 9), "src_lengths": torch.tensor([9, 6, 3, 7])}
    encode = encoders.text_encoder(name, batch, 1)
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].shape) if isinstance(module, torch.nn.Embedding) else None
    )
    try:
        vectors = encode()
    finally:
        hook.remove()
    assert (4, tokens or 9) in seen
    assert vectors.shape == (4, encoders.width_of(name)) == (4, 384 if name == "minilm" else 512)  # as published
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))


def test_contenders_take_turns_after_a_warm_up():
    timing = load_example("efficiency", "timing")
    calls: list[str] = []

    def contender(name: str) -> Any:
        def run() -> dict[str, Any]:
            calls.append(name)
            return {"part_seconds": float(len(calls)), "rows": len(calls)}

        return timing.Contender(name, run)

    rows = timing.interleaved([contender("a"), contender("b")], 3, "test")
    assert "".join(calls) == "abababab"
    assert [(row["contender"], len(row["seconds"])) for row in rows] == [("a", 3), ("b", 3)]
    # the calls after the warm-up are 3, 5, 7 and 4, 6, 8
    assert [(row["part_seconds"], row["rows"]) for row in rows] == [(5.0, 7), (6.0, 8)]
    assert all(row["min"] <= row["median"] <= row["max"] for row in rows)
    calls.clear()
    rows = timing.interleaved([contender("a"), contender("b")], 3, "test", limit=0)
    assert ("".join(calls), [len(row["seconds"]) for row in rows]) == ("abab", [1, 1])
    with pytest.raises(ValueError, match="--repeats 0"):
        timing.interleaved([], 0, "test")


def test_ratios_by_hand():
    summary = load_example("efficiency", "summary")

    def measured(items: int, **seconds: float) -> dict[str, Any]:
        return {"items": items, "results": [{"contender": name, "median": each} for name, each in seconds.items()]}

    found = summary.ratios([measured(1000, masked=2.0, fairseq=5.0), measured(10, masked=1.5, unmasked=2.0)])
    assert {row["what"]: row["ratio"] for row in found} == {
        "masked, times the speed of fairseq, at 1,000 items": 2.5,
        "time with the mask on against off, at 10 items": 0.75,
        "masked, throughput at 1,000 against 10 items": 0.75,
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """benchmark.py with all contenders at two catalogue sizes, the second beyond what is built of two of them."""
    pytest.importorskip("transformers")
    pytest.importorskip("faiss")
    file = tmp_path_factory.mktemp("efficiency") / "out.json"
    sizes = ["--items", "300", "5e2", "--sizes", "8", "8", "8", "16", "--beam", "4"]
    limits = ["--dict-limit", "400", "--hnsw-limit", "4e2", "--check", "--single-tower-pairs", "1"]
    load_example("efficiency", "vector_search")  # which the benchmark imports when it needs it
    load_example("efficiency", "benchmark").main([*sizes, *SMALL, *limits, "--json", str(file)])
    return file


def test_all_contenders_are_measured_or_say_why_not(measured):
    benchmark = load_example("efficiency", "benchmark")
    result = json.loads(measured.read_text())
    small, large = result["catalogues"]
    assert (small["items"], large["items"]) == (300, 500)
    rows = {row["contender"]: row for row in small["results"]}
    assert tuple(rows) == benchmark.NAMES
    assert all(len(row["seconds"]) == 1 for row in rows.values())
    assert rows["masked"]["decoder_rows"] == rows["unmasked"]["decoder_rows"] == [3, 12, 12, 12]
    assert rows["fairseq"]["decoder_rows"] == [12] * 5
    assert rows["huggingface"]["decoder_rows"] == [12] * 4
    assert sum(rows["renormalised"]["decoder_rows"]) < sum(rows["masked"]["decoder_rows"])
    assert {rows[name]["recall_at_10"] for name in rows if name.endswith("+flat")} == {100.0}
    for name in benchmark.DUAL_TOWERS:
        assert rows[name]["encoder_seconds"] + rows[name]["search_seconds"] <= rows[name]["median"]
    assert small["check"]["largest_difference"] <= 1e-4
    assert result["machine"]["threads"] == torch.get_num_threads()
    notes = {row["contender"]: row["note"] for row in large["results"] if "note" in row}
    assert set(notes) == {"fairseq", "huggingface", "clip+hnsw", "clap+hnsw", "minilm+hnsw"}
    assert notes["fairseq"].startswith("not run: a dict trie of 500 items needs 0.0 GB, --dict-limit is 400")
    assert notes["clip+hnsw"].startswith("not run: faiss hnsw")
    assert large["check"] == notes["fairseq"]
    assert all(row["ratio"] > 0 for row in result["ratios"])


def test_the_table_has_every_contender(measured):
    result = json.loads(measured.read_text())
    lines = load_example("efficiency", "summary").table(result["catalogues"][0], 3).splitlines()
    assert lines[0].startswith("300 items, 3 queries in one batch")
    assert [line.split()[0] for line in lines[2:-6]] == list(load_example("efficiency", "benchmark").NAMES)
    reference = next(line.split() for line in lines if line.startswith("fairseq"))
    assert reference[5:7] == ["1.00", "60"]
    assert lines[-1].startswith("masked finds stock fairseq's items")


def test_the_figure_is_drawn(measured, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    plot = load_example("efficiency", "plot")
    plot.main([str(measured), "--output", str(tmp_path / "figure4.png"), "--contenders", "masked", "clip*"])
    assert (tmp_path / "figure4.png").read_bytes().startswith(b"\x89PNG")
    drawn = capsys.readouterr().out
    assert [name in drawn for name in ("masked", "clip+flat", "clip+hnsw", "fairseq")] == [True, True, True, False]
    assert len(plot.throughput(json.loads(measured.read_text()))["clip+hnsw"]) == 1
    with pytest.raises(ValueError, match="nothing to draw: none of gpt"):
        plot.main([str(measured), "--output", str(tmp_path / "other.png"), "--contenders", "gpt"])
    assert not (tmp_path / "other.png").exists()


def test_what_would_not_fit_is_not_built():
    benchmark = load_example("efficiency", "benchmark")
    assert benchmark.too_large(1000, 1000, "--faiss-limit", 4_096_000, "faiss flat") == ""
    by_limit = benchmark.too_large(10**7, 10**6, "--faiss-limit", 4096 * 10**7, "faiss flat")
    assert by_limit == "not run: faiss flat of 10,000,000 items needs 41.0 GB, --faiss-limit is 1,000,000"
    assert "only 80% of" in benchmark.too_large(10**12, 10**13, "--faiss-limit", 4096 * 10**12, "faiss flat")


def test_contenders_are_chosen_by_pattern(monkeypatch):
    benchmark = load_example("efficiency", "benchmark")
    assert benchmark.select(["fairseq", "masked*"]) == ["masked", "masked-bf16", "masked-int8", "fairseq"]
    with pytest.raises(ValueError, match="--contenders gpt matches none of masked, renormalised"):
        benchmark.select(["masked", "gpt"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"huggingface need transformers: pip install -e '.\[benchmark\]'"):
        benchmark.require(["masked", "huggingface"])
    benchmark.require(["masked", "fairseq"])


def test_without_the_extra_ours_and_fairseq_are_measured(capsys):
    program = (
        f"import sys; sys.path.insert(0, {str(FOLDER)!r}); sys.modules.update(transformers=None, faiss=None); "
        "import benchmark; benchmark.main(sys.argv[1:])"
    )
    arguments = ["--items", "50", "--sizes", "4", "4", "8", "--beam", "2", "--contenders", "masked", "fairseq"]
    command = [sys.executable, "-c", program, *arguments, *SMALL]
    printed = subprocess.run(command, cwd=FOLDER.parents[1], capture_output=True, text=True, check=True).stdout
    assert "masked, times the speed of fairseq, at 50 items:" in printed


def test_a_mistake_is_one_line():
    command = [sys.executable, str(FOLDER / "benchmark.py"), "--items", "100", "--sizes", "2", "2", "2"]
    environment = {"PYTHONPATH": str(FOLDER.parents[1]), "PATH": ""}
    done = subprocess.run(
        [*command, "--contenders", "masked"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: 100 items share codes of sizes (2, 2)")
    assert "Traceback" not in done.stderr
