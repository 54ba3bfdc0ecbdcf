"""Measure how long `update_identifiers add` takes on a large catalogue, and check that old identifiers do not change.

    PYTHONPATH=. python examples/changing_catalogue/add_time.py --items 10000000 --new 10000

The script builds a synthetic bundle of uniform codes with a codec of random weights and fitted codebooks. It adds items
twice and prints the seconds: in a new process, including the start of Python, and in a process that has imported all
modules.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
import torch
from provenance import provenance

from cart_fairseq.base.files import sha256, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.catalogue.identifiers import IdentifierBundle, write_bundle
from cart_fairseq.catalogue.positions import unique_positions, unique_tokens
from cart_fairseq.rqvae.network import RQVAE
from preprocess import update_identifiers
from preprocess.identifiers.schemes.coarse_fine import ResidualCodec

SIZE = 128
SAMPLE, SCALE = 4096, 2**0.5  # rows to fit the codebooks on; standard deviation of an item minus a centre


class Items(Collection[dict[str, Any]]):
    """`count` items, created on iteration."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __contains__(self, item: object) -> bool:
        return any(item == own for own in self)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in range(self.count):
            yield {"item_id": f"item-{row:09}", "modality": "image", "media": f"{row:09}.jpg"}


def make_bundle(folder: Path, items: int, dimension: int) -> IdentifierBundle:
    """Write the synthetic bundle."""
    torch.manual_seed(1)
    draw = np.random.default_rng(1)
    centres = draw.standard_normal((SIZE, dimension), dtype=np.float32)
    rqvae = RQVAE(dimension, codebook_size=SIZE).requires_grad_(False).eval()
    rqvae.initialise_codebooks(torch.randn(SAMPLE, dimension), 1)
    codec = ResidualCodec(centres, SIZE, rqvae, SCALE)
    codes = draw.integers(0, SIZE, size=(items, 3), dtype=np.int32)
    unique = unique_tokens(codes, SIZE)
    positions = [*codec.positions, *unique_positions(unique.shape[1], SIZE)]
    values = np.column_stack([codes, unique])
    return write_bundle(
        folder, values, positions, Items(items), {}, codec.tensors(), {"scheme": "coarse-fine", "dimension": dimension}
    )


def new_items(folder: Path, count: int, dimension: int, first: int) -> list[str]:
    """Write files of new items, and return them as flags of `add`."""
    folder.mkdir()
    draw = np.random.default_rng(first)
    np.save(folder / "embeddings.npy", draw.standard_normal((count, dimension)).astype(np.float16))
    lines = (f'{{"item_id": "new-{first + row:09}"}}\n' for row in range(count))
    (folder / "items.jsonl").write_text("".join(lines), encoding="utf-8")
    return ["--embeddings", str(folder / "embeddings.npy"), "--items", str(folder / "items.jsonl")]


def main() -> None:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Measure the seconds to add items to a large catalogue.")
    parser.add_argument("--items", type=int, default=10_000_000, help="old items (10,000,000)")
    parser.add_argument("--new", type=int, default=10_000, help="new items (10,000)")
    parser.add_argument("--dimension", type=int, default=1024, help="width of an embedding (1024)")
    parser.add_argument("--folder", type=Path, help="folder for the bundle (a temporary folder)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder)
        path = root / "identifiers"
        began = time.perf_counter()
        files = dict(make_bundle(path, args.items, args.dimension).manifest["files"])
        print(f"a bundle of {args.items:,} items      {time.perf_counter() - began:.1f} s to make")
        command = ["add", "--identifiers", str(path)]
        seconds = {}
        flags = new_items(root / "first", args.new, args.dimension, 0)
        os.sync()  # finish writing the bundle before the command is timed
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "preprocess.update_identifiers", *command, *flags], check=True)
        seconds["fresh_process"] = time.perf_counter() - began
        flags = new_items(root / "second", args.new, args.dimension, args.new)
        began = time.perf_counter()
        update_identifiers.main([*command, *flags])
        seconds["in_process"] = time.perf_counter() - began
        identical = all(sha256(path / name) == entry["sha256"] for name, entry in files.items())
        after = IdentifierBundle.load(path)
        figures = {"seconds": seconds, "old_files_identical": identical}
        print(f"add {args.new:,}, fresh process       {seconds['fresh_process']:.2f} s")
        print(f"add {args.new:,} more, same process   {seconds['in_process']:.2f} s")
        print(f"old files byte-identical     {identical}; {len(after):,} items now")
    if args.json:
        write_json(args.json, {**provenance(vars(args), "json", "folder"), **figures})


if __name__ == "__main__":
    run_script(main)
