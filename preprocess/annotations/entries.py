"""What every annotation reader returns: one entry an item, and the counts to compare with."""

import dataclasses
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from preprocess.data.inputs import check_encodable, check_id


@dataclasses.dataclass(frozen=True)
class Entry:
    """One item with its captions.

    Attributes:
        modality: image, audio or video.
        split: train, valid or test.
        files: names that its media file may have, as published first; each a file name or the end of a path.
        captions: at least one, in the order of the file.
    """

    item_id: str
    modality: str
    split: str
    files: tuple[str, ...]
    captions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Published:
    """How many items others count.

    Attributes:
        name: of the data set.
        items: split -> items of the published files; a split that they do not have is left out.
        paper: split -> items of the paper's appendix A, likewise.
        note: why the two differ, or nothing.
    """

    name: str
    items: Mapping[str, int]
    paper: Mapping[str, int]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Reading:
    """The entries of a data set in the order of its files, and the counts to compare with."""

    entries: list[Entry]
    published: Published


class Seen:
    """Refuses a second row of the same id.

    Args:
        field: what messages call the id.
        remedy: the advice of messages.
    """

    def __init__(self, field: str, remedy: str):
        self.field, self.remedy = field, remedy
        self._first: dict[str, str] = {}

    def add(self, where: str, value: str) -> None:
        if value in self._first:
            raise ValueError(f"{where}: {self.field} {value!r} is already that of {self._first[value]}; {self.remedy}")
        self._first[value] = where


def check_text(where: str, field: str, value: Any) -> str:
    r"""The text of a caption with each run of white space as one space.

    >>> check_text("row 1", "raw", " A dog\n barks. ")
    'A dog barks.'
    """
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not text:
        found = "missing" if value is None else repr(value)
        raise ValueError(f"{where}: {field} is {found}, must be a caption; write one or remove it")
    check_encodable(where, {field: text})
    return text


def check_name(where: str, field: str, value: Any) -> str:
    """Refuse what names no file below a folder, or what no id may be; spaces around it stay."""
    name = check_id(where, field, value)
    check_encodable(where, {field: name})
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"{where}: {field} is {name!r}, must name a file below the media folder; remove '/' and '..'")
    return name
