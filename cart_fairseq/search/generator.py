"""Beam search over the identifier trie (CART 3.5). It takes exactly J steps and returns only existing items."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cart_fairseq.base.settings import DEFAULT_SCORING, check_search
from cart_fairseq.catalogue.candidates import BatchCandidates, CandidateSet
from cart_fairseq.catalogue.data_bin import SearchSpace
from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.network.model import CART
from cart_fairseq.search.decoding import Decoding, Rows, rows_to_compute, stop_training
from cart_fairseq.search.dense.item_vectors import mean_weight, query_vectors
from cart_fairseq.search.dense.mixed_items import MixedItems
from cart_fairseq.search.dense.mixed_queries import MixedQueries, mixed_vectors
from cart_fairseq.search.dense.scorer import DenseScorer
from cart_fairseq.search.dense.stored_arrays import stored_folder
from cart_fairseq.search.dense.stored_statistics import EXACT_ITEMS
from cart_fairseq.search.dense.younger import Ages, merged, rank_by_dense
from cart_fairseq.search.result import SearchResult, discounted, own_discount

SearchSpaces = Callable[[str], SearchSpace]


class IdentifierGenerator(nn.Module):
    """Trie-constrained beam search with one model or an ensemble.

    All identifiers have the same length J, so there is no end-of-sentence step and no length normalisation. An ensemble
    averages the probabilities of each symbol. Items are ranked by the discounted sum of their symbols' scores plus the
    weighted dense score. With dense heads the same sum guides the beam: a prefix has the mass of the items below it as
    its dense score (:class:`~cart_fairseq.search.dense.lookahead.LookAhead`). There are two ways to score a symbol:

    - ``masked``: log-softmax over the whole identifier vocabulary; invalid symbols are masked afterwards. Ranks and
      scores equal those of fairseq's ``PrefixConstrainedBeamSearch`` and of GENRE.
    - ``renormalised``: log-softmax over the valid continuations only. The scores are a distribution over the
      candidates. If one candidate is left below a prefix, its remaining symbols have probability 1 and no decoder row
      is computed.

    Args:
        models: ``cart`` models with the same dictionaries.
        spaces: maps the name of a candidate set to the trie and the candidates.
        start: the decoder's first input symbol (fairseq's ``</s>``).
        beam_size: beam width, at least 1.
        temperature: divisor of the logits, above 0.
        scoring: ``masked`` or ``renormalised``.
        dense: features of the items, to add the dense score of the models' dense heads; None for no dense score.
        dense_weight: weight of the dense score (cosine times scale); None for each model's own.
        level_discount: gamma in (0, 1]; the j-th symbol's score is multiplied by gamma^(j - 1). None for the models'
            own, which is 1 unless tuned.
        lookahead: whether the dense score guides the beam; if False, identifier scores alone guide it, and only the
            items found are ranked with the dense score.
        bias: (N,) float32, added to the dense score at weight 1 of each item, by item row; None for no bias.
        ages: which items came after training; None if none did.

    Attributes:
        exact_items: the largest number of candidates for which the look-ahead computes every dense score.
        decoder_rows: the number of decoder rows that each of the J steps of the last search computed.

    Raises:
        ValueError: ``scoring`` is unknown, or a number is out of range.
    """

    def __init__(
        self,
        models: Sequence[CART],
        spaces: SearchSpaces,
        start: int,
        beam_size: int = 30,
        temperature: float = 1.0,
        scoring: str = DEFAULT_SCORING,
        dense: DenseItems | None = None,
        dense_weight: float | None = None,
        level_discount: float | None = None,
        lookahead: bool = True,
        bias: Tensor | None = None,
        ages: Ages | None = None,
    ):
        super().__init__()
        if level_discount is None:
            level_discount = own_discount(models)
        check_search(beam_size, scoring, "float32", dense_weight, level_discount, temperature)
        self.models = nn.ModuleList(models)
        self.members = list(models)
        self.spaces = spaces
        self.start = start
        self.beam_size = beam_size
        self.temperature = temperature
        self.scoring = scoring
        self.dense = dense
        self.dense_weight = dense_weight
        self.level_discount = level_discount
        self.lookahead = lookahead
        self.bias = bias
        self.ages = ages
        self.exact_items = EXACT_ITEMS
        self.symbols_to_strip_from_output = {start}
        self.decoder_rows: list[int] = []

    @torch.no_grad()
    def search(
        self,
        net_input: dict[str, Tensor],
        trie: IdentifierTrie,
        candidates: CandidateSet | Sequence[CandidateSet | None] | None = None,
        mixed: MixedQueries | None = None,
    ) -> SearchResult:
        """Find the best identifiers for a batch of queries.

        Args:
            net_input: ``src_tokens`` (B, T) int64 and ``src_lengths`` (B,).
            trie: the catalogue's trie.
            candidates: one candidate set for all queries, or one per query; None means the whole catalogue.
            mixed: the queries, if some have parts that are not text; the models then have dense heads. The decoders must
                have something to read for each.
        """
        older, younger = self.search_by_age(net_input, trie, candidates, mixed)
        return older if younger is None else merged(older, younger, self.level_discount, self.beam_size)

    @torch.no_grad()
    def search_by_age(
        self,
        net_input: dict[str, Tensor],
        trie: IdentifierTrie,
        candidates: CandidateSet | Sequence[CandidateSet | None] | None = None,
        mixed: MixedQueries | None = None,
    ) -> tuple[SearchResult, SearchResult | None]:
        """Search older items with the decoders, and those that came after training by dense scores; see :meth:`search`.

        Returns:
            As many items of either age as the beam is wide. The younger have their dense scores, and 0 for each symbol; None
            if there are none.
        """
        stop_training(self.members)
        src_tokens = net_input["src_tokens"]
        batch, device = len(src_tokens), src_tokens.device
        trie = trie.to(device)
        with trie.named_errors():
            decoding = [Decoding(model, src_tokens, net_input["src_lengths"], mixed) for model in self.members]
            scorer = self._scorer(decoding, trie, mixed)
            divided = None
            if self.ages is not None and scorer is not None:
                divided = self.ages.divide(trie, candidates, batch, device)
            if divided is None or scorer is None:
                allowed = BatchCandidates(trie, candidates, batch, device)
                return self._search(decoding, scorer, trie, allowed, device), None
            older = self._search(decoding, scorer, trie, BatchCandidates(trie, divided.older, batch, device), device)
            allowed = BatchCandidates(trie, divided.younger, batch, device)
            ahead = scorer.look_ahead(trie, allowed)
            younger = rank_by_dense(ahead, trie, min(self.beam_size, allowed.largest)).only(divided.has_younger)
            return older.only(divided.has_older), younger

    @torch.no_grad()
    def rank(
        self,
        mixed: MixedQueries,
        trie: IdentifierTrie,
        candidates: CandidateSet | Sequence[CandidateSet | None] | None = None,
    ) -> SearchResult:
        """Rank items by their dense scores alone, for queries of which the decoders can read nothing."""
        stop_training(self.members)
        device = mixed.read.device
        trie = trie.to(device)
        allowed = BatchCandidates(trie, candidates, len(mixed.read), device)
        scorer = self._scorer([], trie, mixed)
        assert scorer is not None
        with trie.named_errors():
            return rank_by_dense(scorer.look_ahead(trie, allowed), trie, min(self.beam_size, allowed.largest))

    def _search(
        self,
        decoding: list[Decoding],
        scorer: DenseScorer | None,
        trie: IdentifierTrie,
        allowed: BatchCandidates,
        device: torch.device,
    ) -> SearchResult:
        """Search with the decoders.

        The method has more than 60 lines because the state of the beam (nodes, scores, tokens) changes together at each
        step.
        """
        batch = allowed.batch
        ahead = scorer.look_ahead(trie, allowed) if scorer is not None and self.lookahead else None
        discount = 1.0 if ahead is None else self.level_discount  # without look-ahead it applies to the items found
        self.decoder_rows = []
        # beams of one query are consecutive rows; each query starts with one
        nodes = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        scores = torch.zeros(batch, 1, device=device)
        tokens = torch.full((batch, 1, 1), self.start, dtype=torch.int64, device=device)
        token_scores = torch.zeros(batch, 1, 0, device=device)
        guide, parents, place = scores, None, None
        for step in range(trie.length):
            child, symbols, exists = trie.children(step, nodes.flatten())
            if not allowed.whole:
                exists &= allowed.count(step + 1, child.view(batch, -1)).view_as(child) > 0
            rows = rows_to_compute(self._undecided(step, nodes, scores, allowed), parents, place)
            place = rows.place
            step_scores = self._step_scores(step, tokens.flatten(0, 1), symbols, exists, decoding, rows, trie)
            step_scores = step_scores.view(batch, nodes.size(1), -1)
            total = (scores.unsqueeze(2) + step_scores * discount**step).flatten(1)
            beams = min(self.beam_size, total.size(1), trie.num_nodes(step + 1), allowed.largest)
            wanted = total
            if ahead is not None:
                wanted = total + ahead.below(step + 1, child.view(batch, -1), exists.view(batch, -1))
            guide, chosen = wanted.topk(beams, dim=1)
            scores = total.gather(1, chosen)
            parent = chosen // step_scores.size(2)
            parents = (parent + nodes.size(1) * torch.arange(batch, device=device).unsqueeze(1)).flatten()
            nodes = child.view(batch, -1).gather(1, chosen)
            new_tokens = symbols.view(batch, -1).gather(1, chosen)
            new_scores = step_scores.flatten(1).gather(1, chosen)
            tokens = torch.cat([tokens.flatten(0, 1)[parents].view(batch, beams, -1), new_tokens.unsqueeze(2)], dim=2)
            token_scores = torch.cat(
                [token_scores.flatten(0, 1)[parents].view(batch, beams, -1), new_scores.unsqueeze(2)], dim=2
            )
        found = SearchResult(trie.rows[nodes].long(), guide, tokens[:, :, 1:], token_scores)
        ranked = ahead is not None or (self.dense is None and self.level_discount == 1)
        return found if ranked else self._rerank(found, scorer)

    def _scorer(self, decoding: list[Decoding], trie: IdentifierTrie, mixed: MixedQueries | None) -> DenseScorer | None:
        """Return what scores items for these queries by the dense heads; None if the dense score has no weight."""
        if self.dense is None or mean_weight(self.members, self.dense_weight) == 0:
            return None
        stored = stored_folder(self.dense)
        if mixed is not None:
            words = [member.words_out for member in decoding]
            queries = mixed_vectors(self.members, mixed, words, self.dense, trie, self.dense_weight)
            items = MixedItems(self.dense, self.bias)
            return DenseScorer(queries, self.members, items, None, stored, self.exact_items)
        members = [(model, member.words_out) for model, member in zip(self.members, decoding, strict=True)]
        queries = query_vectors(members, self.dense_weight)
        return DenseScorer(queries, self.members, self.dense, self.bias, stored, self.exact_items)

    def _rerank(self, found: SearchResult, scorer: DenseScorer | None) -> SearchResult:
        """Sort the items by the sum of the discounted identifier score and the weighted dense score."""
        scores = discounted(found.token_scores, self.level_discount)
        if scorer is not None:
            scores = scores + scorer.scores(found.rows)
        return found._replace(scores=scores).best(scores.size(1))

    def _undecided(self, step: int, nodes: Tensor, scores: Tensor, allowed: BatchCandidates) -> Tensor | None:
        """Mask (B, K) of the beams with more than one candidate left, or None if the decoder must compute all beams."""
        if self.scoring == "masked":
            return None
        undecided = (allowed.count(step, nodes) > 1) & scores.isfinite()
        return None if undecided.all() else undecided

    def _step_scores(
        self,
        step: int,
        tokens: Tensor,
        symbols: Tensor,
        exists: Tensor,
        decoding: list[Decoding],
        rows: Rows,
        trie: IdentifierTrie,
    ) -> Tensor:
        """Natural-log probabilities (R, W) of each row's children; -inf for children that do not exist."""
        # 0 for beams that are not computed: their only child has probability 1
        scores = torch.zeros(symbols.shape, device=symbols.device)
        picked, valid = rows.picked, exists
        if picked is not None:
            tokens, symbols, valid = tokens[picked], symbols[picked], exists[picked]
        self.decoder_rows.append(len(tokens))
        if len(tokens):
            masked = self.scoring == "masked"
            begin, end = (0, None) if masked else (trie.offsets[step], trie.offsets[step] + trie.sizes[step])
            each = []
            for member in decoding:
                logits = member.step(tokens, rows, begin, end) / self.temperature
                if masked:
                    each.append(torch.log_softmax(logits, dim=-1).gather(1, symbols))
                else:
                    logits = logits.gather(1, symbols - begin).masked_fill(~valid, float("-inf"))
                    each.append(torch.log_softmax(logits, dim=-1))
            mean = each[0]
            if len(each) > 1:
                mean = torch.stack(each).logsumexp(0) - math.log(len(each))
            if picked is None:
                scores = mean
            else:
                scores[picked] = mean
        return scores.masked_fill(~exists, float("-inf"))

    @torch.no_grad()
    def generate(
        self, models: Any, sample: dict[str, Any], prefix_tokens: Tensor | None = None, constraints: Any = None
    ) -> list[list[dict[str, Tensor]]]:
        """Return the hypotheses of each query, best first, on the CPU; fairseq's commands call this method.

        Args:
            models: not used; the generator searches with its own models.
            sample: a batch; its ``candidates`` name the candidate set (default: all).
            prefix_tokens, constraints: not supported.

        Raises:
            ValueError: ``prefix_tokens`` or ``constraints`` is given.
        """
        if prefix_tokens is not None or constraints is not None:
            raise ValueError("--prefix-size and --constraints do not apply to identifiers; leave them out")
        result = self.search(sample["net_input"], *self.spaces(sample.get("candidates", "all"))).cpu()
        empty = torch.empty(0)
        return [
            [
                {
                    "tokens": result.tokens[query, place],
                    "score": result.scores[query, place],
                    "positional_scores": result.token_scores[query, place],
                    "attention": empty,
                    "alignment": empty,
                }
                for place in range(result.scores.size(1))
                if result.scores[query, place] > float("-inf")
            ]
            for query in range(len(result.scores))
        ]
