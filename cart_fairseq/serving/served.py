"""What answers: a retriever with its catalogue, as both were when they were opened, and what is kept beside them."""

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.example_retriever import ExampleRetriever
from cart_fairseq.network.model import CART
from cart_fairseq.queries.query import Query
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.dense.stored_statistics import EXACT_ITEMS
from cart_fairseq.serving.errors import Refusal, refusal_of
from cart_fairseq.serving.facets import Facets

SET_BYTES = 256 << 20
"""Memory for candidate sets that are kept for later searches, and what searches keep for them."""
WARM_TEXT = "a picture"
SAMPLE = 60
"""The largest number of items of a sample."""

Retriever = CartRetriever | ExampleRetriever


class Served:
    """A retriever and the state of the catalogue that it answers from.

    Args:
        retriever: the retriever.
        earlier: what answered before; facets of the parts that both have are taken from it.

    Attributes:
        items: the number of items that can be found.
        revision: the number of updates since the catalogue was built.
        facets: the fields that a search can be restricted by.
        loaded: seconds since the epoch.
    """

    def __init__(self, retriever: Retriever, earlier: "Served | None" = None):
        self.retriever = retriever
        self.data = retriever.data
        self.bundle = retriever.data.bundle
        self.items = len(self.bundle) - len(self.bundle.removed)
        self.revision = self.bundle.revision
        self.facets: Facets = Facets(self.bundle, earlier.facets if earlier else None)
        self.loaded = time.time()
        self._sets: OrderedDict[Any, tuple[CandidateSet | None, int]] = OrderedDict()

    def warm(self) -> float:
        """Search once, so that nothing is left to compute for the first client; return the seconds of a second search.

        Raises:
            ValueError: the model or the catalogue cannot answer.
        """
        self.facets_shown  # noqa: B018 - computes it
        self.bundle.find("")  # sorts the ids
        query = self._warming()
        self.retriever.search([query])
        began = time.monotonic()
        if not self.retriever.search([query])[0]:
            raise ValueError(f"{self.data.root}: a search finds no item; check checkpoint and data-bin")
        return time.monotonic() - began

    def _warming(self) -> str | Query:
        """A query that any catalogue has an answer to."""
        if isinstance(self.retriever, CartRetriever):
            return WARM_TEXT
        assert self.data.dense_items is not None
        embedding = np.ones(self.data.dense_items.original_dim, dtype=np.float32)
        return Query(embedding=embedding)

    @property
    def models(self) -> list[CART]:
        """The models; none where items are found by example alone."""
        return self.retriever.models if isinstance(self.retriever, CartRetriever) else []

    @property
    def beam(self) -> int:
        """How many items a search finds at the cost of one."""
        return self.retriever.beam if isinstance(self.retriever, CartRetriever) else 1

    @property
    def shown(self) -> dict[str, int]:
        """The catalogue as answers name it."""
        return {"items": self.items, "revision": self.revision}

    @cached_property
    def facets_shown(self) -> dict[str, Any]:
        """The facets as ``/api/facets`` shows them."""
        return self.facets.shown()

    @cached_property
    def candidate_names(self) -> list[str]:
        """The names of candidate sets, ``all`` among them."""
        return sorted({"all", *self.data.candidate_names})

    @cached_property
    def candidate_sizes(self) -> dict[str, int]:
        """The number of items of each candidate set."""
        rows = {name: self.data.candidates(name) for name in self.candidate_names}
        return {name: self.items if each is None else len(each) for name, each in rows.items()}

    @property
    def takes_media(self) -> bool:
        """Whether the data-bin names an encoder for media files."""
        return self.data.manifest.get("encoder") is not None

    def hide(self, message: str) -> str:
        """Leave the folders of this machine out of a message."""
        for folder in (self.data.directory, self.data.root):
            message = message.replace(str(folder), folder.name)
        return message

    def record(self, item_id: str) -> dict[str, Any]:
        """Return an item's record.

        Raises:
            Refusal: 404, there is no such item.
        """
        row = self.bundle.find(item_id)
        if row is None:
            raise Refusal(404, "item_id", f"no item {item_id!r}", "use an id that a search or a list of items names")
        return self.bundle.record(row)

    @cached_property
    def sample(self) -> list[dict[str, Any]]:
        """The records of some items, spread evenly over the catalogue, for those who have no query yet."""
        rows = self.bundle.kept[:: max(1, -(-self.items // SAMPLE))]
        return [self.bundle.record(row) for row in rows.tolist()]

    def candidate_set(
        self, candidates: str | Sequence[str] | None, where: Mapping[str, Any] | None
    ) -> tuple[CandidateSet | None, bool]:
        """Return the items that a search may find.

        Args:
            candidates: the name of a candidate set, item ids, or None.
            where: values of fields; see :meth:`Facets.rows`.

        Returns:
            The set, or None for the whole catalogue; and whether there is any item.

        Raises:
            Refusal: a name, an item or a field is unknown.
        """
        if isinstance(candidates, str) and candidates not in self.candidate_names:
            known = ", ".join(self.candidate_names)
            raise Refusal(422, "candidates", f"no candidate set {candidates!r}", f"use one of: {known}")
        if not where and (candidates is None or isinstance(candidates, str)):
            return self.retriever.candidate_set(candidates), True
        key = (_hashable(candidates), _hashable(where or {}))
        if key in self._sets:
            self._sets.move_to_end(key)
            return self._sets[key][0], self._sets[key][0] is not None
        found = self._new_set(candidates, where or {})
        self._sets[key] = (found, self._bytes(found))
        while len(self._sets) > 1 and sum(size for _, size in self._sets.values()) > SET_BYTES:
            self._sets.popitem(last=False)
        return found, found is not None

    def _new_set(self, candidates: str | Sequence[str] | None, where: Mapping[str, Any]) -> CandidateSet | None:
        try:
            within = self._rows(candidates)
            rows = self.facets.rows(where, within) if where else within
            return self.data.candidate_set(rows) if rows is not None and len(rows) else None
        except ValueError as error:
            raise refusal_of(error, "candidates") from None

    def _rows(self, candidates: str | Sequence[str] | None) -> NDArray[np.int64] | None:
        """Rows of candidates, (n,) int64; None for the whole catalogue."""
        if candidates is None or isinstance(candidates, str):
            return self.data.candidates("all" if candidates is None else candidates)
        return self.bundle.rows_of(candidates)

    def _bytes(self, found: CandidateSet | None) -> int:
        """About how much memory a set takes, with the vectors that a search keeps for a small one."""
        if found is None:
            return 1 << 10
        vectors = 0
        if self.data.dense_items is not None and len(found) <= EXACT_ITEMS:
            vectors = 4 * 2 * self.data.dense_items.width * len(self.models)
        return len(found) * (8 + vectors) + (1 << 10)


def _hashable(value: Any) -> Any:
    """A part of a key: lists as tuples, in a dictionary's fixed order; a number and a truth value differ."""
    if isinstance(value, Mapping):
        return tuple(sorted((name, _hashable(each)) for name, each in value.items()))
    if isinstance(value, list | tuple):
        return tuple(_hashable(each) for each in value)
    return type(value).__name__, value
