"""Every file that is no checkpoint of ours is refused in one line that names the file."""

import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from cart_fairseq import CartRetriever

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


def other_shape(path: Path) -> None:
    state = torch.load(GOOD, weights_only=False)
    state["model"]["encoder.embed_tokens.weight"] = torch.zeros(3, 3)
    torch.save(state, path)


DAMAGED = {
    "a text": (lambda path: path.write_text("not a checkpoint\n"), "safe mode"),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "safe mode"),
    "a zip": (as_zip, "safe mode"),
    "cut off": (lambda path: path.write_bytes(GOOD.read_bytes()[: GOOD.stat().st_size // 2]), "safe mode"),
    "empty": (lambda path: path.write_bytes(b""), "safe mode"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "missing": (lambda path: None, "no such checkpoint"),
    "a list": (lambda path: torch.save([1, 2], path), "contains a list"),
    "other keys": (lambda path: torch.save({"epoch": 1, "net": 2}, path), "epoch.*net"),
    "no model": (without("model"), "not a model of fairseq"),
    "no settings": (without("cfg"), "no settings of its training"),
    "other shapes": (other_shape, "cannot be loaded as a model of this version"),
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


def test_of_an_ensemble_the_damaged_one_is_named(tmp_path: Path):
    good, bad = shutil.copy(GOOD, tmp_path / "good.pt"), tmp_path / "bad.pt"
    bad.write_text("text")
    with pytest.raises(ValueError, match="safe mode") as caught:
        CartRetriever.from_pretrained(f"{good}:{bad}", data=DATA)
    assert str(bad) in str(caught.value)
    assert "good.pt" not in str(caught.value)
