"""Join item embeddings with features of captions: `python -m preprocess.join_captions --help`.

`preprocess.join.build` says what a join is. From Python: `preprocess.api.join_captions`. A run that is killed goes on
from `JOINED.partial/` when the command is repeated. If JOINED was made from the same inputs and settings, it does
nothing.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script
from preprocess.data.arguments import above_zero, flag, positive, settings_from
from preprocess.join.settings import FITTED, INDEX_CAPTIONS, JoinSettings


def parser() -> argparse.ArgumentParser:
    """The command line. Options that `--like` decides have no default here, so that giving one can be refused."""
    result = argparse.ArgumentParser(
        prog=program("preprocess.join_captions"),
        description="Join item embeddings with features of the captions that may be trained on.",
    )
    add, default, absent = result.add_argument, JoinSettings(), argparse.SUPPRESS
    formats = "(N, D) float16/float32: a .npy, Parquet or Arrow file, or a folder of shards of one kind"
    add("--embeddings", type=Path, required=True, help=formats)
    column = "column of Parquet and Arrow tables that has the embeddings (%(default)s)"
    add("--embedding-column", default=default.embedding_column, help=column)
    add("--items", type=Path, required=True, help="items.jsonl, line i describing embedding row i")
    add("--captions", type=Path, required=True, help="captions.jsonl; query captions have no influence")
    add("--output", type=Path, required=True, metavar="JOINED", help="folder to write")
    features = (
        "lsa: latent semantic analysis, fitted on the captions; or a sentence encoder: the name or folder of a "
        "sentence-transformers or transformers model, or FAMILY:NAME_OR_PATH as of preprocess.extract_embeddings "
        f"({default.text_features})"
    )
    add("--text-features", metavar="lsa|NAME_OR_PATH", default=absent, help=features)
    width = "width of lsa's features (512, or what few captions allow)"
    add("--text-dim", type=positive, metavar="T", default=absent, help=width)
    rare = "lsa knows the words of one caption alone, too; otherwise only those of two captions or more (no)"
    add("--rare-words", action=argparse.BooleanOptionalAction, default=absent, help=rare)
    ridge = f"strength of the regression's penalty ({default.ridge:g})"
    add("--ridge", type=above_zero, metavar="ALPHA", default=absent, help=ridge)
    components = "principal components that the regression starts from (256, or what few items allow)"
    add("--pca", type=positive, metavar="P", default=absent, help=components)
    keep = "rows have the embedding itself as a third part, each dimension standardised (no)"
    add("--keep-embedding", action=argparse.BooleanOptionalAction, default=absent, help=keep)
    align = (
        "also write aligned.npy, vectors of a dual tower trained on the joined rows, to build identifiers from: T values "
        "of a linear map, A behind a hidden layer (no)"
    )
    add("--align", type=positive, metavar="A", default=absent, help=align)
    sample = f"items and captions that anything is fitted on, drawn from all ({default.train_sample})"
    add("--train-sample", type=positive, metavar="N", default=absent, help=sample)
    index = "use the index captions of valid and test items (include, the default), or not; as with preprocess.binarize"
    add("--index-captions", choices=INDEX_CAPTIONS, default=default.index_captions, help=index)
    held_out = "captions that preprocess.binarize holds out where no valid query exists; as there"
    add("--valid-size", type=int, default=absent, help=held_out)
    seed = f"of everything that is drawn, the captions held out included ({default.seed})"
    add("--seed", type=int, default=absent, help=seed)
    like = "apply the parts that an earlier join fitted, with its settings, to these items and captions"
    add("--like", type=Path, metavar="JOINED", help=like)
    block = "items in memory at a time, which sets the memory needed (%(default)s)"
    add("--block-rows", type=positive, default=default.block_rows, metavar="N", help=block)
    device = "of a sentence encoder: auto (default: cuda where there is one), cpu, cuda …"
    add("--device", default=default.device, help=device)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    command = parser()
    args = command.parse_args(argv)
    given = [name for name in FITTED if name in vars(args)]
    if args.like and given:
        command.error(f"argument {flag(given[0])}: is decided by the join of --like, leave it out")
    settings = settings_from(JoinSettings, args)
    from preprocess.join.build import join_captions

    print(join_captions(args.embeddings, args.items, args.captions, args.output, settings, like=args.like).summary)


if __name__ == "__main__":
    run_script(main)
