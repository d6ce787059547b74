"""What the benchmarks count of the worker's publications."""

import msgspec
import pytest
from confluent_kafka import Producer

from ops.bench.contestants import ends_of_alerts, revisions_in_kafka
from streams.kafka import KafkaSettings, create_topics

pytestmark = pytest.mark.service


def test_an_alert_revision_that_a_relay_published_twice_counts_once(kafka_servers: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}alerts"
    create_topics(KafkaSettings(kafka_servers), {topic: {}}, partitions=2, replication=1)
    producer = Producer({"bootstrap.servers": kafka_servers})

    def publish(alert_id: str, revision: int, partition: int) -> None:
        payload = msgspec.json.encode({"alert_id": alert_id, "revision": revision, "event_ids": ["e"]})
        producer.produce(topic, payload, alert_id, partition=partition)

    publish("of an earlier run", 1, 0)
    assert producer.flush(30) == 0
    before = ends_of_alerts(kafka_servers, topic)
    assert revisions_in_kafka(kafka_servers, before, before, topic) == 0
    for _ in range(2):
        publish("a", 1, 0)
        publish("a", 2, 0)
        publish("b", 1, 1)
    assert producer.flush(30) == 0
    after = ends_of_alerts(kafka_servers, topic)
    publish("later", 1, 1)
    assert producer.flush(30) == 0
    assert revisions_in_kafka(kafka_servers, before, after, topic) == 3
