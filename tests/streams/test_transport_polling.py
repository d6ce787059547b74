"""How long the transport waits for records where some partitions are not to be read, and what it notes meanwhile."""

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from storage.progress import Claim
from streams.batch import OwnedPartition
from streams.ownership import TopicPartition
from streams.transport import FETCH_SECONDS, POLL_BESIDE_FULL, POSITIONS_SECONDS, Consumer
from streams.watchdog import PATIENCE

TRANSACTIONS, FEEDBACK = TP("transactions", 0), TP("feedback", 0)


def polled(ready: set[TP], stopped: frozenset[TP] = frozenset()) -> list[tuple[set[TP], float]]:
    """The partitions and the timeout of each poll in one round, where only `ready` have room and some stand still."""
    polls: list[tuple[set[TP], float]] = []

    async def partitions_with_room(_active: Iterable[TopicPartition]) -> set[TopicPartition]:
        return {(tp.topic, tp.partition) for tp in ready}

    async def getmany(active_partitions: set[TP], timeout: float) -> dict[TP, Any]:
        polls.append((active_partitions, timeout))
        return {}

    flow = SimpleNamespace(
        partitions_with_room=partitions_with_room,
        to_read=lambda active: [tp for tp in active if tp not in stopped],
        owner=lambda topic, partition: None,
    )
    consumer: Any = SimpleNamespace(
        app=SimpleNamespace(flow=flow, consumer_generation_id=1),
        flow_active=True,
        should_stop=False,
        _get_active_partitions=lambda: {TRANSACTIONS, FEEDBACK},
        _getmany=getmany,
        _take_again=nothing,
        _note_positions=nothing,
    )
    asyncio.run(one_round(consumer))
    return polls


async def nothing(*_: Any) -> None:
    pass


async def one_round(consumer: Any) -> None:
    async for _ in Consumer.getmany(consumer, timeout=1.0):
        pass


def test_with_room_everywhere_the_poll_waits_no_longer_than_a_claim_may_wait_for_it() -> None:
    assert polled({TRANSACTIONS, FEEDBACK}) == [({TRANSACTIONS, FEEDBACK}, FETCH_SECONDS)]
    assert FETCH_SECONDS <= 0.5


def test_a_full_pipeline_is_looked_at_again_soon_because_new_room_ends_no_poll() -> None:
    assert polled({FEEDBACK}) == [({FEEDBACK}, POLL_BESIDE_FULL)]
    assert POLL_BESIDE_FULL <= 0.02


def test_without_any_room_nothing_is_polled() -> None:
    assert polled(set()) == []


def test_a_partition_that_stands_still_does_not_shorten_the_wait_for_the_others() -> None:
    assert polled({FEEDBACK}, frozenset({TRANSACTIONS})) == [({FEEDBACK}, FETCH_SECONDS)]


def test_where_a_quiet_partition_stands_is_noted_beside_one_that_is_never_idle() -> None:
    """Its log ends with a transaction's end, which is no record: without the note it would look as if it hung."""
    busy, quiet = (OwnedPartition(Claim(tp.topic, 1, 0, 1, 0), "uuid", 1, 0, 0) for tp in (TRANSACTIONS, FEEDBACK))
    owners = {TRANSACTIONS: busy, FEEDBACK: quiet}
    offsets = iter(range(1_000))

    async def full_beside(_active: Iterable[TopicPartition]) -> set[TopicPartition]:
        return {TRANSACTIONS}

    async def one_more(active_partitions: set[TP], timeout: float) -> dict[TP, Any]:
        return {TRANSACTIONS: [SimpleNamespace(offset=next(offsets), timestamp=0, timestamp_type=0)]}

    async def position(tp: TP) -> int:
        return 101 if tp == FEEDBACK else busy.fetched

    flow = SimpleNamespace(
        partitions_with_room=full_beside,
        to_read=list,
        owner=lambda topic, partition: owners[TP(topic, partition)],
        seen_end=lambda *_: None,
    )
    consumer: Any = SimpleNamespace(
        app=SimpleNamespace(flow=flow, consumer_generation_id=1),
        flow_active=True,
        should_stop=False,
        _positions_due=0.0,
        _get_active_partitions=lambda: set(owners),
        _getmany=one_more,
        _take_again=nothing,
        highwater=lambda tp: None,
        position=position,
    )
    consumer._note_positions = lambda owners: Consumer._note_positions(consumer, owners)
    asyncio.run(one_round(consumer))
    assert (busy.fetched, quiet.reached) == (1, 101)
    assert POSITIONS_SECONDS < PATIENCE / 2
