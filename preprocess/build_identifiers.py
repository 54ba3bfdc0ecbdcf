"""Give every item its identifier (k, v1..vM, u): `python -m preprocess.build_identifiers --help` (CART section 3.2).

From Python: `preprocess.api.build_identifiers`. A run that is killed goes on from `OUTPUT.partial/` when the
command is repeated. If OUTPUT was made from the same inputs and settings, the command does nothing.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script
from preprocess.data.arguments import positive, settings_from
from preprocess.identifiers.settings import (
    CAPTION_VOCABULARY,
    CAPTION_WORDS,
    CODEBOOK_INITS,
    COLLISIONS,
    ENGINES,
    FIT_ROWS,
    KMEANS,
    SCHEME_HELP,
    IdentifierSettings,
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("preprocess.build_identifiers"),
        description="Build the identifier bundle of a catalogue from its embeddings.",
    )
    add, default = result.add_argument, IdentifierSettings()

    def number(flag: str, text: str) -> None:
        value = getattr(default, flag[2:].replace("-", "_"))
        add(flag, type=positive, default=value, metavar="N", help=text if value is None else f"{text} ({value})")

    def choice(flag: str, choices: Sequence[str], text: str) -> None:
        add(flag, choices=tuple(choices), default=getattr(default, flag[2:]), help=f"{text} (%(default)s)")

    formats = "(N, D) float16/float32: a .npy, Parquet or Arrow file, a folder of shards of one kind, or one that preprocess.join_captions or clip-retrieval wrote"
    add("--embeddings", type=Path, required=True, help=formats)
    column = "column of Parquet and Arrow tables that has the embeddings (%(default)s)"
    add("--embedding-column", default=default.embedding_column, help=column)
    items = (
        "items.jsonl, line i describing embedding row i; left out for a folder of clip-retrieval, whose metadata become "
        "OUTPUT.lists/items.jsonl and captions.jsonl"
    )
    add("--items", type=Path, help=items)
    add("--output", type=Path, required=True, help="folder of the identifier bundle")
    add("--captions", type=Path, help="captions.jsonl: for --scheme semantic, and only for it")
    choice("--scheme", [*SCHEME_HELP], "; ".join(f"{name}: {text}" for name, text in SCHEME_HELP.items()))
    number("--kmeans-clusters", "K, size of the coarse level, or of a tree's first")
    kmeans = (
        "k-means of scikit-learn: minibatch: MiniBatchKMeans with large batches and three starts; lloyd: KMeans; "
        "sklearn-default: MiniBatchKMeans with its defaults (minibatch)"
    )
    add("--kmeans", choices=KMEANS, help=kmeans)
    number("--codebooks", "M, fine levels; rqvae has one more instead of the coarse one")
    number("--codebook-size", "size of each fine level, or of a tree's lower ones")
    number("--latent-dim", "width of the RQ-VAE's latent vector and codewords")
    number("--epochs", "epochs of RQ-VAE training")
    number("--warmup-epochs", "epochs of rising learning rate (three fifths of --epochs)")
    number("--batch-size", "rows per update (about an eighth of the sample, 32 to 1024)")
    add("--normalize", action="store_true", help="scale every embedding to length 1")
    number("--pca", "keep N principal components of the embeddings")
    number("--train-sample", f"rows that k-means, PCA and the RQ-VAE are fitted on, drawn from all ({FIT_ROWS})")
    number("--block-rows", "rows in memory at a time, which sets the memory needed")
    number("--train-processes", "processes that train the RQ-VAE together, on one machine, started by torchrun")
    engine = "where values are assigned: here, or on the Ray cluster of RAY_ADDRESS, with the same result"
    choice("--engine", ENGINES, engine)
    collisions = (
        "items that share a code: unique: the unique token alone tells them apart; nearest-free: all but the nearest move "
        "to free codes near by, as far as there are any"
    )
    choice("--collisions", COLLISIONS, collisions)
    number("--caption-words", f"most words of an identifier of --scheme semantic ({CAPTION_WORDS})")
    number("--caption-vocabulary", f"most different words of --scheme semantic ({CAPTION_VOCABULARY})")
    number("--unique-size", "symbols reserved per digit of the unique token")
    add(
        "--seed", type=int, default=default.seed, help="of k-means, RQ-VAE and everything else that draws (%(default)s)"
    )
    collapse = "build from too few items or with a collapsed level all the same (no)"
    add("--allow-collapse", action=argparse.BooleanOptionalAction, help=collapse)
    add_switches(result.add_argument_group("as in the paper"))
    return result


def add_switches(group: argparse._ArgumentGroup) -> None:
    """The flags of `--faithful`; each is unset unless it is given, as a given one wins over `--faithful`."""
    add = group.add_argument
    faithful = (
        "identifiers as the paper makes them: --kmeans sklearn-default --no-centring --no-residual-scale --codebook-init "
        "random --no-recentre --no-reseed --batch-size 256, fitted on all rows; a collapsed level is reported; flags "
        "that are given as well win"
    )
    add("--faithful", action="store_true", help=faithful)
    yes_or_no = {
        "--centring": "take distances of k-means from the mean (yes)",
        "--residual-scale": "divide residuals by their root mean square (yes)",
        "--recentre": "move every codeword to the mean of its residuals once an epoch (yes)",
        "--reseed": "move codewords that no residual chooses, every five epochs (yes)",
    }
    for flag, text in yes_or_no.items():
        add(flag, action=argparse.BooleanOptionalAction, help=text)
    add("--codebook-init", choices=CODEBOOK_INITS, help="how the RQ-VAE's codebooks start (kmeans)")
    add("--alpha", type=float, metavar="A", help="weight of the commitment loss, Eq. 1 (1)")
    add("--beta", type=float, metavar="B", help="weight of the encoder's term in the commitment loss, Eq. 1 (0.25)")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    settings = settings_from(IdentifierSettings, args)
    from preprocess.identifiers.build import build_identifiers

    print(build_identifiers(args.embeddings, args.items, args.output, settings, args.captions).summary)


if __name__ == "__main__":
    run_script(main)
