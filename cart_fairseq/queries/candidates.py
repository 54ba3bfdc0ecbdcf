"""The items that queries of a search may find, as a caller names them."""

from collections.abc import Iterable, Sequence
from typing import Any

from cart_fairseq.base.checks import is_series, plain, short
from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.data_bin import DataBin

Candidates = str | CandidateSet | Iterable[str] | None
"""Name of a candidate set, a prepared set, item ids, or None for the whole catalogue."""


def candidate_set(data: DataBin, candidates: Candidates) -> CandidateSet | None:
    """Return the set; None if nothing restricts the search.

    Raises:
        ValueError: a name or an item id is unknown, or there is no candidate.
    """
    candidates = plain(candidates)
    if isinstance(candidates, CandidateSet):
        return candidates
    if candidates is None or isinstance(candidates, str):
        return data.search_space("all" if candidates is None else candidates).candidates
    item_ids = _listed(candidates)
    for item_id in item_ids:
        if not isinstance(item_id, str):
            raise ValueError(
                f"candidates has {short(item_id)}; give item ids, which are strings, or a set for each query"
            )
    return data.candidate_set(data.bundle.rows_of(item_ids))


def sets_of(data: DataBin, candidates: Candidates | Sequence[Candidates], queries: int) -> list[CandidateSet | None]:
    """Return the set of each query, from one for all or a list with one for each.

    Raises:
        ValueError: see :func:`candidate_set`, the message names the query if each has its own set; or the number of
            sets is not that of the queries.
    """
    candidates = plain(candidates)
    if candidates is None or isinstance(candidates, str | CandidateSet):
        return [candidate_set(data, candidates)] * queries
    given = _listed(candidates)
    if all(isinstance(each, str) for each in given):
        return [candidate_set(data, given)] * queries
    if any(isinstance(each, str) for each in given):
        raise ValueError("candidates mixes item ids with sets; give item ids alone, or one set for each query")
    if len(given) != queries:
        raise ValueError(f"{len(given)} candidate sets for {queries} queries; give one each, or one for all")
    found = []
    for position, each in enumerate(given):
        try:
            found.append(candidate_set(data, each))
        except ValueError as error:
            raise ValueError(f"query {position}: {error}") from None
    return found


def _listed(candidates: Any) -> list[Any]:
    """Return candidates as a list.

    Raises:
        ValueError: they are no series.
    """
    if not is_series(candidates):
        raise ValueError(f"candidates is {short(candidates)}; give the name of a candidate set or a list of item ids")
    return [plain(each) for each in candidates]
