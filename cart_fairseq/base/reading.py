"""Reading texts and JSON with errors that name file, row, what was found and what to do. Standard library only."""

import json
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cart_fairseq.base.checks import is_encodable

DEEPEST = 100
"""Levels of nesting in JSON. Python's own reader and writer fail at different depths, which depend on the caller."""
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"(\xb5/\xfd": "zstandard", b"PK\x03\x04": "zip"}
"""First bytes of compressed files."""
MADE_AGAIN = "make it again with the step that writes it"


def unreadable(path: str | os.PathLike[str], error: OSError, remedy: str | None = None) -> ValueError:
    """Return the error for a file that cannot be read: one that is missing, one that may not be read, or another.

    Args:
        path: the file.
        error: of the system.
        remedy: for a file that a step of ours writes; None: for a file that the user gives.

    >>> print(unreadable("a.json", PermissionError(13, "Permission denied")))
    a.json: may not be read (Permission denied); give your account the right to read the file and its folder
    """
    if isinstance(error, PermissionError):
        remedy = "give your account the right to read the file and its folder"
        return ValueError(f"{path}: may not be read ({error.strerror}); {remedy}")
    if isinstance(error, FileNotFoundError) and remedy:
        return ValueError(f"{path}: no such file; {remedy}")
    return ValueError(f"{path}: cannot be read ({error.strerror or error}); {remedy or 'check the path'}")


def unusable(path: str | os.PathLike[str], error: BaseException, remedy: str) -> ValueError:
    """Return the error for a file of ours that a library could not read: damaged, missing, or not to be read by us.

    Libraries do not always say which. safetensors calls a file missing that it may not open.
    """
    try:
        with open(path, "rb"):
            pass
    except OSError as refused:
        return unreadable(path, refused, remedy)
    return ValueError(f"{path}: damaged ({reason(error)}); {remedy}")


def reason(error: BaseException, after: str = "") -> str:
    """Return the first line of an error's message, or of what follows ``after`` in it, shortened; else its type.

    >>> reason(KeyError("model")), reason(EOFError())
    ("'model'", 'EOFError')
    """
    message = str(error)
    lines = message[message.find(after) + len(after) :].strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[0], 160)


def first_line(error: Exception, after: str = "") -> str:
    """Return an error's type and the first line of its message, or of what follows ``after`` in it, shortened.

    >>> first_line(KeyError("model"))
    "KeyError: 'model'"
    """
    kind, said = type(error).__name__, reason(error, after)
    return textwrap.shorten(kind if said == kind else f"{kind}: {said}", 160)


def read_begin(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a file."""
    with open(path, "rb") as file:
        return file.read(8)


def refuse_packed(path: str | os.PathLike[str], begin: bytes) -> None:
    """Refuse a file that is compressed, by its first bytes. An archive of arrays (``.npz``) is a zip file.

    Raises:
        ValueError: it is; the message names the kind.
    """
    kind = next((name for magic, name in PACKED.items() if begin.startswith(magic)), None)
    if kind is not None:
        raise ValueError(f"{path}: is a {kind} file, which is not read; unpack it and give the file inside")


def read_bytes(path: str | os.PathLike[str], remedy: str | None = None) -> bytes:
    """Read a file that is not compressed.

    Raises:
        ValueError: the file is missing, may not be read, or is compressed; the message names it.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise unreadable(path, error, remedy) from None
    refuse_packed(path, content[:8])
    return content


def read_text(path: str | os.PathLike[str], remedy: str | None = None) -> str:
    """Read a text file in UTF-8, without its byte order mark. Line ends are not changed.

    Raises:
        ValueError: the file cannot be read, is compressed or not UTF-8; the message names the file and the row.
    """
    content = read_bytes(path, remedy)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1)
        raise ValueError(
            f"{path}, row {row}: invalid UTF-8 at byte {column} (0x{content[error.start]:02x}); save as UTF-8"
        ) from None


