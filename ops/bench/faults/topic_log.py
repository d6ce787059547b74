"""A topic's log as any client may read it: committed records, from an offset to the present end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from ops.bench.faults.worker_process import NeverHappened

READ_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class LogRecord:
    """As streams/records.py wants a record, with the headers."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


def log_ends(servers: str, topic: str) -> dict[int, int]:
    """Where each partition's log ends."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "evidence"})
    try:
        return {number: high for number, (_, high) in _bounds(consumer, topic).items()}
    finally:
        consumer.close()


def read_log(servers: str, topic: str, first: Mapping[int, int]) -> tuple[list[LogRecord], dict[int, int]]:
    """All committed records of a topic from the given offsets (0 where none is given) to its present end, and where
    each partition ends. Raises NeverHappened."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "evidence", "enable.auto.commit": False})
    try:
        bounds = _bounds(consumer, topic)
        begins = {number: max(low, first.get(number, 0)) for number, (low, _) in bounds.items()}
        consumer.assign([TopicPartition(topic, number, begin) for number, begin in begins.items()])
        missing = sum(high - begins[number] for number, (_, high) in bounds.items())
        records: list[LogRecord] = []
        while len(records) < missing:
            batch = consumer.consume(num_messages=missing - len(records), timeout=READ_SECONDS)
            if not batch:
                raise NeverHappened(f"{topic}: {missing - len(records)} records did not come")
            records += [_record(message) for message in batch if message.error() is None]
        return records, {number: high for number, (_, high) in bounds.items()}
    finally:
        consumer.close()


@retry(
    retry=retry_if_exception_type((KafkaException, KeyError)),
    stop=stop_after_delay(READ_SECONDS),
    wait=wait_fixed(0.2),
    reraise=True,
)
def _bounds(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    """Partition -> its first and its next offset. A broker that has just come back may not know at once."""
    partitions = consumer.list_topics(topic, timeout=READ_SECONDS).topics[topic].partitions
    return {
        number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=READ_SECONDS)
        for number in partitions
    }


def _record(message: Any) -> LogRecord:
    headers = dict(message.headers() or [])
    return LogRecord(
        message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(), headers
    )
