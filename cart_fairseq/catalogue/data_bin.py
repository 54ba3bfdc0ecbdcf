"""A data-bin, as ``preprocess.binarize`` writes it: manifest, identifier bundle, candidate sets.

An update has three steps. It writes the files that depend on the bundle into a folder named after the bundle's new
state, replaces the bundle's manifest, and moves the files up. Until the third step ends, that folder is read.
"""

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from cart_fairseq.base.checks import short
from cart_fairseq.base.parquet import read_table
from cart_fairseq.catalogue import segments
from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.checksums import verify_files
from cart_fairseq.catalogue.data_bin_fields import check_fields
from cart_fairseq.catalogue.dense_items import CAPTIONS, EMBEDDINGS, ORIGINALS, DenseItems
from cart_fairseq.catalogue.errors import CatalogueError, read_json, reading
from cart_fairseq.catalogue.held_files import Stamp, identity, open_settled
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.segments import MANIFEST
from cart_fairseq.catalogue.trie import IdentifierTrie

REMEDY = "make it again with python -m preprocess.binarize"
TRIE = "trie.safetensors"
TEXT_ENCODER = "text-encoder"
CANDIDATES = "candidates.{}.npy"
"""File name of a candidate set: (C,) int64 item rows, ascending. Users may add sets of their own."""
QUERY_DICTIONARY = "dict.query.txt"
PENDING = "next."
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
    """An opened data-bin: what it was when it was opened, whatever happens to the folder later.

    Where it is unpickled, the folder is opened again; see :func:`opened_again`.

    Args:
        directory: the data-bin's folder.

    Attributes:
        bundle: the identifier bundle.
        directory: the folder that held the current files; see the module's docstring.
        files: the files of `directory`, held open.
        encoder_files: the files of a text encoder, held open; None if there is none.
        manifest: the parsed ``manifest.json``.

    Raises:
        CatalogueError: a file is missing, truncated, of another schema, or made for another identifier bundle; or the
            data-bin was updated again and again while it was opened.
    """

    def __init__(self, directory: str | Path):
        self.root = Path(directory)
        open_settled(self.root, lambda: stamp_of(self.root), self._open)
        self._candidate_sets: dict[str, CandidateSet | None] = {"all": None}

    def __reduce__(self) -> Any:
        return opened_again, (self.root.absolute(), self.bundle.state, self.manifest)

    def __deepcopy__(self, _memo: Any) -> "DataBin":
        return self

    def _open(self) -> None:
        root = self.root
        if not (root / MANIFEST).is_file():
            raise CatalogueError(f"{root}: no manifest.json, so this is not a data-bin; {REMEDY}")
        manifest = read_json(root / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("kind") != "data-bin":
            raise CatalogueError(f"{root}/manifest.json: it does not describe a data-bin; {REMEDY}")
        segments.check_schema(root / MANIFEST, manifest, REMEDY)
        self.bundle = IdentifierBundle.load(root / "identifiers")
        pending = pending_folder(root, self.bundle.state)
        self.directory = pending if pending.is_dir() else root
        self.manifest = read_json(self.directory / MANIFEST)
        with reading(self.directory / MANIFEST, REMEDY):
            own_sets = (path.name for path in self.directory.glob(CANDIDATES.format("*")) if path.is_file())
            self.files = segments.hold_files(self.directory, self.manifest, REMEDY, own_sets)
            check_fields(self.manifest)
            fingerprint = self.manifest["fingerprint"]
            encoder = self.manifest.get("text_encoder")
            # an update of the items does not move it
            self.encoder_files = encoder and segments.hold_files(root / TEXT_ENCODER, encoder, REMEDY)
        if self.bundle.fingerprint != fingerprint:
            raise CatalogueError(f"{root}: its identifiers differ from those it was binarised with; {REMEDY}")
        if self.bundle.state != self.manifest.get("identifiers", self.bundle.state):
            raise CatalogueError(f"{root}: its identifiers were updated without the data-bin; {REMEDY}")

    def verify(self, names: Iterable[str] | None = None) -> list[str]:
        """Compare the SHA-256 of files with the manifest; return the names of those without a checksum.

        Args:
            names: of the files, without those of the bundle and of a text encoder; None for all.

        Raises:
            CatalogueError: a checksum differs; the message names the file.
        """
        return verify_files(self.files, self.manifest, self.files.names if names is None else names, REMEDY)

    @property
    def has_captions(self) -> bool:
        """Whether the data-bin was made with captions. Without them nothing can be trained on it."""
        return QUERY_DICTIONARY in self.manifest["files"]

    def refuse_without_captions(self) -> None:
        """Raise ValueError if the data-bin was made without captions."""
        if not self.has_captions:
            raise ValueError(
                f"{self.directory}: was made without captions, so no model belongs to it; search it by example "
                "(cart_fairseq.ExampleRetriever, cart_fairseq.serve without --path), or binarise with --captions"
            )

    @cached_property
    def fingerprint(self) -> bytes:
        """The 32 bytes that a checkpoint stores: 16 for the identifiers and items, 16 for the query vocabulary.

        Raises:
            ValueError: the data-bin was made without captions.
        """
        self.refuse_without_captions()
        vocabulary = self.manifest["files"][QUERY_DICTIONARY]["sha256"]
        halves = self.bundle.fingerprint
        return bytes.fromhex(halves[:16] + halves[32:48] + vocabulary[:32])

    @property
    def subsets(self) -> list[str]:
        """The names of the subsets that have queries, sorted."""
        before, after = QUERIES.split("{}")
        names = self.files.names
        return [n[len(before) : -len(after)] for n in names if n.startswith(before) and n.endswith(after)]

    def queries(self, subset: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the queries of a subset, in the order of fairseq's examples.

        Args:
            subset: the subset's name.
            columns: the columns to read, see :data:`QUERIES`; None for all.

        Raises:
            ValueError: the data-bin has no such subset. A damaged table is a CatalogueError.
        """
        name = queries_file(subset)
        if name not in self.files:
            known = ", ".join(self.subsets) or "none"
            raise ValueError(
                f"{self.directory}: no {subset} queries (found: {known}); binarise captions with {subset} queries"
            )
        with self.files.reading(name) as path:
            table = read_table(path, columns)
            table.validate(full=True)  # its texts are UTF-8
            if "item_row" in table.column_names and len(table):
                rows = table["item_row"].to_numpy()
                least, most = int(rows.min()), int(rows.max())
                if not 0 <= least <= most < len(self.bundle):
                    raise ValueError(f"item_row goes from {least} to {most}, the rows from 0 to {len(self.bundle) - 1}")
            return table

    def candidates(self, name: str) -> np.ndarray | None:
        """Item rows of a candidate set, sorted int64, or None for every item.

        Raises:
            ValueError: the data-bin has no candidate set of this name.
        """
        if name == "all" and not len(self.bundle.removed):
            return None
        file = CANDIDATES.format(name)
        if file not in self.files:
            known = ", ".join(sorted({"all", *self.candidate_names}))
            raise ValueError(f"{self.directory}: no candidate set {short(name)}; use one of: {known}")
        rows = self._array(file)
        if (
            rows.dtype.kind not in "iu"
            or rows.ndim != 1
            or (len(rows) and not 0 <= rows.min() <= rows.max() < len(self.bundle))
        ):
            raise CatalogueError(
                f"{self.directory / file}: {rows.dtype} of shape {rows.shape}, expected item rows from 0 to "
                f"{len(self.bundle) - 1}; {REMEDY}"
            )
        return rows

    @property
    def candidate_names(self) -> list[str]:
        """The names of the candidate sets that the data-bin holds, sorted."""
        before, after = CANDIDATES.split("{}")
        names = self.files.names
        return [n[len(before) : -len(after)] for n in names if n.startswith(before) and n.endswith(after)]

    @cached_property
    def trie(self) -> IdentifierTrie:
        """The trie of the whole catalogue: memory-mapped if the data-bin holds one, else built in memory.

        Raises:
            CatalogueError: the saved trie is damaged or belongs to other identifiers.
        """
        if TRIE in self.manifest["files"]:
            with self.files.reading(TRIE) as path:
                trie = IdentifierTrie.load(path, self.bundle.state, len(self.bundle), self.directory / TRIE)
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
        captions = self._array(CAPTIONS) if CAPTIONS in self.files else None
        texts = self.manifest["index_captions"] == "include"
        embeddings = self._features(EMBEDDINGS)
        originals = self._features(ORIGINALS) if ORIGINALS in self.files else None
        if originals is None and captions is None:
            originals = embeddings  # they were not joined
        return DenseItems(self.root, embeddings, captions, texts, entry["sha256"], originals)

    def _features(self, name: str) -> np.ndarray:
        """Open (N, D) features of the items."""
        found = self._array(name)
        if found.ndim != 2 or len(found) != len(self.bundle) or found.dtype not in (np.float16, np.float32):
            raise CatalogueError(
                f"{self.directory / name}: {found.dtype} of shape {found.shape}, expected float16 or float32 with "
                f"{len(self.bundle)} rows; {REMEDY}"
            )
        return found

    def _array(self, name: str) -> np.ndarray:
        with self.files.reading(name) as path:
            return np.load(path, mmap_mode="r", allow_pickle=False)

    def refuse_wrong(self, rows: NDArray[np.int64], tokens: NDArray[np.int64]) -> None:
        """Check that items that were found have the identifiers by which they were found.

        Args:
            rows: (n,) int64 item rows.
            tokens: (n, J) int64 identifiers, in symbols of the target dictionary.

        Raises:
            CatalogueError: one has another, so the trie is damaged.
        """
        inside = (rows >= 0) & (rows < len(self.bundle))
        own = self.bundle.values_of(np.where(inside, rows, 0)) + self.bundle.offsets
        if not (inside & (own == tokens).all(axis=1)).all():
            raise CatalogueError(
                f"{self.directory / TRIE}: leads to items that have other identifiers, so it is damaged; {REMEDY}"
            )

    def candidate_set(self, rows: np.ndarray) -> CandidateSet:
        """Make a candidate set of item rows.

        Args:
            rows: (n,) int64 item rows.

        Raises:
            ValueError: ``rows`` is empty, no row of the catalogue, or one of the items was removed.
        """
        rows = np.asarray(rows)
        if len(rows) and (rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= len(self.bundle)):
            found = f"{rows.dtype} from {rows.min()} to {rows.max()}"
            raise ValueError(f"rows of candidates are {found}; give whole numbers from 0 to {len(self.bundle) - 1}")
        values = torch.from_numpy(self.bundle.values_of(rows)).to(self.trie.rows.device)
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


def opened_again(root: Path, state: str, manifest: dict[str, Any]) -> DataBin:
    """Open a data-bin that was pickled.

    Raises:
        CatalogueError: it is in another state than then, missing or damaged.
    """
    found = DataBin(root)
    if found.bundle.state != state or found.manifest != manifest:
        raise CatalogueError(f"{root}: was updated since it was pickled; open it anew")
    return found


def stamp_of(root: Path) -> Stamp:
    """Return what changes with every change of a data-bin, and when an update has moved its files up."""
    try:
        names = tuple(sorted(name for name in os.listdir(root) if name.startswith(PENDING)))
    except OSError:
        names = ()
    return (identity(root), identity(root / MANIFEST), *segments.stamp(root / "identifiers"), names)


def queries_file(subset: str) -> str:
    """Return the file name of a subset's query table, which has a row for each example of the indexed data sets.

    >>> queries_file("train")
    'queries.train.parquet'
    """
    return QUERIES.format(subset)


def pending_folder(root: Path, state: str) -> Path:
    """Return the folder into which an update writes the files that belong to this state of the bundle."""
    return root / f"{PENDING}{state[:16]}"


def build_trie(bundle: IdentifierBundle) -> IdentifierTrie:
    """Build the trie of a bundle's identifiers, without those of removed items."""
    sizes, offsets = [position.size for position in bundle.positions], bundle.offsets.tolist()
    if not len(bundle.removed):
        return IdentifierTrie.build(bundle.values, sizes, offsets)
    return IdentifierTrie.build(bundle.values[bundle.kept], sizes, offsets, bundle.kept)
