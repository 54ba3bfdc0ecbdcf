"""Time of a search on the device: queries/s, the latency of one query, precisions, and dual towers beside (Figure 4).

Models and queries are those of ``examples/efficiency/benchmark.py``; a search goes from symbols on the device to item rows on
the device. A dual tower is a text encoder in its real shape, then an exact search: the product with all items' vectors, and
the ten largest.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import text_encoders
import torch
from agreement import SIZES, generator
from catalogue import random_cart, random_catalogue, random_queries, task_of
from parts import SEED, Record, arguments, run, wait
from provenance import memory_bytes
from text_encoders import text_encoder
from timing import Contender, interleaved
from torch import Tensor, nn

from cart_fairseq.base.settings import SCORINGS
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.network.precision import convert

PRECISIONS = {"cuda": ("float32", "tf32", "bf16", "fp16"), "cpu": ("float32", "bf16")}
TOWERS = ("clip", "clap")
TOWER_PRECISIONS = {"cuda": ("float32", "fp16"), "cpu": ("float32",)}
NEIGHBOURS = 10
USABLE_MEMORY = 0.6
"""Share of the device's memory that the items' vectors may take."""
Work = Callable[[], Any]


def timed(device: str, work: Work) -> Callable[[], dict[str, Any]]:
    """The work, until the device has done it."""

    def once() -> dict[str, Any]:
        with torch.inference_mode():
            work()
        wait(device)
        return {}

    return once


def launches(device: str, work: Work) -> dict[str, float]:
    """How many kernels one run starts, and for what share of its time one computes.

    A small share means that starting kernels takes the time, which a CUDA graph would save. Empty without a GPU, or where the
    profiler may not see the kernels.
    """
    if device != "cuda":
        return {}
    kinds = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    try:
        with torch.profiler.profile(activities=kinds) as profile:
            timed(device, work)()
    except RuntimeError as error:
        print(f"no profile: {error}")
        return {}
    kernels = [each for each in profile.events() or () if each.device_type == torch.autograd.DeviceType.CUDA]
    if not kernels:
        return {}
    busy = sum(each.time_range.elapsed_us() for each in kernels)
    span = max(each.time_range.end for each in kernels) - min(each.time_range.start for each in kernels)
    return {"kernels": len(kernels), "gpu_busy": busy / span}


class ExactSearch:
    """Random unit vectors (N, D) on the device: float16 on a GPU, float32 on a processor."""

    def __init__(self, items: int, width: int, device: str):
        kind = torch.float16 if device == "cuda" else torch.float32
        torch.manual_seed(SEED)
        self.vectors = torch.empty(items, width, dtype=kind, device=device)
        for start in range(0, items, 100_000):
            block = torch.randn(min(100_000, items - start), width, device=device)
            self.vectors[start : start + len(block)] = nn.functional.normalize(block, dim=1).to(kind)

    @staticmethod
    def fits(items: int, width: int, device: str) -> bool:
        """Whether the vectors leave room for the rest."""
        memory = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else memory_bytes()
        return items * width * (2 if device == "cuda" else 4) < USABLE_MEMORY * memory

    def __call__(self, queries: Tensor) -> Tensor:
        """(Q, D) -> (Q, 10) int64 rows of the items with the largest inner products."""
        return (queries.to(self.vectors.dtype) @ self.vectors.T).topk(NEIGHBOURS, dim=1).indices


class Bench:
    """What all catalogues share.

    Args:
        device: ``cuda`` or ``cpu``.
        beam: width of the searches.
        repeats: timed rounds.
    """

    def __init__(self, device: str, beam: int, repeats: int):
        self.device, self.beam, self.repeats = device, beam, repeats
        self.task = task_of(SIZES)
        self.models = {}
        for precision in PRECISIONS[device]:
            model = random_cart(self.task, SEED).to(device)
            self.models[precision] = convert(model, "float32" if precision == "tf32" else precision)

    def measure(self, items: int, batches: list[int]) -> Iterator[list[dict[str, Any]]]:
        """All contenders on one catalogue, in turns; a list of rows for each number of queries."""
        catalogue = random_catalogue(items, SIZES, SEED)
        trie = IdentifierTrie.build(catalogue.values, catalogue.sizes, catalogue.offsets)
        widths = {text_encoders.width_of(name) for name in TOWERS}
        indexes = {w: ExactSearch(items, w, self.device) for w in widths if ExactSearch.fits(items, w, self.device)}
        for queries in batches:
            works = {**self.searches(queries, trie), **self.towers(queries, indexes)}
            contenders = [Contender(name, timed(self.device, work)) for name, work in works.items()]
            rows = interleaved(contenders, self.repeats, f"{items:,} items, {queries} queries")
            for row in rows:
                row |= {"items": items, "queries": queries, "queries_per_second": queries / row["median"]}
                row |= launches(self.device, works[row["contender"]])
            yield rows

    def searches(self, queries: int, trie: IdentifierTrie) -> dict[str, Work]:
        """This project's search in each scoring and precision."""
        net_input = {name: each.to(self.device) for name, each in random_queries(queries, 12, SEED).items()}
        end, works = self.task.target_dictionary.eos(), {}
        for precision, model in self.models.items():
            for scoring in SCORINGS:
                search = generator(model, end, self.beam, scoring).search
                work = functools.partial(search, net_input, trie)
                works[f"cart, {scoring}, {precision}"] = in_products(precision, work)
        return works

    def towers(self, queries: int, indexes: dict[int, ExactSearch]) -> dict[str, Work]:
        """Text encoders, each with the exact search of its width, if that is there."""
        net_input, works = random_queries(queries, 12, SEED), {}
        for name in TOWERS:
            find = indexes.get(text_encoders.width_of(name))
            for precision in TOWER_PRECISIONS[self.device] if find else ():
                kind = torch.float16 if precision == "fp16" else torch.float32
                encode = text_encoder(name, net_input, SEED, self.device, kind)
                works[f"{name} + exact search, {precision}"] = in_products(precision, composed(encode, find))
        return works


def composed(encode: Callable[[], Tensor], find: Any) -> Work:
    """Both, one after the other."""
    return lambda: find(encode())


def in_products(precision: str, work: Work) -> Work:
    """The work with TensorFloat32 products if the precision is ``tf32``, else without."""

    def once() -> Any:
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        return work()

    return once


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write after each catalogue and number of queries."""
    args = arguments(__doc__, argv)
    catalogues = [1_000_000, 10_000, 100_000, 10_000_000]  # the one that is asked for most comes first
    batches, repeats = [100, 1], 20
    if args.small:
        catalogues, batches, repeats = [1_000, 2_000], [4, 1], 2
    settings = {"catalogues": catalogues, "queries": batches, "beam": 10, "repeats": repeats}
    record, bench = Record(args, "search", settings), None
    for items in catalogues:
        missing = [queries for queries in batches if not record.has(items=items, queries=queries)]
        if not missing:
            continue
        bench = bench or Bench(args.device, 10, repeats)
        for rows in bench.measure(items, missing):
            record.add(*rows)
            for row in rows:
                print(
                    f"{items:>10,} items {row['queries']:>4} queries {row['contender']:<32}{1e3 * row['median']:9.2f} ms"
                )
    record.write(complete=True)


if __name__ == "__main__":
    run(main)
