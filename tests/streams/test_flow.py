"""What the flow reports of itself: how far SQL is behind Kafka, for partitions that are ours."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import generate_latest

from storage.database import DatabaseUnavailable
from storage.progress import Advance, Claim
from streams.batch import PartitionWork
from streams.commit import CommitResult
from streams.flow import Flow
from streams.health import FlowMetrics
from streams.kafka import KafkaSettings
from streams.ownership import Ownership


def claim(partition: int, next_offset: int = 10) -> Claim:
    return Claim("t", 1, partition, epoch=1, next_offset=next_offset)


@pytest.fixture
def ownership() -> Ownership:
    """Partitions 0 and 1 of the topic t, SQL at 10."""
    ownership = Ownership()
    ownership.take([claim(0), claim(1)], {"t": "uuid"}, 1)
    return ownership


@pytest.fixture
def metrics() -> FlowMetrics:
    return FlowMetrics()


@pytest.fixture
def flow(ownership: Ownership, metrics: FlowMetrics) -> Flow:
    return without_services(ownership, metrics)


def without_services(ownership: Ownership, metrics: FlowMetrics, **more: Any) -> Flow:
    """Nothing that these tests do asks for one."""
    nothing: Any = None
    return Flow(
        database=nothing,
        kafka=KafkaSettings("nowhere:1"),
        ownership=ownership,
        pipelines=[],
        relays=[],
        metrics=metrics,
        owner_name="worker",
        clock=lambda: datetime(2026, 3, 14, tzinfo=UTC),
        **more,
    )


def lags(metrics: FlowMetrics) -> dict[str, float]:
    """Partition -> lag, as Prometheus sees them."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    shown = [line for line in lines if line.startswith("headgate_lag_records{")]
    return {line.split('partition="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in shown}


def test_health_tells_what_a_thread_beside_the_stream_has_to_say(metrics: FlowMetrics) -> None:
    class Failing:
        warnings = ("drift-watch fails",)

        def start(self) -> None: ...

        def stop(self) -> None: ...

    health = without_services(Ownership(), metrics, background=[Failing()], warnings=lambda: ["no items"]).health()
    assert (health["warnings"], health["failure"]) == (["no items", "drift-watch fails"], None)


def test_the_lag_falls_when_sql_catches_up_though_nothing_more_is_fetched(
    flow: Flow, ownership: Ownership, metrics: FlowMetrics
) -> None:
    flow.seen_end("t", 0, 25)
    assert lags(metrics) == {"0": 15}

    owner = (ownership.owned("t") or [])[0]
    work = PartitionWork(owner, Advance(1, 0, 1, base_offset=10, next_offset=25, applied=15), [])
    flow.on_commit(CommitResult([work], []))

    assert lags(metrics) == {"0": 0}


def test_the_lag_of_a_partition_that_went_to_another_worker_is_not_reported_any_more(
    flow: Flow, metrics: FlowMetrics
) -> None:
    flow.seen_end("t", 0, 25)
    flow.seen_end("t", 1, 12)
    assert lags(metrics) == {"0": 15, "1": 2}

    asyncio.run(flow.claim({}, 2))

    assert lags(metrics) == {}


def test_a_stop_while_the_database_is_away_is_no_failure_but_everything_else_is(flow: Flow) -> None:
    away, refused = DatabaseUnavailable("away"), ArithmeticError("a bug")
    flow.stop_waiting()
    flow.on_failure(away)
    assert flow.failure is None
    flow.on_failure(refused)
    assert flow.failure is refused


def test_a_database_that_is_given_up_without_a_stop_is_a_failure(flow: Flow) -> None:
    away = DatabaseUnavailable("away")
    flow.on_failure(away)
    assert flow.failure is away
