"""Two threads and the queue between them: order, back-pressure, failures, drains and stops."""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from storage.progress import Advance, Claim
from streams import pipeline as pipeline_module
from streams.batch import Chunk, OwnedPartition, PartitionWork, PreparedBatch
from streams.batch_size import BatchSize
from streams.commit import CommitResult
from streams.health import FlowMetrics
from streams.pipeline import BATCHES_AHEAD, Pipeline
from tests.deployment import wait_until

SECONDS = 10.0
LIMIT = 4


def owned() -> OwnedPartition:
    return OwnedPartition(Claim("t", 1, 0, 1, 0), "uuid", 1, 0, 0)


def chunk(owner: OwnedPartition, first: int, count: int = 2) -> Chunk:
    return Chunk(owner, [SimpleNamespace(offset=first + row) for row in range(count)])  # type: ignore[misc]


class Handing:
    """A reader that hands over what the test puts in, as much at a time as is asked for."""

    def __init__(self) -> None:
        self.chunks: deque[Chunk] = deque()
        self.changed = threading.Condition()
        self.woken = self.closed = False
        self.ends_noted = threading.Event()
        self.owners: list[OwnedPartition] = []

    def put(self, chunk: Chunk) -> None:
        with self.changed:
            self.chunks.append(chunk)
            self.changed.notify_all()

    def read(self, owners: Iterable[OwnedPartition]) -> None:
        self.owners = list(owners)

    def take(self, most: int, timeout: float) -> list[Chunk]:
        with self.changed:
            self.changed.wait_for(lambda: self.chunks or self.woken, timeout)
            taken: list[Chunk] = []
            while self.chunks and sum(len(each.records) for each in (*taken, self.chunks[0])) <= most:
                taken.append(self.chunks.popleft())
            return taken

    def note_ends(self) -> None:
        self.ends_noted.set()

    def wake(self) -> None:
        with self.changed:
            self.woken = True
            self.changed.notify_all()

    def close(self) -> None:
        self.closed = True


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


@dataclass
class Started:
    """A running pipeline and where its records come from."""

    pipeline: Pipeline
    reader: Handing

    def put(self, *chunks: Chunk) -> None:
        for each in chunks:
            self.reader.put(each)

    def stop(self, seconds: float) -> None:
        self.pipeline.stop(seconds)

    def drained(self, timeout: float = SECONDS) -> bool:
        """Once everything that was put in was taken."""
        wait_until("everything is taken", lambda: not self.reader.chunks)
        return asyncio.run(self.pipeline.drained(timeout))


def started(
    processor: Any,
    committer: Any,
    reported: Reported,
    metrics: FlowMetrics | None = None,
    accept: Callable[[Chunk], Chunk | None] = lambda chunk: chunk,
    size: BatchSize | None = None,
    clock: Callable[[], float] = lambda: 1_000.0,
    on_commit: Callable[[CommitResult], None] | None = None,
) -> Started:
    reader = Handing()
    pipeline = Pipeline(
        "t",
        reader,
        processor,
        committer,
        accept=accept,
        size=size or BatchSize(1.0, least=LIMIT, most=LIMIT),
        clock=clock,
        metrics=metrics or FlowMetrics(),
        on_commit=on_commit or reported.results.append,
        on_failure=reported.failure,
    )
    pipeline.start()
    return Started(pipeline, reader)


@pytest.fixture
def overlapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches count as large."""
    monkeypatch.setattr(pipeline_module, "SMALL_RECORDS", 0)


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
    assert pipeline.drained()
    pipeline.stop(SECONDS)
    steps = committer.committed
    assert [base for base, _ in steps] == [0, *(following for _, following in steps[:-1])]
    assert steps[-1][1] == 200
    assert owner.committed == 200
    assert [work.advance.next_offset for result in reported.results for work in result.committed] == [
        following for _, following in steps
    ]
    assert not reported.failures


@pytest.mark.usefixtures("overlapping")
def test_a_slow_database_stops_the_reading_and_bounds_what_is_in_memory() -> None:
    processor, committer, owner = OneBatchPerCall(), GatedCommitter(open_gate=False), owned()
    pipeline = started(processor, committer, Reported())
    chunks = [chunk(owner, first) for first in range(0, 1_000, 2)]
    pipeline.put(*chunks)
    batches = BATCHES_AHEAD + 2  # queued, at the committer, and one that waits for its place
    wait_until("as much is computed as may be", lambda: len(processor.computed) == batches)
    assert len(pipeline.reader.chunks) == len(chunks) - batches * LIMIT // 2
    committer.gate.set()
    assert pipeline.drained()
    pipeline.stop(SECONDS)
    assert owner.committed == 1_000


def test_while_a_small_batch_is_on_its_way_to_sql_records_gather_for_the_next_one() -> None:
    processor, committer, owner = OneBatchPerCall(), GatedCommitter(open_gate=False), owned()
    pipeline = started(processor, committer, Reported())
    pipeline.put(chunk(owner, 0, 1))
    assert committer.entered.wait(SECONDS)
    pipeline.put(*(chunk(owner, first, 1) for first in range(1, 1 + LIMIT)))
    assert pipeline.reader.ends_noted.wait(SECONDS), "else the lag would seem to stand still with the database"
    assert processor.computed == [0]
    committer.gate.set()
    assert pipeline.drained()
    pipeline.stop(SECONDS)
    assert processor.computed == [0, 1]
    assert committer.committed == [(0, 1), (1, 1 + LIMIT)]


def test_who_publishes_a_small_batch_hears_of_it_before_the_next_one_may_be_computed() -> None:
    """Else publishing waits for Python's lock until that is done."""
    still_on_its_way: list[bool] = []

    def heard(result: CommitResult) -> None:
        still_on_its_way.append(not asyncio.run(pipeline.pipeline.drained(0)))

    pipeline = started(OneBatchPerCall(), GatedCommitter(), Reported(), on_commit=heard)
    pipeline.put(chunk(owned(), 0, 1))
    assert pipeline.drained()
    pipeline.stop(SECONDS)
    assert still_on_its_way == [True]


