"""The values that travel from the socket to SQL: chunks in, prepared batches out.

A chunk is one partition's part of a batch; a prepared batch is what one SQL transaction writes. Both are made
once and never recomputed: a batch may be sent again, byte for byte, after a lost connection.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection

from storage.bulk import EncodedRows
from storage.progress import Advance, Claim
from streams.records import Record


@dataclass(slots=True, eq=False)
class OwnedPartition:
    """A partition that this worker claimed, and how far each stage got with it.

    Shared by threads without a lock: each field has one writer (named behind it) and moves one way only.
    """

    claim: Claim
    topic_uuid: str
    kafka_generation: int
    accepted: int  # the next offset that the intake expects; compute thread
    committed: int  # the next offset in SQL; writer thread
    prepared: int = 0  # works handed to the writer; compute thread
    written: int = 0  # works in SQL; writer thread
    revoked: bool = False  # Kafka took it away: start no new batch with it; event loop
    lost: bool = False  # SQL's epoch is no longer ours: drop its state; writer thread
    fetched: int = 0  # the offset after the last record that was fetched; compute thread
    reached: int = 0  # an end of the log that was reached; compute thread

    @property
    def usable(self) -> bool:
        return not (self.revoked or self.lost)

    def continues_as(self, later: "OwnedPartition", position: int) -> bool:
        """Whether state that stands at a position under this claim is what a later claim begins with: nobody else had
        the partition in between, and all that was prepared is in SQL."""
        return (
            self.claim.topic_generation == later.claim.topic_generation
            and self.claim.epoch + 1 == later.claim.epoch
            and position == later.claim.next_offset
            and self.prepared == self.written
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records of one owned partition."""

    owner: OwnedPartition
    records: Sequence[Record]


def usable_by_partition(chunks: Sequence[Chunk]) -> list[tuple[OwnedPartition, list[Record]]]:
    """The records of the partitions that still are ours, each partition's together in offset order."""
    found: dict[int, tuple[OwnedPartition, list[Record]]] = {}
    for chunk in chunks:
        if chunk.owner.usable:
            found.setdefault(chunk.owner.claim.partition, (chunk.owner, []))[1].extend(chunk.records)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class FreshRows:
    """All rows that a batch adds to an outbox of a partition, in order: those at positions from begin on and before
    end. There may be none."""

    begin: int
    end: int
    rows: Sequence[Any]


#: Runs inside a batch's transaction; gives the rows that it added to an outbox, as PartitionWork.fresh has them.
Finish = Callable[[Connection], Mapping[str, FreshRows] | None]


@dataclass(frozen=True, slots=True)
class PartitionWork:
    """What one partition contributes to a batch. `finish` runs in the same transaction after all rows are
    written, for rows that are made from rows (an alert's timeline, the join of feedback); it must be
    repeatable."""

    owner: OwnedPartition
    advance: Advance
    rows: Sequence[EncodedRows]
    finish: Sequence[Finish] = ()
    #: Names of the outboxes that it adds rows to; the relay looks there after the commit.
    outboxes: frozenset[str] = frozenset()
    #: Outbox -> the rows that this adds to it, which begin where those of the batch before end: the relay need not read
    #: them. Where it is not among them the relay reads what `outboxes` names.
    fresh: Mapping[str, FreshRows] = field(default_factory=dict)
    #: Error code -> how many of its records became dead letters for it.
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """One SQL transaction. taken_at is the clock's reading (seconds) when its first chunk was taken."""

    works: Sequence[PartitionWork]
    records: int
    taken_at: float
    #: Epoch milliseconds of the Kafka timestamps of its records, for the latency from record to commit.
    recorded_at: Sequence[int] = field(default=())


class Processor(Protocol):
    """Turns chunks into a prepared batch. Lives on the compute thread alone, and owns its state."""

    def process(self, chunks: Sequence[Chunk], now: float) -> PreparedBatch | None: ...

    def idle(self, now: float) -> PreparedBatch | None:
        """Called when no chunk came for a while: closes what time alone closes."""
        ...
