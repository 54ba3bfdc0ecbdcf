"""The prefix tree of all valid identifiers, as flat arrays (CART 3.5).

Sorted identifiers make the nodes of each depth contiguous: the children of a node are a range of the next depth, and a
leaf is a range of one in the sorted order. No node is a Python object, and a whole batch of beams is looked up at once.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class IdentifierTrie:
    """A prefix tree over fixed-length identifiers.

    Attributes:
        length: J, the number of positions.
        rows: (N,) int64, leaf -> row of the item.
        offsets: the first target-dictionary symbol of each position.

    Args:
        values: (N, J) integers, one distinct identifier a row.
        sizes: how many values each position can take.
        offsets: the first target-dictionary symbol of each position.
        rows: (N,) item row of each identifier; 0 … N-1 unless given.

    Raises:
        ValueError: there is no identifier, or two are equal.
    """

    def __init__(
        self, values: np.ndarray, sizes: Sequence[int], offsets: Sequence[int], rows: np.ndarray | None = None
    ):
        if len(values) == 0:
            raise ValueError("no candidate to search: the candidate set is empty")
        values = np.asarray(values)
        order = np.lexsort(values.T[::-1])
        ordered = values[order]
        self.length = values.shape[1]
        self.sizes = tuple(int(size) for size in sizes)
        self.offsets = tuple(int(offset) for offset in offsets)
        rows = np.arange(len(values)) if rows is None else np.asarray(rows)
        self.rows = torch.from_numpy(rows[order].astype(np.int64))
        # first_of_node[d]: position, in the sorted order, of the first identifier below each node of depth d
        changed = np.zeros(len(values), dtype=bool)
        changed[0] = True
        first_of_node = [np.zeros(1, dtype=np.int64)]
        self.values: list[Tensor] = []  # per depth d: the value of each node of depth d + 1
        for depth in range(self.length):
            changed[1:] |= ordered[1:, depth] != ordered[:-1, depth]
            first = np.flatnonzero(changed)
            first_of_node.append(first)
            self.values.append(torch.from_numpy(ordered[first, depth].astype(np.int64)))
        if len(first) != len(values):
            raise ValueError("two items have the same identifier; build the identifiers again")
        self.first_child: list[
            Tensor
        ] = []  # per depth d: where the children of each node of depth d begin, and the end
        self.width: list[int] = []  # per depth d: the most children a node has
        for parents, children in itertools.pairwise(first_of_node):
            begin = np.append(np.searchsorted(children, parents), len(children))
            self.first_child.append(torch.from_numpy(begin))
            self.width.append(int(np.diff(begin).max()))

    def __len__(self) -> int:
        return len(self.rows)

    def num_nodes(self, depth: int) -> int:
        """How many distinct prefixes of ``depth`` values there are."""
        return 1 if depth == 0 else len(self.values[depth - 1])

    def to(self, device: torch.device) -> "IdentifierTrie":
        """Move the arrays to a device, in place; returns the trie."""
        if self.rows.device != device:
            self.rows = self.rows.to(device)
            self.values = [tensor.to(device) for tensor in self.values]
            self.first_child = [tensor.to(device) for tensor in self.first_child]
        return self

    def children(self, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The valid continuations of a batch of prefixes.

        Args:
            depth: how many values the prefixes have.
            nodes: (R,) int64, nodes of that depth; 0 is the root at depth 0.

        Returns:
            Three tensors (R, W), W the most children any node of this depth has: the child nodes (int64), their
            symbols in the target dictionary (int64), and whether the child exists (bool); others are in range but void.
        """
        begin, end = self.first_child[depth][nodes], self.first_child[depth][nodes + 1]
        child = begin.unsqueeze(1) + torch.arange(self.width[depth], device=nodes.device)
        exists = child < end.unsqueeze(1)
        child = child.clamp_(max=len(self.values[depth]) - 1)
        return child, self.values[depth][child] + self.offsets[depth], exists

    def mask(self, depth: int, nodes: Tensor) -> Tensor:
        """Which values of position ``depth`` may follow: (R, size of the position) bool."""
        child, symbols, exists = self.children(depth, nodes)
        allowed = torch.zeros(len(nodes), self.sizes[depth], dtype=torch.bool, device=nodes.device)
        row = torch.arange(len(nodes), device=nodes.device).unsqueeze(1).expand_as(child)
        allowed[row[exists], symbols[exists] - self.offsets[depth]] = True
        return allowed
