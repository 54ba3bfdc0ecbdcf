"""Measure searches of one checkpoint with and without look-ahead at several beam widths, and its dense head alone.

    lookahead.py CHECKPOINT --data DATA-BIN --queries 1000 --json FILE

The queries are the first of a fixed random order. The dense head alone scores every candidate. All systems search each
batch before the next, so that their times are comparable.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

from provenance import command, commit, machine

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.progress import track
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dictionary import PAD
from cart_fairseq.measuring.labels import METRIC_NAMES
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts, ranks_of
from cart_fairseq.queries.item_priors import prior_bias
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.batching import batches
from cart_fairseq.search.dense.item_vectors import kept_vectors, query_vectors
from cart_fairseq.search.setup import make_generator

DEPTH = 10
NAMES = ("look-ahead", "estimated", "reranked")
"""Look-ahead with exact masses, with estimated ones as in large catalogues, and no look-ahead."""
Search = Callable[[dict[str, Tensor]], tuple[Tensor, int]]


class System(NamedTuple):
    """One way to search: its name and beam, the candidate set, and the search: rows (B, K) and decoder rows."""

    name: str
    beam: int | None
    candidates: str
    search: Search


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="lookahead.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("checkpoint", help="checkpoint of a model with a dense head, or an ensemble a.pt:b.pt")
    parser.add_argument("--data", required=True, metavar="DIR", help="the data-bin")
    parser.add_argument("--subset", default="valid", help="whose queries are searched (valid)")
    parser.add_argument("--candidates", nargs="+", default=["valid", "all"], metavar="NAME", help="candidate sets")
    parser.add_argument("--beams", type=int, nargs="+", default=[10, 30, 100, 200], metavar="N", help="beam widths")
    parser.add_argument("--searches", nargs="+", choices=NAMES, default=list(NAMES), help="kinds of search (all)")
    parser.add_argument("--queries", type=int, metavar="N", help="number of queries (all)")
    parser.add_argument("--dense-weight", type=float, help="weight of the dense score (the model's own)")
    parser.add_argument(
        "--prior-share", type=float, help="share of priors, of the dense head alone too (the model's own)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order of the queries (0)")
    parser.add_argument("--batch", type=int, default=100, help="queries per batch (100)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the record."""
    args = parse(argv)
    retriever = CartRetriever.from_pretrained(
        args.checkpoint, args.data, dense_weight=args.dense_weight, prior_share=args.prior_share
    )
    heads = [model.dense for model in retriever.models if model.dense is not None]
    if len(heads) < len(retriever.models):
        raise ValueError(f"{args.checkpoint}: a model has no dense head; give one trained with --dense-dim")
    table = retriever.data.queries(args.subset, ("text", "item_row"))
    order = np.random.default_rng(args.seed).permutation(len(table))[: args.queries]
    texts, wanted = table["text"].to_pylist(), table["item_row"].to_numpy()
    systems = [
        each
        for candidates in args.candidates
        for each in [
            *searches(retriever, args.beams, args.searches, candidates),
            alone(retriever, candidates),
        ]
    ]
    results = measure(retriever, systems, [texts[i] for i in order], torch.from_numpy(wanted[order]), args.batch)
    weights = [float(head.weight) for head in heads]
    shares = [float(head.prior_share) for head in heads]
    settings = {
        "dense_weight": sum(weights) / len(weights) if args.dense_weight is None else args.dense_weight,
        "prior_share": sum(shares) / len(shares) if args.prior_share is None else args.prior_share,
        "level_discount": retriever.level_discount,
        "subset": args.subset,
        "queries": len(order),
        "batch": args.batch,
    }
    print(
        f"{len(order)} {args.subset} queries, weight {settings['dense_weight']:g}, "
        f"share of priors {settings['prior_share']:g}"
    )
    print(
        f"{'candidates':<10} {'search':<12} {'beam':>4} " + " ".join(f"{n:>12}" for n in METRIC_NAMES) + "  rows  q/s"
    )
    for row in results:
        figures = " ".join(f"{row[name]:>12.1f}" for name in METRIC_NAMES)
        print(
            f"{row['candidates']:<10} {row['search']:<12} {row['beam'] or '-':>4} {figures} "
            f"{row['decoder_rows']:>5g} {row['queries_per_second']:>5.1f}"
        )
    if args.json:
        facts = {
            "command": command(),
            "commit": commit(),
            "machine": machine(),
            "seed": args.seed,
            "settings": settings,
        }
        write_json(args.json, {**facts, "results": results})


