"""The hand-over from the event loop to the compute thread: bounded, in order, nothing lost."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from streams.batch import Chunk
from streams.buffer import ChunkBuffer


def chunk(records: int) -> Chunk:
    owner: Any = SimpleNamespace()
    return Chunk(owner, [SimpleNamespace(offset=offset) for offset in range(records)])  # type: ignore[misc]


def test_chunks_come_out_in_order_up_to_the_wanted_number_of_records() -> None:
    buffer = ChunkBuffer(limit=100)
    chunks = [chunk(3), chunk(4), chunk(5)]
    for one in chunks:
        buffer.put(one)
    assert buffer.take(most=8, timeout=0) == chunks[:2]
    assert buffer.take(most=8, timeout=0) == chunks[2:]
    assert buffer.take(most=8, timeout=0) == []


def test_a_chunk_above_the_wanted_number_is_still_taken_whole() -> None:
    buffer = ChunkBuffer(limit=100)
    big = chunk(50)
    buffer.put(big)
    assert buffer.take(most=8, timeout=0) == [big]


def test_room_returns_only_after_the_compute_thread_took_something() -> None:
    buffer = ChunkBuffer(limit=10)
    buffer.put(chunk(10))
    order: list[str] = []

    async def fetch() -> None:
        waiting = asyncio.ensure_future(buffer.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        thread = threading.Thread(target=lambda: order.append(f"took {len(buffer.take(10, 5.0))}"))
        thread.start()
        await waiting
        order.append("room")
        thread.join()

    asyncio.run(fetch())
    assert sorted(order) == ["room", "took 1"]


def test_closing_wakes_a_waiting_taker() -> None:
    buffer = ChunkBuffer(limit=10)
    taken: list[list[Chunk]] = []
    thread = threading.Thread(target=lambda: taken.append(buffer.take(10, 60.0)))
    thread.start()
    buffer.close()
    thread.join(10)
    assert taken == [[]]
