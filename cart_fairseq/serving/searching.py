"""Searches a batch of requests in one pass, so that one that is wrong fails alone."""

import dataclasses
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.queries.hit import Hit
from cart_fairseq.queries.mixed_input import refuse_mixed
from cart_fairseq.queries.query import EMBEDDING, ITEM, MEDIA, TEXT, Part, Query
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.serving.errors import Refusal, refusal_of
from cart_fairseq.serving.served import Served

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """What one request asks for.

    Attributes:
        queries: the queries.
        k: the number of items for each.
        candidates, where: see :meth:`cart_fairseq.serving.served.Served.candidate_set`.
        at_least: the lowest probability of an item; None for all items.
        several: whether the request has a list of queries.
        upload: the path of a media file that came with it.
    """

    queries: Sequence[Query]
    k: int
    candidates: str | Sequence[str] | None = None
    where: dict[str, Any] | None = None
    at_least: float | None = None
    several: bool = False
    upload: str | None = None


@dataclass(frozen=True)
class Answer:
    """The answer to a request.

    Attributes:
        hits: the hits of each query, best first.
        served: what answered.
    """

    hits: Sequence[Sequence[Hit]]
    served: Served


def with_embedding(served: Served, asked: Asked, seconds: float) -> Asked:
    """Embed the uploaded file of a request, so that searches do not wait for it.

    Args:
        served: what answers.
        asked: a request with a file.
        seconds: how long reading the file may take.

    Returns:
        The request with an embedding in place of the file; the same request if nothing answers such queries, or one of its
        queries is wrong, which the search then says.

    Raises:
        Refusal: the file cannot be read or takes too long.
    """
    assert asked.upload is not None
    retriever = served.retriever
    if isinstance(retriever, CartRetriever) and refuse_mixed(retriever.models, served.data, retriever.dense_weight):
        return asked
    try:
        parts = [query.parts() for query in asked.queries]
    except ValueError:
        return asked
    try:
        [vector] = retriever.encode_media([asked.upload], seconds)
    except ValueError as error:
        raise _wrong(ValueError(f"query 0: {error}"), served, asked) from None
    return dataclasses.replace(asked, queries=[_with_vector(each, vector) for each in parts])


def _with_vector(parts: Sequence[Part], vector: NDArray[np.float32]) -> Query:
    """A query of these parts, with an embedding in place of its file."""
    values: dict[str, list[Any]] = {TEXT: [], ITEM: [], EMBEDDING: []}
    weights: dict[str, list[float]] = {kind: [] for kind in values}
    for part in parts:
        kind = EMBEDDING if part.kind == MEDIA else part.kind
        values[kind].append(vector if part.kind == MEDIA else part.value)
        weights[kind].append(part.weight)
    return Query(values[TEXT], values[ITEM], values[EMBEDDING] or None, weights=weights)


def search(served: Served, batch: Sequence[Asked]) -> list[Answer | Exception]:
    """Search for all requests of a batch from one state of the catalogue.

    Requests whose searches have the same settings are searched together. A search for more items than the beam is wide
    has a wider beam, so it is searched apart: no request's answer depends on what others ask for.

    Returns:
        For each request its answer, or what is wrong with it.
    """
    found: list[Answer | Exception] = [Answer([[]] * len(asked.queries), served) for asked in batch]
    groups: dict[Any, list[int]] = {}
    sets: dict[int, CandidateSet | None] = {}
    for place, asked in enumerate(batch):
        try:
            sets[place], some = served.candidate_set(asked.candidates, asked.where)
        except Exception as error:
            found[place] = error
            continue
        if some:
            groups.setdefault((max(asked.k, served.beam), asked.at_least), []).append(place)
    for places in groups.values():
        _search_group(served, batch, places, sets, found)
    return found


def _search_group(
    served: Served,
    batch: Sequence[Asked],
    places: Sequence[int],
    sets: dict[int, CandidateSet | None],
    found: list[Answer | Exception],
) -> None:
    """Search for some requests of a batch together; for each alone if one is wrong. Fills in their answers."""
    group = [batch[place] for place in places]
    queries = [query for asked in group for query in asked.queries]
    candidates = [sets[place] for place in places for _ in batch[place].queries]
    try:
        most = max(asked.k for asked in group)
        hits = served.retriever.search(queries, k=most, candidates=candidates, at_least=group[0].at_least)
    except Exception as error:
        if len(places) > 1:
            for place in places:
                _search_group(served, batch, [place], sets, found)
            return
        found[places[0]] = _wrong(error, served, group[0])
        return
    begin = 0
    for place, asked in zip(places, group, strict=True):
        own = hits[begin : begin + len(asked.queries)]
        begin += len(asked.queries)
        found[place] = Answer([each[: asked.k] for each in own], served)


def _wrong(error: Exception, served: Served, asked: Asked) -> Exception:
    """Make a refusal of an error that the request caused; return any other as it is."""
    if isinstance(error, Refusal) or not isinstance(error, ValueError):
        return error
    text = served.hide(str(error)).replace(asked.upload or "\0", "the file")
    of_file = re.match(r"query \d+: the file: ", text)
    if asked.upload and of_file is not None:  # the remedies of readers are for catalogues
        found = text[of_file.end() :].rpartition("; ")[0] or text[of_file.end() :]
        return Refusal(422, "media", found, "send another file")
    position = re.match(r"query (\d+)", text)
    if position is not None:
        field = f"queries.{position[1]}" if asked.several else "query"
        return refusal_of(ValueError(text[position.end() :].lstrip(": ")), field)
    if asked.at_least is not None and text.startswith("at_least is "):
        return refusal_of(ValueError(text.removeprefix("at_least is ")), "at_least")
    return error
