"""Fixed-length beam search over the identifier trie (CART 3.5): only real items come out, in exactly J steps."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cart_fairseq.catalogue.candidates import BatchCandidates, CandidateSet
from cart_fairseq.catalogue.data_bin import SearchSpace
from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.network.decoder import IncrementalState
from cart_fairseq.network.model import CART
from cart_fairseq.search.dense_scores import dense_scores
from cart_fairseq.search.result import SearchResult, check_discount, discounted
from cart_fairseq.settings import DEFAULT_SCORING, SCORINGS

SearchSpaces = Callable[[str], SearchSpace]


class IdentifierGenerator(nn.Module):
    """Trie-constrained beam search for one model or an ensemble.

    All identifiers have one length and end by themselves, so there is no end-of-sentence step and no length
    normalisation. An ensemble averages probabilities symbol by symbol. What the beam found is ordered by the discounted sum
    of its symbols' scores, and what a dense head adds. Two ways to score a symbol:

    - ``masked``: log-softmax over the whole identifier vocabulary, then the invalid are masked, as in fairseq's
      ``PrefixConstrainedBeamSearch`` and GENRE; ranks and scores are theirs.
    - ``renormalised``: log-softmax over the valid continuations alone. The scores are a distribution over the
      candidates, and where one candidate is left its symbols have probability 1 and no decoder row is computed.

    Args:
        models: ``cart`` models that share dictionaries.
        spaces: name of a candidate set -> what a search may find.
        start: the symbol the decoder begins with (fairseq's ``</s>``).
        beam_size: at least 1.
        temperature: divides the logits.
        scoring: ``masked`` or ``renormalised``.
        dense: features of the items; the models' dense heads then order what the beam found.
        dense_weight: what the dense score (cosine times the models' scale) is multiplied with before it is added; the
            models' own unless given.
        level_discount: gamma, where the score of the j-th symbol counts gamma^(j - 1), in (0, 1]; the models' own, 1
            unless tuned, if not given.

    Attributes:
        decoder_rows: how many decoder rows each of the J steps of the last search computed.

    Raises:
        ValueError: ``beam_size`` is below 1, ``temperature`` not above 0, ``scoring`` unknown, or ``level_discount`` out of
            range.
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
    ):
        super().__init__()
        if beam_size < 1 or temperature <= 0:
            raise ValueError(f"--beam {beam_size} must be at least 1 and --temperature {temperature} above 0")
        if scoring not in SCORINGS:
            raise ValueError(f"scoring is {scoring!r}; it must be one of {', '.join(SCORINGS)}")
        if level_discount is None:
            level_discount = own_discount(models)
        check_discount(level_discount)
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
        self.symbols_to_strip_from_output = {start}
        self.decoder_rows: list[int] = []

    @torch.no_grad()
    def search(
        self,
        net_input: dict[str, Tensor],
        trie: IdentifierTrie,
        candidates: CandidateSet | Sequence[CandidateSet | None] | None = None,
    ) -> SearchResult:
        """Find the best identifiers for a batch of queries.

        Args:
            net_input: ``src_tokens`` (B, T) int64 and ``src_lengths`` (B,).
            trie: the catalogue.
            candidates: what may be found: one set for all queries, or one a query; None stands for the whole catalogue.
        """
        self.models.eval()
        src_tokens = net_input["src_tokens"]
        batch, device = len(src_tokens), src_tokens.device
        trie = trie.to(device)
        allowed = BatchCandidates(trie, candidates, batch, device)
        decoding = [_Decoding(model, src_tokens, net_input["src_lengths"]) for model in self.members]
        self.decoder_rows = []
        # beams of one query are consecutive rows; at first there is one
        nodes = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        scores = torch.zeros(batch, 1, device=device)
        tokens = torch.full((batch, 1, 1), self.start, dtype=torch.int64, device=device)
        token_scores = torch.zeros(batch, 1, 0, device=device)
        parents = place = None
        for step in range(trie.length):
            child, symbols, exists = trie.children(step, nodes.flatten())
            if not allowed.whole:
                exists &= allowed.count(step + 1, child.view(batch, -1)).view_as(child) > 0
            rows = _rows_to_compute(self._undecided(step, nodes, scores, allowed), parents, place)
            place = rows.place
            step_scores = self._step_scores(step, tokens.flatten(0, 1), symbols, exists, decoding, rows, trie)
            step_scores = step_scores.view(batch, nodes.size(1), -1)
            total = (scores.unsqueeze(2) + step_scores).flatten(1)
            beams = min(self.beam_size, total.size(1), trie.num_nodes(step + 1), allowed.largest)
            scores, chosen = total.topk(beams, dim=1)
            parent = chosen // step_scores.size(2)
            parents = (parent + nodes.size(1) * torch.arange(batch, device=device).unsqueeze(1)).flatten()
            nodes = child.view(batch, -1).gather(1, chosen)
            new_tokens = symbols.view(batch, -1).gather(1, chosen)
            new_scores = step_scores.flatten(1).gather(1, chosen)
            tokens = torch.cat([tokens.flatten(0, 1)[parents].view(batch, beams, -1), new_tokens.unsqueeze(2)], dim=2)
            token_scores = torch.cat(
                [token_scores.flatten(0, 1)[parents].view(batch, beams, -1), new_scores.unsqueeze(2)], dim=2
            )
        found = SearchResult(trie.rows[nodes].long(), scores, tokens[:, :, 1:], token_scores)
        return found if self.dense is None and self.level_discount == 1 else self._rerank(found, decoding)

    def _rerank(self, found: SearchResult, decoding: list["_Decoding"]) -> SearchResult:
        """The same items, ordered by the sum of the discounted generative and the weighted dense score."""
        scores = discounted(found.token_scores, self.level_discount)
        if self.dense is not None:
            members = [(model, member.encoder_out) for model, member in zip(self.members, decoding, strict=True)]
            scores = scores + dense_scores(members, self.dense, found.rows, self.dense_weight)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        deep = order.unsqueeze(2).expand(-1, -1, found.tokens.size(2))
        return SearchResult(
            found.rows.gather(1, order), scores, found.tokens.gather(1, deep), found.token_scores.gather(1, deep)
        )

    def _undecided(self, step: int, nodes: Tensor, scores: Tensor, allowed: BatchCandidates) -> Tensor | None:
        """(B, K) bool: the beams whose item is still open; None where the decoder must see all of them."""
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
        decoding: list["_Decoding"],
        rows: "_Rows",
        trie: IdentifierTrie,
    ) -> Tensor:
        """Natural-log probabilities (R, W) of each row's children; -inf for those that do not exist."""
        # a beam whose item is certain has one child
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
        """What fairseq's commands call: hypotheses of each query, best first, on the CPU.

        ``models`` is part of fairseq's interface; the generator searches with those it was built for.
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


def own_discount(models: Sequence[Any]) -> float:
    """The models' own, the mean over an ensemble; waits for a GPU, so ask once for many searches."""
    return sum(float(getattr(model, "level_discount", 1.0)) for model in models) / len(models)


