"""CartRetriever: ranks items for text queries, from Python."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dictionary import PAD
from cart_fairseq.network.model import CART
from cart_fairseq.network.precision import convert
from cart_fairseq.query_codec import QueryCodec
from cart_fairseq.search.batching import batches
from cart_fairseq.search.generator import own_discount
from cart_fairseq.search.setup import make_generator
from cart_fairseq.settings import BEAM, DEFAULT_SCORING, RERANKED_BEAM

Candidates = str | CandidateSet | Iterable[str] | None
"""Name of a candidate set, a prepared set, item ids, or None for the whole catalogue."""


@dataclass(frozen=True)
class Hit:
    """One retrieved item.

    Attributes:
        item_id: the item's id.
        score: the sum of the natural-log probabilities of its identifier's symbols, discounted by level, plus the
            weighted dense score. Higher is better.
        record: the item's object in ``items.jsonl`` (``media``, ``split`` …).
        row: the item's row in the catalogue.
    """

    item_id: str
    score: float
    record: dict[str, Any] = field(compare=False)
    row: int = -1


class CartRetriever:
    """Searches a catalogue with a trained model. ``from_pretrained`` opens one from files.

    Args:
        models: trained ``cart`` models of one data-bin; several form an ensemble.
        data: the models' data-bin.
        beam: beam width (default: 30, or 200 with a dense head); a search for more items uses a wider beam.
        scoring: ``masked`` or ``renormalised``.
        dense_weight: weight of the dense score in ranking (default: the models' own).
        level_discount: weight of each symbol's score relative to the previous symbol's (default: the models' own).
    """

    def __init__(
        self,
        models: Sequence[CART],
        data: DataBin,
        beam: int | None = None,
        scoring: str = DEFAULT_SCORING,
        dense_weight: float | None = None,
        level_discount: float | None = None,
    ):
        self.data = data
        self.dense_weight = dense_weight
        self.level_discount = own_discount(models) if level_discount is None else level_discount
        reranked = dense_weight != 0 and all(model.dense is not None for model in models)
        self.beam = beam or (RERANKED_BEAM if reranked else BEAM)
        self.scoring = scoring
        self.models = list(models)
        self.device = next(self.models[0].parameters()).device
        self.codec = QueryCodec(data)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        data: str | Path,
        beam: int | None = None,
        device: str | torch.device | None = None,
        precision: str = "float32",
        scoring: str = DEFAULT_SCORING,
        dense_weight: float | None = None,
        level_discount: float | None = None,
    ) -> "CartRetriever":
        """Load a checkpoint, or an ensemble (paths joined by colons).

        Args:
            path: ``checkpoint_best.pt``, or ``a.pt:b.pt``.
            data: the data-bin on which the models were trained.
            beam: beam width (default: 30, or 200 with a dense head).
            device: device of the search (default: a GPU if there is one).
            precision: ``float32``, ``bf16``, ``fp16``, or ``int8``, which works on CPUs only.
            scoring: ``masked`` takes the softmax over all symbols and ignores invalid ones; ``renormalised`` takes it
                over the valid symbols alone.
            dense_weight: weight of the dense score in ranking, for models with a dense head; 0 ranks by identifiers
                alone (default: the models' own, which ``cart_fairseq.tune`` sets).
            level_discount: weight of each symbol's score relative to the previous symbol's; 1: equal (default: the
                models' own).

        Raises:
            ValueError: a checkpoint is missing, damaged, unsafe, of another task, or belongs to other identifiers; or
                the precision is unknown.
        """
        from cart_fairseq.tasks.checkpoints import load_models  # fairseq takes seconds to import

        models, opened = load_models(path, data)
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        models = [convert(model.to(target).eval(), precision) for model in models]
        return cls(models, opened, beam, scoring, dense_weight, level_discount)

    def candidate_set(self, candidates: Candidates) -> CandidateSet | None:
        """Prepare candidates once for several searches.

        Args:
            candidates: the name of a candidate set (``all``, ``valid``, ``test``), item ids, a set prepared before, or
                None for the whole catalogue.

        Returns:
            The set for ``search``; None if nothing restricts the search.

        Raises:
            ValueError: a name or an item id is unknown, or there is no candidate.
        """
        data = self.data
        if candidates is None or isinstance(candidates, str):
            return data.search_space(candidates or "all").candidates
        return (
            candidates
            if isinstance(candidates, CandidateSet)
            else data.candidate_set(data.bundle.rows_of([*candidates]))
        )

    def search(
        self, texts: Sequence[str], k: int = 10, candidates: Candidates | Sequence[Candidates] = None
    ) -> list[list[Hit]]:
        """Rank items for each query.

        Args:
            texts: the queries.
            k: number of items per query; with fewer candidates, fewer items are returned.
            candidates: the items that may be found: the name of a candidate set (``all``, ``valid``, ``test``), item
                ids, the result of ``candidate_set``, or None for the whole catalogue. Or a list with one entry per
                query, each None, item ids or a result of ``candidate_set``. A list of strings is item ids.

        Returns:
            One list of hits per query, best first.

        Raises:
            ValueError: k is below 1, a query is empty, a candidate is unknown, there is no candidate, or ``scoring`` is
                unknown.
        """
        if isinstance(texts, str):
            raise ValueError("texts is one string; give a list of queries")
        if k < 1:
            raise ValueError(f"k is {k}; ask for at least 1 item")
        for row, text in enumerate(texts):
            if not text.strip():
                raise ValueError(f"query {row} is empty; give it some text")
        allowed = self._per_query(candidates, len(texts))
        generator = make_generator(
            self.models,
            self.data,
            max(self.beam, k),
            scoring=self.scoring,
            dense_weight=self.dense_weight,
            level_discount=self.level_discount,
        )
        symbols = [self.codec.symbols(text) for text in texts]
        results: list[list[Hit]] = [[] for _ in texts]
        for numbers, net_input in batches(symbols, PAD, self.device):
            queries = numbers.tolist()
            found = generator.search(net_input, self.data.trie, [allowed[query] for query in queries]).cpu()
            rows, scores = found.rows[:, :k].tolist(), found.scores[:, :k].tolist()
            for query, query_rows, query_scores in zip(queries, rows, scores, strict=True):
                results[query] = [
                    self._hit(row, score)
                    for row, score in zip(query_rows, query_scores, strict=True)
                    if score > float("-inf")
                ]
        return results

    def _hit(self, row: int, score: float) -> Hit:
        bundle = self.data.bundle
        return Hit(bundle.item_id(row), score, bundle.record(row), row)

    def _per_query(self, candidates: Candidates | Sequence[Candidates], queries: int) -> list[CandidateSet | None]:
        if candidates is None or isinstance(candidates, str | CandidateSet):
            return [self.candidate_set(candidates)] * queries
        given: list[Any] = list(candidates)
        if all(isinstance(each, str) for each in given):
            return [self.candidate_set(given)] * queries
        if any(isinstance(each, str) for each in given):
            raise ValueError("candidates mixes item ids with sets; give item ids alone, or one set for each query")
        if len(given) != queries:
            raise ValueError(f"{len(given)} candidate sets for {queries} queries; give one each, or one for all")
        return [self.candidate_set(each) for each in given]
