"""Claims, releases and deliveries: where reading goes on, what stops it, and what is refused."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions
from sqlalchemy import Connection

from storage.accepted_losses import accept_loss
from storage.database import Database, DatabaseUnavailable
from storage.partition_counts import latest_count, rescale
from storage.progress import all_progress
from streams.batch import Chunk, OwnedPartition
from streams.claiming import ClaimSuperseded
from streams.flow import Flow
from streams.health import FlowMetrics
from streams.kafka import KafkaSettings, TopicMissing, admin_client, describe_topics
from streams.ownership import Ownership
from streams.partition_watch import PartitionWatch
from tests.deployment import wait_until
from tests.storage.rows import NOON
from tests.streams.bench import KafkaRecord
from tests.streams.topics import created, described


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
    """A pipeline that only notes what it is to read."""

    backend_pid = None

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.reads: dict[int, int] = {}
        self.drains: list[float] = []
        self.empties = True

    def read(self, owners: Iterable[OwnedPartition]) -> None:
        self.reads = {owner.claim.partition: owner.accepted for owner in owners}

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
    kafka: str
    watch: PartitionWatch

    def fetched(self, partition: int, first: int, last: int) -> Chunk:
        return Chunk(self.owner(partition), records(first, last))

    def owner(self, partition: int) -> OwnedPartition:
        owner = self.ownership.owner(self.topic, partition)
        assert owner is not None
        return owner

    def found_out_of_range(self, partition: int, position: int, first: int, end: int) -> None:
        """As its reader reports it, from a thread of its own."""

        async def report() -> None:
            self.flow._loop = asyncio.get_running_loop()
            await asyncio.to_thread(self.flow.out_of_range, self.owner(partition), position, first, end)
            await asyncio.sleep(0)

        asyncio.run(report())

    def look(self) -> None:
        self.watch.look()

    def claim_again(self, bounds: dict[int, tuple[int, int]], generation: int) -> dict[int, int]:
        wanted = {(self.topic, partition): bound for partition, bound in bounds.items()}
        offsets = asyncio.run(self.flow.claim_again(wanted, generation))
        return {partition: offset for (_, partition), offset in offsets.items()}

    def stopped(self, reason: str) -> float | None:
        labels = {"topic": self.topic, "reason": reason}
        return self.metrics.registry.get_sample_value("headgate_partitions_stopped", labels)

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
    watch = PartitionWatch(database, flow.assigned, flow.take_again, lambda: 100.0, patience=15.0)
    return World(flow, ownership, stage, relay, topic, naps, metrics, kafka, watch)


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


def test_a_partition_whose_log_begins_past_sql_s_offset_stands_still_alone_and_says_what_is_gone(here: World) -> None:
    here.claim({0: (0, 10), 1: (0, 10)})
    assert here.claim({0: (0, 10), 1: (7, 10)}) == {0: 0}
    assert here.stage.reads == {0: 0}
    state = here.flow.health()
    assert state["ready"]
    assert state["stopped"] == [{"topic": here.topic, "partition": 1, "reason": "truncated"}]
    (warning,) = state["warnings"]
    assert "next offset is 0, but Kafka's log begins at 7: 7 records are gone" in warning
    assert f"`headgate accept-loss --topic {here.topic} --partition 1`" in warning
    assert here.stopped("truncated") == 1
    assert here.claim({0: (0, 10)}) == {0: 0}, "a rebalance gave it to another worker"
    assert (here.flow.health()["stopped"], here.stopped("truncated")) == ([], None)


def test_a_partition_whose_reader_finds_it_truncated_or_rewound_stands_still(here: World) -> None:
    here.claim({0: (0, 10), 1: (0, 10)})
    here.found_out_of_range(0, 5, 8, 10)
    here.found_out_of_range(1, 12, 0, 10)
    assert [each["reason"] for each in here.flow.health()["stopped"]] == ["truncated", "rewound"]
    assert "3 records are gone" in here.flow.health()["warnings"][0]
    assert "ends at 10" in here.flow.health()["warnings"][1]


def test_a_partition_goes_on_once_its_loss_was_accepted_and_the_others_notice_nothing(
    here: World, database: Database
) -> None:
    here.claim({0: (0, 10), 1: (0, 10)}, generation=3)
    here.claim({0: (0, 10), 1: (7, 10)}, generation=4)
    other = here.owner(0)
    uuid = here.flow.assigned()[0].topic_uuid  # type: ignore[index]
    accept_loss(
        database,
        topic=here.topic,
        topic_uuid=uuid,
        partition=1,
        from_offset=0,
        to_offset=7,
        by="anna",
        why="",
        now=NOON,
    )
    here.look()
    assert here.flow.to_take_again() == {(here.topic, 1)}
    assert here.claim_again({1: (7, 10)}, 4) == {1: 7}
    assert here.owner(0) is other
    assert (here.flow.health()["stopped"], here.flow.health()["warnings"]) == ([], [])
    assert here.stopped("truncated") is None
    here.look()
    assert here.flow.to_take_again() == set()


def test_a_partition_that_lost_more_while_the_loss_was_accepted_stands_still_again(
    here: World, database: Database
) -> None:
    here.claim({0: (7, 10)})
    here.claim({0: (9, 12)})
    here.flow.take_again({(here.topic, 0): 2})
    assert here.claim_again({0: (11, 12)}, 1) == {}
    assert "4 records are gone" in here.flow.health()["warnings"][0]


def test_what_somebody_else_claimed_in_the_meantime_is_not_taken_back(here: World, database: Database) -> None:
    here.claim({0: (0, 10)})
    here.flow.take_again({(here.topic, 0): 1})
    other = world(here.kafka, database, here.topic)
    assert other.claim({0: (0, 10)}) == {0: 0}
    assert here.claim_again({0: (0, 10)}, 1) == {}
    with database.reading() as connection:
        assert [row.epoch for row in all_progress(connection)] == [2]


def test_nobody_waits_for_a_database_to_claim_a_single_partition_anew(
    kafka_servers: str, database: Database, topic: str
) -> None:
    refusals: list[str] = []
    here = world(kafka_servers, AwayForClaims(database.engine, refusals), topic)
    here.claim({0: (0, 5)})
    here.flow.take_again({(here.topic, 0): 1})
    refusals += ["away"]
    assert here.claim_again({0: (0, 5)}, 1) == {}
    assert (here.naps, here.flow.to_take_again()) == ([], set())


def test_partitions_added_to_a_topic_with_state_by_key_stand_still_until_a_rescale(
    kafka_servers: str, database: Database, topic: str
) -> None:
    here = world(kafka_servers, database, topic, keyed=[topic], start_latest=True)
    assert here.claim({0: (0, 10), 1: (0, 10)}) == {0: 10, 1: 10}
    added(kafka_servers, topic, 4)
    assert here.claim({0: (0, 10), 1: (0, 10), 2: (0, 3), 3: (0, 0)}) == {0: 10, 1: 10}
    state = here.flow.health()
    assert [(each["partition"], each["reason"]) for each in state["stopped"]] == [
        (2, "partitions_added"),
        (3, "partitions_added"),
    ]
    assert "has 4 partitions, state was built with 2" in state["warnings"][0]
    assert "`headgate rescale`" in state["warnings"][0]
    here.look()
    assert here.flow.to_take_again() == set()
    uuid = here.flow.assigned()[0].topic_uuid  # type: ignore[index]
    with database.reading() as connection:
        seen = latest_count(connection, topic, uuid)
    assert seen is not None
    rescale(database, topic=topic, topic_uuid=uuid, seen=seen, partitions=4, partitioner="murmur2", by="anna", now=NOON)
    here.look()
    assert here.flow.to_take_again() == {(topic, partition) for partition in range(4)}
    bounds = {0: (0, 10), 1: (0, 10), 2: (0, 3), 3: (0, 0)}
    assert here.claim_again(bounds, 1) == {0: 10, 1: 10, 2: 0, 3: 0}, "what was added is read from its beginning"
    assert here.flow.health()["stopped"] == []


def test_partitions_added_to_a_topic_without_state_by_key_are_read_from_their_beginning(
    kafka_servers: str, database: Database, topic: str
) -> None:
    here = world(kafka_servers, database, topic, start_latest=True)
    assert here.claim({0: (0, 10), 1: (0, 10)}) == {0: 10, 1: 10}
    added(kafka_servers, topic, 3)
    assert here.claim({0: (0, 10), 2: (0, 3)}) == {0: 10, 2: 0}
    assert here.flow.health()["stopped"] == []


def added(servers: str, topic: str, partitions: int) -> None:
    """Raises the topic's number of partitions."""
    admin = admin_client(KafkaSettings(servers))
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(20)
    wait_until("they are there", lambda: (found := described(servers, topic)) and found.partitions == partitions)


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


