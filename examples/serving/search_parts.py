"""Time the parts of a search with a trained checkpoint on a processor: the encoder, the decoder's steps, and the rest.

    python examples/serving/search_parts.py checkpoint_best.pt --data data-bin --batch 1 --json parts.json

The rest is tokenising, the look-ahead, the prefix tree, the beam and the hits.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import torch
from provenance import provenance

from cart_fairseq.base.checks import check_count
from cart_fairseq.base.files import refuse_unwritable, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.progress import track
from cart_fairseq.measuring.results import subset_queries
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.decoding import Decoding

DEPTH, WARM_UP = 10, 5


class Clock:
    """Seconds that functions took, by the name of their part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts for a part."""

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began

        return call


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="search_parts.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("checkpoint", help="checkpoint_best.pt, or an ensemble a.pt:b.pt")
    parser.add_argument("--data", required=True, metavar="DIR", help="the data-bin")
    parser.add_argument("--queries", type=int, default=200, help="number of valid queries (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="queries in a batch (default: %(default)s)")
    parser.add_argument("--beam", type=int, default=30, help="beam width (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args(argv)


def shares(retriever: CartRetriever, texts: Sequence[str], batch: int) -> dict[str, Any]:
    """Milliseconds of a query, and the share of each part."""
    clock = Clock()
    search = clock.timed("whole", lambda start: retriever.search([*texts[start : start + batch]], DEPTH))
    for start in range(0, min(len(texts), WARM_UP * batch), batch):
        search(start)
    step = Decoding.step
    try:
        Decoding.step = clock.timed("decoder", step)  # type: ignore[method-assign]
        for model in retriever.models:
            model.encoder.forward = clock.timed("encoder", model.encoder.forward)  # type: ignore[method-assign]
        clock.seconds.clear()
        for start in track(range(0, len(texts), batch), "searching", "batches"):
            search(start)
    finally:
        Decoding.step = step  # type: ignore[method-assign]
        for model in retriever.models:
            model.encoder.__dict__.pop("forward", None)
    whole = clock.seconds.pop("whole")
    found = {part: seconds / whole for part, seconds in clock.seconds.items()}
    return {"milliseconds": 1000 * whole / len(texts), **found, "rest": 1 - sum(found.values())}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    args = parse(argv)
    for name in ("queries", "batch"):
        check_count(f"--{name}", getattr(args, name))
    refuse_unwritable(args.json)
    if args.threads:
        torch.set_num_threads(args.threads)
    retriever = CartRetriever.from_pretrained(args.checkpoint, args.data, args.beam, device="cpu")
    texts = [query.text for query in subset_queries(retriever.data, "valid")[: args.queries]]
    result = {"items": len(retriever.data.bundle.kept), **shares(retriever, texts, args.batch)}
    print(", ".join(f"{name} {value:.3g}" for name, value in result.items()))
    if args.json:
        write_json(args.json, {**provenance(vars(args), "json", "checkpoint", "data"), **result})


if __name__ == "__main__":
    run_script(main)
