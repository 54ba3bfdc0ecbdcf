"""The log of a run of `preprocess.generate_captions`: the captions so far, a batch a line.

A batch is one line, so that a run that goes on makes the same batches as one that was never stopped.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Record:
    """What became of an item.

    Attributes:
        item_id: its name.
        texts: its new captions.
        error: why it has none, or None.
    """

    item_id: str
    texts: list[str]
    error: str | None = None


class CaptionLog:
    """A file that batches of records are added to; of a line that was cut off when the run was killed nothing is left.

    Args:
        path: the file; made if it is not there.
    """

    def __init__(self, path: Path):
        self.path = path
        whole, _, torn = (path.read_bytes() if path.is_file() else b"").rpartition(b"\n")
        if torn:
            os.truncate(path, len(whole) + 1 if whole else 0)
        lines = whole.decode("utf-8").split("\n") if whole else []
        self.records = [Record(**record) for line in lines for record in json.loads(line)]

    def add(self, records: Sequence[Record]) -> None:
        """Add a batch; it counts once it is on disk."""
        with open(self.path, "a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps([dataclasses.asdict(record) for record in records], ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records += records
