"""The dual tower of a join beside the model: how well it finds old and new items, without any training on the new ones.

It is the pair of towers from which the recipe's identifiers are built (``join_captions --align``), alone and exhaustive.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joined_towers import JoinedTowers

from cart_fairseq.base.reading import read_jsonl
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts
from preprocess.data import joined_folder
from preprocess.data.inputs import read_items


class Tower:
    """A dual tower and the items that it finds.

    Args:
        fitted: the folder of the join that trained it.
        joins: folders of joins whose aligned rows are the items, each with the items.jsonl that it was made from.
    """

    def __init__(self, fitted: Path, joins: Sequence[tuple[Path, Path]]):
        self.towers = JoinedTowers(fitted)
        self.rows = np.concatenate([np.load(join / joined_folder.ALIGNED) for join, _ in joins]).astype(np.float32)
        ids = [str(item["item_id"]) for _, items in joins for item in read_items(items)]
        self.row_of = {item_id: row for row, item_id in enumerate(ids)}

    def measure(self, queries: Path, candidates: Sequence[str] | None = None) -> dict[str, Any]:
        """Rank candidates for queries.

        Args:
            queries: captions.jsonl of the queries.
            candidates: item ids; None for all items.

        Returns:
            Metrics in percent, and the numbers of queries and candidates.
        """
        asked = read_jsonl(queries)
        rows = np.array([self.row_of[each] for each in candidates]) if candidates else np.arange(len(self.rows))
        column = {int(row): place for place, row in enumerate(rows)}
        targets = np.array([column[self.row_of[query["item_id"]]] for query in asked])
        scores = self.towers.queries([query["text"] for query in asked]) @ self.rows[rows].T
        own = np.take_along_axis(scores, targets[:, None], 1)
        counts = metric_counts(torch.from_numpy((scores >= own).sum(1)))  # items with an equal score come first
        return {**metrics_from_counts(counts), "queries": len(asked), "candidates": len(rows)}
