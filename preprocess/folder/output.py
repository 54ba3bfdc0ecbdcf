"""The folder that `read_folder` writes: items.jsonl, captions.jsonl, skipped.jsonl, and what the next run needs.

`contents.jsonl` keeps what each file was and said, so that files that did not change need not be opened again.
`folder.json` is the record of what the lists were made from.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cart_fairseq.base.files import refuse_paths, sha256, write_json, write_jsonl
from cart_fairseq.base.reading import read_json, read_jsonl
from preprocess.data.output import Kind, Made
from preprocess.folder.contents import Contents
from preprocess.folder.listing import File, Skipped

ITEMS, CAPTIONS, SKIPPED = "items.jsonl", "captions.jsonl", "skipped.jsonl"
CONTENTS, RECORD = "contents.jsonl", "folder.json"
VERSION = 1
"""Of what is read of a file. With another one, all files are read again."""
REMEDY = "make it again with preprocess.read_folder"


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of an output.

    Raises:
        ValueError: there is none, or it is of something else.
    """
    found = read_json(folder / RECORD, REMEDY)
    if not isinstance(found, dict) or not {"made_from", "files", "counts"} <= found.keys():
        raise ValueError(f"{folder / RECORD}: not a record of preprocess.read_folder; remove {folder}")
    refuse_paths(folder / RECORD, found["files"])
    return found


def read_made(folder: Path) -> Made:
    """What an output was made from, and the checksums of its files."""
    found = read_record(folder)
    return Made(found["made_from"], {folder / name: digest for name, digest in found["files"].items()})


FOLDER = Kind(
    "list of a folder",
    read_made,
    lambda folder: folder / RECORD,
    names=(ITEMS, CAPTIONS, SKIPPED, CONTENTS, RECORD),
)

Stamp = list[list[Any]]
"""Path, size and time of a file and of the texts beside it."""


def stamp_of(file: File, sidecars: Iterable[File]) -> Stamp:
    """What must be the same for a file not to be read again."""
    return [list(each) for each in (file, *sidecars)]


def known_contents(folder: Path, media: str) -> dict[str, tuple[Stamp, Contents]]:
    """Return what an earlier run read of each file; nothing where that is not certain.

    Args:
        folder: the output of the earlier run.
        media: what the folder must have been that it read.
    """
    try:
        record = read_record(folder)
        made_from = record["made_from"]
        if made_from["version"] != VERSION or made_from["media"] != media:
            return {}
        if record["files"][CONTENTS] != sha256(folder / CONTENTS):
            return {}
        rows = read_jsonl(folder / CONTENTS)
        return {row["stamp"][0][0]: (row["stamp"], _contents(row)) for row in rows}
    except (ValueError, OSError, LookupError, TypeError):
        return {}


def _contents(row: Mapping[str, Any]) -> Contents:
    return Contents(
        row["kind"],
        [(source, text) for source, text in row["captions"]],
        row["fields"],
        row["own_fields"],
        [(path, reason) for path, reason in row["problems"]],
    )


def write_folder(
    new: Path,
    items: Iterable[Mapping[str, Any]],
    captions: Iterable[Mapping[str, Any]],
    skipped: Iterable[Skipped],
    read: Sequence[tuple[Stamp, Contents]],
    record: Mapping[str, Any],
) -> None:
    """Write the files of the folder.

    Args:
        read: of each file its stamp and what was read. What another run might find otherwise is not kept.
        record: `made_from` and `counts`.
    """
    write_jsonl(new / ITEMS, items)
    write_jsonl(new / CAPTIONS, captions)
    write_jsonl(new / SKIPPED, (each._asdict() for each in skipped))
    kept = ((stamp, contents._asdict()) for stamp, contents in read if contents.is_final)
    write_jsonl(new / CONTENTS, ({"stamp": stamp, **contents} for stamp, contents in kept))
    checksums = {name: sha256(new / name) for name in (ITEMS, CAPTIONS, SKIPPED, CONTENTS)}
    write_json(new / RECORD, {**record, "files": checksums})
