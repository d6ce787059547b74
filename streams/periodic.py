"""A thread that does the same thing every few seconds beside the flow: a watch.

Whatever goes wrong with it costs one turn: the flow goes on with what the watch last found. A database that is away is
expected; anything else is a bug, which the log shows whole and a metric counts, and `warnings` tells until a turn
succeeds.
"""

import threading
from collections.abc import Callable

import structlog

from storage.database import DatabaseUnavailable
from streams.health import FlowMetrics

log = structlog.get_logger(__name__)

STOP_SECONDS = 5.0


class Periodic:
    """A Background of the flow. wake: whoever sets it has the next turn at once."""

    def __init__(
        self,
        name: str,
        seconds: float,
        act: Callable[[], None],
        metrics: FlowMetrics,
        wake: threading.Event | None = None,
    ) -> None:
        self._seconds = seconds
        self._act = act
        self._metrics = metrics
        self._wake = wake or threading.Event()
        self._bug: str | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def warnings(self) -> list[str]:
        return [] if self._bug is None else [self._bug]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._seconds)
            self._wake.clear()
            if self._stopping:
                return
            self._turn()

    def _turn(self) -> None:
        try:
            self._act()
        except DatabaseUnavailable as error:
            log.warning("the database is away", thread=self._thread.name, error=str(error))
        except Exception as error:  # a bug: the flow can do without a watch, but somebody has to know
            told, self._bug = self._bug, f"{self._thread.name} fails, and nothing new comes from it: {error!r}"
            if told == self._bug:
                log.error("a watch still has its bug", thread=self._thread.name, error=repr(error))
            else:
                log.exception("a watch has a bug; it is tried again", thread=self._thread.name)
            self._metrics.watch_failed(self._thread.name)
        else:
            self._bug = None
