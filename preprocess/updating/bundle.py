"""Changes of an identifier bundle on disk. A change that is killed at any moment leaves the old bundle or the new one.

New files are written beside the old ones. `manifest.json`, which names the files that count, is replaced last, by one
rename (:mod:`cart_fairseq.catalogue.segments`). `finish_bundle` removes what is left over.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cart_fairseq.base.files import is_still, locked_file, remove_scratch, replacing, write_json
from cart_fairseq.base.parquet import parquet_file, parquet_writer
from cart_fairseq.base.progress import Progress
from cart_fairseq.catalogue import segments
from cart_fairseq.catalogue.checksums import sealed
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.identifiers.report import measure
from preprocess.updating.journal import free_name, note_names, noted_names

MANIFEST, REPORT = "manifest.json", "report.json"
SEGMENT, REMOVED = "segments/{:06}/", "removed.{:06}.npy"
"""Names of the folder of new rows, and of the file of removed ones; the number is the revision or a larger one."""
WRITTEN = re.compile(r"segments|identifiers|update\.(lock|json)|next\..*")
"""Names in a bundle or data-bin in which, or through which, an update writes."""
PART_FILES = (segments.IDENTIFIERS, segments.ITEMS, REPORT)
BLOCK_ROWS = 1 << 17


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes from updating a bundle, or building it again, at the same time.

    Raises:
        ValueError: one is doing so, or a place where an update writes is a link.
    """
    refuse_links(directory)
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(locked_file(directory / segments.UPDATE_LOCK))
        except BlockingIOError:
            raise ValueError(f"{directory}: another process is updating it; wait for that one and try again") from None
        if not is_still(lock, directory / segments.UPDATE_LOCK):  # a build has ended and put a new bundle in its place
            raise ValueError(f"{directory}: was built again at this moment; try again")
        yield


def refuse_links(directory: Path) -> None:
    """Refuse to update a bundle or data-bin in which a link leads elsewhere, where an update would write or remove.

    Raises:
        ValueError: a name of ours is a link; the message names it.
    """
    inner = directory / "segments"
    for path in [*directory.iterdir(), *(inner.iterdir() if inner.is_dir() else ())]:
        ours = (
            segments.FOLDER.fullmatch(f"segments/{path.name}/")
            if path.parent == inner
            else WRITTEN.fullmatch(path.name)
        )
        if path.is_symlink() and ours:
            raise ValueError(
                f"{path}: is a link, and an update would write through it; put what it leads to in its place"
            )


def next_manifest(bundle: IdentifierBundle) -> dict[str, Any]:
    """The manifest of the revision after this one, with nothing changed yet."""
    return {
        **bundle.manifest,
        "revision": bundle.revision + 1,
        "fingerprint": bundle.fingerprint,
        "segments": [list(part) for part in bundle.parts],
        "ages": [list(age) for age in bundle.ages],
        "files": dict(bundle.manifest["files"]),
    }


def new_name(bundle: IdentifierBundle, pattern: str) -> str:
    """A free name for what the next revision adds, noted in the journal beside the names of what it may replace."""
    name = free_name(bundle.directory, pattern, bundle.revision + 1)
    replaced = [part.folder for part in bundle.parts if part.folder]
    replaced += [bundle.manifest["removed"]] if bundle.manifest.get("removed") else []
    note_names(bundle.directory, [name, *replaced])
    return name


def add_segment(
    bundle: IdentifierBundle, values: np.ndarray, items: Iterable[Mapping[str, Any]], report: Mapping[str, Any]
) -> dict[str, Any]:
    """Write new rows.

    Args:
        values: (n, J) int32, identifiers that differ from all others.
        items: the n objects of ``items.jsonl``.
        report: what to remember of them.

    Returns:
        The manifest with them, which is not yet in force.
    """
    manifest = next_manifest(bundle)
    folder = new_name(bundle, SEGMENT)
    with replacing(bundle.directory / folder, directory=True) as new:
        segments.write_part(new, values, items)
        write_json(new / REPORT, dict(report))
    manifest["segments"].append([folder, len(values)])
    manifest["ages"].append([manifest["revision"], len(values)])
    manifest["items"] += len(values)
    for name in PART_FILES:
        manifest["files"][folder + name] = segments.file_entry(bundle.directory / folder / name)
    rows = [manifest["files"][folder + name] for name in (segments.IDENTIFIERS, segments.ITEMS)]
    history = segments.next_history(bundle.history or bundle.state, rows)
    manifest["histories"] = {**bundle.manifest.get("histories", {}), str(manifest["revision"]): history}
    return manifest


