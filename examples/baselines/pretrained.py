r"""Measure every pretrained rival of the paper's Tables 1 and 2 on a data set, beside the paper's figures.

    python examples/baselines/pretrained.py --dataset flickr30k --data OUT/data --output OUT/pretrained \
        [--runs OUT OUT/rivals] [--only clip siglip2] [--weights clip=FOLDER]

DATA contains items.jsonl, whose media are read, and captions.jsonl. Each rival of `obtainable.py` that searches such
media embeds the candidates and the queries and ranks them by cosine (zero-shot); BLIP-2 reorders the best of its
contrastive part. With --runs, CART and the generative rivals join the tables. A rival that cannot be loaded is listed
with the reason, and the others are measured. Give the command again for those, also from another environment: what is
there is kept. The command writes tables.md, tables.json and a TREC run of each rival to OUTPUT.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
from collection import needed, open_collection
from dual_tower import MEASURED_DEPTH, DualTower
from matching import Matcher, rerank
from obtainable import RIVALS, Rival
from pretrained_tables import result_rows, tables
from provenance import provenance
from published import DATASETS
from systems import line, measured_run, remembered, run_folders

from cart_fairseq.base.checks import check_count
from cart_fairseq.base.files import replacing, sha256, write_json, write_jsonl
from cart_fairseq.base.processes import run_script
from cart_fairseq.measuring.results import Ranking, measure
from cart_fairseq.measuring.trec import write_run
from preprocess.data.embeddings import open_embeddings
from preprocess.encoders.embedded_files import relocated
from preprocess.encoders.extract import extract_embeddings, extract_text_embeddings
from preprocess.encoders.loading import resolve_device, weights_stamp
from preprocess.encoders.settings import PRECISIONS, PROCESSES, EmbeddingSettings
from preprocess.media.images import load_image


class Pretrained:
    """The queries and candidates of a data set, and how rivals are measured on them.

    Attributes:
        rows: item rows (C,) of the candidates.
        modality: modality of the items.
    """

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.data = open_collection(args.data)
        self.split: str = args.split or ("valid" if self.data.measurable() == ["valid"] else "test")
        self.queries, _ = self.data.queries(self.split)
        self.rows = self.data.candidates(self.split, args.candidates)
        self.items = [self.data.items[row] for row in self.rows.tolist()]
        kinds = sorted({item.get("modality") or args.modality or "image" for item in self.items})
        if len(kinds) > 1:
            raise ValueError(f"{args.data / 'items.jsonl'}: items of {' and '.join(kinds)}; give data of one modality")
        self.modality = kinds[0]
        self.device = resolve_device(args.device)
        args.output.mkdir(parents=True, exist_ok=True)
        # names that a user's own data do not have: DATA and --output may be one folder
        self.files = {name: args.output / f"measured.{name}.jsonl" for name in ("items", "queries")}
        source = args.data / "items.jsonl"
        chosen = [relocated(item, source, args.output) if item.get("media") else item for item in self.items]
        for name, rows in (("items", chosen), ("queries", [{"text": query.text} for query in self.queries])):
            write_jsonl(self.files[name], rows)

    def describes(self) -> dict[str, Any]:
        """Return what all rows of the tables must share."""
        digests = {name: sha256(file) for name, file in self.files.items()}
        return {"split": self.split, "candidates": self.args.candidates, "modality": self.modality, **digests}

    def line(self, rival: Rival, rankings: Sequence[Ranking]) -> dict[str, Any]:
        """Return the row of a rival, and write its TREC run."""
        ids = [item["item_id"] for item in self.data.items]
        found = zip(self.queries, rankings, strict=True)
        results = ((query.query_id, [ids[row] for row in each.rows], each.scores) for query, each in found)
        write_run(self.args.output / f"run.{rival.key}.{self.split}.trec", results, tag=rival.key)
        figures = measure(self.queries, rankings)
        table = 1 if rival.single else 2
        return line(rival.name, [table], self.args.candidates, len(self.rows), figures, len(self.queries))

    def dual(self, rival: Rival) -> dict[str, Any]:
        """Embed candidates and queries, and rank by cosine."""
        args, folder = self.args, self.args.output / rival.key
        settings = EmbeddingSettings(
            encoder=rival.weights,
            modality=self.modality,
            batch_size=args.batch_size,
            workers=args.workers,
            device=self.device,
            precision=args.precision,
        )
        extract_embeddings(self.files["items"], folder / "items", settings)
        extract_text_embeddings(self.files["queries"], folder / "queries.npy", settings)
        items = np.asarray(open_embeddings(folder / "items" / "embeddings.npy"), dtype=np.float32)
        texts = np.asarray(open_embeddings(folder / "queries.npy"), dtype=np.float32)
        tower = DualTower(items, texts)
        found = tower.index("flat", np.arange(len(items))).search(texts, MEASURED_DEPTH)
        rankings = [Ranking(self.rows[each.rows].tolist(), each.scores) for each in found]
        return self.line(rival, rankings)

    def single(self, rival: Rival) -> dict[str, Any]:
        """Reorder the best candidates of the model's contrastive part by its matching head."""
        args = self.args

        def make() -> dict[str, Any]:
            matcher = Matcher(rival.weights, self.device)
            texts, rows = [query.text for query in self.queries], self.rows.tolist()
            first = matcher.first_stage(texts, rows, self.picture, args.rerank, args.batch_size)
            rankings, _ = rerank(matcher, texts, first, self.picture, args.batch_size)
            return self.line(rival, rankings)

        settings = [rival.weights, weights_stamp(f":{rival.weights}"), args.rerank, self.split, args.candidates]
        settings += [sha256(file) for file in self.files.values()]
        return remembered(args.output / f"{rival.key}.json", settings, make)

    def picture(self, row: int) -> Any:
        """Read the picture of an item."""
        return load_image(self.data.folder / self.data.items[row]["media"])

    def measured(self, rival: Rival) -> dict[str, Any]:
        """Return the row of a rival, or why there is none. Interrupts and programming errors are not caught."""
        print(f"\n==== {rival.name}: {rival.weights}", flush=True)
        try:
            found = self.single(rival) if rival.single else self.dual(rival)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            print(f"not run: {reason}", file=sys.stderr)
            found = {"system": rival.name, "not_run": reason}
        return found | {"key": rival.key, "weights": rival.weights}

    def trained(self) -> list[dict[str, Any]]:
        """Return the rows of CART and its generative rivals from --runs."""
        args = self.args
        return [
            measured_run(folder, self.data, self.split, args.candidates, 0, self.device)
            for folder in run_folders(args.runs)
        ]


