"""Read the kinds of files in which annotations are published: csv tables, JSON and lists of names, all UTF-8.

Error messages count rows from 1. The row of a csv file is the line on which it starts; the header is row 1. The row of
a JSON array is the position in the array.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cart_fairseq.base.reading import parse_json, read_bytes
from preprocess.annotations.entries import check_name


def read_text(path: Path) -> str:
    """Return the text of a file without its byte order mark. Line ends are not changed.

    Raises:
        ValueError: the file cannot be read, is compressed or not UTF-8.
    """
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, row {row}: invalid UTF-8 (byte 0x{content[error.start]:02x}); download the file again or save it "
            "as UTF-8"
        ) from None


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a csv file. Its header must have these columns and may have others. Blank lines are skipped.

    Yields:
        The place of the row, for messages, and its fields by column.

    Raises:
        ValueError: the file cannot be read or has no rows, a column is missing, a row has too many or too few fields,
            or a quote is not closed.
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
                        f"{where}: {len(fields)} fields, but {len(header)} columns; quote texts that contain a comma"
                    )
                yield where, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise ValueError(
            f"{path}, row {row}: broken csv ({error}); close every quote, and double quotes inside texts"
        ) from None
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
    """Return the value of a JSON file.

    Raises:
        ValueError: the file cannot be read, is not UTF-8 or not JSON.
    """
    return parse_json(read_text(path), str(path), "download the file again", "not valid JSON", rows=True)


def read_array(path: Path, value: Any, field: str) -> list[dict[str, Any]]:
    """Return the array of objects in a field of an object.

    Raises:
        ValueError: there is no such field, it is not an array, the array is empty, or an element is not an object.
    """
    rows = value.get(field) if isinstance(value, dict) else None
    if not isinstance(rows, list) or not rows:
        found = "there is none" if rows is None else f"found {repr(rows)[:40]}"
        raise ValueError(f"{path}: must be an object with an array {field!r}, but {found}; check which file it is")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number} of {field}: found {repr(row)[:40]}, must be an object; correct it")
    return rows


def read_names(path: Path) -> list[tuple[str, str]]:
    """Read a list of names, one on each line. Blank lines are skipped.

    Returns:
        The place of each name, for messages, and the name.
    """
    lines = enumerate(read_text(path).splitlines(), start=1)
    names = [(f"{path}, row {row}", line.strip()) for row, line in lines if line.strip()]
    if not names:
        raise ValueError(f"{path}: no names; write one on each line")
    return [(where, check_name(where, "name", name)) for where, name in names]
