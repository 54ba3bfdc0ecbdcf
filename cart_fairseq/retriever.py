"""CartRetriever: ranks items for text queries, from Python."""

import os
import textwrap
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dictionary import PAD
from cart_fairseq.checks import check_count, is_encodable
from cart_fairseq.item_priors import prior_bias
from cart_fairseq.network.model import CART
from cart_fairseq.network.precision import convert
from cart_fairseq.query_codec import QueryCodec
from cart_fairseq.search.batching import batches
from cart_fairseq.search.generator import own_discount
from cart_fairseq.search.setup import make_generator
from cart_fairseq.settings import AUTO, BEAM, DEFAULT_SCORING, RERANKED_BEAM, check_search

Candidates = str | CandidateSet | Iterable[str] | None
"""Name of a candidate set, a prepared set, item ids, or None for the whole catalogue."""

_forked = threading.Event()
"""Set in a forked process until its first search: torch would wait for ever for threads, which a fork does not copy."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked.set)


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

    A retriever can be copied and pickled. In a forked process it searches on a CPU with one thread; processes that are
    started by ``spawn`` use all.

    Args:
        models: trained ``cart`` models of one data-bin; several form an ensemble.
        data: the models' data-bin.
        beam: beam width (default: 30, or 200 with a dense head but without look-ahead); a search for more items uses a
            wider beam.
        scoring: ``masked`` or ``renormalised``.
        dense_weight: weight of the dense score in ranking (default: the models' own).
        level_discount: weight of each symbol's score relative to the previous symbol's (default: the models' own).
        lookahead: whether the dense score guides the beam, or only ranks the items found.
        prior_share: share of the items' priors that is subtracted from the dense score (default: the models' own).

    Raises:
        ValueError: there is no model, or an option is out of range.
    """

    def __init__(
        self,
        models: Sequence[CART],
        data: DataBin,
        beam: int | None = None,
        scoring: str = DEFAULT_SCORING,
        dense_weight: float | None = None,
        level_discount: float | None = None,
        lookahead: bool = True,
        prior_share: float | None = None,
    ):
        check_search(beam, scoring, "float32", dense_weight, level_discount, prior_share=prior_share)
        if not models:
            raise ValueError(f"models is {models!r}; give at least one model")
        self.data = data
        self.dense_weight = dense_weight
        self.level_discount = own_discount(models) if level_discount is None else level_discount
        self.lookahead = lookahead
        self.prior_share = prior_share
        reranked = not lookahead and dense_weight != 0 and all(model.dense is not None for model in models)
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
        precision: str = AUTO,
        scoring: str = DEFAULT_SCORING,
        dense_weight: float | None = None,
        level_discount: float | None = None,
        lookahead: bool = True,
        prior_share: float | None = None,
    ) -> "CartRetriever":
        """Load a checkpoint, or an ensemble (paths joined by colons).

        Args:
            path: ``checkpoint_best.pt``, or ``a.pt:b.pt``.
            data: the data-bin on which the models were trained.
            beam: beam width (default: 30, or 200 with a dense head but without look-ahead).
            device: device of the search (default: a GPU if there is one).
            precision: ``float32``, ``bf16``, ``fp16``, or ``int8``, which works on CPUs only; ``auto``: ``bf16`` if a
                probe of a few milliseconds finds it a tenth faster than ``float32`` here.
            scoring: ``masked`` takes the softmax over all symbols and ignores invalid ones; ``renormalised`` takes it
                over the valid symbols alone.
            dense_weight: weight of the dense score in ranking, for models with a dense head; 0 ranks by identifiers
                alone (default: the models' own, which ``cart_fairseq.tune`` sets).
            level_discount: weight of each symbol's score relative to the previous symbol's; 1: equal (default: the
                models' own).
            lookahead: True: the dense score guides the beam; False: identifier scores alone guide it, and only the
                items found are ranked with the dense score.
            prior_share: share of the items' priors that is subtracted from the dense score; 0: no priors (default: the
                models' own, which ``cart_fairseq.tune`` sets).

        Raises:
            ValueError: a checkpoint is missing, damaged, unsafe, of another task, or belongs to other identifiers; an
                option is out of range; or there is no such device.
        """
        check_search(beam, scoring, precision, dense_weight, level_discount, prior_share=prior_share)
        target = _device(device)
        from cart_fairseq.tasks.checkpoints import load_models  # fairseq takes seconds to import

        models, opened = load_models(path, data)
        models = [convert(model.to(target).eval(), precision) for model in models]
        return cls(models, opened, beam, scoring, dense_weight, level_discount, lookahead, prior_share)

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
        if isinstance(candidates, CandidateSet):
            return candidates
        if candidates is None or isinstance(candidates, str):
            return self.data.search_space("all" if candidates is None else candidates).candidates
        item_ids = _listed(candidates)
        for item_id in item_ids:
            if not isinstance(item_id, str):
                raise ValueError(
                    f"candidates has {item_id!r}; give item ids, which are strings, or a set for each query"
                )
        return self.data.candidate_set(self.data.bundle.rows_of(item_ids))

    def search(
        self, texts: Iterable[str], k: int = 10, candidates: Candidates | Sequence[Candidates] = None
    ) -> list[list[Hit]]:
        """Rank items for each query.

        Args:
            texts: the queries, in a list or another series; not one string.
            k: number of items per query; with fewer candidates, fewer items are returned.
            candidates: the items that may be found: the name of a candidate set (``all``, ``valid``, ``test``), item
                ids, the result of ``candidate_set``, or None for the whole catalogue. Or a list with one entry per
                query, each None, item ids or a result of ``candidate_set``. A list of strings is item ids.

        Returns:
            One list of hits per query, best first.

        Raises:
            ValueError: k is below 1, a query is empty or no text, a candidate is unknown, there is no candidate, or the
                model's scores are not finite.
        """
        texts = _checked(texts)
        check_count("k", k)
        if _forked.is_set():
            torch.set_num_threads(1)
            _forked.clear()
        if not texts:
            return []
        allowed = self._per_query(candidates, len(texts))
        generator = make_generator(
            self.models,
            self.data,
            max(self.beam, k),
            scoring=self.scoring,
            dense_weight=self.dense_weight,
            level_discount=self.level_discount,
            lookahead=self.lookahead,
            bias=None if self.dense_weight == 0 else prior_bias(self.models, self.data, self.prior_share),
        )
        symbols = [self.codec.symbols(text) for text in texts]
        results: list[list[Hit]] = [[] for _ in texts]
        for numbers, net_input in batches(symbols, PAD, self.device):
            queries = numbers.tolist()
            found = generator.search(net_input, self.data.trie, [allowed[query] for query in queries]).cpu()
            found.refuse_nothing(queries)
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
        given = _listed(candidates)
        if all(isinstance(each, str) for each in given):
            return [self.candidate_set(given)] * queries
        if any(isinstance(each, str) for each in given):
            raise ValueError("candidates mixes item ids with sets; give item ids alone, or one set for each query")
        if len(given) != queries:
            raise ValueError(f"{len(given)} candidate sets for {queries} queries; give one each, or one for all")
        return [self.candidate_set(each) for each in given]


