"""How the service is doing now, from what threads look at about once a second; nothing here waits for a service.

What is away makes its part null and its service false.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ops.dashboard.answers import Latency, Services, Status, WatchedPartition, Worker
from ops.dashboard.budget import alert_budget
from ops.dashboard.metrics import DashboardMetrics
from ops.dashboard.refreshing import Figures, Refresher
from ops.dashboard.sources import Sources
from ops.dashboard.throughput import Rates, Throughput, place_of
from storage.alert_list import open_alert_count, opened_by_day
from storage.dead_letters import unreplayed_by_code
from storage.progress import ProgressRow, current_progress
from storage.stored_predictions import newest_latencies
from storage.stored_slates import slates_between
from streams.detection import MODEL_NAME
from streams.policy_watch import POLICY_NAME

TRANSACTIONS, ENGAGEMENTS = "transactions", "engagements"
TOPICS = (TRANSACTIONS, ENGAGEMENTS, "items", "feedback")
LOOK_SECONDS = 1.0
COUNT_SECONDS = 2.0
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Progress:
    """What SQL says: partitions with the moments of their last change, seconds of the newest predictions."""

    rows: Sequence[tuple[ProgressRow, datetime]]
    latencies: Sequence[float]
    rates: Rates
    champions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Counts:
    alerts_open: int
    alerts_today: int
    alert_budget: float | None
    dead_letters: int


class StatusWatch:
    """start and stop its threads; `status` on any thread."""

    def __init__(self, sources: Sources, metrics: DashboardMetrics) -> None:
        self._sources = sources
        self._throughput = Throughput(sources.topic(TRANSACTIONS), sources.topic(ENGAGEMENTS))
        self._progress = Figures("progress", self._read_progress)
        self._ends = Figures("log_ends", self._read_ends)
        self._redis = Figures("redis", lambda _now: bool(sources.redis.ping()))
        self._counts = Figures("counts", self._read_counts)
        parts = (
            (self._progress, LOOK_SECONDS),
            (self._ends, LOOK_SECONDS),
            (self._redis, LOOK_SECONDS),
            (self._counts, COUNT_SECONDS),
        )
        self._threads = [
            Refresher(f"status-{part.name}", [part], metrics, sources.clock, least_seconds=seconds)
            for part, seconds in parts
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        for thread in self._threads:
            thread.stop()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def services(self) -> Services:
        """Which of them answered the last time."""
        return Services(
            sql=self._progress.current is not None,
            kafka=self._ends.current is not None,
            redis=self._redis.current is not None,
        )

    def status(self) -> Status:
        progress, counts, ends = self._progress.current, self._counts.current, self._ends.current
        now = self._sources.clock()
        rates = Rates() if progress is None else progress.rates
        return Status(
            at=now,
            events_per_second=rates.events,
            engagements_per_second=rates.engagements,
            slates_per_second=rates.slates,
            lag=None if progress is None or ends is None else total_lag(progress.rows, ends),
            latency=None if progress is None else latency_of(progress.latencies),
            alerts_open=None if counts is None else counts.alerts_open,
            alerts_today=None if counts is None else counts.alerts_today,
            alert_budget=None if counts is None else counts.alert_budget,
            dead_letters=None if counts is None else counts.dead_letters,
            workers=[] if progress is None else workers_of(progress.rows, ends or {}, now),
            champions={} if progress is None else dict(progress.champions),
            services=self.services(),
        )

    def _read_progress(self, now: datetime) -> Progress:
        sources = self._sources
        topics = {sources.topic(name) for name in TOPICS}
        with sources.database.reading() as connection:
            rows = [(row, at) for row, at in current_progress(connection) if row.topic in topics]
            partitions = [row for row, _ in rows]
            slates = slates_between(connection, self._throughput.unseen_engagements(partitions))
            latencies = newest_latencies(connection, offsets_of(partitions, sources.topic(TRANSACTIONS)))
        rates = self._throughput.add(now, partitions, slates)
        found = {name: sources.registry.champion(name) for name in (MODEL_NAME, POLICY_NAME)}
        return Progress(rows, latencies, rates, {name: str(record) for name, record in found.items() if record})

    def _read_ends(self, _now: datetime) -> dict[Place, int]:
        broker = self._sources.broker
        return broker.ends(broker.partitions([self._sources.topic(name) for name in TOPICS]))

    def _read_counts(self, now: datetime) -> Counts:
        with self._sources.database.reading() as connection:
            return Counts(
                alerts_open=open_alert_count(connection),
                alerts_today=opened_by_day(connection, [now.date()])[now.date()],
                alert_budget=alert_budget(self._sources.alert_rule, self._sources.registry.champion(MODEL_NAME)),
                dead_letters=sum(unreplayed_by_code(connection).values()),
            )


def offsets_of(rows: Sequence[ProgressRow], topic: str) -> dict[tuple[int, int], int]:
    """(topic generation, partition) of a topic -> the next offset in SQL."""
    return {place_of(row): row.next_offset for row in rows if row.topic == topic}


def total_lag(rows: Sequence[tuple[ProgressRow, datetime]], ends: Mapping[Place, int]) -> int:
    """Of a partition that SQL has never seen, all that its log ever held."""
    passed = {(row.topic, row.partition): row.next_offset for row, _ in rows}
    return sum(max(0, end - passed.get(place, 0)) for place, end in ends.items())


def latency_of(seconds: Sequence[float]) -> Latency | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99)]
    return Latency(p50=at[0], p99=at[1], samples=len(ordered))


def workers_of(rows: Sequence[tuple[ProgressRow, datetime]], ends: Mapping[Place, int], now: datetime) -> list[Worker]:
    """Owners by name, each with its partitions."""
    owned: dict[str, list[WatchedPartition]] = {}
    for row, updated_at in rows:
        end = ends.get((row.topic, row.partition))
        owned.setdefault(row.owner, []).append(
            WatchedPartition(
                topic=row.topic,
                partition=row.partition,
                next_offset=row.next_offset,
                lag=None if end is None else max(0, end - row.next_offset),
                updated_at=updated_at,
                idle_seconds=max(0.0, (now - updated_at).total_seconds()),
            )
        )
    return [Worker(worker=owner, partitions=owned[owner]) for owner in sorted(owned)]
