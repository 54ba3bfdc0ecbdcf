"""Chooses the ranking weights on the valid queries.

First it chooses the level discount with identifier scores only. Then, if the model has a dense head, it chooses the
weight of the dense score and the share of the items' priors together. One search is enough for all discounts, because
they change only the order of the items found. The weights and shares have one search, too: it is guided by values in
their middle, and its beam is so wide that it holds the best items at all of them. The expected identifier scores of items
that came after training depend on the setting; they are computed anew for each. What the search found also calibrates the
probabilities of hits, on half of the queries.
"""

import dataclasses
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cart_fairseq.base.checks import checks_settings
from cart_fairseq.base.files import is_still, locked_file, refuse_unwritable
from cart_fairseq.base.progress import Progress
from cart_fairseq.base.settings import BEAM, CALIBRATION_PARAMETERS, RERANKED_BEAM, TuningSettings
from cart_fairseq.catalogue.dictionary import PAD
from cart_fairseq.catalogue.held_files import Stamp, identity
from cart_fairseq.loading.checkpoint import read_checkpoint, write_checkpoint
from cart_fairseq.loading.model_folder import is_model_folder
from cart_fairseq.measuring.labels import METRIC_NAMES
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts, ranks_of
from cart_fairseq.publishing.renewing import store_search_files
from cart_fairseq.queries.item_priors import prior_bias, priors_of
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.batching import batches
from cart_fairseq.search.calibration import Calibration
from cart_fairseq.search.dense.younger import ScoresByAge, together
from cart_fairseq.search.result import discounted
from cart_fairseq.search.setup import make_generator
from cart_fairseq.steps.calibrating import calibrate

