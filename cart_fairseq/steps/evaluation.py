"""Measures retrieval from fairseq's output, or by searching with a checkpoint.

The metrics count all queries. A query without output is an error.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cart_fairseq.base.checks import checks_settings
from cart_fairseq.base.settings import EvaluationSettings
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
from cart_fairseq.search.calibration import HITS
from cart_fairseq.steps.calibrating import calibrating_rows, outcome, scores_without

DEPTH = max(RECALL_CUTOFFS)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of :func:`evaluate`.

    Attributes:
        figures: metrics in percent, numbers of queries and candidates, the candidate set, and the data-bin's
            ``index_captions`` setting; for a search with a calibrated checkpoint also what
            :meth:`~cart_fairseq.steps.calibrating.Outcome.figures` returns, without the queries that calibrated it.
        queries: the measured queries.
        rankings: the items found for each query.
        item_ids: the item id of each row of the data-bin.
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


@checks_settings
def evaluate(
    data: str | Path,
    generation: str | Path | None = None,
    queries: str | Path | None = None,
    path: str | Path | None = None,
    settings: EvaluationSettings | None = None,
) -> Evaluation:
    """Measure the output of fairseq, or search new queries with a checkpoint and measure the result.

    The function has more than 60 lines because both inputs share the checks of the candidates.

    Args:
        data: the data-bin.
        generation: output of fairseq-generate, or of fairseq-interactive on ``queries``.
        queries: new queries in the format of captions.jsonl; rows with other roles than ``query`` are skipped.
        path: the checkpoint that searches ``queries``, or an ensemble ``a.pt:b.pt``; excludes ``generation``.
        settings: subset, candidates and options of the search.

    Raises:
        ValueError: an input is wrong; the message names file, value and remedy.
        TypeError: ``settings`` has another type.
    """
    if path and not queries:
        raise ValueError("--path needs a file of queries; give it with --queries")
    if bool(generation) == bool(path):
        raise ValueError("give either a generation file, or --queries and --path")
    settings, opened = settings or EvaluationSettings(), DataBin(data)
    asked, name = _queries(opened, generation, queries, path, settings)
    candidates = candidate_rows(opened, name)
    competing = set(candidates.tolist())
    for query in asked:
        if query.item_row not in competing:
            raise ValueError(
                f"query {query.query_id!r} asks for item {opened.bundle.item_ids[query.item_row]!r}, which is not in "
                f"the candidate set {name!r}; choose another set with --candidates"
            )
    presence: dict[str, Any] = {}
    if path:
        rankings, presence = _search(path, opened, asked, candidates, settings)
    else:
        assert generation is not None
        rankings = read_generation(generation, opened, asked)
        outside = first_outside(rankings, competing)
        if outside and settings.candidates is None:
            name, candidates = "all", candidate_rows(opened, "all")
        elif outside:
            raise ValueError(
                f"{outside}: the item is not in the candidate set {name!r}, so other items competed too; "
                "leave out --candidates"
            )
    longest = max(len(ranking.rows) for ranking in rankings)
    if longest < min(DEPTH, len(candidates)):
        print(
            f"warning: queries have at most {longest} hypotheses, so recall@k for k > {longest} is too low; "
            f"generate with --nbest {DEPTH} and a beam of at least {DEPTH}",
            file=sys.stderr,
        )
    figures = {
        **{metric: round(value, 4) for metric, value in measure(asked, rankings).items()},
        "queries": len(asked),
        "candidates": len(candidates),
        "candidate_set": name,
        "index_captions": opened.manifest["index_captions"],
        **presence,
    }
    return Evaluation(figures, asked, rankings, opened.bundle.item_ids)


def _queries(
    data: DataBin,
    generation: str | Path | None,
    file: str | Path | None,
    path: str | Path | None,
    settings: EvaluationSettings,
) -> tuple[list[Query], str]:
    """Return the queries to measure, and the name of their candidate set."""
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
    """Return the subset in a file name `generate-<subset>….txt`.

    Raises:
        ValueError: the name does not contain a subset of the data-bin.
    """
    name = Path(path).name
    known = [subset for subset in data.subsets if name.startswith(f"generate-{subset}")]
    if not known:
        raise ValueError(
            f"{path}: the name does not contain the subset (as in generate-test.txt); give it with --subset"
        )
    return max(known, key=len)


def candidate_rows(data: DataBin, name: str) -> np.ndarray:
    """Item rows (C,) int64, sorted, of a candidate set of the data-bin.

    Raises:
        ValueError: the data-bin has no candidate set of this name.
    """
    rows = data.candidates(name)
    return np.arange(len(data.bundle), dtype=np.int64) if rows is None else rows


def set_of_splits(splits: set[str | None], path: str) -> str:
    """Return the name of the candidate set for queries of these splits.

    Items without a split are in every candidate set. Training items are in the whole catalogue only.

    Raises:
        ValueError: the queries belong to several splits.
    """
    named = sorted(split for split in splits if split)
    if len(named) > 1:
        raise ValueError(
            f"{path}: its queries belong to the splits {' and '.join(named)}, which are measured separately; choose "
            "one with --subset, or measure on the whole catalogue with --candidates all"
        )
    return "all" if not named or named[0] == "train" else named[0]


def _search(
    path: str | Path, data: DataBin, queries: Sequence[Query], candidates: np.ndarray, settings: EvaluationSettings
) -> tuple[list[Ranking], dict[str, Any]]:
    """Rank the items for each query with a checkpoint, and measure the probabilities of hits if it is calibrated.

    For the scores see :class:`cart_fairseq.retriever.Hit`.
    """
    retriever = CartRetriever.from_pretrained(
        path,
        data=data.bundle.directory.parent,
        beam=settings.beam,
        precision=settings.precision,
        scoring=settings.scoring,
        dense_weight=settings.dense_weight,
        level_discount=settings.level_discount,
        lookahead=settings.lookahead,
        prior_share=settings.prior_share,
    )
    competing = None if len(candidates) == len(data.bundle) else data.candidate_set(candidates)
    depth = max(DEPTH, min(HITS, retriever.beam))  # deeper, the beam would be wider
    found = retriever.search([query.text for query in queries], k=depth, candidates=competing)
    rankings = [
        Ranking([hit.row for hit in hits], [hit.score for hit in hits], [query.query_id] * len(hits))
        for query, hits in zip(queries, found, strict=True)
    ]
    presence: dict[str, Any] = {}
    calibrated = calibrating_rows(data, (query.item_row for query in queries))
    others = [place for place, query in enumerate(queries) if query.item_row not in calibrated]
    size = len(retriever.data.trie if competing is None else competing)
    if retriever.calibration is not None and others and size > 1:
        chosen = [rankings[place] for place in others]
        rows, scores = [each.rows for each in chosen], [each.scores for each in chosen]
        targets = [queries[place].item_row for place in others]
        without = scores_without(retriever, [queries[place].text for place in others], targets, competing)
        presence = outcome(retriever.calibration, rows, scores, targets, size, without).figures()
    return [Ranking(each.rows[:DEPTH], each.scores[:DEPTH], each.where[:DEPTH]) for each in rankings], presence
