"""The description of the interface (OpenAPI), as far as it does not follow from the routes."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from cart_fairseq.serving.web.answers import ErrorBody
from cart_fairseq.serving.web.requests import SearchRequest

SUMMARY = """Search of a catalogue of pictures, sounds and clips, in text and by example.

A request that cannot be answered gets `{"error": {"field", "found", "remedy"}}`. `429` means that the queue is full:
try again after `Retry-After` seconds."""
SAID = {
    400: "a header is wrong",
    401: "the token is missing or wrong",
    404: "there is no such item, file or path",
    405: "the path takes other methods",
    408: "the body did not come in time",
    413: "the body is too large",
    415: "the body is neither JSON nor a form",
    416: "the range is outside of the file",
    422: "the request is wrong",
    429: "the queue is full",
    500: "an error of the service",
    503: "the service ends, or the search took too long",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": said} for status, said in SAID.items()
}
REQUEST = "#/components/schemas/SearchRequest"
SEARCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": REQUEST}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["media"],
                    "properties": {
                        "media": {"type": "string", "format": "binary", "description": "a picture, sound or clip"},
                        "request": {"type": "string", "description": "the JSON of a search; it needs no query"},
                    },
                    "additionalProperties": False,
                },
                "encoding": {"request": {"contentType": "application/json"}},
            },
        },
    }
}


def describe(app: FastAPI, token: bool) -> None:
    """Give an application its description.

    Args:
        app: the application.
        token: whether requests need a token.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=SUMMARY, routes=app.routes)
            schemas = made["components"]["schemas"]
            model = SearchRequest.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= model.pop("$defs", {})
            schemas["SearchRequest"] = model
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            if token:
                made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                made["security"] = [{"token": []}]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
