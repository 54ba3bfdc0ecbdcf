"""Measure recall and cost of a search as distractors are added to the catalogue, beside a dual tower.

    scale.py RUN --work WORK --sizes 1000 8000 100000 1000000 --json FILE --plot FILE

RUN is OUT of a run with ``RECIPE=joined``. The queries are the first of a fixed random order of its valid queries. Up to
the size of the run's catalogue, the candidates are the items of the valid split and further real items. Beyond it,
synthetic neighbours of real items are added (``update_identifiers add``), which no training has seen. The dual tower is
that of the join (``join_captions --align``), searched exactly, by HNSW and by IVF-PQ (faiss), with priors of its own (the
model's share). Times include the encoding of the queries. All systems search each batch before the next, so that their
times are comparable. Sizes are of what a search holds or maps beside the text encoder and the model: the prefix tree,
statistics, vectors and priors, or the index. Times are also given relative to those of the text encoder alone.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import faiss
import numpy as np
import torch
from distractors import claim, enlarged, valid_queries
from indexes import MIB, Index, indexes_of
from joined_towers import JoinedTowers
from plan import checkpoint_of
from provenance import provenance

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.progress import track
from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts, ranks_of
from cart_fairseq.queries.item_priors import mean_share
from cart_fairseq.retriever import CartRetriever
from preprocess.data import joined_folder

DEPTH, BATCH = 10, 100
Search = Callable[[list[str]], np.ndarray]


class System(NamedTuple):
    """One way to search: its name, a function from texts to the rows (B, 10) of the best items, and its size in MiB."""

    name: str
    search: Search
    mebibytes: float


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="scale.py", description=(__doc__ or "").split("\n\n")[0])
    result.add_argument("run", type=Path, help="OUT of a run with RECIPE=joined")
    result.add_argument("--work", type=Path, required=True, help="folder of the enlarged catalogues")
    sizes = "numbers of candidates (1000 8000 100000 1000000)"
    result.add_argument("--sizes", type=int, nargs="+", default=[1000, 8000, 100_000, 1_000_000], help=sizes)
    result.add_argument("--beams", type=int, nargs="+", default=[10, 30], help="beam widths (10 30)")
    result.add_argument("--queries", type=int, default=500, help="number of queries (500)")
    result.add_argument("--seed", type=int, default=1, help="of the distractors (1)")
    result.add_argument("--json", type=Path, help="also write the figures to this file")
    result.add_argument("--plot", type=Path, help="also draw them")
    return result


def candidates_of(data: DataBin, size: int) -> np.ndarray:
    """Rows of `size` real items: those of the valid split first, then others in row order, ascending."""
    split = data.candidates("valid")
    assert split is not None
    others = np.setdiff1d(data.bundle.kept, split)
    if size < len(split):
        raise ValueError(f"--sizes has {size}, but the valid split alone has {len(split)} items; give no smaller size")
    return np.sort(np.concatenate([split, others[: size - len(split)]]))


def cart(retriever: CartRetriever, chosen: CandidateSet | None, beam: int) -> System:
    """The constrained search as users call it."""

    def search(texts: list[str]) -> np.ndarray:
        retriever.beam = beam
        hits = retriever.search(texts, DEPTH, chosen)
        return np.array([[hit.row for hit in found] + [-1] * (DEPTH - len(found)) for found in hits])

    folder = retriever.data.directory
    files = [folder / "trie.safetensors", *(folder / "search").rglob("*.npy")]
    return System(f"CART, beam {beam}", search, sum(file.stat().st_size for file in files) / MIB)


def towers(
    joined: JoinedTowers, vectors: np.ndarray, rows: np.ndarray, priors: np.ndarray, share: float, work: Path
) -> list[System]:
    """The dual tower over item vectors (n, D) of these rows, in each index."""

    def system(index: Index) -> System:
        def search(texts: list[str]) -> np.ndarray:
            found = index.search(joined.queries(texts) * joined.scale)
            return np.where(found < 0, -1, rows[found])

        return System(f"dual tower, {index.name}", search, index.mebibytes)

    return [system(index) for index in indexes_of(vectors, priors, share, work)]


def tower_priors(joined: JoinedTowers, data: DataBin, vectors: np.ndarray) -> np.ndarray:
    """Priors of the dual tower for item vectors (n, D) in row order, as those of a dense head: (n,) float32."""
    captions = data.queries("train", ("text", "role", "item_row"))
    texts, roles, owners = (captions[name].to_numpy() for name in ("text", "role", "item_row"))
    return joined.priors(texts, roles, owners.astype(np.int64), vectors)


def measure(
    systems: Sequence[System], texts: Sequence[str], wanted: torch.Tensor, encode: Callable[[list[str]], object]
) -> list[dict[str, Any]]:
    """Search with every system: metrics in percent, queries per second, and the time relative to that of `encode`."""
    encoding = 0.0
    found = [np.full((len(texts), DEPTH), -1) for _ in systems]
    seconds = [0.0] * len(systems)
    for system in systems:  # what is computed once is computed here
        system.search([*texts[:BATCH]])
    for at in track(range(0, len(texts), BATCH), "searching", "batches"):
        began = time.perf_counter()
        encode([*texts[at : at + BATCH]])
        encoding += time.perf_counter() - began
        for place, system in enumerate(systems):
            began = time.perf_counter()
            found[place][at : at + BATCH] = system.search([*texts[at : at + BATCH]])
            seconds[place] += time.perf_counter() - began
    return [
        {
            "system": system.name,
            **metrics_from_counts(metric_counts(ranks_of(torch.from_numpy(rows), wanted))),
            "queries_per_second": round(len(texts) / took, 1),
            "times_of_encoder": round(took / encoding, 2),
            "mebibytes": round(system.mebibytes, 1),
        }
        for system, rows, took in zip(systems, found, seconds, strict=True)
    ]


def table(results: Sequence[dict[str, Any]]) -> str:
    """The figures in Markdown: a line for each size and system."""
    lines = ["| candidates | system | R@1 | R@10 | queries/s | of the encoder | MiB |", "| --- " * 7 + "|"]
    for row in results:
        figures = f"{row['recall_at_1']:.1f} | {row['recall_at_10']:.1f} | {row['queries_per_second']:.1f}"
        figures += f" | {row['times_of_encoder']:.2f}"
        figures += f" | {row['mebibytes']:,.0f}"
        lines.append(f"| {row['candidates']:,} | {row['system']} | {figures} |")
    return "\n".join(lines)


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw recall and queries per second against the number of candidates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in dict.fromkeys(row["system"] for row in results):
        own = [row for row in results if row["system"] == name]
        sizes = [row["candidates"] for row in own]
        left.plot(sizes, [row["recall_at_10"] for row in own], marker="o", label=name)
        right.plot(sizes, [row["queries_per_second"] for row in own], marker="o", label=name)
    for axes, title in ((left, "R@10, percent"), (right, "queries per second")):
        axes.set(xscale="log", xlabel="candidates", title=title)
    right.set_yscale("log")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    faiss.omp_set_num_threads(torch.get_num_threads())
    base, joined, checkpoint = (
        args.run / "data-bin",
        JoinedTowers(args.run / "joined"),
        checkpoint_of(args.run / "checkpoints"),
    )
    claim(args.work, base, joined, args.seed)
    real = DataBin(base)
    texts, wanted = valid_queries(real, args.queries)
    vectors = np.load(joined.folder / joined_folder.ALIGNED, mmap_mode="r")
    base_priors = tower_priors(joined, real, vectors)
    results: list[dict[str, Any]] = []
    for size in sorted(args.sizes):
        data, more = base, None
        if size > len(real.trie):
            data, more = enlarged(base, joined, checkpoint, size, args.work, args.seed)
        retriever = CartRetriever.from_pretrained(checkpoint, data)
        rows = candidates_of(real, size) if more is None else np.arange(size)
        chosen = None if size >= len(real.trie) else retriever.data.candidate_set(rows)
        of_items = vectors[rows] if more is None else np.concatenate([vectors, np.load(more / joined_folder.ALIGNED)])
        priors = tower_priors(joined, real, of_items) if more is not None else base_priors[rows]
        share = mean_share(retriever.models)
        systems = [cart(retriever, chosen, beam) for beam in args.beams]
        systems += towers(joined, of_items, rows, priors, share, args.work)
        results += [{"candidates": size, **row} for row in measure(systems, texts, wanted, joined.features)]
        print(table(results[-len(systems) :]), flush=True)
        if args.json:
            settings = {"dense_weight": float(retriever.models[0].dense.weight)} if retriever.models[0].dense else {}
            write_json(
                args.json,
                {
                    **provenance(vars(args), "json", "work", "run", "plot"),
                    **settings,
                    "results": results,
                },
            )
    print(table(results))
    if args.plot:
        draw(results, args.plot)


if __name__ == "__main__":
    run_script(main)
