"""Readers of the user's files: items.jsonl and captions.jsonl here, embeddings in `preprocess.data.embeddings`.

Everything is checked before anything is computed. Whatever is wrong becomes a `ValueError` that names the file, the row
(counted from 1, as editors do, in .jsonl files and from 0, as numpy does, in arrays), the value found and what to do
about it.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from cart_fairseq.base.progress import Progress
from cart_fairseq.base.reading import parse_row, read_jsonl, unreadable
from preprocess.data.embeddings import Embeddings
from preprocess.data.fields import MODALITIES, ROLES, SPLITS

OTHER_FIELDS = {
    "item_id": ("id", "itemid", "image_id", "video_id", "audio_id", "file_name", "filename"),
    "text": ("caption", "sentence", "query", "description"),
}
"""Names of fields in other data sets."""
OTHER_NAMES = {"val": "valid", "validation": "valid", "dev": "valid", "training": "train", "testing": "test"}
"""Names of splits in other data sets. Capitals count: `Train` is another name of `train`."""
OTHER_NAMES |= {name: name for name in (*SPLITS, *ROLES, *MODALITIES)}


def read_items(path: str | Path) -> list[dict[str, Any]]:
    """Read items.jsonl; line i describes embedding row i.

    Returns:
        The objects as they stand, unknown fields included.

    Raises:
        ValueError: unreadable rows (see `read_jsonl`), no rows, bad or duplicate `item_id`, bad `split` or `modality`.
    """
    items = read_jsonl(path)
    if not items:
        raise ValueError(f"{path}: no items; write one object a line")
    seen: dict[str, int] = {}
    for number, item in enumerate(items, start=1):
        item_id = check_item(f"{path}, row {number}", item)
        if item_id in seen:
            raise duplicate_id(path, number, item_id, seen[item_id])
        seen[item_id] = number
    return items


def check_item(where: str, item: dict[str, Any]) -> str:
    """Refuse an item with a bad field; return its id."""
    item_id = check_item_id(where, item)
    check_choice(where, "split", item.get("split"), SPLITS)
    check_choice(where, "modality", item.get("modality"), MODALITIES)
    if item.get("media") is not None and not isinstance(item["media"], str):
        raise ValueError(f"{where}: media is {item['media']!r}, must be a path as a string")
    check_encodable(where, item)
    return item_id


def duplicate_id(path: str | Path, number: int, item_id: str, first: int) -> ValueError:
    """The error for two items with one id."""
    return ValueError(f"{path}, row {number}: item_id {item_id!r} is already that of row {first}; make ids unique")


class ItemsFile(Sequence[dict[str, Any]]):
    """items.jsonl as `read_items` checks it, but parsed when asked for: 16 bytes an item stay in memory.

    Raises:
        ValueError: as `read_items`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        ends, digests, start = [0], bytearray(), 0
        try:
            size = self.path.stat().st_size
            lines = open(self.path, "rb")  # noqa: SIM115, closed below
        except OSError as error:
            raise unreadable(path, error) from None
        with lines, Progress(size, "checking items", "bytes") as progress:
            for number, line in enumerate(lines, start=1):
                start += len(line)
                if start == size and not line.strip():
                    break
                item_id = check_item(f"{path}, row {number}", self._parse(line))
                digests += hashlib.blake2b(item_id.encode(), digest_size=8).digest()
                ends.append(start)
                progress.update(len(line))
        if len(ends) == 1:
            raise ValueError(f"{path}: no items; write one object a line")
        self._ends = np.array(ends, dtype=np.int64)
        hashes = np.frombuffer(bytes(digests), dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        same = hashes[order][1:] == hashes[order][:-1]
        seen: dict[str, int] = {}
        for row in np.sort(np.union1d(order[1:][same], order[:-1][same])).tolist():
            item_id = self[row]["item_id"]
            if item_id in seen:
                raise duplicate_id(path, row + 1, item_id, seen[item_id])
            seen[item_id] = row + 1

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            return parse_row(line.decode("utf-8"), str(self.path))
        except ValueError:
            read_jsonl(self.path)  # says what is wrong, and where
            raise ValueError(f"{self.path}: changed while it was read; run the command again") from None

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        with open(self.path, "rb") as file:
            file.seek(self._ends[row])
            return self._parse(file.readline())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with open(self.path, "rb") as file:
            for line, _ in zip(file, range(len(self)), strict=False):
                yield self._parse(line)


def match_items(
    embeddings: Embeddings, items: Sequence[Any], embeddings_path: str | Path, items_path: str | Path
) -> None:
    """Refuse embeddings and items that differ in number."""
    if len(embeddings) != len(items):
        raise ValueError(
            f"{embeddings_path}: {len(embeddings)} rows, but {items_path} has {len(items)} items; line i must describe "
            "embedding row i"
        )


def read_captions(path: str | Path, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Read captions.jsonl against the items of `read_items`, field by field.

    What role and split mean together with the item's split is `preprocess.data.roles`' matter.

    Returns:
        The objects as they stand, in file order.

    Raises:
        ValueError: unreadable rows, no rows, an unknown item, an empty or non-string text, a bad role, split or
            caption_id.
    """
    captions = read_jsonl(path)
    if not captions:
        raise ValueError(f"{path}: no captions; write one object a line")
    known = {item["item_id"] for item in items}
    for number, caption in enumerate(captions, start=1):
        where = f"{path}, row {number}"
        item_id = check_item_id(where, caption)
        if item_id not in known:
            raise ValueError(f"{where}: item_id {item_id!r} is not among the items; add the item or drop the caption")
        text = caption.get("text")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where}: text is {text!r}; {hint(caption, 'text') or 'write a caption or drop the row'}")
        check_choice(where, "role", caption.get("role"), ROLES)
        check_choice(where, "split", caption.get("split"), SPLITS)
        if caption.get("caption_id") is not None:
            check_id(where, "caption_id", caption["caption_id"])
        check_encodable(where, caption)
    return captions


def check_item_id(where: str, row: dict[str, Any]) -> str:
    """Refuse a row without a good `item_id`; return it."""
    other = hint(row, "item_id")
    if other:
        raise ValueError(f"{where}: item_id is missing; {other}")
    return check_id(where, "item_id", row.get("item_id"))


def hint(row: dict[str, Any], field: str) -> str | None:
    """Advice where a row lacks a field but has one of the names that other data sets use for it.

    >>> hint({"caption": "a dog"}, "text")
    "rename its field 'caption' to 'text'"
    """
    other = next((name for name in OTHER_FIELDS[field] if isinstance(row.get(name), str)), None)
    return f"rename its field {other!r} to {field!r}" if other and row.get(field) is None else None


def check_id(where: str, field: str, value: Any) -> str:
    """Refuse ids that are no strings, empty, or hold tabs, line breaks or other control characters."""
    if not isinstance(value, str):
        found = "missing" if value is None else repr(value)
        raise ValueError(f"{where}: {field} is {found}; it must be a string" + ("" if value is None else ", quote it"))
    if not value.strip():
        raise ValueError(f"{where}: {field} is {value!r}; it must not be empty")
    bad = next((c for c in value if unicodedata.category(c) in ("Cc", "Zl", "Zp")), None)
    if bad is not None:
        kind = {"\t": "a tab", "\n": "a newline", "\r": "a newline"}.get(bad, f"the control character U+{ord(bad):04X}")
        raise ValueError(f"{where}: {field} {value!r} holds {kind}; result files are lines of columns, remove it")
    return value


def check_choice(where: str, field: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuse a value that is neither missing nor one of the allowed ones."""
    if value is not None and value not in allowed:
        meant = OTHER_NAMES.get(value.lower()) if isinstance(value, str) else None
        advice = f"write {meant!r}" if meant in allowed else "correct it"
        raise ValueError(f"{where}: {field} is {value!r}, must be one of {', '.join(allowed)} or be left out; {advice}")


def check_encodable(where: str, row: dict[str, Any]) -> None:
    r"""Refuse half surrogate pairs (`"\ud83d"` alone is legal JSON), which no UTF-8 file can hold."""
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: holds half a surrogate pair (U+{ord(error.object[error.start]):04X}); write real UTF-8"
        ) from None
