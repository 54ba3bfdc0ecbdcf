"""Reads queries and rankings from files, checks them, and measures the rankings."""

import codecs
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.base.checks import is_encodable
from cart_fairseq.base.reading import read_jsonl, refuse_packed, unreadable
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.measuring.labels import METRIC_LABELS
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts, ranks_of


@dataclass(frozen=True)
class Query:
    """One query: its id, its text, and the row of its right item."""

    query_id: str
    text: str
    item_row: int


@dataclass
class Ranking:
    """The items found for one query, best first.

    Attributes:
        rows: item rows.
        scores: the items' scores, not ascending.
        where: file and line of each item, for error messages.
    """

    rows: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    where: list[str] = field(default_factory=list)


def subset_queries(data: DataBin, subset: str) -> list[Query]:
    """Read the queries of a subset of the data-bin; query i is fairseq's example i.

    Raises:
        ValueError: the data-bin has no such subset, or the table is damaged.
    """
    table = data.queries(subset, ("query_id", "text", "item_row")).to_pydict()
    return [Query(*row) for row in zip(table["query_id"], table["text"], table["item_row"], strict=True)]


def new_queries(path: str | Path, data: DataBin, subset: str | None = None) -> tuple[list[Query], set[str | None]]:
    """Read queries from a file in the format of captions.jsonl: all rows with the role `query` or without a role.

    Args:
        path: a file whose rows have `item_id`, `text` and optionally `caption_id`, `role` and `split`.
        data: the data-bin with the queries' items.
        subset: keep only the rows of this split. As in binarising, a row without a split is of its item's split, or of
            test if the item has none.

    Returns:
        The queries in file order, with the ids that binarising gives them; and the splits of their rows or items (None
        for no split).

    Raises:
        ValueError: there is no query, an item is unknown, a text is empty, or an id is used twice; the message names
            file and row.
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
                f"{where}: item_id {row.get('item_id')!r} is not in {data.directory}; remove the row or add the item"
            )
        text, query_id = row.get("text"), row.get("caption_id")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where}: text is {text!r}; write a query or remove the row")
        if not is_encodable(text):
            raise ValueError(f"{where}: text holds half a surrogate pair ({text!r}); write real UTF-8")
        if query_id is None:
            query_id = f"q{index}"
        if not isinstance(query_id, str) or not query_id.strip():
            raise ValueError(f"{where}: caption_id is {query_id!r}; write a non-empty string or leave it out")
        if query_id in seen:
            raise ValueError(f"{where}: query id {query_id!r} is also the id of row {seen[query_id]}; make ids unique")
        seen[query_id] = index + 1
        split = row.get("split") or data.bundle.splits[item_row]
        if subset in (None, split or "test"):
            queries.append(Query(query_id, text, item_row))
            splits.add(split)
    if not queries:
        within = f" in split {subset}" if subset else ""
        raise ValueError(f"{path}: no row{within} has the role 'query' or no role; add queries to measure")
    return queries, splits


def read_generation(path: str | Path, data: DataBin, queries: Sequence[Query]) -> list[Ranking]:
    """Read the `D-<query>` lines of an output of fairseq-generate or fairseq-interactive; other lines are skipped.

    Args:
        path: the output. The hypotheses of a query are listed best first, with scores in base 2 as fairseq prints them.
        data: the data-bin that was searched.
        queries: the queries; `D-i` is a hypothesis of query i.

    Returns:
        One ranking per query.

    Raises:
        ValueError: a query has no hypothesis or an unknown number, an item is unknown or repeated, or scores are not
            finite or ascend; the message names the line or the first such query.
    """
    try:
        content = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    except PermissionError as error:
        raise unreadable(path, error) from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); generate it with --results-path") from None
    refuse_packed(path, content)
    lines = content.split(b"\n")
    found: dict[int, Ranking] = {}
    for number, line in enumerate(lines, start=1):
        if line.startswith(b"D-") and line[2:].split(b"\t")[0].isdigit():
            _add(found, line, f"{path}, line {number}", data, len(queries))
    if not found:
        raise ValueError(f"{path}: no line D-<query>; give the file that fairseq-generate wrote, without --quiet")
    for index, query in enumerate(queries):
        if index not in found:
            raise ValueError(
                f"{path}: no hypothesis for query {index} ({query.query_id!r}: {query.text!r}), only {len(found)} of "
                f"{len(queries)} queries have one; generate the whole subset again"
            )
    return [found[index] for index in range(len(queries))]


def _add(found: dict[int, Ranking], line: bytes, where: str, data: DataBin, queries: int) -> None:
    """Parse one D line and add it to `found`; `where` is the file and line for errors, `queries` their number."""
    try:
        columns = line.decode("utf-8").rstrip("\r").split("\t")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: invalid UTF-8 ({error.reason}); run fairseq with PYTHONIOENCODING=utf-8") from None
    if len(columns) != 3:
        raise ValueError(f"{where}: {len(columns)} columns, expected D-<query>, score and item id; generate it again")
    index, item_id = int(columns[0][2:]), columns[2]
    if index >= queries:
        raise ValueError(
            f"{where}: query {index}, but there are only {queries} queries; give the output for this subset or file"
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
        raise ValueError(
            f"{where}: item {item_id!r} is listed twice for query {index}; give a file with one output only"
        )
    if ranking.scores and score > ranking.scores[-1]:
        raise ValueError(
            f"{where}: score {score} after {ranking.scores[-1]}, but hypotheses must be listed best first; give a file "
            "with one output only"
        )
    ranking.rows.append(row)
    ranking.scores.append(score)
    ranking.where.append(where)


def first_outside(rankings: Sequence[Ranking], candidates: set[int]) -> str | None:
    """Return the file and line of the first retrieved item that is not among the candidate rows, or None."""
    for ranking in rankings:
        for row, where in zip(ranking.rows, ranking.where, strict=True):
            if row not in candidates:
                return where
    return None


def measure(queries: Sequence[Query], rankings: Sequence[Ranking]) -> dict[str, float]:
    """Compute recall@1/5/10 and MRR@10 in percent; `rankings[i]` belongs to `queries[i]`."""
    depth = max(len(ranking.rows) for ranking in rankings)
    retrieved = torch.tensor([ranking.rows + [-1] * (depth - len(ranking.rows)) for ranking in rankings])
    targets = torch.tensor([query.item_row for query in queries])
    return metrics_from_counts(metric_counts(ranks_of(retrieved, targets)))


def metric_table(result: Mapping[str, Any]) -> str:
    """Format the metrics and the numbers of queries and candidates as a table of two lines; one more for probabilities.

    Args:
        result: the object that `python -m cart_fairseq.evaluate --json` writes.
    """
    candidates = f"{result['candidates']:,} ({result['candidate_set']})"
    head = (
        "".join(f"{name:>8}" for name in METRIC_LABELS.values()) + f"{'queries':>10}  {'candidates':<18}index captions"
    )
    row = "".join(f"{result[key]:8.2f}" for key in METRIC_LABELS)
    table = f"{head}\n{row}{result['queries']:>10,}  {candidates:<18}{result['index_captions']}"
    if "calibration_error" not in result:
        return table
    return (
        f"{table}\nprobabilities: calibration error {result['calibration_error']:.3f}, AUROC of present against absent "
        f"{result['presence_auroc']:.3f} ({result['presence_queries']:,} queries)"
    )
