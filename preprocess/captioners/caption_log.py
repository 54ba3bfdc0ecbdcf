"""The log of a run of `preprocess.generate_captions`: the captions so far.

Each line is one batch, so that a continued run makes the same batches as a run that was never interrupted.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base import disk


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
    """A file to which batches of records are appended, each with its checksum.

    An incomplete last line, of a killed run, is removed. So is a damaged line with all that follow, because the batches of
    a continued run follow from the ones before.

    Args:
        path: the file. It is created if it does not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self.records: list[Record] = []
        content, good = path.read_bytes() if path.is_file() else b"", 0
        for line in content.splitlines(keepends=True):
            digest, _, batch = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or digest != _digest(batch):
                break
            self.records += [Record(**record) for record in json.loads(batch)]
            good += len(line)
        if good < len(content):
            os.truncate(path, good)

    def add(self, records: Sequence[Record]) -> None:
        """Append a batch and wait until it is on disk."""
        is_new = not self.path.exists()
        batch = json.dumps([dataclasses.asdict(record) for record in records], ensure_ascii=True).encode()
        with disk.naming(self.path), open(self.path, "ab") as file:
            file.write(_digest(batch) + b" " + batch + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            disk.flush(self.path.parent)
        self.records += records


def _digest(batch: bytes) -> bytes:
    return hashlib.blake2b(batch, digest_size=8).hexdigest().encode()
