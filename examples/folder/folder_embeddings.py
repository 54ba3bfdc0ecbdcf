"""A folder of clip-retrieval: embeddings that are there already, with captions and addresses in their metadata."""

import shutil
from pathlib import Path

from calls import step
from folder_catalogue import Known, note_folder
from folders import link
from settings import Settings

from cart_fairseq.base.files import replacing
from preprocess.data.embeddings import CLIP_ROWS
from preprocess.folder.formats.clip_retrieval import list_items


def prepare(folder: Path, out: Path, settings: Settings) -> None:
    """Make ``out/data`` of the embeddings as they are and of their metadata; ``captions.jsonl`` comes last.

    Raises:
        ValueError: files of the folder do not match, or a variable asks for media.
    """
    asked = next((name for name in ("encoder", "captioner") if getattr(settings, name)), None)
    if asked:
        raise ValueError(f"{asked.upper()} is set, but {folder} holds embeddings, no media; leave it out")
    lists, data = out / "folder", out / "data"
    if (data / "captions.jsonl").is_file():
        print(f"{data}: complete, nothing to do")
        return
    step(f"1. embeddings in {folder}")
    found = list_items(folder, lists)
    note_folder(out, folder)
    data.mkdir(parents=True, exist_ok=True)
    link(folder.resolve() / CLIP_ROWS, data / "embeddings")
    for source in (found.items, lists / "captions.jsonl"):
        with replacing(data / source.name) as new:
            shutil.copyfile(source, new)


def check_unchanged(folder: Path, out: Path, known: Known) -> None:
    """Refuse a folder that is not as it was: embeddings that come are added by ``update_identifiers``.

    Raises:
        ValueError: its metadata have changed.
    """
    list_items(folder, out / "folder")
    if Known.of(out).digests != known.digests:
        raise ValueError(
            f"{folder}: its metadata have changed since {out} was made; choose another OUT, or add and remove items with "
            "preprocess.update_identifiers"
        )
    print(f"{out}: {len(known.digests):,} items, as in {folder}; nothing to do")
