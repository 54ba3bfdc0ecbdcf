"""The folder that `read_annotations` writes, and its table of counts.

The folder holds items.jsonl, captions.jsonl, missing.txt (the media that were not found) and annotations.json, the
record of what they were made from.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cart_fairseq.base.files import refuse_paths, sha256, write_json, write_jsonl
from cart_fairseq.base.reading import read_json
from preprocess.annotations.entries import Entry, Published
from preprocess.annotations.media import MediaFolder
from preprocess.data.fields import SPLITS
from preprocess.data.output import Kind, Made

ITEMS, CAPTIONS, MISSING, RECORD = "items.jsonl", "captions.jsonl", "missing.txt", "annotations.json"


def read_made(folder: Path) -> Made:
    """What annotations were made from, and the checksums of their files.

    Raises:
        ValueError: there is no record, as in older folders, or it is of something else.
    """
    found = read_json(folder / RECORD)
    if not isinstance(found, dict) or not {"made_from", "files"} <= found.keys():
        raise ValueError(f"{folder / RECORD}: not a record of preprocess.annotations; remove {folder}")
    refuse_paths(folder / RECORD, found["files"])
    return Made(found["made_from"], {folder / name: digest for name, digest in found["files"].items()})


# recognised by missing.txt, because older folders have no record
ANNOTATIONS = Kind("annotations", read_made, lambda folder: folder / MISSING, names=(ITEMS, CAPTIONS, MISSING, RECORD))


class Located(NamedTuple):
    """Where media files are.

    Attributes:
        paths: item id -> path below the folder, for the entries that are written.
        missing: the entries whose file is missing.
    """

    paths: dict[str, str]
    missing: list[Entry]


def locate(entries: Sequence[Entry], folder: MediaFolder, policy: str) -> Located:
    """Find the media files of entries.

    Args:
        policy: what happens to an entry whose file is missing: `skip` it, `keep` it with the published path, or `fail`.

    Raises:
        ValueError: a file is missing and the policy is `fail`, all are missing and it is `skip`, or a file is
            ambiguous.
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


def media_start(media: Path, output: Path) -> str:
    """The folder of the media files, relative to the folder that is written."""
    return os.path.relpath(os.path.realpath(media), os.path.realpath(output))


def write_folder(
    new: Path, entries: Sequence[Entry], located: Located, start: str | None, made_from: Mapping[str, Any]
) -> None:
    """Write the files of the folder.

    Captions of training items get the role `train`, the others `query`. A caption's id is the item's id, `#` and the
    caption's number from 0.

    Args:
        new: the folder.
        entries: those to write, in order.
        located: where their media are, and the entries whose media are missing.
        start: what `media_start` returns; None: items are written without `media`.
        made_from: what the record says of inputs and settings.
    """
    items, captions = [], []
    for entry in entries:
        file = {"media": Path(start, located.paths[entry.item_id]).as_posix()} if start is not None else {}
        items.append({"item_id": entry.item_id, "modality": entry.modality, **file, "split": entry.split})
        role = "train" if entry.split == "train" else "query"
        for number, text in enumerate(entry.captions):
            name = f"{entry.item_id}#{number}"
            captions.append({"item_id": entry.item_id, "caption_id": name, "text": text, "role": role})
    write_jsonl(new / ITEMS, items)
    write_jsonl(new / CAPTIONS, captions)
    lines = (f"{entry.split}\t{entry.item_id}\t{entry.files[0]}\n" for entry in located.missing)
    (new / MISSING).write_text("".join(lines), encoding="utf-8")
    checksums = {name: sha256(new / name) for name in (ITEMS, CAPTIONS, MISSING)}
    write_json(new / RECORD, {"made_from": made_from, "files": checksums})


def count_table(entries: Sequence[Entry], missing: Sequence[Entry], published: Published) -> str:
    """Return the table of counts. Its columns are items, captions, missing items, and the published numbers of items."""
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
