"""Whether the media of a list of items lie in the folder that they should."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cart_fairseq.base.files import inside


def refuse_outside(items: Sequence[Mapping[str, Any]], source: Path, within: str | Path | None) -> None:
    """Refuse items whose media lie outside of a folder, before any of them is read.

    Args:
        items: the objects of items.jsonl.
        source: items.jsonl; media are relative to its folder.
        within: the folder; None: media may lie anywhere.

    Raises:
        ValueError: the folder is none, or a path is absolute, or leads out of it by `..` or by a link.
    """
    if within is None:
        return
    if not Path(within).is_dir():
        raise ValueError(f"{within}: no such folder; --media-within is a folder that holds the media")
    for number, item in enumerate(items, start=1):
        if item.get("media") and inside(within, item["media"], source.parent) is None:
            raise ValueError(
                f"{source}, row {number}: media {item['media']!r} is not a relative path to a file in {within}; leave the "
                "item out, or give a wider folder with --media-within"
            )