def parse_json(text: str, where: str, remedy: str, fault: str = "broken JSON", rows: bool = False) -> Any:
    """Parse JSON.

    Args:
        text: the JSON.
        where: file, and row if there are several values in it; the message begins with it.
        remedy: the message ends with it.
        fault: what messages call text that is not JSON.
        rows: whether messages name the row of the text.

    Raises:
        ValueError: the text is not JSON, a number has thousands of digits, or it is nested too deeply.
    """
    try:
        value = json.loads(text)
        if text.count("[") + text.count("{") > DEEPEST and _is_deep(value):
            raise RecursionError
        return value
    except json.JSONDecodeError as error:
        where += f", row {error.lineno}" if rows else ""
        place = f"{error.msg} at {'' if rows or error.lineno == 1 else f'row {error.lineno}, '}column {error.colno}"
        found = text.split("\n")[error.lineno - 1][:60]
        raise ValueError(f"{where}: {fault} ({place}, found {found!r}); {remedy}") from None
    except RecursionError:
        raise ValueError(f"{where}: JSON nested in more than {DEEPEST} levels; {remedy}") from None
    except ValueError as error:  # Python reads no whole numbers of more than 4,300 digits
        raise ValueError(f"{where}: a number with too many digits ({str(error).split(';')[0]}); {remedy}") from None


def _is_deep(value: Any) -> bool:
    """Whether lists and objects are nested in more than `DEEPEST` levels."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for each in level if isinstance(each, list | dict) for inner in _inside(each)]
        if not level:
            return False
    return True


def _inside(value: list[Any] | dict[str, Any]) -> list[Any]:
    return [*(value.values() if isinstance(value, dict) else value)]


def read_json(path: str | os.PathLike[str], remedy: str = MADE_AGAIN) -> Any:
    """Parse a JSON file.

    Raises:
        ValueError: the file is missing, may not be read, is not UTF-8 or not JSON; the message names it.
    """
    return parse_json(read_text(path, remedy), str(path), remedy, "not valid JSON")


TYPES = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}


def check_fields(
    path: str | os.PathLike[str], record: Mapping[str, Any], kinds: Mapping[str, type], remedy: str
) -> None:
    """Check the types of fields of a record that a step of ours wrote.

    Raises:
        ValueError: a field is missing or has another type; the message names file, field and value.
    """
    for name, kind in kinds.items():
        value = record.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            found = "missing" if name not in record else textwrap.shorten(repr(value), 60)
            raise ValueError(f"{path}: damaged ({name} is {found}, not {TYPES[kind]}); {remedy}")


def check_version(where: str, found: Any, known: int, remedy: str) -> None:
    """Check the version of a file's format.

    Args:
        where: the file, and the name of the field.
        known: the version that this code reads.
        remedy: the advice for an older version; for a newer one it is to install a newer cart-fairseq.

    Raises:
        ValueError: it is another version.

    >>> check_version("manifest.json: schema_version", 2, 1, "make it again")
    Traceback (most recent call last):
    ValueError: manifest.json: schema_version is 2, this version reads 1; install a newer version of cart-fairseq
    """
    if found != known:
        newer = isinstance(found, int) and found > known
        advice = "install a newer version of cart-fairseq" if newer else remedy
        raise ValueError(f"{where} is {textwrap.shorten(repr(found), 60)}, this version reads {known}; {advice}")


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Parse a file with one JSON object per line. A byte order mark is skipped.

    Raises:
        ValueError: the file is missing, or a row is blank, not UTF-8, not JSON or not an object; rows count from 1.
    """
    lines = read_text(path).split("\n")
    if lines and not lines[-1].strip():
        lines.pop()
    return [parse_row(line, f"{path}, row {number}") for number, line in enumerate(lines, start=1)]


def parse_row(line: str, where: str) -> dict[str, Any]:
    """Parse a line of a file with one JSON object per line.

    Raises:
        ValueError: the line is blank, not JSON or not an object.
    """
    row = parse_json(line.removeprefix("\ufeff"), where, "write one JSON object per line, without blank lines")
    if not isinstance(row, dict):
        raise ValueError(f"{where}: found {type(row).__name__}, not an object; write one {{...}} per line")
    return row


def printable(text: str) -> str:
    r"""Return a text that every terminal and log can hold: what UTF-8 cannot encode is escaped.

    >>> printable("a\udcff")
    'a\\udcff'
    """
    return text if is_encodable(text) else text.encode("utf-8", "backslashreplace").decode("utf-8")
