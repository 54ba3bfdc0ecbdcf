"""Queries with their right items, and what was retrieved for them: read from files, checked, measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.files import read_jsonl
from cart_fairseq.measuring.labels import METRIC_LABELS
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts, ranks_of


@dataclass(frozen=True)
class Query:
    """One query: the caption it is, the text, and the row of the item it asks for."""

    query_id: str
    text: str
    item_row: int


@dataclass
class Ranking:
    """What one query found, best first: item rows, scores (never ascending), and where each was read, for errors."""

    rows: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    where: list[str] = field(default_factory=list)


def subset_queries(data: DataBin, subset: str) -> list[Query]:
    """The queries of a subset of the data-bin; query i is fairseq's example i.

    Raises:
        ValueError: the data-bin has no such subset, or the table is damaged.
    """
    table = data.queries(subset, ("query_id", "text", "item_row")).to_pydict()
    return [Query(*row) for row in zip(table["query_id"], table["text"], table["item_row"], strict=True)]


def new_queries(path: str | Path, data: DataBin, subset: str | None = None) -> tuple[list[Query], set[str | None]]:
    """Queries of a file like captions.jsonl: its rows with the role `query` or no role.

    Args:
        path: rows with `item_id`, `text` and, if wanted, `caption_id`, `role`, `split`.
        data: the data-bin whose items they ask for.
        subset: keep only the rows of this split (no split anywhere counts as test, as in binarising).

    Returns:
        The queries in file order, ids as binarising gives them, and the splits they belong to: the row's own, else the
        item's, else None.

    Raises:
        ValueError: no such row, an unknown item, an empty text, an id used twice; the message names file and row.
    """
    queries: list[Query] = []
    splits: set[str | None] = set()
    seen: dict[str, int] = {}
    for index, row in enumerate(read_jsonl(path)):
        if row.get("role") not in (None, "query"):
            continue
        where = f"{path}, row {index + 1}"
        item_row = data.bundle.row_of.get(row["item_id"]) if isinstance(row.get("item_id"), str) else None
        if item_row is None:
            raise ValueError(
                f"{where}: item_id {row.get('item_id')!r} is not in {data.directory}; drop the row or binarise the item"
            )
        text, query_id = row.get("text"), row.get("caption_id")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where}: text is {text!r}; write a query or drop the row")
        if query_id is None:
            query_id = f"q{index}"
        if not isinstance(query_id, str) or not query_id.strip():
            raise ValueError(f"{where}: caption_id is {query_id!r}, must be a non-empty string or be left out")
        if query_id in seen:
            raise ValueError(f"{where}: query id {query_id!r} is already that of row {seen[query_id]}; make ids unique")
        seen[query_id] = index + 1
        split = row.get("split") or data.bundle.splits[item_row]
        if subset in (None, split or "test"):
            queries.append(Query(query_id, text, item_row))
            splits.add(split)
    if not queries:
        within = f" in split {subset}" if subset else ""
        raise ValueError(f"{path}: no row{within} with the role 'query' or without a role; nothing to measure")
    return queries, splits


def read_generation(path: str | Path, data: DataBin, queries: Sequence[Query]) -> list[Ranking]:
    """Read the `D-<query>` lines that fairseq-generate or -interactive wrote; log lines between them are skipped.

    Args:
        path: the output; hypotheses of one query stand best first, scores as fairseq prints them (base 2).
        data: the data-bin they were generated with.
        queries: what `D-i` refers to, in order.

    Raises:
        ValueError: a query without hypotheses, one of another data set, an unknown or repeated item, scores that are
            not numbers or ascend; the message names the line or the first query concerned.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); generate it with --results-path") from None
    found: dict[int, Ranking] = {}
    for number, line in enumerate(lines, start=1):
        if line.startswith(b"D-") and line[2:].split(b"\t")[0].isdigit():
            _add(found, line, f"{path}, line {number}", data, len(queries))
    if not found:
        raise ValueError(f"{path}: no line D-<query>; give the file that fairseq-generate wrote, without --quiet")
    for index, query in enumerate(queries):
        if index not in found:
            raise ValueError(
                f"{path}: no hypothesis for query {index} ({query.query_id!r}: {query.text!r}), {len(found)} of "
                f"{len(queries)} are there; generate the whole subset again"
            )
    return [found[index] for index in range(len(queries))]


def _add(found: dict[int, Ranking], line: bytes, where: str, data: DataBin, queries: int) -> None:
    """Parse one D line into `found`."""
    try:
        columns = line.decode("utf-8").rstrip("\r").split("\t")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: invalid UTF-8 ({error.reason}); run fairseq with PYTHONIOENCODING=utf-8") from None
    if len(columns) != 3:
        raise ValueError(f"{where}: {len(columns)} columns, expected D-<query>, score and item id; generate it again")
    index, item_id = int(columns[0][2:]), columns[2]
    if index >= queries:
        raise ValueError(
            f"{where}: query {index}, but there are {queries}; is this the output of another subset or file?"
        )
    try:
        score = float(columns[1])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise ValueError(f"{where}: the score is {columns[1]!r}, not a finite number; generate it again")
    row = data.bundle.row_of.get(item_id)
    if row is None:
        raise ValueError(
            f"{where}: item {item_id!r} is not in {data.directory}; give the data-bin it was generated with"
        )
    ranking = found.setdefault(index, Ranking())
    if row in ranking.rows:
        raise ValueError(f"{where}: item {item_id!r} stands twice for query {index}; is the file two outputs in one?")
    if ranking.scores and score > ranking.scores[-1]:
        raise ValueError(
            f"{where}: score {score} after {ranking.scores[-1]}, but hypotheses stand best first; is the file two "
            "outputs in one?"
        )
    ranking.rows.append(row)
    ranking.scores.append(score)
    ranking.where.append(where)


def first_outside(rankings: Sequence[Ranking], candidates: set[int]) -> str | None:
    """Where the first retrieved item stands that is not among the candidate rows, or None."""
    for ranking in rankings:
        for row, where in zip(ranking.rows, ranking.where, strict=True):
            if row not in candidates:
                return where
    return None


def measure(queries: Sequence[Query], rankings: Sequence[Ranking]) -> dict[str, float]:
    """recall@1/5/10 and MRR@10 in percent."""
    depth = max(len(ranking.rows) for ranking in rankings)
    retrieved = torch.tensor([ranking.rows + [-1] * (depth - len(ranking.rows)) for ranking in rankings])
    targets = torch.tensor([query.item_row for query in queries])
    return metrics_from_counts(metric_counts(ranks_of(retrieved, targets)))


def metric_table(result: Mapping[str, Any]) -> str:
    """The metrics and what they were measured on, for people.

    Args:
        result: as `python -m cart_fairseq.evaluate --json` writes it.
    """
    candidates = f"{result['candidates']:,} ({result['candidate_set']})"
    head = (
        "".join(f"{name:>8}" for name in METRIC_LABELS.values()) + f"{'queries':>10}  {'candidates':<18}index captions"
    )
    row = "".join(f"{result[key]:8.2f}" for key in METRIC_LABELS)
    return f"{head}\n{row}{result['queries']:>10,}  {candidates:<18}{result['index_captions']}"
