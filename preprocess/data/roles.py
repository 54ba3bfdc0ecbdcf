"""What each caption is used for: training, measuring, or neither; and which items compete in each measured set.

A caption's split is its own or, where it has none, its item's. Roles are ``train``, ``index`` and ``query``; a row
without one is ``query`` where its split is valid or test, else ``train``.

==========  =======================  ========================================
role        split                    subset
==========  =======================  ========================================
``train``   train or none            train
``index``   train or none            train
``index``   valid or test            train; none, or those borrowed, with index captions excluded
``query``   valid / test or none     valid / test
==========  =======================  ========================================

Other combinations contradict themselves and are refused.
"""

import dataclasses
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocess.data.fields import BORROWED, MEASURED, SUBSETS

MAX_HELD_OUT, HELD_OUT_SHARE = 1000, 0.05


@dataclasses.dataclass(frozen=True)
class Caption:
    """One row of ``captions.jsonl`` with everything resolved.

    Attributes:
        number: row number in the file, from 1, as messages give it.
        query_id: its ``caption_id``, or ``q`` and the row number counted from 0.
        item_row: row of its item in the identifier bundle.
        role: train, index or query.
        split: train, valid, test, or None.
        source: what wrote an index caption, where that is known; ``neighbours``: borrowed from training items.
    """

    number: int
    query_id: str
    item_row: int
    text: str
    role: str
    split: str | None
    source: str | None = None


def resolve(
    rows: Sequence[Mapping[str, Any]], row_of: Mapping[str, int], splits: Sequence[str | None], source: str
) -> list[Caption]:
    """Give every caption its role, split and query id.

    Args:
        rows: the validated objects of ``captions.jsonl``, in order.
        row_of: item id -> row of the bundle.
        splits: the split of each of those rows.
        source: the file's name, for messages.

    Raises:
        ValueError: two rows share a query id, or a row's role, split and item contradict each other.
    """
    captions: list[Caption] = []
    numbers: dict[str, int] = {}
    for index, row in enumerate(rows):
        place = f"{source}, row {index + 1}"
        item_row = row_of[row["item_id"]]
        of_item, own = splits[item_row], row.get("split")
        if own is not None and of_item is not None and own != of_item:
            raise ValueError(
                f"{place}: split is {own!r}, but its item {row['item_id']!r} belongs to split {of_item!r}; make them "
                "agree, or give the item no split (it then competes in every measured set)"
            )
        split = own if own is not None else of_item
        role = row.get("role") or ("query" if split in MEASURED else "train")
        if role == "train" and split in MEASURED:
            raise ValueError(
                f"{place}: role is 'train', but its split is {split!r}; use role 'query' for a text that measures, "
                "'index' for one that stands in for the item's content, or split 'train'"
            )
        if role == "query" and split == "train":
            raise ValueError(
                f"{place}: role is 'query', but its split is 'train', which is not measured; use role 'train', or give "
                "the caption split 'valid' or 'test' and its item no split"
            )
        query_id = row.get("caption_id") or f"q{index}"
        if query_id in numbers:
            raise ValueError(
                f"{place}: its query id {query_id!r} is that of row {numbers[query_id]} already; caption_id must be "
                "unique, and none may look like the 'q' + row number that rows without one get"
            )
        numbers[query_id] = index + 1
        captions.append(Caption(index + 1, query_id, item_row, row["text"], role, split, row.get("source")))
    return captions


def assign(captions: Sequence[Caption], index_captions: str) -> dict[str, list[Caption]]:
    """Sort captions into the subsets train, valid and test, in file order; a subset may be empty.

    Args:
        index_captions: which ``index`` captions of valid and test items are trained on: ``include`` all, ``exclude``
            all, or ``borrowed``, those that training items lent, which say nothing that the embeddings do not.
    """
    subsets: dict[str, list[Caption]] = {name: [] for name in SUBSETS}
    for caption in captions:
        if caption.role == "query":
            subsets[caption.split or "test"].append(caption)
        elif (
            caption.split not in MEASURED
            or index_captions == "include"
            or (index_captions == "borrowed" and caption.source == BORROWED)
        ):
            subsets["train"].append(caption)
    return subsets


def trainable(captions: Sequence[Caption], index_captions: str, valid_size: int | None, seed: int) -> list[Caption]:
    """The captions that `binarize` trains on with the same arguments.

    Args:
        index_captions: see `assign`.
        valid_size, seed: see `hold_out`, which takes some away where there are no valid queries.
    """
    subsets = assign(captions, index_captions)
    return subsets["train"] if subsets["valid"] else hold_out(subsets["train"], valid_size, seed)[0]


def hold_out(
    train: Sequence[Caption], size: int | None, seed: int, needed: Container[int] = ()
) -> tuple[list[Caption], list[Caption]]:
    """Take a seeded sample of training captions away to measure on: at most one per item, never an item's only one.

    Preferred are captions that make fair queries: their text is no training caption of any item (not of this one, which
    would be memory; not of another, which would be ambiguous) and has no word that occurs nowhere else. ``train``
    captions come before ``index`` captions; captions of valid and test items are never taken.

    Args:
        size: how many; None means 5 % of the training captions, at least 1 and at most 1,000.
        needed: row numbers of captions that stay even if they are drawn. No others are drawn in their place, so that
            all that are held out are held out without ``needed``, too, as by ``join_captions``.

    Returns:
        The captions that remain and the ones held out, both in file order.
    """
    if size is None:
        size = min(MAX_HELD_OUT, max(1, int(HELD_OUT_SHARE * len(train))))
    words = [tuple(caption.text.casefold().split()) for caption in train]
    per_item = Counter(caption.item_row for caption in train)
    per_text = Counter(words)
    per_item_text = Counter((caption.item_row, text) for caption, text in zip(train, words))
    per_word = Counter(word for text in words for word in set(text))

    def preference(i: int) -> tuple[bool, bool, bool, bool]:
        caption, text = train[i], words[i]
        own = per_item_text[caption.item_row, text]
        return own > 1, caption.role != "train", per_text[text] > own, any(per_word[word] == 1 for word in text)

    eligible = [i for i, c in enumerate(train) if c.split not in MEASURED and per_item[c.item_row] > 1]
    shuffled = np.random.default_rng(seed).permutation(len(eligible))
    chosen: dict[int, int] = {}
    for i in sorted((eligible[j] for j in shuffled), key=preference):
        if len(chosen) == size:
            break
        chosen.setdefault(train[i].item_row, i)
    held = {i for i in chosen.values() if train[i].number not in needed}
    return [c for i, c in enumerate(train) if i not in held], [c for i, c in enumerate(train) if i in held]


def candidate_rows(
    splits: Sequence[str | None] | pa.ChunkedArray,
    subset: str,
    held_out: bool = False,
    removed: np.ndarray | None = None,
) -> np.ndarray:
    """Rows of the items that compete in a measured set.

    Args:
        splits: the split of each item.
        subset: ``all``, ``valid`` or ``test``: every item, or the items of that split and those without a split.
        held_out: the set's queries were held out of training, so training items compete too.
        removed: rows of items that compete nowhere.

    Returns:
        (C,) int64, ascending.
    """
    if not isinstance(splits, pa.ChunkedArray):
        splits = pa.chunked_array([splits], pa.string())
    competes = np.ones(len(splits), dtype=bool)
    if subset != "all":
        allowed = [None, subset, "train"] if held_out else [None, subset]
        competes[:] = pc.is_in(splits, value_set=pa.array(allowed, pa.string())).to_numpy()
    if removed is not None:
        competes[removed] = False
    return np.flatnonzero(competes)
