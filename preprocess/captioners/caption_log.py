"""The log of a run of `preprocess.generate_captions`: the captions so far.

Each line is one batch, so that a continued run makes the same batches as a run that was never interrupted.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Record:
    """The result for an item.

    Attributes:
        item_id: id of the item.
        texts: its new captions.
        error: why its media could not be read, or None.
    """

    item_id: str
    texts: list[str]
    error: str | None = None


class CaptionLog:
    """A file to which batches of records are appended. An incomplete last line, of a killed run, is removed.

    Args:
        path: the file. It is created if it does not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        whole, _, torn = (path.read_bytes() if path.is_file() else b"").rpartition(b"\n")
        if torn:
            os.truncate(path, len(whole) + 1 if whole else 0)
        lines = whole.decode("utf-8").split("\n") if whole else []
        self.records = [Record(**record) for line in lines for record in json.loads(line)]

    def add(self, records: Sequence[Record]) -> None:
        """Append a batch and wait until it is on disk."""
        with open(self.path, "a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps([dataclasses.asdict(record) for record in records], ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records += records