class _Rows(NamedTuple):
    """Which rows of a search the decoders compute at one step.

    Attributes:
        picked: (r,) int64 rows of the search; None: all.
        order: (r,) int64, the row computed at the step before that each continues; None at the first step.
        slots: (r,) int64, where each stands in a grid (rows a query, queries), whose columns share a memory; None: all.
        place: (R,) int64, row of the search -> row computed, for the next step; None: the same.
    """

    picked: Tensor | None
    order: Tensor | None
    slots: Tensor | None
    place: Tensor | None


def _rows_to_compute(undecided: Tensor | None, parents: Tensor | None, place: Tensor | None) -> _Rows:
    """Those of the beams that are undecided, (B, K) bool, or all.

    Args:
        parents: the row of the search at the step before that each row continues; None at the first step.
        place: that of the step before.
    """
    if undecided is None:
        order = parents if parents is None or place is None else place[parents]
        return _Rows(None, order, None, None)
    picked = undecided.flatten().nonzero().squeeze(1)
    order = None if parents is None else parents[picked]
    if order is not None and place is not None:
        order = place[order]
    nth = undecided.cumsum(1).sub_(1).flatten()[picked]
    slots = nth * len(undecided) + picked // undecided.size(1)
    place = torch.zeros(undecided.numel(), dtype=torch.int64, device=picked.device)
    place[picked] = torch.arange(len(picked), device=picked.device)
    return _Rows(picked, order, slots, place)


class _Decoding:
    """One model at work on one batch: its encoder states, and what its decoder keeps of earlier steps."""

    def __init__(self, model: CART, src_tokens: Tensor, src_lengths: Tensor):
        self.decoder = model.decoder
        self.encoder_out = model.encoder(src_tokens, src_lengths)
        self.state: IncrementalState = {}

    def step(self, tokens: Tensor, rows: _Rows, begin: int, end: int | None) -> Tensor:
        """Logits of the symbols from ``begin`` to ``end`` after each of the tokens (r, L): (r, end - begin) float32."""
        if rows.order is not None:
            self.decoder.reorder_beams(self.state, rows.order)
        features = self.decoder.extract_features(tokens, self.encoder_out, self.state, slots=rows.slots)
        return self.decoder.project(features[:, -1], begin, end).float()
