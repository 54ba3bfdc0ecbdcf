"""The subsets of a data-bin (train, valid, test): captions and identifiers as fairseq's indexed data sets, and a table.

Row i of ``queries.SUBSET.parquet`` says what example i of the indexed data sets is.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cart_fairseq.base.parquet import read_table, write_table
from cart_fairseq.catalogue.data_bin import REMEDY, queries_file
from cart_fairseq.catalogue.errors import reading
from cart_fairseq.queries.codec import beginning
from preprocess.data.roles import Caption
from preprocess.data_bin.vocabulary import EOS, UNK, Vocabulary

SIDES = ("query", "id")


def files_of(subset: str) -> list[str]:
    """The names of a subset's files, its table first."""
    return [queries_file(subset), *(f"{subset}.query-id.{s}.{end}" for s in SIDES for end in ("bin", "idx"))]


def encode_queries(captions: Sequence[Caption], vocabulary: Vocabulary, source: str, limit: int) -> list[list[int]]:
    """Symbols of each caption, the end of sentence last. Of a long text only the part is read that ``limit`` keeps.

    Raises:
        ValueError: nothing is left of a text once it is normalised.
    """
    queries = vocabulary.encode([beginning(caption.text, limit) for caption in captions])
    for caption, query in zip(captions, queries):
        if not query:
            raise ValueError(
                f"{source}, row {caption.number}: text is {caption.text!r}, of which nothing is left once invisible "
                "characters are removed; write a text or remove the row"
            )
        query.append(EOS)
    return queries


def cut_queries(queries: list[list[int]], limit: int, subset: str) -> list[str]:
    """Cut queries to ``limit`` symbols, in place; return notes on what was cut and on letters never trained on."""
    notes = []
    unknown = sum(UNK in query for query in queries)
    if unknown:
        notes.append(f"{subset}: {unknown} of {len(queries)} queries have letters the vocabulary lacks (read as <unk>)")
    too_long = [query for query in queries if len(query) > limit]
    for query in too_long:
        query[limit - 1 :] = [EOS]
    if too_long:
        notes.append(f"{subset}: {len(too_long)} of {len(queries)} queries were cut to {limit} tokens")
    return notes


def write_subset(
    directory: Path, subset: str, captions: Sequence[Caption], queries: Sequence[Sequence[int]], symbols: np.ndarray
) -> None:
    """Write one subset: the query side, the identifier side and ``queries.SUBSET.parquet``.

    Args:
        queries: symbols of the query dictionary, end of sentence included, one list a caption.
        symbols: (N, J) int64, identifiers in symbols of the target dictionary.
    """
    from cart_fairseq.tasks.indexed_pairs import write_sequences  # imports fairseq, which takes seconds

    targets = ([*symbols[caption.item_row], EOS] for caption in captions)
    write_sequences(directory / f"{subset}.query-id.query", queries)
    write_sequences(directory / f"{subset}.query-id.id", targets)
    columns = {
        "query_id": pa.array([caption.query_id for caption in captions], pa.string()),
        "item_row": pa.array([caption.item_row for caption in captions], pa.int64()),
        "text": pa.array([caption.text for caption in captions], pa.string()),
        "role": pa.array([caption.role for caption in captions], pa.string()),
    }
    write_table(pa.table(columns), directory / queries_file(subset))


def keep_rows(source: Path, target: Path, subset: str, new_row: np.ndarray) -> int:
    """Write to ``target`` what of a subset in ``source`` has to change where rows of items were removed or renumbered.

    Args:
        source, target: folders; the indexed data sets are written only where examples drop out.
        new_row: (N,) int64, the new row of each item; -1 for an item that is no more.

    Returns:
        How many examples are left; where none is, nothing is written.
    """
    path = source / queries_file(subset)
    with reading(path, REMEDY):
        table = read_table(path)
        rows = new_row[table["item_row"].to_numpy()]
    kept = np.flatnonzero(rows >= 0)
    if not len(kept):
        return 0
    column = table.schema.get_field_index("item_row")
    table = table.set_column(column, "item_row", pa.array(rows, pa.int64())).filter(pc.greater_equal(pa.array(rows), 0))
    write_table(table, target / path.name)
    if len(kept) < len(rows):
        from cart_fairseq.tasks.indexed_pairs import copy_sequences

        for side in SIDES:
            prefix = f"{subset}.query-id.{side}"
            copy_sequences(source / prefix, target / prefix, kept.tolist())
    return len(kept)