CRITERION = METRIC_NAMES[-1]
DISCOUNT_STATE, WEIGHT_STATE, SHARE_STATE = "level_discount", "dense.weight", "dense.prior_share"
CALIBRATION_STATE = "calibration"
Figures = dict[float, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The result of :func:`tune`.

    Attributes:
        discount, weight, share: the best level discount, dense weight and share of priors; weight and share are 0
            without a dense head.
        beam: beam width of the search with the dense head, or of the only one.
        candidates: ``split`` or ``all``.
        discounts, weights, shares: metrics in percent for each setting that was compared: the weights with the best
            share, the shares with the best weight.
        kept: the chosen values by their names in the checkpoint's state dict.
        calibration: the parameters of hits' probabilities; None if too few queries found their item.
    """

    discount: float
    weight: float
    share: float
    beam: int
    candidates: str
    discounts: Figures
    weights: Figures
    shares: Figures
    kept: dict[str, float]
    calibration: Calibration | None = None

    def tables(self) -> str:
        """Format the metrics, one line per setting, with the best settings marked."""
        parts = [_table("discount", self.discounts, self.discount)]
        if WEIGHT_STATE in self.kept:
            parts.append(_table("weight", self.weights, self.weight))
            parts.append(_table("share", self.shares, self.share))
        return "\n\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Return settings and metrics for a JSON file."""
        return {
            "best": self.weight,
            "discount": self.discount,
            "share": self.share,
            "beam": self.beam,
            "candidates": self.candidates,
            "weights": _rows("weight", self.weights),
            "discounts": _rows("discount", self.discounts),
            "shares": _rows("share", self.shares),
            "calibration": None if self.calibration is None else self.calibration._asdict(),
        }


class Found(NamedTuple):
    """The items that one search found for Q queries, sorted by the undiscounted sum of their symbols' scores.

    Items that came after training follow the others. Of either, there are as many as the beam is wide.

    Attributes:
        beam: beam width of the search.
        rows: (Q, K) int64 item rows; -1 marks an unused entry.
        targets: (Q,) int64, the row of each query's right item.
        token_scores: (Q, K, J) float32, each symbol's natural-log probability; 0 for items that came after training, -inf for
            unused entries.
        dense: (Q, K) float32, the dense score at weight 1, without priors; 0 without a dense head.
        priors: (Q, K) float32, the prior of each item; 0 without a dense head.
        younger: (Q, K) bool, which items came after training, and are therefore ranked by their dense scores.
    """

    beam: int
    rows: Tensor
    targets: Tensor
    token_scores: Tensor
    dense: Tensor
    priors: Tensor
    younger: Tensor

    def figures(self, discount: float, weight: float = 0.0, share: float = 0.0) -> dict[str, float]:
        """Metrics in percent, with the items ranked by these settings."""
        rows = self.ranked(discount, weight, share)[0][:, : self.beam]
        return metrics_from_counts(metric_counts(ranks_of(rows, self.targets)))

    def ranked(self, discount: float, weight: float = 0.0, share: float = 0.0) -> tuple[Tensor, ScoresByAge]:
        """Rows (Q, K) int64, ranked by these settings, and their scores, float32."""
        identifiers = discounted(self.token_scores, discount)
        scores = ScoresByAge(identifiers + weight * (self.dense - share * self.priors), identifiers, self.younger)
        order = scores.among().sort(dim=1, descending=True, stable=True).indices
        return self.rows.gather(1, order), scores.ordered(order)


def search_subset(
    retriever: CartRetriever,
    subset: str,
    candidates: str,
    beam: int,
    discount: float = 1.0,
    weight: float = 0.0,
    share: float = 0.0,
) -> Found:
    """Search for the queries of a subset.

    Args:
        retriever: the model and its data-bin.
        subset: the subset of the queries.
        candidates: name of the candidate set.
        beam: beam width.
        discount, weight, share: level discount, weight of the dense score and share of priors that guide the search.

    Raises:
        ValueError: the data-bin has no such subset.
    """
    data, codec = retriever.data, retriever.codec
    queries = data.queries(subset, ("text", "item_row"))
    wanted = queries["item_row"].to_numpy().astype(np.int64)
    symbols = [codec.symbols(text) for text in queries["text"].to_pylist()]
    bias = prior_bias(retriever.models, data, share, weight) if weight else None
    priors = torch.zeros(len(data.bundle)) if bias is None else priors_of(retriever.models, data, weight).cpu()
    generator = make_generator(
        retriever.models, data, beam, scoring=retriever.scoring, dense_weight=weight, level_discount=discount, bias=bias
    )
    space = data.search_space(candidates)
    parts = []
    with Progress(len(symbols), f"searching {subset}", "queries") as progress:
        for numbers, net_input in batches(symbols, PAD, retriever.device):
            older, younger = generator.search_by_age(net_input, *space)
            older = older.ordered(older.token_scores.sum(2).argsort(dim=1, descending=True, stable=True)).cpu()
            found, ages = together(older, None if younger is None else younger.cpu())
            found.refuse_nothing(numbers.tolist())
            dense, prior, there = torch.zeros_like(found.scores), priors[found.rows], found.scores.isfinite()
            if weight:
                alone = discounted(found.token_scores, discount)
                dense = torch.where(there, (found.scores - alone) / weight + share * prior, 0.0)
            targets = torch.from_numpy(wanted[numbers.numpy()])
            scores = found.token_scores.masked_fill(~there.unsqueeze(2), float("-inf"))
            parts.append((found.rows.masked_fill(~there, -1), targets, scores, dense, prior, ages))
            progress.update(len(numbers))
    return Found(beam, *(torch.cat(column) for column in zip(*parts, strict=True)))


def best_discount(figures: Mapping[float, Mapping[str, float]]) -> float:
    """Return the discount with the best MRR@10; of equally good ones the largest."""
    return max(sorted(figures, reverse=True), key=lambda discount: figures[discount][CRITERION])


def best_pair(figures: Mapping[tuple[float, float], Mapping[str, float]]) -> tuple[float, float]:
    """Return the weight and share with the best MRR@10; of equally good ones the smallest."""
    return max(sorted(figures), key=lambda pair: figures[pair][CRITERION])


def keep(path: Path, values: Mapping[str, float | list[float]], tuned: Stamp | None = None) -> None:
    """Write values into the model's state in a checkpoint, atomically.

    Args:
        path: the checkpoint.
        values: by their names in the state dict.
        tuned: identity of the file that the values were chosen for; None for any.

    Raises:
        ValueError: another file has taken its place, or another process is writing to it.
    """
    try:
        with locked_file(os.path.realpath(path)) as file:
            if not is_still(file, path) or tuned not in (None, identity(path)):
                raise ValueError(f"{path}: was replaced by another checkpoint while it was tuned; tune again")
            state = read_checkpoint(path)
            state["model"] |= {name: torch.tensor(value) for name, value in values.items()}
            write_checkpoint(path, state)
    except BlockingIOError:
        raise ValueError(f"{path}: another process is writing to it; tune again when it has ended") from None


def _table(head: str, figures: Mapping[float, Mapping[str, float]], best: float) -> str:
    """Format the metrics, one line per setting, with the best setting marked."""
    lines = ["".join([f"{head:>9}", *(f"{name:>15}" for name in METRIC_NAMES)])]
    for setting, row in figures.items():
        mark = "*" if setting == best else " "
        lines.append("".join([f"{mark}{setting:>8g}", *(f"{row[name]:>15.1f}" for name in METRIC_NAMES)]))
    return "\n".join(lines)


def _rows(head: str, figures: Figures) -> list[dict[str, float]]:
    return [{head: setting, **row} for setting, row in figures.items()]


@checks_settings
def tune(path: Path, data: Path, settings: TuningSettings | None = None) -> Tuning:
    """Choose discount, dense weight and share of priors by MRR@10 on the valid queries, and store them in the checkpoint.

    With them the probabilities of hits are calibrated, on half of the queries, and stored. The items' priors, and for a large catalogue the statistics that look-ahead needs, are written into the data-bin.

    Args:
        path: the checkpoint.
        data: the data-bin on which it was trained.
        settings: the values to compare and options of the search.

    Raises:
        ValueError: the data-bin has no valid queries; the checkpoint is an ensemble or a MODEL folder, cannot be read, does not belong to it, or was
            replaced in the meantime.
        TypeError: ``settings`` has another type.
    """
    settings = settings or TuningSettings()
    if is_model_folder(path):
        raise ValueError(
            f"{path}: is a MODEL folder, which has no queries to tune on; tune the checkpoint, then export it again"
        )
    opened = identity(path)
    retriever = CartRetriever.from_pretrained(
        path, data=data, beam=settings.beam, precision="float32", scoring=settings.scoring
    )
    if len(retriever.models) > 1:
        raise ValueError(f"{path}: is an ensemble; tune each checkpoint by itself, and search with all of them then")
    if settings.keep:
        refuse_unwritable(path)
    competing = "valid" if settings.candidates == "split" else "all"
    beam = settings.beam or BEAM
    plain = found = search_subset(retriever, "valid", competing, beam)
    discounts = {discount: found.figures(discount) for discount in settings.discounts}
    discount = best_discount(discounts)
    kept = {DISCOUNT_STATE: discount}
    weights, weight, shares, share = {0.0: discounts[discount]}, 0.0, {0.0: discounts[discount]}, 0.0
    if all(model.dense is not None for model in retriever.models):
        beam = settings.beam or RERANKED_BEAM
        above = [each for each in settings.weights if each > 0]
        if above:
            guides = statistics.median(above), statistics.median(settings.shares)
            found = search_subset(retriever, "valid", competing, beam, discount, *guides)
        # without a dense score priors have no effect
        pairs = [(w, s) for w in settings.weights for s in settings.shares if w or s == min(settings.shares)]
        figures = {pair: found.figures(discount, *pair) if pair[0] else discounts[discount] for pair in pairs}
        weight, share = best_pair(figures)
        weights = {w: figures[w, share if w else min(settings.shares)] for w in settings.weights}
        shares = {s: figures[weight, s] for s in settings.shares if (weight, s) in figures}
        kept |= {WEIGHT_STATE: weight, SHARE_STATE: share}
    ranked = found.ranked(discount, weight, share) if weight else plain.ranked(discount)
    competitors = retriever.data.search_space(competing).candidates or retriever.data.trie
    calibration = calibrate(retriever.data, *ranked, found.targets, len(competitors), settings.scoring)
    if settings.keep:
        stored = [0.0] * CALIBRATION_PARAMETERS if calibration is None else calibration.stored()
        keep(path, {**kept, CALIBRATION_STATE: stored}, opened)
        for model in retriever.models:
            if model.dense is not None:
                model.dense.prior_share.fill_(share)
        store_search_files(retriever.models, retriever.data)
    figures_of = (discounts, weights, shares)
    return Tuning(discount, weight, share, beam, settings.candidates, *figures_of, kept, calibration)
