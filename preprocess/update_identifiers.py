"""Change the catalogue of an identifier bundle or a data-bin: `python -m preprocess.update_identifiers --help`.

    add      encode new items with the codec of the catalogue and give them the next free unique tokens
    remove   take items out of the catalogue; their identifiers stay reserved
    compact  merge what was added, forget what was removed, free its identifiers
    renew    change nothing, and write what searches with a checkpoint read, as the others do with --path

From Python: the functions of these names in `preprocess.api`. No other identifier changes, so a trained
checkpoint goes on. The trie, candidate sets and subsets of a data-bin follow. An update that is killed at any moment
leaves the old state or the new one, and the same command finishes it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script
from preprocess.data.arguments import settings_from
from preprocess.updating.item_ids import IDS, IDS_FROM, listed_in, mark_ids, read_ids
from preprocess.updating.settings import AddSettings

COMMANDS = {
    "add": "give new items identifiers",
    "remove": "take items out of the catalogue; their identifiers stay reserved",
    "compact": "merge what was added, forget what was removed",
}
RENEW = "write priors, statistics and vectors that searches with a checkpoint read into the data-bin"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("preprocess.update_identifiers"), description="Change the catalogue of a bundle or a data-bin."
    )
    commands = result.add_subparsers(dest="command", required=True)
    renewing = commands.add_parser("renew", help=RENEW, description=RENEW)
    renewing.add_argument("--data-bin", dest="target", type=Path, metavar="FOLDER", required=True, help="the data-bin")
    renewed = "the checkpoint, or an ensemble a.pt:b.pt (default: the models of a MODEL folder)"
    renewing.add_argument("--path", metavar="CHECKPOINT", help=renewed)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        target = command.add_mutually_exclusive_group(required=True)
        target.add_argument("--identifiers", dest="target", type=Path, metavar="FOLDER", help="an identifier bundle")
        data_bin = "a data-bin or a MODEL folder; its bundle is updated, and all that follows from it"
        target.add_argument("--data-bin", dest="target", type=Path, metavar="FOLDER", help=data_bin)
        renewed = (
            "a checkpoint: also write priors, statistics and vectors that its searches read into the data-bin; without it "
            "each search computes what an update made out of date (needs --data-bin; default: the models of a MODEL folder)"
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
        command.error(f"argument --path: a checkpoint searches a data-bin, and {args.target} is none; check the path")
    if args.command == "renew":
        from preprocess.updating.renewing import checkpoint_of, renew, up_to_date

        path = checkpoint_of(args.target, args.path)
        if path is None:
            command.error("the following arguments are required: --path")
        if not renew(args.target, path):
            raise SystemExit(2)
        print(up_to_date(args.target, path))
    else:
        update(args)


def update(args: argparse.Namespace) -> None:
    """Change the catalogue, and print what was done."""
    from preprocess.updating import steps

    if args.command == "add":
        updated = steps.add(
            args.target, args.embeddings, args.items, settings_from(AddSettings, args), args.captions, args.path
        )
    elif args.command == "remove":
        with listed_in(args.item_ids_from):
            ids = read_ids(args.item_ids_from) if args.item_ids_from else args.item_ids
            updated = steps.remove(args.target, ids, args.path)
    else:
        updated = steps.compact(args.target, args.path)
    print(updated.summary)


if __name__ == "__main__":
    run_script(main)
