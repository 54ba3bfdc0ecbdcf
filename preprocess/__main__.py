"""List the commands of this package: `python -m preprocess`."""

import argparse
from collections.abc import Sequence

from cart_fairseq.__main__ import EACH, command_list

ABOUT = "The steps from media and embeddings to training data, in their order."
COMMANDS = {
    "read_folder": "a folder of media, or a data set, to items.jsonl and captions.jsonl",
    "annotations": "published annotation files to items.jsonl and captions.jsonl",
    "extract_embeddings": "media, or texts, to embeddings by a frozen encoder",
    "generate_captions": "captions of items, written by a model or borrowed from near items",
    "join_captions": "embeddings joined with what captions say of the items",
    "build_identifiers": "embeddings to identifiers: k-means, RQ-VAE, counter",
    "inspect_identifiers": "one HTML page on the identifiers: use of levels, collisions, neighbours",
    "binarize": "identifiers and captions to a data-bin for fairseq-train",
    "update_identifiers": "add items to a catalogue, remove or compact them",
    "verify": "find damage: compare the checksums of a bundle, data-bin, join or checkpoint",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the list."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocess",
        description=f"{ABOUT}\nFrom Python: the functions of preprocess.api.",
        epilog=f"{EACH}\n\n{command_list('python -m preprocess.', COMMANDS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(argv)
    parser.print_help()


if __name__ == "__main__":
    main()
