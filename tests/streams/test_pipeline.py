"""Two threads and the queue between them: order, back-pressure, failures, drains and stops."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from storage.progress import Advance, Claim
from streams.batch import Chunk, OwnedPartition, PartitionWork, PreparedBatch
from streams.commit import CommitResult
from streams.health import FlowMetrics
from streams.pipeline import BATCHES_AHEAD, Pipeline

SECONDS = 10.0
LIMIT = 4


def owned() -> OwnedPartition:
    return OwnedPartition(Claim("t", 1, 0, 1, 0), "uuid", 1, 0, 0)


def chunk(owner: OwnedPartition, first: int, count: int = 2) -> Chunk:
    return Chunk(owner, [SimpleNamespace(offset=first + row) for row in range(count)])  # type: ignore[misc]


class OneBatchPerCall:
    """A processor: all chunks of a call become one batch; fails where the test says so."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at
        self.computed: list[int] = []

    def process(self, chunks: Sequence[Chunk], now: float) -> PreparedBatch | None:
        first, last = chunks[0].records[0].offset, chunks[-1].records[-1].offset
        if self.fail_at is not None and first >= self.fail_at:
            raise ArithmeticError("compute failed")
        self.computed.append(first)
        owner = chunks[0].owner
        work = PartitionWork(owner, Advance(1, 0, 1, first, last + 1, applied=last + 1 - first), [])
        return PreparedBatch([work], last + 1 - first, now)

    def idle(self, now: float) -> PreparedBatch | None:
        return None


class GatedCommitter:
    """A committer that waits for the test before each commit, and fails or loses what the test says."""

    backend_pid = None

    def __init__(self, open_gate: bool = True, fail: BaseException | None = None, lose: bool = False) -> None:
        self.gate = threading.Event()
        if open_gate:
            self.gate.set()
        self.entered = threading.Event()
        self.fail = fail
        self.lose = lose
        self.committed: list[tuple[int, int]] = []
        self.closed = 0

    def commit(self, batch: PreparedBatch) -> CommitResult:
        self.entered.set()
        assert self.gate.wait(SECONDS)
        if self.fail is not None:
            raise self.fail
        self.committed += [(work.advance.base_offset, work.advance.next_offset) for work in batch.works]
        return CommitResult([], batch.works) if self.lose else CommitResult(batch.works, [])

    def close(self) -> None:
        self.closed += 1
        self.gate.set()


@dataclass
class Reported:
    results: list[CommitResult] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    failed: threading.Event = field(default_factory=threading.Event)

    def failure(self, error: BaseException) -> None:
        self.failures.append(error)
        self.failed.set()


def started(processor: Any, committer: Any, reported: Reported, metrics: FlowMetrics | None = None) -> Pipeline:
    pipeline = Pipeline(
        "t",
        processor,
        committer,
        max_batch_records=LIMIT,
        clock=lambda: 1_000.0,
        metrics=metrics or FlowMetrics(),
        on_commit=reported.results.append,
        on_failure=reported.failure,
    )
    pipeline.start()
    return pipeline


def drained(pipeline: Pipeline, timeout: float = SECONDS) -> bool:
    return asyncio.run(pipeline.drained(timeout))


