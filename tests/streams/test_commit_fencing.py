"""A worker that was replaced while it slept: its rows meet those of the new owner before its fence is reached."""

from collections.abc import Callable
from datetime import datetime
from typing import NoReturn

import numpy as np
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from storage.bulk import encode_rows
from storage.database import Database, DatabaseUnavailable
from storage.progress import Advance, Claim, audit, claim_partitions
from storage.tables import Duplicate
from streams.batch import OwnedPartition, PartitionWork, PreparedBatch
from streams.commit import Committer
from tests.storage.rows import NOON

Claims = Callable[[str], dict[int, Claim]]


def never(failures: int, error: DatabaseUnavailable) -> NoReturn:
    raise error


def noon() -> datetime:
    return NOON


@pytest.fixture
def claim(database: Database) -> Claims:
    """claim(owner): takes both partitions."""

    def take(owner: str) -> dict[int, Claim]:
        return claim_partitions(
            database,
            topic="t",
            topic_uuid="uuid",
            start_offsets={0: 0, 1: 0},
            owner=owner,
            backend_pid=None,
            now=NOON,
        )

    return take


def work(database: Database, claim: Claim, count: int, offset_of_rows: int = 0) -> PartitionWork:
    """Rows at the partition's offsets from `offset_of_rows` on, and the step that covers them from 0."""
    columns = {
        **{"day": 20_000, "topic_generation": claim.topic_generation, "source_partition": claim.partition},
        **{"source_offset": offset_of_rows + np.arange(count), "event_id": "e", "entity_id": "a"},
        **{"occurred_at": 0, "recorded_at": 0},
    }
    rows = encode_rows(database.dialect, Duplicate, columns, count)
    step = Advance(claim.topic_generation, claim.partition, claim.epoch, 0, count, duplicates=count)
    return PartitionWork(OwnedPartition(claim, "uuid", 1, 0, 0), step, [rows])


def batch(*works: PartitionWork) -> PreparedBatch:
    return PreparedBatch(works, len(works), 0.0)


def test_the_work_of_a_replaced_owner_is_lost_and_the_rest_of_its_batch_is_sent(
    database: Database, claim: Claims
) -> None:
    old = claim("old")
    sleeping = batch(work(database, old[0], 3), work(database, old[1], 2))
    new = claim_partitions(
        database, topic="t", topic_uuid="uuid", start_offsets={0: 0}, owner="new", backend_pid=None, now=NOON
    )
    successor, zombie = Committer(database, never, noon), Committer(database, never, noon)
    assert successor.commit(batch(work(database, new[0], 3))).lost == []

    result = zombie.commit(sleeping)

    assert [lost.advance.partition for lost in result.lost] == [0]
    assert [done.advance.partition for done in result.committed] == [1]
    with database.reading() as connection:
        stored = connection.execute(text("SELECT source_partition, count(*) FROM duplicates GROUP BY 1 ORDER BY 1"))
        assert [tuple(row) for row in stored] == [(0, 3), (1, 2)]
        assert audit(connection) == []
    zombie.close()
    successor.close()


def test_rows_that_are_there_though_the_partition_is_ours_are_an_error(database: Database, claim: Claims) -> None:
    ours = claim("ours")
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO duplicates (day, topic_generation, source_partition, source_offset, event_id, entity_id, "
                "occurred_at, recorded_at) VALUES ('2024-10-04', 1, 0, 1, 'e', 'a', '2026-01-01', '2026-01-01')"
            )
        )
    committer = Committer(database, never, noon)
    with pytest.raises((IntegrityError, psycopg.IntegrityError)):
        committer.commit(batch(work(database, ours[0], 3)))
    committer.close()


def test_the_writing_backend_is_noted_with_the_partitions_it_writes(
    postgres_database: Database, migrated_postgres: Database
) -> None:
    database = postgres_database
    claims = claim_partitions(
        database,
        topic="t",
        topic_uuid="uuid",
        start_offsets={0: 0, 1: 0},
        owner="ours",
        backend_pid=None,
        now=NOON,
    )
    committer = Committer(database, never, noon)
    committer.commit(batch(work(database, claims[0], 3)))
    with database.reading() as connection:
        noted = connection.execute(text("SELECT backend_pid FROM stream_progress ORDER BY partition")).scalars().all()
    assert noted == [committer.backend_pid, None]
    committer.close()
