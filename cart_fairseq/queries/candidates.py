"""The items that queries of a search may find, as a caller names them."""

from collections.abc import Iterable, Sequence
from typing import Any

from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.data_bin import DataBin

Candidates = str | CandidateSet | Iterable[str] | None
"""Name of a candidate set, a prepared set, item ids, or None for the whole catalogue."""


def candidate_set(data: DataBin, candidates: Candidates) -> CandidateSet | None:
    """Return the set; None if nothing restricts the search.

    Raises:
        ValueError: a name or an item id is unknown, or there is no candidate.
    """
    if isinstance(candidates, CandidateSet):
        return candidates
    if candidates is None or isinstance(candidates, str):
        return data.search_space("all" if candidates is None else candidates).candidates
    item_ids = _listed(candidates)
    for item_id in item_ids:
        if not isinstance(item_id, str):
            raise ValueError(f"candidates has {item_id!r}; give item ids, which are strings, or a set for each query")
    return data.candidate_set(data.bundle.rows_of(item_ids))


def sets_of(data: DataBin, candidates: Candidates | Sequence[Candidates], queries: int) -> list[CandidateSet | None]:
    """Return the set of each query, from one for all or a list with one for each.

    Raises:
        ValueError: see :func:`candidate_set`; or the number of sets is not that of the queries.
    """
    if candidates is None or isinstance(candidates, str | CandidateSet):
        return [candidate_set(data, candidates)] * queries
    given = _listed(candidates)
    if all(isinstance(each, str) for each in given):
        return [candidate_set(data, given)] * queries
    if any(isinstance(each, str) for each in given):
        raise ValueError("candidates mixes item ids with sets; give item ids alone, or one set for each query")
    if len(given) != queries:
        raise ValueError(f"{len(given)} candidate sets for {queries} queries; give one each, or one for all")
    return [candidate_set(data, each) for each in given]


def _listed(candidates: Any) -> list[Any]:
    """Return candidates as a list.

    Raises:
        ValueError: they are no series.
    """
    if not isinstance(candidates, Iterable):
        raise ValueError(f"candidates is {candidates!r}; give the name of a candidate set or a list of item ids")
    return [*candidates]
