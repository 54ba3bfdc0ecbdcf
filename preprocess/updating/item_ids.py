"""Item ids as the command line of `update_identifiers remove` gives them: ids are never read as names of files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cart_fairseq.base.reading import read_jsonl, read_text
from cart_fairseq.catalogue.errors import UnknownItem

IDS, IDS_FROM = "--item-ids", "--item-ids-from"
FLAGS = (IDS, IDS_FROM, "--identifiers", "--data-bin", "--path", "--help", "-h")
"""Of the command `remove`; what follows `--item-ids` and is none of them is an id."""


def mark_ids(argv: Sequence[str]) -> list[str]:
    """Write every id after ``--item-ids`` as ``--item-ids=ID``, which argparse takes whatever the id begins with.

    An id ends the list only if it is spelled like a flag of the command. After ``--`` every argument is an id.

    >>> mark_ids(["remove", "--item-ids", "a.jpg", "-b.jpg", "--data-bin", "d", "--", "--help"])
    ['remove', '--item-ids', '--item-ids=a.jpg', '--item-ids=-b.jpg', '--data-bin', 'd', '--item-ids=--help']
    """
    marked: list[str] = []
    listing = False
    for place, argument in enumerate(argv):
        if argument == "--" and "remove" in argv[:1]:
            return [*marked, *(f"{IDS}={each}" for each in argv[place + 1 :])]
        if argument.split("=", 1)[0] in FLAGS:
            listing = argument == IDS
            marked.append(argument)
        else:
            marked.append(f"{IDS}={argument}" if listing else argument)
    return marked


@contextmanager
def listed_in(path: Path | None) -> Iterator[None]:
    """Name the list in the error for an id that the catalogue does not have; None: the ids are from no file."""
    try:
        yield
    except UnknownItem as error:
        raise UnknownItem(f"{path}: {error}" if path else str(error)) from None


def read_ids(path: Path) -> list[str]:
    """Read a list of item ids: an id a line, or (`.jsonl`) an object with `item_id` a line.

    Raises:
        ValueError: the file holds none, or a row without one.
    """
    if path.suffix == ".jsonl":
        rows = read_jsonl(path)
        for number, row in enumerate(rows, start=1):
            if not isinstance(row.get("item_id"), str):
                raise ValueError(f"{path}, row {number}: item_id is {row.get('item_id')!r}; it must be a string")
        found = [row["item_id"] for row in rows]
    else:
        found = [line for line in read_text(path).splitlines() if line]
    if not found:
        raise ValueError(f"{path}: no item ids; write one a line")
    return found
