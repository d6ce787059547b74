"""Keys go where the clients put them: each way of choosing a partition beside a producer that has it."""

from collections.abc import Mapping

import pytest
from confluent_kafka import Message, Producer
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as kafka_python_murmur2

from streams.partitioners import ANY, HASHES, belongs, fitting, murmur2, partition_of
from tests.streams.topics import created

KEYS = [f"account-{number}" for number in range(300)] + ["", "a", "ab", "abc", "ключ", "鍵" * 60, "\u007f" * 5]
LIBRDKAFKA = {"murmur2": "murmur2", "crc32": "consistent", "fnv1a": "fnv1a"}
PARTITIONS = 7


@given(st.binary(max_size=40))
def test_murmur2_is_that_of_kafka_python(key: bytes) -> None:
    assert murmur2(key) == kafka_python_murmur2(key) & 0x7FFFFFFF


@pytest.mark.parametrize("name", HASHES)
def test_a_real_producer_chooses_the_same_partitions(name: str, kafka_servers: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}keys"
    created(kafka_servers, {topic: {}}, partitions=PARTITIONS)
    keys = [key for key in KEYS if key]
    found = placed(kafka_servers, topic, keys, {"partitioner": LIBRDKAFKA[name]})
    assert found == {key: partition_of(name, key, PARTITIONS) for key in keys}
    assert fitting(found.items(), PARTITIONS) == [name]


def test_librdkafka_chooses_by_crc32_where_nobody_says_otherwise(kafka_servers: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}keys"
    created(kafka_servers, {topic: {}}, partitions=PARTITIONS)
    assert fitting(placed(kafka_servers, topic, KEYS[:100], {}).items(), PARTITIONS) == ["crc32"]


def placed(servers: str, topic: str, keys: list[str], settings: Mapping[str, str]) -> dict[str, int]:
    """Where a producer's records went."""
    found: dict[str, int] = {}
    producer = Producer({"bootstrap.servers": servers, **settings})

    def sent(_: object, message: Message) -> None:
        found[(message.key() or b"").decode()] = message.partition() or 0

    for key in keys:
        producer.produce(topic, b"", key.encode(), on_delivery=sent)
    assert producer.flush(20) == 0
    return found


def test_producers_with_two_ways_or_one_of_their_own_are_not_explained() -> None:
    mixed = [(key, partition_of("murmur2" if row % 2 else "crc32", key, 5)) for row, key in enumerate(KEYS)]
    assert fitting(mixed, 5) == []
    assert fitting([(key, row % 5) for row, key in enumerate(KEYS)], 5) == []


def test_a_single_partition_or_no_key_fits_everything() -> None:
    assert fitting([(key, 0) for key in KEYS], 1) == list(HASHES)
    assert fitting([], 4) == list(HASHES)


def test_with_any_a_key_belongs_everywhere_and_else_to_one_partition() -> None:
    for key in KEYS[:20]:
        assert all(belongs(ANY, key, partition, 4) for partition in range(4))
        for name in HASHES:
            assert sum(belongs(name, key, partition, 4) for partition in range(4)) == 1
