"""Captions and identifiers become a data-bin: `python -m preprocess.binarize --help`.

From Python: `preprocess.api.binarize`. If OUTPUT was made from the same inputs and settings, the command does nothing.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script
from preprocess.data.arguments import settings_from
from preprocess.data.fields import INDEX_CAPTIONS
from preprocess.data_bin.settings import DataBinSettings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("preprocess.binarize"),
        description="Make a data-bin, the folder that fairseq-train reads, from captions and identifiers.",
    )
    add, default = result.add_argument, DataBinSettings()
    add("--identifiers", type=Path, required=True, help="bundle of preprocess.build_identifiers")
    captions = (
        "captions.jsonl; without it, but with --embeddings, the data-bin is a catalogue that is searched by example alone, "
        "without a model"
    )
    add("--captions", type=Path, help=captions)
    add("--output", type=Path, required=True, help="the data-bin folder to write")
    vocabulary = "most pieces of the query vocabulary (%(default)s)"
    add("--vocab-size", type=int, default=default.vocab_size, help=vocabulary)
    encoder = (
        "put this pretrained encoder of transformers, by its name on the hub or its folder, into the data-bin; its "
        "vocabulary is the query vocabulary then (default: none, a vocabulary is learned from the training captions)"
    )
    add("--text-encoder", metavar="NAME|PATH", help=encoder)
    other = (
        "use the query vocabulary, or text encoder, of this data-bin, so that its checkpoints go on with the new one"
    )
    add("--vocabulary-from", type=Path, metavar="DATA-BIN", help=other)
    dense = "embeddings of the items, or the folder that preprocess.join_captions wrote, for a model with a dense head"
    add("--embeddings", type=Path, help=dense)
    index = (
        "train on index captions of valid and test items, as the paper does (include), or not (exclude), or only on those "
        "that `generate_captions --captioner neighbours` took from training items (borrowed); default: %(default)s"
    )
    add("--index-captions", choices=INDEX_CAPTIONS, default=default.index_captions, help=index)
    add("--seed", type=int, default=default.seed, help="of the held-out valid set (%(default)s)")
    held_out = "training captions to hold out where no valid query exists (default: 5 %%, at most 1,000; 0: none)"
    add("--valid-size", type=int, default=default.valid_size, help=held_out)
    longest = "longer queries are cut, end of sentence included (%(default)s)"
    add("--max-query-tokens", type=int, default=default.max_query_tokens, help=longest)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parser().parse_args(argv)
    settings = settings_from(DataBinSettings, args)
    from preprocess.data_bin.build import binarize

    further = {name: vars(args)[name] for name in ("embeddings", "text_encoder", "vocabulary_from")}
    print(binarize(args.identifiers, args.captions, args.output, settings, **further).summary)


if __name__ == "__main__":
    run_script(main)
