"""Change the catalogue of an identifier bundle or a data-bin: `python -m preprocess.update_identifiers --help`.

    add      encode new items with the bundle's codec, which stays as it is, and give them the next free unique tokens
    remove   take items out of the catalogue; their identifiers stay reserved
    compact  merge what was added, forget what was removed, free its identifiers

Nobody else's identifier changes, so a trained checkpoint goes on. A data-bin's trie, candidate sets and subsets follow.
Killed at any moment, an update leaves the old state or the new one, and the same command finishes it.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.files import digest, read_json, read_jsonl, run_script, write_json
from preprocess.data.embeddings import COLUMN, Embeddings, check_embeddings, open_embeddings
from preprocess.data.inputs import ItemsFile, match_items
from preprocess.data.joined_folder import dense_rows, identifier_rows
from preprocess.identifiers.codec import load_codec
from preprocess.identifiers.goodness_of_fit import baseline, fit_of
from preprocess.updating import bundle as on_disk
from preprocess.updating.data_bin import settle_data_bin, write_pending
from preprocess.updating.drift import drift_text
from preprocess.updating.placement import place

JOURNAL = "update.json"
SHOWN = 3


@dataclass(frozen=True)
class Change:
    """What an operation does, once its new files are written.

    manifest: that of the bundle to be.
    new_row: (N,) int64, new row of each item, -1 for one that is no more; None where rows stay as they are.
    summary: for people.
    added: (n, D) embeddings of the items that join.
    """

    manifest: dict[str, Any]
    new_row: np.ndarray | None
    summary: str
    added: Embeddings | None = None


def update(
    identifiers: Path, data_bin: Path | None, key: str, operation: Callable[[IdentifierBundle], Change | None]
) -> None:
    """Run an operation on a bundle, and on the data-bin around it, if any.

    Args:
        key: names the operation and its input, so that it is not done a second time where it was killed at its end.
        operation: writes new files and says what is to come into force; None: there is nothing to do.

    Raises:
        ValueError: another process is updating the bundle, or the operation cannot be done.
    """
    on_disk.segments.read_manifest(identifiers)
    with on_disk.locked(identifiers):
        settle(identifiers, data_bin)
        bundle = IdentifierBundle.load(identifiers)
        journal = identifiers / JOURNAL
        begun = read_json(journal) if journal.is_file() else {}
        if begun.get("key") == key and begun.get("state") == bundle.state:
            print(f"{identifiers}: finished what an interrupted run had begun\n{begun['summary']}")
            journal.unlink()
            return
        change = operation(bundle)
        if change is None:
            return
        after = IdentifierBundle.load(identifiers, change.manifest)
        if data_bin:
            write_pending(DataBin(data_bin), after, change.new_row, change.added)
        write_json(journal, {"key": key, "state": after.state, "summary": change.summary})
        write_json(identifiers / on_disk.MANIFEST, change.manifest)  # from here on the new state counts
        settle(identifiers, data_bin)
        print(change.summary)
        journal.unlink()


def settle(identifiers: Path, data_bin: Path | None) -> None:
    """Finish and tidy what a run before has left."""
    if data_bin:
        settle_data_bin(data_bin)
    on_disk.settle(identifiers)


def add(
    bundle: IdentifierBundle,
    embeddings: Embeddings,
    items: ItemsFile,
    reference: Embeddings | None,
    dense: Embeddings,
) -> Change:
    """Give new items identifiers.

    Args:
        embeddings: (n, D), of the width that the codec was fitted on.
        items: n items that are not in the catalogue.
        reference: embeddings of old items, for the drift report.
        dense: (n, D') what a dense head reads of the new items.

    Raises:
        ValueError: an item is in the catalogue, the width is another one, or there is no room for an item.
    """
    refuse_known(bundle, items)
    codec = load_codec(bundle)
    codes = codec.encode(embeddings)
    placement = place(bundle, codec, embeddings, codes)
    in_catalogue = len(bundle) - len(bundle.removed) + len(items)
    added = len(bundle) - bundle.parts[0].items + len(items)
    report: dict[str, Any] = {
        "new": fit_of(codec, embeddings, codes),
        "shared": float(placement.shared.mean()),
        "moved": float(placement.moved.mean()),
        "added_share": min(1.0, added / in_catalogue),
        "old_collision_rate": bundle.report.get("collision_rate"),
        "moves": [
            {"item_id": items[row]["item_id"], "from": codes[row].tolist(), "to": placement.values[row].tolist()}
            for row in np.flatnonzero(placement.moved).tolist()
        ],
    }
    old = baseline(codec, reference) if reference is not None else bundle.report.get("fit")
    if old is not None:
        report["old"] = old
    manifest = on_disk.add_segment(bundle, placement.values, items, report)
    lines = [drift_text(report), ""]
    for move in report["moves"][:SHOWN]:
        lines.append(f"{move['item_id']}: code {move['from']} is full, took {move['to']}")
    if len(report["moves"]) > SHOWN:
        lines.append(
            f"… {len(report['moves'])} in all, see {on_disk.segment_name(manifest['revision'])}{on_disk.REPORT}"
        )
    lines.append(f"added {len(items):,} items, {in_catalogue:,} in the catalogue (revision {manifest['revision']})")
    return Change(manifest, None, "\n".join(lines), dense)


def refuse_known(bundle: IdentifierBundle, items: ItemsFile) -> None:
    """Raise for an item that is in the catalogue. One that was removed may come back, under a new identifier."""
    new = pa.array((item["item_id"] for item in items), pa.string())
    same = np.flatnonzero(pc.is_in(bundle.id_column, value_set=new).to_numpy())
    same = same[~np.isin(same, bundle.removed)]
    if len(same):
        row = pc.index(new, bundle.id_column[same[0]]).as_py()
        raise ValueError(
            f"{items.path}, row {row + 1}: item_id {new[row].as_py()!r} is already in the catalogue ({len(same)} of "
            f"{len(new)} items are); leave it out, or remove the old one first"
        )


def remove(bundle: IdentifierBundle, item_ids: Sequence[str]) -> Change:
    """Take items out of the catalogue.

    Raises:
        ValueError: an item is not in it, or none would be left.
    """
    rows = bundle.rows_of(item_ids)
    left = len(bundle) - len(bundle.removed) - len(rows)
    if not left:
        raise ValueError(f"{bundle.directory}: no item would be left; delete the folder instead")
    manifest = on_disk.remove_rows(bundle, rows)
    new_row = np.arange(len(bundle))
    new_row[np.union1d(bundle.removed, rows)] = -1
    summary = f"removed {len(rows):,} items, {left:,} in the catalogue (revision {manifest['revision']})"
    return Change(manifest, new_row, summary)


def compact(bundle: IdentifierBundle) -> Change | None:
    """Merge all parts and forget removed items."""
    if len(bundle.parts) == 1 and not len(bundle.removed):
        print(f"{bundle.directory}: nothing to compact")
        return None
    new_row = np.full(len(bundle), -1)
    new_row[bundle.kept] = np.arange(len(bundle.kept))
    manifest = on_disk.merge_segments(bundle)
    freed, revision = len(bundle.removed), manifest["revision"]
    summary = f"{len(bundle.kept):,} items in one part, {freed:,} identifiers freed (revision {revision})"
    return Change(manifest, new_row, summary)


def read_ids(given: Sequence[str]) -> list[str]:
    """Item ids of a command line: themselves, or those of one file, a line or (`.jsonl`) an object's `item_id` each.

    Raises:
        ValueError: the file holds none, or a row without one.
    """
    path = Path(given[0])
    if len(given) > 1 or not path.is_file():
        return list(given)
    if path.suffix == ".jsonl":
        rows = read_jsonl(path)
        for number, row in enumerate(rows, start=1):
            if not isinstance(row.get("item_id"), str):
                raise ValueError(f"{path}, row {number}: item_id is {row.get('item_id')!r}; it must be a string")
        found = [row["item_id"] for row in rows]
    else:
        try:
            found = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: invalid UTF-8 at byte {error.start}; save as UTF-8") from None
    if not found:
        raise ValueError(f"{path}: no item ids; write one a line")
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m preprocess.update_identifiers", description="Change the catalogue of a bundle or a data-bin."
    )
    commands = result.add_subparsers(dest="command", required=True)
    for name, text in (
        ("add", "give new items identifiers"),
        ("remove", "take items out of the catalogue; their identifiers stay reserved"),
        ("compact", "merge what was added, forget what was removed"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        target = command.add_mutually_exclusive_group(required=True)
        target.add_argument("--identifiers", type=Path, help="an identifier bundle")
        target.add_argument(
            "--data-bin", type=Path, help="a data-bin; its bundle is updated, and all that follows from it"
        )
        if name == "add":
            command.add_argument(
                "--embeddings",
                type=Path,
                required=True,
                help="of the new items, as build_identifiers reads, join_captions --like included",
            )
            command.add_argument("--items", type=Path, required=True, help="items.jsonl of the new items")
            command.add_argument(
                "--embedding-column", default=COLUMN, help=f"column of Parquet and Arrow tables ({COLUMN})"
            )
            command.add_argument(
                "--reference",
                type=Path,
                help="embeddings of old items, to compare the new ones with (what report.json says)",
            )
        if name == "remove":
            ids = "item ids, or one file with an id a line (.jsonl: an object with item_id)"
            command.add_argument("--item-ids", nargs="+", required=True, metavar="ID", help=ids)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    identifiers = args.identifiers or args.data_bin / "identifiers"
    if args.data_bin:
        DataBin(args.data_bin)  # says what is wrong with it before anything is read or changed
    elif is_data_bin(args.identifiers.parent):
        raise ValueError(
            f"{args.identifiers}: belongs to the data-bin {args.identifiers.parent}; update that with --data-bin"
        )
    if args.command == "add":
        embeddings, items, reference, dense, key = read_new(args, identifiers)
        update(identifiers, args.data_bin, key, lambda bundle: add(bundle, embeddings, items, reference, dense))
    elif args.command == "remove":
        item_ids = read_ids(args.item_ids)
        update(identifiers, args.data_bin, digest(["remove", item_ids]), lambda bundle: remove(bundle, item_ids))
    else:
        update(identifiers, args.data_bin, digest(["compact"]), compact)


def is_data_bin(folder: Path) -> bool:
    """Whether a folder is a data-bin, in any state."""
    manifest = read_json(folder / "manifest.json") if (folder / "manifest.json").is_file() else None
    return isinstance(manifest, dict) and manifest.get("kind") == "data-bin"


def read_new(
    args: argparse.Namespace, identifiers: Path
) -> tuple[Embeddings, ItemsFile, Embeddings | None, Embeddings, str]:
    """Open and check what `add` is given: embeddings, items, embeddings to compare with, a dense head's, and a key of it all.

    Raises:
        ValueError: something is wrong with them, or their width is not that of the bundle's embeddings.
    """
    joined, args.embeddings = dense_rows(args.embeddings), identifier_rows(args.embeddings)
    args.reference = identifier_rows(args.reference) if args.reference else None
    embeddings = open_embeddings(args.embeddings, args.embedding_column, check=False)
    reference = open_embeddings(args.reference, args.embedding_column) if args.reference else None
    items = ItemsFile(args.items)
    match_items(embeddings, items, args.embeddings, args.items)
    width = IdentifierBundle.load(identifiers).codec_settings.get("dimension")
    for path, given in ((args.embeddings, embeddings), (args.reference, reference)):
        if given is not None and given.shape[1] != width:
            raise ValueError(
                f"{path}: width {given.shape[1]}, but the identifiers in {identifiers} were built from embeddings of "
                f"width {width}; extract them in the same way"
            )
    checksums = [check_embeddings(embeddings, args.embeddings)]
    dense = embeddings
    if joined != args.embeddings:
        dense = open_embeddings(joined, check=False)
        checksums.append(check_embeddings(dense, joined))
    key = digest(["add", *checksums, [item["item_id"] for item in items]])
    return embeddings, items, reference, dense, key


if __name__ == "__main__":
    run_script(main)
