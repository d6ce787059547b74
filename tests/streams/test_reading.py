"""A topic's reader on a real broker: records whole and in order, from where SQL says, committed ones only."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from storage.progress import Claim
from streams.batch import Chunk, OwnedPartition
from streams.kafka import KafkaSettings, records_consumer
from streams.reading import MOST_BATCH_BYTES, RECORDS_AT_ONCE, RecordsUnreadable, TopicReader
from tests.deployment import wait_until
from tests.streams.topics import created, numbered, produce

SECONDS = 20.0
PARTITIONS = 2
MOST = 100_000


class Reading:
    """A reader, what it has read of each partition, and what it reported."""

    def __init__(self, servers: str, topic: str) -> None:
        self.topic = topic
        self.records: dict[int, list[Any]] = {number: [] for number in range(PARTITIONS)}
        self.ends: dict[int, int] = {}
        self.out_of_range: list[tuple[int, int, int, int]] = []
        self.reader = TopicReader(
            topic,
            lambda: records_consumer(KafkaSettings(servers), topic),
            on_end=lambda _topic, partition, end: self.ends.update({partition: end}),
            on_out_of_range=lambda owner, *place: self.out_of_range.append((owner.claim.partition, *place)),
        )

    def read(self, **starts: int) -> list[OwnedPartition]:
        """Partitions p0, p1, each from an offset on."""
        owners = [owned(self.topic, int(name[1:]), start) for name, start in starts.items()]
        self.reader.read(owners)
        return owners

    def take(self, most: int = MOST, timeout: float = 0.5) -> list[Chunk]:
        """As a pipeline does: what is taken is accepted."""
        chunks = self.reader.take(most, timeout)
        for chunk in chunks:
            assert chunk.records[0].offset >= chunk.owner.accepted
            chunk.owner.accepted = chunk.records[-1].offset + 1
            self.records[chunk.owner.claim.partition] += chunk.records
        return chunks

    def until(self, condition: Callable[[], bool]) -> None:
        def taken() -> bool:
            self.take(timeout=0.05)
            return condition()

        wait_until("it is read", taken)

    def offsets(self, partition: int) -> list[int]:
        return [record.offset for record in self.records[partition]]

    def values(self, partition: int) -> list[bytes]:
        return [record.value for record in self.records[partition]]


def owned(topic: str, partition: int, start: int) -> OwnedPartition:
    return OwnedPartition(Claim(topic, 1, partition, 1, start), "uuid", 1, start, start)


@pytest.fixture
def topic(kafka_servers: str, topic_prefix: str) -> str:
    name = f"{topic_prefix}transactions"
    created(kafka_servers, {name: {}}, partitions=PARTITIONS)
    return name


@pytest.fixture
def reading(kafka_servers: str, topic: str) -> Iterator[Reading]:
    found = Reading(kafka_servers, topic)
    yield found
    found.reader.close()


def in_transaction(servers: str, topic: str, *parts: tuple[bytes, bool]) -> None:
    """Each value in a transaction of its own that is committed, or aborted."""
    producer = Producer({"bootstrap.servers": servers, "transactional.id": topic})
    producer.init_transactions(SECONDS)
    for value, commit in parts:
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        producer.flush(SECONDS)
        (producer.commit_transaction if commit else producer.abort_transaction)(SECONDS)


def test_compressed_batches_are_read_whole_and_in_order(reading: Reading, kafka_servers: str, topic: str) -> None:
    expected: list[bytes] = []
    for number, codec in enumerate(("none", "lz4", "zstd", "snappy", "gzip")):
        values = [b"%d " % row + b"x" * 200 for row in range(1_000 * number, 1_000 * (number + 1))]
        produce(kafka_servers, topic, values, **{"compression.type": codec, "linger.ms": 50})
        expected += values
    reading.read(p0=0)
    reading.until(lambda: len(reading.records[0]) >= len(expected))
    assert reading.values(0) == expected
    assert reading.offsets(0) == list(range(len(expected)))
    assert {record.key for record in reading.records[0]} == {b"key"}
    assert all(record.timestamp > 1_700_000_000_000 for record in reading.records[0])


def unpack_much(servers: str, topic: str, codec: str) -> None:
    """The attack: a few kilobytes on the wire that become 96 MB of records, each as large as it may be."""
    settings = {
        "compression.type": codec,
        "linger.ms": 500,
        "batch.size": 120_000_000,
        "message.max.bytes": 120_000_000,
    }
    produce(servers, topic, [b"x" * 999_000] * 96, **settings)


@pytest.mark.parametrize("codec", ["lz4", "gzip"])
def test_what_a_small_batch_unpacks_to_comes_in_parts_of_bounded_size(
    reading: Reading, kafka_servers: str, topic: str, codec: str
) -> None:
    unpack_much(kafka_servers, topic, codec)
    reading.read(p0=0)
    sizes: list[int] = []
    while sum(sizes) < 96 * 999_000:
        for part in reading.reader.take(8_192, SECONDS):
            sizes.append(sum(len(record.value or b"") for record in part.records))
    assert max(sizes) < MOST_BATCH_BYTES + RECORDS_AT_ONCE * 1_000_000
    assert len(sizes) >= 2


def test_what_the_client_library_refuses_to_unpack_stops_the_reader_and_is_not_passed_over(
    reading: Reading, kafka_servers: str, topic: str
) -> None:
    unpack_much(kafka_servers, topic, "zstd")
    reading.read(p0=0)
    with pytest.raises(RecordsUnreadable, match="from offset 0 on cannot be read"):
        reading.until(lambda: False)
    assert reading.records[0] == []


def test_without_the_bound_it_comes_in_one_part(
    reading: Reading, kafka_servers: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.reading.MOST_BATCH_BYTES", 2**62)
    unpack_much(kafka_servers, topic, "lz4")
    reading.read(p0=0)
    first: list[int] = []
    while not first:
        first = [len(part.records) for part in reading.reader.take(8_192, SECONDS)]
    assert first == [96]


def test_a_record_without_key_or_value_has_none(reading: Reading, kafka_servers: str, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka_servers})
    producer.produce(topic, None, b"key", 0)
    producer.produce(topic, b"value", None, 0)
    producer.flush(SECONDS)
    reading.read(p0=0)
    reading.until(lambda: len(reading.records[0]) == 2)
    assert [(record.key, record.value) for record in reading.records[0]] == [(b"key", None), (None, b"value")]


def test_an_aborted_transaction_is_never_read_and_the_end_of_the_last_one_is_reached(
    reading: Reading, kafka_servers: str, topic: str
) -> None:
    in_transaction(kafka_servers, topic, (b"first", True), (b"aborted", False), (b"last", True))
    (owner,) = reading.read(p0=0)
    reading.until(lambda: owner.reached == 6)
    assert reading.values(0) == [b"first", b"last"]
    assert reading.offsets(0) == [0, 4]  # markers and the aborted record hold the offsets between
    assert (owner.fetched, reading.ends) == (5, {0: 6})


def test_each_partition_is_read_from_its_own_offset_on(reading: Reading, kafka_servers: str, topic: str) -> None:
    for partition in range(PARTITIONS):
        produce(kafka_servers, topic, numbered(0, 100), partition)
    reading.read(p0=70, p1=100)
    reading.until(lambda: len(reading.records[0]) >= 30)
    produce(kafka_servers, topic, [b"new"], 1)
    reading.until(lambda: bool(reading.records[1]))
    assert (reading.values(0), reading.values(1)) == (numbered(70, 100), [b"new"])
    assert reading.ends == {0: 100, 1: 101}


def test_a_take_gives_no_more_records_than_asked_for_and_the_rest_comes_next(
    reading: Reading, kafka_servers: str, topic: str
) -> None:
    produce(kafka_servers, topic, numbered(0, 50), **{"linger.ms": 50})
    reading.read(p0=0)
    sizes = []
    while len(reading.records[0]) < 50:
        sizes += [len(chunk.records) for chunk in reading.take(most=7)]
    assert max(sizes) <= 7
    assert reading.values(0) == numbered(0, 50)


def test_the_end_of_a_log_ends_no_wait_for_records(reading: Reading, kafka_servers: str, topic: str) -> None:
    produce(kafka_servers, topic, numbered(0, 1))
    reading.read(p0=0, p1=0)
    reading.until(lambda: reading.ends.get(1) == 0 and reading.ends.get(0) == 1)
    sender = threading.Timer(0.2, produce, (kafka_servers, topic, numbered(1, 2)))
    sender.start()
    assert [chunk.records[0].value for chunk in reading.take(timeout=SECONDS)] == [b"1"]
    assert [chunk.records[0].value for chunk in reading.take(timeout=0.5)] == [], "only that the end is reached again"
    sender.join()


def test_whatever_is_asked_for_in_between_no_record_is_left_out_or_read_twice(
    reading: Reading, kafka_servers: str, topic: str
) -> None:
    """What librdkafka holds of an assignment before must not be taken for the present one's."""
    last, rounds = 5_000, 40
    for partition in range(PARTITIONS):
        produce(kafka_servers, topic, numbered(0, last), partition, **{"linger.ms": 20})
    for number in range(rounds):
        starts = {f"p{partition}": len(reading.records[partition]) for partition in range(PARTITIONS)}
        if number % 3 == 2:
            del starts[f"p{number % PARTITIONS}"]
        reading.read(**starts)
        reading.take(most=150)
    reading.read(**{f"p{partition}": len(reading.records[partition]) for partition in range(PARTITIONS)})
    reading.until(lambda: all(len(reading.records[partition]) >= last for partition in range(PARTITIONS)))
    for partition in range(PARTITIONS):
        assert reading.values(partition) == numbered(0, last)


