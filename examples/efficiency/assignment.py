"""How fast identifiers are assigned: the codec against the bare matrix products it consists of, and unique tokens.

    PYTHONPATH=. python examples/efficiency/assignment.py --rows 1000000 --dimension 1024 --json assignment.json

Writes a synthetic memory-mapped float16 file, then in a process of its own walks through it by turns with the codec
(k-means, RQ-VAE; both given) and with the same products of matrices that already lie in memory as float32, and prints
the ratio of the times and the peak of that process's anonymous memory (RssAnon) over what it had after its imports.
Unique tokens are compared with a plain dictionary counter.
"""

import argparse
import itertools
import json
import multiprocessing
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cart_fairseq.catalogue.identifiers import unique_tokens
from cart_fairseq.files import run_script, write_json
from cart_fairseq.rqvae.network import RQVAE
from preprocess.data.embeddings import open_embeddings
from preprocess.identifiers.clustering import CHUNK_ROWS
from preprocess.identifiers.encode import encode_catalogue, local_engine
from preprocess.identifiers.schemes.coarse_fine import ResidualCodec

ROUNDS = 20
"""Turns that the codec and the bare products take."""


def write_embeddings(path: Path, rows: int, dimension: int) -> None:
    """(rows, dimension) standard normal float16."""
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, dimension))
    draw = np.random.default_rng(1)
    for start in range(0, rows, 16_384):
        block = out[start : start + 16_384]
        block[:] = draw.standard_normal(block.shape, dtype=np.float32)


def anonymous_memory() -> int:
    """RssAnon of this process in bytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


class PeakMemory(threading.Thread):
    """Samples `anonymous_memory` every 5 ms until `stop` and keeps its peak."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.start_bytes = self.peak_bytes = anonymous_memory()

    def run(self) -> None:
        """Sample until stopped."""
        while not self.stopped.wait(0.005):
            self.peak_bytes = max(self.peak_bytes, anonymous_memory())


def bare_products(codec: ResidualCodec, rows: int) -> None:
    """The codec's products of (CHUNK_ROWS, width) by weights, as often as `rows` rows need them, and nothing else."""
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
    """Send seconds of codec and products, and the memory, as a dict; runs in a fresh process."""
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
    """Seconds for `count` codes of three values out of 128, many of them shared, and whether a plain counter agrees."""
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
    parser = argparse.ArgumentParser(description="Speed and memory of assigning identifiers.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="embeddings (1,000,000)")
    parser.add_argument("--dimension", type=int, default=1024, help="of an embedding (1024)")
    parser.add_argument("--clusters", type=int, default=128, help="k-means centres (128)")
    parser.add_argument("--codes", type=int, default=10_000_000, help="codes that get unique tokens (10,000,000)")
    parser.add_argument("--folder", type=Path, help="where the embeddings are written (a temporary folder)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
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
    figures |= {"rows": args.rows, "dimension": args.dimension, "threads": torch.get_num_threads()}
    figures["ratio"] = seconds["codec"] / seconds["products"]
    print(f"assigning {args.rows} x {args.dimension}   {seconds['codec']:.2f} s, {figures['threads']} threads")
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
