"""Two threads between Kafka and SQL: one reads and computes, one writes, with a short queue between.

    librdkafka's threads --Reader--> compute thread (a Processor) --queue of 2--> writer thread (a Committer)

Fetching, compute and the SQL commit of large neighbouring batches overlap; order is kept, and every bound is small, so
back-pressure reaches the fetcher. A failure in either thread stops the worker: nothing is skipped.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from streams.batch import Chunk, OwnedPartition, PreparedBatch, Processor
from streams.batch_size import BatchSize
from streams.commit import CommitResult, Committer
from streams.health import FlowMetrics

log = structlog.get_logger(__name__)

IDLE_SECONDS = 0.5
BATCHES_AHEAD = 2
#: After a batch of fewer records the next one waits until that is in SQL. Records that come meanwhile join it, which
#: saves more than overlap gains: the threads share Python's lock, and what a batch costs hardly depends on its size.
SMALL_RECORDS = 512


class Reader(Protocol):
    """Where the records come from (streams/reading.py)."""

    def read(self, owners: Iterable[OwnedPartition]) -> None: ...

    def take(self, most: int, timeout: float) -> list[Chunk]: ...

    def note_ends(self) -> None: ...

    def wake(self) -> None: ...

    def close(self) -> None: ...


class Pipeline:
    """The two threads of one topic.

    accept: gives the part of a chunk that is new, None where it is not ours any more (streams/ownership.py). on_commit
    is called on the writer thread after each commit; on_failure once, from the thread that failed.
    """

    def __init__(
        self,
        topic: str,
        reader: Reader,
        processor: Processor,
        committer: Committer,
        *,
        accept: Callable[[Chunk], Chunk | None],
        size: BatchSize,
        clock: Callable[[], float],
        metrics: FlowMetrics,
        on_commit: Callable[[CommitResult], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.topic = topic
        self._reader = reader
        self._accept = accept
        self._processor = processor
        self._committer = committer
        self._size = size
        self._clock = clock
        self._metrics = metrics
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._batches: queue.Queue[tuple[PreparedBatch, int, float] | None] = queue.Queue(BATCHES_AHEAD)
        self._stopping = threading.Event()
        self._in_flight = 0
        self._counted = threading.Condition()
        self._threads = [
            threading.Thread(target=run, name=f"{topic}-{run.__name__.strip('_')}", daemon=True)
            for run in (self._compute, self._write)
        ]

    @property
    def backend_pid(self) -> int | None:
        """The PostgreSQL backend that writes for this pipeline, once it has written."""
        return self._committer.backend_pid

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def read(self, owners: Iterable[OwnedPartition]) -> None:
        """From now on these partitions; from any thread."""
        self._reader.read(owners)

    async def drained(self, timeout: float) -> bool:
        """Waits until nothing that was accepted is still on its way, at most `timeout` seconds."""
        return await asyncio.get_running_loop().run_in_executor(None, self._wait_drained, timeout)

    def stop(self, timeout: float) -> None:
        """Finishes the batches at hand and ends both threads; breaks off a commit that takes too long."""
        self._stopping.set()
        self._reader.wake()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout)
        self._committer.close()
        if not self._threads[0].is_alive():
            self._reader.close()

    def _wait_drained(self, timeout: float) -> bool:
        with self._counted:
            self._counted.wait_for(lambda: self._in_flight <= 0 or self._stopping.is_set(), timeout)
            return self._in_flight <= 0

    def _failed(self, error: BaseException) -> None:
        """The first failure of either thread stops both and is reported; nobody is left waiting."""
        with self._counted:
            first = not self._stopping.is_set()
            self._stopping.set()
            self._counted.notify_all()
        self._reader.wake()
        if first:
            self._on_failure(error)
        else:
            log.warning("pipeline stopped in mid work", topic=self.topic, error=repr(error))

    def _compute(self) -> None:
        try:
            small = False
            while not self._stopping.is_set():
                if small and not self._wait_drained(IDLE_SECONDS):
                    self._reader.note_ends()
                    continue
                most = self._size.most
                taken = self._reader.take(most, IDLE_SECONDS)
                small = sum(len(chunk.records) for chunk in taken) < min(SMALL_RECORDS, most)
                chunks = self._accepted(taken)
                now = self._clock()
                with self._metrics.computing(self.topic):
                    batch = self._processor.process(chunks, now) if chunks else self._processor.idle(now)
                self._metrics.queue(self.topic, self._batches.qsize())
                if batch is None:
                    self._finished(len(taken))
                else:
                    for work in batch.works:
                        work.owner.prepared += 1
                    self._batches.put((batch, len(taken), self._clock() - now))
        except BaseException as error:
            self._failed(error)
        finally:
            self._batches.put(None)

    def _accepted(self, taken: list[Chunk]) -> list[Chunk]:
        """Counted as on their way before any is accepted, so that whoever has revoked partitions waits for all that
        was accepted before."""
        with self._counted:
            self._in_flight += len(taken)
        return [accepted for chunk in taken if (accepted := self._accept(chunk)) is not None]

    def _write(self) -> None:
        try:
            while (item := self._batches.get()) is not None:
                self._commit(*item)
        except BaseException as error:
            self._failed(error)
            while self._batches.get() is not None:
                """Dropped, so that the compute thread finds a place and ends."""

    def _commit(self, batch: PreparedBatch, chunks: int, computed: float) -> None:
        """computed: the seconds that it took to compute."""
        began = self._clock()
        with self._metrics.committing(self.topic):
            result = self._committer.commit(batch)
        for work in result.lost:
            work.owner.lost = True
            log.warning(
                "partition is owned by another worker now",
                topic=self.topic,
                partition=work.advance.partition,
                epoch=work.advance.epoch,
            )
        for work in result.committed:
            work.owner.committed = work.advance.next_offset
            work.owner.written += 1
            if work.refused:
                place = {"topic": self.topic, "partition": work.advance.partition}
                log.warning("records became dead letters", **place, **work.refused)
        now = self._clock()
        self._size.note(batch.records, computed + now - began)
        self._metrics.committed(self.topic, batch, result, now)
        self._on_commit(result)  # first, as the next batch keeps whoever publishes this one waiting
        self._finished(chunks)

    def _finished(self, chunks: int) -> None:
        with self._counted:
            self._in_flight -= chunks
            self._counted.notify_all()
