"""The running flow of one worker: pipelines by topic, ownership, relays; claims and releases partitions.

The Faust app (app.py) calls it for everything that happens; it starts and ends the threads.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import structlog

from storage.database import Database, DatabaseUnavailable
from storage.progress import Claim, claim_partitions
from streams.batch import OwnedPartition
from streams.commit import CommitResult
from streams.health import FlowMetrics
from streams.kafka import KafkaSettings, KafkaUnavailable, describe_topics
from streams.ownership import Ownership, TopicPartition
from streams.pipeline import Pipeline
from streams.records import Record
from streams.relay import Relay
from streams.transport import LogTruncated

log = structlog.get_logger(__name__)

LONGEST_CLAIM_BACKOFF = 2.0
#: How long a release waits for the relays: what they have published and not noted would come again.
RELAY_SECONDS = 1.0


class Background(Protocol):
    """A thread beside the flow."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Flow:
    """start_latest: a partition that SQL has never seen starts at the log's end instead of its beginning. warnings:
    what a person should know although the flow works."""

    def __init__(
        self,
        *,
        database: Database,
        kafka: KafkaSettings,
        ownership: Ownership,
        pipelines: Sequence[Pipeline],
        relays: Sequence[Relay],
        background: Sequence[Background] = (),
        metrics: FlowMetrics,
        owner_name: str,
        start_latest: bool = False,
        fetch_wait_ms: int = 20,
        drain_seconds: float = 5.0,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
        warnings: Callable[[], list[str]] = list,
    ) -> None:
        self.fetch_wait_ms = fetch_wait_ms
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        self._database = database
        self._kafka = kafka
        self._ownership = ownership
        self._pipelines = {pipeline.topic: pipeline for pipeline in pipelines}
        self._relays = relays
        self._background = background
        self._metrics = metrics
        self._owner_name = owner_name
        self._start_latest = start_latest
        self._drain_seconds = drain_seconds
        self._clock = clock
        self._sleep = sleep
        self._warnings = warnings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._ends: dict[TopicPartition, int] = {}

    @property
    def topics(self) -> list[str]:
        return list(self._pipelines)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for pipeline in self._pipelines.values():
            pipeline.start()
        for relay in self._relays:
            relay.start()
        for thread in self._background:
            thread.start()

    def stop_waiting(self) -> None:
        """From now on whoever waits for the database or the broker gives up."""
        self._stopping = True

    def stop(self) -> None:
        """Finishes what is at hand; called off the event loop, after Kafka's consumer has stopped."""
        self.stop_waiting()
        for pipeline in self._pipelines.values():
            pipeline.stop(self._drain_seconds)
        for relay in self._relays:
            relay.stop(self._drain_seconds)
        for thread in self._background:
            thread.stop()

    def health(self) -> dict[str, Any]:
        """Ready once partitions are claimed (or there are none for us) and every thread works."""
        owned = [owner for topic in self._pipelines for owner in self._ownership.owned(topic) or ()]
        settled = all(self._ownership.owned(topic) is not None for topic in self._pipelines)
        relays = all(relay.alive for relay in self._relays)
        return {
            "ready": settled and relays and self.failure is None,
            "worker": self._owner_name,
            "failure": None if self.failure is None else str(self.failure),
            "warnings": self._warnings(),
            "partitions": [
                {
                    "topic": owner.claim.topic,
                    "partition": owner.claim.partition,
                    "epoch": owner.claim.epoch,
                    "next_offset": owner.committed,
                    "log_end": self._ends.get((owner.claim.topic, owner.claim.partition)),
                }
                for owner in owned
            ],
        }

    # From the transport and the agents, on the event loop.

    async def partitions_with_room(self, active: Iterable[TopicPartition]) -> set[TopicPartition]:
        """Those whose pipeline takes more; waits, at most a second, while none does."""
        wanted = list(active)
        pipelines = {self._pipelines[topic] for topic, _ in wanted if topic in self._pipelines}
        if not any(pipeline.buffer.has_room for pipeline in pipelines):
            waits = [asyncio.ensure_future(pipeline.buffer.room()) for pipeline in pipelines]
            try:
                await asyncio.wait(waits, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        return {tp for tp in wanted if self._pipelines[tp[0]].buffer.has_room}

    async def deliver(self, topic: str, partition: int, records: Sequence[Record], kafka_generation: int) -> None:
        """Hands a fetched chunk to its pipeline, once that has room."""
        pipeline = self._pipelines[topic]
        await pipeline.buffer.room()
        chunk = self._ownership.accept(topic, partition, records, kafka_generation)
        if chunk is not None:
            pipeline.put(chunk)

    def seen_end(self, topic: str, partition: int, end: int | None) -> None:
        if end is not None:
            self._ends[topic, partition] = end
            position = self._ownership.committed().get((topic, partition))
            if position is not None:
                self._report_lag(topic, partition, end, position)

    def committed(self) -> dict[TopicPartition, int]:
        return self._ownership.committed()

    async def claim(
        self, bounds: Mapping[TopicPartition, tuple[int, int]], kafka_generation: int
    ) -> dict[TopicPartition, int]:
        """Takes the epochs of what Kafka assigned (with the log's first and next offset of each) and returns
        where to fetch from. Waits while the database is away."""
        loop = asyncio.get_running_loop()
        claims, uuids = await loop.run_in_executor(None, self._claim_all, bounds)
        offsets = self._ownership.take(claims, uuids, kafka_generation)
        for gone in self._ends.keys() - offsets.keys():
            del self._ends[gone]
            self._metrics.no_lag(*gone)
        for (topic, partition), (_, end) in bounds.items():
            self.seen_end(topic, partition, end)
        for topic in self._pipelines:
            for owner in self._ownership.owned(topic) or ():
                for relay in self._relays:
                    relay.wake(owner)
        log.info("partitions claimed", partitions=[f"{t}/{p}@{o}" for (t, p), o in sorted(offsets.items())])
        return offsets

    async def release(self) -> None:
        """A rebalance took the partitions: finish what is on its way, so that the next owner starts after it."""
        self._ownership.revoke_all()
        drained = [pipeline.drained(self._drain_seconds) for pipeline in self._pipelines.values()]
        if not all(await asyncio.gather(*drained)):
            log.warning("batches in flight were abandoned in a rebalance; SQL's epoch keeps them out")
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(None, relay.settle, RELAY_SECONDS) for relay in self._relays))

    # From the pipelines, on their threads.

    def on_commit(self, result: CommitResult) -> None:
        for work in result.committed:
            claim = work.owner.claim
            end = self._ends.get((claim.topic, claim.partition))
            if end is not None and work.owner.usable:
                self._report_lag(claim.topic, claim.partition, end, work.advance.next_offset)
            if work.outboxes or work.fresh:
                for relay in self._relays:
                    relay.wake(work.owner, work.outboxes, work.fresh)

    def on_failure(self, error: BaseException) -> None:
        if self._stopping and isinstance(error, DatabaseUnavailable):
            log.warning("stopped while the database was away; SQL's offsets say where to go on", error=str(error))
            return
        self.failure = error
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.failed.set)

    def on_database_away(self, failures: int, error: DatabaseUnavailable) -> None:
        """Between two attempts of a commit: reports, waits; gives up only when the worker stops."""
        if self._stopping:
            raise error
        self._metrics.database_failed()
        seconds = min(0.1 * 2 ** min(failures, 6), 5.0)
        log.warning("the database is away; the stream waits", error=str(error), seconds=seconds)
        self._sleep(seconds)

    def _report_lag(self, topic: str, partition: int, end: int, position: int) -> None:
        """end: Kafka's next offset as last heard, which SQL may have passed since."""
        self._metrics.lag(topic, partition, max(0, end - position))

    def _claim_all(self, bounds: Mapping[TopicPartition, tuple[int, int]]) -> tuple[list[Claim], dict[str, str]]:
        topics = sorted({topic for topic, _ in bounds})
        if not topics:
            return [], {}
        failures = 0
        while True:
            try:
                described = describe_topics(self._kafka, topics)
                uuids = {name: topic.uuid for name, topic in described.items()}
                claims = [claim for topic in topics for claim in self._claim_topic(topic, uuids[topic], bounds)]
                return claims, uuids
            except (DatabaseUnavailable, KafkaUnavailable) as error:
                failures += 1
                if self._stopping:
                    raise
                log.warning("cannot claim partitions yet", error=str(error))
                self._sleep(min(0.1 * 2**failures, LONGEST_CLAIM_BACKOFF))

    def _claim_topic(self, topic: str, uuid: str, bounds: Mapping[TopicPartition, tuple[int, int]]) -> list[Claim]:
        own = {partition: bound for (name, partition), bound in bounds.items() if name == topic}
        starts = {partition: latest if self._start_latest else first for partition, (first, latest) in own.items()}
        claims = claim_partitions(
            self._database,
            topic=topic,
            topic_uuid=uuid,
            start_offsets=starts,
            owner=self._owner_name,
            backend_pid=self._pipelines[topic].backend_pid,
            now=self._clock(),
        )
        for partition, claim in claims.items():
            first, _ = own[partition]
            if claim.next_offset < first:
                raise LogTruncated(
                    f"{topic}/{partition}: SQL's next offset is {claim.next_offset}, but the log begins at {first}: "
                    f"{first - claim.next_offset} records are gone"
                )
        return list(claims.values())


def owned_by(ownership: Ownership, topic: str) -> Callable[[], Sequence[OwnedPartition] | None]:
    """What a processor asks for its partitions with."""
    return lambda: ownership.owned(topic)
