"""Metrics and health of a `headgate retrain` that goes on: its passes, what taught them, and who is champion.

Moments come from SQL at every look, so that they are right after a restart too, and where somebody else made a pass or
promoted by hand. docs/metrics.md lists every metric (a test checks that).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal, Protocol, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

#: promoted: the challenger is champion; kept: it was judged, and the champion stays; refused: the history has not what
#: training needs; waited: another retraining was under way, or the database away.
PassEnd = Literal["promoted", "kept", "refused", "waited"]
#: What a training calls its size: events of the detector, slates of the recommender.
SIZES = ("events", "slates")


class PassOutcome(Protocol):
    """What a pass says of itself (retrain.py, retrain_policy.py)."""

    @property
    def promoted(self) -> bool: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...


class RetrainingMetrics:
    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        into = self.registry
        self._passes = Counter(
            "headgate_retrain_passes_total",
            "Passes of retraining by how they ended",
            ["model", "outcome"],
            registry=into,
        )
        self._running = Gauge(
            "headgate_retrain_running", "1 while this process makes a pass, else 0", ["model"], registry=into
        )
        self._seconds = Gauge(
            "headgate_retrain_last_pass_seconds",
            "How long the latest pass of this process took",
            ["model"],
            registry=into,
        )
        self._last = Gauge(
            "headgate_retrain_last_pass_at_seconds",
            "Moment (epoch seconds) at which the latest pass that came to an end began, whoever made it",
            ["model"],
            registry=into,
        )
        self._taught = Gauge(
            "headgate_retrain_training_events",
            "What taught the latest challenger of this process: events, or slates of the recommender",
            ["model"],
            registry=into,
        )
        self._version = Gauge(
            "headgate_retrain_champion_version", "Version of the champion, 0 without one", ["model"], registry=into
        )
        self._promoted_at = Gauge(
            "headgate_retrain_champion_promoted_at_seconds",
            "Moment (epoch seconds) at which the champion became it: its age is the time since",
            ["model"],
            registry=into,
        )
        self._problem: str | None = "no look at the database yet"
        self._learning: str | None = None

    def announce(self, model: str) -> None:
        """Counters from 0, so that the first of each kind is seen as an increase."""
        for end in get_args(PassEnd):
            self._passes.labels(model, end)
        self._running.labels(model).set(0)

    @contextmanager
    def passing(self, model: str) -> Iterator[None]:
        """Around a pass; `ended` says how it went."""
        self._learning = model
        try:
            with self._running.labels(model).track_inprogress(), self._seconds.labels(model).time():
                yield
        finally:
            self._learning = None

    def ended(self, model: str, end: PassEnd) -> None:
        self._passes.labels(model, end).inc()

    def judged(self, model: str, outcome: PassOutcome) -> None:
        """A pass that came to a verdict, or to a first model."""
        self.ended(model, "promoted" if outcome.promoted else "kept")
        for size in SIZES:
            if size in outcome.metrics:
                self._taught.labels(model).set(outcome.metrics[size])

    def looked(self, model: str, last_pass: datetime | None) -> None:
        """What SQL says of a model's passes; it answered, so the loop works."""
        self._problem = None
        if last_pass is not None:
            self._last.labels(model).set(last_pass.timestamp())

    def champion(self, model: str, version: int, promoted_at: datetime | None) -> None:
        """version: 0 without a champion."""
        self._version.labels(model).set(version)
        if promoted_at is not None:
            self._promoted_at.labels(model).set(promoted_at.timestamp())

    def hindered(self, problem: str) -> None:
        """Until the next look that works."""
        self._problem = problem

    def health(self) -> Mapping[str, Any]:
        """For /ready and /health."""
        return {"ready": self._problem is None, "learning": self._learning, "problem": self._problem}
