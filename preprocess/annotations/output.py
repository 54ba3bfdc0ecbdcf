"""From entries to items.jsonl and captions.jsonl, with a list of the media that are missing and a table of counts."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cart_fairseq.files import replacing
from preprocess.annotations.entries import Entry, Published
from preprocess.annotations.media import MediaFolder
from preprocess.data.fields import SPLITS


class Located(NamedTuple):
    """Where media files are.

    Attributes:
        paths: item id -> path below the folder, of the entries that stay.
        missing: the entries whose file is missing.
    """

    paths: dict[str, str]
    missing: list[Entry]


def locate(entries: Sequence[Entry], folder: MediaFolder, policy: str) -> Located:
    """Find the media files of entries.

    Args:
        policy: what a missing file does: `skip` the entry, `keep` it with the path where its file belongs, or `fail`.

    Raises:
        ValueError: files are missing that may not be, all are missing and skipped, or files are ambiguous.
    """
    found = {entry.item_id: folder.find(entry) for entry in entries}
    missing = [entry for entry in entries if found[entry.item_id] is None]
    if missing and (policy == "fail" or (policy == "skip" and len(missing) == len(entries))):
        remedy = "put them there or choose --missing-media skip" if policy == "fail" else "check --media"
        raise ValueError(
            f"{folder.path}: {len(missing)} of {len(entries)} media files are missing, for instance "
            f"{missing[0].files[0]!r}; {remedy}"
        )
    kept = {item_id: path for item_id, path in found.items() if path is not None}
    if policy == "keep":
        kept |= {entry.item_id: entry.files[0] for entry in missing}
    return Located(kept, missing)


def write(output: Path, entries: Sequence[Entry], media: Path | None, paths: Mapping[str, str]) -> None:
    """Write items.jsonl and captions.jsonl of a folder.

    Captions are to train on (role `train`) where their item is; the others measure (`query`). A caption's id is its
    item's with its number, from 0.

    Args:
        entries: those to write, in order.
        media: the folder of the media files, or None: then items have no `media`.
        paths: item id -> path below that folder.
    """
    start = os.path.relpath(os.path.realpath(media), os.path.realpath(output)) if media is not None else ""
    items, captions = [], []
    for entry in entries:
        file = {"media": Path(start, paths[entry.item_id]).as_posix()} if media is not None else {}
        items.append({"item_id": entry.item_id, "modality": entry.modality, **file, "split": entry.split})
        role = "train" if entry.split == "train" else "query"
        for number, text in enumerate(entry.captions):
            name = f"{entry.item_id}#{number}"
            captions.append({"item_id": entry.item_id, "caption_id": name, "text": text, "role": role})
    with replacing(output / "items.jsonl") as items_file, replacing(output / "captions.jsonl") as captions_file:
        for path, rows in ((items_file, items), (captions_file, captions)):
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            path.write_text("".join(lines), encoding="utf-8")


def write_missing(output: Path, missing: Sequence[Entry]) -> None:
    """Write missing.txt: split, item id and expected file name, separated by tabs; empty where nothing is missing."""
    with replacing(output / "missing.txt") as new:
        lines = (f"{entry.split}\t{entry.item_id}\t{entry.files[0]}\n" for entry in missing)
        new.write_text("".join(lines), encoding="utf-8")


def count_table(entries: Sequence[Entry], missing: Sequence[Entry], published: Published) -> str:
    """A table by split: items and captions written, items missing, items of the published files and of the paper."""
    items, absent = Counter(entry.split for entry in entries), Counter(entry.split for entry in missing)
    captions: Counter[str] = Counter()
    for entry in entries:
        captions[entry.split] += len(entry.captions)
    lines = [f"{published.name:<10}{'items':>10}{'captions':>10}{'missing':>10}{'published':>11}{'paper':>10}"]
    for split in SPLITS:
        theirs = [f"{counts[split]:,}" if split in counts else "-" for counts in (published.items, published.paper)]
        lines.append(
            f"{split:<10}{items[split]:>10,}{captions[split]:>10,}{absent[split]:>10,}{theirs[0]:>11}{theirs[1]:>10}"
        )
    return "\n".join([*lines, published.note] if published.note else lines)
