"""Metrics and health of the flow: what the threads report, as Prometheus metrics and as one readiness answer.

Seconds and `_total` as Prometheus asks; no ids in labels. docs/metrics.md lists every metric (a test checks that).
"""

from collections import Counter as Counts
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.batch import PreparedBatch
from streams.commit import CommitResult

LATENCY_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
STAGE_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)
SIZE_BUCKETS = (1, 4, 16, 64, 256, 1024, 2048, 4096, 8192, 16384)


class FlowMetrics:
    """All metrics of one worker, on its own registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        #: For the watchdog: failures so far, and topics that are restoring the state of a partition at this
        #: moment, with how many events were folded into it.
        self.database_failures = 0
        self.restoring_now: dict[str, int] = {}
        into = self.registry
        self._records = Counter(
            "headgate_records_total", "Input records by outcome, once in SQL", ["topic", "outcome"], registry=into
        )
        self._latency = Histogram(
            "headgate_commit_latency_seconds",
            "From the Kafka timestamp of a partition's newest record to its commit in SQL",
            ["topic"],
            buckets=LATENCY_BUCKETS,
            registry=into,
        )
        self._stage = Histogram(
            "headgate_stage_seconds",
            "Time a batch spends in a stage",
            ["topic", "stage"],
            buckets=STAGE_BUCKETS,
            registry=into,
        )
        self._batch = Histogram(
            "headgate_batch_records", "Records in a batch", ["topic"], buckets=SIZE_BUCKETS, registry=into
        )
        self._queue = Gauge(
            "headgate_queue_depth", "Computed batches that wait to be written", ["topic"], registry=into
        )
        self._lag = Gauge(
            "headgate_lag_records",
            "Records in Kafka that SQL has not passed",
            ["topic", "partition"],
            registry=into,
        )
        self._lost = Counter(
            "headgate_partitions_lost_total",
            "Partitions found to be owned by another worker",
            ["topic"],
            registry=into,
        )
        self._stopped = Gauge(
            "headgate_partitions_stopped",
            "Partitions that stand still until somebody acts; /health and the log say how",
            ["topic", "reason"],
            registry=into,
        )
        self._restore = Histogram(
            "headgate_restore_seconds", "Time to restore a partition's state from SQL", ["topic"], registry=into
        )
        self._relayed = Counter(
            "headgate_relayed_total", "Messages that a sink confirmed", ["sink", "outbox"], registry=into
        )
        self._relay_failures = Counter(
            "headgate_relay_failures_total",
            "Times that a sink or the database kept the relay waiting",
            ["sink"],
            registry=into,
        )
        self._watch_failures = Counter(
            "headgate_watch_failures_total",
            "Times that a watch beside the stream had a bug: it is tried again, the stream goes on",
            ["watch"],
            registry=into,
        )
        self._store_refusals = Counter(
            "headgate_store_refusals_total",
            "Times that the database or Redis refused us, or was not trusted: authentication, authorization, tls",
            ["store", "reason"],
            registry=into,
        )
        self._refusals = Counter(
            "headgate_kafka_refusals_total",
            "Times that Kafka refused a client of this worker, or was not trusted: authentication, authorization, tls",
            ["reason"],
            registry=into,
        )
        self._alerts = Counter("headgate_alert_revisions_total", "Alert revisions made", registry=into)
        self._database_failures = Counter(
            "headgate_database_failures_total",
            "Times that the database was away when a batch was due",
            registry=into,
        )
        self._resident = Gauge("headgate_resident_accounts", "Accounts whose state is in memory", registry=into)
        self._outdated = Gauge(
            "headgate_outdated_accounts",
            "Resident accounts whose state the present model has yet to build",
            registry=into,
        )
        self._model = Gauge("headgate_model_version", "Version of the detector in use", registry=into)
        self._shadow = Gauge(
            "headgate_shadow_version", "Version that scores in the shadow of the detector, 0 without one", registry=into
        )
        self._swaps = Counter(
            "headgate_model_swaps_total",
            "Changes of the model in use: activated, refused, rolled_back",
            ["outcome"],
            registry=into,
        )
        self._untrusted = Counter(
            "headgate_untrusted_models_total",
            "Models that were not loaded, as no trusted key signed them",
            ["model"],
            registry=into,
        )
        self._threshold = Gauge("headgate_alert_threshold", "Score from which on an event alerts", registry=into)
        self._today = Gauge(
            "headgate_alerts_today", "Alerts opened on the latest day (UTC, event time), by all workers", registry=into
        )
        self._drift = Gauge(
            "headgate_drift",
            "Distance of a feature, of scores or of high ones from what is usual",
            ["detector", "subject"],
            registry=into,
        )
        self._drifts = Counter(
            "headgate_drifts_total", "Drifts that this worker was the first to record", ["detector"], registry=into
        )
        self._labels = Gauge(
            "headgate_labels_known_at_seconds",
            "Moment (epoch seconds) of which the label version in use knows all matured labels",
            registry=into,
        )
        self._labelled = Gauge(
            "headgate_labelled_merchants", "Merchants of which the label version in use knows something", registry=into
        )
        self._refused = Counter(
            "headgate_refused_records_total", "Dead letters by the reason for it", ["topic", "code"], registry=into
        )
        self._broken_parts = Counter(
            "headgate_broken_item_parts_total",
            "Titles, texts and images that were broken, so that their items go on without them",
            ["part"],
            registry=into,
        )
        self._swap = Histogram(
            "headgate_model_swap_seconds",
            "Time that a new champion's trial and activation held up the stream",
            buckets=STAGE_BUCKETS,
            registry=into,
        )

    @contextmanager
    def computing(self, topic: str) -> Iterator[None]:
        with self._stage.labels(topic, "compute").time():
            yield

    @contextmanager
    def committing(self, topic: str) -> Iterator[None]:
        with self._stage.labels(topic, "commit").time():
            yield

    @contextmanager
    def restoring(self, topic: str, partition: int) -> Iterator[None]:
        del partition
        self.restoring_now[topic] = 0
        try:
            with self._restore.labels(topic).time():
                yield
        finally:
            self.restoring_now.pop(topic, None)

    def restored(self, topic: str, events: int) -> None:
        """So many more events were folded into the state that is being restored."""
        self.restoring_now[topic] += events

    def queue(self, topic: str, batches: int) -> None:
        self._queue.labels(topic).set(batches)

    def committed(self, topic: str, batch: PreparedBatch, result: CommitResult, now: float) -> None:
        for work in result.committed:
            step = work.advance
            for outcome in ("applied", "duplicates", "dead_letters", "gaps"):
                if count := getattr(step, outcome):
                    self._records.labels(topic, outcome).inc(count)
            for code, count in work.refused.items():
                self._refused.labels(topic, code).inc(count)
        if result.lost:
            self._lost.labels(topic).inc(len(result.lost))
        if batch.records:
            self._batch.labels(topic).observe(batch.records)
        for recorded_at in batch.recorded_at:
            self._latency.labels(topic).observe(max(0.0, now - recorded_at / 1000))

    def lag(self, topic: str, partition: int, records: int) -> None:
        self._lag.labels(topic, str(partition)).set(records)

    def no_lag(self, topic: str, partition: int) -> None:
        """The partition is another worker's: its lag is not ours to report."""
        self._lag.remove(topic, str(partition))

    def partitions_stopped(self, stopped: Sequence[tuple[str, str]]) -> None:
        """All that stand still now: topic and reason of each."""
        self._stopped.clear()
        for labels, partitions in Counts(stopped).items():
            self._stopped.labels(*labels).set(partitions)

    def alerts_made(self, revisions: int) -> None:
        self._alerts.inc(revisions)

    def resident(self, accounts: int, outdated: int) -> None:
        self._resident.set(accounts)
        self._outdated.set(outdated)

    @contextmanager
    def swapping(self) -> Iterator[None]:
        with self._swap.time():
            yield

    def model_untrusted(self, model: str) -> None:
        """model: its name, as `fraud`."""
        self._untrusted.labels(model).inc()

    def model_swapped(self, outcome: str) -> None:
        self._swaps.labels(outcome).inc()

    def model_in_use(self, version: int) -> None:
        self._model.set(version)

    def shadow_in_use(self, version: int) -> None:
        """0: none."""
        self._shadow.set(version)

    def threshold(self, threshold: float) -> None:
        self._threshold.set(threshold)

    def alerts_today(self, alerts: int) -> None:
        self._today.set(alerts)

    def drift(self, detector: str, subject: str, value: float) -> None:
        self._drift.labels(detector, subject).set(value)

    def drifted(self, detector: str) -> None:
        self._drifts.labels(detector).inc()

    def labels_in_use(self, known_at: float, merchants: int) -> None:
        """known_at: epoch seconds."""
        self._labels.set(known_at)
        self._labelled.set(merchants)

    def items_broken(self, part: str, items: int) -> None:
        self._broken_parts.labels(part).inc(items)

    def relayed(self, sink: str, outbox: str, messages: int) -> None:
        self._relayed.labels(sink, outbox).inc(messages)

    def store_refused(self, store: str, reason: str) -> None:
        """store: database or redis."""
        self._store_refusals.labels(store, reason).inc()

    def watch_failed(self, watch: str) -> None:
        self._watch_failures.labels(watch).inc()

    def relay_failed(self, sink: str) -> None:
        self._relay_failures.labels(sink).inc()

    def kafka_refused(self, reason: str) -> None:
        self._refusals.labels(reason).inc()

    def database_failed(self) -> None:
        self.database_failures += 1
        self._database_failures.inc()
