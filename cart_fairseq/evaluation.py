"""Measure retrieval: read what fairseq generated, or search with a checkpoint.

The numbers are exact counts over all queries: one that is missing from the output is an error, not a smaller sample.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.measuring.labels import RECALL_CUTOFFS
from cart_fairseq.measuring.results import (
    Query,
    Ranking,
    first_outside,
    measure,
    new_queries,
    read_generation,
    subset_queries,
)
from cart_fairseq.measuring.trec import write_qrels, write_run
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.settings import EvaluationSettings

DEPTH = max(RECALL_CUTOFFS)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        figures: metrics in percent, numbers of queries and candidates, the candidate set, and the index captions' protocol.
        queries: what was asked; rankings: what was found for each.
        item_ids: of the data-bin's rows.
    """

    figures: dict[str, Any]
    queries: list[Query]
    rankings: list[Ranking]
    item_ids: list[str]

    def write_run(self, path: str | Path) -> None:
        """Write a TREC run."""
        rows = zip(self.queries, self.rankings, strict=True)
        write_run(path, ((q.query_id, [self.item_ids[row] for row in r.rows], r.scores) for q, r in rows))

    def write_qrels(self, path: str | Path) -> None:
        """Write TREC relevance judgements."""
        write_qrels(path, ((query.query_id, self.item_ids[query.item_row]) for query in self.queries))


def evaluate(
    data: str | Path,
    generation: str | Path | None = None,
    queries: str | Path | None = None,
    path: str | Path | None = None,
    settings: EvaluationSettings | None = None,
) -> Evaluation:
    """Measure what fairseq generated, or search for new queries and measure that.

    Args:
        data: the data-bin.
        generation: output of fairseq-generate, or of fairseq-interactive on ``queries``.
        queries: rows like those of captions.jsonl, with the role query or none.
        path: the checkpoint that searches for ``queries``, or an ensemble ``a.pt:b.pt``; in place of ``generation``.

    Raises:
        ValueError: an input is not what it should be; the message says what and where.
    """
    if path and not queries:
        raise ValueError("--path searches the queries of a file; name it with --queries")
    if bool(generation) == bool(path):
        raise ValueError("give either a generation file or --queries with --path")
    settings, opened = settings or EvaluationSettings(), DataBin(data)
    asked, name = _queries(opened, generation, queries, path, settings)
    candidates = candidate_rows(opened, name)
    competing = set(candidates.tolist())
    for query in asked:
        if query.item_row not in competing:
            raise ValueError(
                f"query {query.query_id!r} asks for item {opened.bundle.item_ids[query.item_row]!r}, which is not in the "
                f"candidate set {name!r} and so cannot be found; choose another set with --candidates"
            )
    if path:
        rankings = _search(path, opened, asked, candidates, settings)
    else:
        assert generation is not None
        rankings = read_generation(generation, opened, asked)
        outside = first_outside(rankings, competing)
        if outside and settings.candidates is None:
            name, candidates = "all", candidate_rows(opened, "all")
        elif outside:
            raise ValueError(
                f"{outside}: the item is not in the candidate set {name!r}, so more items competed; "
                "leave --candidates out"
            )
    longest = max(len(ranking.rows) for ranking in rankings)
    if longest < min(DEPTH, len(candidates)):
        print(
            f"warning: at most {longest} hypotheses a query, so recall beyond {longest} is too low; "
            f"generate with --nbest {DEPTH} and a beam at least as wide",
            file=sys.stderr,
        )
    figures = {
        **{metric: round(value, 4) for metric, value in measure(asked, rankings).items()},
        "queries": len(asked),
        "candidates": len(candidates),
        "candidate_set": name,
        "index_captions": opened.manifest["index_captions"],
    }
    return Evaluation(figures, asked, rankings, opened.bundle.item_ids)


def _queries(
    data: DataBin,
    generation: str | Path | None,
    file: str | Path | None,
    path: str | Path | None,
    settings: EvaluationSettings,
) -> tuple[list[Query], str]:
    """The queries that are measured, and the name of the candidate set in which they compete."""
    wanted = settings.candidates
    if file:
        queries, splits = new_queries(file, data, settings.subset)
        # fairseq-interactive always searches the whole catalogue
        wanted = wanted or ("split" if path else "all")
        return queries, set_of_splits(splits, str(file)) if wanted == "split" else wanted
    assert generation is not None
    subset = settings.subset or subset_of_file(generation, data)
    own_set = "all" if subset == "train" else subset
    return subset_queries(data, subset), own_set if wanted in (None, "split") else wanted


def subset_of_file(path: str | Path, data: DataBin) -> str:
    """The subset that `generate-<subset>….txt` is about.

    Raises:
        ValueError: the name begins with no subset of the data-bin.
    """
    name = Path(path).name
    known = [subset for subset in data.subsets if name.startswith(f"generate-{subset}")]
    if not known:
        raise ValueError(
            f"{path}: the name does not tell the subset (as generate-test.txt does); name it with --subset"
        )
    return max(known, key=len)


def candidate_rows(data: DataBin, name: str) -> np.ndarray:
    """Rows (C,) int64, sorted, of a candidate set of the data-bin.

    Raises:
        ValueError: there is no set of this name.
    """
    rows = data.candidates(name)
    return np.arange(len(data.bundle), dtype=np.int64) if rows is None else rows


def set_of_splits(splits: set[str | None], path: str) -> str:
    """The one candidate set in which queries of these splits compete.

    Items without a split compete everywhere; training items only in the whole catalogue.

    Raises:
        ValueError: the queries belong to several splits.
    """
    named = sorted(split for split in splits if split)
    if len(named) > 1:
        raise ValueError(
            f"{path}: its queries belong to the splits {' and '.join(named)}, which are measured apart; choose one "
            "with --subset, or let all items compete with --candidates all"
        )
    return "all" if not named or named[0] == "train" else named[0]


def _search(
    path: str | Path, data: DataBin, queries: Sequence[Query], candidates: np.ndarray, settings: EvaluationSettings
) -> list[Ranking]:
    """Rank items for the queries with a checkpoint; scores are sums of natural logs."""
    retriever = CartRetriever.from_pretrained(
        path,
        data=data.bundle.directory.parent,
        beam=settings.beam,
        precision=settings.precision,
        scoring=settings.scoring,
        dense_weight=settings.dense_weight,
        level_discount=settings.level_discount,
    )
    competing = None if len(candidates) == len(data.bundle) else data.candidate_set(candidates)
    found = retriever.search([query.text for query in queries], k=DEPTH, candidates=competing)
    return [
        Ranking([hit.row for hit in hits], [hit.score for hit in hits], [query.query_id] * len(hits))
        for query, hits in zip(queries, found, strict=True)
    ]
