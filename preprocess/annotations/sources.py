"""The kinds of file that annotations are published in: csv tables, JSON and lists of names, all UTF-8.

Rows count from 1, as editors do: the row of a csv file is the line that it starts on, its header being row 1; the row
of an array in a JSON file is the position in it.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from preprocess.annotations.entries import check_name


def read_text(path: Path) -> str:
    """The text of a file, without a byte order mark; line ends stay as they are.

    Raises:
        ValueError: the file cannot be read or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, row {row}: invalid UTF-8 (byte 0x{content[error.start]:02x}); download the file again or save it "
            "as UTF-8"
        ) from None


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a csv file whose header names the columns; other columns may be there too. Blank lines are skipped.

    Yields:
        Where the row is, for messages, and its fields by column.

    Raises:
        ValueError: unreadable, a column is missing, a row has another number of fields, broken quotes, or no rows.
    """
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    header: list[str] = []
    row, found = 1, False
    try:
        for fields in rows:
            where, row = f"{path}, row {row}", rows.line_num + 1
            if not header:
                header = _check_header(where, fields, columns)
            elif fields:
                found = True
                if len(fields) != len(header):
                    raise ValueError(
                        f"{where}: {len(fields)} fields, {len(header)} columns; quote a text that holds a comma"
                    )
                yield where, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}, row {row}: broken csv ({error}); close each quote and double those inside") from None
    if not found:
        raise ValueError(f"{path}: no rows; download the file again")


def _check_header(where: str, header: list[str], columns: Sequence[str]) -> list[str]:
    lacking = [column for column in columns if column not in header]
    if lacking:
        raise ValueError(
            f"{where}: no column {lacking[0]!r}, found {','.join(header)[:100]!r}; the first row must name the columns "
            f"{','.join(columns)}"
        )
    return header


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        ValueError: the file cannot be read, is not UTF-8 or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, row {error.lineno}: not valid JSON ({error.msg} at column {error.colno}); download the file again"
        ) from None


def read_array(path: Path, value: Any, field: str) -> list[dict[str, Any]]:
    """The array of objects that an object has as a field.

    Raises:
        ValueError: no such field, not an array, an empty one, or an element that is no object.
    """
    rows = value.get(field) if isinstance(value, dict) else None
    if not isinstance(rows, list) or not rows:
        found = "there is none" if rows is None else f"found {repr(rows)[:40]}"
        raise ValueError(f"{path}: must be an object with an array {field!r}, but {found}; check which file it is")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number} of {field}: found {repr(row)[:40]}, must be an object; mend it")
    return rows


def read_names(path: Path) -> list[tuple[str, str]]:
    """A list of names, one a line; blank lines are skipped.

    Returns:
        Where the name is, for messages, and the name.
    """
    lines = enumerate(read_text(path).splitlines(), start=1)
    names = [(f"{path}, row {row}", line.strip()) for row, line in lines if line.strip()]
    if not names:
        raise ValueError(f"{path}: no names; write one a line")
    return [(where, check_name(where, "name", name)) for where, name in names]