def searches(retriever: CartRetriever, beams: Sequence[int], names: Sequence[str], candidates: str) -> list[System]:
    """The constrained searches of a model at each beam width; names are some of `NAMES`."""
    space = retriever.data.search_space(candidates)
    bias = prior_bias(retriever.models, retriever.data, retriever.prior_share, retriever.dense_weight)
    made = []
    for beam in beams:
        for name in names:
            generator = make_generator(
                retriever.models,
                retriever.data,
                beam,
                dense_weight=retriever.dense_weight,
                lookahead=name != "reranked",
                bias=bias,
            )
            if name == "estimated":
                generator.exact_items = 0

            def search(net_input: dict[str, Tensor], generator: Any = generator) -> tuple[Tensor, int]:
                rows = generator.search(net_input, *space).rows
                return rows, sum(generator.decoder_rows)

            made.append(System(name, beam, candidates, search))
    return made


def alone(retriever: CartRetriever, candidates: str) -> System:
    """The dense head without identifiers: the score of every candidate, with the same priors."""
    models, data = retriever.models, retriever.data
    items = data.dense_items
    assert items is not None
    rows = candidate_rows(data, candidates).to(retriever.device)
    owner = data.search_space(candidates).candidates or data.trie
    bias = prior_bias(models, data, retriever.prior_share, 1.0)

    def search(net_input: dict[str, Tensor]) -> tuple[Tensor, int]:
        with torch.no_grad():
            members = [(model, model.encoder(net_input["src_tokens"], net_input["src_lengths"])) for model in models]
            scores = query_vectors(members, 1.0).vectors @ kept_vectors(models, items, rows, owner).T
            if bias is not None:
                scores += bias[rows]
        return rows[scores.topk(min(DEPTH, len(rows)), dim=1).indices], 0

    return System("dense alone", None, candidates, search)


def candidate_rows(data: DataBin, name: str) -> Tensor:
    """The item rows of a candidate set, in the order of the trie's leaves."""
    trie, candidates = data.search_space(name)
    return (trie.rows if candidates is None else trie.rows[candidates.leaves]).long()


def measure(
    retriever: CartRetriever, systems: Sequence[System], texts: Sequence[str], wanted: Tensor, batch: int
) -> list[dict[str, Any]]:
    """Search with every system.

    Args:
        retriever: the model.
        systems: what is measured.
        texts: the queries.
        wanted: (Q,) int64, the row of each query's item.
        batch: queries per batch.
    """
    symbols = [retriever.codec.symbols(text) for text in texts]
    found = [torch.zeros(len(texts), DEPTH, dtype=torch.int64) - 1 for _ in systems]
    seconds, decoder_rows = [0.0] * len(systems), [0] * len(systems)
    first = next(batches(symbols[:batch], PAD, retriever.device, batch))[1]
    for system in systems:  # the vectors of all items are computed once, and memory is taken
        system.search(first)
    for numbers, net_input in track([*batches(symbols, PAD, retriever.device, batch)], "searching", "batches"):
        for place, system in enumerate(systems):
            began = time.perf_counter()
            rows, computed = system.search(net_input)
            rows = rows[:, :DEPTH].cpu()
            seconds[place] += time.perf_counter() - began
            decoder_rows[place] += computed
            found[place][numbers, : rows.size(1)] = rows
    return [
        {
            "candidates": system.candidates,
            "search": system.name,
            "beam": system.beam,
            **{
                name: round(value, 4)
                for name, value in metrics_from_counts(metric_counts(ranks_of(rows, wanted))).items()
            },
            "decoder_rows": round(computed / len(texts), 1),
            "queries_per_second": round(len(texts) / took, 1),
        }
        for system, rows, took, computed in zip(systems, found, seconds, decoder_rows, strict=True)
    ]


if __name__ == "__main__":
    run_script(main)