def test_a_partition_that_is_still_ours_goes_on_where_it_is_when_another_one_comes_or_goes(
    reading: Reading, kafka_servers: str, topic: str
) -> None:
    for partition in range(PARTITIONS):
        produce(kafka_servers, topic, numbered(0, 100), partition)
    (kept,) = reading.read(p0=0)
    reading.until(lambda: len(reading.records[0]) == 100)
    reading.reader.read([kept, owned(topic, 1, 0)])
    produce(kafka_servers, topic, numbered(100, 110))
    reading.until(lambda: len(reading.records[0]) >= 110 and len(reading.records[1]) >= 100)
    assert reading.values(0) == numbered(0, 110)


def test_what_was_lost_or_revoked_is_not_read_any_more(reading: Reading, kafka_servers: str, topic: str) -> None:
    lost, revoked = reading.read(p0=0, p1=0)
    reading.take()
    lost.lost = revoked.revoked = True
    for partition in range(PARTITIONS):
        produce(kafka_servers, topic, numbered(0, 5), partition)
    assert reading.take(timeout=1.0) == []
    assert not any(reading.records.values())


def truncate(servers: str, topic: str, before: int) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.delete_records([TopicPartition(topic, 0, before)]).values():
        future.result(SECONDS)


def test_a_truncated_log_is_reported_and_the_other_partition_goes_on(
    reading: Reading, kafka_servers: str, topic: str
) -> None:
    for partition in range(PARTITIONS):
        produce(kafka_servers, topic, numbered(0, 100), partition)
    truncate(kafka_servers, topic, 40)
    reading.read(p0=10, p1=0)
    reading.until(lambda: bool(reading.out_of_range) and len(reading.records[1]) >= 100)
    assert reading.out_of_range == [(0, 10, 40, 100)]
    produce(kafka_servers, topic, numbered(100, 101))
    produce(kafka_servers, topic, numbered(100, 101), 1)
    reading.until(lambda: len(reading.records[1]) > 100)
    assert (reading.records[0], reading.values(1)) == ([], numbered(0, 101))


