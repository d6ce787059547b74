"""The Faust transport on a real broker: chunks whole and in order, from where SQL says, committed records only."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as TopicPartitionOffset

from storage.progress import Claim
from streams import transport
from streams.app import AppSettings, FlowApp, build_app
from streams.batch import Chunk, OwnedPartition
from streams.ownership import Ownership, TopicPartition
from tests.streams.topics import created

SECONDS = 20.0
PARTITIONS = 2


class RecordingFlow:
    """A flow that remembers what was delivered and takes all of it for committed."""

    fetch_wait_ms = 20

    def __init__(self, topic: str, starts: Mapping[int, int] | None = None) -> None:
        self.topics = [topic]
        self.starts = dict(starts or {})
        self.ownership = Ownership()
        self.records: dict[int, list[Any]] = {number: [] for number in range(PARTITIONS)}
        self.claims: list[dict[TopicPartition, tuple[int, int]]] = []
        self.releases = 0

    def position(self, partition: int, first: int) -> int:
        own = self.records[partition]
        return own[-1].offset + 1 if own else self.starts.get(partition, first)

    async def partitions_with_room(self, active: Iterable[TopicPartition]) -> set[TopicPartition]:
        return set(active)

    def to_read(self, active: Iterable[TopicPartition]) -> list[TopicPartition]:
        return list(active)

    def owner(self, topic: str, partition: int) -> OwnedPartition | None:
        return self.ownership.owner(topic, partition)

    def to_take_again(self) -> set[TopicPartition]:
        return set()

    async def deliver(self, chunk: Chunk) -> None:
        accepted = self.ownership.accept(chunk)
        if accepted is not None:
            self.records[chunk.owner.claim.partition] += accepted.records

    def seen_end(self, topic: str, partition: int, end: int | None) -> None:
        pass

    def committed(self) -> dict[TopicPartition, int]:
        return {}

    async def claim(
        self, bounds: Mapping[TopicPartition, tuple[int, int]], kafka_generation: int
    ) -> dict[TopicPartition, int]:
        self.claims.append(dict(bounds))
        claims = [
            Claim(topic, 1, number, len(self.claims), self.position(number, first))
            for (topic, number), (first, _) in bounds.items()
        ]
        offsets = self.ownership.take(claims, dict.fromkeys(self.topics, "uuid"), kafka_generation)
        return offsets

    async def release(self) -> None:
        self.releases += 1
        self.ownership.revoke_all()

    async def until(self, condition: Any) -> None:
        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.005)

        await asyncio.wait_for(wait(), SECONDS)

    def values(self, partition: int) -> list[bytes]:
        return [record.value for record in self.records[partition]]


@asynccontextmanager
async def running(flow: Any, servers: str, group: str) -> AsyncIterator[FlowApp]:
    app = build_app(AppSettings(servers=servers, group=group, worker="worker-1"), flow)
    await app.start()
    try:
        yield app
    finally:
        await asyncio.wait_for(app.stop(), SECONDS)


@pytest.fixture
def topic(kafka_servers: str, topic_prefix: str) -> str:
    name = f"{topic_prefix}transactions"
    created(kafka_servers, {name: {}}, partitions=PARTITIONS)
    return name


def produce(servers: str, topic: str, values: Sequence[bytes], partition: int = 0, **settings: Any) -> None:
    producer = Producer({"bootstrap.servers": servers, **settings})
    for value in values:
        producer.produce(topic, value, b"key", partition)
    assert producer.flush(SECONDS) == 0


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last)]


def test_chunks_of_compressed_batches_arrive_whole_and_in_order(kafka_servers: str, topic: str) -> None:
    expected: list[bytes] = []
    for number, codec in enumerate(("none", "lz4", "zstd", "snappy", "gzip")):
        values = [b"%d " % row + b"x" * 200 for row in range(1_000 * number, 1_000 * (number + 1))]
        produce(kafka_servers, topic, values, **{"compression.type": codec, "linger.ms": 50})
        expected += values

    async def consume() -> RecordingFlow:
        flow = RecordingFlow(topic)
        async with running(flow, kafka_servers, topic):
            await flow.until(lambda: len(flow.records[0]) >= len(expected))
        return flow

    flow = asyncio.run(consume())
    assert flow.values(0) == expected
    assert [record.offset for record in flow.records[0]] == list(range(len(expected)))
    assert {record.key for record in flow.records[0]} == {b"key"}


def test_an_aborted_transaction_is_never_delivered(kafka_servers: str, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka_servers, "transactional.id": topic})
    producer.init_transactions(SECONDS)
    for value, commit in ((b"first", True), (b"aborted", False), (b"last", True)):
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        producer.flush(SECONDS)
        (producer.commit_transaction if commit else producer.abort_transaction)(SECONDS)

    async def consume() -> RecordingFlow:
        flow = RecordingFlow(topic)
        async with running(flow, kafka_servers, topic):
            await flow.until(lambda: b"last" in flow.values(0))
        return flow

    flow = asyncio.run(consume())
    assert flow.values(0) == [b"first", b"last"]
    assert flow.records[0][1].offset == 4  # markers and the aborted record hold the offsets between


def test_reading_starts_at_the_claimed_offsets_whatever_kafka_has_committed(kafka_servers: str, topic: str) -> None:
    for partition in range(PARTITIONS):
        produce(kafka_servers, topic, numbered(0, 100), partition)

    async def consume() -> RecordingFlow:
        flow = RecordingFlow(topic, starts={0: 70, 1: 100})
        async with running(flow, kafka_servers, topic):
            await flow.until(lambda: len(flow.records[0]) >= 30)
            await asyncio.get_running_loop().run_in_executor(None, produce, kafka_servers, topic, [b"new"], 1)
            await flow.until(lambda: flow.records[1])
        return flow

    flow = asyncio.run(consume())
    assert flow.values(0) == numbered(70, 100)
    assert flow.values(1) == [b"new"]
    assert flow.claims == [{(topic, 0): (0, 100), (topic, 1): (0, 100)}]


def test_no_record_is_passed_over_when_a_fetch_outlasts_a_rebalance(
    kafka_servers: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch that began before a rebalance and would end with what came after its seek: those records would belong
    to nobody, while the consumer's position has passed them."""
    monkeypatch.setattr(transport, "FETCH_SECONDS", 3.0)
    commit_in_kafka(kafka_servers, topic, 0)  # else aiokafka ends such a fetch with an error

    def send() -> None:
        for partition in range(PARTITIONS):
            produce(kafka_servers, topic, numbered(0, 5), partition)

    async def consume() -> RecordingFlow:
        flow = RecordingFlow(topic)
        async with running(flow, kafka_servers, topic) as app:
            loop = asyncio.get_running_loop()
            await flow.until(lambda: flow.claims and not app.rebalancing)
            visitor = Visitor(kafka_servers, topic)
            await flow.until(lambda: len(flow.claims) == 2 and not app.rebalancing)
            await loop.run_in_executor(None, send)
            await flow.until(lambda: any(flow.records.values()))
            await loop.run_in_executor(None, visitor.leave)
            await flow.until(lambda: all(flow.values(partition)[-1:] == [b"4"] for partition in range(PARTITIONS)))
        return flow

    flow = asyncio.run(consume())
    assert [flow.values(partition) for partition in range(PARTITIONS)] == [numbered(0, 5)] * PARTITIONS


