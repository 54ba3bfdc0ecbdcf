"""Measure the collisions of a large clustered catalogue before and after `--collisions nearest-free`, and their cost.

    python examples/identifiers/collisions.py [--items 1e6] [--scheme coarse-fine] [--epochs 40] [--json FILE]

The catalogue is synthetic (see synthetic.py): 2,000 Gaussian centres in 64 of 1,024 dimensions, with items around them.
The items' standard deviation is 0.3 of that of the centres. The codec is fitted on a sample, as in `build_identifiers`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
from provenance import provenance
from synthetic import ClusteredVectors

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from preprocess.data.embeddings import Embeddings
from preprocess.identifiers.collisions import move_to_free_codes
from preprocess.identifiers.encode import encode_catalogue, local_engine, reconstruction_error
from preprocess.identifiers.fitting import fit_codec, fit_settings
from preprocess.identifiers.report import measure
from preprocess.identifiers.schemes.named import SCHEMES
from preprocess.identifiers.settings import BLOCK_ROWS, IdentifierSettings


def compare(items: int, scheme: str, epochs: int, sample: int, sizes: int, dimension: int) -> dict[str, Any]:
    """Fit a codec, assign codes, move items to free codes, and return the figures.

    Args:
        items: N.
        scheme: coarse-fine, rqvae or residual-kmeans.
        epochs: epochs of RQ-VAE training.
        sample: number of rows to fit the codec on.
        sizes: number of values of each of the three levels.
        dimension: D. The vectors vary in a sixteenth of the dimensions.
    """
    embeddings = cast(Embeddings, ClusteredVectors(items, dimension, used=max(1, dimension // 16)))
    settings = IdentifierSettings(
        scheme=scheme, kmeans_clusters=sizes, codebook_size=sizes, epochs=epochs, train_sample=sample
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="collisions-") as folder:
        work = Path(folder)
        codec = fit_codec(SCHEMES[scheme], embeddings, fit_settings(settings, items), work)
        fitted = time.perf_counter()
        engine = local_engine(codec, embeddings, BLOCK_ROWS)
        codes, error = encode_catalogue(engine, embeddings.shape, 3, BLOCK_ROWS, work)
        assigned = time.perf_counter()
        moved = move_to_free_codes(codec, embeddings, np.asarray(codes), work)
        resolved = time.perf_counter()
        before, after = measure(np.asarray(codes), codec.positions), measure(moved.codes, codec.positions)
        error_after = reconstruction_error(codec, embeddings, moved.codes)
    return {
        "items": items,
        "scheme": scheme,
        "collision_rate": {"before": before["collision_rate"], "after": after["collision_rate"]},
        "max_collisions": {"before": before["max_collisions"], "after": after["max_collisions"]},
        "reconstruction_error": {"before": error, "after": error_after, "extra": error_after - error},
        "moved": moved.moved,
        "utilisation": {
            when: {level["name"]: level["utilisation"] for level in figures["levels"]}
            for when, figures in (("before", before), ("after", after))
        },
        "seconds": {"fit": fitted - started, "assign": assigned - fitted, "move": resolved - assigned},
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as text."""
    rate, most, error = found["collision_rate"], found["max_collisions"], found["reconstruction_error"]
    lines = [
        f"{found['items']:,} items, scheme {found['scheme']}",
        f"{'':<28}{'before':>10}{'after':>10}",
        f"{'items sharing a code':<28}{rate['before']:>10.2%}{rate['after']:>10.2%}",
        f"{'most items on a code':<28}{most['before']:>10,}{most['after']:>10,}",
        f"{'reconstruction error':<28}{error['before']:>10.4f}{error['after']:>10.4f}   extra {error['extra']:.4f}",
    ]
    for level, share in found["utilisation"]["before"].items():
        lines.append(f"{'utilisation of ' + level:<28}{share:>10.1%}{found['utilisation']['after'][level]:>10.1%}")
    seconds = found["seconds"]
    lines.append(
        f"fitting {seconds['fit']:.0f} s, assigning {seconds['assign']:.0f} s, moving {seconds['move']:.0f} s "
        f"({sum(found['moved']):,} items)"
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Measure collisions before and after moving items to free codes.")
    add = parser.add_argument
    add("--items", type=float, default=1e6, help="size of the catalogue (1e6)")
    add("--scheme", choices=("coarse-fine", "rqvae", "residual-kmeans"), default="coarse-fine", help="(coarse-fine)")
    add("--epochs", type=int, default=40, help="epochs of RQ-VAE training (40)")
    add("--sample", type=int, default=32_768, help="rows to fit the codec on (32768)")
    add("--sizes", type=int, default=128, help="values of each of the three levels (128)")
    add(
        "--dimension",
        type=int,
        default=1024,
        help="width of a vector, of which a sixteenth is not constant (1024)",
    )
    add("--json", type=Path, help="file for the figures")
    args = parser.parse_args(argv)
    if min(args.items, args.epochs, args.sample, args.sizes, args.dimension) < 1:
        parser.error("all numbers must be at least 1")
    found = compare(int(args.items), args.scheme, args.epochs, args.sample, args.sizes, args.dimension)
    print(table(found))
    if args.json:
        write_json(args.json, {**provenance(vars(args), "json"), **found})


if __name__ == "__main__":
    run_script(main)
