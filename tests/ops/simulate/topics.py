"""Topics of a test's own on the real broker, and all that is in them, decoded as the stream would."""

import time
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.decode import DecodedFeedback, DecodedTransactions, decode_feedback, decode_transactions
from streams.decode_engagements import DecodedEngagements, decode_engagements
from streams.decode_items import DecodedItems, decode_items
from streams.kafka import KafkaSettings, create_topics, describe_topics, topic_configurations
from streams.records import DecodeLimits
from tests.deployment import wait_until


@dataclass(frozen=True, slots=True)
class ReadRecord:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Topics:
    servers: str
    prefix: str

    @classmethod
    def created(cls, servers: str, prefix: str) -> "Topics":
        """Once they can be read."""
        create_topics(KafkaSettings(servers), topic_configurations(prefix, 1_000_000), partitions=2, replication=1)
        topics = cls(servers, prefix)
        wait_until("the new topics have leaders", topics._readable)
        return topics

    def _readable(self) -> bool:
        try:
            return all(
                self.records(topic) == [[], []] for topic in ("transactions", "feedback", "engagements", "items")
            )
        except KafkaException:
            return False

    def transactions(self) -> list[DecodedTransactions]:
        """By partition."""
        return [decode_transactions(records, DecodeLimits()) for records in self.records("transactions")]

    def feedback(self) -> list[DecodedFeedback]:
        """By partition."""
        return [decode_feedback(records, DecodeLimits()) for records in self.records("feedback")]

    def engagements(self) -> list[DecodedEngagements]:
        """By partition."""
        return [decode_engagements(records, DecodeLimits()) for records in self.records("engagements")]

    def items(self) -> list[DecodedItems]:
        """By partition."""
        return [decode_items(records, DecodeLimits()) for records in self.records("items")]

    def records(self, topic: str) -> list[list[ReadRecord]]:
        """Everything in a topic (name without prefix), by partition."""
        name = f"{self.prefix}{topic}"
        partitions = describe_topics(KafkaSettings(self.servers), [name])[name].partitions
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": self.prefix, "enable.auto.commit": False})
        try:
            return [_read(consumer, TopicPartition(name, number)) for number in range(partitions)]
        finally:
            consumer.close()


def _read(consumer: Consumer, place: TopicPartition) -> list[ReadRecord]:
    low, high = consumer.get_watermark_offsets(place, timeout=10)
    consumer.assign([TopicPartition(place.topic, place.partition, low)])
    records: list[ReadRecord] = []
    deadline = time.monotonic() + 30
    while len(records) < high - low:
        assert time.monotonic() < deadline, f"{place.topic} was not read to its end in 30 s"
        for message in consumer.consume(10_000, 0.2):
            assert message.error() is None
            records.append(ReadRecord(message.offset(), message.timestamp()[1], message.key(), message.value()))
    return records
