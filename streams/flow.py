"""The running flow of one worker: pipelines by topic, ownership, relays; claims and releases partitions.

The Faust app (app.py) calls it for everything that happens; it starts and ends the threads.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Protocol

import structlog

from storage.database import Database, DatabaseUnavailable
from streams.batch import OwnedPartition
from streams.claiming import Bounds, Claimed, Claimer, ClaimSuperseded, Reason, Stopped, out_of_range
from streams.commit import CommitResult
from streams.health import FlowMetrics
from streams.kafka import KafkaSettings, KafkaUnavailable
from streams.ownership import Ownership, TopicPartition
from streams.partition_watch import Assigned
from streams.pipeline import Pipeline
from streams.relay import Relay
from streams.watchdog import Progress

log = structlog.get_logger(__name__)

LONGEST_CLAIM_BACKOFF = 2.0
#: How long a release waits for the relays: what they have published and not noted would come again.
RELAY_SECONDS = 1.0


class Background(Protocol):
    """A thread beside the flow. warnings: what a person should know although the flow works."""

    @property
    def warnings(self) -> Sequence[str]: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Flow:
    """start_latest: a partition that SQL has never seen starts at the log's end instead of its beginning. keyed: the
    topics of which state is kept by key. warnings: as those of its background."""

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
        keyed: Collection[str] = (),
        drain_seconds: float = 5.0,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
        warnings: Callable[[], list[str]] = list,
    ) -> None:
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        self._ownership = ownership
        self._claimer = Claimer(
            database, kafka, owner_name=owner_name, keyed=keyed, start_latest=start_latest, clock=clock
        )
        self._pipelines = {pipeline.topic: pipeline for pipeline in pipelines}
        self._relays = relays
        self._background = background
        self._metrics = metrics
        self._owner_name = owner_name
        self._drain_seconds = drain_seconds
        self._sleep = sleep
        self._warnings = warnings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._ends: dict[TopicPartition, int] = {}
        self._stopped: dict[TopicPartition, Stopped] = {}
        self._topic_uuids: dict[str, str] = {}
        self._again: dict[TopicPartition, int] = {}
        self._claims = 0
        #: How often the group's member had its turn; for the watchdog.
        self.turns = 0

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
        with ThreadPoolExecutor() as together:  # where services are away, each takes as long as it may
            list(together.map(lambda pipeline: pipeline.stop(self._drain_seconds), self._pipelines.values()))
            list(together.map(lambda relay: relay.stop(self._drain_seconds), self._relays))
            list(together.map(lambda thread: thread.stop(), self._background))

    def health(self) -> dict[str, Any]:
        """Ready once partitions are claimed (or there are none for us) and every thread works; a partition that stands
        still is a warning, since the others go on."""
        owned = [owner for topic in self._pipelines for owner in self._ownership.owned(topic) or ()]
        settled = all(self._ownership.owned(topic) is not None for topic in self._pipelines)
        relays = all(relay.alive for relay in self._relays)
        return {
            "ready": settled and relays and self.failure is None,
            "worker": self._owner_name,
            "failure": None if self.failure is None else str(self.failure),
            "warnings": [
                *(stopped.message for stopped in self._all_stopped()),
                *self._warnings(),
                *(warning for thread in self._background for warning in thread.warnings),
            ],
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
            "stopped": [
                {"topic": stopped.topic, "partition": stopped.partition, "reason": stopped.reason.value}
                for stopped in self._all_stopped()
            ],
        }

    # From the transport, on the event loop.

    def committed(self) -> dict[TopicPartition, int]:
        return self._ownership.committed()

    async def claim(self, bounds: Bounds, kafka_generation: int) -> dict[TopicPartition, int]:
        """Takes the epochs of what Kafka assigned and gives from where on each is read; nothing of what stands still.
        Waits while the database is away. Raises ClaimSuperseded where a later claim began meanwhile."""
        self._claims += 1
        number = self._claims
        claimed = await asyncio.get_running_loop().run_in_executor(None, self._claim_all, bounds, number)
        if number != self._claims:
            raise ClaimSuperseded
        offsets = self._ownership.take(claimed.claims, claimed.uuids, kafka_generation)
        self._topic_uuids = claimed.uuids
        self._again = {}
        self._stopped = {}
        for gone in self._ends.keys() - offsets.keys():
            del self._ends[gone]
            self._metrics.no_lag(*gone)
        return self._taken(claimed, offsets, bounds)

    def to_take_again(self) -> set[TopicPartition]:
        """What is to be claimed anew, of what is assigned to us."""
        return set(self._again)

    async def claim_again(self, bounds: Bounds, kafka_generation: int) -> dict[TopicPartition, int]:
        """Claims single partitions anew, while the others go on, and gives from where on each is read. What nobody can
        claim at the moment is left to the next look at SQL."""
        waiting = {place: self._again.pop(place, None) for place in bounds}
        seen = {place: epoch for place, epoch in waiting.items() if epoch is not None}
        bounds = {place: bounds[place] for place in seen}
        pids = self._backend_pids()
        try:
            claimed = await asyncio.get_running_loop().run_in_executor(
                None, lambda: self._claimer.claim(bounds, pids, seen)
            )
        except (DatabaseUnavailable, KafkaUnavailable) as error:
            log.warning("cannot claim partitions yet", error=str(error))
            return {}
        offsets = self._ownership.take_again(claimed.claims, claimed.uuids, kafka_generation)
        for place in offsets:
            self._stopped.pop(place, None)
        return self._taken(claimed, offsets, bounds) if offsets else {}

    def assigned(self) -> list[Assigned] | None:
        """What Kafka gave us, under which epochs; None in a rebalance."""
        owned = self._ownership.all_owned()
        if owned is None:
            return None
        ours = [owner.claim for owner in owned]
        unclaimed = [each for each in self._all_stopped() if each.reason is Reason.PARTITIONS_ADDED]
        uuids = self._topic_uuids
        return [Assigned(claim.topic, uuids[claim.topic], claim.partition, claim.epoch) for claim in ours] + [
            Assigned(each.topic, uuids[each.topic], each.partition, 0) for each in unclaimed
        ]

    def progress(self) -> dict[TopicPartition, Progress] | None:
        """How far each partition is that is to be read; None in a rebalance."""
        owned = self._ownership.all_owned()
        if owned is None:
            return None
        found = {}
        for owner in owned:
            place = owner.claim.topic, owner.claim.partition
            if owner.usable and place not in self._stopped:
                fetched = max(owner.fetched, owner.claim.next_offset)
                found[place] = Progress(owner.committed, fetched, max(owner.reached, fetched))
        return found

    def take_again(self, seen: Mapping[TopicPartition, int]) -> None:
        """From the watch's thread: the transport is to claim these anew, if SQL still has them at the epochs seen."""
        self._again = self._again | dict(seen)

    async def release(self) -> None:
        """A rebalance took the partitions: finish what is on its way, so that the next owner starts after it."""
        self._claims += 1  # one that still waits is about what is revoked now
        self._ownership.revoke_all()
        for pipeline in self._pipelines.values():
            pipeline.read(())
        drained = [pipeline.drained(self._drain_seconds) for pipeline in self._pipelines.values()]
        if not all(await asyncio.gather(*drained)):
            log.warning("batches in flight were abandoned in a rebalance; SQL's epoch keeps them out")
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(None, relay.settle, RELAY_SECONDS) for relay in self._relays))

    # From the pipelines and their readers, on the compute and writer threads.

    def seen_end(self, topic: str, partition: int, end: int) -> None:
        """end: Kafka's next offset as last heard."""
        owner = self._ownership.owner(topic, partition)
        if owner is not None:
            self._ends[topic, partition] = end
            self._report_lag(topic, partition, end, owner.committed)

    def out_of_range(self, owner: OwnedPartition, position: int, first: int, end: int) -> None:
        """Kafka has no record where a partition is to be read; its reader has let it go."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stand_still, owner, position, first, end)

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

    def _all_stopped(self) -> list[Stopped]:
        return [stopped for _, stopped in sorted(self._stopped.items())]

    def _stand_still(self, owner: OwnedPartition, position: int, first: int, end: int) -> None:
        place = owner.claim.topic, owner.claim.partition
        if self._ownership.owner(*place) is owner:
            self._stop([out_of_range(*place, position, first, end)])

    def _stop(self, stopped: Iterable[Stopped]) -> None:
        for one in stopped:
            self._stopped = self._stopped | {(one.topic, one.partition): one}
            log.error("a partition stands still", problem=one.message)
        self._metrics.partitions_stopped([(each.topic, each.reason.value) for each in self._all_stopped()])

    def _taken(
        self, claimed: Claimed, offsets: Mapping[TopicPartition, int], bounds: Bounds
    ) -> dict[TopicPartition, int]:
        """After ownership was taken: notes what stands still, how far we are behind, what has yet to be published, and
        has the rest read; gives from where on."""
        self._stop(claimed.stopped)
        for topic, partition in offsets:
            self.seen_end(topic, partition, bounds[topic, partition][1])
            if (owner := self._ownership.owner(topic, partition)) is not None:
                for relay in self._relays:
                    relay.wake(owner)
        for topic, pipeline in self._pipelines.items():
            owned = self._ownership.owned(topic) or ()
            pipeline.read([owner for owner in owned if (topic, owner.claim.partition) not in self._stopped])
        log.info("partitions claimed", partitions=[f"{t}/{p}@{o}" for (t, p), o in sorted(offsets.items())])
        return {place: offset for place, offset in offsets.items() if place not in self._stopped}

    def _backend_pids(self) -> dict[str, int | None]:
        return {topic: pipeline.backend_pid for topic, pipeline in self._pipelines.items()}

    def _claim_all(self, bounds: Bounds, number: int) -> Claimed:
        def check() -> None:
            """An earlier claim that comes later would take from the later one what it has."""
            if number != self._claims:
                raise ClaimSuperseded

        failures = 0
        while True:
            check()
            try:
                return self._claimer.claim(bounds, self._backend_pids(), check=check)
            except (DatabaseUnavailable, KafkaUnavailable) as error:
                failures += 1
                if self._stopping:
                    raise
                if isinstance(error, DatabaseUnavailable):
                    self._metrics.database_failed()
                log.warning("cannot claim partitions yet", error=str(error))
                self._sleep(min(0.1 * 2**failures, LONGEST_CLAIM_BACKOFF))


def owned_by(ownership: Ownership, topic: str) -> Callable[[], Sequence[OwnedPartition] | None]:
    """What a processor asks for its partitions with."""
    return lambda: ownership.owned(topic)
