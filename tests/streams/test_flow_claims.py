"""Claims, releases and deliveries: where reading goes on, what stops it, and what is refused."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Connection

from storage.database import Database, DatabaseUnavailable
from storage.progress import all_progress
from streams.buffer import ChunkBuffer
from streams.flow import Flow
from streams.health import FlowMetrics
from streams.kafka import KafkaSettings, TopicMissing, describe_topics
from streams.ownership import Ownership
from streams.transport import LogTruncated
from tests.storage.rows import NOON
from tests.streams.bench import KafkaRecord
from tests.streams.topics import created


@dataclass(frozen=True)
class AwayForClaims(Database):
    """A database whose first `refusals` write transactions cannot begin."""

    refusals: list[str] = field(default_factory=list)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        if self.refusals:
            raise DatabaseUnavailable(self.refusals.pop())
        with Database.begin(self) as connection:
            yield connection


class Stage:
    """A pipeline that only takes chunks."""

    backend_pid = None

    def __init__(self, topic: str, limit: int = 10) -> None:
        self.topic = topic
        self.buffer = ChunkBuffer(limit)
        self.drains: list[float] = []
        self.empties = True

    def put(self, chunk: Any) -> None:
        self.buffer.put(chunk)

    async def drained(self, timeout: float) -> bool:
        self.drains.append(timeout)
        return self.empties


class Woken:
    alive = True

    def __init__(self) -> None:
        self.owners: list[Any] = []
        self.settled = False

    def wake(self, owner: Any, outboxes: Any = None, fresh: Any = None) -> None:
        self.owners.append((owner.claim.partition, outboxes))

    def settle(self, timeout: float) -> None:
        self.settled = True


@dataclass
class World:
    """A flow without threads, on a real topic and a real database."""

    flow: Flow
    ownership: Ownership
    stage: Stage
    relay: Woken
    topic: str
    naps: list[float]
    metrics: FlowMetrics

    def claim(self, bounds: dict[int, tuple[int, int]], generation: int = 1) -> dict[int, int]:
        wanted = {(self.topic, partition): bound for partition, bound in bounds.items()}
        offsets = asyncio.run(self.flow.claim(wanted, generation))
        return {partition: offset for (_, partition), offset in offsets.items()}


@pytest.fixture
def topic(kafka_servers: str, topic_prefix: str) -> str:
    name = f"{topic_prefix}transactions"
    created(kafka_servers, {name: {}}, partitions=2)
    return name


def world(kafka: str, database: Database, topic: str, **settings: Any) -> World:
    ownership, stage, relay, naps, metrics = Ownership(), Stage(topic), Woken(), list[float](), FlowMetrics()
    parts: Any = {"pipelines": [stage], "relays": [relay]}
    flow = Flow(
        database=database,
        kafka=KafkaSettings(kafka),
        ownership=ownership,
        metrics=metrics,
        owner_name="worker-1",
        clock=lambda: NOON,
        **{"sleep": naps.append} | parts | settings,
    )
    return World(flow, ownership, stage, relay, topic, naps, metrics)


@pytest.fixture
def here(kafka_servers: str, database: Database, topic: str) -> World:
    return world(kafka_servers, database, topic)


def test_a_first_claim_starts_at_the_log_s_beginning_and_notes_the_topic_s_uuid(
    here: World, database: Database, kafka_servers: str
) -> None:
    assert here.claim({0: (3, 40), 1: (0, 0)}) == {0: 3, 1: 0}
    with database.reading() as connection:
        rows = {row.partition: row for row in all_progress(connection)}
    uuid = describe_topics(KafkaSettings(kafka_servers), [here.topic])[here.topic].uuid
    assert {(row.topic, row.topic_uuid, row.owner, row.epoch) for row in rows.values()} == {
        (here.topic, uuid, "worker-1", 1)
    }
    assert (rows[0].start_offset, rows[0].next_offset) == (3, 3)
    assert here.relay.owners == [(0, None), (1, None)]  # what was committed before is published first
    assert here.flow.health()["ready"]


def test_a_first_claim_may_start_at_the_log_s_end_and_a_later_one_goes_on_where_sql_is(
    kafka_servers: str, database: Database, topic: str
) -> None:
    here = world(kafka_servers, database, topic, start_latest=True)
    assert here.claim({0: (3, 40)}) == {0: 40}
    assert here.claim({0: (3, 99)}) == {0: 40}
    assert here.flow.health()["partitions"][0]["epoch"] == 2


def test_a_log_that_was_truncated_past_sql_s_offset_stops_with_how_much_is_gone(here: World) -> None:
    here.claim({0: (0, 10), 1: (0, 10)})
    with pytest.raises(LogTruncated, match=r"transactions/1: .* next offset is 0, .* begins at 7: 7 records are gone"):
        here.claim({0: (0, 10), 1: (7, 10)})


def test_a_topic_that_is_gone_stops_with_the_command_that_mends_it(kafka_servers: str, database: Database) -> None:
    here = world(kafka_servers, database, "no-such-topic")
    with pytest.raises(TopicMissing, match="headgate topics create"):
        here.claim({0: (0, 0)})


def test_a_claim_waits_while_the_database_is_away(kafka_servers: str, database: Database, topic: str) -> None:
    here = world(kafka_servers, AwayForClaims(database.engine, ["away"] * 6), topic)
    assert here.claim({0: (0, 5)}) == {0: 0}
    assert here.naps == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_claim_that_waits_gives_up_when_the_worker_stops(kafka_servers: str, database: Database, topic: str) -> None:
    here = world(kafka_servers, AwayForClaims(database.engine, ["away"] * 100), topic)
    here.flow._sleep = lambda seconds: here.flow.stop_waiting() if len(here.naps) > 2 else here.naps.append(seconds)
    with pytest.raises(DatabaseUnavailable):
        here.claim({0: (0, 5)})


def test_a_read_or_commit_that_finds_the_database_away_waits_longer_each_time_until_the_worker_stops(
    here: World,
) -> None:
    error = DatabaseUnavailable("away")
    for failures in range(1, 10):
        here.flow.on_database_away(failures, error)
    assert here.naps == sorted(here.naps)
    assert here.naps[-1] == 5.0
    assert here.metrics.registry.get_sample_value("headgate_database_failures_total") == 9
    here.flow.stop_waiting()
    with pytest.raises(DatabaseUnavailable):
        here.flow.on_database_away(1, error)


def records(first: int, last: int) -> list[KafkaRecord]:
    return [KafkaRecord(offset, 0, None, None) for offset in range(first, last)]


def test_chunks_of_an_older_kafka_generation_are_refused_after_a_new_claim(here: World) -> None:
    here.claim({0: (0, 10)}, generation=1)
    here.claim({0: (0, 10)}, generation=2)
    asyncio.run(here.flow.deliver(here.topic, 0, records(0, 3), 1))
    asyncio.run(here.flow.deliver(here.topic, 1, records(0, 3), 2))
    assert here.stage.buffer.take(10, 0) == []
    asyncio.run(here.flow.deliver(here.topic, 0, records(0, 3), 2))
    (chunk,) = here.stage.buffer.take(10, 0)
    assert [record.offset for record in chunk.records] == [0, 1, 2]
    assert chunk.owner.claim.epoch == 2


def test_a_release_refuses_what_comes_after_it_and_waits_for_what_is_on_its_way(here: World) -> None:
    here.claim({0: (0, 10)})
    here.stage.empties = False
    asyncio.run(here.flow.release())
    assert here.stage.drains == [5.0]
    assert here.relay.settled, "else the next owner would publish again what is not noted yet"
    asyncio.run(here.flow.deliver(here.topic, 0, records(0, 3), 1))
    assert here.stage.buffer.take(10, 0) == []
    assert not here.flow.health()["ready"]
    assert here.flow.committed() == {}


def test_a_partition_is_fetched_only_while_its_pipeline_has_room(here: World) -> None:
    here.claim({0: (0, 10), 1: (0, 10)})
    active = [(here.topic, 0), (here.topic, 1)]

    async def fill() -> tuple[set[Any], set[Any]]:
        before = await here.flow.partitions_with_room(active)
        await here.flow.deliver(here.topic, 0, records(0, 10), 1)
        waiting = asyncio.ensure_future(here.flow.partitions_with_room(active))
        await asyncio.sleep(0)
        assert not waiting.done()
        here.stage.buffer.take(10, 0)
        return before, await asyncio.wait_for(waiting, 10)

    before, after = asyncio.run(fill())
    assert before == after == set(active)


def test_a_failure_on_a_pipeline_s_thread_shows_in_health_and_wakes_the_worker(here: World) -> None:
    async def fail() -> None:
        here.flow._loop = asyncio.get_running_loop()
        await asyncio.to_thread(here.flow.on_failure, ValueError("a row was refused"))
        await asyncio.wait_for(here.flow.failed.wait(), 10)

    here.claim({0: (0, 10)})
    asyncio.run(fail())
    state = here.flow.health()
    assert (state["ready"], state["failure"]) == (False, "a row was refused")


def test_a_relay_that_ended_makes_the_worker_unready(here: World) -> None:
    here.claim({0: (0, 10)})
    here.relay.alive = False
    assert not here.flow.health()["ready"]


def test_a_worker_without_partitions_is_ready(here: World) -> None:
    assert not here.flow.health()["ready"]
    assert here.claim({}) == {}
    assert here.flow.health()["ready"]