class SlowFlow(RecordingFlow):
    """Its claims wait, as for a database that is away."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.begun = 0
        self.there = asyncio.Event()

    async def claim(
        self, bounds: Mapping[TopicPartition, tuple[int, int]], kafka_generation: int
    ) -> dict[TopicPartition, int]:
        self.begun += 1
        await self.there.wait()
        return await super().claim(bounds, kafka_generation)


def test_a_claim_that_takes_longer_than_any_request_to_the_broker_may_is_not_given_up(
    kafka_servers: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust waits for it no longer than for a request, and is deaf to rebalances from then on."""
    monkeypatch.setattr(transport, "SETTLE_SECONDS", 0.5)

    async def consume() -> SlowFlow:
        flow = SlowFlow(topic)
        flow.there.set()
        async with running(flow, kafka_servers, topic) as app:
            loop = asyncio.get_running_loop()
            await flow.until(lambda: flow.claims and not app.rebalancing)
            flow.there.clear()
            recovery: Any = app.tables.recovery
            wait = recovery._wait
            recovery._wait = lambda coroutine, timeout=None: wait(coroutine, timeout=2.0)  # instead of 90 s
            visitor = Visitor(kafka_servers, topic)
            await flow.until(lambda: flow.begun == 2 and not app.rebalancing)
            await loop.run_in_executor(None, produce, kafka_servers, topic, numbered(0, 20), 0)
            await loop.run_in_executor(None, produce, kafka_servers, topic, numbered(0, 20), 1)
            assert not any(flow.records.values())
            flow.there.set()
            await flow.until(lambda: any(len(records) == 20 for records in flow.records.values()))
            await loop.run_in_executor(None, visitor.leave)
        return flow

    flow = asyncio.run(consume())
    assert numbered(0, 20) in [flow.values(partition) for partition in range(PARTITIONS)]


def commit_in_kafka(servers: str, topic: str, offset: int) -> None:
    """Commits for the topic's group, which has no members yet."""
    consumer = PlainConsumer({"bootstrap.servers": servers, "group.id": topic})
    offsets = [TopicPartitionOffset(topic, partition, offset) for partition in range(PARTITIONS)]
    consumer.commit(offsets=offsets, asynchronous=False)
    consumer.close()


class Visitor:
    """Another member of the group, on a thread of its own: its coming and its leaving are two rebalances."""

    def __init__(self, servers: str, group: str) -> None:
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._stay, args=(servers, group), daemon=True)
        self._thread.start()

    def leave(self) -> None:
        self._leaving.set()
        self._thread.join(SECONDS)

    def _stay(self, servers: str, group: str) -> None:
        consumer = PlainConsumer(
            {
                "bootstrap.servers": servers,
                "group.id": group,
                "partition.assignment.strategy": "roundrobin",
                "enable.auto.commit": False,
            }
        )
        consumer.subscribe([group])
        while not self._leaving.is_set():
            consumer.poll(0.05)
        consumer.close()
