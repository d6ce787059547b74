"""A Faust transport that delivers one message per (partition, fetched chunk) and starts where SQL says.

Stock Faust spends two futures on each record; a message that carries a whole chunk keeps Faust's rebalancing,
agents and supervision and removes that cost (docs/architecture.md has the figures). A message's value is the chunk,
with the claim under which it was fetched; its offset is the last record's.

No chunk may vanish between the fetcher and the agent. Where delivery breaks off (flow suspended, generation
changed), a rebalance is under way; its end waits for every fetch and then seeks each partition to SQL's offset again;
chunks that were fetched under an older claim are refused by streams/ownership.py.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import aiokafka
import uvloop
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import IllegalStateError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.batch import Chunk, OwnedPartition
from streams.claiming import ClaimSuperseded
from streams.ownership import TopicPartition

if TYPE_CHECKING:
    from streams.app import FlowApp

NO_PARTITIONS_PAUSE = 0.1
#: How long a fetch waits for the first record. A claim waits as long, for the fetch that is under way.
FETCH_SECONDS = 0.25
#: While some partitions' pipelines are full, the others are polled this long: the wait ends with new records only, not
#: with new room, and a pipeline that has worked off its buffer must not stand idle meanwhile.
POLL_BESIDE_FULL = 0.01
#: Faust's patience with a claim is that for a request to the broker, 90 seconds.
SETTLE_SECONDS = 30.0
#: Between two looks at where the consumer stands, for the watchdog.
POSITIONS_SECONDS = 5.0


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer with our reading rules: committed records only, no silent reset, short waits."""

    #: True while a claim settles where to read: no fetch begins.
    held = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fetching = asyncio.Lock()

    async def fetches_ended(self) -> None:
        """Waits for the fetch that is under way, also one that nobody waits for any more."""
        async with self._fetching:
            """It has ended."""

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        async with self._fetching:
            if self.held:
                await asyncio.sleep(NO_PARTITIONS_PAUSE)
                return {}
            return await super()._fetch_records(*args, **kwargs)

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        app = cast("FlowApp", self.app)
        conf = app.conf
        self._assignor = RoundRobinPartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=app.flow.fetch_wait_ms,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
        )


