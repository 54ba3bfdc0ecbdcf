"""Which valid queries calibrate a model's probabilities, and figures of the probabilities on other queries.

Half of the items of the valid queries calibrate. The figures are of queries with the wanted item among the candidates, and
of the same queries with it taken away: what a search found, without the item. That equals a search without it, as long as
the beam holds the best items and symbols are scored over the whole vocabulary. Items that came after training have expected
identifier scores, which depend on the older items; without the wanted item they are computed anew.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dictionary import PAD
from cart_fairseq.measuring.presence import Numbers, auroc, calibration_error
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.batching import batches
from cart_fairseq.search.calibration import HITS, Calibration, fit
from cart_fairseq.search.dense.younger import ScoresByAge, together
from cart_fairseq.search.result import discounted


def calibrates(item_id: str) -> bool:
    """Whether valid queries of an item calibrate; for about half of all ids, the same in every catalogue."""
    return zlib.crc32(item_id.encode()) % 2 == 0


def calibrating_rows(data: DataBin, rows: Iterable[int]) -> set[int]:
    """Those of the given rows whose items' valid queries calibrate a model.

    A catalogue without valid queries, such as a MODEL folder, does not say whose queries they were. All that may have
    calibrated count there: those of items of any split but ``test``.
    """
    if "valid" in data.subsets:
        asked = set(data.queries("valid", ("item_row",))["item_row"].to_pylist())
        return {row for row in {*rows} & asked if calibrates(data.bundle.item_id(row))}
    return {
        row
        for row in {*rows}
        if calibrates(data.bundle.item_id(row)) and data.bundle.record(row).get("split") != "test"
    }


def calibrate(
    data: DataBin, rows: Tensor, scores: ScoresByAge, targets: Tensor, candidates: int, scoring: str
) -> Calibration | None:
    """Fit the probabilities on the queries of the items that calibrate.

    Args:
        data: the data-bin.
        rows: (Q, K) int64, the items found for each valid query, best first.
        scores: their scores, in the same order.
        targets: (Q,) int64, the row of each query's right item.
        candidates: the number of candidates.
        scoring: how symbols were scored.

    Returns:
        None if too few queries found their item, see :func:`~cart_fairseq.search.calibration.fit`.
    """
    used = torch.tensor([calibrates(data.bundle.item_id(row)) for row in targets.tolist()])
    kept = ScoresByAge(*(each[used] for each in scores))
    right = (rows[used] == targets[used].unsqueeze(1)) & kept.own.isfinite()
    place = torch.where(right.any(1), right.int().argmax(1), -1)
    return fit(kept.among(), place, torch.full((len(place),), candidates), scoring, among=kept.among)


class Outcome(NamedTuple):
    """What a search with probabilities found for Q queries, with the wanted item among the candidates and without it.

    Attributes:
        present, absent: (Q, K) float64, probabilities of the hits, best first; 0 for unused entries.
        right: (Q, K) bool, which hit of ``present`` is the wanted item.
    """

    present: Numbers
    absent: Numbers
    right: NDArray[np.bool_]

    def figures(self) -> dict[str, Any]:
        """Compute figures of the probabilities.

        Returns:
            ``calibration_error`` of each query's best hit, with and without the wanted item; ``presence_auroc`` of the
            sum of a query's probabilities, with the wanted item against without; ``presence_queries``, the number of
            queries.
        """
        best = np.concatenate([self.present[:, 0], self.absent[:, 0]])
        correct = np.concatenate([self.right[:, 0], np.zeros(len(self.right), dtype=bool)])
        return {
            "calibration_error": round(calibration_error(best, correct), 4),
            "presence_auroc": round(auroc(self.present.sum(1), self.absent.sum(1)), 4),
            "presence_queries": len(self.right),
        }


def outcome(
    calibration: Calibration,
    rows: Sequence[Sequence[int]],
    scores: Sequence[Sequence[float]],
    targets: Sequence[int],
    candidates: int,
    without: Tensor | None = None,
) -> Outcome:
    """Compute the probabilities of what a search found, and what they are without the wanted items.

    Args:
        calibration: of the search.
        rows, scores: the items found for each query and their scores, best first.
        targets: the row of each query's right item, which is among the candidates.
        candidates: the number of candidates, at least 2.
        without: (Q, K), the scores of what is found without each query's item, best first, see :func:`scores_without`; None:
            the scores found, without that of the item.
    """
    depth = max(len(each) for each in rows)
    found = torch.tensor([[*each, *[-1] * (depth - len(each))] for each in rows])
    present = torch.tensor([[*each, *[-torch.inf] * (depth - len(each))] for each in scores], dtype=torch.float64)
    right = found == torch.tensor(targets).unsqueeze(1)
    absent = present.masked_fill(right, -torch.inf).sort(1, descending=True).values if without is None else without
    sizes = torch.full((len(found),), candidates)
    there, gone = calibration.probabilities(present, sizes), calibration.probabilities(absent, sizes - 1)
    return Outcome(there.numpy(), gone.numpy(), right.numpy())


def scores_without(
    retriever: CartRetriever, texts: Sequence[str], targets: Sequence[int], candidates: CandidateSet | None
) -> Tensor | None:
    """Compute the scores of what is found without the wanted items, where other items' scores depend on them.

    Args:
        retriever: the model and its data-bin.
        texts: the queries.
        targets: the row of each query's item.
        candidates: the candidate set; None for the whole catalogue.

    Returns:
        (Q, K), at most the ``HITS`` best; -inf marks an unused entry. None if no candidate came after training: the scores
        of the others are those of a search with the item.
    """
    generator = retriever._generator(retriever.beam)
    if generator.ages is None:
        return None
    wanted, symbols = torch.tensor(targets), [retriever.codec.symbols(text) for text in texts]
    parts, order = [], []
    for numbers, net_input in batches(symbols, PAD, retriever.device):
        older, younger = generator.search_by_age(net_input, retriever.data.trie, candidates)
        if younger is None:
            return None
        found, ages = together(older.cpu(), younger.cpu())
        scores = ScoresByAge(found.scores, discounted(found.token_scores, generator.level_discount), ages)
        without = scores.among(found.rows != wanted[numbers].unsqueeze(1))
        parts.append(without.sort(1, descending=True).values[:, :HITS])
        order.append(numbers)
    return torch.cat(parts)[torch.cat(order).argsort()]
