"""Membership through Faust on a real broker: what is assigned is claimed, and read from where the claim says."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError
from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import TopicPartition as TopicPartitionOffset

from storage.progress import Claim
from streams import transport
from streams.app import AppSettings, FlowApp, build_app
from streams.kafka import KafkaSettings, records_consumer
from streams.ownership import Ownership, TopicPartition
from streams.reading import TopicReader
from tests.streams.topics import created, numbered, produce

SECONDS = 20.0
PARTITIONS = 2


class RecordingFlow:
    """A flow that remembers what was read and takes all of it for committed."""

    def __init__(self, servers: str, topic: str, starts: Mapping[int, int] | None = None) -> None:
        self.topics = [topic]
        self.starts = dict(starts or {})
        self.ownership = Ownership()
        self.records: dict[int, list[Any]] = {number: [] for number in range(PARTITIONS)}
        self.claims: list[dict[TopicPartition, tuple[int, int]]] = []
        self.releases = 0
        self.turns = 0
        self.reader = TopicReader(
            topic,
            lambda: records_consumer(KafkaSettings(servers), topic),
            on_end=lambda *_: None,
            on_out_of_range=lambda *_: None,
        )
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def work(self) -> None:
        while not self.stopped.is_set():
            for chunk in self.reader.take(1_000, 0.2):
                if (accepted := self.ownership.accept(chunk)) is not None:
                    self.records[chunk.owner.claim.partition] += accepted.records

    def stop(self) -> None:
        self.stopped.set()
        self.reader.wake()
        self.thread.join(SECONDS)
        self.reader.close()

    def position(self, partition: int, first: int) -> int:
        own = self.records[partition]
        return own[-1].offset + 1 if own else self.starts.get(partition, first)

    def to_take_again(self) -> set[TopicPartition]:
        return set()

    def committed(self) -> dict[TopicPartition, int]:
        return {(self.topics[0], number): self.position(number, 0) for number in self.records}

    async def claim(
        self, bounds: Mapping[TopicPartition, tuple[int, int]], kafka_generation: int
    ) -> dict[TopicPartition, int]:
        self.claims.append(dict(bounds))
        claims = [
            Claim(topic, 1, number, len(self.claims), self.position(number, first))
            for (topic, number), (first, _) in bounds.items()
        ]
        offsets = self.ownership.take(claims, dict.fromkeys(self.topics, "uuid"), kafka_generation)
        self.reader.read(self.ownership.owned(self.topics[0]) or ())
        return offsets

    async def release(self) -> None:
        self.releases += 1
        self.ownership.revoke_all()
        self.reader.read(())

    async def until(self, condition: Any) -> None:
        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.005)

        await asyncio.wait_for(wait(), SECONDS)

    def values(self, partition: int) -> list[bytes]:
        return [record.value for record in self.records[partition]]


@asynccontextmanager
async def running(flow: Any, servers: str, group: str) -> AsyncIterator[FlowApp]:
    app = build_app(AppSettings(kafka=KafkaSettings(servers), group=group, worker="worker-1"), flow)
    flow.thread.start()
    await app.start()
    try:
        yield app
    finally:
        await asyncio.wait_for(app.stop(), SECONDS)
        flow.stop()


@pytest.fixture
def topic(kafka_servers: str, topic_prefix: str) -> str:
    name = f"{topic_prefix}transactions"
    created(kafka_servers, {name: {}}, partitions=PARTITIONS)
    return name


def test_reading_starts_at_the_claimed_offsets_whatever_kafka_has_committed(kafka_servers: str, topic: str) -> None:
    for partition in range(PARTITIONS):
        produce(kafka_servers, topic, numbered(0, 100), partition)

    async def consume() -> RecordingFlow:
        flow = RecordingFlow(kafka_servers, topic, starts={0: 70, 1: 100})
        async with running(flow, kafka_servers, topic):
            await flow.until(lambda: len(flow.records[0]) >= 30)
            await asyncio.get_running_loop().run_in_executor(None, produce, kafka_servers, topic, [b"new"], 1)
            await flow.until(lambda: flow.records[1])
        return flow

    flow = asyncio.run(consume())
    assert flow.values(0) == numbered(70, 100)
    assert flow.values(1) == [b"new"]
    assert flow.claims == [{(topic, 0): (0, 100), (topic, 1): (0, 100)}]


def test_no_record_is_passed_over_or_read_twice_while_others_come_and_go(kafka_servers: str, topic: str) -> None:
    async def consume() -> RecordingFlow:
        flow = RecordingFlow(kafka_servers, topic)
        async with running(flow, kafka_servers, topic) as app:
            loop = asyncio.get_running_loop()
            sent = 0

            async def send() -> int:
                for partition in range(PARTITIONS):
                    values = numbered(sent, sent + 500)
                    await loop.run_in_executor(None, produce, kafka_servers, topic, values, partition)
                return sent + 500

            await flow.until(lambda: flow.claims and not app.rebalancing)
            for _ in range(2):
                visitor = Visitor(kafka_servers, topic)
                before, sent = len(flow.claims), await send()
                await flow.until(lambda before=before: len(flow.claims) > before and not app.rebalancing)
                sent = await send()
                await loop.run_in_executor(None, visitor.leave)
                sent = await send()
                await flow.until(lambda before=before: len(flow.claims) > before + 1 and not app.rebalancing)
            await flow.until(lambda: all(len(records) >= sent for records in flow.records.values()))
        return flow

    flow = asyncio.run(consume())
    assert [flow.values(partition) for partition in range(PARTITIONS)] == [numbered(0, 3_000)] * PARTITIONS


def test_the_group_s_member_itself_reads_nothing_and_kafka_s_offsets_follow_sql_s(
    kafka_servers: str, topic: str
) -> None:
    produce(kafka_servers, topic, numbered(0, 50))

    async def consume() -> tuple[Any, Any]:
        flow = RecordingFlow(kafka_servers, topic)
        async with running(flow, kafka_servers, topic) as app:
            await flow.until(lambda: len(flow.records[0]) == 50)
            await app.consumer.commit()
            member = app.consumer._thread._consumer
            return member.assignment(), member.paused()

    assigned, paused = asyncio.run(consume())
    assert len(assigned) == PARTITIONS
    assert paused == assigned
    consumer = PlainConsumer({"bootstrap.servers": kafka_servers, "group.id": topic})
    (place,) = consumer.committed([TopicPartitionOffset(topic, 0)], timeout=SECONDS)
    consumer.close()
    assert place.offset == 50


def test_a_membership_that_ended_for_good_ends_the_app_instead_of_being_kept_quiet(
    kafka_servers: str, topic: str
) -> None:
    """aiokafka keeps such an error until somebody asks."""

    async def consume() -> FlowApp:
        flow = RecordingFlow(kafka_servers, topic)
        async with running(flow, kafka_servers, topic) as app:
            await flow.until(lambda: flow.claims and flow.turns)
            app.consumer._thread._consumer._coordinator._pending_exception = GroupAuthorizationFailedError(topic)
            await asyncio.wait_for(app._crashed.wait(), SECONDS)
        return app

    assert isinstance(asyncio.run(consume()).crash_reason, GroupAuthorizationFailedError)


class SlowFlow(RecordingFlow):
    """Its claims wait, as for a database that is away."""

    def __init__(self, servers: str, topic: str) -> None:
        super().__init__(servers, topic)
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
        flow = SlowFlow(kafka_servers, topic)
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
