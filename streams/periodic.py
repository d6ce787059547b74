"""A thread that does the same thing every few seconds beside the flow, and rides out a database that is away."""

import threading
from collections.abc import Callable

import structlog

from storage.database import DatabaseUnavailable

log = structlog.get_logger(__name__)

STOP_SECONDS = 5.0


class Periodic:
    """A Background of the flow. Anything but an absent database that `act` raises ends the thread: a bug."""

    def __init__(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        self._seconds = seconds
        self._act = act
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._act()
            except DatabaseUnavailable as error:
                log.warning("the database is away", thread=self._thread.name, error=str(error))
