"""Updates that are killed at any moment, and two at once."""

import multiprocessing
import os
import random
import shutil
import signal
import sys

import numpy as np
import pytest
from changing import make_data_bin, new_items
from conftest import ITEMS
from processes import forked

from cart_fairseq.base.files import sha256
from cart_fairseq.base.processes import run_script
from cart_fairseq.catalogue.data_bin import DataBin
from preprocess.updating.bundle import locked
from preprocess.updating.steps import add, compact, remove

POINTS = 8  # kills per operation, drawn by chance but the same in every run
EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


def in_a_child(action, kill_at=None):
    """Run in a forked process, killed before its `kill_at`-th change of the file system; exit code, changes made."""
    changes = multiprocessing.RawValue("i", 0)  # without a lock that a killed child could keep

    def watched():
        def watch(event, arguments):
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in EVENTS or writes:
                changes.value += 1
                if changes.value == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        action()

    with forked(watched) as child:
        child.join()
        return child.exitcode, changes.value


def contents(path):
    return {p.relative_to(path).as_posix(): sha256(p) for p in sorted(path.rglob("*")) if p.is_file()}


def opened(path):
    """What a reader finds: the state, after checking that all parts agree on it."""
    data = DataBin(path)
    data.bundle.verify()
    kept = data.bundle.kept.tolist()
    assert sorted(data.trie.rows.tolist()) == kept
    assert np.load(data.directory / "candidates.all.npy").tolist() == kept
    for subset in data.manifest["counts"]:
        assert (data.directory / f"queries.{subset}.parquet").is_file()
    assert len(data.bundle.item_ids) == len(data.bundle)
    return data.bundle.state


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A data-bin before each of the operations, and the operation."""
    root = tmp_path_factory.mktemp("worlds")
    current = make_data_bin(root)
    new = new_items(root / "new")
    found = {}
    for name, operation in {
        "add": lambda target: add(target, *new),
        "remove": lambda target: remove(target, [f"item {i}" for i in range(1, ITEMS, 3)]),
        "compact": compact,
    }.items():
        shutil.copytree(current, root / name)
        found[name] = root / name, operation
        operation(current)
    return found


@pytest.mark.parametrize("name", ["add", "remove", "compact"])
def test_a_killed_update_leaves_the_old_state_or_the_new_and_is_finished_by_the_next(worlds, name, tmp_path):
    before, operation = worlds[name]
    unbroken = tmp_path / "unbroken" / "data-bin"
    shutil.copytree(before, unbroken)
    code, changes = in_a_child(lambda: operation(unbroken))
    assert code == 0
    assert changes > 50
    states = opened(before), opened(unbroken)
    expected = contents(unbroken)
    random.seed(name)
    points = random.sample(range(1, changes + 1), int(os.environ.get("KILL_POINTS", POINTS)) or changes)
    killed = tmp_path / "killed" / "data-bin"
    for point in sorted(points):
        shutil.rmtree(killed.parent, ignore_errors=True)
        shutil.copytree(before, killed)
        code, _ = in_a_child(lambda: operation(killed), kill_at=point)
        assert code == -signal.SIGKILL
        assert opened(killed) in states, point
        code, _ = in_a_child(lambda: operation(killed))
        assert code == 0, point
        assert contents(killed) == expected, point


def test_of_two_updates_at_once_one_is_told(worlds, tmp_path, capsys):
    before, operation = worlds["add"]
    path = tmp_path / "data-bin"
    shutil.copytree(before, path)
    unchanged = contents(path)
    with locked(path / "identifiers"), pytest.raises(SystemExit) as stopped:
        run_script(lambda: operation(path))
    assert stopped.value.code == 2
    assert "another process is updating it; wait for that one and try again" in capsys.readouterr().err
    (path / "identifiers" / "update.lock").unlink()
    assert contents(path) == unchanged
    operation(path)
    assert len(DataBin(path).bundle) > ITEMS
