"""The routes of the service, as an ASGI application."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.routing import Match

from cart_fairseq.base.version import VERSION
from cart_fairseq.serving.errors import Refusal
from cart_fairseq.serving.searching import Asked
from cart_fairseq.serving.service import Service
from cart_fairseq.serving.settings import MIB
from cart_fairseq.serving.web import answers
from cart_fairseq.serving.web.description import REFUSALS, SEARCH_BODY, describe
from cart_fairseq.serving.web.guard import COOKIE, Guard, Token
from cart_fairseq.serving.web.info import info_of
from cart_fairseq.serving.web.media import MediaFolder, keep_upload
from cart_fairseq.serving.web.requests import read_request

PAGE = Path(__file__).parents[1] / "page"
JSON = "application/json"


def create_app(service: Service) -> FastAPI:
    """Make the application of a service, which starts and stops with it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    own = service.settings
    token, media = Token(own.token_file), MediaFolder(own.media_root, own.media_base)
    app = FastAPI(title="cart-fairseq", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_routed)
    _add_routes(app, service, token, media)
    if PAGE.is_dir():
        app.mount("/page", StaticFiles(directory=PAGE), name="page")
        app.add_api_route(
            "/", lambda: FileResponse(PAGE / "index.html"), include_in_schema=False, methods=["GET", "HEAD"]
        )
    app.add_middleware(
        Guard,
        token=token,
        metrics=service.metrics,
        body_bytes=own.max_body_mib * MIB,
        upload_bytes=(own.max_upload_mib + own.max_body_mib) * MIB,
    )
    describe(app, token.asked_for)
    return app


