"""Measure how much recall is lost where people type queries otherwise than captions are written.

    robustness.py CHECKPOINT --data DATA-BIN --joined JOINED --json FILE

The queries of a subset are asked in six styles (:mod:`styles`), of the model and of the dual tower that its recipe trains
(``join_captions --align``), which scores every candidate. Both read the same text with the same encoder.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path += [str(Path(__file__).resolve().parents[1] / "recipes"), str(Path(__file__).resolve().parent)]

from joined_towers import JoinedTowers
from provenance import provenance
from styles import STYLES, styled

from cart_fairseq.base.checks import check_count
from cart_fairseq.base.files import refuse_unwritable, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.progress import track
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.measuring.labels import METRIC_LABELS, METRIC_NAMES
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts, ranks_of
from cart_fairseq.retriever import CartRetriever
from preprocess.data import joined_folder

DEPTH = 10
WRITTEN = "as written"
LOSS = "loss_at_10"
"""What R@10 is below that of the queries as written, in points."""
Figures = dict[str, dict[str, dict[str, float]]]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="robustness.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("checkpoint", help="checkpoint, or an ensemble a.pt:b.pt")
    parser.add_argument("--data", required=True, metavar="DIR", help="the data-bin")
    parser.add_argument("--joined", type=Path, required=True, metavar="DIR", help="the join whose towers are measured")
    parser.add_argument("--subset", default="valid", help="whose queries are asked (default: %(default)s)")
    parser.add_argument("--candidates", default="valid", metavar="NAME", help="candidate set (default: %(default)s)")
    parser.add_argument("--queries", type=int, metavar="N", help="number of queries (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of styles and of the choice of queries (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the record."""
    args = parse(argv)
    if args.queries is not None:
        check_count("--queries", args.queries)
    refuse_unwritable(args.json)
    retriever = CartRetriever.from_pretrained(args.checkpoint, args.data, precision="float32")
    tower = Tower(args.joined, retriever.data, args.candidates)
    table = retriever.data.queries(args.subset, ("text", "item_row"))
    order = np.random.default_rng(args.seed).permutation(len(table))[: args.queries]
    texts, wanted = table["text"].to_pylist(), torch.from_numpy(table["item_row"].to_numpy()[order].astype(np.int64))
    asked = {style: styled([texts[i] for i in order], style, args.seed) for style in STYLES}
    figures: Figures = {"CART": {}, "dual tower": {}}
    for style in track([*STYLES], "measuring", "styles"):
        hits = retriever.search(asked[style], k=DEPTH, candidates=args.candidates)
        rows = torch.tensor([[hit.row for hit in each] + [-1] * (DEPTH - len(each)) for each in hits])
        figures["CART"][style] = metrics_from_counts(metric_counts(ranks_of(rows, wanted)))
        figures["dual tower"][style] = metrics_from_counts(metric_counts(tower.ranks(asked[style], wanted)))
    with_losses(figures)
    print(f"{len(order):,} {args.subset} queries, {len(tower.rows):,} candidates")
    print(table_of(figures))
    if args.json:
        record = provenance(vars(args), "checkpoint", "data", "joined", "json")
        counts = {"queries": len(order), "candidates": len(tower.rows)}
        write_json(args.json, {**record, **counts, "metrics": figures})


class Tower:
    """The dual tower and its vectors of the candidates.

    Args:
        joined: the join.
        data: the data-bin whose items it joined.
        candidates: name of the candidate set.

    Raises:
        ValueError: the join has other items.
    """

    def __init__(self, joined: Path, data: DataBin, candidates: str):
        self.towers = JoinedTowers(joined)
        aligned = np.load(joined / joined_folder.ALIGNED, mmap_mode="r")
        if len(aligned) != len(data.bundle):
            raise ValueError(
                f"{joined}: has {len(aligned)} items, but {data.directory} has {len(data.bundle)}; give the join that it was "
                "made from"
            )
        found = data.candidates(candidates)
        self.rows = np.arange(len(aligned)) if found is None else found
        self.items = np.asarray(aligned[self.rows], dtype=np.float32)

    def ranks(self, texts: Sequence[str], wanted: Tensor) -> Tensor:
        """The rank of each query's item; of items with an equal score it is the last: (Q,) int64.

        Args:
            texts: the queries.
            wanted: (Q,) int64 item rows, of candidates.
        """
        scores = self.towers.queries(texts) @ self.items.T
        own = np.take_along_axis(scores, np.searchsorted(self.rows, wanted.numpy())[:, None], 1)
        return torch.from_numpy((scores >= own).sum(1))


def with_losses(figures: Figures) -> None:
    """Add what each style loses of R@10."""
    for styles in figures.values():
        whole = styles[WRITTEN]["recall_at_10"]
        for style in styles.values():
            style[LOSS] = whole - style["recall_at_10"]


def table_of(figures: Figures) -> str:
    """Format the figures as a table in Markdown."""
    lines = [f"| queries | system | {' | '.join(METRIC_LABELS.values())} | loss of R@10 |", "| --- " * 7 + "|"]
    for style in STYLES:
        for system, of in figures.items():
            values = " | ".join(f"{of[style][name]:.1f}" for name in (*METRIC_NAMES, LOSS))
            lines.append(f"| {style} | {system} | {values} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
