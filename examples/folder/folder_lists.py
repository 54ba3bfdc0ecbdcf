"""The lists of a folder that `preprocess.read_folder` writes, and what they say."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from calls import Call

from cart_fairseq.base.files import digest
from cart_fairseq.base.reading import read_jsonl
from cart_fairseq.base.wording import counted
from preprocess import read_folder
from preprocess.folder.formats.opened import media_folder
from preprocess.folder.formats.unpack import is_unpacked
from preprocess.folder.settings import FolderSettings

EPOCHS = 16
"""Of training on a thousand captions and more."""
BATCH, LEAST_UPDATES, MOST_EPOCHS = 16, 400, 200
"""Fewer captions have batches of this size, and so many epochs that there are as many updates, within limits."""
FEW_CAPTIONS = 2000
"""Up to as many, the join knows the words of one caption alone, too."""
LEAST_QUERIES = 30
"""With fewer valid queries the weights of searches stay those of the recipe: chance would choose."""
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


def epochs_for(captions: Path) -> int:
    """Epochs of training: `EPOCHS`, and more where there are so few captions that these would be few updates."""
    pairs = len(read_jsonl(captions)) if captions.is_file() else 0
    if not pairs:
        return EPOCHS
    updates = -(-pairs // BATCH)
    return max(EPOCHS, min(MOST_EPOCHS, -(-LEAST_UPDATES // updates)))


def has_few(captions: Path) -> bool:
    """Whether there are so few captions that words of one caption alone are learned, too."""
    return captions.is_file() and len(read_jsonl(captions)) <= FEW_CAPTIONS


def not_told_apart(items: Path, captions: Path) -> list[str]:
    """Lines that say how many items texts cannot find, or cannot tell from others, and why."""
    owners: dict[str, set[str]] = {}
    texts: dict[str, set[str]] = {row["item_id"]: set() for row in read_jsonl(items)}
    for row in read_jsonl(captions):
        text = " ".join(row["text"].casefold().split())
        owners.setdefault(text, set()).add(row["item_id"])
        texts[row["item_id"]].add(text)
    silent = sum(not said for said in texts.values())
    shared = sum(bool(said) and all(len(owners[text]) > 1 for text in said) for said in texts.values())
    lines = []
    if silent:
        lines.append(f"{counted(silent, 'item')} without a caption: no text of its own finds it, an example does")
    if shared:
        lines.append(f"{counted(shared, 'item')} whose captions are those of others, too: texts cannot tell them apart")
    return lines


def digests_of(items: Rows, captions: Rows) -> dict[str, str]:
    """Item id -> digest of what the lists of a folder say of it."""
    texts: dict[str, list[str]] = {}
    for row in captions:
        texts.setdefault(row["item_id"], []).append(row["text"])
    return {row["item_id"]: digest([{**row, "media": ""}, texts.get(row["item_id"], [])]) for row in items}
