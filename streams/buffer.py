"""The bounded hand-over from the event loop, which fetches, to the compute thread.

The fetcher asks `room` before it fetches, so memory stays bounded at any lag and no chunk is ever dropped here.
"""

import asyncio
import threading
from collections import deque

from streams.batch import Chunk


class ChunkBuffer:
    """Chunks in arrival order. `put` and `room` belong to the event loop, `take` to the compute thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: deque[Chunk] = deque()
        self._records = 0
        self._closed = False
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._space = asyncio.Event()
        self._space.set()

    @property
    def records(self) -> int:
        return self._records

    @property
    def has_room(self) -> bool:
        return self._records < self._limit

    async def room(self) -> None:
        """Returns once fewer than `limit` records wait."""
        self._loop = asyncio.get_running_loop()
        while not self.has_room and not self._closed:
            self._space.clear()
            if self.has_room:
                break
            await self._space.wait()

    def put(self, chunk: Chunk) -> None:
        with self._changed:
            self._chunks.append(chunk)
            self._records += len(chunk.records)
            self._changed.notify()

    def take(self, most: int, timeout: float) -> list[Chunk]:
        """All waiting chunks, oldest first, until they hold `most` records; empty after `timeout` seconds."""
        with self._changed:
            if not self._chunks and not self._closed:
                self._changed.wait(timeout)
            taken: list[Chunk] = []
            count = 0
            while self._chunks and (not taken or count + len(self._chunks[0].records) <= most):
                taken.append(self._chunks.popleft())
                count += len(taken[-1].records)
            self._records -= count
        self._signal_space()
        return taken

    def close(self) -> None:
        """Wakes everyone; what still waits is dropped (SQL's offsets say where to go on)."""
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._records = 0
            self._changed.notify_all()
        self._signal_space()

    def _signal_space(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._space.set)
