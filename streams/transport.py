"""Faust's part in Kafka: this worker's membership in the group, claims of what it is assigned, committed offsets.

Stock Faust reads records, too, and spends two futures on each; here it reads none, the pipelines' readers do
(reading.py). Members are assigned partitions, a claim in SQL says from which offset each goes on, and that is handed to
the readers. Kafka's committed offsets follow SQL's; a rebalance asks SQL again.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import aiokafka
import uvloop
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.claiming import ClaimSuperseded
from streams.ownership import TopicPartition

if TYPE_CHECKING:
    from streams.app import FlowApp

#: Between two looks for partitions that are to be claimed anew.
LOOK_SECONDS = 0.25
#: Faust's patience with a claim is that for a request to the broker, 90 seconds.
SETTLE_SECONDS = 30.0
#: aiokafka leaves a group when nobody polls for so long; its consumer is never polled. A worker that hangs is the
#: watchdog's to end.
NEVER_MS = 10**15


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer as a member of the group alone."""

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
            max_poll_interval_ms=NEVER_MS,
            # What it may fetch before it is told to read nothing: a batch of records.
            fetch_max_bytes=1,
            max_partition_fetch_bytes=1,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials),
        )

    async def read_nothing(self) -> None:
        """Of what is assigned now."""
        with suppress(IllegalStateError):  # not assigned to us any more
            consumer = self._ensure_consumer()
            consumer.pause(*consumer.assignment())

    async def check_membership(self) -> None:
        """Raises what ended it for good: aiokafka tells only those who ask."""
        coordinator = self._ensure_consumer()._coordinator
        if coordinator is not None:
            coordinator.check_errors()


class Consumer(driver.Consumer):
    """A member that claims what it is assigned, and delivers no record."""

    _crashing: "asyncio.Future[None] | None" = None

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, thread_loop=uvloop.new_event_loop(), beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Nothing, ever. Faust asks again and again: the time to see whether the membership has failed, and, outside
        rebalances, to claim single partitions anew."""
        thread = cast(ConsumerThread, self._thread)
        await thread.call_thread(thread.check_membership)
        if self.flow_active:
            await self._take_again()
        cast("FlowApp", self.app).flow.turns += 1
        await self.sleep(LOOK_SECONDS)
        nothing: tuple[tuple[TP, ConsumerMessage], ...] = ()
        for each in nothing:
            yield each

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Called at the end of each rebalance: claims what was assigned, and has it read from SQL's offsets on.

        A claim may have to wait for the database for long, and Faust gives up after a request's time, with all later
        rebalances. So it is told to go on before that; nothing is read until the claim has settled where."""
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
        app = cast("FlowApp", self.app)
        thread = cast(ConsumerThread, self._thread)
        await thread.call_thread(thread.read_nothing)
        assigned = {TP(tp.topic, tp.partition) for tp in self.assignment()}
        generation = app.consumer_generation_id
        try:
            offsets = await app.flow.claim(await self._bounds(assigned), generation)
        except ClaimSuperseded:
            return {}
        return {TP(*place): offset for place, offset in offsets.items()}

    def _settled_alone(self, settling: "asyncio.Future[Any]") -> None:
        """Nobody waited any more for a claim that failed."""
        app = cast("FlowApp", self.app)
        if not settling.cancelled() and (error := settling.exception()) is not None and not app.should_stop:
            self._crashing = asyncio.ensure_future(app.crash(error))

    async def _take_again(self) -> None:
        """Claims partitions anew that stood still or were lost, while the others go on."""
        app = cast("FlowApp", self.app)
        waiting = {TP(*place) for place in app.flow.to_take_again()} & self.assignment()
        if waiting:
            generation = app.consumer_generation_id
            await app.flow.claim_again(await self._bounds(waiting), generation)

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

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock warnings count acknowledgements, which this transport does not use."""


class Transport(driver.Transport):
    """Chosen by a broker URL that begins with headgate://."""

    Consumer = Consumer
