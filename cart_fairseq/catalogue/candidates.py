"""Sub-catalogues: the items that a query may find, as leaves of the whole catalogue's trie.

Nothing is rebuilt for them. The leaves below a node are a range, so a node leads to a candidate where a sorted list of
the candidates' leaves has an entry in that range; a batch may hold a different list for every query.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cart_fairseq.catalogue.trie import IdentifierTrie


class CandidateSet:
    """Some items of a catalogue.

    Attributes:
        leaves: (n,) int64, their leaves in the trie, ascending and each once.

    Raises:
        ValueError: there is none.
    """

    def __init__(self, leaves: Tensor):
        if len(leaves) == 0:
            raise ValueError("no candidate to search: the candidate set is empty")
        self.leaves = leaves.long().unique()

    def __len__(self) -> int:
        return len(self.leaves)


class BatchCandidates:
    """What each query of a batch may find.

    Args:
        trie: the catalogue.
        sets: one set for all queries, or one a query; None stands for the whole catalogue.
        batch: B, the number of queries.
        device: where the search runs.

    Raises:
        ValueError: there are neither one nor B sets.
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
        distinct = {id(each): each for each in sets if each is not None}
        self.whole = not distinct
        self.largest = max(len(trie) if each is None else len(each) for each in sets)
        if self.whole:
            return
        group = {key: number for number, key in enumerate(distinct)}
        # set g's leaf l stands as g * N + l in one sorted list
        leaves = [each.leaves + number * len(trie) for number, each in enumerate(distinct.values())]
        self.keys = torch.cat(leaves).to(device)
        number = torch.tensor([-1 if each is None else group[id(each)] for each in sets], device=device)
        self.unrestricted = (number < 0).unsqueeze(1)
        self.start = number.clamp(min=0).unsqueeze(1) * len(trie)

    def count(self, depth: int, nodes: Tensor) -> Tensor:
        """How many items that the query may find are below each node of ``depth``: (B, K) -> (B, K) int64."""
        begin, end = self.trie.leaves(depth, nodes)
        if self.whole:
            return end - begin
        bounds = torch.stack([begin, end]) + self.start
        first, last = torch.searchsorted(self.keys, bounds)
        return torch.where(self.unrestricted, end - begin, last - first)
