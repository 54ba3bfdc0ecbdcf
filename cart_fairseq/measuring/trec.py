"""Writes TREC run and qrels files for trec_eval, ranx and pyserini.

A run line is ``query Q0 item rank score tag``, a qrels line ``query 0 item 1``. Columns are separated by blanks.
Therefore blanks, percent signs, control characters and non-ASCII characters in ids are percent-encoded;
``urllib.parse.unquote`` decodes them. Ordinary ids (``1000268201.jpg#0``) do not change.
"""

import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from cart_fairseq.base.files import replacing

PLAIN = string.punctuation.replace("%", "")


def encode_id(name: str) -> str:
    """Encode an id as one column of printable ASCII.

    >>> encode_id("my dog.jpg#0"), encode_id("100%"), encode_id("é")
    ('my%20dog.jpg#0', '100%25', '%C3%A9')
    """
    return quote(name, safe=PLAIN)


def strictly_descending(scores: Sequence[float]) -> np.ndarray:
    """Make scores strictly descending in float32, so that every reader keeps the order of the ranks.

    trec_eval ignores the rank column, sorts by float32 scores and breaks ties by item id. A score that is not below its
    predecessor is replaced by the next float32 below the predecessor.

    Args:
        scores: (K,) finite numbers, best first.

    Returns:
        (K,) float32, strictly descending.

    >>> strictly_descending([-1.0, -1.0, -2.0]).tolist()
    [-1.0, -1.0000001192092896, -2.0]
    """
    out = np.asarray(scores, dtype=np.float32)
    for place in range(1, len(out)):
        out[place] = min(out[place], np.nextafter(out[place - 1], np.float32(-np.inf)))
    return out


def write_run(
    path: str | Path, results: Iterable[tuple[str, Sequence[str], Sequence[float]]], tag: str = "cart"
) -> None:
    """Write a run, atomically.

    Args:
        path: the file.
        results: for each query its id, the ids of the retrieved items, best first, and their scores.
        tag: name of the system, one word.
    """
    with replacing(path) as new, open(new, "w", encoding="ascii", newline="\n") as file:
        for query_id, item_ids, scores in results:
            query = encode_id(query_id)
            hits = zip(item_ids, strictly_descending(scores), strict=True)
            file.writelines(
                f"{query} Q0 {encode_id(item_id)} {rank} {score} {tag}\n"
                for rank, (item_id, score) in enumerate(hits, 1)
            )


def write_qrels(path: str | Path, relevant: Iterable[tuple[str, str]]) -> None:
    """Write relevance judgements, atomically.

    Args:
        path: the file.
        relevant: for each query its id and the id of its right item.
    """
    with replacing(path) as new, open(new, "w", encoding="ascii", newline="\n") as file:
        file.writelines(f"{encode_id(query_id)} 0 {encode_id(item_id)} 1\n" for query_id, item_id in relevant)
