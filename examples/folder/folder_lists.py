"""The lists of a folder that `preprocess.read_folder` writes, and what they say."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from calls import Call

from cart_fairseq.base.files import digest
from cart_fairseq.base.reading import read_jsonl
from preprocess import read_folder
from preprocess.folder.formats.opened import media_folder
from preprocess.folder.formats.unpack import is_unpacked
from preprocess.folder.settings import FolderSettings

WORD = re.compile(r"\w\w+")
Rows = list[dict[str, Any]]


def listing(folder: Path, lists: Path) -> Call:
    """The call that reads the folder."""
    return Call(read_folder, FolderSettings, [folder, "--output", lists], "FOLDER")


def media_of(folder: Path, out: Path) -> Path:
    """The folder that the media lie in: the one that was given, or where they were unpacked."""
    unpacked = media_folder(out / "folder")
    return unpacked if is_unpacked(unpacked) else folder


def texts_of(lists: Path) -> Path | None:
    """The captions in a list of a folder; None if there are none, because the steps refuse an empty file."""
    path = lists / "captions.jsonl"
    return path if path.stat().st_size else None


def is_described(captions: Path) -> bool:
    """Whether captions say something that can be learned: words of several captions tell items apart."""
    counts: Counter[str] = Counter()
    said: dict[str, set[str]] = {}
    for row in read_jsonl(captions):
        words = {*WORD.findall(row["text"].casefold())}
        counts.update(words)
        said.setdefault(row["item_id"], set()).update(words)
    common = {word for word, count in counts.items() if count > 1}
    return len({frozenset(words & common) for words in said.values()} - {frozenset()}) > 1


def digests_of(items: Rows, captions: Rows) -> dict[str, str]:
    """Item id -> digest of what the lists of a folder say of it."""
    texts: dict[str, list[str]] = {}
    for row in captions:
        texts.setdefault(row["item_id"], []).append(row["text"])
    return {row["item_id"]: digest([{**row, "media": ""}, texts.get(row["item_id"], [])]) for row in items}
