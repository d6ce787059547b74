"""A connection that dies at any moment of a transaction: every row once, the same bytes, no step twice."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError

from storage.bulk import encode_rows
from storage.database import Database, DatabaseUnavailable
from storage.progress import Advance, Claim, audit, claim_partitions
from storage.tables import Duplicate
from streams.batch import Finish, FreshRows, OwnedPartition, PartitionWork, PreparedBatch
from streams.commit import Committer
from tests.storage.rows import NOON


def claimed(database: Database, *partitions: int) -> dict[int, Claim]:
    starts = dict.fromkeys(partitions, 0)
    return claim_partitions(
        database, topic="t", topic_uuid="u", start_offsets=starts, owner="w", backend_pid=None, now=NOON
    )


def work(database: Database, claim: Claim, finish: Sequence[Finish] = (), first: int = 0) -> PartitionWork:
    """Three rows and the step over them."""
    columns = {
        **{"day": 20_000, "topic_generation": claim.topic_generation, "source_partition": claim.partition},
        **{"source_offset": np.arange(first, first + 3), "event_id": [f"e{row}" for row in range(3)]},
        **{"entity_id": "a", "occurred_at": 0, "recorded_at": 0},
    }
    rows = encode_rows(database.dialect, Duplicate, columns, 3)
    step = Advance(claim.topic_generation, claim.partition, claim.epoch, first, first + 3, duplicates=3)
    return PartitionWork(OwnedPartition(claim, "u", 1, first, first), step, [rows], finish)


def batch(*works: PartitionWork) -> PreparedBatch:
    return PreparedBatch(works, 3 * len(works), 0.0)


class Waits(list[int]):
    """The failures of each wait; gives up after `patience` of them."""

    def __init__(self, patience: int = 5) -> None:
        super().__init__()
        self.patience = patience

    def __call__(self, failures: int, error: DatabaseUnavailable) -> None:
        self.append(failures)
        if failures >= self.patience:
            raise error


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def committer(database: Database, waits: Waits) -> Iterator[Committer]:
    with closing(Committer(database, waits, lambda: NOON)) as committer:
        yield committer


def stored(database: Database) -> list[tuple[int, int, str]]:
    with database.reading() as connection:
        assert audit(connection) == []
        rows = connection.execute(
            text("SELECT source_partition, source_offset, event_id FROM duplicates ORDER BY 1, 2")
        )
        return [tuple(row) for row in rows]


def whole(*partitions: int) -> list[tuple[int, int, str]]:
    return [(partition, row, f"e{row}") for partition in partitions for row in range(3)]


def lost_connection(dialect: str) -> Exception:
    if dialect == "postgresql":
        return psycopg.OperationalError("server closed the connection unexpectedly")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


class BreaksAtCommit:
    """Lets COMMITs of batches fail, `times` in a row, before or after they took effect; the connection is gone then.

    On PostgreSQL the first COMMIT of a connection is that of the backend's note."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch, *, after: bool, times: int = 1) -> None:
        self._commit = database.engine.dialect.do_commit
        self._dialect, self._after, self._left = database.dialect, after, times
        self._notes = self._notes_left = 1 if database.dialect == "postgresql" else 0
        monkeypatch.setattr(database.engine.dialect, "do_commit", self)

    def __call__(self, connection: Any) -> None:
        if self._left == 0 or self._notes_left:
            self._notes_left = max(0, self._notes_left - 1)
            self._commit(connection)
            return
        self._left, self._notes_left = self._left - 1, self._notes
        if self._after:
            self._commit(connection)
        connection.driver_connection.close()
        raise lost_connection(self._dialect)


