"""A checkpoint of a few kilobytes fills no memory and takes no time, whatever is packed into it."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cart_fairseq.loading.archive import check_archive
from cart_fairseq.loading.checkpoint import read_checkpoint, write_checkpoint
from cart_fairseq.tasks.checked_checkpoints import load_checked

GOOD = Path(__file__).resolve().parents[2] / "compatibility" / "plain.pt"
State = dict[str, Any]


def nested(make: Callable[[Any], Any]) -> Any:
    """Ten levels, each ten times the one before: ten billion values, each there once."""
    value = make(["x" * 50] * 10) if make is list else ("x",) * 10
    for _ in range(10):
        value = make([value] * 10)
    return value


def put(*names: str) -> Callable[[State, Any], None]:
    """Set a value at a place in the state."""

    def change(state: Any, value: Any) -> None:
        for name in names[:-1]:
            state = state[name]
        if isinstance(state, dict):
            state[names[-1]] = value
        else:
            setattr(state, names[-1], value)

    return change


def last(state: State, value: Any) -> None:
    state["optimizer_history"][-1]["lr_scheduler_state"] = {"best": value}


PLACES: dict[str, Callable[[State, Any], None]] = {
    "history": put("optimizer_history"),
    "best": put("extra_state", "best"),
    "epoch": put("extra_state", "train_iterator", "epoch"),
    "metrics": lambda s, v: put("extra_state", "metrics")(s, {"default": [(0, "loss", v, {})]}),
    "schedule": last,
    "task": put("cfg", "task", "_name"),
    "setting": put("cfg", "model", "dropout"),
    "betas": lambda s, v: put("last_optimizer_state")(s, {"state": {}, "param_groups": [{"betas": v}]}),
    "step": lambda s, v: put("last_optimizer_state")(s, {"state": {0: {"step": v}}, "param_groups": []}),
    "moments": lambda s, v: put("last_optimizer_state")(s, {"state": {0: v}, "param_groups": []}),
    "moment": lambda s, v: put("last_optimizer_state")(s, {"state": {0: {"exp_avg": v}}, "param_groups": []}),
}


@pytest.mark.parametrize("value", [nested(list), 1 << 2000], ids=["nested", "a long number"])
@pytest.mark.parametrize("place", PLACES)
def test_a_value_that_is_no_scalar_is_refused_in_a_short_line(tmp_path: Path, place: str, value: Any):
    state = read_checkpoint(GOOD)
    PLACES[place](state, value)
    write_checkpoint(tmp_path / "evil.pt", state)
    if place in ("best", "schedule") and isinstance(value, int):  # any number is a score
        return
    with pytest.raises(ValueError, match=r"evil\.pt: ") as caught:
        load_checked(str(tmp_path / "evil.pt"))
    assert len(str(caught.value)) < len(str(tmp_path)) + 300


@pytest.mark.parametrize(
    "state",
    [0, None, torch.zeros(3), {"exp_avg": "x", "exp_avg_sq": "x"}, {"a": None}],
    ids=["number", "none", "tensor", "texts", "something else"],
)
def test_moments_of_another_kind_are_refused(tmp_path: Path, state: Any):
    checkpoint = read_checkpoint(GOOD)
    fine = {"exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2), "step": 1}
    checkpoint["last_optimizer_state"] = {"state": {0: fine, 1: state}, "param_groups": []}
    write_checkpoint(tmp_path / "evil.pt", checkpoint)
    with pytest.raises(ValueError, match=r"its state of the optimiser has .* of weight 1"):
        load_checked(str(tmp_path / "evil.pt"))


def test_tuples_that_would_be_hashed_for_ever_are_refused(tmp_path: Path):
    state = read_checkpoint(GOOD)
    deep = nested(tuple)
    state["extra"] = [deep]
    write_checkpoint(tmp_path / "list.pt", state)
    with zipfile.ZipFile(tmp_path / "list.pt") as source:
        pickled = source.read(next(name for name in source.namelist() if name.endswith("/data.pkl")))
    assert len(pickled) < 1 << 20
    with pytest.raises(ValueError, match="a tuple in it holds more than"):
        read_checkpoint(tmp_path / "list.pt")


def test_a_compressed_archive_is_refused(tmp_path: Path):
    path = tmp_path / "small.pt"
    path.write_bytes(repacked(GOOD.read_bytes(), zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match=r"small\.pt: its archive is "):
        read_checkpoint(path)


def repacked(archive: bytes, compression: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(packed, "w", compression) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    return packed.getvalue()


def test_an_archive_with_two_directories_is_refused(tmp_path: Path):
    """Python reads the one in front of the end, torch the one at the place that the end names."""
    packed = repacked(GOOD.read_bytes(), zipfile.ZIP_DEFLATED)
    end = packed.rindex(b"PK\x05\x06")
    size, place = struct.unpack("<2L", packed[end + 12 : end + 20])
    head = packed[: place + size]
    harmless = io.BytesIO()
    with zipfile.ZipFile(harmless, "w") as target:
        target.writestr("x", "hello")
    small = harmless.getvalue()
    own_end = small.rindex(b"PK\x05\x06")
    own_size, own_place = struct.unpack("<2L", small[own_end + 12 : own_end + 20])
    entry = bytearray(small[own_place : own_place + own_size])
    padding = size - own_size
    entry[30:32] = struct.pack("<H", padding)
    entry += struct.pack("<HH", 0x9999, padding - 4) + bytes(padding - 4)
    body = head + small[:own_place]
    shift = len(body) - place
    struct.pack_into("<L", entry, 42, len(head) - shift)
    path = tmp_path / "two.pt"
    path.write_bytes(body + bytes(entry) + packed[end:])
    with zipfile.ZipFile(path) as seen:
        assert seen.namelist() == ["x"]
        assert seen.testzip() is None
    assert "model" in torch.load(path, weights_only=True)
    with pytest.raises(ValueError, match=r"two\.pt: its archive is none that torch wrote"):
        check_archive(path)


def test_files_as_torch_wrote_them_before_are_refused(tmp_path: Path):
    """Nothing of them could be checked first, not even if an archive hangs at their end."""
    path = tmp_path / "old.pt"
    torch.save(read_checkpoint(GOOD), path, _use_new_zipfile_serialization=False)
    for end in (b"", GOOD.read_bytes()):
        path.write_bytes(path.read_bytes() + end)
        assert "model" in torch.load(path, weights_only=False)
        with pytest.raises(ValueError, match=r"old\.pt: not a checkpoint .*the file begins with"):
            load_checked(str(path))


def test_what_torch_writes_is_read(tmp_path: Path):
    assert read_checkpoint(GOOD)["model"]
    write_checkpoint(tmp_path / "new.pt", read_checkpoint(GOOD))
    check_archive(tmp_path / "new.pt")
    (tmp_path / "longer.pt").write_bytes(GOOD.read_bytes() + b"more")
    with pytest.raises(ValueError, match=r"longer\.pt: "):
        read_checkpoint(tmp_path / "longer.pt")
