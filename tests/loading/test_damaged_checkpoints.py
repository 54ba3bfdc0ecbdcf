"""Every file that is no checkpoint of ours is refused in one line that names the file."""

import pickle
import shutil
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import torch

from cart_fairseq import CartRetriever, evaluate, tune
from cart_fairseq.base.processes import run_script

OLD = Path(__file__).resolve().parents[1] / "compatibility"
GOOD, DATA = OLD / "plain.pt", OLD / "plain" / "data-bin"


def as_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")


def without(key: str):
    def write(path: Path) -> None:
        state = torch.load(GOOD, weights_only=False)
        del state[key]
        torch.save(state, path)

    return write


def changed(key: str, value: object):
    def write(path: Path) -> None:
        torch.save(torch.load(GOOD, weights_only=False) | {key: value}, path)

    return write


def other_shape(path: Path) -> None:
    state = torch.load(GOOD, weights_only=False)
    state["model"]["encoder.embed_tokens.weight"] = torch.zeros(3, 3)
    torch.save(state, path)


def further_weight(path: Path) -> None:
    state = torch.load(GOOD, weights_only=False)
    state["model"]["decoder.new"] = torch.zeros(3)
    torch.save(state, path)


DAMAGED = {
    "a text": (lambda path: path.write_text("not a checkpoint\n"), "safe mode .the file begins with b'not '"),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "the file begins with .*PNG"),
    "a zip": (as_zip, "safe mode"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({"model": {}, "cfg": {}})), "the file begins with"),
    "a module": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "Unsupported global: GLOBAL torch.nn"),
    "cut off": (lambda path: path.write_bytes(GOOD.read_bytes()[: GOOD.stat().st_size // 2]), "is cut off or damaged"),
    "a quarter": (
        lambda path: path.write_bytes(GOOD.read_bytes()[: GOOD.stat().st_size // 4]),
        "is cut off or damaged",
    ),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "missing": (lambda path: None, "no such checkpoint"),
    "a list": (lambda path: torch.save([1, 2], path), "contains an object of type list"),
    "an empty model": (changed("model", {}), "are of a model of 10,240 weights, but it holds 0"),
    "settings of another type": (changed("cfg", 5), "its settings have no section 'task'"),
    "settings of nothing": (changed("cfg", {"a": 1}), "its settings have no section 'task'"),
    "other keys": (lambda path: torch.save({"epoch": 1, "net": 2}, path), "epoch.*net"),
    "no model": (without("model"), "not a model of fairseq"),
    "no settings": (without("cfg"), "no settings of its training"),
    "other shapes": (other_shape, r"of this version \(RuntimeError: size mismatch for encoder.embed_tokens.weight"),
    "a weight of a newer version": (
        further_weight,
        r"\(RuntimeError: Unexpected .*: \"decoder.new\"\. *\); .*, install the version of cart-fairseq that wrote it",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path: Path, kind: str):
    write, said = DAMAGED[kind]
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(ValueError, match=said) as caught:
        CartRetriever.from_pretrained(path, data=DATA)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch's advice is to load the file unsafely


def test_of_an_ensemble_the_damaged_one_is_named(tmp_path: Path):
    good, bad = shutil.copy(GOOD, tmp_path / "good.pt"), tmp_path / "bad.pt"
    bad.write_text("text")
    with pytest.raises(ValueError, match="safe mode") as caught:
        CartRetriever.from_pretrained(f"{good}:{bad}", data=DATA)
    assert str(bad) in str(caught.value)
    assert "good.pt" not in str(caught.value)


def test_of_an_ensemble_the_one_of_other_identifiers_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(OLD / "dense")
    with pytest.raises(ValueError, match=r"^\.\./plain\.pt: the checkpoint belongs to other identifiers"):
        CartRetriever.from_pretrained("../dense.pt:../plain.pt", data="data-bin")


@pytest.mark.parametrize("data", ["", "/nowhere/at/all", "README.md"])
def test_a_wrong_data_bin_is_not_the_fault_of_the_checkpoint(data: str):
    with pytest.raises(ValueError, match=r"no manifest\.json, so this is not a data-bin") as caught:
        CartRetriever.from_pretrained(GOOD, data=data)
    assert GOOD.name not in str(caught.value)


def test_an_empty_path_is_refused():
    with pytest.raises(ValueError, match="the path of the checkpoint is empty"):
        CartRetriever.from_pretrained("", data=DATA)


@pytest.mark.parametrize("command", [evaluate, tune])
def test_commands_refuse_them_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, command: ModuleType):
    bad, queries = tmp_path / "bad.pt", tmp_path / "queries.jsonl"
    bad.write_text("text")
    queries.write_text('{"item_id": "item 1", "text": "a dog"}\n')
    flags = ["--data", str(DATA), "--path", str(bad), *(["--queries", str(queries)] if command is evaluate else [])]
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: command.main(flags))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {bad}: not a checkpoint")


@pytest.mark.parametrize("part", ["encoder", "output_projection"])
def test_scores_that_are_not_finite_are_an_error(part: str):
    retriever = CartRetriever.from_pretrained(GOOD, data=DATA)
    for name, values in retriever.models[0].named_parameters():
        if part in name:
            values.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="query 0: the model's scores are not finite"):
        retriever.search(["a dog"])