def _listed(candidates: Any) -> list[Any]:
    """Return candidates as a list.

    Raises:
        ValueError: they are no series.
    """
    if not isinstance(candidates, Iterable):
        raise ValueError(f"candidates is {candidates!r}; give the name of a candidate set or a list of item ids")
    return [*candidates]


def _checked(texts: Any) -> list[str]:
    """Return the queries as a list.

    Raises:
        ValueError: they are one string or no series of strings, or one is empty or cannot be encoded.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise ValueError(f"texts is {texts!r}; give a list of queries")
    queries = [*texts]
    for row, text in enumerate(queries):
        if not isinstance(text, str):
            raise ValueError(f"query {row} is {text!r}; give a text")
        if not text.strip():
            raise ValueError(f"query {row} is empty; give it some text")
        if not is_encodable(text):
            raise ValueError(f"query {row} holds half a surrogate pair ({text!r}); give valid Unicode")
    return queries


def _device(asked: str | torch.device | None) -> torch.device:
    """Return the device to search on; without a wish, a GPU if there is one.

    Raises:
        ValueError: there is no such device.
    """
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = textwrap.shorten(str(error).splitlines()[0], 120)
        raise ValueError(f"device is {asked!r}; it cannot be used here ({reason}); give cpu, or leave it out") from None
    return device
