"""Metrics, liveness and readiness over HTTP, on loopback unless told otherwise.

/metrics  Prometheus text      /live   200 while the process answers
/ready    200 while the flow works, else 503        /health  the same with details, as JSON
"""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

log = structlog.get_logger(__name__)

Health = Callable[[], Mapping[str, Any]]


class HealthServer:
    """health() returns at least {"ready": bool}. Port 0 takes any free one; `url` says which."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        handler = _handler(registry, health)
        self._server = ThreadingHTTPServer((host, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> "HealthServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(registry: CollectorRegistry, health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif path == "/live":
                self._answer(200, b"live\n", "text/plain")
            elif path in ("/ready", "/health"):
                self._answer_health()
            else:
                self._answer(404, b"try /metrics, /live, /ready or /health\n", "text/plain")

        def _answer_health(self) -> None:
            try:
                state = health()
                status, body = 200 if state["ready"] else 503, json.dumps(state)
            except Exception as error:
                log.exception("no answer about health", error=repr(error))
                status, body = 500, json.dumps({"ready": False, "failure": repr(error)})
            self._answer(status, body.encode(), "application/json")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests for metrics are no news."""

    return Handler
