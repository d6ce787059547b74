"""How many partitions a topic has had since when: what a partition's state is made of depends on it.

A topic whose number of partitions was raised has its keys in other partitions from then on. A rescale notes the new
number, and of every partition how far it was read at that moment; what a state begins with follows from both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, text

from storage.database import Database
from storage.progress import Claim, under_claim_lock
from storage.tables import PartitionCount, StreamProgress

#: What `owner` of a progress row says after this command, until a worker claims the partition.
RESCALE = "headgate rescale"


@dataclass(frozen=True, slots=True)
class Count:
    """partitioner: how keys are spread over them, None where nothing depends on it. boundaries: partition -> the next
    offset at the moment when this number came into force; nothing for the first."""

    version: int
    partitions: int
    partitioner: str | None
    boundaries: Mapping[int, int]


class CountChanged(Exception):
    """Somebody else rescaled in the meantime."""


def latest_count(connection: Connection, topic: str, topic_uuid: str) -> Count | None:
    statement = (
        select(PartitionCount)
        .where(PartitionCount.topic == topic, PartitionCount.topic_uuid == topic_uuid)
        .order_by(PartitionCount.version.desc())
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    boundaries = {int(partition): int(offset) for partition, offset in row.boundaries.items()}
    return Count(row.version, row.partitions, row.partitioner, boundaries)


def count_of(connection: Connection, claim: Claim) -> Count | None:
    """The number in force for a claim's topic."""
    statement = select(StreamProgress.topic, StreamProgress.topic_uuid).where(
        StreamProgress.topic_generation == claim.topic_generation, StreamProgress.partition == claim.partition
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else latest_count(connection, row.topic, row.topic_uuid)


def settle_count(
    database: Database, *, topic: str, topic_uuid: str, partitions: int, keyed: bool, by: str, now: datetime
) -> tuple[Count, int]:
    """The number in force, and the very first one; `partitions` (what Kafka says) becomes it where the topic is new, or
    where no state is kept by key."""
    with database.reading() as connection:
        known = latest_count(connection, topic, topic_uuid)

    def take_over(connection: Connection) -> Count:
        known = latest_count(connection, topic, topic_uuid)
        if known is None or (not keyed and known.partitions < partitions):
            known = Count(1 if known is None else known.version + 1, partitions, None, {})
            _write(connection, topic, topic_uuid, known, by, now)
        return known

    if known is None or (not keyed and known.partitions < partitions):
        known = under_claim_lock(database, take_over)
    with database.reading() as connection:
        return known, _first_count(connection, topic, topic_uuid)


def rescale(
    database: Database,
    *,
    topic: str,
    topic_uuid: str,
    seen: Count,
    partitions: int,
    partitioner: str | None,
    by: str,
    now: datetime,
) -> Count:
    """Brings a new number into force: ends every claim on the topic (each under a new epoch), notes how far every
    partition is, and forgets snapshots and cold states, which hold what the old number made of them. Raises
    CountChanged."""

    def act(connection: Connection) -> Count:
        if latest_count(connection, topic, topic_uuid) != seen:
            raise CountChanged(f"the partitions of {topic} were counted anew by someone else; look again")
        rows = connection.execute(
            text(
                "UPDATE stream_progress SET epoch = epoch + 1, owner = :owner, backend_pid = NULL "
                "WHERE topic = :topic AND topic_uuid = :uuid RETURNING topic_generation, partition, next_offset"
            ),
            {"owner": RESCALE, "topic": topic, "uuid": topic_uuid},
        ).all()
        for generation in {row.topic_generation for row in rows}:
            for table in ("snapshots", "cold_states"):
                statement = text(f"DELETE FROM {table} WHERE topic_generation = :generation")
                connection.execute(statement, {"generation": generation})
        boundaries = {row.partition: row.next_offset for row in rows}
        count = Count(seen.version + 1, partitions, partitioner, boundaries)
        _write(connection, topic, topic_uuid, count, by, now)
        return count

    return under_claim_lock(database, act)


def _first_count(connection: Connection, topic: str, topic_uuid: str) -> int:
    statement = select(PartitionCount.partitions).where(
        PartitionCount.topic == topic, PartitionCount.topic_uuid == topic_uuid, PartitionCount.version == 1
    )
    return int(connection.execute(statement).scalar_one())


def _write(connection: Connection, topic: str, topic_uuid: str, count: Count, by: str, now: datetime) -> None:
    values: dict[str, Any] = {
        "topic": topic,
        "topic_uuid": topic_uuid,
        "version": count.version,
        "partitions": count.partitions,
        "partitioner": count.partitioner,
        "boundaries": {str(partition): offset for partition, offset in count.boundaries.items()},
        "made_at": now,
        "made_by": by,
    }
    connection.execute(insert(PartitionCount).values(**values))