def with_weights(given: Sequence[str]) -> list[Rival]:
    """Return the rivals with the weights of --weights KEY=NAME.

    Raises:
        ValueError: a key is unknown, or there is no name.
    """
    chosen = {rival.key: rival for rival in RIVALS}
    for text in given:
        key, _, name = text.partition("=")
        if key not in chosen or not name:
            raise ValueError(f"--weights {text}: give KEY=NAME with KEY one of {', '.join(chosen)}")
        own = chosen[key]
        family = own.weights.partition(":")[0]
        if not own.single and not name.startswith(f"{family}:"):
            name = f"{family}:{name}"
        chosen[key] = dataclasses.replace(own, weights=name)
    return list(chosen.values())


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the pretrained rivals of Tables 1 and 2 on a data set.")
    add, keys = parser.add_argument, [rival.key for rival in RIVALS]
    add("--dataset", choices=DATASETS, required=True, help="whose figures of the paper stand beside")
    add("--data", type=Path, required=True, help="folder with items.jsonl, its media, and captions.jsonl")
    add("--output", type=Path, required=True, help="folder of embeddings, runs and tables")
    add("--only", nargs="+", choices=keys, metavar="KEY", default=keys, help=f"rivals to run: {', '.join(keys)} (all)")
    add("--weights", nargs="+", default=[], metavar="KEY=NAME", help="other weights, by name on the hub or folder")
    add("--runs", type=Path, nargs="+", default=[], help="folders of CART's and rivals.sh's runs, or folders of such")
    add("--split", choices=("valid", "test"), help="whose queries (default: test, or valid if test has none)")
    add("--candidates", choices=("split", "all"), default="split", help="items that compete (split, as in the paper)")
    add("--modality", choices=("image", "audio", "video"), help="of items that name none (image)")
    add("--rerank", type=int, default=128, metavar="K", help="items that a single tower reorders per query (128)")
    add("--batch-size", type=int, default=32, help="media or texts at a time (32)")
    add("--workers", type=int, default=PROCESSES, help="processes that read media (%(default)s)")
    add("--precision", choices=PRECISIONS, default="float32", help="of dual towers' products (float32)")
    add("--device", default="auto", help="auto, cpu or cuda")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write and print.

    Raises:
        ValueError: the data are wrong, or a library that all rivals need is missing.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    for name, at_least in (("rerank", 1), ("batch-size", 1), ("workers", 0)):
        check_count(f"--{name}", getattr(args, name.replace("-", "_")), at_least)
    needed("faiss", "dual towers")
    needed("transformers", "pretrained rivals")
    rivals = with_weights(args.weights)
    work = Pretrained(args)
    able = [rival for rival in rivals if work.modality in rival.modalities]
    measured = [work.measured(rival) for rival in able if rival.key in args.only]
    left = [rival for rival in able if rival.key not in args.only]
    rows = result_rows(args.dataset, args.output / "tables.json", measured, left, work.trained(), work.describes())
    result = {
        **provenance(vars(args), "output"),
        "dataset": args.dataset,
        "data": str(args.data),
        "device": str(work.device),
        "measured_on": work.describes(),
        "rows": rows,
    }
    write_json(args.output / "tables.json", result)
    text = tables(result)
    with replacing(args.output / "tables.md") as new:
        new.write_text(text + "\n", encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    run_script(main)
