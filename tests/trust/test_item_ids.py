"""Item ids on the command line are ids, whatever they begin with, however long they are, and whatever files are there."""

import re
from pathlib import Path

import numpy as np
import pytest
from changing import make_codec
from conftest import write_jsonl

from cart_fairseq.base.processes import run_script
from cart_fairseq.catalogue.identifiers import IdentifierBundle, write_bundle
from cart_fairseq.catalogue.positions import Position
from preprocess.update_identifiers import main
from preprocess.updating.item_ids import FLAGS
from preprocess.updating.steps import remove

LONG = "long " * 60 + "id"
IDS = ["ids.txt", "item 1", "-x.jpg", "--data", "--help", "a=b", "-", LONG, "zürich", "last"]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose item ids look like flags and names of files."""
    monkeypatch.chdir(tmp_path)
    codec = make_codec()
    values = np.zeros((len(IDS), 4), np.int32)
    values[:, 3] = np.arange(len(IDS))
    positions = [*codec.positions, Position("u", 16)]
    items = [{"item_id": item_id} for item_id in IDS]
    settings = {"scheme": "coarse-fine", "dimension": 6}
    return write_bundle(tmp_path / "b", values, positions, items, {}, codec.tensors(), settings).directory


def removed(bundle: Path) -> list[str]:
    opened = IdentifierBundle.load(bundle)
    return [opened.item_id(row) for row in opened.removed.tolist()]


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        (["--item-ids", "ids.txt"], ["ids.txt"]),
        (["--item-ids", "-x.jpg", "item 1"], ["item 1", "-x.jpg"]),
        (["--item-ids=-x.jpg"], ["-x.jpg"]),
        (["--item-ids", "-"], ["-"]),
        (["--item-ids", "a=b", "--data"], ["--data", "a=b"]),
        (["--item-ids", "last", "--", "--help"], ["--help", "last"]),
        (["--item-ids", "--", "--help"], ["--help"]),
        (["--item-ids", "last", "--item-ids", LONG], [LONG, "last"]),
        (["--item-ids", "zürich"], ["zürich"]),
        (["--item-ids-from", "ids.txt"], ["item 1", "--help"]),
        (["--item-ids-from", "ids.jsonl"], ["-x.jpg"]),
    ],
    ids=str,
)
def test_ids_are_ids_and_lists_have_a_flag_of_their_own(bundle: Path, arguments: list[str], gone: list[str]):
    Path("ids.txt").write_bytes("\ufeffitem 1\r\n--help\r\n".encode())
    write_jsonl(Path("ids.jsonl"), [{"item_id": "-x.jpg"}])
    main(["remove", "--identifiers", str(bundle), *arguments])
    assert removed(bundle) == gone


def test_flags_may_follow_the_ids(bundle: Path):
    main(["remove", "--item-ids", "last", "-x.jpg", "--identifiers", str(bundle)])
    assert removed(bundle) == ["-x.jpg", "last"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--item-ids", "no-item.txt"], "item 'no-item.txt' is not in the catalogue"),
        (["--item-ids", LONG * 20], "is not in the catalogue"),
        (["--item-ids"], "item_ids is empty"),
        (["--item-ids", "\udcff"], r"item id 0 is '\udcff'"),
        (["--item-ids-from", "ids.txt"], "ids.txt: item 'no item' is not in the catalogue"),
        (["--item-ids-from", "none.txt"], "none.txt: cannot be read"),
        (["--item-ids-from", "b"], "b: cannot be read (Is a directory)"),
        (["--item-ids", "last", "--item-ids-from", "none.txt"], "not allowed with argument"),
        ([], "one of the arguments --item-ids --item-ids-from is required"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_other_ids_are_refused_in_one_line(
    bundle: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture
):
    Path("ids.txt").write_text("last\nno item\n", encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        run_script(lambda: main(["remove", "--identifiers", str(bundle), *arguments]))
    assert end.value.code == 2
    assert said in capsys.readouterr().err
    assert not removed(bundle)


def test_ids_end_at_every_flag_of_the_command(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        main(["remove", "--help"])
    listed = re.findall(r"^  (?:(-\w), )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    assert {flag for pair in listed for flag in pair if flag} == {*FLAGS}


@pytest.mark.parametrize("item_ids", ["last", [], [None], ["last", 3]], ids=str)
def test_from_python_too(bundle: Path, item_ids: list):
    with pytest.raises(ValueError, match=r"item.ids? "):
        remove(bundle, item_ids)
