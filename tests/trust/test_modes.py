"""Files that we make have the modes that the umask says, and a file that may not be read is not called missing."""

import contextlib
import io
import multiprocessing
import multiprocessing.queues
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutations import COMMANDS, make_world
from processes import forked, needs_fork
from safetensors.torch import save_file
from torch import ones

from cart_fairseq.base.files import replacing
from cart_fairseq.base.processes import run_script

NOBODY = 65534


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}


STEPS = ["build", "binarize", "binarize a join", "join", "add", "remove", "clotho"]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077], ids=oct)
def test_every_file_of_every_step_follows_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int):
    with umask(mask):
        make_world(tmp_path / "world")
        monkeypatch.chdir(tmp_path / "world")
        for path in Path().rglob("*"):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        for step in STEPS:
            main, flags = COMMANDS[step]
            main([f"{step}.out" if flag == "out" else flag for flag in flags.split()])
    for name, mode in modes(tmp_path / "world").items():
        folder = (tmp_path / "world" / name).is_dir()
        assert oct(mode) == oct((0o777 if folder else 0o666) & ~mask), name


def test_modes_of_files_that_are_linked_in_stay(tmp_path: Path):
    (tmp_path / "old").write_text("mine")
    (tmp_path / "old").chmod(0o600)
    with umask(0o022), replacing(tmp_path / "new", directory=True) as new:
        os.link(tmp_path / "old", new / "linked")
        save_file({"x": ones(1)}, new / "made.safetensors")
    assert modes(tmp_path / "new") == {"linked": 0o600, "made.safetensors": 0o644}


@pytest.fixture(scope="module")
def world() -> Iterator[Path]:
    """A world where every account may look and write; pytest's own folders are for their owner alone."""
    with tempfile.TemporaryDirectory() as folder:
        make_world(Path(folder) / "world")
        for path in [Path(folder), *Path(folder).rglob("*")]:
            path.chmod(0o777)
        yield Path(folder) / "world"


def say(world: Path, command: str, said: multiprocessing.queues.Queue) -> None:
    """Run a command in the world as an account that owns nothing there."""
    os.chdir(world)
    tempfile.tempdir = str(world)
    if os.geteuid() == 0:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    main, flags = COMMANDS[command]
    text, code = io.StringIO(), 0
    try:
        with contextlib.redirect_stderr(text):
            run_script(lambda: main(flags.split()))
    except SystemExit as end:
        code = int(end.code or 0)
    said.put((code, text.getvalue()))


def message_without(world: Path, command: str, file: str) -> tuple[int, str]:
    """Exit code of a command, and what it says when it may not read a file."""
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    (world / file).chmod(0)
    try:
        with forked(say, world, command, said):
            return said.get(timeout=60)
    finally:
        (world / file).chmod(0o777)


@needs_fork
@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("search", "data-bin/manifest.json"),
        ("search", "data-bin/trie.safetensors"),
        ("search", "data-bin/identifiers/manifest.json"),
        ("search", "data-bin/identifiers/identifiers.npy"),
        ("search", "data-bin/identifiers/item_ids.parquet"),
        ("search", "data-bin/dense.embeddings.npy"),
        ("search", "data-bin/dict.query.txt"),
        ("search", "data-bin/sentencepiece.model"),
        ("search", "dense.pt"),
        ("search", "in/queries.jsonl"),
        ("measure", "in/generate-test.txt"),
        ("build", "in/embeddings.npy"),
        ("build", "in/items.jsonl"),
        ("build from a table", "in/table.parquet"),
        ("binarize", "in/captions.jsonl"),
        ("binarize a join", "joined/join.json"),
        ("join", "joined/join.safetensors"),
        ("clotho", "in/clotho_captions_development.csv"),
        ("remove", "in/ids.txt"),
        ("search", "data-bin"),
        ("binarize", "bundle"),
        ("build", "in"),
    ],
)
def test_a_file_that_may_not_be_read_is_not_called_missing_or_damaged(world: Path, command: str, file: str):
    code, said = message_without(world, command, file)
    assert code == 2, said
    assert re.search(rf"^error: {re.escape(file)}.*Permission denied.*; give your account the right", said), said
