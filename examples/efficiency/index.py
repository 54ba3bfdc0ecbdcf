"""Measure the cost of the trie: seconds to build it, its memory, and seconds to open a saved one.

    python examples/efficiency/index.py --items 1e6 1e7 1e8 --json index.json

Identifiers are uniform random codes: three positions of 128 values, and the unique token. Each size runs in a new
process, so that the peak memory is that of this build. It includes the input array.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
import torch
from provenance import provenance

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.progress import track
from cart_fairseq.catalogue.trie import IdentifierTrie

SIZE = 128
OFFSETS = [4 + SIZE * position for position in range(4)]


def identifiers(items: int, seed: int = 1) -> np.ndarray:
    """Return (items, 4) int32 distinct identifiers in random order: random codes, and a counter of equal ones."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, SIZE**3, size=items, dtype=np.int32)
    codes.sort()
    values = np.empty((items, 4), dtype=np.int32)
    for position, shift in enumerate((14, 7, 0)):
        values[:, position] = (codes >> shift) & (SIZE - 1)
    place = np.arange(items, dtype=np.int32)
    first = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]])).astype(np.int32)
    values[:, 3] = place - np.repeat(first, np.diff(np.append(first, items)))
    del codes, place, first
    rng.shuffle(values)
    return values


def measure(items: int, repeats: int) -> dict[str, Any]:
    """Build, save and open the trie for one catalogue size."""
    values = identifiers(items)
    seconds, opened = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        trie = IdentifierTrie.build(values, [SIZE] * 4, OFFSETS)
        seconds.append(time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trie.safetensors"
        began = time.perf_counter()
        trie.save(path, "0" * 64)
        saved = time.perf_counter() - began
        for _ in range(max(repeats, 5)):
            began = time.perf_counter()
            loaded = IdentifierTrie.load(path, "0" * 64)
            opened.append(time.perf_counter() - began)
        chosen = np.random.default_rng(2).integers(0, items, size=1000)
        found = loaded.rows[loaded.find(torch.from_numpy(values[chosen]))]
        if found.tolist() != chosen.tolist():
            raise RuntimeError("the trie does not map every identifier to its item")
        size = path.stat().st_size
    return {
        "items": items,
        "build_seconds": statistics.median(seconds),
        "save_seconds": saved,
        "open_seconds": statistics.median(opened),
        "bytes_per_item": trie.nbytes / items,
        "file_bytes": size,
        "input_bytes": values.nbytes,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every size and print the table."""
    parser = argparse.ArgumentParser(prog="index.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--items", type=float, nargs="+", default=[1e6, 1e7], help="catalogue sizes (1e6 1e7)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="builds for each size, of which the median is printed (3)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(measure(args.one, args.repeats)))
        return
    if args.repeats < 1 or min(args.items) < 1:
        raise ValueError("--repeats and --items must be at least 1")
    results = []
    for items in track([int(size) for size in args.items], "measuring", "catalogues"):
        command = [sys.executable, __file__, "--one", str(items), "--repeats", str(args.repeats)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    print(
        f"{'items':>12} {'build s':>8} {'save s':>7} {'open s':>7} {'bytes/item':>11} {'peak GB':>8} {'of it input':>12}"
    )
    for row in results:
        print(
            f"{row['items']:>12,} {row['build_seconds']:>8.2f} {row['save_seconds']:>7.2f} {row['open_seconds']:>7.4f} "
            f"{row['bytes_per_item']:>11.2f} {row['peak_bytes'] / 1e9:>8.2f} {row['input_bytes'] / 1e9:>12.2f}"
        )
    if args.json:
        write_json(args.json, {**provenance(vars(args), "json", "one"), "catalogues": results})


if __name__ == "__main__":
    run_script(main)
