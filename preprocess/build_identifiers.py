"""Give every item its identifier (k, v1..vM, u): `python -m preprocess.build_identifiers --help` (CART section 3.2).

k-means on the embeddings gives the coarse value, an RQ-VAE on what is left of them the fine values, counting the
unique one. Both are fitted on a sample; values are then assigned to the whole catalogue in blocks, whose size sets the
memory that is needed. A run that is killed goes on from `OUTPUT.partial/` when the command is given again; a run whose
output is already there, from the same inputs and settings, does nothing.
"""

import argparse
import dataclasses
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.catalogue.identifiers import unique_positions, unique_tokens, write_bundle
from cart_fairseq.files import digest, run_script, sha256
from preprocess.data.arguments import positive
from preprocess.data.embeddings import COLUMN, Embeddings, blocks, check_embeddings, open_embeddings
from preprocess.data.inputs import ItemsFile, match_items
from preprocess.data.working_folder import check_output, is_current, remove, remove_leftovers, working_folder
from preprocess.identifiers.assigned import DIGITS, unique_symbols
from preprocess.identifiers.clustering import BLOCK_ROWS, FIT_ROWS
from preprocess.identifiers.codec import Codec
from preprocess.identifiers.collisions import LevelledCodec, move_to_free_codes
from preprocess.identifiers.encode import Engine, encode_catalogue, local_engine, reconstruction_error
from preprocess.identifiers.fitting import Settings, fit_codec
from preprocess.identifiers.ray_engine import ray_engine
from preprocess.identifiers.report import measure, refuse_collapse, table
from preprocess.identifiers.rqvae_runner import TrainingSettings, default_batch_size
from preprocess.join.folder import identifier_rows
from preprocess.updating.drift import baseline