class Consumer(driver.Consumer):
    """Chunks instead of records; SQL's offsets instead of Kafka's."""

    _positions_due = 0.0
    _settlings = 0
    _crashing: "asyncio.Future[None] | None" = None

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, thread_loop=uvloop.new_event_loop(), beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        app = cast("FlowApp", self.app)
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
        active = self._get_active_partitions()
        if not active:
            await self.sleep(NO_PARTITIONS_PAUSE)
            return
        await self._take_again()
        ready = {TP(*key) for key in await app.flow.partitions_with_room(active)}
        to_read = app.flow.to_read(active)
        owners = {tp: app.flow.owner(tp.topic, tp.partition) for tp in active}
        generation = app.consumer_generation_id
        if self.should_stop or not self.flow_active:
            return
        if not ready:
            await asyncio.sleep(POLL_BESIDE_FULL if to_read else NO_PARTITIONS_PAUSE)
            return
        try:
            records = await self._getmany(
                active_partitions=ready, timeout=FETCH_SECONDS if len(ready) == len(to_read) else POLL_BESIDE_FULL
            )
        except NoOffsetForPartitionError:
            return  # looked up before the first seek; the seek has settled it
        except OffsetOutOfRangeError as error:
            await self._out_of_range(error.args[0])
            return
        for tp, chunk in (records or {}).items():
            if self.should_stop or not self.flow_active or app.consumer_generation_id != generation:
                return
            owner = owners[tp]
            if chunk and owner is not None:
                owner.fetched = chunk[-1].offset + 1
                app.flow.seen_end(tp.topic, tp.partition, self.highwater(tp))
                yield tp, _message(tp, owner, chunk, generation)
        await self._note_positions(owners)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Called at the end of each rebalance: claims what was assigned and seeks to SQL's offsets.

        A claim may have to wait for the database for long, and Faust gives up after a request's time, with all later
        rebalances. So it is told to go on before that; nothing is fetched until the claim has settled where."""
        settling = asyncio.ensure_future(self._settle())
        try:
            await asyncio.wait({settling}, timeout=SETTLE_SECONDS)
            if settling.done():
                return settling.result()
        except asyncio.CancelledError:  # the next rebalance began
            settling.add_done_callback(self._settled_alone)
            raise
        settling.add_done_callback(self._settled_alone)
        return {}

    async def _settle(self) -> Mapping[TP, int]:
        """A fetch from before the rebalance must not outlast the seek: its result is dropped, while aiokafka's position
        has passed the records in it."""
        thread = cast(ConsumerThread, self._thread)
        thread.held = True
        self._settlings += 1
        number = self._settlings
        try:
            await thread.call_thread(thread.fetches_ended)
            return await self._claim_and_seek()
        except ClaimSuperseded:
            return {}
        finally:
            if number == self._settlings:
                thread.held = False

    def _settled_alone(self, settling: "asyncio.Future[Any]") -> None:
        """Nobody waited any more for a claim that failed."""
        app = cast("FlowApp", self.app)
        if not settling.cancelled() and (error := settling.exception()) is not None and not app.should_stop:
            self._crashing = asyncio.ensure_future(app.crash(error))

    async def _claim_and_seek(self) -> Mapping[TP, int]:
        app = cast("FlowApp", self.app)
        assigned = {TP(tp.topic, tp.partition) for tp in self.assignment()}
        generation = app.consumer_generation_id
        bounds = await self._bounds(assigned)
        offsets = await app.flow.claim(bounds, generation)
        # What stands still is not read; its position is put where aiokafka finds no fault with it.
        seeks = {TP(*place): offsets.get(place, first) for place, (first, _) in bounds.items()}
        if seeks:
            await self.seek_wait(seeks)
        return seeks

    async def _take_again(self) -> None:
        """Claims partitions anew that stood still or were lost, while the others go on. No fetch is under way here."""
        app = cast("FlowApp", self.app)
        waiting = {TP(*place) for place in app.flow.to_take_again()} & self.assignment()
        if not waiting:
            return
        generation = app.consumer_generation_id
        offsets = await app.flow.claim_again(await self._bounds(waiting), generation)
        await self._seek_if_ours({TP(*place): offset for place, offset in offsets.items()})

    async def _out_of_range(self, positions: Mapping[TP, int]) -> None:
        """Kafka has no record at these positions: the partitions stand still, unless it has by now."""
        app = cast("FlowApp", self.app)
        bounds = await self._bounds({TP(*place) for place in positions})
        seeks = {}
        for (topic, partition), (first, end) in bounds.items():
            position = positions[TP(topic, partition)]
            stopped = app.flow.stop_partition(topic, partition, position, first, end)
            seeks[TP(topic, partition)] = first if stopped else position
        await self._seek_if_ours(seeks)

    async def _note_positions(self, owners: Mapping[TP, OwnedPartition | None]) -> None:
        """Where the consumer stands, now and then, also while records come: one partition may be quiet beside a busy
        one. A position does not pass records that wait in the consumer."""
        now = asyncio.get_running_loop().time()
        if now < self._positions_due:
            return
        self._positions_due = now + POSITIONS_SECONDS
        with suppress(IllegalStateError):  # not assigned to us any more
            for tp, owner in owners.items():
                if owner is not None:
                    owner.reached = await self.position(tp) or 0

    async def _seek_if_ours(self, seeks: Mapping[TP, int]) -> None:
        """Outside a rebalance; one that has begun will seek itself."""
        with suppress(IllegalStateError):  # not assigned to us any more
            if seeks:
                await self.seek_wait(seeks)

    async def _bounds(self, partitions: set[TP]) -> dict[TopicPartition, tuple[int, int]]:
        """Each partition's first available and its next offset."""
        if not partitions:
            return {}
        earliest = await self.earliest_offsets(*partitions)
        latest = await self.highwaters(*partitions)
        return {(tp.topic, tp.partition): (earliest[tp], latest[tp]) for tp in partitions}

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        """Kafka's committed offsets follow SQL's, for lag tools; Faust's acknowledgements play no part."""
        committed = cast("FlowApp", self.app).flow.committed()
        return (TP(*key) for key in committed if topics is None or key[0] in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return cast("FlowApp", self.app).flow.committed().get((tp.topic, tp.partition))

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets between two chunks' ends are the chunk, not a gap."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock warnings count acknowledgements, which this transport does not use."""


class Transport(driver.Transport):
    """Chosen by a broker URL that begins with headgate://."""

    Consumer = Consumer


def _message(tp: TP, owner: OwnedPartition, records: Any, generation: int) -> ConsumerMessage:
    last, value = records[-1], cast(Any, Chunk(owner, records))
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        last.offset,
        last.timestamp / 1000.0,
        last.timestamp_type,
        [],
        None,
        value,
        None,
        0,
        0,
        tp,
        generation_id=generation,
    )
