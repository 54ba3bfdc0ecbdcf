"""Measure the memory that a process takes to search catalogues of several sizes with one checkpoint, without mapped files.

    PYTHONPATH=. python examples/scale/memory.py checkpoint_best.pt --data data-bin.1000 data-bin.1000000 --json memory.json

Each data-bin is opened and searched in a process of its own. The system counts the memory (Linux: RssAnon).
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "efficiency"))

from provenance import provenance

from cart_fairseq.base.checks import check_count
from cart_fairseq.base.files import refuse_unwritable, write_json
from cart_fairseq.base.processes import run_script

HITS = 10


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="memory.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("checkpoint", help="checkpoint_best.pt, or an ensemble a.pt:b.pt")
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR", help="data-bins")
    parser.add_argument("--queries", type=int, default=500, help="number of valid queries (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=100, help="queries in a batch (default: %(default)s)")
    parser.add_argument("--beam", type=int, default=10, help="beam width (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args(argv)


def measure(checkpoint: str, data: str, queries: int, batch: int, beam: int) -> dict[str, float]:
    """Open and search in this process.

    Returns:
        ``items``; and in MiB ``imported``, the memory after all imports, ``searched``, after the searches, and ``peak``, the
        most while the catalogue was opened and searched.
    """
    from assignment import PeakMemory, anonymous_memory

    from cart_fairseq.measuring.results import subset_queries
    from cart_fairseq.retriever import CartRetriever

    memory = PeakMemory()
    memory.start()
    retriever = CartRetriever.from_pretrained(checkpoint, data, beam, device="cpu", precision="float32")
    texts = [query.text for query in subset_queries(retriever.data, "valid")[:queries]]
    for start in range(0, len(texts), batch):
        retriever.search(texts[start : start + batch], HITS)
    memory.stopped.set()
    memory.join()
    searched = anonymous_memory()
    found = {"imported": memory.start_bytes, "searched": searched, "peak": max(memory.peak_bytes, searched)}
    return {"items": len(retriever.data.bundle.kept), **{name: size / 2**20 for name, size in found.items()}}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each data-bin in a process of its own, and print a line for it.

    Raises:
        ValueError: a number is below 1, or a process failed; the message has the end of what it printed.
    """
    args = parse(argv)
    for name in ("queries", "batch", "beam"):
        check_count(f"--{name}", getattr(args, name))
    refuse_unwritable(args.json)
    found = []
    for data in args.data:
        asked = [args.checkpoint, data, args.queries, args.batch, args.beam]
        done = subprocess.run(
            [sys.executable, __file__, "--measure", json.dumps(asked)], capture_output=True, text=True
        )
        if done.returncode:
            raise ValueError(f"{data}: could not be searched: {done.stderr[-2000:]}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(", ".join(f"{name} {value:,.0f}" for name, value in found[-1].items()), flush=True)
    if args.json:
        write_json(args.json, {**provenance(vars(args), "json", "checkpoint", "data"), "results": found})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(*json.loads(sys.argv[2]))))
    else:
        run_script(main)
