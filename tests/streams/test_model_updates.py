"""Whoever becomes champion is announced on `model-updates`, in order, by one worker, whatever the others do."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database
from storage.progress import Claim
from storage.registry import ModelRegistry
from streams.batch import OwnedPartition
from streams.health import FlowMetrics
from streams.kafka import KafkaSettings, producer, topic_configurations
from streams.relay import Relay
from streams.sinks import KafkaSink, model_updates
from tests.storage.rows import NOON
from tests.streams.test_sinks import records
from tests.streams.topics import created


def after(minutes: int) -> Callable[[], datetime]:
    return lambda: NOON + timedelta(minutes=minutes)


@pytest.fixture
def registry(database: Database, tmp_path: Path) -> ModelRegistry:
    registry = ModelRegistry(database, str(tmp_path))
    for _ in range(3):
        registry.register("fraud", "detector", b"weights", feature_schema=1, metrics={}, clock=after(0))
    return registry


@pytest.fixture
def topics(kafka_servers: str, topic_prefix: str) -> str:
    created(kafka_servers, topic_configurations(topic_prefix, 100_000))
    return topic_prefix


def owner(topic: str, partition: int, *, epoch: int = 1) -> OwnedPartition:
    return OwnedPartition(Claim(topic, 1 if topic == "transactions" else 2, partition, epoch, 0), "uuid", 1, 0, 0)


def publish(database: Database, servers: str, topics: str, *owners: OwnedPartition) -> None:
    """A worker that owns these partitions hears of a change, and stops."""
    sink = KafkaSink(producer(KafkaSettings(servers)), topics)
    relay = Relay(sink, [model_updates("transactions")], database, FlowMetrics(), clock=lambda: NOON)
    relay.start()
    for each in owners:
        relay.wake(each)
    relay.stop(30.0)


def announced(servers: str, topics: str) -> list[Any]:
    found = records(servers, f"{topics}model-updates")
    assert {record.key for record in found} <= {b"fraud"}
    return [json.loads(record.value) for record in found]


def test_each_change_of_the_champion_is_announced_once_by_the_owner_of_the_first_partition(
    database: Database, registry: ModelRegistry, kafka_servers: str, topics: str
) -> None:
    registry.promote("fraud", 1, "the first", after(1))
    registry.promote("fraud", 2, "finds more", after(2))
    publish(database, kafka_servers, topics, owner("feedback", 0), owner("transactions", 1))
    assert announced(kafka_servers, topics) == []
    publish(database, kafka_servers, topics, *(owner(topic, 0) for topic in ("transactions", "feedback")))
    registry.withdraw(registry.get("fraud", 2), "its scores are no numbers", after(3))
    publish(database, kafka_servers, topics, owner("transactions", 0, epoch=2), owner("transactions", 1))
    assert announced(kafka_servers, topics) == [
        {"name": "fraud", "version": 1, "promoted_at": "2026-03-14T12:01:00Z", "why": "the first"},
        {"name": "fraud", "version": 2, "promoted_at": "2026-03-14T12:02:00Z", "why": "finds more"},
        {
            "name": "fraud",
            "version": 1,
            "promoted_at": "2026-03-14T12:03:00Z",
            "why": "automatic rollback from fraud:2: its scores are no numbers",
        },
    ]


def test_a_worker_whose_partition_went_to_another_announces_nothing(
    database: Database, registry: ModelRegistry, kafka_servers: str, topics: str
) -> None:
    publish(database, kafka_servers, topics, owner("transactions", 0, epoch=2))
    registry.promote("fraud", 1, "the first", after(1))
    publish(database, kafka_servers, topics, owner("transactions", 0, epoch=1))
    assert announced(kafka_servers, topics) == []
