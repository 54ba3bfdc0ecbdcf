"""Item ids as the command line of `update_identifiers remove` gives them."""

from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.files import read_jsonl


def read_ids(given: Sequence[str]) -> list[str]:
    """Item ids themselves, or those of one file: an id a line, or (`.jsonl`) an object with `item_id` a line.

    Raises:
        ValueError: the file holds none, or a row without one.
    """
    path = Path(given[0])
    if len(given) > 1 or not path.is_file():
        return list(given)
    if path.suffix == ".jsonl":
        rows = read_jsonl(path)
        for number, row in enumerate(rows, start=1):
            if not isinstance(row.get("item_id"), str):
                raise ValueError(f"{path}, row {number}: item_id is {row.get('item_id')!r}; it must be a string")
        found = [row["item_id"] for row in rows]
    else:
        try:
            found = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: invalid UTF-8 at byte {error.start}; save as UTF-8") from None
    if not found:
        raise ValueError(f"{path}: no item ids; write one a line")
    return found
