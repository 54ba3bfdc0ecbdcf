"""A data-bin, as ``preprocess.binarize`` writes it: manifest, identifier bundle, candidate sets.

An update has three steps. It writes the files that depend on the bundle into a folder named after the bundle's new
state, replaces the bundle's manifest, and moves the files up. Until the third step ends, that folder is read.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.dense_items import EMBEDDINGS, DenseItems
from cart_fairseq.catalogue.errors import CatalogueError, read_json, reading
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.segments import SCHEMA_VERSION, check_sizes
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.files import is_plain_name

REMEDY = "make it again with python -m preprocess.binarize"
TRIE = "trie.safetensors"
QUERIES = "queries.{}.parquet"
"""File name of a subset's query table: ``query_id``, ``item_row``, ``text``, ``role``; row i is fairseq's example i."""


class SearchSpace(NamedTuple):
    """The items that a search may find.

    Attributes:
        trie: the trie of the whole catalogue.
        candidates: the items that compete, or None for all.
    """

    trie: IdentifierTrie
    candidates: CandidateSet | None


class DataBin:
    """An opened data-bin.

    Args:
        directory: the data-bin's folder.

    Attributes:
        bundle: the identifier bundle.
        directory: the folder that holds the current files; see the module's docstring.
        manifest: the parsed ``manifest.json``.

    Raises:
        CatalogueError: a file is missing, truncated, of another schema, or made for another identifier bundle.
    """

    def __init__(self, directory: str | Path):
        root = Path(directory)
        if not (root / "manifest.json").is_file():
            raise CatalogueError(f"{root}: no manifest.json, so this is not a data-bin; {REMEDY}")
        manifest = read_json(root / "manifest.json")
        if not isinstance(manifest, dict) or manifest.get("kind") != "data-bin":
            raise CatalogueError(f"{root}/manifest.json: it does not describe a data-bin; {REMEDY}")
        if manifest.get("schema_version") != SCHEMA_VERSION:
            found = manifest.get("schema_version")
            raise CatalogueError(
                f"{root}/manifest.json: schema_version is {found}, this version reads {SCHEMA_VERSION}; {REMEDY}"
            )
        self.bundle = IdentifierBundle.load(root / "identifiers")
        pending = pending_folder(root, self.bundle.state)
        self.directory = pending if pending.is_dir() else root
        self.manifest = read_json(self.directory / "manifest.json")
        with reading(self.directory / "manifest.json", REMEDY):
            check_sizes(self.directory, self.manifest, REMEDY)
            check_counts(self.manifest)
            fingerprint = self.manifest["fingerprint"]
        if self.bundle.fingerprint != fingerprint:
            raise CatalogueError(f"{root}: its identifiers differ from those it was binarised with; {REMEDY}")
        if self.bundle.state != self.manifest.get("identifiers", self.bundle.state):
            raise CatalogueError(f"{root}: its identifiers were updated without the data-bin; {REMEDY}")
        self._candidate_sets: dict[str, CandidateSet | None] = {"all": None}

    @cached_property
    def fingerprint(self) -> bytes:
        """The 32 bytes that a checkpoint stores: 16 for the identifiers and items, 16 for the query vocabulary."""
        vocabulary = self.manifest["files"]["dict.query.txt"]["sha256"]
        halves = self.bundle.fingerprint
        return bytes.fromhex(halves[:16] + halves[32:48] + vocabulary[:32])

    @property
    def subsets(self) -> list[str]:
        """The names of the subsets that have queries, sorted."""
        before, after = QUERIES.split("{}")
        names = [path.name for path in self.directory.iterdir()]
        return sorted(n[len(before) : -len(after)] for n in names if n.startswith(before) and n.endswith(after))

    def queries(self, subset: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the queries of a subset, in the order of fairseq's examples.

        Args:
            subset: the subset's name.
            columns: the columns to read, see :data:`QUERIES`; None for all.

        Raises:
            ValueError: the data-bin has no such subset. A damaged table is a CatalogueError.
        """
        path = self.directory / queries_file(subset)
        if "/" in subset or not path.is_file():
            known = ", ".join(self.subsets) or "none"
            raise ValueError(
                f"{self.directory}: no {subset} queries (found: {known}); binarise captions with {subset} queries"
            )
        with reading(path, REMEDY):
            return pq.read_table(path, columns=None if columns is None else [*columns])

    def candidates(self, name: str) -> np.ndarray | None:
        """Item rows of a candidate set, sorted int64, or None for every item.

        Raises:
            ValueError: the data-bin has no candidate set of this name.
        """
        if name == "all" and not len(self.bundle.removed):
            return None
        path = self.directory / f"candidates.{name}.npy"
        if "/" in name or not path.is_file():
            named = (p.name.split(".")[1] for p in self.directory.glob("candidates.*.npy"))
            known = ", ".join(sorted({"all", *named}))
            raise ValueError(f"{self.directory}: no candidate set {name!r}; use one of: {known}")
        with reading(path, REMEDY):
            return np.load(path, mmap_mode="r", allow_pickle=False)

    @cached_property
    def trie(self) -> IdentifierTrie:
        """The trie of the whole catalogue: memory-mapped if the data-bin holds one, else built in memory.

        Raises:
            CatalogueError: the saved trie is damaged or belongs to other identifiers.
        """
        if TRIE in self.manifest["files"]:
            trie = IdentifierTrie.load(self.directory / TRIE, self.bundle.state)
            if list(trie.sizes) != [position.size for position in self.bundle.positions]:
                raise CatalogueError(f"{self.directory / TRIE}: its positions are not those of the bundle; {REMEDY}")
            return trie
        return build_trie(self.bundle)

    @cached_property
    def dense_items(self) -> DenseItems | None:
        """The item features for a dense head, or None if the data-bin was made without embeddings.

        Raises:
            CatalogueError: a file of features is damaged.
        """
        entry = self.manifest["files"].get(EMBEDDINGS)
        if entry is None:
            return None
        with reading(self.directory / EMBEDDINGS, REMEDY):
            return DenseItems(self.directory, self.manifest["index_captions"] == "include", entry["sha256"])

    def candidate_set(self, rows: np.ndarray) -> CandidateSet:
        """Make a candidate set of item rows.

        Args:
            rows: (n,) int64 item rows.

        Raises:
            ValueError: ``rows`` is empty, or one of the items was removed.
        """
        values = torch.from_numpy(np.asarray(self.bundle.values[rows])).to(self.trie.rows.device)
        leaves = self.trie.find(values)
        if (leaves < 0).any():
            gone = self.bundle.item_id(int(rows[int((leaves < 0).int().argmax())]))
            raise ValueError(f"item {gone!r} was removed from the catalogue; leave it out of the candidates")
        return CandidateSet(leaves)

    def search_space(self, name: str) -> SearchSpace:
        """Return the trie and the candidate set of this name.

        Raises:
            ValueError: the data-bin has no candidate set of this name.
        """
        if name not in self._candidate_sets:
            rows = self.candidates(name)
            self._candidate_sets[name] = (
                None if rows is None or len(rows) == len(self.trie) else self.candidate_set(rows)
            )
        return SearchSpace(self.trie, self._candidate_sets[name])


def check_counts(manifest: Any) -> None:
    """Raise ValueError where a manifest names subsets by what can be no part of a file's name, or counts no queries."""
    for subset, count in manifest.get("counts", {}).items():
        if not is_plain_name(subset):
            raise ValueError(f"counts names the subset {subset!r}")
        if any(type(number) is not int or number < 0 for number in count.values()):
            raise ValueError(f"counts of {subset} are {count!r}")


def queries_file(subset: str) -> str:
    """Return the file name of a subset's query table, which has a row for each example of the indexed data sets.

    >>> queries_file("train")
    'queries.train.parquet'
    """
    return QUERIES.format(subset)


def pending_folder(root: Path, state: str) -> Path:
    """Return the folder into which an update writes the files that belong to this state of the bundle."""
    return root / f"next.{state[:16]}"


def build_trie(bundle: IdentifierBundle) -> IdentifierTrie:
    """Build the trie of a bundle's identifiers, without those of removed items."""
    sizes, offsets = [position.size for position in bundle.positions], bundle.offsets.tolist()
    if not len(bundle.removed):
        return IdentifierTrie.build(bundle.values, sizes, offsets)
    return IdentifierTrie.build(bundle.values[bundle.kept], sizes, offsets, bundle.kept)
