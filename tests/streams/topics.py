"""Topics for tests, and records in them.

Kafka answers that a topic is created, or deleted, a moment before every request sees it so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Producer

from streams.kafka import KafkaSettings, TopicDescription, TopicMissing, create_topics, describe_topics
from tests.deployment import wait_until

SECONDS = 20.0


def described(servers: str, name: str) -> TopicDescription | None:
    try:
        return describe_topics(KafkaSettings(servers), [name])[name]
    except TopicMissing:
        return None


def created(
    servers: str, topics: Mapping[str, Mapping[str, str]], *, partitions: int = 1
) -> dict[str, TopicDescription]:
    create_topics(KafkaSettings(servers), topics, partitions=partitions, replication=1)
    return {
        name: wait_until(f"{name} is there", lambda name=name: described(servers, name), SECONDS)  # type: ignore[misc]
        for name in topics
    }


def produce(servers: str, topic: str, values: Sequence[bytes], partition: int = 0, **settings: Any) -> None:
    producer = Producer({"bootstrap.servers": servers, **settings})
    for value in values:
        producer.produce(topic, value, b"key", partition)
    assert producer.flush(SECONDS) == 0


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last)]
