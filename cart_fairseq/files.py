"""Atomic writing, and reading with errors that name file and row, for all steps."""

import atexit
import contextlib
import gc
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], directory: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``; rename it over ``path`` on success, remove it on failure.

    Args:
        path: the file or directory to create or replace; missing parent folders are created.
        directory: yield an existing empty directory, instead of the name of a file that does not exist yet.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    new = scratch / target.name
    if directory:
        new.mkdir()
    try:
        yield new
        if directory and target.exists():
            target.rename(scratch / "old")
            try:
                new.rename(target)
            except OSError:
                (scratch / "old").rename(target)
                raise
        else:
            os.replace(new, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: str | os.PathLike[str]) -> Any:
    """Parse a JSON file.

    Raises:
        ValueError: the file is missing, not UTF-8 or not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; make it again with the step that writes it") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); make it again with the step that writes it") from None


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with replacing(path) as new:
        new.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object on each line, atomically."""
    with replacing(path) as new, open(new, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Parse a file with one JSON object per line.

    Raises:
        ValueError: the file is missing, or a row is blank, not UTF-8, not JSON or not an object; rows count from 1.
    """
    rows = []
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, row {number}: invalid UTF-8 at byte {error.start} (0x{line[error.start]:02x}); save as UTF-8"
            ) from None
        except json.JSONDecodeError as error:
            found = line.decode("utf-8")[:60]
            raise ValueError(
                f"{path}, row {number}: broken JSON ({error.msg} at column {error.colno}, found {found!r}); "
                "write one JSON object per line, without blank lines"
            ) from None
        if not isinstance(row, dict):
            raise ValueError(
                f"{path}, row {number}: found {type(row).__name__}, not an object; write one {{...}} per line"
            )
        rows.append(row)
    return rows


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of a value's JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def run_script(main: Callable[[], None]) -> None:
    """Run a script's ``main``; a ValueError or OSError becomes one line on stderr and exit code 2."""
    # without this, a last garbage collection over torch's and fairseq's objects takes most of a second
    atexit.register(gc.freeze)
    try:
        main()
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2) from None
