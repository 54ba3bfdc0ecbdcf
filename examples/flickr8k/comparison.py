"""Compare runs of ``run.sh`` on Flickr8k with simpler methods, in one table.

    comparison.py --data DATA --runs OUT [--json FILE]

OUT contains runs of ``run.sh`` by name, as ``compare.sh`` writes them. The other methods use the same captions as the
runs in their section of the table: with or without the index captions of valid and test items.

- `TF-IDF` and `sentence encoder`: best cosine between the query and the captions of an item.
- `ridge`: regression from TF-IDF vectors to image features.
- `dual tower`: the two towers from which the recipe's identifiers are built (``join_captions --align``), alone, and
  with priors of its own, whose share has the best MRR@10 among the candidates of the split.
- `dense head alone`: the dense head of a run, which scores every candidate, with its priors.

Sums are sums of standardised scores. Among items with equal scores, the correct item is ranked last.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path += [str(Path(__file__).resolve().parents[1] / name) for name in ("baselines", "recipes")]

import lookahead
from baselines import COMPONENTS, best_caption_scores, cosines, predict, vectors, worst_ranks
from collection import open_collection
from joined_towers import JoinedTowers
from plan import checkpoint_of
from provenance import command, commit, machine
from sklearn.decomposition import PCA

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_json
from cart_fairseq.measuring.labels import METRIC_LABELS, METRIC_NAMES
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts
from cart_fairseq.retriever import CartRetriever
from preprocess.data import joined_folder
from preprocess.data.embeddings import open_embeddings
from preprocess.join.text_features import EncoderFeatures

RUNS = {
    "paper": "the paper's method, small recipe",
    "scratch": "CART, recommended",
    "pretrained": "CART, recommended",
    "borrowed": "CART, recommended",
}
HEADS = (*METRIC_LABELS.values(),)
SEED = 0
RIDGE_SHARE = 2.0  # weight of ridge in the sum with TF-IDF
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the dual tower's priors."""
Figures = dict[str, dict[str, dict[str, float]]]


