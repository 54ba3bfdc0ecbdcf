"""What the service answers: models for the description of its interface, and the JSON itself."""

import json
import math
from typing import Any, Literal

from pydantic import BaseModel, Field

from cart_fairseq.serving.searching import Answer
from cart_fairseq.serving.web.media import MediaFolder


class ErrorText(BaseModel):
    """What is wrong."""

    field: str = Field(description="the field, header or path that is wrong")
    found: str = Field(description="what was found there")
    remedy: str = Field(description="what to do")


class ErrorBody(BaseModel):
    """The answer to a request that is refused."""

    error: ErrorText


class Catalogue(BaseModel):
    """The state of the catalogue that an answer is from."""

    items: int
    revision: int = Field(description="number of updates since the catalogue was built")


class HitBody(BaseModel):
    """One item found."""

    item_id: str
    score: float = Field(description="higher is better; only comparable within one result")
    probability: float | None = Field(
        description="that this is the wanted item; null if the model is not calibrated, or for queries of another kind than one text"
    )
    record: dict[str, Any] = Field(description="the item's fields")
    media_url: str | None = Field(description="path of the item's file on this host; null if it has none")


class Result(BaseModel):
    """The items found for one query, best first."""

    hits: list[HitBody]


class SearchBody(BaseModel):
    """The answer to a search: one result for each query."""

    results: list[Result]
    catalogue: Catalogue
    took_ms: float


class SampledItem(BaseModel):
    """One item."""

    item_id: str
    record: dict[str, Any]
    media_url: str | None


class ItemBody(SampledItem):
    """One item, and the state of the catalogue."""

    catalogue: Catalogue


class SampleBody(BaseModel):
    """Some items."""

    items: list[SampledItem]
    catalogue: Catalogue


class FacetValue(BaseModel):
    """A value of a field and the number of items that have it."""

    value: bool | int | float | str
    count: int


class Facet(BaseModel):
    """A field that a search can be restricted by."""

    field: str
    kinds: list[Literal["text", "number", "truth"]]
    values: list[FacetValue]


class LeftOut(BaseModel):
    """A field that is no facet."""

    field: str
    reason: str


class FacetsBody(BaseModel):
    """The fields that ``where`` knows."""

    fields: list[Facet]
    left_out: list[LeftOut]
    catalogue: Catalogue


class Status(BaseModel):
    """Whether the service lives, or is ready."""

    status: str


def render(content: Any) -> bytes:
    """Return JSON. NaN and infinite numbers, which records may have, become null; half surrogate pairs are escaped."""
    try:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(_finite(content), separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def search_body(answer: Answer, media: MediaFolder, took: float) -> bytes:
    """Return the answer to a search as JSON.

    Args:
        answer: the hits.
        media: makes the addresses of files.
        took: seconds since the request came.
    """
    results = [
        {
            "hits": [
                {
                    "item_id": hit.item_id,
                    "score": hit.score,
                    "probability": hit.probability,
                    "record": hit.record,
                    "media_url": media.url(hit.item_id, hit.record),
                }
                for hit in hits
            ]
        }
        for hits in answer.hits
    ]
    return render({"results": results, "catalogue": answer.served.shown, "took_ms": round(took * 1000, 2)})
