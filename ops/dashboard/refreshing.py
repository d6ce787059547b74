"""Figures that are too expensive for a request: a thread computes them again and again, requests take the latest.

The thread works at most a twentieth of the time: after figures that took a second it rests for nineteen.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import structlog

from ops.dashboard.errors import UNAVAILABLE
from ops.dashboard.metrics import DashboardMetrics

log = structlog.get_logger(__name__)

#: Of the time that a refresh may take: rest for each second of work.
REST_PER_SECOND = 19.0
STOP_SECONDS = 1.0
#: A computation that has gone on for so long hangs: what it comes from counts as away.
HANGING_SECONDS = 5.0
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class AsOf(Generic[Value]):
    """A value and the moment that its computation began."""

    moment: datetime
    value: Value


class Figures(Generic[Value]):
    """One kind of them. latest: the last ones that could be computed, None before the first; current: only where what
    they come from answered the last time, and does not keep the next one waiting."""

    def __init__(self, name: str, compute: Callable[[datetime], Value]) -> None:
        self.name = name
        self.latest: AsOf[Value] | None = None
        self.failure: str | None = None
        self._compute = compute
        self._began: float | None = None

    @property
    def current(self) -> Value | None:
        began = self._began
        hangs = began is not None and time.monotonic() - began > HANGING_SECONDS
        return None if self.latest is None or self.failure is not None or hangs else self.latest.value

    def refresh(self, now: datetime) -> None:
        self._began = time.monotonic()
        try:
            self.latest = AsOf(now, self._compute(now))
        except Exception as error:
            self.failure = str(error)
            raise
        finally:
            self._began = None
        self.failure = None


class Refresher:
    """A thread for some figures, one after the other; least_seconds: between two rounds however cheap they are."""

    def __init__(
        self,
        name: str,
        figures: Sequence[Figures[Any]],
        metrics: DashboardMetrics,
        clock: Callable[[], datetime],
        *,
        least_seconds: float,
    ) -> None:
        self._figures = figures
        self._metrics = metrics
        self._clock = clock
        self._least = least_seconds
        self._stopping = threading.Event()
        self._away: set[str] = set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Soon; `join` waits for it."""
        self._stopping.set()

    def join(self) -> None:
        """Waits for the end; what takes longer (a long statement) is left behind and ends with the process."""
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            worked = sum(self._refresh(figures) for figures in self._figures if not self._stopping.is_set())
            self._stopping.wait(max(self._least, REST_PER_SECOND * worked))

    def _refresh(self, figures: Figures[Any]) -> float:
        """Seconds of work; waiting in vain for what is away is none."""
        begun = time.monotonic()
        try:
            figures.refresh(self._clock())
        except UNAVAILABLE as error:
            self._metrics.refresh_failed(figures.name)
            if figures.name not in self._away:
                log.warning("figures cannot be refreshed", figures=figures.name, error=str(error))
            self._away.add(figures.name)
            return 0.0
        except Exception as error:  # a bug must not end the thread: the other figures go on
            self._metrics.refresh_failed(figures.name)
            log.exception("figures failed", figures=figures.name, error=repr(error))
        else:
            self._away.discard(figures.name)
            self._metrics.refreshed(figures.name, time.monotonic() - begun)
        return time.monotonic() - begun