def test_a_claim_that_waits_gives_way_to_one_of_a_later_rebalance(
    kafka_servers: str, database: Database, topic: str
) -> None:
    """It would else take the epochs from it as soon as the database is back."""
    refusals = ["away"] * 3
    here = world(kafka_servers, AwayForClaims(database.engine, refusals), topic)
    wanted = {(topic, 0): (0, 5)}

    async def claims() -> list[Any]:
        waiting = asyncio.Event()
        loop = asyncio.get_running_loop()
        here.flow._sleep = lambda seconds: loop.call_soon_threadsafe(waiting.set) and time.sleep(0.05)
        first = asyncio.ensure_future(here.flow.claim(wanted, 1))
        await waiting.wait()
        second = asyncio.ensure_future(here.flow.claim(wanted, 2))
        return await asyncio.gather(first, second, return_exceptions=True)

    early, late = asyncio.run(claims())
    assert isinstance(early, ClaimSuperseded)
    assert late == {(topic, 0): 0}
    with database.reading() as connection:
        assert [row.epoch for row in all_progress(connection)] == [here.ownership.owned(topic)[0].claim.epoch]  # type: ignore[index]


def test_a_claim_that_waits_takes_nothing_once_the_next_rebalance_has_begun(
    kafka_servers: str, database: Database, topic: str
) -> None:
    """What it had read then nobody would wait for in that rebalance."""
    here = world(kafka_servers, AwayForClaims(database.engine, ["away"] * 3), topic)

    async def claimed_and_released() -> Any:
        waiting = asyncio.Event()
        loop = asyncio.get_running_loop()
        here.flow._sleep = lambda seconds: loop.call_soon_threadsafe(waiting.set) and time.sleep(0.05)
        claim = asyncio.ensure_future(here.flow.claim({(topic, 0): (0, 5)}, 1))
        await waiting.wait()
        await here.flow.release()
        return (await asyncio.gather(claim, return_exceptions=True))[0]

    assert isinstance(asyncio.run(claimed_and_released()), ClaimSuperseded)
    assert (here.stage.reads, here.ownership.owned(topic)) == ({}, None)


