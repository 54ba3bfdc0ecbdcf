"""Measure the speed of identifier assignment: the codec against its matrix products alone, and unique tokens.

    PYTHONPATH=. python examples/efficiency/assignment.py --rows 1000000 --dimension 1024 --json assignment.json

The script writes a synthetic memory-mapped float16 file. A new process encodes it with a codec of random weights, in
alternation with the same matrix products on float32 matrices in memory. The script prints the ratio of the times, and
by how much the anonymous memory (RssAnon) of that process grew after its imports. Unique tokens are compared with a
dictionary of counters.
"""

import argparse
import itertools
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
import torch
from provenance import provenance

from cart_fairseq.base.arrays import new_array
from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.catalogue.positions import unique_tokens
from cart_fairseq.rqvae.network import RQVAE
from preprocess.data.embeddings import open_embeddings
from preprocess.identifiers.clustering import CHUNK_ROWS
from preprocess.identifiers.encode import encode_catalogue, local_engine
from preprocess.identifiers.schemes.coarse_fine import ResidualCodec

ROUNDS = 20
"""Number of times that codec and bare products alternate."""


def write_embeddings(path: Path, rows: int, dimension: int) -> None:
    """Write (rows, dimension) standard normal float16."""
    out = new_array(path, np.float16, (rows, dimension))
    draw = np.random.default_rng(1)
    for start in range(0, rows, 16_384):
        block = out[start : start + 16_384]
        block[:] = draw.standard_normal(block.shape, dtype=np.float32)


def anonymous_memory() -> int:
    """Return RssAnon of this process in bytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


class PeakMemory(threading.Thread):
    """Samples `anonymous_memory` every 5 ms until `stopped` is set, and keeps the peak."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.start_bytes = self.peak_bytes = anonymous_memory()

    def run(self) -> None:
        """Sample until stopped."""
        while not self.stopped.wait(0.005):
            self.peak_bytes = max(self.peak_bytes, anonymous_memory())


def bare_products(codec: ResidualCodec, rows: int) -> None:
    """Compute the codec's matrix products for `rows` rows, in chunks of CHUNK_ROWS, and nothing else."""
    weights = [torch.from_numpy(codec.centres).T]
    weights += [layer.weight.T for layer in codec.rqvae.encoder if isinstance(layer, torch.nn.Linear)]
    weights += [codebook.T for codebook in codec.rqvae.codebooks]
    inputs = [torch.ones(CHUNK_ROWS, weight.shape[0]) for weight in weights]
    outputs = [torch.empty(CHUNK_ROWS, weight.shape[1]) for weight in weights]
    with torch.inference_mode():
        for start in range(0, rows, CHUNK_ROWS):
            count = min(CHUNK_ROWS, rows - start)
            for operand, weight, output in zip(inputs, weights, outputs, strict=True):
                torch.mm(operand[:count], weight, out=output[:count])


def measure(path: Path, clusters: int, results: Any) -> None:
    """Put the seconds of codec and products, and the memory, into `results`. It runs in a new process."""
    peak = PeakMemory()
    peak.start()
    embeddings = open_embeddings(path, check=False)
    rows, dimension = embeddings.shape
    torch.manual_seed(1)
    centres = np.random.default_rng(2).standard_normal((clusters, dimension), dtype=np.float32)
    codec = ResidualCodec(centres, clusters, RQVAE(dimension).requires_grad_(False).eval(), 1.0)
    parts = np.linspace(0, rows, ROUNDS + 1).astype(int)
    codec.encode(embeddings[: parts[1]])
    bare_products(codec, CHUNK_ROWS)
    seconds = {"codec": 0.0, "products": 0.0}
    for start, stop in itertools.pairwise(parts.tolist()):
        began = time.perf_counter()
        codec.encode(embeddings[start:stop])
        between = time.perf_counter()
        bare_products(codec, stop - start)
        seconds["codec"] += between - began
        seconds["products"] += time.perf_counter() - between
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        encode_catalogue(local_engine(codec, embeddings, 16_384), embeddings.shape, 3, 16_384, Path(work))
    seconds["with_reconstruction_error"] = time.perf_counter() - began
    peak.stopped.set()
    peak.join()
    results.put({"seconds": seconds, "memory_bytes": peak.peak_bytes - peak.start_bytes})


def measure_unique(count: int) -> dict[str, Any]:
    """Measure unique tokens of `count` codes of three values, many of them equal, and compare with a counter."""
    codes = np.minimum(np.random.default_rng(3).geometric(0.05, size=(count, 3)) - 1, 127).astype(np.int32)
    began = time.perf_counter()
    tokens = unique_tokens(codes)
    seconds = time.perf_counter() - began
    counter: Counter[tuple[int, ...]] = Counter()
    expected = np.empty(count, dtype=np.int64)
    for row, code in enumerate(map(tuple, codes.tolist())):
        expected[row] = counter[code]
        counter[code] += 1
    places = 128 ** np.arange(tokens.shape[1] - 1, -1, -1)
    return {"seconds": seconds, "equal_to_counter": bool((tokens @ places == expected).all())}


def main() -> None:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Measure speed and memory of identifier assignment.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="embeddings (1,000,000)")
    parser.add_argument("--dimension", type=int, default=1024, help="width of an embedding (1024)")
    parser.add_argument("--clusters", type=int, default=128, help="k-means centres (128)")
    parser.add_argument("--codes", type=int, default=10_000_000, help="codes that get unique tokens (10,000,000)")
    parser.add_argument("--folder", type=Path, help="folder for the embeddings (a temporary folder)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "embeddings.npy"
        write_embeddings(path, args.rows, args.dimension)
        context = multiprocessing.get_context("spawn")
        results: Any = context.Queue()
        process = context.Process(target=measure, args=(path, args.clusters, results))
        process.start()
        figures = results.get()
        process.join()
    seconds = figures["seconds"]
    figures |= provenance(vars(args), "json", "folder")
    figures["ratio"] = seconds["codec"] / seconds["products"]
    print(f"assigning {args.rows} x {args.dimension}   {seconds['codec']:.2f} s, {torch.get_num_threads()} threads")
    print(f"bare matrix products       {seconds['products']:.2f} s")
    print(f"ratio                      {figures['ratio']:.2f}")
    print(f"peak RssAnon               {figures['memory_bytes'] / 2**20:.0f} MiB over the interpreter's")
    print(f"with reconstruction error  {seconds['with_reconstruction_error']:.2f} s")
    figures["unique"] = measure_unique(args.codes)
    print(f"unique tokens, {args.codes}   {figures['unique']['seconds']:.2f} s")
    print(f"equal to a plain counter   {figures['unique']['equal_to_counter']}")
    if args.json:
        write_json(args.json, figures)
    else:
        print(json.dumps(figures))


if __name__ == "__main__":
    run_script(main)
