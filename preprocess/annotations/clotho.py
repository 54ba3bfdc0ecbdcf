"""Clotho's csv files: `clotho_captions_development.csv`, `..._validation.csv`, `..._evaluation.csv`.

Source: Drossos, Lipping and Virtanen, Clotho: an Audio Captioning Dataset (2020), version 2.1,
https://zenodo.org/record/4783391. Each row is one sound with five captions::

    file_name,caption_1,caption_2,caption_3,caption_4,caption_5
    Santa Motor.wav,A machine whines and ...,A person is using ...,Someone is ...,The whirring ...,"While ..., a ..."

The archives of sounds unpack to the folders development, validation and evaluation. File names are the titles of
recordings, so two folders may contain the same name. An item's id therefore starts with its folder (`evaluation/Santa
Motor.wav`).
"""

from collections.abc import Mapping
from pathlib import Path

from preprocess.annotations.entries import Entry, Published, Reading, Seen, check_name, check_text
from preprocess.annotations.sources import read_table
from preprocess.data.fields import SPLITS

FOLDERS = {"train": "development", "valid": "validation", "test": "evaluation"}
COLUMNS = tuple(f"caption_{number}" for number in range(1, 6))
COUNTS = {"train": 3839, "valid": 1045, "test": 1045}
PUBLISHED = Published("clotho", COUNTS, COUNTS)


def read(paths: Mapping[str, Path]) -> Reading:
    """Read the files.

    Args:
        paths: split -> csv file. Splits may be left out.

    Raises:
        ValueError: a file has another format, or a row has a bad or repeated file name or lacks a caption.
    """
    entries = []
    for split in (split for split in SPLITS if split in paths):
        seen = Seen("file_name", "remove one of the two")
        for where, row in read_table(paths[split], ("file_name", *COLUMNS)):
            name = check_name(where, "file_name", row["file_name"])
            seen.add(where, name)
            item_id = f"{FOLDERS[split]}/{name}"
            captions = tuple(check_text(where, column, row[column]) for column in COLUMNS)
            entries.append(Entry(item_id, "audio", split, (item_id, name), captions))
    return Reading(entries, PUBLISHED)
