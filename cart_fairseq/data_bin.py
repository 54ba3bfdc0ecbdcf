"""A data-bin as ``preprocess.binarize`` leaves it: manifest, identifier bundle, candidate sets."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from cart_fairseq.candidates import CandidateSet
from cart_fairseq.files import read_json
from cart_fairseq.identifiers import SCHEMA_VERSION, IdentifierBundle, check_sizes
from cart_fairseq.trie import IdentifierTrie

REMEDY = "make it again with python -m preprocess.binarize"
TRIE = "trie.safetensors"


class DataBin:
    """An opened data-bin.

    Args:
        directory: the data-bin.

    Raises:
        ValueError: something is missing, truncated, of another schema, or made for another identifier bundle.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        if not (self.directory / "manifest.json").is_file():
            raise ValueError(f"{self.directory}: no manifest.json, so not a data-bin; {REMEDY}")
        self.manifest = read_json(self.directory / "manifest.json")
        if not isinstance(self.manifest, dict) or self.manifest.get("kind") != "data-bin":
            raise ValueError(f"{self.directory}/manifest.json: does not describe a data-bin; {REMEDY}")
        if self.manifest.get("schema_version") != SCHEMA_VERSION:
            found = self.manifest.get("schema_version")
            raise ValueError(
                f"{self.directory}/manifest.json: schema_version is {found}, this version reads {SCHEMA_VERSION}; {REMEDY}"
            )
        check_sizes(self.directory, self.manifest, REMEDY)
        self.bundle = IdentifierBundle.load(self.directory / "identifiers")
        if self.bundle.fingerprint != self.manifest["fingerprint"]:
            raise ValueError(f"{self.directory}: its identifiers are not those it was binarised with; {REMEDY}")
        self._candidate_sets: dict[str, CandidateSet | None] = {"all": None}

    @cached_property
    def fingerprint(self) -> bytes:
        """32 bytes that a checkpoint remembers: 16 of the identifiers and their items, 16 of the query vocabulary."""
        vocabulary = self.manifest["files"]["dict.query.txt"]["sha256"]
        halves = self.bundle.fingerprint
        return bytes.fromhex(halves[:16] + halves[32:48] + vocabulary[:32])

    def candidates(self, name: str) -> np.ndarray | None:
        """Item rows of a candidate set, sorted int64; None stands for every item.

        Raises:
            ValueError: there is no such set.
        """
        if name == "all":
            return None
        path = self.directory / f"candidates.{name}.npy"
        if not path.is_file():
            known = ", ".join(sorted(p.name.split(".")[1] for p in self.directory.glob("candidates.*.npy")))
            raise ValueError(f"{self.directory}: no candidate set {name!r}; there are: {known}")
        return np.load(path, mmap_mode="r", allow_pickle=False)

    @cached_property
    def trie(self) -> IdentifierTrie:
        """The trie of the whole catalogue, memory-mapped; built where the data-bin holds none.

        Raises:
            ValueError: the saved one is damaged or belongs to other identifiers.
        """
        if TRIE in self.manifest["files"]:
            return IdentifierTrie.load(self.directory / TRIE, self.bundle.fingerprint)
        return build_trie(self.bundle)

    def candidate_set(self, rows: np.ndarray) -> CandidateSet:
        """The items of these rows as a set that can be searched."""
        values = torch.from_numpy(np.asarray(self.bundle.values[rows])).to(self.trie.rows.device)
        return CandidateSet(self.trie.find(values))

    def source(self, name: str) -> tuple[IdentifierTrie, CandidateSet | None]:
        """The trie, and a named candidate set; None stands for every item.

        Raises:
            ValueError: there is no such set.
        """
        if name not in self._candidate_sets:
            rows = self.candidates(name)
            self._candidate_sets[name] = (
                None if rows is None or len(rows) == len(self.bundle) else self.candidate_set(rows)
            )
        return self.trie, self._candidate_sets[name]


def build_trie(bundle: IdentifierBundle) -> IdentifierTrie:
    """The trie of all identifiers of a bundle."""
    sizes = [position.size for position in bundle.positions]
    return IdentifierTrie.build(bundle.values, sizes, bundle.offsets.tolist())
