"""The prefix tree (trie) of all valid identifiers, as flat arrays (CART 3.5).

The identifiers are sorted. Therefore the children of a node are a contiguous range of the next depth, and a leaf is an
index into the sorted order. No node is a Python object, look-ups take a whole batch of beams at once, and a saved trie
is memory-mapped.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from cart_fairseq.base.files import replacing
from cart_fairseq.catalogue.errors import CatalogueError, reading
from cart_fairseq.catalogue.trie_build import BLOCK, build_levels, index_dtype

FORMAT = "identifier trie 1"
REMEDY = "make it again with the step that wrote it"
CHECKED = 1 << 26
"""Bytes of a trie whose numbers are checked when it is opened: several million items."""


class IdentifierTrie:
    """A trie of fixed-length identifiers; use :meth:`build` or :meth:`load`.

    Attributes:
        length: J, the number of positions.
        sizes: the number of possible values of each position.
        offsets: the first target-dictionary symbol of each position.
        values: for each depth d, the value of each node of depth d + 1; uint8, int16 or int32.
        first_child: for each depth d, the first child of each node of depth d, then the number of nodes of depth d + 1;
            int32 or int64.
        rows: (N,) int32 or int64, the item row of each leaf.
        width: for each depth d, the largest number of children of a node.
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
        self._unchecked: tuple[Path, int | None] | None = None

    @classmethod
    def build(
        cls, values: np.ndarray, sizes: Sequence[int], offsets: Sequence[int], rows: np.ndarray | None = None
    ) -> "IdentifierTrie":
        """Build the trie of a catalogue.

        Args:
            values: (N, J) integers, one distinct identifier per row; may be memory-mapped.
            sizes: the number of possible values of each position.
            offsets: the first target-dictionary symbol of each position.
            rows: (N,) item row of each identifier (default: 0 … N-1).

        Raises:
            ValueError: there is no identifier, two are equal, or a value is out of its position's range.
        """
        if len(values) == 0:
            raise ValueError("no candidate to search: there is no identifier; the catalogue needs at least one item")
        levels = build_levels(values, sizes)
        order = levels.order if rows is None else np.asarray(rows)[levels.order]
        if rows is not None:
            order = order.astype(index_dtype(int(order.max())))
        width = [int(np.diff(first).max()) for first in levels.first_child]
        node_values, first_child = ([torch.from_numpy(array) for array in arrays] for arrays in levels[:2])
        return cls(node_values, first_child, torch.from_numpy(order), sizes, offsets, width)

    def save(self, path: str | Path, fingerprint: str) -> None:
        """Write the trie as one safetensors file, atomically.

        Args:
            path: the file.
            fingerprint: identifies the identifiers that the trie was built from; :meth:`load` compares it.
        """
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
            save_file(
                tensors, new, metadata={"trie": json.dumps(facts)}
            )  # one entry: safetensors does not keep their order

    @classmethod
    def load(
        cls, path: str | Path, fingerprint: str, items: int | None = None, name: Path | None = None
    ) -> "IdentifierTrie":
        """Open a saved trie; its arrays are memory-mapped.

        The numbers of a trie of at most ``CHECKED`` bytes are checked at once, which takes milliseconds; those of a larger
        one when it is moved to another device, or by :meth:`named_errors`.

        Args:
            path: the file.
            fingerprint: the one that :meth:`save` was given.
            items: the number of rows of the catalogue; None if it is not known.
            name: of the file in later messages; None for ``path``.

        Raises:
            CatalogueError: the file is missing, truncated, not a trie, or belongs to other identifiers, or a number in it
                is out of range.
        """
        remedy = REMEDY
        with reading(Path(path), remedy), safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("trie", "{}"))
            if facts.get("format") != FORMAT:
                raise CatalogueError(f"{path}: its format is {facts.get('format')!r}, not {FORMAT!r}; {remedy}")
            if facts["fingerprint"] != fingerprint:
                raise CatalogueError(
                    f"{path}: belongs to other identifiers (fingerprint {facts['fingerprint'][:12]}, expected "
                    f"{fingerprint[:12]}); {remedy}"
                )
            _check_facts(facts)
            depths = range(len(facts["sizes"]))
            values = [file.get_tensor(f"values.{depth}") for depth in depths]
            first_child = [file.get_tensor(f"first_child.{depth}") for depth in depths]
            trie = cls(values, first_child, file.get_tensor("rows"), facts["sizes"], facts["offsets"], facts["width"])
            for depth in depths:
                first = trie.first_child[depth]
                if trie.width[depth] > trie.num_nodes(depth + 1):
                    raise CatalogueError(f"{path}: level {depth} has no {trie.width[depth]} children; {remedy}")
                if len(first) != trie.num_nodes(depth) + 1 or int(first[-1]) != trie.num_nodes(depth + 1):
                    raise CatalogueError(f"{path}: levels {depth} and {depth + 1} do not fit together; {remedy}")
            if len(trie.rows) != trie.num_nodes(trie.length):
                raise CatalogueError(
                    f"{path}: {len(trie.rows)} rows for {trie.num_nodes(trie.length)} leaves; {remedy}"
                )
            if trie.nbytes <= CHECKED:
                trie.check(path, items)
            else:
                trie._unchecked = (name or Path(path), items)
        return trie

    def check(self, path: str | Path, items: int | None = None) -> None:
        """Read all numbers, and check that look-ups stay inside the arrays and end at rows of the catalogue.

        Args:
            path: the file, for the message.
            items: the number of rows of the catalogue; None if it is not known.

        Raises:
            CatalogueError: a number is out of range.
        """
        for depth, (values, first) in enumerate(zip(self.values, self.first_child, strict=True)):
            low, high = values.aminmax()
            if not (int(low) >= 0 and int(high) < self.sizes[depth]) or not _ascends(first, self.width[depth]):
                raise CatalogueError(f"{path}: a number of level {depth} is out of range; {REMEDY}")
        low, high = self.rows.aminmax()
        if int(low) < 0 or (items is not None and int(high) >= items):
            raise CatalogueError(
                f"{path}: names rows from {int(low)} to {int(high)}, the catalogue has {items} items; {REMEDY}"
            )
        self._unchecked = None

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """If look-ups in the block end outside of arrays, check the whole trie, and say if it is the cause.

        Raises:
            CatalogueError: the block failed, and a number in the trie is out of range.
        """
        try:
            yield
        except (IndexError, RuntimeError):
            if self._unchecked is not None:
                self.check(*self._unchecked)
            raise

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """The size of all arrays in bytes."""
        return sum(tensor.nbytes for tensor in (*self.values, *self.first_child, self.rows))

    def num_nodes(self, depth: int) -> int:
        """Return the number of nodes of ``depth``, which are the distinct prefixes of ``depth`` values."""
        return 1 if depth == 0 else len(self.values[depth - 1])

    def to(self, device: torch.device) -> "IdentifierTrie":
        """Move the arrays to a device, in place, and return the trie."""
        if self.rows.device != device:
            if self._unchecked is not None:  # all of it is read anyway, and devices crash at wrong indices
                self.check(*self._unchecked)
            self.rows = self.rows.to(device)
            self.values = [tensor.to(device) for tensor in self.values]
            self.first_child = [tensor.to(device) for tensor in self.first_child]
        return self

    def children(self, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look up the valid continuations of a batch of prefixes.

        Args:
            depth: the length of the prefixes.
            nodes: (R,) int64, nodes of that depth; 0 is the root at depth 0.

        Returns:
            Three tensors (R, W), where W is the largest number of children of a node of this depth: the child nodes
            (int64), their symbols in the target dictionary (int64), and whether the child exists (bool). Entries that
            do not exist hold valid indices without meaning.
        """
        begin, end = self.first_child[depth][nodes].long(), self.first_child[depth][nodes + 1]
        child = begin.unsqueeze(1) + torch.arange(self.width[depth], device=nodes.device)
        exists = child < end.unsqueeze(1)
        child = child.clamp_(max=len(self.values[depth]) - 1)
        return child, self.values[depth][child].long() + self.offsets[depth], exists

    def mask(self, depth: int, nodes: Tensor) -> Tensor:
        """Mask of the values that may follow each node: (R,) nodes of ``depth`` -> (R, size of the position) bool."""
        _, symbols, exists = self.children(depth, nodes)
        # children that do not exist are written to an extra column, which is dropped
        column = torch.where(exists, symbols - self.offsets[depth], self.sizes[depth])
        allowed = torch.zeros(len(nodes), self.sizes[depth] + 1, dtype=torch.bool, device=nodes.device)
        return allowed.scatter_(1, column, True)[:, :-1]

    def leaves(self, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The leaves below each node of ``depth``: begin and exclusive end, each int64 in the shape of ``nodes``."""
        begin, end = nodes, nodes + 1
        for first in self.first_child[depth:]:
            begin, end = first[begin].long(), first[end].long()
        return begin, end

    def symbols(self, leaves: Tensor) -> Tensor:
        """Identifiers of leaves in symbols of the target dictionary: (n,) int64 -> (n, J) int64."""
        found, nodes = [], leaves
        for depth in range(self.length - 1, -1, -1):
            found.append(self.values[depth][nodes].long() + self.offsets[depth])
            first = self.first_child[depth]
            nodes = torch.searchsorted(first, nodes.to(first.dtype), right=True) - 1
        return torch.stack(found[::-1], dim=1)

    def find(self, values: Tensor) -> Tensor:
        """Find the leaf of each identifier: (n, J) integers -> (n,) int64, -1 for one that the catalogue lacks."""
        node = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        known = torch.ones_like(node, dtype=torch.bool)
        for depth, wanted in enumerate(values.unbind(1)):
            low, end = self.first_child[depth][node].long(), self.first_child[depth][node + 1].long()
            high = end
            for _ in range(self.width[depth].bit_length()):  # binary search: children are sorted by value
                middle = (low + high) // 2
                below = (low < high) & (self.values[depth][middle.clamp(max=len(self.values[depth]) - 1)] < wanted)
                low, high = torch.where(below, middle + 1, low), torch.where(below, high, middle)
            node = low.clamp(max=len(self.values[depth]) - 1)
            known &= (low < end) & (self.values[depth][node] == wanted)
        return torch.where(known, node, -1)


def _ascends(first: Tensor, width: int) -> bool:
    """Whether each node has between 1 and ``width`` children, counted from 0."""
    if int(first[0]) != 0:
        return False
    return all(
        bool(((children := part.diff()) > 0).all() and (children <= width).all())
        for part in (first[at : at + BLOCK + 1] for at in range(0, len(first) - 1, BLOCK))
    )


def _check_facts(facts: dict[str, Any]) -> None:
    """Raise ValueError for numbers that no trie has; a search takes memory by the width."""
    lists = [facts[name] for name in ("sizes", "offsets", "width")]
    if not all(isinstance(each, list) and len(each) == len(lists[0]) for each in lists) or not lists[0]:
        raise ValueError("sizes, offsets and width are not of the same positions")
    for size, offset, width in zip(*lists, strict=True):
        if not all(type(each) is int for each in (size, offset, width)) or not (
            1 <= width <= size < 1 << 31 and 0 <= offset < 1 << 40
        ):
            raise ValueError(f"a position of size {size!r}, offset {offset!r} and width {width!r}")
