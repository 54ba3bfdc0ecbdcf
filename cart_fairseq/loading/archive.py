"""Checks the archive of a checkpoint before torch reads it, so that a small file cannot fill memory or take for ever.

torch's safe loading runs no code of a file, but it inflates compressed parts, and compares no checksums. What
Python's ``zipfile`` sees of an archive is checked here, and that torch will see the same.
"""

import os
import pickle
import pickletools
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from cart_fairseq.base.reading import first_line

ZIP = b"PK\x03\x04"
"""The first bytes of a zip file, which torch's checkpoints are."""
ANOTHER = "give another checkpoint of the run, or train again"
NOT_OURS = "is none that torch wrote; train again"
END, END_64, LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
"""The first bytes of the records that end an archive; the last two are of large archives, and of all of torch's."""
TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE", "NEWOBJ")
"""Steps of a pickle that make tuples, or may make kinds of them."""
MOST_IN_TUPLE = 1 << 20
"""The most values in a tuple and the tuples in it. Python compares and hashes all of them, however often one is shared."""


def check_archive(path: str | Path) -> None:
    """Check the archive of a checkpoint.

    Raises:
        pickle.UnpicklingError: it is no archive. torch also loads files as it wrote them before 1.6, unchecked.
        ValueError: it is compressed, so that a small file could fill the memory; readers would not agree on what is in
            it; a part is damaged; or its values are no pickle, or nested so that to compare them would take for ever.
    """
    with open(path, "rb") as file:
        begin = file.read(len(ZIP))
    if begin != ZIP or not zipfile.is_zipfile(path):
        raise pickle.UnpicklingError("it is no archive")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_directory(path)
            stored = not any(entry.compress_type for entry in entries)
            if not stored or sum(entry.file_size for entry in entries) > os.path.getsize(path):
                raise ValueError(f"{path}: its archive is compressed, as fairseq writes none; train again")
            bad = archive.testzip()
            if bad is None:
                for entry in entries:
                    if entry.filename.endswith("/data.pkl"):
                        _check_tuples(path, archive.read(entry))
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(f"{path}: its archive is damaged ({first_line(error)}); {ANOTHER}") from None
    if bad is not None:
        raise ValueError(f"{path}: its part {bad} is damaged, its checksum differs; {ANOTHER}")


def _check_directory(path: str | Path) -> None:
    """Raise ValueError where the directory of an archive is not where its last record says.

    Python takes the directory in front of that record, torch the one at the stated place. An archive with two could be
    checked by one and loaded by the other.
    """
    with open(path, "rb") as file:
        end = file.seek(-22, os.SEEK_END)
        signature, _, _, _, _, size, place, comment = struct.unpack("<4s4H2LH", file.read(22))
        whole = signature == END and not comment
        if end >= 76:
            file.seek(end - 76)
            last, locator = file.read(56), file.read(20)
            if locator.startswith(LOCATOR_64):
                end -= 76
                whole &= last.startswith(END_64) and struct.unpack("<Q", locator[8:16])[0] == end
                large_size, large_place = struct.unpack("<2Q", last[40:56])
                whole &= size in (large_size, 0xFFFFFFFF) and place in (large_place, 0xFFFFFFFF)
                size, place = large_size, large_place
    if not whole or place + size != end:
        raise ValueError(f"{path}: its archive {NOT_OURS}")


def _check_tuples(path: str | Path, pickled: bytes) -> None:
    """Raise ValueError where a tuple holds too many values, all the tuples in it counted out.

    A pickle names a value that it holds already at the cost of a byte. Ten levels of tuples, each ten times the one
    before, are ten billion values in a hundred bytes; as a key of a dictionary all of them are hashed.
    """
    stack: list[Any] = []  # the number of values of each, or None for a mark
    memo: dict[Any, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            before = [each.name for each in opcode.stack_before]
            values: list[int] = []
            if "mark" in before:
                while (value := stack.pop()) is not None:
                    values.append(value)
                before = before[: before.index("mark")]
            values += [stack.pop() or 1 for _ in before]
            if opcode.name in ("BINPUT", "LONG_BINPUT", "PUT"):
                memo[argument] = stack[-1]
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = values[0]
                stack += values
            elif opcode.name in ("BINGET", "LONG_BINGET", "GET"):
                stack.append(memo[argument])
            elif opcode.name == "MARK":
                stack.append(None)
            else:
                is_tuple = opcode.name in TUPLES
                count = 1 + sum(values) if is_tuple else 1
                if count > MOST_IN_TUPLE:
                    raise ValueError(f"{path}: a tuple in it holds more than {MOST_IN_TUPLE:,} values; {ANOTHER}")
                stack += [count] * len(opcode.stack_after)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise ValueError(
            f"{path}: its values are no pickle that torch wrote ({first_line(error)}); {ANOTHER}"
        ) from None
