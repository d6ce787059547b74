"""What holds for every answer: nothing of the API for who may not use it, security headers, a limit to bodies, no
traceback for anybody, and a count.

Plain ASGI, around the application: it sees static files, errors and streams too.
"""

import time
from typing import Any

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.dashboard.errors import ApiError, error_response
from ops.dashboard.limits import Limits
from ops.dashboard.metrics import DashboardMetrics
from ops.dashboard.roles import Access
from ops.dashboard.security import admit

log = structlog.get_logger(__name__)

MOST_BODY_BYTES = 65_536
TOO_LARGE = f"a body may have at most {MOST_BODY_BYTES} bytes"
NUL_IN_ADDRESS = "the address holds a NUL character, which nothing here does"
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
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
#: Routes that do not exist are counted as one, and so are methods that nobody needs.
NO_ROUTE = "none"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Guards:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, metrics: DashboardMetrics, access: Access, limits: Limits) -> None:
        self._app = app
        self._metrics = metrics
        self._access = access
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, receive, send)
        try:
            if answer.declared_bytes > MOST_BODY_BYTES:
                await answer.instead(ApiError(413, "too_large", TOO_LARGE))
            elif "\x00" in scope["path"] or b"%00" in scope["query_string"]:
                await answer.instead(ApiError(422, "invalid", NUL_IN_ADDRESS))
            else:
                if scope["path"].startswith("/api/"):
                    request = Request(scope)
                    request.state.user = admit(request, self._access, self._limits)
                await self._app(scope, answer.receive, answer.send)
        except ApiError as refused:
            await answer.instead(refused)
        except Exception as error:
            log.exception("a request failed", path=scope["path"], error=repr(error))
            await answer.instead(ApiError(500, "internal", "the console failed; its log says why"))
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

    async def instead(self, error: ApiError) -> None:
        """An error in place of an answer that has not begun."""
        if self.status is None:
            response = error_response(error.status, error.code, error.message, error.headers)
            await response(self._scope, self._receive, self.send)


def _route_of(scope: Scope) -> str:
    route: Any = scope.get("route")
    return getattr(route, "path", None) or NO_ROUTE
