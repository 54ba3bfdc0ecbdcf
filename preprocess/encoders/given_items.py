"""The lists of items to embed: given, or read from a folder of media."""

from pathlib import Path

from preprocess.folder.build import read_folder
from preprocess.folder.formats.clip_retrieval import lists_folder
from preprocess.folder.formats.sources import ending_of
from preprocess.folder.settings import FolderSettings


def lists_of(items: Path, captions: str | Path | None, output: Path, workers: int) -> tuple[Path, str | Path | None]:
    """Return items.jsonl and captions.jsonl, written beside `output` if media are given in place of a list.

    Args:
        items: items.jsonl, or what `read_folder` takes.
        captions: of items.jsonl; None: those that are found.
        output: what is to be written.
        workers: processes that read files.

    Raises:
        ValueError: as `read_folder`.
    """
    if not items.is_dir() and ending_of(items.name) is None:
        return items, captions
    lists = lists_folder(output)
    print(read_folder(items, lists, FolderSettings(workers=workers)).summary)
    found = lists / "captions.jsonl"
    return lists / "items.jsonl", captions or (found if found.stat().st_size else None)
