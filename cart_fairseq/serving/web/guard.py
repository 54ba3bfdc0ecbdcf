"""What every request passes first: token, sizes of bodies, headers of answers, counts.

Plain ASGI, so that a request's disconnection reaches the application.
"""

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect

from cart_fairseq.serving.errors import Refusal
from cart_fairseq.serving.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

OPEN = re.compile(r"/(healthz|readyz|page/.*)?")
"""Paths that need no token: the page has no data in it."""
COOKIE = "cart_session"
POLICY = (
    "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",  # the page, too: modules of two versions do not fit together
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
LEAST_TOKEN = 16
ROUTES = re.compile(
    r"/(api/(search|items|info|facets|session)|media|healthz|readyz|metrics|openapi\.json|page)?(?=/|$)"
)

logger = logging.getLogger(__name__)


class Token:
    """The token that clients send.

    Args:
        file: a file with the token in its first line; None: every request is answered.

    Raises:
        ValueError: the file cannot be read, or its token is short.
    """

    def __init__(self, file: str | Path | None):
        self._token: bytes | None = None
        if file is None:
            return
        try:
            lines = Path(file).read_bytes().splitlines()
        except OSError as error:
            raise ValueError(f"--token-file is {str(file)!r}: {error.strerror}; give a file with a token") from None
        token = lines[0].strip() if lines else b""
        if len(token) < LEAST_TOKEN:
            raise ValueError(
                f"--token-file is {str(file)!r}: its token has {len(token)} characters; write at least {LEAST_TOKEN} "
                "characters into its first line"
            )
        self._token = token

    @property
    def session(self) -> str:
        """The value of the cookie, from which the token cannot be found."""
        return hmac.new(self._token or b"", b"session", hashlib.sha256).hexdigest()

    @property
    def asked_for(self) -> bool:
        """Whether a token is needed."""
        return self._token is not None

    def refuse(self, headers: dict[bytes, bytes], path: str, method: str) -> None:
        """Refuse a request without the token. A cookie is enough for media, which pages load without headers of theirs.

        Raises:
            Refusal: 401, the token is missing or wrong.
        """
        if self._token is None or OPEN.fullmatch(path):
            return
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
            return
        cookies = dict(part.strip().partition(b"=")[::2] for part in headers.get(b"cookie", b"").split(b";"))
        cookie = cookies.get(COOKIE.encode(), b"")
        if (
            path.startswith("/media/")
            and method in ("GET", "HEAD")
            and hmac.compare_digest(cookie, self.session.encode())
        ):
            return
        found = "no token" if not given else "another token"
        raise Refusal(
            401,
            "authorization",
            found,
            "send the header `Authorization: Bearer TOKEN`",
            headers={"www-authenticate": "Bearer"},
        )


class Guard:
    """The application behind the checks of every request.

    Args:
        app: the application.
        token: the token that clients send.
        metrics: of the service.
        body_bytes, upload_bytes: the largest sizes of a body, and of one with a media file.
    """

    def __init__(self, app: App, token: Token, metrics: Metrics, body_bytes: int, upload_bytes: int):
        self.app, self.token, self.metrics = app, token, metrics
        self.body_bytes, self.upload_bytes = body_bytes, upload_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        route = ROUTES.match(scope["path"])
        started = False

        async def counted(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                have = {name for name, _ in message["headers"]}
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in own if pair[0] not in have)]
                self.metrics.requests.labels(route[0] if route else "other", message["status"]).inc()
            await send(message)

        try:
            self.token.refuse(headers, scope["path"], scope["method"])
            most = self.upload_bytes if headers.get(b"content-type", b"").startswith(b"multipart/") else self.body_bytes
            await self.app(scope, self._limited(receive, headers, most), counted)
        except Refusal as refusal:
            if not started:
                await refuse(refusal, counted)
        except ClientDisconnect:  # nobody is there who could be answered
            pass
        except Exception:
            logger.exception("a request to %s failed", scope["path"])
            if not started:
                failed = Refusal(500, "server", "an error of the service", "see its log; please report it")
                await refuse(failed, counted)

    def _limited(self, receive: Receive, headers: dict[bytes, bytes], most: int) -> Receive:
        """Receive no more than so many bytes.

        Raises:
            Refusal: 413, the body is larger, or is said to be.
        """
        refusal = Refusal(413, "body", f"more than {most:,} bytes", "send less; /api/info names the limits")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > most:
            raise refusal
        got = 0

        async def limited() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                raise refusal
            return message

        return limited


async def refuse(refusal: Refusal, send: Send) -> None:
    """Send a refusal as an answer."""
    body = json.dumps(refusal.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