def remove_rows(bundle: IdentifierBundle, rows: np.ndarray) -> dict[str, Any]:
    """Write which rows are removed, `rows` (n,) int64 beside those that were; returns the manifest to be."""
    manifest = next_manifest(bundle)
    manifest["files"].pop(manifest.get("removed"), None)
    name = new_name(bundle, REMOVED)
    with replacing(bundle.directory / name) as new:
        np.save(new, np.union1d(bundle.removed, rows).astype(np.int64), allow_pickle=False)
    manifest["removed"] = name
    manifest["files"][name] = segments.file_entry(bundle.directory / name)
    return manifest


def merge_segments(bundle: IdentifierBundle) -> dict[str, Any]:
    """Write all rows that are left into one segment, which `finish_bundle` makes the bundle's own files; returns its manifest.

    Its report is that of the build with new figures for what follows from the identifiers.
    """
    manifest = next_manifest(bundle)
    folder = new_name(bundle, SEGMENT)
    semantic = bundle.semantic_positions
    with replacing(bundle.directory / folder, directory=True) as new:
        kept = bundle.values[bundle.kept]
        np.save(new / segments.IDENTIFIERS, kept, allow_pickle=False)
        copy_items(bundle, new / segments.ITEMS)
        write_json(new / REPORT, {**bundle.report, **measure(kept[:, : len(semantic)], semantic)})
    gone = [part.folder + name for part in bundle.parts for name in PART_FILES]
    for name in (*gone, manifest.pop("removed", None)):
        manifest["files"].pop(name, None)
    manifest |= {"segments": [[folder, len(kept)]], "items": len(kept), "ages": ages_without(bundle)}
    for name in PART_FILES:
        manifest["files"][folder + name] = segments.file_entry(bundle.directory / folder / name)
    return manifest


def ages_without(bundle: IdentifierBundle) -> list[list[int]]:
    """The ages of the items that are left, as a manifest has them."""
    ends = np.cumsum([age.items for age in bundle.ages])
    left = np.diff(np.searchsorted(bundle.kept, ends), prepend=0)
    return [[age.revision, items] for age, items in zip(bundle.ages, left.tolist(), strict=True) if items]


def copy_items(bundle: IdentifierBundle, path: Path) -> None:
    """Write the table of the items that are left, block by block."""
    keep = np.ones(len(bundle), dtype=bool)
    keep[bundle.removed] = False
    row = 0
    with (
        parquet_writer(path, segments.SCHEMA) as writer,
        Progress(len(bundle), "copying items", "items") as progress,
    ):
        for part in bundle.parts:
            with parquet_file(bundle.directory / part.folder / segments.ITEMS) as table:
                for batch in table.iter_batches(BLOCK_ROWS):
                    writer.write_batch(batch.filter(pa.array(keep[row : row + len(batch)])))
                    row += len(batch)
                    progress.update(len(batch))


def link_over(source: Path, target: Path) -> None:
    """Put a file at a second place, atomically; as a hard link where the file system has such."""
    if target.exists() and target.samefile(source):
        return
    with replacing(target) as new:
        try:
            os.link(source, new)
        except OSError:
            shutil.copyfile(source, new)


def finish_bundle(directory: Path) -> None:
    """Make a single segment the bundle's own files, and remove what the journal names and the manifest does not. May be killed and repeated."""
    manifest = segments.read_manifest(directory)
    parts = segments.parts_of(manifest)
    if len(parts) == 1 and parts[0].folder:
        folder = parts[0].folder
        for name in PART_FILES:
            link_over(directory / folder / name, directory / name)
            manifest["files"][name] = manifest["files"].pop(folder + name)
        parts = [segments.Part("", parts[0].items)]
        manifest["segments"] = [list(part) for part in parts]
        write_json(directory / MANIFEST, sealed(manifest))
    in_force = {manifest.get("removed"), *(part.folder for part in parts)}
    for name in set(noted_names(directory)) - in_force:
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    remove_scratch(directory)
    remove_scratch(directory / "segments")
