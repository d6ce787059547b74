"""Metrics of the flow move with what the threads report."""

from typing import Any

import pytest

from storage.progress import Advance, Claim
from streams.batch import OwnedPartition, PartitionWork, PreparedBatch
from streams.commit import CommitResult
from streams.health import FlowMetrics


@pytest.fixture
def metrics() -> FlowMetrics:
    return FlowMetrics()


def value(metrics: FlowMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"headgate_{name}", labels)


def work(partition: int = 0, **counts: int) -> PartitionWork:
    claim = Claim("t", 1, partition, 1, 0)
    step = Advance(1, partition, 1, 0, sum(counts.values()), **counts)
    return PartitionWork(OwnedPartition(claim, "uuid", 1, 0, 0), step, [])


def test_outcomes_are_counted_once_they_are_in_sql_and_lost_work_is_not(metrics: FlowMetrics) -> None:
    done, lost = work(applied=5, duplicates=2, dead_letters=1, gaps=3), work(1, applied=100)
    batch = PreparedBatch([done, lost], 108, 0.0, [10_000, 12_500])
    metrics.committed("t", batch, CommitResult([done], [lost]), now=13.0)
    metrics.committed("t", PreparedBatch([done], 8, 0.0), CommitResult([done], []), now=13.0)
    counted = {o: value(metrics, "records_total", topic="t", outcome=o) for o in ("applied", "duplicates", "gaps")}
    assert counted == {"applied": 10, "duplicates": 4, "gaps": 6}
    assert value(metrics, "records_total", topic="t", outcome="dead_letters") == 2
    assert value(metrics, "partitions_lost_total", topic="t") == 1
    assert value(metrics, "batch_records_count", topic="t") == 2
    assert value(metrics, "batch_records_sum", topic="t") == 116
    assert value(metrics, "commit_latency_seconds_count", topic="t") == 2
    assert value(metrics, "commit_latency_seconds_sum", topic="t") == pytest.approx(3.5)


def test_a_record_from_a_clock_ahead_of_ours_has_no_negative_latency(metrics: FlowMetrics) -> None:
    metrics.committed("t", PreparedBatch([], 1, 0.0, [20_000]), CommitResult([], []), now=13.0)
    assert value(metrics, "commit_latency_seconds_sum", topic="t") == 0


def test_a_batch_without_records_is_no_batch_size(metrics: FlowMetrics) -> None:
    metrics.committed("t", PreparedBatch([work()], 0, 0.0), CommitResult([work()], []), now=1.0)
    assert value(metrics, "batch_records_count", topic="t") is None


@pytest.mark.parametrize(
    ("report", "name", "labels"),
    [
        (lambda m: m.alerts_made(1), "alert_revisions_total", {}),
        (lambda m: m.resident(1, 0), "resident_accounts", {}),
        (lambda m: m.resident(2, 1), "outdated_accounts", {}),
        (lambda m: m.model_in_use(1), "model_version", {}),
        (lambda m: m.model_swapped("refused"), "model_swaps_total", {"outcome": "refused"}),
        (lambda m: m.relayed("redis", "alerts", 1), "relayed_total", {"sink": "redis", "outbox": "alerts"}),
        (lambda m: m.watch_failed("drift-watch"), "watch_failures_total", {"watch": "drift-watch"}),
        (lambda m: m.relay_failed("redis"), "relay_failures_total", {"sink": "redis"}),
        (lambda m: m.store_refused("redis", "tls"), "store_refusals_total", {"store": "redis", "reason": "tls"}),
        (lambda m: m.database_failed(), "database_failures_total", {}),
        (lambda m: m.lag("t", 0, 1), "lag_records", {"topic": "t", "partition": "0"}),
        (lambda m: m.queue("t", 1), "queue_depth", {"topic": "t"}),
    ],
)
def test_each_report_moves_its_metric(metrics: FlowMetrics, report: Any, name: str, labels: dict[str, str]) -> None:
    report(metrics)
    assert value(metrics, name, **labels) == 1


def test_the_stages_are_timed_also_when_they_fail(metrics: FlowMetrics) -> None:
    with metrics.computing("t"):
        pass
    with pytest.raises(ValueError, match="no"), metrics.committing("t"):
        raise ValueError("no")
    with metrics.restoring("t", 0):
        pass
    assert value(metrics, "stage_seconds_count", topic="t", stage="compute") == 1
    assert value(metrics, "stage_seconds_count", topic="t", stage="commit") == 1
    assert value(metrics, "restore_seconds_count", topic="t") == 1


def test_a_restore_says_how_much_it_has_folded_until_it_ends(metrics: FlowMetrics) -> None:
    with metrics.restoring("t", 0):
        assert metrics.restoring_now == {"t": 0}
        metrics.restored("t", 5)
        metrics.restored("t", 2)
        assert metrics.restoring_now == {"t": 7}
    assert metrics.restoring_now == {}


def test_two_workers_in_one_process_count_apart() -> None:
    first, second = FlowMetrics(), FlowMetrics()
    first.alerts_made(2)
    assert value(second, "alert_revisions_total") == 0