class References:
    """The methods to compare with, on the valid queries.

    Args:
        data: folder with embeddings.npy, items.jsonl and captions.jsonl.
        index_captions: ``include`` or ``exclude`` the index captions of valid and test items.
    """

    def __init__(self, data: Path, index_captions: str):
        collection = open_collection(data)
        self.known, (self.queries, _) = collection.training(index_captions == "include"), collection.queries("valid")
        self.owner = np.array([caption.item_row for caption in self.known])
        self.candidates = {chosen: collection.candidates("valid", chosen) for chosen in ("split", "all")}
        self.texts, self.asked = [c.text for c in self.known], [c.text for c in self.queries]
        exact = np.asarray(open_embeddings(data / "embeddings.npy"), dtype=np.float32)
        space = PCA(min(COMPONENTS, *exact.shape), whiten=True, svd_solver="randomized", random_state=SEED)
        self.placed = space.fit_transform(exact)
        known, asked = vectors(self.texts, self.asked, words=2)
        self.predicted = predict(known, self.known, self.placed, asked)

    def plain(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return system -> (Q, C) scores, for the methods without text pretraining."""
        found = {"ridge": cosines(self.predicted, self.placed[rows])}
        known, asked = vectors(self.texts, self.asked, words=1)
        text = self.best_captions(known, asked, rows)
        if text is not None:
            found = {
                "TF-IDF": text,
                **found,
                "TF-IDF + 2 x ridge": standard(text) + RIDGE_SHARE * standard(found["ridge"]),
            }
        return found

    def of_join(self, joined: Path) -> Any:
        """Return a function like `plain` for the text features and towers of a join."""
        towers = JoinedTowers(joined)
        known = towers.features(self.texts) if isinstance(towers.parts.features, EncoderFeatures) else None
        asked = towers.features(self.asked)
        placed = towers.placed(asked)
        items = np.load(joined / joined_folder.ALIGNED, mmap_mode="r")
        roles = np.array([caption.role for caption in self.known], dtype=object)
        priors = towers.priors(np.array(self.texts, dtype=object), roles, self.owner, items)

        def tower(rows: np.ndarray, share: float) -> np.ndarray:
            return towers.scale * placed @ np.asarray(items[rows], dtype=np.float32).T - share * priors[rows]

        shares = {
            share: self.measure(lambda rows, share=share: {"": tower(rows, share)}, ("split",)) for share in SHARES
        }
        share = max(SHARES, key=lambda share: shares[share][""]["split"]["mrr_at_10"])

        def scores(rows: np.ndarray) -> dict[str, np.ndarray]:
            found = {"dual tower": tower(rows, 0.0), "dual tower with priors": tower(rows, share)}
            text = None if known is None else self.best_captions(known, asked, rows)
            if text is None:
                return found
            ridge = cosines(self.predicted, self.placed[rows])
            return {
                "sentence encoder": text,
                "sentence encoder + ridge": standard(text) + standard(ridge),
                **found,
                "sentence encoder + dual tower": standard(text) + standard(found["dual tower"]),
            }

        return scores

    def best_captions(self, known: Any, asked: Any, rows: np.ndarray) -> np.ndarray | None:
        """Return (Q, C), the best cosine of each candidate's captions; None if an item of a query has no caption."""
        if not np.isin([caption.item_row for caption in self.queries], self.owner).all():
            return None
        used = np.flatnonzero(np.isin(self.owner, rows))
        return best_caption_scores(asked, known[used], np.searchsorted(rows, self.owner[used]), len(rows))

    def measure(self, scores: Any, candidates: Sequence[str] = ("split", "all")) -> Figures:
        """Return system -> candidate set -> metrics in percent."""
        figures: Figures = {}
        for chosen in candidates:
            rows = self.candidates[chosen]
            column = {int(row): place for place, row in enumerate(rows)}
            targets = np.array([column[caption.item_row] for caption in self.queries])
            for name, found in scores(rows).items():
                counts = metric_counts(worst_ranks(found, targets))
                figures.setdefault(name, {})[chosen] = metrics_from_counts(counts)
        return figures


def standard(scores: np.ndarray) -> np.ndarray:
    """Standardise the scores (Q, C) of each query to mean 0 and standard deviation 1. Constant scores become 0."""
    centred = scores - scores.mean(axis=1, keepdims=True, dtype=np.float64)
    spread = centred.std(axis=1, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-6)


def of_run(out: Path) -> Figures:
    """Return the metrics of a run, with its dense head and with identifiers alone."""
    record = read_json(out / "run.json")
    both = {chosen: figures["valid"] for chosen, figures in record["metrics"].items() if "valid" in figures}
    if record["tuned"] is None:
        return {"identifiers": both}
    alone = next(row for row in record["tuned"]["weights"] if row["weight"] == 0)
    return {"identifiers alone": {"split": alone}, "identifiers and dense head": both}


def dense_head_of(out: Path) -> Figures:
    """Return the metrics of a run's dense head, which scores every candidate; empty if it has none."""
    if not (out / "checkpoints").is_dir():  # the record alone was kept
        return {}
    retriever = CartRetriever.from_pretrained(checkpoint_of(out / "checkpoints"), out / "data-bin")
    if retriever.models[0].dense is None:
        return {}
    asked = retriever.data.queries("valid", ("text", "item_row"))
    wanted = torch.from_numpy(asked["item_row"].to_numpy().astype(np.int64))
    systems = [lookahead.alone(retriever, name) for name in ("valid", "all")]
    found = lookahead.measure(retriever, systems, asked["text"].to_pylist(), wanted, batch=100)
    kept = [{name: row[name] for name in METRIC_NAMES} for row in found]
    return {"dense head alone": dict(zip(("split", "all"), kept, strict=True))}


def table(sections: dict[str, Figures]) -> str:
    """Return the table in Markdown."""
    heads = ["", *(f"1,000: {name}" for name in HEADS), *(f"8,000: {name}" for name in HEADS)]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for title, figures in sections.items():
        lines.append(f"| *{title}* |" + " |" * (len(heads) - 1))
        for name, of in figures.items():
            cells = [f"{of[c][m]:.1f}" if c in of else "–" for c in ("split", "all") for m in METRIC_NAMES]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def collect(data: Path, runs: Path) -> dict[str, Figures]:
    """Return section -> system -> candidate set -> metrics."""
    there = {name: runs / name for name in RUNS if (runs / name / "run.json").is_file()}
    sections: dict[str, Figures] = {}
    titles = {
        "include": ("nothing pretrained on text, index captions included", ("paper", "scratch")),
        "exclude": ("without index captions", ("borrowed",)),
    }
    for protocol, (title, names) in titles.items():
        references = References(data, protocol)
        sections[title] = references.measure(references.plain)
        groups = [(title, names)]
        if protocol == "include":
            groups.append(("pretrained text encoder, index captions included", ("pretrained",)))
        for heading, members in groups:
            section = sections.setdefault(heading, {})
            for name in members:
                if name not in there:
                    continue
                if (there[name] / "joined").is_dir():
                    section |= references.measure(references.of_join(there[name] / "joined"))
                own = of_run(there[name]) | dense_head_of(there[name])
                section |= {f"{RUNS[name]}: {which}": figures for which, figures in own.items()}
    return {title: section for title, section in sections.items() if section}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the figures."""
    parser = argparse.ArgumentParser(description="Compare runs of run.sh with simpler methods on the valid queries.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with embeddings, items.jsonl and captions.jsonl"
    )
    parser.add_argument("--runs", type=Path, required=True, help=f"folder with runs of run.sh: {', '.join(RUNS)}")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args(argv)
    sections = collect(args.data, args.runs)
    if args.json:
        settings = {"components": COMPONENTS, "ridge_share": RIDGE_SHARE}
        write_json(
            args.json,
            {
                "command": command(),
                "commit": commit(),
                "machine": machine(),
                "settings": settings,
                "seed": SEED,
                **sections,
            },
        )
    print("valid queries, in percent; candidates: the 1,000 of the split, or all 8,000\n")
    print(table(sections))


if __name__ == "__main__":
    run_script(main)
