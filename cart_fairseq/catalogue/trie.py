"""The prefix tree of all valid identifiers, as flat arrays (CART 3.5).

Sorted identifiers make the nodes of each depth contiguous: the children of a node are a range of the next depth, and a
leaf is a place in the sorted order. No node is a Python object, a whole batch of beams is looked up at once, and a saved
tree is used straight from its memory-mapped file.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cart_fairseq.catalogue.trie_build import build_levels, index_dtype
from cart_fairseq.files import replacing

FORMAT = "identifier trie 1"


class IdentifierTrie:
    """A prefix tree over fixed-length identifiers; made by :meth:`build` or :meth:`load`.

    Attributes:
        length: J, the number of positions.
        sizes: how many values each position can take.
        offsets: the first target-dictionary symbol of each position.
        values: per depth d, the value of each node of depth d + 1; uint8, int16 or int32.
        first_child: per depth d, where the children of each node of depth d begin, and the end; int32 or int64.
        rows: (N,) int32 or int64, leaf -> row of the item.
        width: per depth d, the most children a node has.
    """

    def __init__(
        self,
        values: Sequence[Tensor],
        first_child: Sequence[Tensor],
        rows: Tensor,
        sizes: Sequence[int],
        offsets: Sequence[int],
        width: Sequence[int],
    ):
        self.values = list(values)
        self.first_child = list(first_child)
        self.rows = rows
        self.sizes = tuple(int(size) for size in sizes)
        self.offsets = tuple(int(offset) for offset in offsets)
        self.width = tuple(int(most) for most in width)
        self.length = len(self.sizes)

    @classmethod
    def build(
        cls, values: np.ndarray, sizes: Sequence[int], offsets: Sequence[int], rows: np.ndarray | None = None
    ) -> "IdentifierTrie":
        """Build the tree of a catalogue.

        Args:
            values: (N, J) integers, one distinct identifier a row; a memory map does.
            sizes: how many values each position can take.
            offsets: the first target-dictionary symbol of each position.
            rows: (N,) item row of each identifier; 0 … N-1 unless given.

        Raises:
            ValueError: there is no identifier, two are equal, or a value lies outside its position.
        """
        if len(values) == 0:
            raise ValueError("no candidate to search: the candidate set is empty")
        levels = build_levels(values, sizes)
        order = levels.order if rows is None else np.asarray(rows)[levels.order]
        if rows is not None:
            order = order.astype(index_dtype(int(order.max())))
        width = [int(np.diff(first).max()) for first in levels.first_child]
        node_values, first_child = ([torch.from_numpy(array) for array in arrays] for arrays in levels[:2])
        return cls(node_values, first_child, torch.from_numpy(order), sizes, offsets, width)

    def save(self, path: str | Path, fingerprint: str) -> None:
        """Write the tree as one safetensors file, atomically; ``fingerprint`` names the identifiers it belongs to."""
        facts = {
            "format": FORMAT,
            "fingerprint": fingerprint,
            "sizes": self.sizes,
            "offsets": self.offsets,
            "width": self.width,
        }
        tensors = {"rows": self.rows}
        for depth in range(self.length):
            tensors[f"values.{depth}"] = self.values[depth]
            tensors[f"first_child.{depth}"] = self.first_child[depth]
        with replacing(path) as new:
            save_file(tensors, new, metadata={"trie": json.dumps(facts)})  # one entry, as their order is not fixed

    @classmethod
    def load(cls, path: str | Path, fingerprint: str) -> "IdentifierTrie":
        """Open a saved tree without reading it: its arrays are memory-mapped.

        Raises:
            ValueError: the file is missing, truncated, no trie, or belongs to other identifiers.
        """
        remedy = "make it again with the step that wrote it"
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {}).get("trie", "{}"))
                if facts.get("format") != FORMAT:
                    raise ValueError(f"{path}: its format is {facts.get('format')!r}, not {FORMAT!r}; {remedy}")
                if facts["fingerprint"] != fingerprint:
                    raise ValueError(
                        f"{path}: belongs to other identifiers (fingerprint {facts['fingerprint'][:12]}, expected "
                        f"{fingerprint[:12]}); {remedy}"
                    )
                depths = range(len(facts["sizes"]))
                values = [file.get_tensor(f"values.{depth}") for depth in depths]
                first_child = [file.get_tensor(f"first_child.{depth}") for depth in depths]
                trie = cls(
                    values, first_child, file.get_tensor("rows"), facts["sizes"], facts["offsets"], facts["width"]
                )
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file; {remedy}") from None
        except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: truncated or damaged ({error}); {remedy}") from None
        for depth in depths:
            first = trie.first_child[depth]
            if len(first) != trie.num_nodes(depth) + 1 or int(first[-1]) != trie.num_nodes(depth + 1):
                raise ValueError(f"{path}: levels {depth} and {depth + 1} do not fit together; {remedy}")
        if len(trie.rows) != trie.num_nodes(trie.length):
            raise ValueError(f"{path}: {len(trie.rows)} rows for {trie.num_nodes(trie.length)} leaves; {remedy}")
        return trie

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, the rows of the leaves included."""
        return sum(tensor.nbytes for tensor in (*self.values, *self.first_child, self.rows))

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
        begin, end = self.first_child[depth][nodes].long(), self.first_child[depth][nodes + 1]
        child = begin.unsqueeze(1) + torch.arange(self.width[depth], device=nodes.device)
        exists = child < end.unsqueeze(1)
        child = child.clamp_(max=len(self.values[depth]) - 1)
        return child, self.values[depth][child].long() + self.offsets[depth], exists

    def mask(self, depth: int, nodes: Tensor) -> Tensor:
        """Which values of position ``depth`` may follow: (R, size of the position) bool."""
        _, symbols, exists = self.children(depth, nodes)
        # the void go to a column of their own, which is dropped
        column = torch.where(exists, symbols - self.offsets[depth], self.sizes[depth])
        allowed = torch.zeros(len(nodes), self.sizes[depth] + 1, dtype=torch.bool, device=nodes.device)
        return allowed.scatter_(1, column, True)[:, :-1]

    def leaves(self, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The range of leaves below each node of ``depth``: where it begins and ends, in the shape of ``nodes``, int64."""
        begin, end = nodes, nodes + 1
        for first in self.first_child[depth:]:
            begin, end = first[begin].long(), first[end].long()
        return begin, end

    def find(self, values: Tensor) -> Tensor:
        """The leaf of each identifier: (n, J) integers -> (n,) int64, -1 where the catalogue has none."""
        node = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        known = torch.ones_like(node, dtype=torch.bool)
        for depth, wanted in enumerate(values.unbind(1)):
            low, end = self.first_child[depth][node].long(), self.first_child[depth][node + 1].long()
            high = end
            for _ in range(self.width[depth].bit_length()):  # children are in the order of their values
                middle = (low + high) // 2
                below = (low < high) & (self.values[depth][middle.clamp(max=len(self.values[depth]) - 1)] < wanted)
                low, high = torch.where(below, middle + 1, low), torch.where(below, high, middle)
            node = low.clamp(max=len(self.values[depth]) - 1)
            known &= (low < end) & (self.values[depth][node] == wanted)
        return torch.where(known, node, -1)