def test_whoever_revoked_partitions_waits_for_what_was_accepted_before_and_nothing_is_accepted_after() -> None:
    """A chunk may be at the reader's when the partitions are revoked, already or not yet accepted."""
    asked, answer = threading.Event(), threading.Event()
    revoked: list[bool] = []

    def accept(chunk: Chunk) -> Chunk | None:
        accepted = None if revoked else chunk
        asked.set()
        assert answer.wait(SECONDS)
        return accepted

    committer, owner = GatedCommitter(), owned()
    pipeline = started(OneBatchPerCall(), committer, Reported(), accept=accept)
    pipeline.put(chunk(owner, 0))
    assert asked.wait(SECONDS)
    revoked.append(True)
    assert not pipeline.drained(0.05)
    answer.set()
    assert pipeline.drained()
    assert owner.committed == 2
    pipeline.put(chunk(owner, 2))
    assert pipeline.drained()
    pipeline.stop(SECONDS)
    assert committer.committed == [(0, 2)]


@pytest.mark.usefixtures("overlapping")
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


@pytest.mark.usefixtures("overlapping")
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
def test_after_a_failure_nobody_waits_for_a_drain(where: str) -> None:
    committer = GatedCommitter(fail=ValueError("no") if where == "writer" else None)
    reported, owner = Reported(), owned()
    pipeline = started(OneBatchPerCall(fail_at=0 if where == "compute" else None), committer, reported)
    for first in range(0, 40, 4):
        pipeline.put(chunk(owner, first, 4))
    assert reported.failed.wait(SECONDS)

    async def drain() -> bool:
        return await asyncio.wait_for(pipeline.pipeline.drained(600.0), SECONDS)

    assert asyncio.run(drain()) is False
    assert within(lambda: pipeline.stop(SECONDS))


def test_drained_waits_for_the_commit_and_not_only_for_the_computation() -> None:
    processor, committer, owner = OneBatchPerCall(), GatedCommitter(open_gate=False), owned()
    pipeline = started(processor, committer, Reported())
    pipeline.put(chunk(owner, 0))
    assert committer.entered.wait(SECONDS)
    assert not pipeline.drained(0.05)
    committer.gate.set()
    assert pipeline.drained()
    assert owner.committed == 2
    pipeline.stop(SECONDS)


def test_chunks_that_a_processor_ignores_are_drained_too() -> None:
    class Ignoring(OneBatchPerCall):
        def process(self, chunks: Sequence[Chunk], now: float) -> PreparedBatch | None:
            return None

    pipeline = started(Ignoring(), GatedCommitter(), Reported())
    pipeline.put(chunk(owned(), 0))
    assert pipeline.drained()
    pipeline.stop(SECONDS)


@pytest.mark.usefixtures("overlapping")
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
    assert pipeline.drained()
    pipeline.stop(SECONDS)
    assert owner.lost
    assert owner.committed == 0
    assert metrics.registry.get_sample_value("headgate_partitions_lost_total", {"topic": "t"}) == 1
    assert metrics.registry.get_sample_value("headgate_records_total", {"topic": "t", "outcome": "applied"}) is None


def test_batches_that_take_longer_than_the_latency_budget_become_smaller(overlapping: None) -> None:
    moments = itertools.count(1_000.0, 0.5)  # half a second from each look at the clock to the next
    size = BatchSize(0.4, least=2, most=8)
    committer, owner = GatedCommitter(), owned()
    pipeline = started(OneBatchPerCall(), committer, Reported(), size=size, clock=lambda: next(moments))
    for first in range(0, 400, 2):
        pipeline.put(chunk(owner, first))
    assert pipeline.drained()
    pipeline.stop(SECONDS)
    lengths = [following - base for base, following in committer.committed]
    assert size.most < 8
    assert max(lengths[-10:]) < 8
