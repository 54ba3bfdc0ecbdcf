"""Texts beside a medium: `a.txt` and `a.json` for `a.jpg`, as img2dataset writes them; also `a.jpg.txt` and `a.jpg.json`."""

from pathlib import Path
from typing import Any

from cart_fairseq.base.reading import parse_json
from preprocess.folder.limits import SIDECAR_BYTES
from preprocess.folder.texts import clean
from preprocess.folder.values import captions_of, metadata_fields


def read_sidecar(path: Path) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Return the captions in a sidecar with their source, and the fields.

    The whole of a `.txt` is one caption. A `.json` is an object; see `preprocess.folder.values`.

    Raises:
        ValueError: the file is too large, not UTF-8 or not JSON.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read(SIDECAR_BYTES + 1)
    if len(content) > SIDECAR_BYTES:
        raise ValueError(f"{path}: has more than {SIDECAR_BYTES:,} bytes; make it shorter")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: invalid UTF-8 at byte {error.start}; save as UTF-8") from None
    if path.suffix.lower() == ".txt":
        return [("txt", clean(text))], {}
    row = parse_json(text, str(path), "write one JSON object", "not valid JSON")
    if not isinstance(row, dict):
        raise ValueError(f"{path}: found {type(row).__name__}, not an object; write one {{...}}")
    return [("json", caption) for caption in captions_of(row)], metadata_fields(row)
