"""What a search request may say: models of its JSON, with limits, and the queries that it stands for."""

import itertools
import reprlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, ValidationInfo, model_validator
from pydantic_core import from_json

from cart_fairseq.queries.query import Query
from cart_fairseq.serving.errors import Refusal, refusal_of

MOST_QUERIES = 256
MOST_PARTS = 16
"""Values of one kind in a query."""
MOST_CHARACTERS = 2000
MOST_CANDIDATES = 10_000
MOST_DIMENSIONS = 16_384
MOST_ERRORS = 100
KEYS_READ = 32
"""Keys of an object that are read again where there are more faults; no model has as many fields."""
UPLOADED = "uploaded"
"""The context of a request with a media file, which needs no other query."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS)]
ItemId = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Vector = Annotated[list[float], Field(fail_fast=True, min_length=1, max_length=MOST_DIMENSIONS)]
Texts = Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MOST_PARTS)]
ItemIds = Annotated[list[ItemId], Field(fail_fast=True, min_length=1, max_length=MOST_PARTS)]
Vectors = Annotated[list[Vector], Field(fail_fast=True, min_length=1, max_length=MOST_PARTS)]
Weights = float | Annotated[list[float], Field(fail_fast=True, min_length=1, max_length=MOST_PARTS)]
Scalar = bool | int | float | Annotated[str, StringConstraints(max_length=256)]
Values = Scalar | Annotated[list[Scalar], Field(fail_fast=True, min_length=1, max_length=256)]
SetName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Model(BaseModel):
    """Base of the models: no unknown fields, no conversions between types, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class PartWeights(Model):
    """The weight of each part, by kind; negative weights turn the search away from a part. Only ratios matter."""

    text: Weights | None = None
    item_id: Weights | None = None
    embedding: Weights | None = None
    media: Weights | None = None


class QueryBody(Model):
    """A query: the weighted sum of its parts, each a value or a list of values."""

    text: Text | Texts | None = None
    item_id: Annotated[ItemId | ItemIds | None, Field(description="items of the catalogue: more like these")] = None
    embedding: Annotated[
        Vector | Vectors | None, Field(description="vectors of the encoder that made the catalogue's embeddings")
    ] = None
    weights: PartWeights | None = None


class SearchRequest(Model):
    """A search: one query, or several with the same k and filters."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["query"]}, {"required": ["queries"]}]})

    query: Annotated[Text | QueryBody | None, Field(description="one query; a text alone is a query, too")] = None
    queries: Annotated[list[Text | QueryBody], Field(fail_fast=True, min_length=1, max_length=MOST_QUERIES)] | None = (
        None
    )
    k: Annotated[int, Field(ge=1, description="number of items for each query; /api/info names the limit")] = 10
    candidates: Annotated[
        SetName | Annotated[list[ItemId], Field(fail_fast=True, min_length=1, max_length=MOST_CANDIDATES)] | None,
        Field(description="the items that may be found: the name of a candidate set, or item ids"),
    ] = None
    where: Annotated[
        Annotated[dict[FieldName, Values], Field(max_length=16)] | None,
        Field(description="only items whose field has the value, or one of the values; /api/facets lists the fields"),
    ] = None
    at_least: Annotated[
        Annotated[float, Field(ge=0, le=1)] | None,
        Field(description="only items that fit with at least this probability; needs a calibrated model"),
    ] = None

    @model_validator(mode="after")
    def _one_of_two(self, info: ValidationInfo) -> "SearchRequest":
        if info.context == UPLOADED:
            if self.queries is not None:
                raise ValueError("queries beside a media file, which belongs to one query")
        elif (self.query is None) == (self.queries is None):
            raise ValueError("there must be a query, or queries, and not both")
        return self

    def asked(self, media: str | None = None) -> list[Query]:
        """Return the queries.

        Args:
            media: the path of an uploaded file, which is a part of the one query.

        Raises:
            Refusal: a query is wrong.
        """
        several = self.queries is not None
        found = []
        for position, body in enumerate(self.queries or [self.query]):
            try:
                found.append(_query(body, media))
            except ValueError as error:
                raise refusal_of(error, f"queries.{position}" if several else "query") from None
        return found


def _query(body: str | QueryBody | None, media: str | None) -> Query:
    """Return a query, checked."""
    if isinstance(body, str) or body is None:
        body = QueryBody(text=body)
    weights: dict[str, Any] = {} if body.weights is None else body.weights.model_dump(exclude_none=True)
    query = Query(body.text, body.item_id, body.embedding, media, weights or None)
    query.parts()
    return query


def read_request(body: bytes, uploads: bool = False) -> SearchRequest:
    """Parse the JSON of a search.

    Args:
        body: the JSON.
        uploads: whether a media file belongs to it, so that it needs no query.

    Raises:
        Refusal: it is no JSON, or not of a search.
    """
    context = UPLOADED if uploads else None
    try:
        return SearchRequest.model_validate_json(body, context=context)
    except ValidationError as error:
        if error.error_count() <= MOST_ERRORS:
            raise _refusal_of_model(error) from None
    try:  # a list of all faults takes much more memory than the request; so many are of unknown keys
        SearchRequest.model_validate(_beginning(from_json(body)), context=context)
    except ValidationError as error:
        raise _refusal_of_model(error) from None
    raise Refusal(422, "body", f"more than {MOST_ERRORS} faults", "see /openapi.json")  # beyond what was read again


def _beginning(value: Any) -> Any:
    """A JSON value with few keys in each object. Among these there is an unknown one if there was any."""
    if isinstance(value, list):
        return [_beginning(each) for each in value]
    if isinstance(value, dict):
        return {key: _beginning(each) for key, each in itertools.islice(value.items(), KEYS_READ)}
    return value


def _refusal_of_model(error: ValidationError) -> Refusal:
    """Make a refusal of the most telling fault that pydantic found."""
    # of a field with several types the fault of the value comes before those of types that it does not have
    faults = error.errors(include_url=False, include_context=False)
    first = min(faults, key=lambda each: (-len(each["loc"]), each["type"].endswith("_type")))
    if first["type"] == "json_invalid":
        return Refusal(422, "body", first["msg"], "send valid JSON")
    # pydantic adds the names of types to the place in the request
    place = [str(part) for part in first["loc"] if isinstance(part, int) or (part.islower() and part.isidentifier())]
    kinds = ("str", "int", "float", "bool", "list")
    field = ".".join(part for part in place if part not in kinds) or "body"
    if first["type"] in ("missing", "value_error"):
        return Refusal(422, field, first["msg"].removeprefix("Value error, "), "see /openapi.json")
    return Refusal(422, field, reprlib.repr(first["input"]), first["msg"])