def test_a_log_that_ends_before_our_position_is_reported(reading: Reading, kafka_servers: str, topic: str) -> None:
    produce(kafka_servers, topic, numbered(0, 10))
    reading.read(p0=50)
    reading.until(lambda: bool(reading.out_of_range))
    assert reading.out_of_range == [(0, 50, 0, 10)]


def test_a_position_that_is_inside_the_log_after_all_is_read_again(
    reading: Reading, kafka_servers: str, topic: str
) -> None:
    produce(kafka_servers, topic, numbered(0, 10))
    reading.read(p0=10)
    reading.take()
    reading.reader._told(message(KafkaError.OFFSET_OUT_OF_RANGE))
    produce(kafka_servers, topic, numbered(10, 20))
    reading.until(lambda: len(reading.records[0]) >= 10)
    assert (reading.out_of_range, reading.values(0)) == ([], numbered(10, 20))


def test_records_that_were_replaced_by_others_are_reported_though_the_log_is_longer_by_now(
    reading: Reading, kafka_servers: str, topic: str
) -> None:
    produce(kafka_servers, topic, numbered(0, 10))
    reading.read(p0=8)
    reading.take(timeout=0.05)
    text = (
        "Partition log truncation detected at offset 8 (leader epoch 3): broker end offset is 5 (offset leader epoch 2)"
    )
    position = reading.reader._owners[0].accepted
    reading.reader._told(message(KafkaError._AUTO_OFFSET_RESET, reason=text))
    assert reading.out_of_range == [(0, position, 0, 5)]
    assert reading.reader._owners == {}


