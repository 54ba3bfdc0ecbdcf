"""Candidate sets: the items that a query may find, as leaves of the catalogue's trie.

No trie is rebuilt. The leaves below a node are a contiguous range, so a node leads to a candidate if a sorted list of
the candidates' leaves has an entry in that range. Each query of a batch may have its own list.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cart_fairseq.catalogue.trie import IdentifierTrie


class CandidateSet:
    """A subset of a catalogue's items.

    Attributes:
        leaves: (n,) int64, the items' leaves in the trie, ascending and distinct.

    Raises:
        ValueError: the set is empty.
    """

    def __init__(self, leaves: Tensor):
        if len(leaves) == 0:
            raise ValueError("no candidate to search: the candidate set is empty; give at least one item")
        self.leaves = leaves.long().unique()

    def __len__(self) -> int:
        return len(self.leaves)


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
        group = {key: number for number, key in enumerate(distinct)}
        # one sorted list for all sets: leaf l of set g is stored as g * N + l. That of one set is not copied
        leaves = [each.leaves.to(device) for each in distinct.values()]
        shifted = (each + number * len(trie) for number, each in enumerate(leaves))
        self.keys = leaves[0] if len(leaves) == 1 else torch.cat([*shifted])
        number = torch.tensor([-1 if each is None else group[id(each)] for each in sets], device=device)
        self.unrestricted = (number < 0).unsqueeze(1)
        self.start = number.clamp(min=0).unsqueeze(1) * len(trie)

    def count(self, depth: int, nodes: Tensor) -> Tensor:
        """Count each query's candidates below each node of ``depth``: (B, K) nodes -> (B, K) int64."""
        begin, end = self.trie.leaves(depth, nodes)
        if self.whole:
            return end - begin
        bounds = torch.stack([begin, end]) + self.start
        first, last = torch.searchsorted(self.keys, bounds)
        return torch.where(self.unrestricted, end - begin, last - first)
