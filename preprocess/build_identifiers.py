"""Give every item its identifier (k, v1..vM, u): `python -m preprocess.build_identifiers --help` (CART section 3.2).

k-means on the embeddings gives the coarse value, an RQ-VAE on what is left of them the fine values, counting the
unique one. A run that is killed goes on from `OUTPUT.partial/` when the command is given again; a run whose output is
already there, from the same inputs and settings, does nothing.
"""

import argparse
import dataclasses
import fcntl
import hashlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.files import read_json, replacing, run_script, sha256, write_json
from cart_fairseq.identifiers import IdentifierBundle, unique_positions, unique_tokens, write_bundle
from preprocess.clustering import assign, fit_centres
from preprocess.codec import Codec, ResidualCodec, TreeCodec, reconstruction_error, residuals
from preprocess.identifier_report import measure, refuse_collapse, table
from preprocess.inputs import Embeddings, blocks, match_items, open_embeddings, read_items
from preprocess.rqvae_runner import TrainingSettings, default_batch_size, train_rqvae

SCHEMES = ("coarse-fine", "rqvae", "hierarchical-kmeans")
PIPELINE_VERSION = 1
"""Raised when the same settings would give other identifiers, so that old outputs are not taken for current."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything besides the embeddings that determines the semantic values."""

    scheme: str
    kmeans_clusters: int
    kmeans: str
    training: TrainingSettings
    version: int = PIPELINE_VERSION


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line; numbers are checked here."""

    def positive(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
        return int(text)

    parser = argparse.ArgumentParser(
        prog="python -m preprocess.build_identifiers",
        description="Build the identifier bundle of a catalogue from its embeddings.",
    )
    add = parser.add_argument
    add("--embeddings", type=Path, required=True, help="(N, D) float16/float32 .npy file, or a folder of .npy shards")
    add("--items", type=Path, required=True, help="items.jsonl, line i describing embedding row i")
    add("--output", type=Path, required=True, help="folder of the identifier bundle")
    scheme = "coarse-fine (default); rqvae: without k-means; hierarchical-kmeans: without RQ-VAE"
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
    add("--batch-size", type=positive, help="rows per update (about an eighth of the items, 32 to 1024)")
    add("--unique-size", type=positive, default=128, help="symbols reserved per digit of the unique token (128)")
    add("--seed", type=int, default=1, help="of k-means, RQ-VAE and everything else that draws (1)")
    add("--allow-collapse", action="store_true", help="build from too few items or with a collapsed level all the same")
    args = parser.parse_args(argv)
    if not 0 <= args.seed < 2**31:
        parser.error(f"argument --seed: {args.seed} is not between 0 and 2147483647")
    if args.unique_size < 2:
        parser.error("argument --unique-size: 1 symbol cannot tell two items apart, reserve at least 2")
    return args


def settings_of(args: argparse.Namespace, rows: int) -> Settings:
    """Settings with the defaults that depend on others filled in."""
    training = TrainingSettings(
        codebooks=args.codebooks + (args.scheme == "rqvae"),
        codebook_size=args.codebook_size,
        latent_dim=args.latent_dim,
        epochs=args.epochs,
        warmup_epochs=args.warmup_epochs or max(1, args.epochs * 3 // 5),
        batch_size=args.batch_size or default_batch_size(rows),
        seed=args.seed,
    )
    return Settings(args.scheme, args.kmeans_clusters, args.kmeans, training)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    started = time.perf_counter()
    args = parse(argv)
    embeddings = open_embeddings(args.embeddings)
    items = read_items(args.items)
    match_items(embeddings, items, args.embeddings, args.items)
    check_output(args.output)
    settings = settings_of(args, len(items))
    inputs = {"embeddings": fingerprint(embeddings), "items": sha256(args.items)}
    whole = {
        "settings": dataclasses.asdict(settings),
        "unique_size": args.unique_size,
        "allow_collapse": args.allow_collapse,
        "inputs_sha256": inputs,
    }
    settings_hash = digest(whole)
    if is_current(args.output, settings_hash):
        print(f"{args.output}: up to date with these inputs and settings, nothing to do")
        return
    if not args.allow_collapse:
        refuse_degenerate(embeddings, settings, args.embeddings)

    work_key = digest([dataclasses.asdict(settings), inputs["embeddings"]])
    with working_folder(args.output, work_key) as work:
        codec = build_codec(embeddings, settings, work)
        codes = codec.encode(embeddings)
        report: dict[str, Any] = {"scheme": args.scheme, **measure(codes, codec.positions)}
        if not args.allow_collapse:
            refuse_collapse(report, tree=isinstance(codec, TreeCodec))
        report["reconstruction_error"] = reconstruction_error(codec, embeddings, codes)
        unique = unique_tokens(codes, args.unique_size)
        report["seconds"] = round(time.perf_counter() - started, 3)
        report["peak_memory_bytes"] = peak_memory()
        write_bundle(
            args.output,
            np.column_stack([codes, unique]),
            [*codec.positions, *unique_positions(unique.shape[1], args.unique_size)],
            items,
            report,
            codec.tensors(),
            {"scheme": args.scheme, "dimension": embeddings.shape[1], "settings_hash": settings_hash, **whole},
        )
        shutil.rmtree(work)
    print(table(report))
    print(f"\nwritten to {args.output}")


def build_codec(embeddings: Embeddings, settings: Settings, work: Path) -> Codec:
    """Fit the codec of the scheme, reusing from `work` what an interrupted run with the same key left there."""
    training = settings.training
    if settings.scheme == "hierarchical-kmeans":
        sizes = [settings.kmeans_clusters] + [training.codebook_size] * training.codebooks
        return TreeCodec.fit(embeddings, sizes, settings.kmeans, training.seed)
    coarse = settings.scheme == "coarse-fine"
    centres_path, residuals_path = work / "centres.npy", work / "residuals.npy"
    if not centres_path.exists():
        centres = fit_centres(embeddings, settings.kmeans_clusters if coarse else 1, settings.kmeans, training.seed)
        with replacing(centres_path) as new, open(new, "wb") as file:
            np.save(file, centres)
    centres = np.load(centres_path, allow_pickle=False)
    if not residuals_path.exists():
        write_residuals(residuals_path, embeddings, centres)
    scale = float(read_json(work / "scale.json"))
    rqvae = train_rqvae(residuals_path, work, training)
    return ResidualCodec(centres, settings.kmeans_clusters if coarse else 0, rqvae, scale)


def write_residuals(path: Path, embeddings: Embeddings, centres: NDArray[np.float32]) -> None:
    """Write (embedding - nearest centre) / scale, (N, D) float32, for every item, and the scale as scale.json beside."""
    nearest = assign(embeddings, centres)
    total = 0.0
    for block in blocks(*embeddings.shape):
        total += float(np.square(residuals(embeddings, centres, nearest, block), dtype=np.float64).sum())
    scale = (total / (embeddings.shape[0] * embeddings.shape[1])) ** 0.5 or 1.0
    write_json(path.with_name("scale.json"), scale)
    with replacing(path) as new:
        out = np.lib.format.open_memmap(new, mode="w+", dtype=np.float32, shape=embeddings.shape)
        for block in blocks(*embeddings.shape):
            out[block] = residuals(embeddings, centres, nearest, block) / np.float32(scale)
        out.flush()


def refuse_degenerate(embeddings: Embeddings, settings: Settings, path: Path) -> None:
    """Raise for catalogues that no clustering can tell apart: one item, fewer items than clusters, all items alike."""
    remedy = "or build anyway with --allow-collapse"
    rows = len(embeddings)
    if rows == 1:
        raise ValueError(f"{path}: only 1 item, there is nothing to cluster; give more items {remedy}")
    rqvae_only = settings.scheme == "rqvae"
    option = "--codebook-size" if rqvae_only else "--kmeans-clusters"
    needed = settings.training.codebook_size if rqvae_only else settings.kmeans_clusters
    if rows < needed:
        raise ValueError(f"{path}: {rows} items are too few for {option} {needed}; use a smaller {option} {remedy}")
    first = np.asarray(embeddings[:1])
    if all((np.asarray(embeddings[block]) == first).all() for block in blocks(*embeddings.shape)):
        raise ValueError(f"{path}: all {rows} embeddings are identical; check how they were extracted {remedy}")


def check_output(output: Path) -> None:
    """Refuse to replace anything that is not an identifier bundle."""
    if (
        output.exists()
        and not (output / "codec.json").is_file()
        and not (output.is_dir() and not any(output.iterdir()))
    ):
        raise ValueError(f"{output}: exists and is not an identifier bundle; remove it or choose another --output")


def is_current(output: Path, settings_hash: str) -> bool:
    """Whether `output` is an undamaged bundle made from the same inputs and settings."""
    if not (output / "codec.json").is_file():
        return False
    try:
        bundle = IdentifierBundle.load(output)
        if bundle.codec_settings.get("settings_hash") != settings_hash:
            return False
        bundle.verify()
    except ValueError as error:
        print(f"{error}; building it again", file=sys.stderr)
        return False
    return True


@contextmanager
def working_folder(output: Path, key: str) -> Iterator[Path]:
    """`OUTPUT.partial/`, emptied if it belongs to another key, locked against a second run for as long as this one."""
    work = output.with_name(output.name + ".partial")
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{work}: another run is building {output}; wait for it or stop it") from None
        key_path = work / "key.json"
        if key_path.is_file() and read_json(key_path) == key:
            print(f"{work}: going on where an interrupted run stopped")
        else:
            for leftover in work.iterdir():
                if leftover.name != "lock":
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            write_json(key_path, key)
        yield work


def fingerprint(embeddings: Embeddings) -> str:
    """SHA-256 over shape, dtype and values, whether they lie in one file or in shards."""
    hasher = hashlib.sha256(f"{tuple(embeddings.shape)} {embeddings.dtype}".encode())
    for block in blocks(*embeddings.shape):
        hasher.update(np.ascontiguousarray(embeddings[block]).data)
    return hasher.hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def peak_memory() -> int:
    """Peak resident bytes of the larger of this process and the training process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    run_script(main)
