"""Find how to order what a beam found, on the valid queries.

First the weight of each symbol's score relative to the previous symbol's, by the identifiers alone; then, where the model
has a dense head, the weight of its score. One search serves all: the beam is the same, only its order differs.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cart_fairseq.catalogue.dictionary import PAD
from cart_fairseq.loading.checkpoint import read_checkpoint, write_checkpoint
from cart_fairseq.measuring.labels import METRIC_NAMES
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts, ranks_of
from cart_fairseq.progress import Progress
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.batching import batches
from cart_fairseq.search.result import discounted
from cart_fairseq.search.setup import make_generator
from cart_fairseq.settings import TuningSettings

CRITERION = METRIC_NAMES[-1]
DISCOUNT_STATE, WEIGHT_STATE = "level_discount", "dense.weight"
Figures = dict[float, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What :func:`tune` found.

    Attributes:
        discount, weight: the best; weight is 0 where there is no dense head.
        beam: beam width of the search; candidates: ``split`` or ``all``.
        discounts, weights: metrics in percent for each setting that was compared.
        kept: what searches with the checkpoint use now, by its name in the state dict.
    """

    discount: float
    weight: float
    beam: int
    candidates: str
    discounts: Figures
    weights: Figures
    kept: dict[str, float]

    def tables(self) -> str:
        """A line a setting, the best ones marked."""
        parts = [_table("discount", self.discounts, self.discount)]
        if WEIGHT_STATE in self.kept:
            parts.append(_table("weight", self.weights, self.weight))
        return "\n\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Settings and figures as they stand in JSON."""
        return {
            "best": self.weight,
            "discount": self.discount,
            "beam": self.beam,
            "candidates": self.candidates,
            "weights": _rows("weight", self.weights),
            "discounts": _rows("discount", self.discounts),
        }


class Found(NamedTuple):
    """What one search found for Q queries, in the order of the plain sum of symbols' scores.

    Attributes:
        rows: (Q, K) int64 item rows, and targets: (Q,) int64 those that are looked for.
        token_scores: (Q, K, J) float32, natural-log probabilities.
        dense: (Q, K) float32, the dense head's score at weight 1; 0 where there is none.
    """

    rows: Tensor
    targets: Tensor
    token_scores: Tensor
    dense: Tensor

    def figures(self, discount: float, weight: float = 0.0) -> dict[str, float]:
        """Metrics in percent, with the beam in the order of these settings."""
        scores = discounted(self.token_scores, discount) + weight * self.dense
        order = scores.argsort(dim=1, descending=True, stable=True)
        return metrics_from_counts(metric_counts(ranks_of(self.rows.gather(1, order), self.targets)))


def search_subset(retriever: CartRetriever, subset: str, candidates: str) -> Found:
    """Search for the queries of a subset.

    Args:
        retriever: of a model.
        subset: whose queries are asked.
        candidates: name of the candidate set that competes.

    Raises:
        ValueError: the data-bin has no such subset.
    """
    data, codec = retriever.data, retriever.codec
    queries = data.queries(subset, ("text", "item_row"))
    wanted = queries["item_row"].to_numpy().astype(np.int64)
    symbols = [codec.symbols(text) for text in queries["text"].to_pylist()]
    generator = make_generator(
        retriever.models, data, retriever.beam, scoring=retriever.scoring, dense_weight=1.0, level_discount=1.0
    )
    space = data.search_space(candidates)
    parts = []
    with Progress(len(symbols), f"searching {subset}", "queries") as progress:
        for numbers, net_input in batches(symbols, PAD, retriever.device):
            found = generator.search(net_input, *space).cpu()
            alone = found.token_scores.sum(2)
            dense = torch.where(found.scores.isfinite(), found.scores - alone, 0.0)
            plain = alone.argsort(dim=1, descending=True, stable=True)
            deep = plain.unsqueeze(2).expand(-1, -1, found.tokens.size(2))
            targets = torch.from_numpy(wanted[numbers.numpy()])
            scores = found.token_scores.gather(1, deep)
            parts.append(Found(found.rows.gather(1, plain), targets, scores, dense.gather(1, plain)))
            progress.update(len(numbers))
    return Found(*(torch.cat(column) for column in zip(*parts, strict=True)))


def best_discount(figures: Mapping[float, Mapping[str, float]]) -> float:
    """The discount with the best MRR@10; of equal ones that nearest to 1."""
    return max(sorted(figures, reverse=True), key=lambda discount: figures[discount][CRITERION])


def best_weight(figures: Mapping[float, Mapping[str, float]]) -> float:
    """The weight with the best MRR@10; of equal ones the smallest."""
    return max(sorted(figures), key=lambda weight: figures[weight][CRITERION])


def keep(path: Path, values: Mapping[str, float]) -> None:
    """Write values into a checkpoint, which stays whole if this is killed."""
    state = read_checkpoint(path)
    state["model"] |= {name: torch.tensor(value) for name, value in values.items()}
    write_checkpoint(path, state)


def _table(head: str, figures: Mapping[float, Mapping[str, float]], best: float) -> str:
    """A line a setting, the best one marked."""
    lines = ["".join([f"{head:>9}", *(f"{name:>15}" for name in METRIC_NAMES)])]
    for setting, row in figures.items():
        mark = "*" if setting == best else " "
        lines.append("".join([f"{mark}{setting:>8g}", *(f"{row[name]:>15.1f}" for name in METRIC_NAMES)]))
    return "\n".join(lines)


def _rows(head: str, figures: Figures) -> list[dict[str, float]]:
    return [{head: setting, **row} for setting, row in figures.items()]


def tune(path: Path, data: Path, settings: TuningSettings | None = None) -> Tuning:
    """Find the best discount and dense weight by MRR@10 on the valid queries, and keep them in the checkpoint.

    Args:
        path: the checkpoint; data: the data-bin that it was trained on.

    Raises:
        ValueError: the data-bin has no valid queries, or the checkpoint cannot be read or does not belong to it.
    """
    settings = settings or TuningSettings()
    retriever = CartRetriever.from_pretrained(path, data=data, beam=settings.beam, scoring=settings.scoring)
    found = search_subset(retriever, "valid", "valid" if settings.candidates == "split" else "all")
    discounts = {discount: found.figures(discount) for discount in settings.discounts}
    discount = best_discount(discounts)
    kept = {DISCOUNT_STATE: discount}
    weights, weight = {0.0: discounts[discount]}, 0.0
    if all(model.dense is not None for model in retriever.models):
        weights = {each: found.figures(discount, each) for each in settings.weights}
        weight = kept[WEIGHT_STATE] = best_weight(weights)
    if settings.keep:
        keep(path, kept)
    return Tuning(discount, weight, retriever.beam, settings.candidates, discounts, weights, kept)
