"""What holds for every answer: security headers, a limit to bodies, no traceback for anybody, and a count.

Plain ASGI, around the application: it sees static files, errors and streams too.
"""

import time
from typing import Any

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.dashboard.errors import error_response
from ops.dashboard.metrics import DashboardMetrics

log = structlog.get_logger(__name__)

MOST_BODY_BYTES = 65_536
TOO_LARGE = f"a body may have at most {MOST_BODY_BYTES} bytes"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
#: Routes that do not exist are counted as one, and so are methods that nobody needs.
NO_ROUTE = "none"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Guards:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, metrics: DashboardMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, receive, send)
        try:
            if answer.declared_bytes > MOST_BODY_BYTES:
                await answer.instead(413, "too_large", TOO_LARGE)
            elif "\x00" in scope["path"] or b"%00" in scope["query_string"]:
                await answer.instead(422, "invalid", "the address holds a NUL character, which nothing here does")
            else:
                await self._app(scope, answer.receive, answer.send)
        except Exception as error:
            log.exception("a request failed", path=scope["path"], error=repr(error))
            await answer.instead(500, "internal", "the console failed; its log says why")
        finally:
            if answer.status is not None:
                method = scope["method"] if scope["method"] in METHODS else "other"
                self._metrics.answered(_route_of(scope), method, answer.status, answer.seconds)


class _Answer:
    """One request's: what comes in is measured, what goes out gets the headers."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._begun = time.perf_counter()
        self._received = 0
        self.status: int | None = None
        self.seconds = 0.0

    @property
    def declared_bytes(self) -> int:
        for name, value in self._scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value)
        return 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > MOST_BODY_BYTES:
            raise HTTPException(413, TOO_LARGE)  # another kind would count as a body that cannot be read
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.seconds = time.perf_counter() - self._begun
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if self._scope["path"].startswith("/api/"):
                headers["Cache-Control"] = "no-store"
            elif "cache-control" not in headers:
                headers["Cache-Control"] = "no-cache"
        await self._send(message)

    async def instead(self, status: int, code: str, message: str) -> None:
        """An error in place of an answer that has not begun."""
        if self.status is None:
            response = error_response(status, code, message)
            await response(self._scope, self._receive, self.send)


def _route_of(scope: Scope) -> str:
    route: Any = scope.get("route")
    return getattr(route, "path", None) or NO_ROUTE
