"""The figures that take long to compute, kept by a thread for requests to take: daily views, and catalogue coverage."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ops.dashboard.metrics import DashboardMetrics
from ops.dashboard.refreshing import Figures, Refresher
from ops.dashboard.sources import Sources
from storage.daily_figures import Coverage, DailyView, catalogue_coverage, daily_rows

MOST_DAYS = 90
LEAST_SECONDS = 5.0
COVERED = timedelta(days=1)


class Aggregates:
    """start and stop its thread; the figures on any thread."""

    def __init__(self, sources: Sources, metrics: DashboardMetrics) -> None:
        self._sources = sources
        self.detection = Figures("detection", lambda now: self._daily("v_detection_daily", now))
        self.rewards = Figures("rewards", lambda now: self._daily("v_recommendation_reward", now))
        self.coverage: Figures[Coverage] = Figures("coverage", self._coverage)
        self._refresher = Refresher(
            "aggregates",
            [self.detection, self.rewards, self.coverage],
            metrics,
            sources.clock,
            least_seconds=LEAST_SECONDS,
        )

    def start(self) -> None:
        self._refresher.start()

    def stop(self) -> None:
        self._refresher.stop()

    def join(self) -> None:
        self._refresher.join()

    def _daily(self, view: DailyView, now: datetime) -> Sequence[Mapping[str, Any]]:
        with self._sources.database.reading() as connection:
            return daily_rows(connection, view, (now - timedelta(days=MOST_DAYS)).date())

    def _coverage(self, now: datetime) -> Coverage:
        with self._sources.database.reading() as connection:
            return catalogue_coverage(connection, now - COVERED)
