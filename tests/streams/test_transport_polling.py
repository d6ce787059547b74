"""How long the transport waits for records while a pipeline has no room for more; without a broker."""

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from streams.ownership import TopicPartition
from streams.transport import FETCH_SECONDS, POLL_BESIDE_FULL, Consumer

TRANSACTIONS, FEEDBACK = TP("transactions", 0), TP("feedback", 0)


def polled(ready: set[TP]) -> list[tuple[set[TP], float]]:
    """The partitions and the timeout of each poll in one round, where only `ready` have room."""
    polls: list[tuple[set[TP], float]] = []

    async def partitions_with_room(_active: Iterable[TopicPartition]) -> set[TopicPartition]:
        return {(tp.topic, tp.partition) for tp in ready}

    async def getmany(active_partitions: set[TP], timeout: float) -> dict[TP, Any]:
        polls.append((active_partitions, timeout))
        return {}

    async def nothing_to_take() -> None:
        pass

    flow = SimpleNamespace(partitions_with_room=partitions_with_room, owner=lambda topic, partition: None)
    consumer: Any = SimpleNamespace(
        app=SimpleNamespace(flow=flow, consumer_generation_id=1),
        flow_active=True,
        should_stop=False,
        _get_active_partitions=lambda: {TRANSACTIONS, FEEDBACK},
        _getmany=getmany,
        _take_again=nothing_to_take,
    )

    async def one_round() -> None:
        async for _ in Consumer.getmany(consumer, timeout=1.0):
            pass

    asyncio.run(one_round())
    return polls


def test_with_room_everywhere_the_poll_waits_no_longer_than_a_claim_may_wait_for_it() -> None:
    assert polled({TRANSACTIONS, FEEDBACK}) == [({TRANSACTIONS, FEEDBACK}, FETCH_SECONDS)]
    assert FETCH_SECONDS <= 0.5


def test_a_full_pipeline_is_looked_at_again_soon_because_new_room_ends_no_poll() -> None:
    assert polled({FEEDBACK}) == [({FEEDBACK}, POLL_BESIDE_FULL)]
    assert POLL_BESIDE_FULL <= 0.02


def test_without_any_room_nothing_is_polled() -> None:
    assert polled(set()) == []