def _add_routes(app: FastAPI, service: Service, token: Token, media: MediaFolder) -> None:
    @app.post("/api/search", response_model=answers.SearchBody, responses=REFUSALS, openapi_extra=SEARCH_BODY)
    async def search(request: Request) -> Response:
        """Find items for one query or several; with a media file as `media`, the JSON is in `request`."""
        began = time.monotonic()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            asked = await _asked_by_form(request, service)
        elif kind == JSON:
            body = await _in_time(request.body(), service)
            service.batcher.refuse_overload()
            asked = _asked(body, service)
        else:
            raise Refusal(415, "content-type", kind or "none", f"send {JSON}, or multipart/form-data with a file")
        answer = await _while_connected(request, service.search(asked))
        return Response(answers.search_body(answer, media, time.monotonic() - began), media_type=JSON)

    @app.get("/api/items/{item_id:path}", response_model=answers.ItemBody, responses=REFUSALS)
    def item(item_id: str) -> Response:
        """The record of an item."""
        served = service.served
        record = served.record(item_id)
        found = {"item_id": item_id, "record": record, "media_url": media.url(item_id, record)}
        return Response(answers.render({**found, "catalogue": served.shown}), media_type=JSON)

    @app.get("/api/sample", response_model=answers.SampleBody, responses=REFUSALS)
    def sample() -> Response:
        """Some items, spread evenly over the catalogue."""
        served = service.served
        records = [(str(record["item_id"]), record) for record in served.sample]
        items = [{"item_id": name, "record": record, "media_url": media.url(name, record)} for name, record in records]
        return Response(answers.render({"items": items, "catalogue": served.shown}), media_type=JSON)

    @app.get("/api/info", responses=REFUSALS)
    def info() -> dict[str, Any]:
        """The model, the catalogue, the candidate sets, and the limits of requests."""
        return info_of(service)

    @app.get("/api/facets", response_model=answers.FacetsBody, responses=REFUSALS)
    def facets() -> Response:
        """The fields that a search can be restricted by, with values and counts."""
        served = service.served
        return Response(answers.render({**served.facets_shown, "catalogue": served.shown}), media_type=JSON)

    @app.post("/api/session", status_code=204, responses=REFUSALS)
    def session(request: Request) -> Response:
        """Set a cookie by which a page loads media after it has sent the token."""
        response = Response(status_code=204)
        if token.asked_for:
            secure = request.url.scheme == "https"
            response.set_cookie(COOKIE, token.session, path="/media", httponly=True, samesite="strict", secure=secure)
        return response

    @app.get("/media/{item_id:path}", response_class=FileResponse, responses=REFUSALS)
    @app.head("/media/{item_id:path}", include_in_schema=False)
    def media_file(item_id: str) -> FileResponse:
        """The file of an item, or the range of it that `Range` asks for."""
        return media.response(service.served.record(item_id))

    @app.get("/healthz", response_model=answers.Status)
    async def healthz() -> Response:
        """Whether the process answers."""
        return JSONResponse({"status": "alive"})

    @app.get("/readyz", response_model=answers.Status, responses={503: {"model": answers.Status}})
    async def readyz() -> Response:
        """Whether new searches should be sent here."""
        return JSONResponse({"status": "ready" if service.ready else "ending"}, 200 if service.ready else 503)

    @app.get("/metrics", response_class=Response, responses={**REFUSALS, 200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """Counters and times in the format of Prometheus."""
        return Response(service.metrics.text(), media_type=service.metrics.content_type)


def _asked(body: bytes, service: Service, upload: str | None = None) -> Asked:
    """Read the JSON of a search.

    Raises:
        Refusal: it is wrong.
    """
    found = read_request(body, upload is not None)
    if found.k > service.settings.max_k:
        raise Refusal(422, "k", str(found.k), f"ask for at most {service.settings.max_k} items")
    several = found.queries is not None
    return Asked(found.asked(upload), found.k, found.candidates, found.where, found.at_least, several, upload)


async def _asked_by_form(request: Request, service: Service) -> Asked:
    """Read a search with a media file. The file is kept for the search alone.

    Raises:
        Refusal: the form, its JSON or its file is wrong.
    """
    own = service.settings
    try:
        form = await _in_time(request.form(max_files=1, max_fields=1, max_part_size=own.max_body_mib * MIB), service)
    except HTTPException as error:
        raise Refusal(422, "body", str(error.detail), "send one file as `media` and JSON as `request`") from None
    try:
        upload, text = form.get("media"), form.get("request", "{}")
        if not isinstance(upload, UploadFile) or not isinstance(text, str) or not {*form} <= {"media", "request"}:
            found = f"the parts {', '.join(sorted(form)) or 'of no name'}"
            raise Refusal(422, "body", found, "send one file as `media` and JSON as `request`")
        if upload.size is not None and upload.size > own.max_upload_mib * MIB:
            raise Refusal(413, "media", f"{upload.size:,} bytes", f"send at most {own.max_upload_mib} MiB")
        service.batcher.refuse_overload()
        path = await keep_upload(upload, service.uploads)
    finally:
        await form.close()
    try:
        return _asked(text.encode(errors="surrogatepass"), service, str(path))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


async def _in_time(body: Awaitable[Any], service: Service) -> Any:
    """Wait for a body.

    Raises:
        Refusal: 408, it does not come.
    """
    try:
        return await asyncio.wait_for(body, service.settings.timeout)
    except asyncio.TimeoutError:
        found = f"incomplete after {service.settings.timeout:g} s"
        raise Refusal(408, "body", found, "send it faster", headers={"connection": "close"}) from None


async def _while_connected(request: Request, answer: Awaitable[Any]) -> Any:
    """Wait for an answer as long as the client is there; without it the search leaves the queue.

    Raises:
        Refusal: 499, the client has left; nobody sees it but the metrics.
    """
    waiting = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        raise Refusal(499, "connection", "closed by the client", "wait for the answer")
    finally:
        for task in (waiting, leaving):
            task.cancel()
        await asyncio.gather(waiting, leaving, return_exceptions=True)


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.body, error.status, error.headers)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:  # of all routes of the path
        matching = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
        headers["allow"] = ", ".join(sorted({method for route in matching for method in route.methods}))
    found = f"{request.method} {request.url.path}"
    refusal = Refusal(error.status_code, "path", found, "see /openapi.json for paths and methods", headers=headers)
    return await _refused(request, refusal)