def test_a_connection_that_dies_before_the_commit_took_effect_sends_the_same_rows_again(
    database: Database, committer: Committer, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = claimed(database, 0, 1)
    works = [work(database, claims[0]), work(database, claims[1])]
    BreaksAtCommit(database, monkeypatch, after=False, times=1)
    result = committer.commit(batch(*works))
    assert (result.committed, result.lost, waits) == (works, [], [1])
    assert stored(database) == whole(0, 1)


def test_a_connection_that_dies_after_the_commit_took_effect_sends_nothing_twice(
    database: Database, committer: Committer, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = claimed(database, 0, 1)
    works = [work(database, claims[0]), work(database, claims[1])]
    BreaksAtCommit(database, monkeypatch, after=True)
    result = committer.commit(batch(*works))
    assert (result.committed, result.lost, waits) == (works, [], [1])
    assert stored(database) == whole(0, 1)


def test_a_partition_that_is_lost_while_the_connection_is_away_leaves_the_rest_to_be_sent(
    database: Database, committer: Committer, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = claimed(database, 0, 1)
    works = [work(database, claims[0]), work(database, claims[1])]
    BreaksAtCommit(database, monkeypatch, after=False)
    waiting = waits.__call__

    def take_over(failures: int, error: DatabaseUnavailable) -> None:
        waiting(failures, error)
        claimed(database, 0)

    committer._wait = take_over
    result = committer.commit(batch(*works))
    assert [done.advance.partition for done in result.committed] == [1]
    assert [lost.advance.partition for lost in result.lost] == [0]
    assert stored(database) == whole(1)


def test_an_unmoved_step_that_may_or_may_not_have_been_written_is_written_again_and_harms_nothing(
    database: Database, committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimed(database, 0)[0]
    writes: list[int] = []

    def finish(connection: Connection) -> None:
        writes.append(connection.execute(text("SELECT count(*) FROM stream_progress")).scalar_one())

    step = Advance(claim.topic_generation, 0, claim.epoch, 0, 0)
    closing_only = PartitionWork(OwnedPartition(claim, "u", 1, 0, 0), step, [], [finish])
    BreaksAtCommit(database, monkeypatch, after=True)
    assert committer.commit(batch(closing_only)).committed == [closing_only]
    assert writes == [1, 1]


def test_it_waits_as_long_as_the_database_is_away_and_says_how_often(
    database: Database, committer: Committer, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimed(database, 0)[0]
    BreaksAtCommit(database, monkeypatch, after=False, times=4)
    assert len(committer.commit(batch(work(database, claim))).committed) == 1
    assert waits == [1, 2, 3, 4]
    committer.commit(batch(work(database, claim, first=3)))
    assert len(stored(database)) == 6


def test_a_wait_that_gives_up_ends_the_commit_without_a_trace(
    database: Database, committer: Committer, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits.patience = 1
    claim = claimed(database, 0)[0]
    BreaksAtCommit(database, monkeypatch, after=False)
    with pytest.raises(DatabaseUnavailable):
        committer.commit(batch(work(database, claim)))
    assert stored(database) == []


def test_a_backend_that_is_ended_in_mid_transaction_is_replaced(postgres_database: Database) -> None:
    waits, ended = Waits(), list[int]()
    claim = claimed(postgres_database, 0)[0]

    def end_backend(connection: Connection) -> None:
        if ended:
            return
        ended.append(committer.backend_pid or 0)
        with postgres_database.begin() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": ended[0]})

    with closing(Committer(postgres_database, waits, lambda: NOON)) as committer:
        result = committer.commit(batch(work(postgres_database, claim, [end_backend])))
        assert committer.backend_pid not in (None, *ended)
    assert (len(result.committed), waits) == (1, [1])
    assert stored(postgres_database) == whole(0)


def test_data_that_the_database_refuses_is_an_error_at_once_and_never_tried_again(postgres_database: Database) -> None:
    waits = Waits()
    claim = claimed(postgres_database, 0)[0]

    def impossible(connection: Connection) -> None:
        connection.execute(text("SELECT 1 / 0"))

    with closing(Committer(postgres_database, waits, lambda: NOON)) as committer:
        with pytest.raises(DataError):
            committer.commit(batch(work(postgres_database, claim, [impossible])))
        assert waits == []
        assert stored(postgres_database) == []
        assert len(committer.commit(batch(work(postgres_database, claim))).committed) == 1


@pytest.mark.parametrize("after", [False, True])
def test_what_finishes_add_to_outboxes_is_handed_on_as_it_was_committed(
    database: Database, committer: Committer, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    claims, attempts = claimed(database, 0, 1), list[str]()

    def adds(connection: Connection) -> dict[str, FreshRows]:
        attempts.append(f"attempt {len(attempts) + 1}")
        return {"alerts": FreshRows(4, 5, attempts[-1:])}

    adding, other = work(database, claims[0], [lambda connection: None, adds]), work(database, claims[1])
    BreaksAtCommit(database, monkeypatch, after=after)
    result = committer.commit(batch(adding, other))

    committed = "attempt 1" if after else "attempt 2"
    assert [done.fresh for done in result.committed] == [{"alerts": FreshRows(4, 5, [committed])}, {}]
