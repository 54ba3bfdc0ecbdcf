"""All systems of the paper's Tables 1 to 3 on one data set: the same queries, candidates and metrics for each.

    python examples/baselines/compare.py --data DATA --runs OUT --texts T.npy --output COMPARISON \
        [--dataset flickr30k] [--single-tower Salesforce/blip-itm-base-coco] [--encoder clip:openai/clip-vit-base-patch32]

DATA holds embeddings.npy, items.jsonl and captions.jsonl; T.npy the embeddings of its captions
(`python -m preprocess.extract_embeddings --texts captions.jsonl`); OUT is what examples/own_data/run.sh wrote, or a folder of
such folders, as rivals.sh writes. COMPARISON receives comparison.json, comparison.md, a TREC run of each system that is
measured here, and the trained heads. README.md beside this file says what the systems are.
"""

import argparse
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from collection import needed, open_collection
from dual_tower import INDEXES, MEASURED_DEPTH, DualTower, trained_heads
from layout import tables
from matching import Matcher, rerank
from numpy.typing import NDArray
from projection import ProjectionSettings
from provenance import commit
from published import DATASETS
from systems import OWN, WHOLE, line, measured_run, rate, remembered, run_folders

from cart_fairseq.files import replacing, run_script, sha256, write_json
from cart_fairseq.measuring.results import Ranking, measure
from cart_fairseq.measuring.trec import write_run
from preprocess.data.media import load_image
from preprocess.encoders.loading import load_encoder, resolve_device

TOWERS = ("zero-shot", "trained")
SEARCH_ALONE = (
    "dual towers: search and projection alone, texts were embedded before; name their --encoder to time that too"
)
MATCHING_ALONE = "single tower: reading and encoding the pictures and matching; its first stage comes on top"
Embed = Callable[[list[str]], NDArray[np.float32]]


class Comparison:
    """The data, and the lines of the tables so far.

    Attributes:
        split: whose queries are measured.
        competing: the candidate sets that differ: `split`, `all`.
        device: where models run.
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
        """CART and its generative rivals, from folders that examples/own_data/run.sh wrote; CART comes first."""
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
        """The zero-shot and the trained tower."""
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
        """One dual tower with one index among one set of candidates."""
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
        """The matching model, which reorders what the first stage finds exactly; measured once for the same inputs."""
        args = self.args
        for item in self.data.items:
            if item.get("modality", "image") != "image" or not item.get("media"):
                what = f"item {item['item_id']!r} is {item.get('modality', 'image')} with media {item.get('media')!r}"
                raise ValueError(f"the single tower reads pictures, but {what}; leave --single-tower out")
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
        """The picture of an item."""
        return load_image(self.data.folder / self.data.items[row]["media"])

    def write_trec(self, name: str, rankings: Sequence[Ranking]) -> None:
        """A TREC run of a system measured here."""
        ids = [item["item_id"] for item in self.data.items]
        found = zip(self.queries, rankings, strict=True)
        results = ((query.query_id, [ids[row] for row in each.rows], each.scores) for query, each in found)
        write_run(self.args.output / f"run.{name}.{self.split}.trec", results, tag=name)


def embedder(spec: str, device: str, width: int, searched: str) -> Embed:
    """The text side of an encoder, for timing.

    Args:
        width: of the rows of --texts; searched: modality of the items.

    Raises:
        ValueError: it is not the one that the texts were embedded with.
    """
    encoder = load_encoder(spec, device)
    if encoder.dimension != width:
        raise ValueError(
            f"--encoder {spec}: gives rows of width {encoder.dimension}, those of --texts have {width}; name the encoder "
            "that --texts was made with"
        )
    return lambda texts: encoder.embed_text(texts, searched)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure and print Tables 1 to 3 of the paper on a data set.")
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with embeddings, items.jsonl and captions.jsonl")
    add("--output", type=Path, required=True, help="folder of the comparison")
    add("--runs", type=Path, nargs="+", default=[], help="folders of examples/own_data/run.sh, or folders of such")
    add("--texts", type=Path, help="(M, D) caption embeddings, one row a line of captions.jsonl: measures dual towers")
    add("--items", type=Path, help="item embeddings to compare them with (default: those in DATA)")
    add("--split", choices=("valid", "test"), help="whose queries (default: test, or valid where only it has any)")
    add("--candidates", nargs="+", choices=("split", "all"), default=["split", "all"], help="what competes (both)")
    add("--dataset", choices=DATASETS, help="print the paper's figures for it below")
    add("--towers", nargs="+", choices=TOWERS, default=list(TOWERS), help="dual towers (both)")
    add("--indexes", nargs="+", choices=INDEXES, default=list(INDEXES), help="exact search, HNSW (both)")
    excluded = "train the projection on index captions of valid and test items (exclude), as binarize does for CART"
    add("--index-captions", choices=("include", "exclude"), default="exclude", help=excluded)
    add("--hidden", type=int, default=0, help="width of each head's hidden layer; 0: linear (default)")
    add("--epochs", type=int, default=100, help="most epochs of the projection, or all without valid queries (100)")
    add("--seed", type=int, default=1)
    add("--encoder", metavar="FAMILY[:NAME]", help="encoder of --texts, to time dual towers from the text on")
    add("--single-tower", metavar="NAME", help="BLIP or BLIP-2 image-text matching model, a folder or a hub name")
    add("--rerank", type=int, default=128, metavar="K", help="items that the single tower reorders for a query (128)")
    add("--batch-size", type=int, default=64, help="pictures, and pairs, at once in the single tower (64)")
    add("--timed-queries", type=int, default=100, help="queries in the batch that is timed (100); 0: no timing")
    add("--device", default="auto", help="auto, cpu or cuda")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write and print.

    Raises:
        ValueError: an input is not what it should be, or a library is missing.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    for option, value, least in (("hidden", args.hidden, 0), ("epochs", args.epochs, 1), ("rerank", args.rerank, 1)):
        if value < least:
            parser.error(f"--{option} is {value}; it must be at least {least}")
    if not args.runs and not args.texts:
        parser.error("nothing to compare: name --runs, --texts, or both")
    if args.single_tower and not args.texts:
        parser.error("--single-tower reorders what a dual tower finds; give its --texts")
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
        note = "trained models were chosen by their R@1 on these valid queries; test queries are the fair ones"
        comparison.notes.append(note)
    result = {
        "commit": commit(),
        "data": str(args.data),
        "dataset": args.dataset,
        "split": comparison.split,
        "timed_queries": min(args.timed_queries, len(comparison.queries)),
        "machine": f"{comparison.device} ({torch.get_num_threads()} threads, {platform.machine()})",
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
