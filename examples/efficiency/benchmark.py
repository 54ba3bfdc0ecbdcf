"""Time constrained retrieval with this project and with alternatives, for several catalogue sizes.

    python examples/efficiency/benchmark.py --items 1e4 1e5 1e6 1e7 --queries 100 --beam 10 --json out.json

README.md beside this file describes the contenders. All queries are one batch. For each catalogue size the contenders
alternate, after one warm-up run each. Tables show medians.
"""

import argparse
import fnmatch
import gc
import importlib.util
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import torch
from catalogue import VOCABULARY, Catalogue, random_cart, random_catalogue, random_queries, task_of
from cross_encoder import SINGLE_TOWERS, CrossEncoder, extrapolated
from dict_trie import DictTrie, bytes_needed
from generative import EveryChild, HuggingFace, StockFairseq, compare, ours
from provenance import command, commit, machine, memory_bytes
from summary import ratios, table
from text_encoders import ENCODERS, text_encoder, width_of
from timing import Contender, interleaved

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.settings import SCORINGS
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.models.flags import DEFAULTS
from cart_fairseq.network.precision import convert
from cart_fairseq.search.generator import IdentifierGenerator

PRECISIONS = ("float32", "bf16", "int8")
INDEXES = ("flat", "ivf", "hnsw")
OURS = {f"{s}{'' if p == 'float32' else '-' + p}": (s, p) for p in PRECISIONS for s in SCORINGS}
WITH_DICT = ("fairseq", "huggingface")
DUAL_TOWERS = {f"{encoder}+{index}": (encoder, index) for index in INDEXES for encoder in ENCODERS}
NAMES = (*OURS, "unmasked", *WITH_DICT, *DUAL_TOWERS, *SINGLE_TOWERS)
USABLE_MEMORY = 0.8  # share of the machine's memory; with more it could swap