SCHEMES = ("coarse-fine", "rqvae", "hierarchical-kmeans", "residual-kmeans", "atomic", "structured")
MOVABLE = ("coarse-fine", "rqvae", "residual-kmeans")
"""Schemes with codes that no item has, but that mean something."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line; numbers are checked here."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.build_identifiers",
        description="Build the identifier bundle of a catalogue from its embeddings.",
    )
    add = parser.add_argument
    formats = "(N, D) float16/float32: a .npy, Parquet or Arrow file, a folder of shards of one kind, or one that preprocess.join_captions wrote"
    add("--embeddings", type=Path, required=True, help=formats)
    add("--embedding-column", default=COLUMN, help=f"column of Parquet and Arrow tables ({COLUMN})")
    add("--items", type=Path, required=True, help="items.jsonl, line i describing embedding row i")
    add("--output", type=Path, required=True, help="folder of the identifier bundle")
    scheme = (
        "coarse-fine (default); rqvae: without k-means; hierarchical-kmeans: without RQ-VAE; residual-kmeans: k-means of "
        "residuals instead of the RQ-VAE; atomic: one symbol an item; structured: path in a tree, as digits"
    )
    add("--scheme", choices=SCHEMES, default="coarse-fine", help=scheme)
    add("--kmeans-clusters", type=positive, default=128, help="K, size of the coarse level, or of a tree's first (128)")
    add("--kmeans", choices=("minibatch", "lloyd"), default="minibatch", help="MiniBatchKMeans (default) or KMeans")
    add(
        "--codebooks", type=positive, default=2, help="M, fine levels (2); rqvae has one more instead of the coarse one"
    )
    add("--codebook-size", type=positive, default=128, help="size of each fine level, or of a tree's lower ones (128)")
    add("--latent-dim", type=positive, default=64, help="width of the RQ-VAE's latent vector and codewords (64)")
    add("--epochs", type=positive, default=500, help="epochs of RQ-VAE training (500)")
    add("--warmup-epochs", type=positive, help="epochs of rising learning rate (three fifths of --epochs)")
    add("--batch-size", type=positive, help="rows per update (about an eighth of the sample, 32 to 1024)")
    add("--normalize", action="store_true", help="scale every embedding to length 1")
    add("--pca", type=positive, metavar="D", help="keep D principal components of the embeddings")
    sample = f"rows that k-means, PCA and the RQ-VAE are fitted on, drawn from all ({FIT_ROWS})"
    add("--train-sample", type=positive, default=FIT_ROWS, metavar="N", help=sample)
    block = f"rows in memory at a time, which sets the memory needed ({BLOCK_ROWS})"
    add("--block-rows", type=positive, default=BLOCK_ROWS, metavar="N", help=block)
    processes = "processes that train the RQ-VAE together, on one machine, started by torchrun (1)"
    add("--train-processes", type=positive, default=1, metavar="N", help=processes)
    engine = "where values are assigned: local (default), or ray: on the cluster of RAY_ADDRESS; with the same result"
    add("--engine", choices=("local", "ray"), default="local", help=engine)
    collisions = (
        "items that share a code: unique (default): are told apart by the unique token alone; nearest-free: all but the "
        "nearest move to free codes near by, as far as there are any"
    )
    add("--collisions", choices=("unique", "nearest-free"), default="unique", help=collisions)
    add("--unique-size", type=positive, default=128, help="symbols reserved per digit of the unique token (128)")
    add("--seed", type=int, default=1, help="of k-means, RQ-VAE and everything else that draws (1)")
    add("--allow-collapse", action="store_true", help="build from too few items or with a collapsed level all the same")
    args = parser.parse_args(argv)
    if not 0 <= args.seed < 2**31:
        parser.error(f"argument --seed: {args.seed} is not between 0 and 2147483647")
    if args.unique_size < 2:
        parser.error("argument --unique-size: 1 symbol cannot tell two items apart, reserve at least 2")
    if args.collisions == "nearest-free" and args.scheme not in MOVABLE:
        parser.error(f"argument --collisions: nearest-free needs one of the schemes {', '.join(MOVABLE)}")
    return args


def settings_of(args: argparse.Namespace, rows: int) -> Settings:
    """Settings with the defaults that depend on others filled in."""
    training = TrainingSettings(
        codebooks=args.codebooks + (args.scheme == "rqvae"),
        codebook_size=args.codebook_size,
        latent_dim=args.latent_dim,
        epochs=args.epochs,
        warmup_epochs=args.warmup_epochs or max(1, args.epochs * 3 // 5),
        batch_size=args.batch_size or default_batch_size(min(rows, args.train_sample)),
        seed=args.seed,
    )
    return Settings(
        scheme=args.scheme,
        kmeans_clusters=args.kmeans_clusters,
        kmeans=args.kmeans,
        training=training,
        normalize=args.normalize,
        pca=args.pca,
        train_sample=args.train_sample,
        block_rows=args.block_rows,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    started = time.perf_counter()
    args = parse(argv)
    args.embeddings = identifier_rows(args.embeddings)
    embeddings = open_embeddings(args.embeddings, args.embedding_column, check=False)
    items = ItemsFile(args.items)
    match_items(embeddings, items, args.embeddings, args.items)
    check_output(args.output)
    settings = settings_of(args, len(items))
    inputs = {"embeddings": check_embeddings(embeddings, args.embeddings), "items": sha256(args.items)}
    whole = {
        "settings": dataclasses.asdict(settings),
        "unique_size": args.unique_size,
        "collisions": args.collisions,
        "allow_collapse": args.allow_collapse,
        "inputs_sha256": inputs,
    }
    settings_hash = digest(whole)
    if is_current(args.output, settings_hash):
        remove_leftovers(args.output)
        print(f"{args.output}: up to date with these inputs and settings, nothing to do")
        return
    if not args.allow_collapse:
        refuse_degenerate(embeddings, settings, args.embeddings)

    work_key = digest([dataclasses.asdict(settings), inputs["embeddings"]])
    with working_folder(args.output, work_key) as work:
        codec = fit_codec(embeddings, settings, work, args.train_processes)
        engine = engine_of(args, codec, embeddings)
        codes, error = encode_catalogue(engine, embeddings.shape, len(codec.positions), args.block_rows, work)
        reserved = unique_symbols(args.scheme, len(items), args.unique_size)
        unique = unique_tokens(codes, reserved)
        # Atomic identifiers have nothing but the unique token, which is then what is measured.
        measured = (codes, codec.positions) if codec.positions else (unique, unique_positions(1, reserved))
        report: dict[str, Any] = {"scheme": args.scheme, **measure(*measured)}
        if not args.allow_collapse:
            refuse_collapse(report, tree=args.scheme in ("hierarchical-kmeans", "structured"))
        report["reconstruction_error"] = error
        report["fitted_on"] = min(len(items), args.train_sample)
        report["fit"] = baseline(codec, embeddings)
        if args.collisions == "nearest-free":
            codes = resolve_collisions(codec, embeddings, codes, work, report)
            unique = unique_tokens(codes, reserved)
        report["seconds"] = round(time.perf_counter() - started, 3)
        report["peak_memory_bytes"] = peak_memory()
        write_bundle(
            args.output,
            np.column_stack([codes, unique]),
            [*codec.positions, *unique_positions(unique.shape[1], reserved)],
            items,
            report,
            codec.tensors(),
            {"scheme": args.scheme, "dimension": embeddings.shape[1], "settings_hash": settings_hash, **whole},
        )
        remove(work)
    remove_leftovers(args.output)
    print(table(report))
    print(f"\nwritten to {args.output}")


def engine_of(args: argparse.Namespace, codec: Codec, embeddings: Embeddings) -> Engine:
    """What `--engine` names."""
    if args.engine == "ray":
        return ray_engine(codec, args.embeddings, args.embedding_column, args.block_rows)
    return local_engine(codec, embeddings, args.block_rows)


def resolve_collisions(
    codec: Codec, embeddings: Embeddings, codes: NDArray[np.int32], work: Path, report: dict[str, Any]
) -> NDArray[np.int32]:
    """Codes with items moved to free ones; `report` then has the figures after, and before under `nearest_free`."""
    found = move_to_free_codes(cast(LevelledCodec, codec), embeddings, codes, work)
    before = {
        name: report[name] for name in ("unique_codes", "collision_rate", "max_collisions", "reconstruction_error")
    }
    report |= measure(found.codes, codec.positions)
    report["reconstruction_error"] = reconstruction_error(codec, embeddings, found.codes)
    extra = report["reconstruction_error"] - before["reconstruction_error"]
    moved = dict(zip((position.name for position in codec.positions), found.moved, strict=True))
    report["nearest_free"] = {"moved": moved, "extra_reconstruction_error": extra, "before": before}
    return found.codes


def refuse_degenerate(embeddings: Embeddings, settings: Settings, path: Path) -> None:
    """Raise for catalogues that no clustering can tell apart: one item, fewer items than clusters, all items alike."""
    if settings.scheme == "atomic":  # clusters nothing
        return
    remedy = "or build anyway with --allow-collapse"
    rows = len(embeddings)
    if rows == 1:
        raise ValueError(f"{path}: only 1 item, there is nothing to cluster; give more items {remedy}")
    if settings.scheme == "structured" and rows < DIGITS:
        raise ValueError(f"{path}: {rows} items are too few for a tree of {DIGITS} children a node; give more {remedy}")
    rqvae_only = settings.scheme == "rqvae"
    option = "--codebook-size" if rqvae_only else "--kmeans-clusters"
    needed = settings.training.codebook_size if rqvae_only else settings.kmeans_clusters
    if rows < needed and settings.scheme != "structured":
        raise ValueError(f"{path}: {rows} items are too few for {option} {needed}; use a smaller {option} {remedy}")
    first = np.asarray(embeddings[:1])
    if all((np.asarray(embeddings[block]) == first).all() for block in blocks(*embeddings.shape)):
        raise ValueError(f"{path}: all {rows} embeddings are identical; check how they were extracted {remedy}")


def peak_memory() -> int:
    """Peak resident bytes of the larger of this process and the training process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    run_script(main)