def within(action: Callable[[], None], seconds: float = SECONDS) -> bool:
    """Runs the action on a thread of its own; whether it ended in time."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def test_batches_are_committed_in_the_order_of_their_chunks_and_none_is_left_out() -> None:
    committer, reported, owner = GatedCommitter(), Reported(), owned()
    pipeline = started(OneBatchPerCall(), committer, reported)
    for first in range(0, 200, 2):
        pipeline.put(chunk(owner, first))
    assert drained(pipeline)
    pipeline.stop(SECONDS)
    steps = committer.committed
    assert [base for base, _ in steps] == [0, *(following for _, following in steps[:-1])]
    assert steps[-1][1] == 200
    assert owner.committed == 200
    assert [work.advance.next_offset for result in reported.results for work in result.committed] == [
        following for _, following in steps
    ]
    assert not reported.failures


def test_a_slow_database_stops_the_fetcher_and_bounds_what_is_in_memory() -> None:
    processor, committer, owner = OneBatchPerCall(), GatedCommitter(open_gate=False), owned()
    pipeline = started(processor, committer, Reported())

    async def fetch(most: int) -> int:
        """Records handed over until no room came for a while."""
        handed = 0
        while handed < most:
            try:
                await asyncio.wait_for(pipeline.buffer.room(), 0.3)
            except TimeoutError:
                break
            pipeline.put(chunk(owner, handed))
            handed += 2
        return handed

    handed = asyncio.run(fetch(10_000))
    in_buffer = 2 * LIMIT + 1  # its limit, passed by less than one chunk
    in_batches = (BATCHES_AHEAD + 2) * LIMIT  # queued, at the committer, and one that waits for its place
    assert handed <= in_buffer + in_batches
    assert len(processor.computed) <= BATCHES_AHEAD + 2
    committer.gate.set()
    assert drained(pipeline)
    pipeline.stop(SECONDS)
    assert owner.committed == handed


def test_a_failure_in_compute_is_reported_once_and_what_was_computed_before_is_committed() -> None:
    committer, reported, owner = GatedCommitter(open_gate=False), Reported(), owned()
    pipeline = started(OneBatchPerCall(fail_at=4), committer, reported)
    pipeline.put(chunk(owner, 0, 4))
    pipeline.put(chunk(owner, 4, 4))
    assert reported.failed.wait(SECONDS)  # although the committer still waits
    committer.gate.set()
    assert within(lambda: pipeline.stop(SECONDS))
    assert [str(error) for error in reported.failures] == ["compute failed"]
    assert committer.committed == [(0, 4)]


def test_a_failure_in_the_writer_is_reported_once_and_nothing_after_it_is_committed() -> None:
    error = ValueError("the database refuses this row")
    committer, reported, owner = GatedCommitter(open_gate=False, fail=error), Reported(), owned()
    pipeline = started(OneBatchPerCall(), committer, reported)
    for first in range(0, 40, 4):
        pipeline.put(chunk(owner, first, 4))
    assert committer.entered.wait(SECONDS)
    committer.gate.set()
    assert reported.failed.wait(SECONDS)
    assert within(lambda: pipeline.stop(SECONDS))
    assert reported.failures == [error]
    assert (committer.committed, owner.committed) == ([], 0)


@pytest.mark.parametrize("where", ["compute", "writer"])
def test_after_a_failure_nobody_waits_for_room_or_for_a_drain(where: str) -> None:
    committer = GatedCommitter(fail=ValueError("no") if where == "writer" else None)
    reported, owner = Reported(), owned()
    pipeline = started(OneBatchPerCall(fail_at=0 if where == "compute" else None), committer, reported)
    for first in range(0, 40, 4):
        pipeline.put(chunk(owner, first, 4))
    assert reported.failed.wait(SECONDS)

    async def room_and_drain() -> bool:
        await asyncio.wait_for(pipeline.buffer.room(), SECONDS)
        return await asyncio.wait_for(pipeline.drained(600.0), SECONDS)

    assert asyncio.run(room_and_drain()) is False
    assert within(lambda: pipeline.stop(SECONDS))


def test_drained_waits_for_the_commit_and_not_only_for_the_computation() -> None:
    processor, committer, owner = OneBatchPerCall(), GatedCommitter(open_gate=False), owned()
    pipeline = started(processor, committer, Reported())
    pipeline.put(chunk(owner, 0))
    assert committer.entered.wait(SECONDS)
    assert not drained(pipeline, 0.05)
    committer.gate.set()
    assert drained(pipeline)
    assert owner.committed == 2
    pipeline.stop(SECONDS)


def test_chunks_that_a_processor_ignores_are_drained_too() -> None:
    class Ignoring(OneBatchPerCall):
        def process(self, chunks: Sequence[Chunk], now: float) -> PreparedBatch | None:
            return None

    pipeline = started(Ignoring(), GatedCommitter(), Reported())
    pipeline.put(chunk(owned(), 0))
    assert drained(pipeline)
    pipeline.stop(SECONDS)


def test_stopping_with_a_full_queue_commits_what_is_computed_and_ends() -> None:
    processor, committer, owner = OneBatchPerCall(), GatedCommitter(open_gate=False), owned()
    pipeline = started(processor, committer, Reported())
    for first in range(0, 40, 4):
        pipeline.put(chunk(owner, first, 4))
    assert committer.entered.wait(SECONDS)
    opener = threading.Timer(0.2, committer.gate.set)
    opener.start()
    assert within(lambda: pipeline.stop(SECONDS))
    opener.join()
    assert committer.committed == [(first, first + 4) for first in processor.computed]
    assert committer.closed


def test_stopping_breaks_off_a_commit_that_does_not_end() -> None:
    committer, reported, owner = GatedCommitter(open_gate=False), Reported(), owned()
    pipeline = started(OneBatchPerCall(), committer, reported)
    pipeline.put(chunk(owner, 0))
    assert committer.entered.wait(SECONDS)
    assert within(lambda: pipeline.stop(0.05))
    assert committer.closed
    assert not reported.failures


def test_a_partition_that_another_worker_owns_is_marked_as_lost_and_counted() -> None:
    metrics, reported, owner = FlowMetrics(), Reported(), owned()
    pipeline = started(OneBatchPerCall(), GatedCommitter(lose=True), reported, metrics)
    pipeline.put(chunk(owner, 0))
    assert drained(pipeline)
    pipeline.stop(SECONDS)
    assert owner.lost
    assert owner.committed == 0
    assert metrics.registry.get_sample_value("headgate_partitions_lost_total", {"topic": "t"}) == 1
    assert metrics.registry.get_sample_value("headgate_records_total", {"topic": "t", "outcome": "applied"}) is None