class Benchmark:
    """What all catalogue sizes share: models, queries, text encoders."""

    def __init__(self, args: argparse.Namespace, wanted: Sequence[str]):
        self.args = args
        self.wanted = wanted
        self.task = task_of(args.sizes)
        self.end = self.task.target_dictionary.eos()
        self.net_input = random_queries(args.queries, args.query_tokens, args.seed)
        self.model = random_cart(self.task, args.seed)
        precisions = {OURS[name][1] for name in wanted if name in OURS} - {"float32"}
        self.models = {name: convert(random_cart(self.task, args.seed), name) for name in sorted(precisions)}
        self.models["float32"] = self.model
        self.encoders = {
            name: text_encoder(name, self.net_input, args.seed)
            for name in ENCODERS
            if any(each.startswith(f"{name}+") for each in wanted)
        }
        self.single_towers = [name for name in wanted if name in SINGLE_TOWERS]
        self.cross_encoders = {
            kind: CrossEncoder(kind, self.net_input, args.single_tower_pairs, args.seed)
            for kind in sorted({SINGLE_TOWERS[name][0] for name in self.single_towers})
        }
        symbols = len(self.task.target_dictionary)
        self.hugging_face = (
            HuggingFace(symbols, len(args.sizes), args.beam, args.seed) if "huggingface" in wanted else None
        )

    def generator(self, scoring: str, precision: str) -> IdentifierGenerator:
        """Return this project's search with one of the models."""

        def no_name(name: str) -> Any:
            raise ValueError(f"the benchmark has tries only, no candidate sets by name ({name})")

        return IdentifierGenerator([self.models[precision]], no_name, self.end, self.args.beam, scoring=scoring)

    def measure(self, items: int, limit: float) -> dict[str, Any]:
        """Measure all contenders at one catalogue size: ``results``, and facts about the catalogue.

        Args:
            items: the size.
            limit: seconds after which no further round begins, what is built before included.
        """
        ends = time.monotonic() + limit
        catalogue = random_catalogue(items, self.args.sizes, self.args.seed)
        start = time.perf_counter()
        trie = IdentifierTrie.build(catalogue.values, catalogue.sizes, catalogue.offsets)
        facts: dict[str, Any] = {
            "items": items,
            "trie_build_seconds": time.perf_counter() - start,
            "trie_bytes": trie.nbytes,
        }
        contenders, notes = self._generative(catalogue, trie, facts)
        towers, more = self._dual_towers(items, facts)
        notes.update(more)
        for name in self.single_towers:
            contenders.append(self.cross_encoders[SINGLE_TOWERS[name][0]].contender(name, items))
        gc.collect()
        gc.freeze()  # otherwise each collection would visit the millions of lists of the dictionary trie
        try:
            measured = interleaved(
                [*contenders, *towers], self.args.repeats, f"{items:,} items", ends - time.monotonic()
            )
        finally:
            gc.unfreeze()
        measured = [extrapolated(row) for row in measured]
        measured += [{"contender": name, "note": note} for name, note in notes.items()]
        return {**facts, "results": sorted(measured, key=lambda row: NAMES.index(row["contender"]))}

    def _generative(
        self, catalogue: Catalogue, trie: IdentifierTrie, facts: dict[str, Any]
    ) -> tuple[list[Contender], dict[str, str]]:
        net_input, length = self.net_input, len(catalogue.sizes)
        contenders = [ours(name, self.generator(*OURS[name]), net_input, trie) for name in self.wanted if name in OURS]
        if "unmasked" in self.wanted:
            every = EveryChild(catalogue.sizes, catalogue.offsets)
            contenders.append(ours("unmasked", self.generator("masked", "float32"), net_input, every))
        wanted = [name for name in WITH_DICT if name in self.wanted]
        if not wanted and not self.args.check:
            return contenders, {}
        note = too_large(len(catalogue), self.args.dict_limit, "--dict-limit", bytes_needed(catalogue), "a dict trie")
        if note:
            if self.args.check:
                facts["check"] = note
            return contenders, dict.fromkeys(wanted, note)
        start = time.perf_counter()
        dict_trie = DictTrie(catalogue, self.end)
        facts["dict_trie_build_seconds"] = time.perf_counter() - start
        stock = (self.model, self.task.target_dictionary, dict_trie, length, self.args.beam)
        if self.args.check:
            expected = StockFairseq(*stock, free_end=True).search(net_input)
            facts["check"] = compare(self.generator("masked", "float32").search(net_input, trie), expected)
        if "fairseq" in wanted:
            contenders.append(StockFairseq(*stock).contender("fairseq", net_input))
        if self.hugging_face is not None:
            contenders.append(self.hugging_face.contender("huggingface", net_input, dict_trie))
        return contenders, {}

    def _dual_towers(self, items: int, facts: dict[str, Any]) -> tuple[list[Contender], dict[str, str]]:
        wanted = [name for name in self.wanted if name in DUAL_TOWERS]
        if not wanted:
            return [], {}
        from vector_search import VectorSearch, bytes_of

        notes: dict[str, str] = {}
        contenders: list[Contender] = []
        needed = 0
        facts["vector_indexes"] = {}
        for width in sorted({width_of(DUAL_TOWERS[name][0]) for name in wanted}):  # vectors of one width are shared
            indexes = []
            for index in INDEXES:
                named = [name for name in wanted if DUAL_TOWERS[name][1] == index]
                named = [name for name in named if width_of(DUAL_TOWERS[name][0]) == width]
                limit, option = self.args.faiss_limit, "--faiss-limit"
                if index == "hnsw" and self.args.hnsw_limit < limit:
                    limit, option = self.args.hnsw_limit, "--hnsw-limit"
                size = items * bytes_of(index, width)
                if named:
                    note = too_large(items, limit, option, needed + size, f"faiss {index}")
                    notes.update(dict.fromkeys(named, note) if note else {})
                    indexes += [] if note else [index]
                if named or index == "flat":  # the others need its vectors to be built and to measure recall
                    needed += size
            if indexes:
                vectors = VectorSearch(items, indexes, self.args.queries, self.args.seed, width)
                facts["vector_indexes"][str(width)] = vectors.facts
                chosen = [(name, *DUAL_TOWERS[name]) for name in wanted if name not in notes]
                contenders += [
                    vectors.contender(name, self.encoders[encoder], index)
                    for name, encoder, index in chosen
                    if width_of(encoder) == width
                ]
        return contenders, notes


def too_large(items: int, limit: int, option: str, needed: int, what: str) -> str:
    """Return why something is too large to build, with the figures; empty if it is not."""
    size = f"{what} of {items:,} items needs {needed / 1e9:.1f} GB"
    if items > limit:
        return f"not run: {size}, {option} is {limit:,}"
    if needed > USABLE_MEMORY * memory_bytes():
        return f"not run: {size}, but only {USABLE_MEMORY:.0%} of {memory_bytes() / 1e9:.1f} GB may be used"
    return ""


