"""What an update notes in its bundle while it is at work: names that it writes or replaces, and how it ended.

If it is killed, the next update removes what bears a noted name and is not in force. Whatever else lies in a bundle or
data-bin is not of an update and stays, whatever it is called.
"""

import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json

JOURNAL = "update.json"
NAMES = "names"
OURS = re.compile(r"segments/\d{6,12}/|removed\.\d{6,12}\.npy|next\.[0-9a-f]{16}")
"""Names of what updates write; a journal that lists others is not believed."""


def read_journal(directory: Path) -> dict[str, Any]:
    """What an interrupted update noted in its bundle; nothing where the file is missing or damaged."""
    try:
        found = read_json(directory / JOURNAL) if (directory / JOURNAL).is_file() else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def note(directory: Path, **fields: Any) -> None:
    """Write fields into the journal of a bundle; others stay."""
    write_json(directory / JOURNAL, read_journal(directory) | fields)


def noted_names(directory: Path) -> list[str]:
    """The names that the journal of a bundle lists, as far as updates write such."""
    names = read_journal(directory).get(NAMES)
    return [name for name in names if isinstance(name, str) and OURS.fullmatch(name)] if isinstance(names, list) else []


def note_names(directory: Path, names: Iterable[str]) -> None:
    """Add names to the journal of a bundle, before anything of this name is written or removed."""
    note(directory, **{NAMES: sorted({*noted_names(directory), *names})})


def forget_names(directory: Path) -> None:
    """Take the names from the journal of a bundle, when all that is left over is removed."""
    found = read_journal(directory)
    if NAMES in found:
        del found[NAMES]
        if found:
            write_json(directory / JOURNAL, found)
        else:
            (directory / JOURNAL).unlink()


def free_name(directory: Path, pattern: str, revision: int) -> str:
    """A name in a bundle that nothing has.

    Args:
        pattern: of the name, with the place of a number, such as ``removed.{:06}.npy``.
        revision: the first number that is tried.

    Raises:
        ValueError: what is to be the folder of the name is none.
    """
    above = (directory / pattern).parent
    if os.path.lexists(above) and not above.is_dir():
        raise ValueError(f"{above}: is no folder, and an update writes into a folder of this name; move it away")
    names = (pattern.format(number) for number in itertools.count(revision))
    return next(name for name in names if not os.path.lexists(directory / name))
