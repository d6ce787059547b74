"""What the demo sees of the running service, as any client could: the worker's metrics, Redis and SQL."""

import math
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import redis
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import bindparam, text

from storage.database import Database, DatabaseUnavailable
from storage.tables import UtcTimestamp
from streams.contract import Alert

SECONDS = 5.0
#: An SQL query may take this share of the demo's time; a slower one is asked less often.
QUERY_SHARE = 0.05
LEAST_SQL_SECONDS = 2.0
#: Of the Redis stream, to find the latest alerts in.
NEWEST_ENTRIES = 100


@dataclass(frozen=True, slots=True)
class WorkerSample:
    """The worker's counters at one moment. latency: upper bound in seconds -> records' batches at or below it."""

    applied: float = 0.0
    lag: float = 0.0
    latency: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertFigures:
    """Alerts of this run, those with a label, and those whose label is fraud."""

    alerts: int = 0
    labelled: int = 0
    frauds: int = 0

    @property
    def precision(self) -> float | None:
        return self.frauds / self.labelled if self.labelled else None


def parse_sample(exposition: str, topic: str) -> WorkerSample:
    applied = lag = 0.0
    latency: dict[float, float] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.labels.get("topic") != topic:
                continue
            if sample.name == "headgate_records_total" and sample.labels["outcome"] == "applied":
                applied += sample.value
            elif sample.name == "headgate_lag_records":
                lag += sample.value
            elif sample.name == "headgate_commit_latency_seconds_bucket":
                latency[float(sample.labels["le"])] = sample.value
    return WorkerSample(applied, lag, latency)


def read_sample(worker_url: str, topic: str) -> WorkerSample:
    """Raises OSError where the worker does not answer."""
    with urllib.request.urlopen(f"{worker_url}/metrics", timeout=SECONDS) as answer:
        return parse_sample(answer.read().decode(), topic)


def quantile(before: WorkerSample, after: WorkerSample, share: float) -> float | None:
    """The latency (seconds) that this share of what came between two samples stayed below; None where nothing came.

    Linear within a bucket, as Prometheus' histogram_quantile; the last bound for what is beyond it.
    """
    bounds = sorted(after.latency)
    counts = [after.latency[bound] - before.latency.get(bound, 0.0) for bound in bounds]
    if not counts or counts[-1] <= 0:
        return None
    wanted = share * counts[-1]
    low, below = 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if count >= wanted:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (wanted - below) / (count - below) if count > below else bound
        low, below = bound, count
    return low


def latest_revisions(alerts: Iterable[Alert], since: datetime) -> list[Alert]:
    """Those scored since a moment, each once, the latest event first."""
    newest: dict[str, Alert] = {}
    for alert in alerts:
        known = newest.get(alert.alert_id)
        if alert.scored_at >= since and (known is None or known.revision < alert.revision):
            newest[alert.alert_id] = alert
    return sorted(newest.values(), key=lambda alert: alert.occurred_at, reverse=True)


class Readings:
    """What is shown, each part from its own source; a source that does not answer keeps its last value.

    since: alerts scored before are not this run's. clock in seconds.
    """

    def __init__(
        self,
        *,
        worker_url: str,
        topic: str,
        client: redis.Redis,
        redis_prefix: str,
        database: Database,
        since: datetime,
        clock: Callable[[], float],
    ) -> None:
        self._worker_url = worker_url
        self._topic = topic
        self._client = client
        self._stream = f"{redis_prefix}alerts"
        self._database = database
        self._since = since
        self._clock = clock
        self._sample = WorkerSample()
        self._newest: list[Alert] = []
        self._figures = AlertFigures()
        self._ask_sql_at = -math.inf

    def sample(self) -> WorkerSample:
        with suppress(OSError):
            self._sample = read_sample(self._worker_url, self._topic)
        return self._sample

    def newest_alerts(self) -> list[Alert]:
        """This run's alerts among the newest entries of the Redis stream `alerts`, each at its newest revision, the
        latest event first."""
        with suppress(redis.RedisError):
            entries: Any = self._client.xrevrange(self._stream, count=NEWEST_ENTRIES)
            self._newest = latest_revisions(
                [msgspec.json.decode(fields[b"payload"], type=Alert) for _, fields in entries], self._since
            )
        return self._newest

    def figures(self, *, now: bool = False) -> AlertFigures:
        """From the analysts' view; at this moment's with `now`, else some seconds old where the view is slow."""
        began = self._clock()
        if now or began >= self._ask_sql_at:
            with suppress(DatabaseUnavailable):
                self._figures = self._ask_sql()
            ended = self._clock()
            self._ask_sql_at = ended + max(LEAST_SQL_SECONDS, (ended - began) / QUERY_SHARE)
        return self._figures

    def _ask_sql(self) -> AlertFigures:
        statement = text(
            "SELECT count(*), count(label), count(CASE WHEN label = 'fraud' THEN 1 END) FROM v_alerts "
            "WHERE scored_at >= :since"
        ).bindparams(bindparam("since", self._since, UtcTimestamp()))
        with self._database.reading() as connection:
            return AlertFigures(*connection.execute(statement).one())
