"""The threshold in use, made from what all workers counted: a watch reads `score_sketches` about once a minute, the
compute thread takes the newest threshold between two batches.

All workers come to the same threshold, since all read the same counts. A model begins with the threshold that it was
registered with; so does a worker, until its first look.
"""

import threading
from datetime import UTC, datetime

import structlog

from models.alert_rule import AlertRule
from models.live_threshold import ModelThresholds, rule_threshold
from models.score_counts import MILLISECONDS_AN_HOUR, ScoreHistory
from models.scoring import Scorer
from storage.database import Database
from storage.registry import ModelRegistry, UnknownModel
from storage.score_sketches import sketches_from
from streams.health import FlowMetrics
from streams.score_counting import hour_counts

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
#: Hours that are read again at each look beside those in which an event may still alert.
HOURS_AGAIN = 2


class ThresholdWatch:
    """alert_max_age: milliseconds; hours older than that do not change any more. `wake` is set where a look is due at
    once: a model is in use that was not before."""

    def __init__(
        self,
        database: Database,
        registry: ModelRegistry,
        rule: AlertRule,
        metrics: FlowMetrics,
        *,
        alert_max_age: int,
    ) -> None:
        self._database = database
        self._registry = registry
        self._rule = rule
        self._metrics = metrics
        self._hours_again = alert_max_age // MILLISECONDS_AN_HOUR + HOURS_AGAIN
        self._history = ScoreHistory()
        self._in_use: ModelThresholds | None = None
        self._found: tuple[str, float] | None = None
        self._said: str | None = None
        self.wake = threading.Event()

    def apply(self, model: str, scorer: Scorer) -> None:
        """Gives the scorer the newest threshold for this model, between two batches."""
        if self._in_use is None or self._in_use.model != model:
            self._in_use = ModelThresholds(model, scorer.model.threshold, None, scorer.model.notes)
            self.wake.set()
        found = self._found
        scorer.use_threshold(found[1] if found is not None and found[0] == model else None)

    def look(self) -> None:
        """Reads what was counted and makes the threshold of the model in use. Raises DatabaseUnavailable."""
        model = self._in_use
        if model is None or self._rule.name == "registered":
            return
        self._read()
        latest = self._history.latest
        if latest is None:
            return
        known = ModelThresholds(model.model, model.registered, self._alerts_per_day(model.model), model.notes)
        threshold = rule_threshold(self._rule, self._history, known, latest)
        if threshold is None and self._said != model.model:
            log.warning("the registered threshold is used", model=model.model, rule=self._rule.name)
            self._said = model.model
        self._found = None if threshold is None else (model.model, threshold)
        self._metrics.threshold(model.registered if threshold is None else threshold)
        self._metrics.alerts_today(self._opened_on(latest // MILLISECONDS_AN_HOUR // 24))

    def _read(self) -> None:
        """All hours at the first look, afterwards those that may have changed."""
        latest = self._history.latest
        since = None if latest is None else latest // MILLISECONDS_AN_HOUR - self._hours_again
        merged = ScoreHistory()
        with self._database.reading() as connection:
            moment = None if since is None else datetime.fromtimestamp(since * 3600, UTC)
            for sketch in sketches_from(connection, moment):
                hour, counts = hour_counts(sketch)
                merged.add(sketch.model, {hour: counts})
        for model, hours in merged.models.items():
            self._history.models.setdefault(model, {}).update(hours)
        if latest is not None:
            self._history.forget_before(latest // MILLISECONDS_AN_HOUR - 24 * 35)

    def _alerts_per_day(self, model: str) -> float | None:
        """The budget that a model was trained for; None where its registration does not say."""
        name, _, version = model.rpartition(":")
        try:
            metrics = self._registry.get(name, int(version)).metrics
        except UnknownModel:
            return None
        budget = metrics.get("alerts_per_day")
        return None if budget is None else float(budget)

    def _opened_on(self, day: int) -> int:
        return sum(counts.opened for hour, counts in self._history.hours() if hour // 24 == day)