def select(patterns: Sequence[str]) -> list[str]:
    """Return the contenders that match any shell pattern, in the order of the table.

    Raises:
        ValueError: a pattern matches none.
    """
    for pattern in patterns:
        if not fnmatch.filter(NAMES, pattern):
            raise ValueError(f"--contenders {pattern} matches none of {', '.join(NAMES)}")
    return [name for name in NAMES if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def number(text: str) -> int:
    """Parse a whole number, also in the form 1e6."""
    return int(float(text))


def require(wanted: Sequence[str]) -> None:
    """Check at the start that all libraries are installed.

    Raises:
        ValueError: a contender needs a library that is not installed.
    """
    needs = {"transformers": {"huggingface", *DUAL_TOWERS, *SINGLE_TOWERS}, "faiss": set(DUAL_TOWERS)}
    for library, names in needs.items():
        missing = [name for name in wanted if name in names]
        if missing and importlib.util.find_spec(library) is None:
            raise ValueError(
                f"{', '.join(missing)} need {library}: pip install -e '.[benchmark]', or leave them out with --contenders"
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print tables and ratios."""
    parser = argparse.ArgumentParser(description="Time constrained retrieval and alternatives.")
    parser.add_argument(
        "--items", type=number, nargs="+", default=[10_000, 100_000], help="catalogue sizes, such as 1e6 (1e4 1e5)"
    )
    parser.add_argument("--queries", type=number, default=100, help="queries in the batch (default: 100)")
    parser.add_argument("--query-tokens", type=int, default=12, help="mean length of a query (default: 12)")
    parser.add_argument("--beam", type=int, default=10, help="beam width of the generative contenders (default: 10)")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[128] * 4,
        help="number of values of each of the J identifier positions (default: 128 128 128 128)",
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each contender (default: 5)")
    minutes = (
        "minutes after which no further timed runs begin; each contender has one for each size (default: no limit)"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help=minutes)
    parser.add_argument("--threads", type=int, help="processor threads (default: torch's choice)")
    parser.add_argument(
        "--contenders", nargs="+", default=["*"], metavar="NAME", help=f"names or patterns of: {', '.join(NAMES)}"
    )
    parser.add_argument("--dict-limit", type=number, default=10**7, help="largest dict trie to build (default: 1e7)")
    parser.add_argument("--faiss-limit", type=number, default=10**6, help="largest faiss indexes (default: 1e6)")
    parser.add_argument("--hnsw-limit", type=number, default=10**5, help="largest HNSW index (default: 1e5)")
    pairs = "pairs to time single towers on; the time of all pairs is extrapolated (default: 16)"
    parser.add_argument("--single-tower-pairs", type=number, default=16, metavar="N", help=pairs)
    parser.add_argument(
        "--check", action="store_true", help="stop if masked search and stock fairseq differ in items or scores"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all figures here, after each catalogue size")
    args = parser.parse_args(argv)
    wanted = select(args.contenders)
    require(wanted)
    if args.threads:
        torch.set_num_threads(args.threads)
    benchmark = Benchmark(args, wanted)
    result: dict[str, Any] = {
        "command": command(),
        "commit": commit(),
        "machine": machine(),
        "settings": {
            key: value for key, value in vars(args).items() if key not in ("json", "contenders") and value != math.inf
        },
        "model": {**DEFAULTS, "query_vocabulary": VOCABULARY, "symbols": len(benchmark.task.target_dictionary)},
        "catalogues": [],
    }
    print(" | ".join(f"{key}: {value}" for key, value in result["machine"].items() if key != "versions"))
    ends = time.monotonic() + 60 * args.minutes
    for place, items in enumerate(args.items):
        measured = benchmark.measure(items, (ends - time.monotonic()) / (len(args.items) - place))
        result["catalogues"].append(measured)
        result["ratios"] = ratios(result["catalogues"])
        if args.json:
            write_json(args.json, result)
        print("\n" + table(measured, args.queries), flush=True)
        gc.collect()
    print("\n" + "\n".join(f"{row['what']}: {row['ratio']:.2f}" for row in result["ratios"]))


if __name__ == "__main__":
    run_script(main)
