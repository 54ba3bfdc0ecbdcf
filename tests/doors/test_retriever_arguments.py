"""Wrong arguments of `CartRetriever`, and of the commands that search, end in one sentence that names argument and value."""

from pathlib import Path

import numpy as np
import pytest

from cart_fairseq import CartRetriever, evaluate, tune
from cart_fairseq.base.checks import short
from cart_fairseq.base.processes import run_script

OLD = Path(__file__).resolve().parents[1] / "compatibility"
CHECKPOINT, DATA = OLD / "dense.pt", OLD / "dense" / "data-bin"

OPTIONS = [
    ("beam", 0),
    ("beam", -1),
    ("beam", 2.5),
    ("beam", True),
    ("beam", "3"),
    ("dense_weight", float("nan")),
    ("dense_weight", float("inf")),
    ("dense_weight", -0.5),
    ("dense_weight", "1"),
    ("level_discount", 0),
    ("level_discount", float("nan")),
    ("level_discount", 1.5),
    ("scoring", "best"),
    ("scoring", None),
    ("scoring", np.array(["masked", "best"])),
    ("precision", "fp8"),
    ("device", "gpu"),
    ("device", "cuda:99"),
    ("device", 3.5),
    ("beam", -(10**5000)),
    ("dense_weight", 10**5000),
    ("level_discount", 10**5000),
    ("scoring", 10**5000),
    ("scoring", "a" * 1_000_000),
    ("device", 10**5000),
]
SEARCHES = [
    ({"queries": "a dog"}, "queries is 'a dog'"),
    ({"queries": 3}, "queries is 3"),
    ({"queries": None}, "queries is None"),
    ({"queries": [None]}, "query 0 is None"),
    ({"queries": ["a", 1]}, "query 1 is 1"),
    ({"queries": ["a", " \n"]}, "query 1 is empty"),
    ({"queries": ["a \ud83d dog"]}, "query 0 holds half a surrogate pair"),
    ({"queries": ["a", np.array(["b"])]}, "query 1 is an object of type ndarray; give a text"),
    ({"queries": ["a", np.array(2)]}, "query 1 is 2; give a text"),
    ({"queries": np.array("a")}, "queries is 'a'; give a list"),
    ({"queries": [10**5000]}, "query 0 is an integer of 16610 bits; give a text"),
    ({"queries": [b"a" * 1_000_000]}, "query 0 is b'aaa"),
    ({"queries": ["\ud83d" * 100_000]}, "query 0 holds half a surrogate pair"),
    (
        {"queries": ["a", "\u200b"]},
        r"query 1 begins with nothing but invisible characters \('.u200b'\); give it some text",
    ),
    ({"queries": ["\x01\x02"]}, "query 0 begins with nothing but invisible characters"),
    ({"queries": ["\u200b" * 100_000]}, "query 0 begins with nothing but invisible characters"),
    ({"k": 0}, "k is 0"),
    ({"k": -(10**5000)}, "k is an integer of 16610 bits"),
    ({"k": np.float32(0.5)}, "k is 0.5"),
    ({"k": "3"}, "k is '3'"),
    ({"k": 1.5}, "k is 1.5"),
    ({"k": None}, "k is None"),
    ({"candidates": ""}, "no candidate set ''"),
    ({"candidates": "nobody"}, "no candidate set 'nobody'; use one of: all, test, valid"),
    ({"candidates": 3}, "candidates is 3"),
    ({"candidates": []}, "candidate"),
    ({"candidates": [1, 2]}, "2 candidate sets for 1 queries"),
    ({"candidates": [1]}, "candidates is 1"),
    ({"candidates": [[1]]}, "candidates has 1"),
    ({"candidates": [None, None]}, "2 candidate sets for 1 queries"),
    ({"candidates": ["no such item"]}, "no such item"),
    ({"candidates": ["a" * 1_000_000]}, "item 'aaa.*' is not in the catalogue; check the item ids"),
    ({"candidates": ["\ud83d"]}, "item '.ud83d' is not in the catalogue; check the item ids"),
    ({"candidates": "a" * 1_000_000}, "no candidate set 'aaa.*'; use one of"),
    ({"candidates": "\ud83d"}, "no candidate set '.ud83d'; use one of"),
    ({"candidates": np.array("a")}, "no candidate set 'a'; use one of"),
    ({"candidates": np.array(3)}, "candidates is 3; give the name"),
    ({"candidates": 10**5000}, "candidates is an integer of 16610 bits"),
    ({"queries": ["a", "b"], "candidates": [None, ["nope"]]}, "query 1: item 'nope' is not in the catalogue"),
    ({"queries": ["a", "b"], "candidates": [None, ["\ud83d"]]}, "query 1: item '.ud83d' is not in the catalogue"),
    ({"queries": ["a", "b"], "candidates": [None, []]}, "query 1: .*candidate"),
    ({"queries": ["a", "b"], "candidates": [None, 3]}, "query 1: candidates is 3"),
    ({"queries": ["a", "b"], "candidates": [None, np.array(3)]}, "query 1: candidates is 3"),
    ({"queries": ["a", "b"], "candidates": [None, [10**5000]]}, "query 1: candidates has an integer of 16610 bits"),
    ({"at_least": 10**5000}, "at_least is an integer of 16610 bits; it must be a probability"),
    ({"at_least": 0.2}, "at_least is 0.2, but hits have no probabilities"),
    ({"at_least": 2}, "at_least is 2; it must be a probability"),
    ({"at_least": "x"}, "at_least is 'x'"),
]


