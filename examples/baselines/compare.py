r"""Compare the systems of the paper's Tables 1 to 3 on one data set, with the same queries, candidates and metrics.

    python examples/baselines/compare.py --data DATA --runs OUT --texts T.npy --output COMPARISON \
        [--dataset flickr30k] [--single-tower Salesforce/blip-itm-base-coco] \
        [--encoder clip:openai/clip-vit-base-patch32]

DATA contains embeddings.npy, items.jsonl and captions.jsonl. T.npy contains the embeddings of its captions
(`python -m preprocess.extract_embeddings --texts captions.jsonl`). OUT is a folder that examples/own_data/run.sh wrote,
or a folder of such folders, as rivals.sh writes. The command writes to COMPARISON: comparison.json, comparison.md, a
TREC run of each system that is measured here, and the trained heads. README.md beside this file describes the systems.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from collection import needed, open_collection
from dual_tower import INDEXES, MEASURED_DEPTH, DualTower, trained_heads
from layout import tables
from matching import Matcher, rerank
from numpy.typing import NDArray
from projection import ProjectionSettings
from provenance import provenance
from published import DATASETS
from systems import OWN, WHOLE, line, measured_run, rate, remembered, run_folders

from cart_fairseq.base.files import replacing, sha256, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.measuring.results import Ranking, measure
from cart_fairseq.measuring.trec import write_run
from preprocess.encoders.loading import load_encoder, resolve_device
from preprocess.media.images import load_image

TOWERS = ("zero-shot", "trained")
SEARCH_ALONE = "dual towers: projection and search only, without embedding the texts; give --encoder to include it"
MATCHING_ALONE = "single tower: reading and encoding the pictures and matching, without the first stage"
Embed = Callable[[list[str]], NDArray[np.float32]]


class Comparison:
    """The data set and the rows of the tables so far.

    Attributes:
        split: the split whose queries are measured.
        competing: the candidate sets, of `split` and `all`; one if both are equal.
        device: the device of the models.
    """

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.data = open_collection(args.data)
        measurable = self.data.measurable()
        self.split: str = args.split or ("valid" if measurable == ["valid"] else "test")
        self.queries, self.asked = self.data.queries(self.split)
        items = len(self.data.items)
        smaller = len(self.data.candidates(self.split, "split")) < items
        self.competing = [name for name in args.candidates if smaller or name == "split"] or ["split"]
        self.device = resolve_device(args.device)
        self.inputs = [sha256(args.data / name) for name in ("items.jsonl", "captions.jsonl")]
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def add_runs(self) -> None:
        """Add CART and its generative rivals from folders that examples/own_data/run.sh wrote, CART first."""
        timed = self.args.timed_queries
        for folder in run_folders(self.args.runs):
            self.rows += [
                measured_run(folder, self.data, self.split, competing, timed, self.device)
                for competing in self.competing
            ]
        self.rows.sort(key=lambda row: row["scheme"] != OWN)
        folders: dict[str, set[str]] = {}
        for row in self.rows:
            folders.setdefault(row["scheme"], set()).add(row["run"])
        for row in self.rows:
            if len(folders[row["scheme"]]) > 1:
                row["system"] += f" ({Path(row['run']).name})"

    def dual_towers(self) -> list[DualTower]:
        """Return the zero-shot and the trained dual tower."""
        args = self.args
        own = args.items or self.data.folder / "embeddings.npy"
        if not own.exists() and not args.items:
            own = self.data.folder / "embeddings"
        items, texts = self.data.item_vectors(own), self.data.text_vectors(args.texts)
        towers = []
        if "zero-shot" in args.towers:
            if len(args.towers) == 1 or items.shape[1] == texts.shape[1]:
                towers.append(DualTower(items, texts))
            else:
                widths = f"items have {items.shape[1]} dimensions and texts {texts.shape[1]}"
                self.notes.append(f"dual tower, zero-shot: not measured, {widths}")
        if "trained" in args.towers:
            inputs = [*self.inputs, *map(sha256, [args.texts, *(sorted(own.iterdir()) if own.is_dir() else [own])])]
            settings = ProjectionSettings(hidden=args.hidden, epochs=args.epochs, seed=args.seed)
            index, path = args.index_captions == "include", args.output / "projection.safetensors"
            heads = trained_heads(path, self.data, items, texts, index, settings, self.device, inputs)
            towers.append(DualTower(items, texts, heads))
        return towers

    def dual_line(self, tower: DualTower, kind: str, competing: str, embed: Embed | None) -> dict[str, Any]:
        """Measure one dual tower with one index on one candidate set."""
        rows = self.data.candidates(self.split, competing)
        index = tower.index(kind, rows)
        rankings = index.search(tower.place(tower.texts[self.asked]), MEASURED_DEPTH)
        label = f"dual tower, {tower.name}, {'exact' if kind == 'flat' else 'HNSW'}"
        own = line(label, (2,), competing, len(rows), measure(self.queries, rankings), len(self.queries))
        if tower.heads is not None:
            own["index_captions"] = self.args.index_captions
        if self.args.timed_queries:
            asked = self.asked[: self.args.timed_queries]
            words = [query.text for query in self.queries[: len(asked)]]

            def answer() -> None:
                vectors = tower.texts[asked] if embed is None else embed(words)
                index.search(tower.place(vectors), MEASURED_DEPTH)

            own["queries_per_second"] = rate(answer, len(asked))
            own["timed"] = SEARCH_ALONE if embed is None else WHOLE
        self.write_trec(f"dual-{tower.name}-{kind}-{competing}", rankings)
        return own

    def single_line(self, first: DualTower, competing: str) -> dict[str, Any]:
        """Measure the matching model, which reorders the results of an exact first stage, or read an earlier result."""
        args = self.args
        for item in self.data.items:
            if item.get("modality", "image") != "image" or not item.get("media"):
                what = f"item {item['item_id']!r} is {item.get('modality', 'image')} with media {item.get('media')!r}"
                raise ValueError(f"the single tower accepts images only, but {what}; leave --single-tower out")
        rows = self.data.candidates(self.split, competing)
        name = f"single-{competing}"

        def make() -> dict[str, Any]:
            matcher = Matcher(args.single_tower, self.device)
            found = first.index("flat", rows).search(first.place(first.texts[self.asked]), args.rerank)
            texts = [query.text for query in self.queries]
            rankings, seconds = rerank(matcher, texts, found, self.picture, args.batch_size)
            label = f"single tower, {matcher.kind}, reorders {min(args.rerank, len(rows))} of {first.name}"
            own = line(label, (1,), competing, len(rows), measure(self.queries, rankings), len(texts))
            self.write_trec(name, rankings)
            return own | {"queries_per_second": len(texts) / seconds, "timed": MATCHING_ALONE}

        settings = [*self.inputs, self.split, args.single_tower, args.rerank, first.digest(), sha256(args.texts)]
        return remembered(args.output / "lines" / f"{name}.json", settings, make)

    def picture(self, row: int) -> Any:
        """Read the picture of an item."""
        return load_image(self.data.folder / self.data.items[row]["media"])

    def write_trec(self, name: str, rankings: Sequence[Ranking]) -> None:
        """Write a TREC run of a system measured here."""
        ids = [item["item_id"] for item in self.data.items]
        found = zip(self.queries, rankings, strict=True)
        results = ((query.query_id, [ids[row] for row in each.rows], each.scores) for query, each in found)
        write_run(self.args.output / f"run.{name}.{self.split}.trec", results, tag=name)


def embedder(spec: str, device: str, width: int, searched: str) -> Embed:
    """Return the text tower of an encoder, for timing.

    Args:
        width: width of the embeddings of --texts.
        searched: modality of the items.

    Raises:
        ValueError: the width differs, so the texts were embedded with another encoder.
    """
    encoder = load_encoder(spec, device)
    if encoder.dimension != width:
        raise ValueError(
            f"--encoder {spec}: its embeddings have width {encoder.dimension}, those of --texts {width}; give the "
            "encoder of --texts"
        )
    return lambda texts: encoder.embed_text(texts, searched)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure and print Tables 1 to 3 of the paper on a data set.")
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with embeddings, items.jsonl and captions.jsonl")
    add("--output", type=Path, required=True, help="folder of the comparison")
    add("--runs", type=Path, nargs="+", default=[], help="folders of examples/own_data/run.sh, or folders of such")
    add(
        "--texts",
        type=Path,
        help="embeddings of captions.jsonl, row i for line i; needed for dual towers",
    )
    add("--items", type=Path, help="item embeddings for the dual towers (default: those in DATA)")
    add(
        "--split",
        choices=("valid", "test"),
        help="whose queries are measured (default: test, or valid if test has none)",
    )
    add("--candidates", nargs="+", choices=("split", "all"), default=["split", "all"], help="candidate sets (both)")
    add("--dataset", choices=DATASETS, help="also print the paper's figures for this data set")
    add("--towers", nargs="+", choices=TOWERS, default=list(TOWERS), help="dual towers (both)")
    add("--indexes", nargs="+", choices=INDEXES, default=list(INDEXES), help="exact search or HNSW (both)")
    excluded = "train the projection with index captions of valid and test items or without, as in binarize (exclude)"
    add("--index-captions", choices=("include", "exclude"), default="exclude", help=excluded)
    add("--hidden", type=int, default=0, help="width of the hidden layer of each head; 0: linear heads (0)")
    add(
        "--epochs",
        type=int,
        default=100,
        help="maximum epochs of the projection; all if there are no valid queries (100)",
    )
    add("--seed", type=int, default=1)
    add("--encoder", metavar="FAMILY[:NAME]", help="encoder of --texts, to include it in the times of dual towers")
    add(
        "--single-tower", metavar="NAME", help="BLIP or BLIP-2 image-text matching model: a folder or a name on the hub"
    )
    add(
        "--rerank",
        type=int,
        default=128,
        metavar="K",
        help="items that the single tower reorders per query (128)",
    )
    add("--batch-size", type=int, default=64, help="batch size of the single tower (64)")
    add("--timed-queries", type=int, default=100, help="number of queries in the timed batch; 0: no timing (100)")
    add("--device", default="auto", help="auto, cpu or cuda")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write and print.

    Raises:
        ValueError: an input is wrong, or a library is missing.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    for option, value, least in (("hidden", args.hidden, 0), ("epochs", args.epochs, 1), ("rerank", args.rerank, 1)):
        if value < least:
            parser.error(f"--{option} is {value}; it must be at least {least}")
    if not args.runs and not args.texts:
        parser.error("nothing to compare: give --runs, --texts, or both")
    if args.single_tower and not args.texts:
        parser.error("--single-tower reorders the results of a dual tower; give --texts, too")
    if args.texts:
        needed("faiss", "dual towers")
    if args.single_tower:
        needed("transformers", "the single tower")
    comparison = Comparison(args)
    comparison.add_runs()
    if args.texts:
        towers = comparison.dual_towers()
        embed = None
        if args.encoder:
            searched = comparison.data.items[0].get("modality") or "image"
            embed = embedder(args.encoder, comparison.device, towers[0].texts.shape[1], searched)
        every = [(tower, kind, each) for tower in towers for kind in args.indexes for each in comparison.competing]
        comparison.rows += [comparison.dual_line(*each, embed) for each in every]
        if args.single_tower:
            comparison.rows += [comparison.single_line(towers[-1], each) for each in comparison.competing]
    if comparison.split == "valid" and any("index_captions" in row for row in comparison.rows):
        note = "the checkpoints of trained models were chosen by R@1 on these valid queries, which favours them"
        comparison.notes.append(note)
    result = {
        **provenance(vars(args), "output"),
        "data": str(args.data),
        "dataset": args.dataset,
        "split": comparison.split,
        "timed_queries": min(args.timed_queries, len(comparison.queries)),
        "device": str(comparison.device),
        "rows": comparison.rows,
        "notes": comparison.notes,
    }
    write_json(args.output / "comparison.json", result)
    text = tables(result)
    with replacing(args.output / "comparison.md") as new:
        new.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    run_script(main)
