"""Generation output to metrics and TREC files: hand-made outputs, ties, odd ids, what is refused, new queries."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import commands
import numpy as np
import pytest

from cart_fairseq.catalogue.identifiers import write_bundle
from cart_fairseq.catalogue.positions import Position, unique_tokens
from cart_fairseq.evaluate import main
from cart_fairseq.measuring import trec
from preprocess.data_bin.build import binarize

# 14 items: 8 train, 2 valid, 3 test, 1 without a split. The names hold blanks, a percent sign, other scripts.
TEST_ITEMS = ["grün 50%.png", "a b  c.png", "犬　写真"]
ITEMS = [f"t{i}.png" for i in range(8)] + ["v0.png", "v1.png", *TEST_ITEMS, "free.png"]
SPLITS = ["train"] * 8 + ["valid"] * 2 + ["test"] * 3 + [None]
# the four test queries, in order: query id, item
TEST = [(f"{item}#1", item) for item in TEST_ITEMS] + [("q43", TEST_ITEMS[0])]


def captions() -> list[dict[str, str]]:
    rows = []
    for item, split in zip(ITEMS, SPLITS, strict=True):
        if split in ("valid", "test"):
            rows.append({"item_id": item, "text": f"index words of {item}", "role": "index"})
            rows.append({"item_id": item, "text": f"looking for {item}", "role": "query", "caption_id": f"{item}#1"})
        else:
            rows += [
                {"item_id": item, "text": f"{word} {item}", "role": "train"} for word in ("some", "any", "one", "every")
            ]
    assert len(rows) == 46
    return [*rows[:43], {"item_id": TEST_ITEMS[0], "text": "looking again", "role": "query"}, *rows[43:]]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    codes = np.random.default_rng(0).integers(0, 3, size=(len(ITEMS), 2))
    items = [{"item_id": i, **({"split": s} if s else {})} for i, s in zip(ITEMS, SPLITS, strict=True)]
    positions = [Position("k", 3), Position("v1", 3), Position("u", 8)]
    write_bundle(folder / "identifiers", np.hstack([codes, unique_tokens(codes, 8)]), positions, items, {}, {}, {})
    binarize(folder / "identifiers", write_rows(folder / "captions.jsonl", captions()), folder / "data-bin")
    return folder


def generation(path: Path, hypotheses: dict[int, list[tuple[float, str]]], noise: bool = True) -> Path:
    """Write what fairseq-generate would, log lines between the results included."""
    lines = ["2026-01-01 00:00:00 | INFO | fairseq_cli.generate | {'D-0': None}"] if noise else []
    for index, ranked in hypotheses.items():
        lines += [f"S-{index}\tsome text", f"T-{index}\t<k_0> <v1_0> <u_0>"]
        for score, item in ranked:
            lines += [f"H-{index}\t{score}\t<k_0>", f"D-{index}\t{score}\t{item}", f"P-{index}\t-0.1"]
        if noise:
            lines.append(f"D-day\t{index}\tnot a result | INFO | ")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# ranks of the right items: 1, 3, missing, 2 (so R@1 25, R@5 75, MRR 45.83)
HYPOTHESES = {
    2: [(-0.5, "free.png"), (-0.6, TEST_ITEMS[0])],
    0: [(-0.1, TEST_ITEMS[0]), (-1.5, "free.png")],
    1: [(-0.25, TEST_ITEMS[2]), (-0.25, "free.png"), (-0.25, TEST_ITEMS[1]), (-0.25, TEST_ITEMS[0])],
    3: [(-7.0, "free.png"), (-7.5, TEST_ITEMS[0])],
}


def run(*arguments: Any) -> None:
    main([str(argument) for argument in arguments])


def test_hand_made_output(folder, tmp_path, capsys):
    out = generation(tmp_path / "generate-test.txt", HYPOTHESES)
    run(out, "--data", folder / "data-bin", "--json", tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "recall_at_1": 25.0,
        "recall_at_5": 75.0,
        "recall_at_10": 75.0,
        "mrr_at_10": pytest.approx(100 * (1 + 1 / 3 + 1 / 2) / 4, abs=1e-4),
        "queries": 4,
        "candidates": 4,  # three test items and the one without a split
        "candidate_set": "test",
        "index_captions": "include",
    }
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["R@1", "R@5", "R@10", "MRR@10", "queries", "candidates", "index", "captions"]
    assert row.split() == ["25.00", "75.00", "75.00", "45.83", "4", "4", "(test)", "include"]


def test_trec_files_keep_ids_order_and_numbers(folder, tmp_path):
    ranx = pytest.importorskip("ranx")
    out = generation(tmp_path / "generate-test.txt", HYPOTHESES)
    run_file, qrels_file = tmp_path / "run.trec", tmp_path / "qrels.trec"
    run(
        out, "--data", folder / "data-bin", "--trec-run", run_file, "--qrels", qrels_file, "--json", tmp_path / "m.json"
    )

    found: dict[str, list[str]] = {}
    scores: dict[str, list[np.float32]] = {}
    for line in run_file.read_text(encoding="ascii").splitlines():
        query, q0, item, rank, score, tag = line.split(" ")
        found.setdefault(unquote(query), []).append(unquote(item))
        scores.setdefault(unquote(query), []).append(np.float32(score))
        assert (q0, int(rank), tag) == ("Q0", len(found[unquote(query)]), "cart")
    assert found == {TEST[i][0]: [item for _, item in HYPOTHESES[i]] for i in range(4)}
    for values in scores.values():  # also in float32, which trec_eval holds them in
        assert all(a > b for a, b in itertools.pairwise(values))
    relevant = [line.split(" ") for line in qrels_file.read_text(encoding="ascii").splitlines()]
    assert [(unquote(q), unquote(item), grade) for q, _, item, grade in relevant] == [(q, i, "1") for q, i in TEST]

    names = {"recall_at_1": "recall@1", "recall_at_5": "recall@5", "recall_at_10": "recall@10", "mrr_at_10": "mrr@10"}
    expected = ranx.evaluate(
        ranx.Qrels.from_file(str(qrels_file)), ranx.Run.from_file(str(run_file)), list(names.values())
    )
    measured = json.loads((tmp_path / "m.json").read_text())
    assert [measured[ours] for ours in names] == pytest.approx([100 * expected[n] for n in names.values()], abs=1e-3)


def test_ids_in_trec_files_are_one_readable_column():
    for name in ["1000268201_693b08cb0e.jpg#0", "a/b:c,d;e=f&g?h~i(j)[k]{l}'m\"n", "x+y@z!$^*|\\<>`"]:
        assert trec.encode_id(name) == name
    for name in ["tab\tid", "a b", "no\u00a0break", "wide\u3000blank", "100%", "%20", "", "\x85next", "犬"]:
        assert trec.encode_id(name).isascii()
        assert unquote(trec.encode_id(name)) == name
        assert len(trec.encode_id(name).split()) == bool(name)


def test_ties_and_scores_closer_than_float32():
    given = [-1e-9, -1.0, -1.0, -1.0, -1.0000000001, -300.0, -300.00001, -301.0]
    out = trec.strictly_descending(given)
    assert out.dtype == np.float32
    assert (np.diff(out) < 0).all()
    np.testing.assert_allclose(out, given, rtol=1e-6)
    assert trec.strictly_descending([]).shape == (0,)


def test_whole_catalogue_is_recognised_and_named(folder, tmp_path):
    wider = {**HYPOTHESES, 2: [(-0.5, "t3.png")]}
    out = generation(tmp_path / "generate-test.txt", wider)
    run(out, "--data", folder / "data-bin", "--json", tmp_path / "m.json")
    measured = json.loads((tmp_path / "m.json").read_text())
    assert (measured["candidates"], measured["candidate_set"]) == (len(ITEMS), "all")
    with pytest.raises(ValueError, match=r"generate-test.txt, line \d+: the item is not in the candidate set 'test'"):
        run(out, "--data", folder / "data-bin", "--candidates", "split")


@pytest.mark.parametrize("name", ["generate-test.txt", "generate-test-beam30.txt", "generate-test1.txt"])
def test_subset_by_file_name(folder, tmp_path, name):
    run(generation(tmp_path / name, HYPOTHESES), "--data", folder / "data-bin", "--json", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["queries"] == 4


def test_few_hypotheses_are_warned_about(folder, tmp_path, capsys):
    out = generation(tmp_path / "generate-test.txt", {i: ranked[:1] for i, ranked in HYPOTHESES.items()})
    run(out, "--data", folder / "data-bin")
    assert "queries have at most 1 hypotheses" in capsys.readouterr().err
    run(generation(out, HYPOTHESES), "--data", folder / "data-bin")
    assert capsys.readouterr().err == ""  # 4 hypotheses of 4 candidates


def broken(**changes: Any) -> dict[int, list[tuple[Any, str]]]:
    return {**HYPOTHESES, **{int(key[1:]): value for key, value in changes.items()}}


@pytest.mark.parametrize(
    ("hypotheses", "message"),
    [
        ({i: HYPOTHESES[i] for i in (0, 3)}, r"no hypothesis for query 1 \('a b  c.png#1': 'looking for .*2 of 4"),
        ({}, "no line D-<query>"),
        (broken(_4=[(-1.0, "free.png")]), r"line \d+: query 4, but there are only 4"),
        (broken(_1=[(-1.0, "gone.png")]), r"line \d+: item 'gone.png' is not in .*data-bin"),
        (broken(_1=[(-1.0, "free.png"), (-2.0, "free.png")]), r"line \d+: item 'free.png' is listed twice for query 1"),
        (broken(_1=[(-2.0, "free.png"), (-1.0, TEST_ITEMS[0])]), r"score -1.0 after -2.0"),
        (broken(_1=[("abc", "free.png")]), "the score is 'abc', not a finite number"),
        (broken(_1=[("nan", "free.png")]), "the score is 'nan', not a finite number"),
        (broken(_1=[(-1.0, "free.png\textra")]), "4 columns"),
    ],
)
def test_bad_outputs_are_refused(folder, tmp_path, hypotheses, message):
    out = generation(tmp_path / "generate-test.txt", hypotheses)
    with pytest.raises(ValueError, match=message):
        run(out, "--data", folder / "data-bin", "--json", tmp_path / "m.json", "--trec-run", tmp_path / "run.trec")
    assert not (tmp_path / "m.json").exists()
    assert not (tmp_path / "run.trec").exists()


def test_other_bad_inputs_are_refused(folder, tmp_path):
    data = folder / "data-bin"
    good = generation(tmp_path / "out.txt", HYPOTHESES)
    with pytest.raises(ValueError, match=r"out\.txt: the name does not contain the subset"):
        run(good, "--data", data)
    with pytest.raises(ValueError, match=r"no other queries \(found: test, train, valid\)"):
        run(good, "--data", data, "--subset", "other")
    with pytest.raises(ValueError, match=r"missing\.txt: cannot be read"):
        run(tmp_path / "missing.txt", "--data", data, "--subset", "test")
    with pytest.raises(ValueError, match="not a data-bin"):
        run(good, "--data", tmp_path, "--subset", "test")
    with pytest.raises(ValueError, match=r"asks for item 'grün 50%\.png', which is not in the candidate set 'valid'"):
        run(good, "--data", data, "--subset", "test", "--candidates", "valid")
    with pytest.raises(ValueError, match="no candidate set 'moon'"):
        run(good, "--data", data, "--subset", "test", "--candidates", "moon")
    good.write_bytes(good.read_bytes().replace("grün".encode(), "grün".encode("latin-1")))
    with pytest.raises(ValueError, match=r"out.txt, line \d+: invalid UTF-8"):
        run(good, "--data", data, "--subset", "test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either a generation file, or --queries and --path"),
        (["out.txt", "--path", "a.pt"], "give it with --queries"),
        (["out.txt", "--queries", "q", "--path", "a.pt"], "give either a generation file, or --queries and --path"),
    ],
)
def test_contradicting_arguments_are_refused(arguments, message, folder):
    with pytest.raises(ValueError, match=message):
        run(*arguments, "--data", folder / "data-bin")


def test_the_command_exits_with_2_and_one_line(folder, tmp_path):
    out = generation(tmp_path / "generate-test.txt", broken(_1=[(-1.0, "gone.png")]))
    command = [sys.executable, "-m", "cart_fairseq.evaluate", str(out), "--data", str(folder / "data-bin")]
    done = subprocess.run(command, cwd=commands.REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"error: {out}, line ")
    assert "Traceback" not in done.stderr


NEW = [
    {"item_id": TEST_ITEMS[1], "text": "ein Hund", "role": "query", "caption_id": "de 1"},
    {"item_id": TEST_ITEMS[1], "text": "not a query", "role": "index"},
    {"item_id": "free.png", "text": "without id or role"},
]


def test_new_queries_with_interactive_output(folder, tmp_path):
    file = write_rows(tmp_path / "new.jsonl", NEW)
    out = generation(tmp_path / "out.txt", {0: [(-1.0, "t0.png"), (-1.5, TEST_ITEMS[1])], 1: [(-1.0, "free.png")]})
    json_file, run_file = tmp_path / "m.json", tmp_path / "run.trec"
    run(out, "--queries", file, "--data", folder / "data-bin", "--json", json_file, "--trec-run", run_file)
    measured = json.loads(json_file.read_text())
    assert (measured["recall_at_1"], measured["mrr_at_10"], measured["queries"]) == (50.0, 75.0, 2)
    assert (measured["candidates"], measured["candidate_set"]) == (len(ITEMS), "all")  # interactive searches everything
    assert [line.split()[0] for line in run_file.read_text().splitlines()] == ["de%201", "de%201", "q2"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**NEW[0], "item_id": "gone"}], "new.jsonl, row 1: item_id 'gone' is not in"),
        ([{"text": "x"}], "new.jsonl, row 1: item_id None is not in"),
        ([NEW[2], {**NEW[0], "text": " "}], "new.jsonl, row 2: text is ' '"),
        ([NEW[0], NEW[0]], "new.jsonl, row 2: query id 'de 1' is also the id of row 1"),
        ([{**NEW[0], "caption_id": 7}], "new.jsonl, row 1: caption_id is 7"),
        ([NEW[1]], "new.jsonl: no row has the role 'query'"),
        ([NEW[0], {**NEW[0], "item_id": "v0.png", "caption_id": "v"}], "belong to the splits test and valid"),
    ],
)
def test_bad_new_queries_are_refused(folder, tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        run("--queries", write_rows(tmp_path / "new.jsonl", rows), "--data", folder / "data-bin", "--path", "none.pt")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    """Two updates of a tiny model: what it finds does not matter, that both ways agree does."""
    flags = "--cpu --arch cart_tiny --criterion cart_rdrop --optimizer adam --lr 0.01 --batch-size 8 --max-update 2"
    save = ["--save-dir", folder / "checkpoints", "--disable-validation", "--seed", 1]
    commands.run(folder / "data-bin", *commands.TASK, *flags.split(), *save)
    return folder / "checkpoints" / "checkpoint_last.pt"


def test_new_queries_on_a_checkpoint_equal_generation(folder, checkpoint, tmp_path):
    data = folder / "data-bin"
    flags = ["--cpu", "--path", checkpoint, "--gen-subset", "test", "--beam", 30, "--nbest", 10]
    commands.run(data, *commands.TASK, *flags, "--results-path", tmp_path, module="fairseq_cli.generate")
    generated, searched, catalogue = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.json"
    run(tmp_path / "generate-test.txt", "--data", data, "--json", generated, "--trec-run", tmp_path / "a.trec")
    again = ["--queries", folder / "captions.jsonl", "--subset", "test", "--path", checkpoint, "--data", data]
    run(*again, "--json", searched, "--trec-run", tmp_path / "b.trec")
    assert json.loads(searched.read_text()) == json.loads(generated.read_text())
    columns = [
        [line.split()[:4] for line in (tmp_path / name).read_text().splitlines()] for name in ("a.trec", "b.trec")
    ]
    assert columns[0] == columns[1]
    assert len(columns[0]) == 4 * 4
    run(*again, "--candidates", "all", "--json", catalogue)
    assert json.loads(catalogue.read_text())["candidates"] == len(ITEMS)
