"""`Output`: what may be replaced, what is current, and the working folder of a run that may be killed."""

import contextlib
import fcntl
import shutil
from pathlib import Path

import pytest

from cart_fairseq.base.files import sha256, write_json
from cart_fairseq.base.reading import read_json
from preprocess.data.output import Kind, Made, Output


def read_parcel(path: Path) -> Made:
    record = read_json(path / "parcel.json")
    if record["version"] != 2:
        raise ValueError(f"{path}: version {record['version']}")
    return Made(record["made_from"], {path / name: digest for name, digest in record["files"].items()})


PARCEL = Kind("parcel", read_parcel, lambda path: path / "parcel.json", marks={"kind": "parcel"})
STRICT = Kind("parcel", read_parcel, lambda path: path / "parcel.json", names=("parcel.json", "a.txt"))
LETTER = Kind("letter", lambda path: Made("me", {path: read_json(f"{path}.json")}), lambda p: Path(f"{p}.json"), False)


def make(path: Path, made_from: str = "x", kind: str = "parcel") -> Path:
    with Output(path, PARCEL).replacing() as new:
        (new / "a.txt").write_text(made_from)
        checksums = {"a.txt": sha256(new / "a.txt")}
        write_json(new / "parcel.json", {"kind": kind, "version": 2, "made_from": made_from, "files": checksums})
    return path


def test_current_means_complete_undamaged_and_from_the_same(tmp_path, capsys):
    output = Output(str(tmp_path / "out"), PARCEL)
    assert not output.is_current("x")
    (tmp_path / "out").mkdir()
    assert not output.is_current("x")
    make(tmp_path / "out")
    assert output.is_current("x")
    assert not output.is_current("y")
    assert capsys.readouterr().err == ""
    (tmp_path / "out" / "a.txt").write_text("changed")
    assert not output.is_current("x")
    (tmp_path / "out" / "a.txt").unlink()
    assert not output.is_current("x")
    assert capsys.readouterr().err.count("out: building it again (") == 2
    write_json(tmp_path / "out" / "parcel.json", {"kind": "parcel", "version": 1})
    assert not output.is_current("x")
    assert "version 1" in capsys.readouterr().err


def test_what_another_wrote_is_never_replaced(tmp_path):
    (tmp_path / "file").write_text("notes")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("notes")
    make(tmp_path / "other", kind="letter")
    make(tmp_path / "more")
    (tmp_path / "more" / "notes.txt").write_text("notes")
    for name, kind, message in (
        ("file", PARCEL, "file: is a file; --output is a folder"),
        ("folder", PARCEL, "folder: holds files that are no parcel; choose an empty or new folder"),
        ("other", PARCEL, "other: holds files that are no parcel"),
        ("folder", STRICT, "folder: holds 'notes.txt', which is not of this command"),
        ("more", STRICT, "more: holds 'notes.txt', which is not of this command"),
        ("file", LETTER, "file: exists and was not made by this command"),
        ("folder", LETTER, "folder: exists and was not made by this command"),
    ):
        output = Output(tmp_path / name, kind)
        with pytest.raises(ValueError, match=message):
            output.refuse_foreign()
        with pytest.raises(ValueError, match=message):
            output.is_current("x")
    Output(tmp_path / "more", PARCEL).refuse_foreign()


def test_a_file_has_its_record_beside_it(tmp_path):
    output = Output(tmp_path / "a.npy", LETTER)
    with output.replacing() as new:
        new.write_text("dear")
        write_json(output.record, sha256(new))
    assert output.is_current("me")
    (tmp_path / "a.npy").write_text("drea")
    assert not output.is_current("me")


def test_a_second_run_at_the_same_time_is_refused(tmp_path):
    first, second = Output(tmp_path / "out", PARCEL), Output(tmp_path / "out", PARCEL)
    with first.working("key"), pytest.raises(ValueError, match="another run is building"), second.working("key"):
        pass
    make(tmp_path / "out")
    with first.working("key"), pytest.raises(ValueError, match="another run is building"):
        second.is_current("x")


def test_a_lock_keeps_a_second_run_out_and_leaves_nothing(tmp_path):
    first, second = Output(tmp_path / "out", PARCEL), Output(tmp_path / "out", PARCEL)
    with first.locked(), pytest.raises(ValueError, match="another run is building"), second.locked():
        pass
    with pytest.raises(KeyError), second.locked():
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_owner_removed_keeps_nobody_out_and_is_not_taken(tmp_path, monkeypatch):
    output = Output(tmp_path / "out", PARCEL)
    flock, calls = fcntl.flock, []

    def late(lock: int, how: int) -> None:
        """The other run ends between the opening of the lock and its taking."""
        calls.append(how)
        if len(calls) == 1:
            shutil.rmtree(output.work)
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with output.locked():
        assert (output.work / "lock").is_file()
        monkeypatch.undo()
        with pytest.raises(ValueError, match="another run"), Output(tmp_path / "out", PARCEL).locked():
            pass
    assert len(calls) == 2


def test_a_working_folder_goes_on_with_its_own_key_only_and_is_gone_at_the_end(tmp_path, capsys):
    output = Output(tmp_path / "deep" / "out", PARCEL)

    def interrupted(key: str) -> list[str]:
        found: list[str] = []
        with contextlib.suppress(KeyboardInterrupt), output.working(key) as work:
            found += sorted(path.name for path in work.iterdir())
            (work / "folder").mkdir(exist_ok=True)
            (work / "half.npy").write_text("half")
            raise KeyboardInterrupt
        return found

    assert interrupted("key") == ["key.json", "lock"]
    assert interrupted("key") == ["folder", "half.npy", "key.json", "lock"]
    assert "going on where an interrupted run stopped" in capsys.readouterr().out
    with output.working("other") as work:
        assert sorted(path.name for path in work.iterdir()) == ["key.json", "lock"]
    assert capsys.readouterr().out == ""
    assert not output.work.exists()


def test_a_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    make(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "a.txt").is_file()
    assert Output(tmp_path / "out", PARCEL).is_current("x")


def test_only_its_own_leftovers_are_removed(tmp_path):
    names = (".out.abcd_123.tmp", ".out.b.abcd_123.tmp", ".out.tmp", ".o[u]t.abcd_123.tmp")
    for name in (*names, "out.partial", "out.b.partial"):
        (tmp_path / name).mkdir()
    assert Output(make(tmp_path / "out"), PARCEL).is_current("x")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[1:], "out", "out.b.partial"])
    Output(tmp_path / "o[u]t", PARCEL).remove_leftovers()
    assert not (tmp_path / names[3]).exists()


@pytest.mark.parametrize("path", ["", ".", "/", ".."])
def test_a_path_without_a_name_is_refused(path):
    with pytest.raises(ValueError, match=r"^--output is '.*', which names no folder or file; give a name of its own$"):
        Output(path, PARCEL)
