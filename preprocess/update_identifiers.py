"""Change the catalogue of an identifier bundle or a data-bin: `python -m preprocess.update_identifiers --help`.

    add      encode new items with the codec of the catalogue and give them the next free unique tokens
    remove   take items out of the catalogue; their identifiers stay reserved
    compact  merge what was added, forget what was removed, free its identifiers

From Python: `add`, `remove` and `compact` of `preprocess.api`. No other identifier changes, so a trained
checkpoint goes on. The trie, candidate sets and subsets of a data-bin follow. An update that is killed at any moment
leaves the old state or the new one, and the same command finishes it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.processes import run_script
from preprocess.data.arguments import settings_from
from preprocess.updating.item_ids import IDS, IDS_FROM, listed_in, mark_ids, read_ids
from preprocess.updating.settings import AddSettings

COMMANDS = {
    "add": "give new items identifiers",
    "remove": "take items out of the catalogue; their identifiers stay reserved",
    "compact": "merge what was added, forget what was removed",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m preprocess.update_identifiers", description="Change the catalogue of a bundle or a data-bin."
    )
    commands = result.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        target = command.add_mutually_exclusive_group(required=True)
        target.add_argument("--identifiers", dest="target", type=Path, metavar="FOLDER", help="an identifier bundle")
        data_bin = "a data-bin; its bundle is updated, and all that follows from it"
        target.add_argument("--data-bin", dest="target", type=Path, metavar="FOLDER", help=data_bin)
        renewed = (
            "a checkpoint: also write priors, statistics and vectors that its searches read into the data-bin; without it "
            "each search computes what an update made out of date (needs --data-bin)"
        )
        command.add_argument("--path", metavar="CHECKPOINT", help=renewed)
        if name == "add":
            default = AddSettings()
            embeddings = (
                "of the new items, in a format of build_identifiers; a data-bin that was made from a join joins them itself, "
                "and takes a join made with join_captions --like, too"
            )
            command.add_argument("--embeddings", type=Path, required=True, help=embeddings)
            command.add_argument("--items", type=Path, required=True, help="items.jsonl of the new items")
            captions = "captions.jsonl of the new items, for a data-bin that joins them (default: they have none)"
            command.add_argument("--captions", type=Path, help=captions)
            column = "column of Parquet and Arrow tables (%(default)s)"
            command.add_argument("--embedding-column", default=default.embedding_column, help=column)
            reference = "embeddings of old items, to compare the new ones with (the figures of report.json)"
            command.add_argument("--reference", type=Path, help=reference)
        if name == "remove":
            named = command.add_mutually_exclusive_group(required=True)
            ids = "item ids, whatever they begin with; ids spelled like a flag come last, after --"
            named.add_argument(IDS, nargs="*", action="extend", metavar="ID", help=ids)
            listed = "a file with an id a line (.jsonl: an object with item_id)"
            named.add_argument(IDS_FROM, type=Path, metavar="FILE", help=listed)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    command = parser()
    args = command.parse_args(mark_ids(sys.argv[1:] if argv is None else argv))
    if args.path is not None and not (args.target / "identifiers").is_dir():
        command.error("argument --path: a checkpoint searches a data-bin; give --data-bin, or leave --path out")
    from preprocess.updating import steps

    renew = None
    if args.path is not None:
        from cart_fairseq.renewing import renewal

        renew = renewal(args.path, args.target)
    if args.command == "add":
        updated = steps.add(args.target, args.embeddings, args.items, settings_from(AddSettings, args), args.captions)
    elif args.command == "remove":
        with listed_in(args.item_ids_from):
            updated = steps.remove(args.target, read_ids(args.item_ids_from) if args.item_ids_from else args.item_ids)
    else:
        updated = steps.compact(args.target)
    print(updated.summary)
    if renew is not None and renew():
        print(f"{args.target}: what searches with {args.path} read is up to date")


if __name__ == "__main__":
    run_script(main)
