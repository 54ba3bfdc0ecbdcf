"""What every annotation reader returns: an entry for each item, and published counts to compare with."""

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
        files: possible names of its media file, the published name first. Each is a file name or the end of a path.
        captions: at least one, in the order of the file.
    """

    item_id: str
    modality: str
    split: str
    files: tuple[str, ...]
    captions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Published:
    """Published numbers of items.

    Attributes:
        name: of the data set.
        items: split -> number of items in the published files, for the splits that they have.
        paper: split -> number of items in the paper's appendix A.
        note: why the two differ; empty if they are equal.
    """

    name: str
    items: Mapping[str, int]
    paper: Mapping[str, int]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Reading:
    """The entries of a data set in the order of its files, and published counts to compare with."""

    entries: list[Entry]
    published: Published


class Seen:
    """Refuses a second row with the same id.

    Args:
        field: name of the id in error messages.
        remedy: advice in error messages.
    """

    def __init__(self, field: str, remedy: str):
        self.field, self.remedy = field, remedy
        self._first: dict[str, str] = {}

    def add(self, where: str, value: str) -> None:
        if value in self._first:
            raise ValueError(f"{where}: {self.field} {value!r} is the same as in {self._first[value]}; {self.remedy}")
        self._first[value] = where


def check_text(where: str, field: str, value: Any) -> str:
    r"""Return the text of a caption, with one space for each run of white space.

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
    """Return a value if it can be an item id and the name of a file below a folder. Spaces around it are kept.

    Raises:
        ValueError: it cannot.
    """
    name = check_id(where, field, value)
    check_encodable(where, {field: name})
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"{where}: {field} is {name!r}, must name a file below the media folder; remove '/' and '..'")
    return name
