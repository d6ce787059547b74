"""One connection to the console, with patience that ends: for a client that never finishes its request, and for one
that does not read its answer. Uvicorn has neither bound. It knows nothing of what is asked.
"""

import asyncio
import socket
from dataclasses import dataclass
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from ops.dashboard.metrics import DashboardMetrics

log = structlog.get_logger(__name__)

MOST_CONNECTIONS = 1_000
#: What the system keeps of an answer that is not read, bytes; Uvicorn keeps 65,536 more.
SEND_BUFFER = 131_072


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: from a request's first byte (or the connection) to its last, and for a client to take what waits."""

    request: float = 10.0
    answer: float = 20.0


class BoundedConnection(H11Protocol):
    """As Uvicorn has it, within `patience`."""

    def __init__(self, *, patience: Patience, metrics: DashboardMetrics, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._patience = patience
        self._metrics = metrics
        self._request_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _bound_buffers(transport, self._patience.answer)
        if len(self.connections) > MOST_CONNECTIONS:
            self._give_up("connections")
        else:
            self._watch_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._answer_timer is None:
            self._answer_timer = self.loop.call_later(self._patience.answer, self._give_up, "slow_reader")

    def resume_writing(self) -> None:
        super().resume_writing()
        self._answer_timer = _cancelled(self._answer_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_timer = _cancelled(self._request_timer)
        super().connection_lost(exc)
        self._answer_timer = _cancelled(self._answer_timer)

    def _watch_request(self) -> None:
        """One time for the whole request, which no further byte makes longer."""
        if self._request_is_due():
            if self._request_timer is None:
                self._request_timer = self.loop.call_later(self._patience.request, self._give_up, "slow_request")
        else:
            self._request_timer = _cancelled(self._request_timer)

    def _request_is_due(self) -> bool:
        """Whether the client has begun a request and not finished it, or has connected and not begun."""
        if self.conn.their_state is h11.SEND_BODY:
            return True
        begun = bool(self.conn.trailing_data[0]) or self.cycle is None
        return self.conn.their_state is h11.IDLE and begun

    def _give_up(self, limit: str) -> None:
        self._metrics.limited(limit)
        log.info("a connection to the console was ended", limit=limit, client=self.client and self.client[0])
        self.transport.abort()


def _bound_buffers(transport: asyncio.Transport, seconds: float) -> None:
    """What a client does not take is found out soon, and one that has vanished too."""
    found = transport.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """No timer in its place."""
    if timer is not None:
        timer.cancel()
    return None
