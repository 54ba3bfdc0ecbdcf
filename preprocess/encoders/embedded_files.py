"""The files that `extract_embeddings` writes: embeddings, the lists of their items or captions, and a record."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.arrays import new_array
from cart_fairseq.base.files import refuse_paths, sha256, write_json
from cart_fairseq.base.reading import read_json
from preprocess.data.embeddings import blocks
from preprocess.data.output import Kind, Made

RECORD = "extraction.json"
ENCODER_FIELDS = ("encoder", "weights", "frames", "precision")
MODALITIES = "modalities"
"""Field of the record, since it came to be written: the kinds of media that were embedded."""
EMBEDDINGS, ITEMS, CAPTIONS, SKIPPED = "embeddings.npy", "items.jsonl", "captions.jsonl", "skipped.jsonl"


def folder_record(folder: Path) -> Path:
    """Return the path of the record of a folder of media embeddings."""
    return folder / RECORD


def file_record(path: Path) -> Path:
    """Return the path of the record of a file of text embeddings. It lies beside the file."""
    return Path(f"{path}.json")


def read_record(record: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        ValueError: the file is not such a record.
    """
    found = read_json(record)
    if not isinstance(found, dict) or not {"made_from", "skipped", "files"} <= found.keys():
        raise ValueError(
            f"{record}: not a record of preprocess.extract_embeddings; remove the output and make it again"
        )
    refuse_paths(record, found["files"])
    return found


def read_made(record: Path) -> Made:
    """Return what the embeddings were made from, and the checksums of the files beside the record."""
    found = read_record(record)
    return Made(found["made_from"], {record.parent / name: digest for name, digest in found["files"].items()})


MEDIA_ROWS = Kind(
    "embeddings",
    lambda folder: read_made(folder_record(folder)),
    folder_record,
    names=(EMBEDDINGS, ITEMS, CAPTIONS, SKIPPED, RECORD),
)
TEXT_ROWS = Kind("embeddings", lambda path: read_made(file_record(path)), file_record, folder=False)


def encoder_of(embeddings: Path) -> dict[str, Any] | None:
    """Return what embeddings were extracted with: settings of the encoder, a checksum of its weights, and kinds of media.

    Args:
        embeddings: a folder that `extract_embeddings` wrote, or its file of embeddings; of others nothing is known.
    """
    record = folder_record(embeddings if embeddings.is_dir() else embeddings.parent)
    if not record.is_file() or (embeddings.is_file() and embeddings.name != EMBEDDINGS):
        return None
    found = read_record(record)
    kinds = {MODALITIES: found[MODALITIES]} if MODALITIES in found else {}
    return {name: found["made_from"].get(name) for name in ENCODER_FIELDS} | kinds


def write_record(
    record: Path, made_from: Mapping[str, Any], files: Sequence[Path], skipped: int, modalities: Collection[str] = ()
) -> None:
    """Write what `read_made` reads.

    Args:
        skipped: number of items without an embedding.
        modalities: kinds of media that were embedded; none for texts.
    """
    checksums = {path.name: sha256(path) for path in files}
    kinds = {MODALITIES: sorted(modalities)} if modalities else {}
    write_json(record, {"made_from": made_from, "skipped": skipped, **kinds, "files": checksums})


def save_rows(path: Path, values: NDArray[np.float32], kept: NDArray[np.int64], dtype: str) -> None:
    """Write the rows `kept` of `values` as a .npy file, block by block."""
    shape = (len(kept), values.shape[1])
    new = new_array(path, dtype, shape)
    for block in blocks(*shape):
        new[block] = values[kept[block]]
    new.flush()


def relocated(item: dict[str, Any], source: Path, folder: Path) -> dict[str, Any]:
    """Return an item with its media path relative to another folder. Absolute paths are not changed.

    Args:
        source: the list of items, to which the path is relative now.
        folder: the folder.
    """
    if os.path.isabs(item["media"]):
        return item
    return item | {"media": os.path.relpath(source.parent.resolve() / item["media"], folder.resolve())}