@pytest.fixture(scope="module")
def retriever() -> CartRetriever:
    return CartRetriever.from_pretrained(CHECKPOINT, data=DATA)


@pytest.mark.parametrize(("name", "value"), OPTIONS, ids=range(len(OPTIONS)))
def test_options_are_refused_by_name(name: str, value: object):
    with pytest.raises(ValueError, match=rf"{name.replace('_', '.')} is ") as caught:
        CartRetriever.from_pretrained(CHECKPOINT, data=DATA, **{name: value})  # type: ignore[arg-type]
    assert short(value) in str(caught.value)


@pytest.mark.parametrize(("arguments", "said"), SEARCHES, ids=range(len(SEARCHES)))
def test_arguments_of_a_search_are_refused_by_name(retriever: CartRetriever, arguments: dict, said: str):
    with pytest.raises(ValueError, match=said) as caught:
        retriever.search(**{"queries": ["a dog"], **arguments})
    assert len(str(caught.value).encode()) < 600


def test_what_is_as_good_as_a_list_is_taken(retriever: CartRetriever):
    expected = retriever.search(["a dog", "a cat"], k=3)
    assert [len(hits) for hits in expected] == [3, 3]
    assert retriever.search((text for text in ("a dog", "a cat")), k=np.int64(3)) == expected  # type: ignore[arg-type]
    assert retriever.search(np.array(["a dog", "a cat"]), k=3) == expected
    assert retriever.search([np.array("a dog"), "a cat"], k=np.array(3), candidates=np.array("all")) == expected  # type: ignore[list-item,arg-type]
    assert retriever.search([]) == retriever.search([], candidates=[]) == []


@pytest.mark.parametrize("candidates", [3, "", "nobody", [], [None]])
def test_candidates_are_refused_when_they_are_prepared(retriever: CartRetriever, candidates: object):
    with pytest.raises(ValueError, match="candidate"):
        retriever.candidate_set(candidates)  # type: ignore[arg-type]


def test_a_search_needs_a_model(retriever: CartRetriever):
    with pytest.raises(ValueError, match=r"models is \[\]"):
        CartRetriever([], retriever.data)


FLAGS = [
    (["--candidates", ""], "--candidates is ''"),
    (["--candidates", "nobody"], "no candidate set 'nobody'"),
    (["--subset", ""], "--subset is ''"),
    (["--beam", "0"], "--beam is 0"),
    (["--dense-weight", "inf"], "--dense-weight is inf"),
    (["--dense-weight", "nan"], "--dense-weight is nan"),
    (["--dense-weight", "-1"], "--dense-weight is -1"),
    (["--level-discount", "2"], "--level-discount is 2"),
]


@pytest.mark.parametrize(("flags", "said"), FLAGS)
def test_evaluate_refuses_them_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, flags: list[str], said: str):
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"item_id": "item 1", "text": "a dog"}\n')
    common = ["--data", str(DATA), "--queries", str(queries), "--path", str(CHECKPOINT)]
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: evaluate.main([*common, *flags]))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("flags", [["--beam", "0"], ["--weights", "nan"], ["--discounts", "nan"], ["--weights", "-1"]])
def test_tune_refuses_them_in_one_line(capsys: pytest.CaptureFixture, flags: list[str]):
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: tune.main(["--data", str(DATA), "--path", str(CHECKPOINT), *flags]))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert flags[0] in error
    assert error.count("\n") == 1