def test_a_claim_that_a_later_one_overtook_on_its_way_to_sql_takes_nothing(here: World, database: Database) -> None:
    claimer = here.flow._claimer
    claim = claimer.claim

    def overtaken(bounds: Any, pids: Any, *more: Any, check: Any) -> Any:
        claim(bounds, pids, *more, check=lambda: None)  # the later one's, meanwhile
        here.flow._claims += 1
        return claim(bounds, pids, *more, check=check)

    claimer.claim = overtaken  # type: ignore[method-assign]
    with pytest.raises(ClaimSuperseded):
        here.claim({0: (0, 5)})
    with database.reading() as connection:
        assert [row.epoch for row in all_progress(connection)] == [1]


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


def test_chunks_fetched_before_a_claim_are_refused_after_it(here: World) -> None:
    here.claim({0: (0, 10)}, generation=1)
    early = here.fetched(0, 0, 3)
    here.claim({0: (0, 10)}, generation=2)
    assert here.ownership.accept(early) is None
    chunk = here.ownership.accept(here.fetched(0, 0, 3))
    assert chunk is not None
    assert [record.offset for record in chunk.records] == [0, 1, 2]
    assert chunk.owner.claim.epoch == 2


def test_a_release_refuses_what_comes_after_it_and_waits_for_what_is_on_its_way(here: World) -> None:
    here.claim({0: (0, 10)})
    here.stage.empties = False
    on_its_way = here.fetched(0, 0, 3)
    asyncio.run(here.flow.release())
    assert here.stage.drains == [5.0]
    assert here.relay.settled, "else the next owner would publish again what is not noted yet"
    assert here.stage.reads == {}
    assert here.ownership.accept(on_its_way) is None
    assert not here.flow.health()["ready"]
    assert here.flow.committed() == {}


def test_each_claim_has_read_what_it_took_from_sql_s_offsets_on(here: World) -> None:
    assert here.claim({0: (0, 10), 1: (4, 10)}) == here.stage.reads == {0: 0, 1: 4}
    assert here.claim({1: (4, 10)}) == here.stage.reads == {1: 4}
    here.claim({})
    assert here.stage.reads == {}


def test_what_a_reader_reports_of_a_claim_before_stops_nothing(here: World) -> None:
    here.claim({0: (0, 10)})
    before = here.owner(0)
    here.claim({0: (0, 10)}, generation=2)
    here.flow._stand_still(before, 5, 8, 10)
    assert here.flow.health()["stopped"] == []


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
