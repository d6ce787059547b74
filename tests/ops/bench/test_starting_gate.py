"""The gate on a real broker: what readers of committed records may read, before it opens and after."""

from confluent_kafka import Producer

from ops.bench.faults.worker_process import wait_until
from ops.bench.starting_gate import StartingGate
from streams.kafka import KafkaSettings, create_topics
from streams.kafka_logs import log_bounds

PARTITIONS, SECONDS = 2, 30.0


def test_nothing_that_comes_behind_the_gate_can_be_read_until_it_opens(kafka_servers: str, topic_prefix: str) -> None:
    settings, topic = KafkaSettings(kafka_servers), f"{topic_prefix}transactions"
    places = [(topic, number) for number in range(PARTITIONS)]
    create_topics(settings, {topic: {}}, partitions=PARTITIONS, replication=1)
    gate = StartingGate(kafka_servers, topic, PARTITIONS)
    producer = Producer({"bootstrap.servers": kafka_servers, "log_level": 0})
    for number in range(PARTITIONS):
        for _ in range(5):
            producer.produce(topic, b"behind", partition=number)
    assert producer.flush(SECONDS) == 0
    assert log_bounds(settings, places) == dict.fromkeys(places, (0, 0))

    gate.open()

    # What shut it, five records, and the end of its transaction, which the broker writes once it has answered.
    opened = dict.fromkeys(places, (0, 7))
    wait_until("everything can be read", lambda: log_bounds(settings, places) == opened, SECONDS)
