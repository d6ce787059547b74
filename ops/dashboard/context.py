"""What routes work with: one object of the application, and how a route gets it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Connection, text

from ops.dashboard.aggregates import Aggregates
from ops.dashboard.errors import ApiError
from ops.dashboard.live import LiveHub
from ops.dashboard.metrics import DashboardMetrics
from ops.dashboard.neighbours import Neighbours
from ops.dashboard.sources import Sources
from ops.dashboard.status import StatusWatch

#: A statement that takes longer is ended: nobody waits for it any more.
STATEMENT_TIMEOUT = "10s"
REPLAY_WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Context:
    sources: Sources
    status: StatusWatch
    aggregates: Aggregates
    live: LiveHub
    neighbours: Neighbours
    metrics: DashboardMetrics
    #: One replay at a time: two of one dead letter would send it twice.
    _replaying: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Raises ApiError where others take too long."""
        if not self._replaying.acquire(timeout=REPLAY_WAIT_SECONDS):
            raise ApiError(503, "unavailable", "another replay takes long; try again")
        try:
            yield
        finally:
            self._replaying.release()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """As Database.reading, for a request. Raises DatabaseUnavailable, also where a statement takes too long."""
        with self.sources.database.reading() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
            yield connection


async def _context(request: Request) -> Context:
    found: Context = request.app.state.context
    return found


InContext = Annotated[Context, Depends(_context)]
