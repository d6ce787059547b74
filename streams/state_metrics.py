"""Metrics of what is kept of state outside memory: snapshots and the cold tier.

On the worker's registry, beside those of the flow (health.py); docs/metrics.md lists every metric (a test checks that).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.health import STAGE_BUCKETS


class StateMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        into = registry
        self._evicted = Counter(
            "headgate_entities_evicted_total", "Accounts or users that left memory", ["topic"], registry=into
        )
        self._returned = Counter(
            "headgate_entities_returned_total",
            "Accounts or users that came back to memory with their state",
            ["topic"],
            registry=into,
        )
        self._look_up = Histogram(
            "headgate_cold_lookup_seconds",
            "Time a batch waits for the states of accounts or users that are not in memory",
            ["topic"],
            buckets=STAGE_BUCKETS,
            registry=into,
        )
        self._copy = Histogram(
            "headgate_snapshot_copy_seconds",
            "Time that the stream stands still while what changed is copied",
            ["topic"],
            buckets=STAGE_BUCKETS,
            registry=into,
        )
        self._copied = Counter(
            "headgate_snapshot_entities_total", "Entities copied for snapshots", ["topic"], registry=into
        )
        self._bytes = Gauge(
            "headgate_snapshot_bytes", "Size of a partition's newest snapshot", ["topic", "partition"], registry=into
        )
        self._made_at = Gauge(
            "headgate_snapshot_made_at_seconds",
            "Moment (epoch seconds) at which a partition's newest snapshot was named in SQL",
            ["topic", "partition"],
            registry=into,
        )
        self._failures = Counter(
            "headgate_snapshot_failures_total",
            "Snapshots that came to nothing: unwritable, database, or damaged (a file that the next one builds on)",
            ["topic", "reason"],
            registry=into,
        )
        self._refused = Counter(
            "headgate_snapshots_refused_total",
            "Snapshots that a restore could not use: unreadable, unreachable or incompatible",
            ["topic", "reason"],
            registry=into,
        )

    def evicted(self, topic: str, entities: int) -> None:
        self._evicted.labels(topic).inc(entities)

    def returned(self, topic: str, entities: int) -> None:
        self._returned.labels(topic).inc(entities)

    @contextmanager
    def looking_up(self, topic: str) -> Iterator[None]:
        with self._look_up.labels(topic).time():
            yield

    @contextmanager
    def copying(self, topic: str) -> Iterator[None]:
        with self._copy.labels(topic).time():
            yield

    def copied(self, topic: str, entities: int) -> None:
        self._copied.labels(topic).inc(entities)

    def snapshot_made(self, topic: str, partition: int, size: int, at: float) -> None:
        self._bytes.labels(topic, str(partition)).set(size)
        self._made_at.labels(topic, str(partition)).set(at)

    def snapshot_gone(self, topic: str, partition: int) -> None:
        """The partition is another worker's."""
        for gauge in (self._bytes, self._made_at):
            gauge.remove(topic, str(partition))

    def snapshot_failed(self, topic: str, reason: str) -> None:
        self._failures.labels(topic, reason).inc()

    def snapshot_refused(self, topic: str, reason: str) -> None:
        self._refused.labels(topic, reason).inc()
