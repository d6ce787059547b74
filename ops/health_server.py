"""Metrics, liveness and readiness over HTTP, on loopback unless told otherwise. Nothing can be changed here, and nobody
needs a token: no secret and no data of anybody is shown.

/metrics  Prometheus text      /live   200 while the process answers
/ready    200 while the process does its work, else 503        /health  the same with details, as JSON
"""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

log = structlog.get_logger(__name__)

Health = Callable[[], Mapping[str, Any]]
#: For a client to send its next bytes, or to take ours.
CLIENT_SECONDS = 10.0
MOST_CLIENTS = 64
#: How often the thread looks whether it is to end; Python's own half second would keep a worker's end waiting.
STOP_SECONDS = 0.1


class CannotListen(Exception):
    """The address for metrics and health is taken, or is not this machine's; the message says what to do."""


class ReadinessMetric:
    """What /ready says, as a metric, since Prometheus cannot ask for status codes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ready = Gauge("headgate_ready", "1 while /ready answers 200, else 0", registry=registry)

    def follow(self, health: Health) -> None:
        """Asks health() at every scrape."""
        self._ready.set_function(lambda: float(_is_ready(health)))


class _Server(ThreadingHTTPServer):
    """With so many clients at once; more are let go at once."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(MOST_CLIENTS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in mid answer, mostly."""
        log.info("a request for metrics or health was cut off", error=repr(sys.exception()))


class HealthServer:
    """health() returns at least {"ready": bool}. Port 0 takes any free one; `url` says which. Raises CannotListen."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        handler = _handler(registry, health)
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise CannotListen(
                f"nothing can listen at {host}:{port} for metrics and health: {error.strerror or error}; "
                "end what listens there, or set another port"
            ) from error
        ReadinessMetric(registry).follow(health)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_SECONDS,), name="health", daemon=True
        )
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> "HealthServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _is_ready(health: Health) -> bool:
    try:
        return bool(health()["ready"])
    except Exception as error:  # without it, one bug would take all metrics away
        log.exception("no answer about health", error=repr(error))
        return False


def _handler(registry: CollectorRegistry, health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS
        server_version, sys_version = "headgate", ""

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
                status, body = 500, json.dumps({"ready": False, "failure": "no answer about health; the log says why"})
            self._answer(status, body.encode(), "application/json")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests for metrics are no news."""

    return Handler
