"""Candidate sets: the items that a query may find, as leaves of the catalogue's trie.

No trie is rebuilt. The leaves below a node are a contiguous range, so a node leads to a candidate if a sorted list of
the candidates' leaves has an entry in that range. Each query of a batch may have its own list. A set that is all items
but a few, or all of another set, is kept as the list of these few.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cart_fairseq.catalogue.trie import IdentifierTrie


class CandidateSet:
    """A subset of a catalogue's items.

    Attributes:
        within: (m,) int64, leaves of the trie, ascending and distinct; None for all.
        left_out: (l,) int64, those of ``within`` that are not in the set, ascending and distinct; None for none.

    Raises:
        ValueError: the set is empty.
    """

    def __init__(self, leaves: Tensor):
        if len(leaves) == 0:
            raise ValueError("no candidate to search: the candidate set is empty; give at least one item")
        self.within: Tensor | None = leaves.long().unique()
        self.left_out: Tensor | None = None
        self.size = len(self.within)

    @classmethod
    def of_parts(cls, within: Tensor | None, left_out: Tensor | None, size: int) -> "CandidateSet":
        """Make a set of ``size`` items from its attributes, which are not copied.

        All items but a few take memory for these few alone.
        """
        found = cls.__new__(cls)
        found.within, found.left_out, found.size = within, left_out, size
        return found

    def __len__(self) -> int:
        return self.size

    @property
    def leaves(self) -> Tensor:
        """(n,) int64, the items' leaves in the trie, ascending and distinct; made anew where some are left out."""
        if self.left_out is None:
            assert self.within is not None
            return self.within
        places = self.left_out if self.within is None else torch.searchsorted(self.within, self.left_out)
        kept = torch.ones(self.size + len(places), dtype=torch.bool, device=places.device)
        kept[places] = False
        found = kept.nonzero().flatten()
        return found if self.within is None else self.within[found]

    def to(self, device: torch.device) -> "CandidateSet":
        """The same set on a device."""
        within, left_out = (None if each is None else each.to(device) for each in (self.within, self.left_out))
        return CandidateSet.of_parts(within, left_out, self.size)

    def count(self, begin: Tensor, end: Tensor) -> Tensor:
        """Count the items in ranges of leaves: begin and exclusive end (n,) int64 -> (n,) int64."""
        found = end - begin if self.within is None else _between(self.within, begin, end)
        return found if self.left_out is None else found - _between(self.left_out, begin, end)


class BatchCandidates:
    """The candidate sets of a batch of queries.

    Args:
        trie: the catalogue's trie.
        sets: one set for all queries, or a sequence of one set per query; None means the whole catalogue.
        batch: B, the number of queries.
        device: the device of the search.

    Attributes:
        batch: B.
        whole: whether every query may find every item.
        largest: the number of items in the largest set.
        groups: the distinct sets, each with the places (b,) int64 of the queries that it belongs to.

    Raises:
        ValueError: ``sets`` is a sequence whose length is not B.
    """

    def __init__(
        self,
        trie: IdentifierTrie,
        sets: CandidateSet | Sequence[CandidateSet | None] | None,
        batch: int,
        device: torch.device,
    ):
        if sets is None or isinstance(sets, CandidateSet):
            sets = [sets] * batch
        if len(sets) != batch:
            raise ValueError(f"{len(sets)} candidate sets for {batch} queries; give one each, or one for all")
        self.trie = trie
        self.batch = batch
        distinct = {id(each): each for each in sets if each is not None}
        self.whole = not distinct
        members: dict[int, list[int]] = {}
        for place, each in enumerate(sets):
            members.setdefault(id(each), []).append(place)
        self.groups = [(sets[places[0]], torch.tensor(places, device=device)) for places in members.values()]
        self.largest = max(len(trie) if each is None else len(each) for each in sets)
        if self.whole:
            return
        # one sorted list for all sets: leaf l of set g is stored as g * N + l. The whole catalogue has the last number,
        # and no entry
        group = {key: number for number, key in enumerate(distinct)}
        number = torch.tensor([group.get(id(each), len(group)) for each in sets], device=device)
        self.start = number.unsqueeze(1) * len(trie)
        restricted = [each is not None and each.within is not None for each in sets]
        self.restricted = torch.tensor(restricted, device=device).unsqueeze(1)
        self.keys = _joined([each.within for each in distinct.values()], len(trie), device)
        self.left_out = _joined([each.left_out for each in distinct.values()], len(trie), device)

    def count(self, depth: int, nodes: Tensor) -> Tensor:
        """Count each query's candidates below each node of ``depth``: (B, K) nodes -> (B, K) int64."""
        begin, end = self.trie.leaves(depth, nodes)
        found = end - begin
        if self.whole:
            return found
        begin, end = begin + self.start, end + self.start
        if self.keys is not None:
            found = torch.where(self.restricted, _between(self.keys, begin, end), found)
        return found if self.left_out is None else found - _between(self.left_out, begin, end)


def _joined(lists: Sequence[Tensor | None], items: int, device: torch.device) -> Tensor | None:
    """One ascending list of several, each moved up by N times its place; None if there is none.

    A single list in the first place is not copied.
    """
    there = [(place, each.to(device)) for place, each in enumerate(lists) if each is not None]
    moved = [each if place == 0 else each + place * items for place, each in there]
    return torch.cat(moved) if len(moved) > 1 else next(iter(moved), None)


def _between(ascending: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Count the entries of a list that are at least ``begin`` and below ``end``."""
    first, last = torch.searchsorted(ascending, torch.stack([begin, end]))
    return last - first
