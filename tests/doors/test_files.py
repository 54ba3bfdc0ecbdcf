"""Atomic writing, and errors that name the row."""

import subprocess
import sys
from pathlib import Path

import pytest

from cart_fairseq.base.files import replacing, sha256, write_json, write_jsonl
from cart_fairseq.base.reading import read_jsonl


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    before = sha256(tmp_path / "a.json")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.json") as new:  # noqa: PT012 - killed half-way
        new.write_text("half")
        raise RuntimeError
    assert sha256(tmp_path / "a.json") == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_directory_is_replaced_whole(tmp_path):
    for content in ("old", "new"):
        with replacing(tmp_path / "d", directory=True) as new:
            (new / content).write_text(content)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["new"]
    with pytest.raises(RuntimeError), replacing(tmp_path / "d", directory=True) as new:
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n\xff\n', r"row 2: invalid UTF-8 at byte 0 \(0xff\)"),
        (b'{"a": 1}\n{"a": \n', "row 2: broken JSON"),
        (b'{"a": 1}\n\n{"a": 2}\n', "row 2: broken JSON"),
        (b"[1]\n", "row 1: found list"),
    ],
)
def test_bad_rows_are_named(tmp_path, content, message):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_jsonl(tmp_path / "x.jsonl")


def test_rows_are_read_whatever_ends_the_file(tmp_path):
    for content in (b'{"a": 1}\r\n{"a": 2}', b'{"a": 1}\n{"a": 2}\n', b'{"a": 1}\n{"a": 2}\n'):
        (tmp_path / "x.jsonl").write_bytes(content)
        assert read_jsonl(tmp_path / "x.jsonl") == [{"a": 1}, {"a": 2}]
    with pytest.raises(ValueError, match="cannot be read"):
        read_jsonl(tmp_path / "none.jsonl")


def test_rows_are_read_as_they_were_written_and_a_failure_leaves_the_old_ones(tmp_path):
    rows: list[dict[str, object]] = [{"text": "zürich\u2028\n"}, {}, {"number": 1}]
    write_jsonl(tmp_path / "a.jsonl", iter(rows))
    assert read_jsonl(tmp_path / "a.jsonl") == rows
    with pytest.raises(TypeError):
        write_jsonl(tmp_path / "a.jsonl", [{"text": "new"}, {"set": {1}}])
    assert read_jsonl(tmp_path / "a.jsonl") == rows
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_scripts_end_with_one_line_and_code_2():
    code = "from cart_fairseq.base.files import run_script\ndef main(): raise ValueError('x:\\n y')\nrun_script(main)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2]
    )
    assert (done.returncode, done.stderr) == (2, "error: x: y\n")