def test_one_partition_that_is_lost_while_another_ones_bounds_are_asked_for_ends_nothing(
    reading: Reading, kafka_servers: str, topic: str
) -> None:
    produce(kafka_servers, topic, numbered(0, 10))
    _, lost = reading.read(p0=0, p1=0)
    reading.take(timeout=0.05)
    reading.reader._unsure = {0, 1}
    lost.lost = True
    reading.reader._settle_bounds()
    reading.until(lambda: len(reading.records[0]) == 10)
    assert reading.out_of_range == []


def test_the_ends_of_logs_are_told_while_nothing_is_taken(reading: Reading, kafka_servers: str, topic: str) -> None:
    reading.read(p0=0)
    reading.until(lambda: 0 in reading.ends)
    produce(kafka_servers, topic, numbered(0, 10))

    def noted() -> bool:
        reading.reader.note_ends()
        return reading.ends[0] == 10

    wait_until("the end is told", noted)
    assert reading.records[0] == []


def message(code: int, **more: Any) -> Any:
    """What librdkafka gives in place of a record."""
    error = KafkaError(code, **more)
    return SimpleNamespace(error=lambda: error, partition=lambda: 0, offset=lambda: 0)


@pytest.mark.parametrize("code", [KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION])
def test_what_cannot_be_unpacked_is_never_passed_over(reading: Reading, topic: str, code: int) -> None:
    reading.read(p0=3)
    reading.take(timeout=0.05)
    with pytest.raises(RecordsUnreadable, match=f"{topic}/0 from offset 3 on"):
        reading.reader._told(message(code))


def test_a_client_beyond_help_fails_and_one_that_lost_its_broker_does_not(reading: Reading) -> None:
    reading.reader._told(message(KafkaError._ALL_BROKERS_DOWN))
    with pytest.raises(KafkaException):
        reading.reader._told(message(KafkaError._FATAL, fatal=True))


def test_a_wait_ends_with_other_partitions_to_read_and_at_the_end_of_all(kafka_servers: str, topic: str) -> None:
    reading, taken = Reading(kafka_servers, topic), list[list[Chunk]]()
    produce(kafka_servers, topic, numbered(0, 1))

    def work() -> None:
        while len(taken) < 2 or not reading.reader._closing:
            taken.append(reading.reader.take(MOST, 600.0))

    thread = threading.Thread(target=work)
    thread.start()
    reading.read(p0=0)
    wait_until("the record comes", lambda: any(taken))
    reading.reader.wake()
    thread.join(SECONDS)
    assert not thread.is_alive()
    reading.reader.close()
