"""Items that came after training compete on equal terms.

The identifier scores of such items are low, because the model has never written their identifiers. In a search with a
dense score they are therefore ranked apart, by their dense scores, and each gets as the scores of its symbols the
expected ones: the mean over the older items found, weighted by the probability of each. The paper has no such step.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.dense.lookahead import LookAhead
from cart_fairseq.search.result import SearchResult, discounted

BLOCK = 1 << 17
"""Number of leaves that are divided at once."""
Sets = CandidateSet | Sequence[CandidateSet | None] | None


class Divided(NamedTuple):
    """The candidates of B queries, divided into older and younger items.

    Attributes:
        older: the older candidates of each query, None for the whole catalogue; where there are none, all candidates.
        younger: likewise the younger candidates.
        has_older, has_younger: (B,) bool, whether a query has such candidates.
    """

    older: list[CandidateSet | None]
    younger: list[CandidateSet | None]
    has_older: Tensor
    has_younger: Tensor


class Ages:
    """Divides candidate sets by the age of their items; remembers the divisions of sets in use.

    Args:
        known_items: the number of item rows that the models were trained on; rows from there on are younger.
    """

    def __init__(self, known_items: int):
        self.known_items = known_items
        self._divided: WeakKeyDictionary[Any, tuple[CandidateSet | None, CandidateSet | None, bool, bool]] = (
            WeakKeyDictionary()
        )

    def divide(self, trie: IdentifierTrie, sets: Sets, batch: int, device: torch.device) -> Divided | None:
        """Divide the candidates of a batch of queries; None if no candidate is younger."""
        if sets is None or isinstance(sets, CandidateSet):
            sets = [sets] * batch
        parts = [self._parts(trie, each) for each in sets]
        older, younger, has_older, has_younger = zip(*parts, strict=True)
        if not any(has_younger):
            return None
        masks = (torch.tensor(each, device=device) for each in (has_older, has_younger))
        return Divided([*older], [*younger], *masks)

    def _parts(
        self, trie: IdentifierTrie, each: CandidateSet | None
    ) -> tuple[CandidateSet | None, CandidateSet | None, bool, bool]:
        owner = trie if each is None else each
        if owner not in self._divided:
            leaves = None if each is None else each.leaves
            total = len(trie if leaves is None else leaves)
            count = sum(int(block.sum()) for block in self._younger(trie, leaves))
            halves: tuple[CandidateSet | None, CandidateSet | None] = (None, None)  # a set kept here would keep itself
            if 0 < count < total:
                halves = self._halves(trie, leaves, total, count)
            self._divided[owner] = (*halves, count < total, count > 0)
        old, young, has_older, has_younger = self._divided[owner]
        return each if old is None else old, each if young is None else young, has_older, has_younger

    def _halves(
        self, trie: IdentifierTrie, leaves: Tensor | None, total: int, younger: int
    ) -> tuple[CandidateSet, CandidateSet]:
        """Older and younger items of candidates that have both: the smaller half is a list, the other all but these."""
        list_younger = 2 * younger <= total
        size = younger if list_younger else total - younger
        places, filled = torch.empty(size, dtype=torch.int64, device=trie.rows.device), 0
        for number, block in enumerate(self._younger(trie, leaves)):
            found = (block == list_younger).nonzero().flatten()
            places[filled : filled + len(found)] = found + number * BLOCK
            filled += len(found)
        listed = places if leaves is None else leaves[places.to(leaves.device)]
        few = CandidateSet.of_parts(listed, None, size)
        others = CandidateSet.of_parts(leaves, listed, total - size)
        return (others, few) if list_younger else (few, others)

    def _younger(self, trie: IdentifierTrie, leaves: Tensor | None) -> Iterator[Tensor]:
        """Whether the items of leaves (n,), None for all, are younger: (b,) bool for each block of leaves."""
        for at in range(0, len(trie if leaves is None else leaves), BLOCK):
            block: slice | Tensor = slice(at, at + BLOCK)
            if leaves is not None:
                block = leaves[block].to(trie.rows.device)
            yield trie.rows[block] >= self.known_items


def known_items(bundle: IdentifierBundle, revision: int, history: str) -> int:
    """The number of item rows that a model was trained on.

    Two copies of a bundle with different additions both have a revision 1, so the history decides where it is recorded.
    A bundle without this history counts as it was built: one history does not tell which earlier additions are shared.

    Args:
        bundle: the identifier bundle that is searched.
        revision: of the bundle that the model was trained with.
        history: likewise; empty where an earlier version recorded none.
    """
    if not history or bundle.history == history:
        return bundle.items_at(revision)
    return bundle.items_at(max((number for number, each in bundle.histories.items() if each == history), default=0))


_ages: "WeakKeyDictionary[IdentifierTrie, dict[int, Ages]]" = WeakKeyDictionary()


def ages_of(trie: IdentifierTrie, known_items: int) -> Ages:
    """The same :class:`Ages` for each search of a catalogue, so that candidate sets are divided once."""
    return _ages.setdefault(trie, {}).setdefault(known_items, Ages(known_items))


def rank_by_dense(ahead: LookAhead, trie: IdentifierTrie, most: int) -> SearchResult:
    """Rank candidates by their dense scores; the scores of their symbols are 0.

    Args:
        ahead: of the candidates.
        trie: the catalogue's trie.
        most: the number of candidates to find for each query.
    """
    leaves, scores = ahead.best(most)
    symbols = trie.symbols(leaves.flatten()).view(*leaves.shape, -1)
    return SearchResult(trie.rows[leaves].long(), scores, symbols, torch.zeros(symbols.shape, device=scores.device))


def merged(older: SearchResult, younger: SearchResult, discount: float, most: int) -> SearchResult:
    """Merge older items, ranked by both scores, with younger ones, ranked by the dense score.

    Args:
        older: of B queries; all entries of a query without older candidates are unused.
        younger: of the same queries, likewise.
        discount: gamma, see :func:`~cart_fairseq.search.result.discounted`.
        most: the number of items to keep.
    """
    token_scores = younger.token_scores + expected_scores(older.scores, older.token_scores)
    scores = younger.scores + discounted(token_scores, discount)
    return older.joined(younger._replace(scores=scores, token_scores=token_scores)).best(most)


def expected_scores(scores: Tensor, token_scores: Tensor) -> Tensor:
    """Compute what the scores of symbols are expected to be: their mean over older items, weighted by their probabilities.

    Args:
        scores: (B, K), of the older items; not finite for unused entries.
        token_scores: (B, K, J), of their symbols.

    Returns:
        (B, 1, J); 0 for a query without older items.
    """
    there = scores.isfinite()
    share = scores.masked_fill(~there, float("-inf")).softmax(1).nan_to_num(0.0)
    return (token_scores.masked_fill(~there.unsqueeze(2), 0.0) * share.unsqueeze(2)).sum(1, keepdim=True)


def together(older: SearchResult, younger: SearchResult | None) -> tuple[SearchResult, Tensor]:
    """Append younger items to the older ones of the same B queries, with no other scores.

    Returns:
        The items, and (B, K) bool, which of them are younger.
    """
    found = older if younger is None else older.joined(younger)
    ages = torch.arange(found.rows.size(1), device=found.rows.device) >= older.rows.size(1)
    return found, ages.expand_as(found.rows)


class ScoresByAge(NamedTuple):
    """Scores of K items found for Q queries, from which follows what they are among fewer candidates.

    Attributes:
        own: (Q, K), without the expected identifier scores of younger items; -inf marks an unused entry.
        identifiers: (Q, K), the discounted identifier scores of older items; not read for others.
        younger: (Q, K) bool, which items are younger.
    """

    own: Tensor
    identifiers: Tensor
    younger: Tensor

    def among(self, kept: Tensor | None = None) -> Tensor:
        """Compute the scores, (Q, K), where only items that are True in ``kept`` (Q, K) are candidates; -inf for others."""
        own = self.own if kept is None else self.own.masked_fill(~kept, float("-inf"))
        older = own.masked_fill(self.younger, float("-inf"))
        expected = expected_scores(older, self.identifiers.unsqueeze(2)).squeeze(2)
        return torch.where(self.younger, own + expected, own)

    def ordered(self, order: Tensor) -> "ScoresByAge":
        """Take each query's items in the order (Q, K) int64 of their places."""
        return ScoresByAge(*(each.gather(1, order) for each in self))
